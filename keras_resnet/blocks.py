"""Residual blocks: functions from tensor to tensor, whose last line is the paper's equation.

He et al. 2015, arXiv:1512.03385, section 3.1: with x the input of a block and F its branch,

    identity block   H(x) = F(x) + x       x and F(x) have one shape
    conv block       H(x) = F(x) + W x     W brings x to the shape of F(x)
    plain block      H(x) = F(x)           the same layers without the shortcut, for comparison

A ReLU follows H, except with a pre-activation branch.
In the backward pass, dJ/dx = dJ/dH · (dF/dx + 1): the gradient at the sum flows through the branch
and, unchanged, through the shortcut. Nothing here imports TensorFlow: the blocks work with any
Keras backend.

Layers are named as in keras.applications: `NAME_1_conv`, `NAME_1_bn`, … in the branch,
`NAME_0_conv` for the projection, `NAME_preact_bn` before a pre-activation branch, `NAME_se_…` for
squeeze-and-excitation, `NAME_add` for the sum and `NAME_out` for the ReLU after it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypedDict, Unpack

import keras
from keras import layers

# The values of torchvision and of the paper's Caffe nets; with Keras' defaults (0.99 and 1e-3) the
# moving averages lag far behind in a short run.
BN_MOMENTUM = 0.9
BN_EPSILON = 1e-5


BranchName = Literal["basic", "bottleneck", "preact_basic", "preact_bottleneck"]
ShortcutName = Literal["projection", "pool", "pad"]


class Branch(NamedTuple):
    """The convolutions of a branch F, each with a batch norm and a ReLU."""

    kernels: tuple[int, ...]
    expansion: int  # channels of F(x) per filter
    strided_conv: int  # number of the convolution with the stride, counted from 1
    preact: bool = False  # batch norm and ReLU before each convolution; arXiv:1603.05027, figure 4e


BRANCHES: dict[str, Branch] = {
    "basic": Branch((3, 3), expansion=1, strided_conv=1),
    "bottleneck": Branch((1, 3, 1), expansion=4, strided_conv=2),
    "preact_basic": Branch((3, 3), expansion=1, strided_conv=1, preact=True),
    "preact_bottleneck": Branch((1, 3, 1), expansion=4, strided_conv=2, preact=True),
}


@dataclass(frozen=True)
class Options:
    """Options of every block.

    Attributes:
        expansion: channels of F(x) per filter; None: 1 for a basic branch, 4 for a bottleneck.
            Wide and ResNeXt bottlenecks have 2.
        groups: number of groups of the 3×3 convolutions (arXiv:1611.05431).
        strided_conv: number of the convolution with the stride, counted from 1; None: the first
            3×3 ("v1.5"); 1: as in the paper.
        use_bias: add a bias to each convolution before a batch norm. It has no effect, because the
            batch norm subtracts the mean; some published weights have one.
        epsilon: added to the variance in batch norms.
        zero_gamma: initialize the branch with 0, so that a new block is the identity on x ≥ 0:
            gamma of its last batch norm (arXiv:1706.02677, section 5.1), or, in a pre-activation
            branch, the kernel of its last convolution.
        drop_path: probability, per image, of dropping the branch in training (stochastic depth,
            arXiv:1603.09382); kept branches are scaled by 1 / (1 - drop_path).
        se_ratio: squeeze-and-excitation at the end of the branch, with this share of its channels
            in between, as in `squeeze_excite`; 0: none.
    """

    expansion: int | None = None
    groups: int = 1
    strided_conv: int | None = None
    use_bias: bool = False
    epsilon: float = BN_EPSILON
    zero_gamma: bool = True
    drop_path: float = 0.0
    se_ratio: float = 0.0


class BlockOptions(TypedDict, total=False):
    """`Options` as keyword arguments."""

    expansion: int | None
    groups: int
    strided_conv: int | None
    use_bias: bool
    epsilon: float
    zero_gamma: bool
    drop_path: float
    se_ratio: float


def identity_block(
    x: keras.KerasTensor,
    branch: BranchName = "bottleneck",
    *,
    filters: int,
    name: str,
    **options: Unpack[BlockOptions],
) -> keras.KerasTensor:
    """Identity block, relu(H(x)) with H(x) = F(x) + x; H(x) with a pre-activation branch.

    Args:
        x: feature map `(b, h, w, c)`, where c is `expansion * filters`: `filters` for a basic
            branch, `4 * filters` for a bottleneck.
        branch: `"basic"` (two 3×3 convolutions), `"bottleneck"` (1×1, 3×3, 1×1), or
            `"preact_basic"` or `"preact_bottleneck"`, with batch norm and ReLU before each
            convolution.
        filters: filters of the 3×3 convolutions.
        name: prefix of the layers' names, such as `"conv2_block2"`.
        **options: fields of `keras_resnet.blocks.Options`.

    Returns:
        A feature map of the shape of `x`.

    Raises:
        ValueError: an unknown branch; an `se_ratio` that is not a share; or `x` and F(x) differ in
            the number of channels (use `conv_block`). TypeError: an unknown option.
    """
    block = _Block(name, _branch(branch), filters, 1, Options(**options))
    y = _residual(_entrance(x, block), block)
    if x.shape[-1] != y.shape[-1]:
        raise ValueError(
            f"identity_block {name!r}: x has {x.shape[-1]} channels, F(x) has {y.shape[-1]}; "
            "they cannot be added. Use conv_block, or other filters."
        )
    return _sum(x, y, block)


def conv_block(
    x: keras.KerasTensor,
    branch: BranchName = "bottleneck",
    *,
    filters: int,
    strides: int = 2,
    name: str,
    shortcut: ShortcutName = "projection",
    **options: Unpack[BlockOptions],
) -> keras.KerasTensor:
    """Block with a projection, relu(H(x)) with H(x) = F(x) + W x, where W changes height, width and
    channels; H(x) with a pre-activation branch.

    Args:
        x: feature map `(b, h, w, c)`.
        branch: as in `identity_block`.
        filters: filters of the 3×3 convolutions.
        strides: 1 or 2; the stride of the block.
        name: prefix of the layers' names.
        shortcut: `"projection"` (1×1 convolution and batch norm, the paper's option B),
            `"pool"` (2×2 average pooling before the projection: arXiv:1812.01187, section 4.2), or
            `"pad"` (every other pixel, zeros in new channels, no parameters: option A). The
            projection of a pre-activation block takes the activated x and has no batch norm.
        **options: fields of `keras_resnet.blocks.Options`.

    Returns:
        A feature map `(b, ceil(h/strides), ceil(w/strides), expansion * filters)`.

    Raises:
        ValueError: an unknown branch or shortcut; an `se_ratio` that is not a share; or `"pad"`
            with fewer channels in F(x) than in x. TypeError: an unknown option.
    """
    if shortcut not in SHORTCUTS:
        raise ValueError(f"unknown shortcut {shortcut!r}; use one of {', '.join(SHORTCUTS)}")
    block = _Block(name, _branch(branch), filters, strides, Options(**options))
    entrance = _entrance(x, block)
    y = _residual(entrance, block)
    x = SHORTCUTS[shortcut](x, entrance, y.shape[-1], block)
    return _sum(x, y, block)


def plain_block(
    x: keras.KerasTensor,
    branch: BranchName = "basic",
    *,
    filters: int,
    strides: int = 1,
    name: str,
    **options: Unpack[BlockOptions],
) -> keras.KerasTensor:
    """Plain block, H(x) = relu(F(x)): the layers of a residual block without its shortcut.

    Args:
        x: feature map `(b, h, w, c)`.
        branch: as in `identity_block`.
        filters: filters of the 3×3 convolutions.
        strides: 1 or 2; the stride of the block.
        name: prefix of the layers' names.
        **options: fields of `keras_resnet.blocks.Options`; `zero_gamma` has no effect, because
            there is no shortcut.

    Returns:
        A feature map `(b, ceil(h/strides), ceil(w/strides), expansion * filters)`.

    Raises:
        ValueError: an unknown branch, or an `se_ratio` that is not a share. TypeError: an unknown
            option.
    """
    block = _Block(
        name, _branch(branch), filters, strides, replace(Options(**options), zero_gamma=False)
    )
    y = _residual(_entrance(x, block), block)
    return y if block.kind.preact else relu(y, f"{name}_out")


def dense_identity_block(
    a: keras.KerasTensor, *, name: str, zero_last: bool = True
) -> keras.KerasTensor:
    """A residual block of a fully-connected net: Z̃ = Z + A, then relu(Z̃).

    Z = W2 relu(W1 A + B1) + B2: the shortcut is added before the activation, as in
    `identity_block`.

    Args:
        a: activations A `(b, n)`.
        name: prefix of the layers' names: `NAME_1_dense`, `NAME_2_dense`, `NAME_add`, `NAME_out`.
        zero_last: initialize W2 with 0, so that a new block is the identity on A ≥ 0.

    Returns:
        Activations of the shape of `a`.
    """
    return _dense_sum(a, _dense_branch(a, a.shape[-1], name, zero_last), name)


def dense_projection_block(
    a: keras.KerasTensor, *, units: int, name: str, zero_last: bool = True
) -> keras.KerasTensor:
    """A fully-connected block that changes the width: Z̃ = Z + W0 A, then relu(Z̃).

    Args:
        a: activations A `(b, n)`.
        units: width of the output.
        name, zero_last: as in `dense_identity_block`; W0 is `NAME_0_dense`.

    Returns:
        Activations `(b, units)`.
    """
    z = _dense_branch(a, units, name, zero_last)
    return _dense_sum(dense(a, units, name=f"{name}_0", use_bias=False), z, name)


def dense_plain_block(a: keras.KerasTensor, *, units: int, name: str) -> keras.KerasTensor:
    """A fully-connected block without its shortcut: relu(Z).

    Args:
        a: activations A `(b, n)`.
        units: width of the output.
        name: prefix of the layers' names.

    Returns:
        Activations `(b, units)`.
    """
    return relu(_dense_branch(a, units, name, zero_last=False), f"{name}_out")


def conv(
    x: keras.KerasTensor,
    filters: int,
    kernel: int,
    *,
    strides: int = 1,
    groups: int = 1,
    use_bias: bool = False,
    initial: str = "he_normal",
    name: str,
) -> keras.KerasTensor:
    """Convolution with the symmetric padding of the published weights.

    Args:
        x: feature map `(b, h, w, c)`.
        filters: channels of the output.
        kernel: side in pixels; odd.
        strides: 1 or 2.
        groups: number of groups of the channels.
        use_bias: whether to add a bias.
        initial: kernel initializer; He normal is from arXiv:1502.01852.
        name: prefix of the layer's name, `NAME_conv`.

    Returns:
        A feature map `(b, ceil(h/strides), ceil(w/strides), filters)`.

    Raises:
        ValueError: Keras' image data format is channels first.
    """
    if keras.config.image_data_format() != "channels_last":
        raise ValueError(
            "Keras' image data format is channels_first, but these networks take (b, h, w, c); "
            'call keras.config.set_image_data_format("channels_last")'
        )
    if strides > 1 and kernel == 1:
        # Every other pixel, then a convolution with stride 1: equal to a 1×1 convolution with
        # stride 2, which LiteRT 2.3's GPU accelerator computes wrongly with int8 weights.
        x = layers.MaxPooling2D(1, strides, name=f"{name}_pool")(x)
        strides = 1
    elif strides > 1:
        # "same" would pad right and below only.
        x = layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x)
    return layers.Conv2D(
        filters,
        kernel,
        strides=strides,
        padding="same" if strides == 1 else "valid",
        groups=groups,
        use_bias=use_bias,
        kernel_initializer=initial,
        name=f"{name}_conv",
    )(x)


def batch_norm(
    x: keras.KerasTensor, *, name: str, gamma: str = "ones", epsilon: float = BN_EPSILON
) -> keras.KerasTensor:
    """Batch norm (arXiv:1502.03167).

    Args:
        x: feature map `(b, h, w, c)`.
        name: prefix of the layer's name, `NAME_bn`.
        gamma: initial scale, `"ones"` or `"zeros"`.
        epsilon: added to the variance.

    Returns:
        A feature map of the shape of `x`.
    """
    return layers.BatchNormalization(
        momentum=BN_MOMENTUM, epsilon=epsilon, gamma_initializer=gamma, name=f"{name}_bn"
    )(x)


def relu(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """max(x, 0), for a tensor of any shape."""
    return layers.ReLU(name=name)(x)


def squeeze_excite(x: keras.KerasTensor, se_ratio: float, *, name: str) -> keras.KerasTensor:
    """Squeeze-and-excitation: multiplies each channel by a number in (0, 1) that depends on the
    means of all channels (arXiv:1709.01507, section 3).

    Args:
        x: feature map `(b, h, w, c)`.
        se_ratio: channels between the two 1×1 convolutions, as a share of c, rounded to a multiple
            of 8, at least 8, as in timm; the inverse of the paper's reduction ratio.
        name: prefix of the layers' names: `NAME_se_1_conv`, `NAME_se_2_conv`, …

    Returns:
        A feature map of the shape of `x`.

    Raises:
        ValueError: the ratio is not a share.
    """
    if not 0 < se_ratio <= 1:
        raise ValueError(f"se_ratio is {se_ratio}; expected a share of the channels, such as 1/16")
    channels, name = x.shape[-1], f"{name}_se"
    squeezed = max(int(se_ratio * channels / 8 + 0.5), 1) * 8
    s = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_pool")(x)  # (b, 1, 1, c)
    s = relu(conv(s, squeezed, 1, use_bias=True, name=f"{name}_1"), f"{name}_1_relu")
    s = conv(s, channels, 1, use_bias=True, name=f"{name}_2")
    s = layers.Activation("sigmoid", name=f"{name}_sigmoid")(s)
    return layers.Multiply(name=f"{name}_scale")([x, s])


def dense(
    a: keras.KerasTensor,
    units: int,
    *,
    name: str,
    use_bias: bool = True,
    initial: str = "he_normal",
) -> keras.KerasTensor:
    """Dense layer.

    Args:
        a: activations `(b, n)`.
        units: width of the output.
        name: prefix of the layer's name, `NAME_dense`.
        use_bias: whether to add a bias.
        initial: kernel initializer.

    Returns:
        Activations `(b, units)`.
    """
    return layers.Dense(units, use_bias=use_bias, kernel_initializer=initial, name=f"{name}_dense")(
        a
    )


def _branch(name: str) -> Branch:
    if name not in BRANCHES:
        raise ValueError(f"unknown branch {name!r}; use one of {', '.join(BRANCHES)}")
    return BRANCHES[name]


class _Block(NamedTuple):
    name: str
    kind: Branch
    filters: int
    strides: int
    options: Options


def _entrance(x: keras.KerasTensor, block: _Block) -> keras.KerasTensor:
    """Input of the branch: x, or, in a pre-activation block, x normalized and activated."""
    if not block.kind.preact:
        return x
    x = batch_norm(x, name=f"{block.name}_preact", epsilon=block.options.epsilon)
    return relu(x, f"{block.name}_preact_relu")


def _residual(x: keras.KerasTensor, block: _Block) -> keras.KerasTensor:
    """The branch F: `(b, h, w, c)` to `(b, h/strides, w/strides, expansion * filters)`."""
    name, kind, options = block.name, block.kind, block.options
    expansion = options.expansion or kind.expansion
    strided = options.strided_conv or kind.strided_conv
    last = len(kind.kernels)
    for i, kernel in enumerate(kind.kernels, 1):
        normalized = i < last or not kind.preact
        starts_at_zero = i == last and options.zero_gamma
        x = conv(
            x,
            block.filters if i < last else expansion * block.filters,
            kernel,
            strides=block.strides if i == strided else 1,
            groups=options.groups if kernel == 3 else 1,
            use_bias=options.use_bias and normalized,
            initial="zeros" if starts_at_zero and not normalized else "he_normal",
            name=f"{name}_{i}",
        )
        if normalized:
            gamma = "zeros" if starts_at_zero else "ones"
            x = batch_norm(x, name=f"{name}_{i}", gamma=gamma, epsilon=options.epsilon)
        if i < last:
            x = relu(x, f"{name}_{i}_relu")
    if options.se_ratio:
        x = squeeze_excite(x, options.se_ratio, name=name)
    if options.drop_path:
        # One random number per image instead of per value makes dropout stochastic depth.
        x = layers.Dropout(options.drop_path, noise_shape=(None, 1, 1, 1), name=f"{name}_drop")(x)
    return x


def _projection(
    x: keras.KerasTensor, entrance: keras.KerasTensor, channels: int, block: _Block
) -> keras.KerasTensor:
    return _project(entrance, channels, block.strides, block)


def _pool(
    x: keras.KerasTensor, entrance: keras.KerasTensor, channels: int, block: _Block
) -> keras.KerasTensor:
    strides = block.strides
    if strides > 1:
        # "same": the last window of an odd side averages only the pixels inside.
        name = f"{block.name}_0_avg_pool"
        entrance = layers.AveragePooling2D(strides, padding="same", name=name)(entrance)
    return _project(entrance, channels, 1, block)


def _project(x: keras.KerasTensor, channels: int, strides: int, block: _Block) -> keras.KerasTensor:
    """W x; without batch norm in a pre-activation block: the next block normalizes the sum."""
    name, options, preact = f"{block.name}_0", block.options, block.kind.preact
    use_bias = options.use_bias and not preact
    x = conv(x, channels, 1, strides=strides, use_bias=use_bias, name=name)
    return x if preact else batch_norm(x, name=name, epsilon=options.epsilon)


def _pad(
    x: keras.KerasTensor, entrance: keras.KerasTensor, channels: int, block: _Block
) -> keras.KerasTensor:
    name = f"{block.name}_0"
    if channels < x.shape[-1]:
        raise ValueError(
            f"conv_block {block.name!r}: a padded shortcut cannot go from {x.shape[-1]} channels "
            f"down to {channels}; use shortcut='projection'"
        )
    x = layers.MaxPooling2D(1, block.strides, name=f"{name}_pool")(x)  # every other pixel
    if channels == x.shape[-1]:
        return x
    before = (channels - x.shape[-1]) // 2
    after = channels - x.shape[-1] - before
    # With channels_first, the layer pads the last two axes; unlike ops.pad, it has a name.
    return layers.ZeroPadding2D(
        ((0, 0), (before, after)), data_format="channels_first", name=f"{name}_pad"
    )(x)


def _sum(x: keras.KerasTensor, y: keras.KerasTensor, block: _Block) -> keras.KerasTensor:
    """The block's equation: branch plus shortcut."""
    h = layers.Add(name=f"{block.name}_add")([x, y])
    return h if block.kind.preact else relu(h, f"{block.name}_out")


def _dense_branch(
    a: keras.KerasTensor, units: int, name: str, zero_last: bool
) -> keras.KerasTensor:
    """Z = W2 relu(W1 A + B1) + B2."""
    a = relu(dense(a, units, name=f"{name}_1"), f"{name}_1_relu")
    return dense(a, units, name=f"{name}_2", initial="zeros" if zero_last else "he_normal")


def _dense_sum(a: keras.KerasTensor, z: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return relu(layers.Add(name=f"{name}_add")([a, z]), f"{name}_out")


SHORTCUTS: dict[str, Callable[..., keras.KerasTensor]] = {
    "projection": _projection,
    "pool": _pool,
    "pad": _pad,
}
