"""RandAugment (arXiv:1909.13719): several random operations of one magnitude. TrivialAugment
(arXiv:2103.10158): one random operation of random magnitude.

Keras' layers for them use a stateful generator, so a resumed run would draw other random numbers.
Here the result depends only on the given seed. The operations are Pillow's, from no change at a
strength of 0 to the largest change at 1.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import tensorflow as tf

_GREY = 128  # fill value outside the image
_SMOOTH = [[1, 1, 1], [1, 5, 1], [1, 1, 1]]  # over 13: Pillow's ImageFilter.SMOOTH
_BINS = 31  # strengths of TrivialAugment, from 0 to 1


class Operation(NamedTuple):
    """An operation on an image: a function of uint8 `(h, w, 3)` and an amount that returns uint8
    `(h, w, 3)`."""

    apply: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    most: float = 0.0  # largest amount: arXiv:1805.09501, table 6
    wide: float = 0.0  # largest amount in TrivialAugment: the Wide space of arXiv:2103.10158


def randaugment(
    image: tf.Tensor,
    seed: tf.Tensor,
    *,
    ops: int,
    magnitude: float,
    prob: float = 1.0,
    std: float = 0.0,
) -> tf.Tensor:
    """Applies `ops` random operations from `OPERATIONS`, one after the other.

    Args:
        image: uint8 `(h, w, 3)`.
        seed: int64 `(2,)`.
        ops: number of operations.
        magnitude: 0 to 10; autocontrast and equalize ignore it.
        prob: probability of applying each operation.
        std: standard deviation of the magnitude, drawn for each operation and clipped to [0, 10].

    Returns:
        uint8 `(h, w, 3)`.
    """
    most = [operation.most for operation in OPERATIONS.values()]
    for n in range(ops):
        own = tf.random.experimental.stateless_fold_in(seed, n)
        which, sign, skip = _draw(3, own)
        strength = magnitude / 10
        if std:
            noise = tf.random.stateless_normal([], tf.random.experimental.stateless_fold_in(own, 0))
            strength = tf.clip_by_value((magnitude + std * noise) / 10, 0.0, 1.0)
        changed = partial(_any, image, which, sign, strength, most)
        image = changed() if prob == 1 else tf.cond(skip < prob, changed, partial(_identity, image))
    return image


def trivialaugment(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Applies one random operation from `OPERATIONS` at a random strength, in wide ranges.

    Args:
        image: uint8 `(h, w, 3)`.
        seed: int64 `(2,)`.

    Returns:
        uint8 `(h, w, 3)`.
    """
    which, sign, strength = _draw(3, seed)
    strength = tf.floor(strength * _BINS) / (_BINS - 1)
    wide = [operation.wide for operation in OPERATIONS.values()]
    return _any(image, which, sign, strength, wide)


def _draw(count: int, seed: tf.Tensor) -> list[tf.Tensor]:
    return tf.unstack(tf.random.stateless_uniform([count], seed), num=count)


def _any(
    image: tf.Tensor,
    which: tf.Tensor,
    sign: tf.Tensor,
    strength: tf.Tensor | float,
    most: list[float],
) -> tf.Tensor:
    """Applies the operation and the sign selected by the random numbers `which` and `sign` in
    [0, 1), at this share of the operation's largest amount."""
    number = tf.cast(which * len(OPERATIONS), tf.int32)
    amount = tf.where(sign < 0.5, -1.0, 1.0) * strength * tf.gather(tf.constant(most), number)
    return tf.switch_case(
        number, [lambda op=op: op.apply(image, amount) for op in OPERATIONS.values()]
    )


def _identity(image: tf.Tensor, amount: tf.Tensor | float = 0.0) -> tf.Tensor:
    return image


