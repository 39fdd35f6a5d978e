"""Networks: raw pixels [0, 255] -> normalize -> stem -> stages -> pool -> float32 logits.

Keras only: builds on any backend.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from numbers import Integral, Real
from typing import Any

import keras
from keras import layers

from keras_resnet import blocks, specs
from keras_resnet.errors import InputError, require_whole
from keras_resnet.specs import Normalize, Spec, Statistics, too_small

# Keras traverses a graph backwards by recursion through each block's shortcut, with a limit of
# about 1,000 levels, and some of its bookkeeping is quadratic in the number of layers. A network of
# more than a hundred blocks therefore consists of parts of this many blocks, each a `keras.Model`.
PART = 50

_Layer = Callable[[keras.KerasTensor], keras.KerasTensor]


def build(
    name: str,
    num_classes: int = 1000,
    input_shape: Sequence[int | None] | None = None,
    *,
    normalize: Normalize | None = None,
    zero_gamma: bool = True,
    drop_path: float = 0.0,
    features: bool = False,
    width: float = 1.0,
) -> keras.Model:
    """Builds a network by name: a plain `keras.Model` with random weights.

    Args:
        name: a row of `keras_resnet.specs.SPECS`, such as `"resnet50"`.
        num_classes, input_shape, normalize, zero_gamma, drop_path, features: as in `resnet`.
        width: factor of the channels of all layers; channels are rounded to multiples of 8
            (arXiv:1704.04861, section 3.3).

    Returns:
        The model, as in `resnet`.

    Raises:
        InputError: an unknown name, or an error of `resnet`.
    """
    return resnet(
        replace(specs.find(name), width=width),
        num_classes,
        input_shape,
        normalize=normalize,
        zero_gamma=zero_gamma,
        drop_path=drop_path,
        features=features,
    )


def resnet(
    spec: Spec,
    num_classes: int = 1000,
    input_shape: Sequence[int | None] | None = None,
    *,
    normalize: Normalize | None = None,
    zero_gamma: bool = True,
    drop_path: float = 0.0,
    features: bool = False,
) -> keras.Model:
    """Builds the network that a `Spec` describes: a plain `keras.Model` with random weights.

    Args:
        spec: a row of `keras_resnet.specs.SPECS`, or your own.
        num_classes: number of logits.
        input_shape: `(height, width, 3)`, or `(height, width, 1)` for luma; a side may be None
            (any size). Default: the paper's size.
        normalize: `"imagenet"`, `"cifar10"`, `"caffe"`, `"tf"`, or another argument of
            `keras_resnet.specs.statistics`; None: the normalization of the network's published
            weights. It is a layer of the model, so that every artefact made from it takes raw
            pixels.
        zero_gamma: initialize residual branches with 0 (arXiv:1706.02677, section 5.1).
        drop_path: stochastic depth: probability, per image, of dropping the branch of the last
            block in training; for block i of n it is multiplied by i / n (arXiv:1603.09382,
            section 3).
        features: return the last feature map of each stage instead of logits.

    Returns:
        Model from raw RGB pixels `(b, h, w, 3)`, or luma `(b, h, w, 1)`, in [0, 255] to float32
        logits `(b, num_classes)`, under any dtype policy; with `features`, to a dict
        `{"conv2": (b, h', w', c), …}`. A net of more than a hundred blocks consists of nested
        models, such as `conv2_part1`.

    Raises:
        InputError: fewer than two classes, an image too small for the stages, a width or an
            `se_ratio` of the `Spec` that is out of range, or stochastic depth for a net without
            shortcuts.
    """
    if not isinstance(spec, Spec):
        raise InputError(f"spec is {spec!r}; expected a row of SPECS; build takes names")
    if input_shape is None:
        input_shape = (spec.image_size, spec.image_size, 3)
    _check(spec, num_classes, input_shape, drop_path)

    image = keras.Input(input_shape, name="image")  # (b, h, w, c)
    chosen = spec.normalize if normalize is None else normalize
    x = normalization(specs.statistics(chosen, image.shape[-1]))(image)
    x = STEMS[spec.stem](x, spec)  # (b, h/4, w/4, 64) or (b, h, w, 16)
    maps = {}
    for stage, stage_blocks in _blocks(spec, zero_gamma, drop_path).items():
        x = _chain(x, stage_blocks, stage, in_parts=sum(spec.blocks) > 2 * PART)
        maps[stage] = x
    if blocks.BRANCHES[spec.branch].preact:
        x = blocks.batch_norm(x, name="post", epsilon=spec.bn_epsilon)
        x = maps[stage] = blocks.relu(x, "post_relu")
    if features:
        return keras.Model(image, maps, name=spec.name)
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)  # (b, c)
    return keras.Model(image, _logits(x, num_classes), name=spec.name)


def residual_mlp(
    input_shape: Sequence[int] = (32, 32, 3),
    num_classes: int = 10,
    *,
    units: Sequence[int] = (64,) * 4,
    shortcut: bool = True,
    zero_last: bool = True,
) -> keras.Model:
    """Builds a fully-connected residual net, Z̃ = Z + A, without convolutions and batch norms.

    Args:
        input_shape: shape of the image, of any rank; its values are flattened.
        num_classes: number of logits.
        units: the width of each block: a `dense_identity_block` if it equals the previous width,
            else a `dense_projection_block`.
        shortcut: False builds the plain counterpart from `dense_plain_block`.
        zero_last: initialize branches with 0; no effect in the plain counterpart.

    Returns:
        Model from raw pixels in [0, 255] to float32 logits `(b, num_classes)`. Its layers are
        `stem_dense`, then `blockN_…`, then `logits`.

    Raises:
        InputError: fewer than two classes, no block, or a width below 1.
    """
    require_whole("num_classes", num_classes, 2)
    are_widths = isinstance(units, Sequence) and all(isinstance(n, Integral) for n in units)
    if not are_widths or not units or min(units) < 1:
        raise InputError(f"units is {units!r}; expected the width of each block, at least 1")
    image = keras.Input(input_shape, name="image")
    x = layers.Rescaling(1 / 127.5, -1, dtype="float32", name="normalize")(image)
    x = layers.Flatten(name="flatten")(x)
    x = blocks.relu(blocks.dense(x, units[0], name="stem"), "stem_relu")  # (b, n)
    for i, (before, width) in enumerate(pairwise((units[0], *units)), 1):
        name = f"block{i}"
        if not shortcut:
            x = blocks.dense_plain_block(x, units=width, name=name)
        elif width == before:
            x = blocks.dense_identity_block(x, name=name, zero_last=zero_last)
        else:
            x = blocks.dense_projection_block(x, units=width, name=name, zero_last=zero_last)
    name = "residual_mlp" if shortcut else "plain_mlp"
    return keras.Model(image, _logits(x, num_classes), name=name)


def normalization(statistics: Statistics) -> layers.Rescaling:
    """The layer that subtracts the mean of each channel and divides by its standard deviation."""
    mean, deviation = statistics
    return layers.Rescaling(
        scale=[1 / d for d in deviation],
        offset=[-m / d for m, d in zip(mean, deviation, strict=True)],
        dtype="float32",  # bfloat16, with 8 significant bits, would round the constants
        name="normalize",
    )


def _logits(x: keras.KerasTensor, num_classes: int) -> keras.KerasTensor:
    """The classifier, `(b, k)`, in float32 under any policy: half precision is too coarse for a
    softmax.

    With small initial weights the first loss is ln k, that of a uniform guess (arXiv:1706.02677,
    section 5.1). With zeros, the body would get no gradient in the first step.
    """
    small = keras.initializers.RandomNormal(stddev=0.01)
    num_classes = int(num_classes)  # Keras rejects NumPy integers
    return layers.Dense(num_classes, kernel_initializer=small, dtype="float32", name="logits")(x)


def _blocks(spec: Spec, zero_gamma: bool, drop_path: float) -> dict[str, list[_Layer]]:
    """The blocks of each stage, in order, as functions from feature map to feature map."""
    total, done = sum(spec.blocks), 0
    stages: dict[str, list[_Layer]] = {}
    for stage, (count, filters) in enumerate(
        zip(spec.blocks, map(spec.scaled, spec.filters), strict=True), 2
    ):
        # The strided block is the last of a stage, except the last stage, or the first of a stage,
        # except the first stage.
        if spec.strided_block == "last":
            strided = count if stage <= len(spec.blocks) else None
        else:
            strided = 1 if stage > 2 else None
        stages[f"conv{stage}"] = []
        for i in range(1, count + 1):
            done += 1
            block = partial(
                _block,
                spec=spec,
                filters=filters,
                strides=2 if i == strided else 1,
                name=f"conv{stage}_block{i}",
                zero_gamma=zero_gamma,
                drop_path=drop_path * done / total,
            )
            stages[f"conv{stage}"].append(block)
    return stages


def _block(
    x: keras.KerasTensor, spec: Spec, filters: int, strides: int, name: str, **options: Any
) -> keras.KerasTensor:
    """An identity block if shapes allow it, else a conv block; a plain block in a plain net."""
    channels = spec.expansion * filters
    options |= {
        "expansion": spec.expansion,
        "groups": spec.groups,
        "strided_conv": spec.strided_conv,
        "use_bias": spec.conv_bias,
        "epsilon": spec.bn_epsilon,
        "se_ratio": spec.se_ratio,
    }
    if spec.shortcut == "none":
        return blocks.plain_block(
            x, spec.branch, filters=filters, strides=strides, name=name, **options
        )
    if strides == 1 and x.shape[-1] == channels:
        return blocks.identity_block(x, spec.branch, filters=filters, name=name, **options)
    # If only the size changes, no projection is needed.
    shortcut: blocks.ShortcutName = "pad" if x.shape[-1] == channels else spec.shortcut
    return blocks.conv_block(
        x, spec.branch, filters=filters, strides=strides, name=name, shortcut=shortcut, **options
    )


def _chain(
    x: keras.KerasTensor, stage_blocks: list[_Layer], stage: str, in_parts: bool
) -> keras.KerasTensor:
    if not in_parts:
        for block in stage_blocks:
            x = block(x)
        return x
    for part, first in enumerate(range(0, len(stage_blocks), PART), 1):
        y = entrance = keras.Input(x.shape[1:], dtype=x.dtype, name=f"{stage}_part{part}_input")
        for block in stage_blocks[first : first + PART]:
            y = block(y)
        x = keras.Model(entrance, y, name=f"{stage}_part{part}")(x)
    return x


def _stem_conv(
    x: keras.KerasTensor, spec: Spec, filters: int, kernel: int, strides: int, name: str
) -> keras.KerasTensor:
    """Convolution, batch norm, ReLU; without the last two in a pre-activation net, whose first
    block has them."""
    preact = blocks.BRANCHES[spec.branch].preact
    # This bias is not redundant: a zero-padded max-pool separates it from the next batch norm.
    use_bias = spec.conv_bias or (preact and spec.stem != "cifar")
    filters = spec.scaled(filters)
    x = blocks.conv(x, filters, kernel, strides=strides, use_bias=use_bias, name=name)
    if preact:
        return x
    return blocks.relu(blocks.batch_norm(x, name=name, epsilon=spec.bn_epsilon), f"{name}_relu")


def _max_pool(x: keras.KerasTensor) -> keras.KerasTensor:
    # After a ReLU, padding with 0 does not change the maximum; -inf fails on XNNPACK with int8.
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    return layers.MaxPooling2D(3, 2, name="pool1_pool")(x)  # (b, h/4, w/4, 64)


def _imagenet_stem(x: keras.KerasTensor, spec: Spec) -> keras.KerasTensor:
    return _max_pool(_stem_conv(x, spec, 64, 7, 2, "conv1"))  # (b, h/2, w/2, 64) in between


def _three_convs(x: keras.KerasTensor, spec: Spec) -> keras.KerasTensor:
    x = _stem_conv(x, spec, 32, 3, 2, "conv1_1")  # (b, h/2, w/2, 32)
    x = _stem_conv(x, spec, 32, 3, 1, "conv1_2")
    return _stem_conv(x, spec, 64, 3, 1, "conv1_3")


def _deep_stem(x: keras.KerasTensor, spec: Spec) -> keras.KerasTensor:
    return _max_pool(_three_convs(x, spec))


def _deep_conv_stem(x: keras.KerasTensor, spec: Spec) -> keras.KerasTensor:
    return _stem_conv(_three_convs(x, spec), spec, 64, 3, 2, "conv1_4")  # (b, h/4, w/4, 64)


def _cifar_stem(x: keras.KerasTensor, spec: Spec) -> keras.KerasTensor:
    return _stem_conv(x, spec, 16, 3, 1, "conv1")  # (b, h, w, 16)


STEMS = {
    "imagenet": _imagenet_stem,
    "deep": _deep_stem,
    "deep_conv": _deep_conv_stem,
    "cifar": _cifar_stem,
}


def _check(
    spec: Spec, num_classes: int, input_shape: Sequence[int | None], drop_path: float
) -> None:
    require_whole("num_classes", num_classes, 2)
    is_shape = isinstance(input_shape, Sequence) and len(input_shape) == 3
    if not is_shape or input_shape[-1] not in (1, 3):
        raise InputError(
            f"input_shape is {input_shape}; expected (height, width, 3), or 1 for luma"
        )
    for side in input_shape[:2]:
        if not isinstance(side, Integral | None):
            raise InputError(f"input_shape is {input_shape}; expected whole numbers")
        if side is not None and side < spec.total_stride:
            raise InputError(too_small(spec, side))
    if not (isinstance(spec.width, Real) and 0 < spec.width < math.inf):
        raise InputError(f"width is {spec.width!r}; expected a factor above 0, such as 0.5")
    if not (isinstance(spec.se_ratio, Real) and 0 <= spec.se_ratio <= 1):
        raise InputError(
            f"se_ratio is {spec.se_ratio!r}; expected a share of the channels, such as 1/16, or 0"
        )
    if not (isinstance(drop_path, Real) and 0 <= drop_path < 1):
        raise InputError(f"drop_path is {drop_path!r}; expected a share in [0, 1)")
    if drop_path and spec.shortcut == "none":
        raise InputError(f"drop_path is {drop_path}; {spec.name} has no shortcut to fall back on")


def set_weights(layer: keras.layers.Layer, weights: Sequence[Any]) -> None:
    """`layer.set_weights`, and an update of adapted `Normalization` layers, which otherwise keep
    using their old statistics."""
    layer.set_weights(weights)
    for part in layers_of(layer) if isinstance(layer, keras.Model) else [layer]:
        if hasattr(part, "finalize_state"):
            part.finalize_state()


def freeze_as(copies: Iterable[keras.layers.Layer], layers: Iterable[keras.layers.Layer]) -> None:
    """Freezes each copy, with its nested layers, whose layer is frozen."""
    for copy, layer in zip(copies, layers, strict=True):
        copy.trainable = True  # a False that is already set would not be passed on
        copy.trainable = layer.trainable


def layers_of(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers of a model in order, with those of nested models in their place."""
    flat: list[keras.layers.Layer] = []
    for layer in model.layers:
        flat += layers_of(layer) if isinstance(layer, keras.Model) else [layer]
    return flat
