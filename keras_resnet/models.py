"""Networks: raw pixels [0, 255] -> normalize -> stem -> stages -> pool -> float32 logits.

Keras only: builds on any backend.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from numbers import Integral, Real
from typing import Any

import keras
from keras import layers

from keras_resnet import blocks, specs
from keras_resnet.errors import InputError
from keras_resnet.specs import Normalize, Spec, too_small

# Keras walks a graph backwards with a recursion that descends through each block's shortcut, some
# 1,000 steps at the most, and some of its bookkeeping is quadratic in the number of layers.
# A network of more than a hundred blocks is therefore made of parts, each a `keras.Model`.
PART = 50  # blocks

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
        width: channels of all layers, relative to the row's; rounded to multiples of 8
            (arXiv:1704.04861, section 3.3).

    Returns:
        As `resnet`.

    Raises:
        InputError: an unknown name, or what `resnet` raises.
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
        spec: a row of `keras_resnet.specs.SPECS`, or one of your own.
        num_classes: number of logits.
        input_shape: `(height, width, 3)`, or 1 for luma; None leaves a side open. Default: the
            paper's size.
        normalize: `"imagenet"`, `"cifar10"`, `"caffe"`, `"tf"`, or what else
            `keras_resnet.specs.statistics` takes; None is what the published weights of the
            network were trained with. It is a layer of the model, so that every artefact made
            from it takes raw pixels.
        zero_gamma: residual branches start at 0 (arXiv:1706.02677, section 5.1).
        drop_path: stochastic depth: probability, per image, of dropping the branch of the last
            block in training; block i of n has i / n of it (arXiv:1603.09382, section 3).
        features: return the last feature map of each stage instead of logits.

    Returns:
        Model from raw RGB pixels `(b, h, w, 3)`, or luma `(b, h, w, 1)`, in [0, 255] to float32
        logits `(b, num_classes)`, under any dtype policy; with `features`, to a dict
        `{"conv2": (b, h', w', c), …}`. A net of more than a hundred blocks consists of parts, such
        as `conv2_part1`, each a model.

    Raises:
        InputError: fewer than two classes, an image too small for the stages, or stochastic depth
            for a net without shortcuts.
    """
    if not isinstance(spec, Spec):
        raise InputError(f"spec is {spec!r}; expected a row of SPECS; build takes names")
    if input_shape is None:
        input_shape = (spec.image_size, spec.image_size, 3)
    _check(spec, num_classes, input_shape, drop_path)

    image = keras.Input(input_shape, name="image")  # (b, h, w, c)
    x = _normalize(image, spec.normalize if normalize is None else normalize)
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
    """A fully-connected residual net: the shortcut in the notation of Z̃ = Z + A, without
    convolutions and batch norms.

    Args:
        input_shape: of the image, any rank; its values are flattened.
        num_classes: number of logits.
        units: the width of each block. One of the width before it is a `dense_identity_block`,
            any other a `dense_projection_block`.
        shortcut: False gives its plain counterpart, of `dense_plain_block`.
        zero_last: branches start at 0; of no effect in the plain counterpart.

    Returns:
        Model from raw pixels in [0, 255] to float32 logits `(b, num_classes)`. Its layers are
        `stem_dense`, then `blockN_…`, then `logits`.

    Raises:
        InputError: fewer than two classes, or a block without units.
    """
    _check_classes(num_classes)
    if not units or min(units) < 1:
        raise InputError(f"units is {units}; expected the width of each block, at least 1")
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


def _normalize(image: keras.KerasTensor, normalize: Normalize) -> keras.KerasTensor:
    mean, deviation = specs.statistics(normalize, image.shape[-1])
    return layers.Rescaling(
        scale=[1 / d for d in deviation],
        offset=[-m / d for m, d in zip(mean, deviation, strict=True)],
        dtype="float32",  # bfloat16 holds 8 bits: it would round the constants
        name="normalize",
    )(image)


def _logits(x: keras.KerasTensor, num_classes: int) -> keras.KerasTensor:
    """(b, k), float32 whatever the policy: a softmax in half precision loses digits.

    Small weights make the first loss ln k, that of a uniform guess (arXiv:1706.02677, section 5.1).
    With zeros, the body would get no gradient in the first step.
    """
    small = keras.initializers.RandomNormal(stddev=0.01)
    num_classes = int(num_classes)  # Keras takes none of NumPy
    return layers.Dense(num_classes, kernel_initializer=small, dtype="float32", name="logits")(x)


