"""Networks: raw pixels [0, 255] -> normalise -> stem -> stages -> pool -> float32 logits.

Keras only: builds on any backend.
"""

import keras
from keras import layers

from keras_resnet import specs
from keras_resnet.blocks import conv_block, conv_bn, identity_block
from keras_resnet.errors import InputError
from keras_resnet.specs import too_small


def build(name, num_classes=1000, input_shape=None, *, normalize="imagenet", zero_gamma=True):
    """A network of the family, by name: a plain `keras.Model` with random weights.

    Args:
        name: a row of `keras_resnet.specs.SPECS`, such as `"resnet50"`.
        num_classes: number of logits.
        input_shape: `(height, width, 3)`; None leaves a side open. Default: the paper's size.
        normalize: `"imagenet"`, `"tf"`, or a pair (mean, standard deviation) of RGB triples in
            units of [0, 255]. It is a layer of the model, so that every artefact made from it
            takes raw pixels.
        zero_gamma: residual branches start at 0 (arXiv:1706.02677, section 5.1).

    Returns:
        Model from raw RGB pixels `(b, h, w, 3)` in [0, 255] to float32 logits `(b, num_classes)`,
        under any dtype policy.

    Raises:
        InputError: unknown name, fewer than two classes, or an image too small for the stages.
    """
    try:
        spec = specs.find(name)
    except KeyError as error:
        raise InputError(error.args[0]) from None
    return resnet(spec, num_classes, input_shape, normalize=normalize, zero_gamma=zero_gamma)


def resnet(spec, num_classes=1000, input_shape=None, *, normalize="imagenet", zero_gamma=True):
    """The network that a `Spec` describes; arguments and result as in `build`."""
    input_shape = tuple(input_shape or (spec.image_size, spec.image_size, 3))
    _check(spec, num_classes, input_shape)
    mean, deviation = _statistics(normalize)

    image = keras.Input(input_shape, name="image")  # (b, h, w, 3)
    x = layers.Rescaling(
        scale=[1 / d for d in deviation],
        offset=[-m / d for m, d in zip(mean, deviation, strict=True)],
        dtype="float32",  # bfloat16 holds 8 bits: it would round the constants
        name="normalize",
    )(image)
    x = STEMS[spec.stem](x)  # (b, h/4, w/4, 64) or (b, h, w, 16)
    for stage, (blocks, filters) in enumerate(zip(spec.blocks, spec.filters, strict=True)):
        for block in range(blocks):
            block_name = f"conv{stage + 2}_block{block + 1}"
            strides = 2 if stage > 0 and block == 0 else 1
            if strides == 1 and x.shape[-1] == _width(spec, filters):
                x = identity_block(
                    x, spec.branch, filters=filters, name=block_name, zero_gamma=zero_gamma
                )
            else:
                x = conv_block(
                    x,
                    spec.branch,
                    filters=filters,
                    strides=strides,
                    name=block_name,
                    shortcut=spec.shortcut,
                    zero_gamma=zero_gamma,
                )
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)  # (b, c)
    logits = layers.Dense(
        num_classes, kernel_initializer="he_normal", dtype="float32", name="logits"
    )(x)  # (b, k), float32 whatever the policy: a softmax in half precision loses digits
    return keras.Model(image, logits, name=spec.name)


def _statistics(normalize):
    """(mean, standard deviation) of RGB in units of [0, 255]."""
    if isinstance(normalize, str) and normalize in specs.NORMALIZATIONS:
        return specs.NORMALIZATIONS[normalize]
    try:
        mean, deviation = normalize
        if len(mean) == len(deviation) == 3 and min(deviation) > 0:
            return mean, deviation
    except (TypeError, ValueError):
        pass
    raise InputError(
        f"normalize is {normalize!r}; expected {', '.join(specs.NORMALIZATIONS)}, or a mean and a "
        "standard deviation, three numbers each"
    )


def _width(spec, filters):
    return {"basic": 1, "bottleneck": 4}[spec.branch] * filters


def _imagenet_stem(x):
    x = conv_bn(x, 64, 7, strides=2, name="conv1")  # (b, h/2, w/2, 64)
    x = layers.ReLU(name="conv1_relu")(x)
    # Zeros lose against every activation after a ReLU; -inf fails on XNNPACK with int8.
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    return layers.MaxPooling2D(3, 2, name="pool1_pool")(x)  # (b, h/4, w/4, 64)


def _cifar_stem(x):
    x = conv_bn(x, 16, 3, name="conv1")  # (b, h, w, 16)
    return layers.ReLU(name="conv1_relu")(x)


STEMS = {"imagenet": _imagenet_stem, "cifar": _cifar_stem}


def _check(spec, num_classes, input_shape):
    if num_classes < 2:
        raise InputError(f"num_classes is {num_classes}; a classifier needs at least 2")
    if len(input_shape) != 3 or input_shape[-1] != 3:
        raise InputError(f"input_shape is {input_shape}; expected (height, width, 3)")
    for side in input_shape[:2]:
        if side is not None and side < spec.total_stride:
            raise InputError(too_small(spec, side))
