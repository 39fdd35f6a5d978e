"""RandAugment (arXiv:1909.13719): a few operations at random, all of one strength.

Keras' RandAugment and the layers in it draw from a generator whose state moves with every call; a
resumed run would draw other numbers. Here all is a function of the seed that is given. The
operations are Pillow's, their ranges those of AutoAugment (arXiv:1805.09501, table 6), each going
from no change at 0 to the largest at 10.
"""

import math

import tensorflow as tf

_GREY = 128  # what comes into view from outside of the image
_SMOOTH = [[1, 1, 1], [1, 5, 1], [1, 1, 1]]  # over 13: Pillow's ImageFilter.SMOOTH


def randaugment(image, seed, *, ops, magnitude):
    """`ops` operations, each any of `OPERATIONS`, at `magnitude`.

    Args:
        image: uint8 `(h, w, 3)`.
        seed: int64 `(2,)`.
        ops: how many, one after the other.
        magnitude: 0 to 10; autocontrast and equalize know no strength.

    Returns:
        uint8 `(h, w, 3)`.
    """
    for n in range(ops):
        which, sign = tf.unstack(
            tf.random.stateless_uniform([2], tf.random.experimental.stateless_fold_in(seed, n)),
            num=2,
        )
        strength = tf.where(sign < 0.5, -1.0, 1.0) * (magnitude / 10)
        number = tf.cast(which * len(OPERATIONS), tf.int32)
        image = tf.switch_case(
            number,
            [lambda op=op, x=image, s=strength: op(x, s) for op in OPERATIONS.values()],
        )
    return image


def _identity(image, strength):
    return image


def _autocontrast(image, strength):
    """Each channel stretched to [0, 255]."""
    values = tf.cast(image, tf.float32)
    low = tf.reduce_min(values, [0, 1])
    reach = tf.reduce_max(values, [0, 1]) - low
    stretched = tf.math.divide_no_nan((values - low) * 255, reach)
    return tf.where(reach > 0, tf.cast(stretched, tf.uint8), image)


def _equalize(image, strength):
    """Each channel's histogram made flat."""
    return tf.stack([_equal(image[..., c]) for c in range(3)], -1)


def _equal(channel):
    counts = tf.math.bincount(tf.cast(channel, tf.int32), minlength=256, maxlength=256)
    last = counts[tf.reduce_max(tf.cast(channel, tf.int32))]
    step = (tf.reduce_sum(counts) - last) // 255
    table = (tf.cumsum(counts, exclusive=True) + step // 2) // tf.maximum(step, 1)
    table = tf.cast(tf.minimum(table, 255), tf.uint8)
    return tf.where(step > 0, tf.gather(table, tf.cast(channel, tf.int32)), channel)


def _solarize(image, strength):
    """Inverts what is brighter than a threshold."""
    threshold = 256 * (1 - tf.abs(strength))
    return tf.where(tf.cast(image, tf.float32) < threshold, image, 255 - image)


def _posterize(image, strength):
    """Keeps the highest 8 to 4 bits."""
    dropped = tf.cast(tf.round(4 * tf.abs(strength)), tf.uint8)
    return tf.bitwise.left_shift(tf.bitwise.right_shift(image, dropped), dropped)


def _color(image, strength):
    return _enhance(_grey(image), image, strength)


def _contrast(image, strength):
    return _enhance(tf.floor(tf.reduce_mean(_grey(image)) + 0.5), image, strength)


def _brightness(image, strength):
    return _enhance(0.0, image, strength)


def _sharpness(image, strength):
    """Away from, or towards, a smoothed image, whose border is the image's own."""
    values = tf.cast(image, tf.float32)
    kernel = tf.constant(_SMOOTH, tf.float32)[:, :, None, None] / 13
    smooth = tf.nn.depthwise_conv2d(
        values[None], tf.tile(kernel, [1, 1, 3, 1]), [1, 1, 1, 1], "VALID"
    )[0]
    inner = tf.pad(tf.ones_like(smooth), [[1, 1], [1, 1], [0, 0]]) > 0
    smooth = tf.where(inner, tf.pad(smooth, [[1, 1], [1, 1], [0, 0]]), values)
    return _enhance(smooth, image, strength)


def _rotate(image, strength):
    """By up to 30 degrees about the middle."""
    angle = strength * math.radians(30)
    return _affine(image, [tf.cos(angle), -tf.sin(angle), tf.sin(angle), tf.cos(angle)])


def _shear_x(image, strength):
    return _affine(image, [1.0, 0.3 * strength, 0.0, 1.0])


def _shear_y(image, strength):
    return _affine(image, [1.0, 0.0, 0.3 * strength, 1.0])


def _translate_x(image, strength):
    return _affine(image, [1.0, 0.0, 0.0, 1.0], (0.0, 0.45 * strength))


def _translate_y(image, strength):
    return _affine(image, [1.0, 0.0, 0.0, 1.0], (0.45 * strength, 0.0))


OPERATIONS = {
    "identity": _identity,
    "autocontrast": _autocontrast,
    "equalize": _equalize,
    "rotate": _rotate,
    "solarize": _solarize,
    "color": _color,
    "posterize": _posterize,
    "contrast": _contrast,
    "brightness": _brightness,
    "sharpness": _sharpness,
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
}


def _grey(image):
    """Luma as Pillow has it (ITU-R 601-2): float32 `(h, w, 1)`."""
    weights = tf.constant([[0.299], [0.587], [0.114]])
    return tf.floor(tf.tensordot(tf.cast(image, tf.float32), weights, 1) + 0.5)


def _enhance(plain, image, strength):
    """Between `plain` and the image, or beyond it: a factor from 0.1 to 1.9."""
    factor = 1 + 0.9 * strength
    values = plain + factor * (tf.cast(image, tf.float32) - plain)
    return tf.cast(tf.clip_by_value(values, 0, 255), tf.uint8)


def _affine(image, matrix, shift=(0.0, 0.0)):
    """The pixel at p comes from `matrix` (row by row, x before y) times p, about the middle, less
    `shift` (y, x; shares of the sides)."""
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