def _blocks(spec: Spec, zero_gamma: bool, drop_path: float) -> dict[str, list[_Layer]]:
    """The blocks of each stage, in order, as functions from feature map to feature map."""
    total, done = sum(spec.blocks), 0
    stages: dict[str, list[_Layer]] = {}
    for stage, (count, filters) in enumerate(
        zip(spec.blocks, map(spec.scaled, spec.filters), strict=True), 2
    ):
        # The stages end with the strided block, or begin with it; one of them has none.
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
    """An identity block where it can be one."""
    channels = spec.expansion * filters
    options |= {
        "expansion": spec.expansion,
        "groups": spec.groups,
        "strided_conv": spec.strided_conv,
        "use_bias": spec.conv_bias,
        "epsilon": spec.bn_epsilon,
    }
    if spec.shortcut == "none":
        return blocks.plain_block(
            x, spec.branch, filters=filters, strides=strides, name=name, **options
        )
    if strides == 1 and x.shape[-1] == channels:
        return blocks.identity_block(x, spec.branch, filters=filters, name=name, **options)
    # Where only the size changes, every other pixel will do.
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
    """Convolution, batch norm, ReLU; the first block of a pre-activation net does the last two."""
    preact = blocks.BRANCHES[spec.branch].preact
    # Its bias cannot be folded into a later batch norm: there is a zero-padded max-pool between.
    use_bias = spec.conv_bias or (preact and spec.stem != "cifar")
    filters = spec.scaled(filters)
    x = blocks.conv(x, filters, kernel, strides=strides, use_bias=use_bias, name=name)
    if preact:
        return x
    return blocks.relu(blocks.batch_norm(x, name=name, epsilon=spec.bn_epsilon), f"{name}_relu")


def _max_pool(x: keras.KerasTensor) -> keras.KerasTensor:
    # Zeros lose against every activation after a ReLU; -inf fails on XNNPACK with int8.
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    return layers.MaxPooling2D(3, 2, name="pool1_pool")(x)  # (b, h/4, w/4, 64)


def _imagenet_stem(x: keras.KerasTensor, spec: Spec) -> keras.KerasTensor:
    return _max_pool(_stem_conv(x, spec, 64, 7, 2, "conv1"))  # (b, h/2, w/2, 64) in between


def _deep_stem(x: keras.KerasTensor, spec: Spec) -> keras.KerasTensor:
    x = _stem_conv(x, spec, 32, 3, 2, "conv1_1")  # (b, h/2, w/2, 32)
    x = _stem_conv(x, spec, 32, 3, 1, "conv1_2")
    return _max_pool(_stem_conv(x, spec, 64, 3, 1, "conv1_3"))


def _cifar_stem(x: keras.KerasTensor, spec: Spec) -> keras.KerasTensor:
    return _stem_conv(x, spec, 16, 3, 1, "conv1")  # (b, h, w, 16)


STEMS = {"imagenet": _imagenet_stem, "deep": _deep_stem, "cifar": _cifar_stem}


def _check(
    spec: Spec, num_classes: int, input_shape: Sequence[int | None], drop_path: float
) -> None:
    _check_classes(num_classes)
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
    if not (isinstance(spec.width, Real) and spec.width > 0):
        raise InputError(f"width is {spec.width!r}; expected a factor above 0, such as 0.5")
    if not (isinstance(drop_path, Real) and 0 <= drop_path < 1):
        raise InputError(f"drop_path is {drop_path!r}; expected a share in [0, 1)")
    if drop_path and spec.shortcut == "none":
        raise InputError(f"drop_path is {drop_path}; {spec.name} has no shortcut to fall back on")


def _check_classes(num_classes: int) -> None:
    if not (isinstance(num_classes, Integral) and num_classes >= 2):
        raise InputError(f"num_classes is {num_classes!r}; expected a whole number of at least 2")


def set_weights(layer: keras.layers.Layer, weights: Sequence[Any]) -> None:
    """`layer.set_weights`, after which an adapted `Normalization` also computes with them, as after
    a load from a file."""
    layer.set_weights(weights)
    for part in layers_of(layer) if isinstance(layer, keras.Model) else [layer]:
        if hasattr(part, "finalize_state"):
            part.finalize_state()


def freeze_as(copies: Iterable[keras.layers.Layer], layers: Iterable[keras.layers.Layer]) -> None:
    """Freezes each of the copies whose layer is frozen, with the layers inside of it."""
    for copy, layer in zip(copies, layers, strict=True):
        copy.trainable = True  # a False that it has already would not be passed on
        copy.trainable = layer.trainable


def layers_of(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers of a model and of the models that it consists of, in order."""
    found: list[keras.layers.Layer] = []
    for layer in model.layers:
        found += layers_of(layer) if isinstance(layer, keras.Model) else [layer]
    return found
