"""Residual blocks: functions from tensor to tensor, whose last line is the paper's equation.

He et al. 2015, arXiv:1512.03385, section 3.1: with x the input of a block and F its branch,

    identity block   H(x) = F(x) + x       x and F(x) have one shape
    conv block       H(x) = F(x) + W x     W brings x to the shape of F(x)

Backwards, dJ/dx = dJ/dH · (dF/dx + 1): what arrives at the sum goes back both through the branch
and, unchanged, through the shortcut. Nothing here imports TensorFlow: the blocks build on any
Keras backend.

A layer's name is its address: `NAME_1_conv`, `NAME_1_bn`, … for the branch, `NAME_0_conv` for the
projection, `NAME_add` and `NAME_out` for the sum, as in keras.applications.
"""

from keras import layers

# The values of torchvision and of the paper's Caffe nets; Keras' own defaults (0.99 and 1e-3)
# leave the moving averages far behind on a short run.
BN_MOMENTUM = 0.9
BN_EPSILON = 1e-5


def identity_block(x, branch="bottleneck", *, filters, name, zero_gamma=True):
    """H(x) = relu(F(x) + x).

    Args:
        x: feature map `(b, h, w, c)`, where c is `filters` for a basic branch and `4 * filters`
            for a bottleneck.
        branch: `"basic"` (two 3×3 convolutions) or `"bottleneck"` (1×1, 3×3, 1×1).
        filters: filters of the 3×3 convolutions.
        name: prefix of the layers' names, such as `"conv2_block2"`.
        zero_gamma: start the last batch norm of the branch at gamma 0, so that a fresh block
            is the identity on x ≥ 0 (arXiv:1706.02677, section 5.1).

    Returns:
        A feature map of the shape of `x`, ≥ 0.

    Raises:
        ValueError: `x` has another number of channels than F(x): that is a `conv_block`.
    """
    y = _branch(x, branch, filters=filters, strides=1, name=name, zero_gamma=zero_gamma)
    if x.shape[-1] != y.shape[-1]:
        raise ValueError(
            f"identity_block {name!r}: x has {x.shape[-1]} channels, F(x) has {y.shape[-1]}; "
            "they cannot be added. Use conv_block, or other filters."
        )
    return _relu(layers.Add(name=f"{name}_add")([x, y]), f"{name}_out")


def conv_block(
    x,
    branch="bottleneck",
    *,
    filters,
    strides=2,
    name,
    shortcut="projection",
    zero_gamma=True,
):
    """H(x) = relu(F(x) + W x), where W changes the width, the height and the channels.

    Args:
        x: feature map `(b, h, w, c)`.
        branch: `"basic"` or `"bottleneck"`.
        filters: filters of the 3×3 convolutions.
        strides: 1 or 2; the stride of the block's first 3×3 convolution ("v1.5").
        name: prefix of the layers' names.
        shortcut: `"projection"` (1×1 convolution and batch norm, the paper's option B) or
            `"pad"` (every other pixel, new channels zero, no parameters: option A).
        zero_gamma: as in `identity_block`.

    Returns:
        A feature map `(b, ceil(h/strides), ceil(w/strides), k)`, ≥ 0, with k = `filters` for a
        basic branch and `4 * filters` for a bottleneck.
    """
    if shortcut not in SHORTCUTS:
        raise ValueError(f"unknown shortcut {shortcut!r}; use one of {', '.join(SHORTCUTS)}")
    y = _branch(x, branch, filters=filters, strides=strides, name=name, zero_gamma=zero_gamma)
    x = SHORTCUTS[shortcut](x, y.shape[-1], strides, name)
    return _relu(layers.Add(name=f"{name}_add")([x, y]), f"{name}_out")


def conv_bn(x, filters, kernel, *, strides=1, name, gamma="ones"):
    """Convolution without bias, then batch norm: `(b, h, w, c)` to `(b, h/strides, w/strides, k)`.

    `name` is completed by `_conv` and `_bn`. He-normal initial weights (arXiv:1502.01852).
    """
    if strides > 1 and kernel == 1:
        # Every other pixel, then an unstrided convolution: the same numbers as a 1×1 convolution
        # with stride 2, which LiteRT 2.3's GPU accelerator computes wrongly with int8 weights.
        x = layers.MaxPooling2D(1, strides, name=f"{name}_pool")(x)
        strides = 1
    elif strides > 1:
        # Symmetric padding, as in the published weights; "same" would pad right and below only.
        x = layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x)
    x = layers.Conv2D(
        filters,
        kernel,
        strides=strides,
        padding="same" if strides == 1 else "valid",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    return layers.BatchNormalization(
        momentum=BN_MOMENTUM, epsilon=BN_EPSILON, gamma_initializer=gamma, name=f"{name}_bn"
    )(x)


def _branch(x, branch, *, filters, strides, name, zero_gamma):
    if branch not in BRANCHES:
        raise ValueError(f"unknown branch {branch!r}; use one of {', '.join(BRANCHES)}")
    last_gamma = "zeros" if zero_gamma else "ones"
    return BRANCHES[branch](x, filters, strides, name, last_gamma)


def _basic(x, filters, strides, name, last_gamma):
    y = conv_bn(x, filters, 3, strides=strides, name=f"{name}_1")  # (b, h/s, w/s, f)
    y = _relu(y, f"{name}_1_relu")
    return conv_bn(y, filters, 3, name=f"{name}_2", gamma=last_gamma)  # (b, h/s, w/s, f)


def _bottleneck(x, filters, strides, name, last_gamma):
    y = conv_bn(x, filters, 1, name=f"{name}_1")  # (b, h, w, f)
    y = _relu(y, f"{name}_1_relu")
    y = conv_bn(y, filters, 3, strides=strides, name=f"{name}_2")  # (b, h/s, w/s, f)
    y = _relu(y, f"{name}_2_relu")
    return conv_bn(y, 4 * filters, 1, name=f"{name}_3", gamma=last_gamma)  # (b, h/s, w/s, 4f)


def _projection(x, channels, strides, name):
    return conv_bn(x, channels, 1, strides=strides, name=f"{name}_0")


def _pad(x, channels, strides, name):
    if channels < x.shape[-1]:
        raise ValueError(
            f"conv_block {name!r}: a padded shortcut cannot go from {x.shape[-1]} channels down to "
            f"{channels}; use shortcut='projection'"
        )
    x = layers.MaxPooling2D(1, strides, name=f"{name}_0_pool")(x)  # every other pixel
    before = (channels - x.shape[-1]) // 2
    after = channels - x.shape[-1] - before
    # Called channels-first, the layer pads the last two axes; unlike ops.pad, it takes a name.
    return layers.ZeroPadding2D(
        ((0, 0), (before, after)), data_format="channels_first", name=f"{name}_0_pad"
    )(x)


def _relu(x, name):
    return layers.ReLU(name=name)(x)


BRANCHES = {"basic": _basic, "bottleneck": _bottleneck}
SHORTCUTS = {"projection": _projection, "pad": _pad}
