"""bytes -> uint8 pixels, the whole image or only the window that will be used. TensorFlow ops only.

Cropping while decoding: libjpeg skips what lies outside the window and, for a large photo, decodes
at 1/2, 1/4 or 1/8 of the size, so that the work follows the size of the result.
"""

import tensorflow as tf

# EXIF orientation, 1 to 8: how to turn the stored pixels for display.
_TURNS = [
    lambda x: x,
    lambda x: x,
    lambda x: tf.reverse(x, [1]),
    lambda x: tf.reverse(x, [0, 1]),
    lambda x: tf.reverse(x, [0]),
    lambda x: tf.transpose(x, [1, 0, 2]),
    lambda x: tf.reverse(tf.transpose(x, [1, 0, 2]), [1]),
    lambda x: tf.reverse(tf.transpose(x, [1, 0, 2]), [0, 1]),
    lambda x: tf.reverse(tf.transpose(x, [1, 0, 2]), [0]),
]


def decode(data, orientation=1):
    """The whole image, as displayed: string to uint8 `(h, w, 3)`.

    Alpha is composited on white; of an animation, the first frame is used.

    Args:
        data: an encoded image, a string scalar: JPEG, PNG, GIF, BMP or WebP.
        orientation: EXIF orientation, 1 to 8, an int32 scalar.
    """
    is_png = tf.equal(tf.strings.substr(data, 0, 4), b"\x89PNG")
    pixels = tf.cond(is_png, lambda: _on_white(data), lambda: _opaque(data))
    turned = tf.switch_case(tf.convert_to_tensor(orientation), [lambda t=t: t(pixels) for t in _TURNS])
    turned.set_shape([None, None, 3])
    return turned


def decode_window(data, orientation, choose, size):
    """Only the window that `choose` picks, with at least `size` pixels a side if it has them.

    Args:
        data, orientation: as in `decode`.
        choose: function from height, width (int32, as displayed) to a window y, x, h, w (int32).
        size: side of the square that the window will be resized to.

    Returns:
        uint8 `(h', w', 3)`, the window, perhaps shrunk by 2, 4 or 8.
    """

    def crop_whole():
        pixels = decode(data, orientation)
        shape = tf.shape(pixels)
        return tf.image.crop_to_bounding_box(pixels, *choose(shape[0], shape[1]))

    def crop_jpeg():
        shape = tf.io.extract_jpeg_shape(data)
        y, x, h, w = choose(shape[0], shape[1])

        def at(ratio):  # libjpeg counts the window in the pixels of the shrunken image
            window = tf.stack([y, x, h, w]) // ratio
            return lambda: tf.image.decode_and_crop_jpeg(data, window, channels=3, ratio=ratio)

        shrink = tf.minimum(h, w) // size
        return tf.case(
            [(shrink >= 8, at(8)), (shrink >= 4, at(4)), (shrink >= 2, at(2))], default=at(1)
        )

    upright_jpeg = tf.logical_and(tf.io.is_jpeg(data), tf.less_equal(orientation, 1))
    pixels = tf.cond(upright_jpeg, crop_jpeg, crop_whole)
    pixels.set_shape([None, None, 3])
    return pixels


def _opaque(data):
    pixels = tf.io.decode_image(data, channels=3, expand_animations=False)
    pixels.set_shape([None, None, 3])
    return pixels


def _on_white(data):
    pixels = tf.cast(tf.io.decode_png(data, channels=4), tf.float32)  # alpha 255 where it has none
    alpha = pixels[..., 3:] / 255.0
    return tf.cast(tf.round(pixels[..., :3] * alpha + 255.0 * (1.0 - alpha)), tf.uint8)