def _autocontrast(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """Stretches each channel to [0, 255]."""
    values = tf.cast(image, tf.float32)
    low = tf.reduce_min(values, [0, 1])
    reach = tf.reduce_max(values, [0, 1]) - low
    stretched = tf.math.divide_no_nan((values - low) * 255, reach)
    return tf.where(reach > 0, tf.cast(stretched, tf.uint8), image)


def _equalize(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """Equalizes the histogram of each channel."""
    return tf.stack([_equal(image[..., c]) for c in range(3)], -1)


def _equal(channel: tf.Tensor) -> tf.Tensor:
    counts = tf.math.bincount(tf.cast(channel, tf.int32), minlength=256, maxlength=256)
    last = counts[tf.reduce_max(tf.cast(channel, tf.int32))]
    step = (tf.reduce_sum(counts) - last) // 255
    table = (tf.cumsum(counts, exclusive=True) + step // 2) // tf.maximum(step, 1)
    table = tf.cast(tf.minimum(table, 255), tf.uint8)
    return tf.where(step > 0, tf.gather(table, tf.cast(channel, tf.int32)), channel)


def _solarize(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """Inverts values of at least 256 - |amount|."""
    threshold = 256 - tf.abs(amount)
    return tf.where(tf.cast(image, tf.float32) < threshold, image, 255 - image)


def _posterize(image: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
    """Drops the lowest bits."""
    dropped = tf.cast(tf.round(tf.abs(bits)), tf.uint8)
    return tf.bitwise.left_shift(tf.bitwise.right_shift(image, dropped), dropped)


def _color(image: tf.Tensor, change: tf.Tensor) -> tf.Tensor:
    return _enhance(_grey(image), image, change)


def _contrast(image: tf.Tensor, change: tf.Tensor) -> tf.Tensor:
    return _enhance(tf.floor(tf.reduce_mean(_grey(image)) + 0.5), image, change)


def _brightness(image: tf.Tensor, change: tf.Tensor) -> tf.Tensor:
    return _enhance(0.0, image, change)


def _sharpness(image: tf.Tensor, change: tf.Tensor) -> tf.Tensor:
    """Blends with a smoothed image, or extrapolates from it; border pixels are not smoothed."""
    values = tf.cast(image, tf.float32)
    kernel = tf.constant(_SMOOTH, tf.float32)[:, :, None, None] / 13
    smooth = tf.nn.depthwise_conv2d(
        values[None], tf.tile(kernel, [1, 1, 3, 1]), [1, 1, 1, 1], "VALID"
    )[0]
    inner = tf.pad(tf.ones_like(smooth), [[1, 1], [1, 1], [0, 0]]) > 0
    smooth = tf.where(inner, tf.pad(smooth, [[1, 1], [1, 1], [0, 0]]), values)
    return _enhance(smooth, image, change)


def _rotate(image: tf.Tensor, degrees: tf.Tensor) -> tf.Tensor:
    """Rotates about the centre."""
    angle = degrees * (math.pi / 180)
    return _affine(image, [tf.cos(angle), -tf.sin(angle), tf.sin(angle), tf.cos(angle)])


def _shear_x(image: tf.Tensor, slope: tf.Tensor) -> tf.Tensor:
    return _affine(image, [1.0, slope, 0.0, 1.0])


def _shear_y(image: tf.Tensor, slope: tf.Tensor) -> tf.Tensor:
    return _affine(image, [1.0, 0.0, slope, 1.0])


def _translate_x(image: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    return _affine(image, [1.0, 0.0, 0.0, 1.0], (0.0, share))


def _translate_y(image: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    return _affine(image, [1.0, 0.0, 0.0, 1.0], (share, 0.0))


OPERATIONS = {
    "identity": Operation(_identity),
    "autocontrast": Operation(_autocontrast),
    "equalize": Operation(_equalize),
    "rotate": Operation(_rotate, most=30, wide=135),
    "solarize": Operation(_solarize, most=256, wide=256),
    "color": Operation(_color, most=0.9, wide=0.99),
    "posterize": Operation(_posterize, most=4, wide=6),
    "contrast": Operation(_contrast, most=0.9, wide=0.99),
    "brightness": Operation(_brightness, most=0.9, wide=0.99),
    "sharpness": Operation(_sharpness, most=0.9, wide=0.99),
    "shear_x": Operation(_shear_x, most=0.3, wide=0.99),
    "shear_y": Operation(_shear_y, most=0.3, wide=0.99),
    "translate_x": Operation(_translate_x, most=0.45, wide=32 / 224),  # shares of the side
    "translate_y": Operation(_translate_y, most=0.45, wide=32 / 224),
}


def _grey(image: tf.Tensor) -> tf.Tensor:
    """Luma as in Pillow (ITU-R 601-2): float32 `(h, w, 1)`."""
    weights = tf.constant([[0.299], [0.587], [0.114]])
    return tf.floor(tf.tensordot(tf.cast(image, tf.float32), weights, 1) + 0.5)


def _enhance(plain: tf.Tensor | float, image: tf.Tensor, change: tf.Tensor) -> tf.Tensor:
    """Interpolates from `plain` to the image, or extrapolates: `change` = -1 gives `plain`, 0 the
    image."""
    values = plain + (1 + change) * (tf.cast(image, tf.float32) - plain)
    return tf.cast(tf.clip_by_value(values, 0, 255), tf.uint8)


def _affine(
    image: tf.Tensor,
    matrix: Sequence[tf.Tensor | float],
    shift: tuple[tf.Tensor | float, tf.Tensor | float] = (0.0, 0.0),
) -> tf.Tensor:
    """Affine transform: output pixel p is taken from `matrix` (row-major, x before y) times p,
    relative to the centre, minus `shift` (y, x; shares of the sides)."""
    shape = tf.cast(tf.shape(image)[:2], tf.float32)
    y, x = (shape[0] - 1) / 2, (shape[1] - 1) / 2
    a, b, c, d = (tf.convert_to_tensor(value, tf.float32) for value in matrix)
    right = x - a * x - b * y - shift[1] * shape[1]
    down = y - c * x - d * y - shift[0] * shape[0]
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(image, tf.float32)[None],
        transforms=tf.stack([a, b, right, c, d, down, 0.0, 0.0])[None],
        output_shape=tf.shape(image)[:2],
        fill_value=float(_GREY),
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
    return tf.ensure_shape(tf.cast(tf.round(moved[0]), tf.uint8), image.shape)
