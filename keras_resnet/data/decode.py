"""Decodes images to uint8 pixels, whole or only the used crop. TensorFlow ops only.

`pixels` does the same without TensorFlow.

While cropping, libjpeg skips pixels outside the window and decodes a large photo at 1/2, 1/4 or 1/8
of its size, so that the cost depends on the size of the result.
"""

from collections.abc import Callable
from functools import partial

import tensorflow as tf

from keras_resnet.data.pixels import CHECK_RATIO, FLIPPED, LARGE, SMALL, Flips

# For functions of tf.data without Python conditions: autograph's conversion would take seconds.
as_written = tf.autograph.experimental.do_not_convert

# The method of Pillow and phones, for bit-identical pixels. TensorFlow's default, "fast", takes as
# long and differs by one level.
_DCT = "INTEGER_ACCURATE"

_JPEG_END = b"\xff\xd9"

# y, x, height and width of a part of an image, in pixels; and a function that chooses it from the
# image's height and width.
Window = tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]
Choose = Callable[[tf.Tensor, tf.Tensor], Window]


def decode(data: tf.Tensor, orientation: tf.Tensor | int = 1) -> tf.Tensor:
    """The whole image, upright: string to uint8 `(h, w, 3)`.

    Alpha is composited on white; of an animation, the first frame is used. Transparent pixels of
    a GIF become black.

    Args:
        data: an encoded image, a string scalar: JPEG, PNG, GIF, BMP or WebP.
        orientation: EXIF orientation, 1 to 8, an int32 scalar.
    """
    return turn(decode_stored(data), orientation)


def turn(pixels: tf.Tensor, orientation: tf.Tensor | int) -> tf.Tensor:
    """Stored pixels `(h, w, 3)`, turned upright by their EXIF orientation, 1 to 8."""

    def turned() -> tf.Tensor:
        flips = _flips(orientation, tf.bool)
        displayed = tf.transpose(pixels, tf.where(flips.swap, [1, 0, 2], [0, 1, 2]))
        return tf.reverse(displayed, tf.boolean_mask([0, 1], [flips.rows, flips.columns]))

    displayed = tf.cond(tf.greater(orientation, 1), turned, lambda: pixels)
    displayed.set_shape([None, None, 3])
    return displayed


def decode_stored(data: tf.Tensor) -> tf.Tensor:
    """The whole image as stored, ignoring EXIF orientation: string to uint8 `(h, w, 3)`."""
    magic = tf.strings.substr(data, 0, 4)
    may_have_alpha = tf.logical_or(tf.equal(magic, b"\x89PNG"), tf.equal(magic, b"RIFF"))
    pixels = tf.cond(may_have_alpha, lambda: _on_white(_with_alpha(data)), lambda: _opaque(data))
    pixels.set_shape([None, None, 3])
    return pixels


def decode_jpeg(data: tf.Tensor) -> tf.Tensor:
    """A whole JPEG as stored, or a PNG without its alpha: string to uint8 `(h, w, 3)`."""
    return tf.io.decode_jpeg(data, channels=3, dct_method=_DCT)


def decode_to_check(data: tf.Tensor) -> tf.Tensor:
    """`decode_stored`; a JPEG of more than `LARGE` pixels at 1/`CHECK_RATIO` of its size."""
    return tf.cond(
        _is_jpeg_above(data, LARGE),
        lambda: tf.io.decode_jpeg(data, channels=3, ratio=CHECK_RATIO, dct_method=_DCT),
        lambda: decode_stored(data),
    )


def is_complete(data: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
    """Whether an image has all pixels that its header declares, a bool scalar.

    If pixels of a JPEG are missing, libjpeg fills them with one colour and reports no error.

    Args:
        data: an encoded image.
        pixels: its pixels from `decode_to_check`.
    """

    def without_end_is_equal() -> tf.Tensor:
        # If pixels are missing, bytes inserted before the end are decoded in their place.
        begin = tf.strings.substr(data, 0, tf.strings.length(data) - 2)
        longer = tf.strings.join([begin, b"\xa5\x5a" * 64, _JPEG_END])
        return tf.reduce_all(tf.equal(decode_to_check(longer), pixels))

    is_jpeg = tf.equal(tf.strings.substr(data, 0, 3), b"\xff\xd8\xff")
    has_end = tf.equal(tf.strings.substr(data, -2, 2), _JPEG_END)
    is_suspect = is_jpeg & has_end & has_plain_corner(pixels)
    return tf.cond(is_suspect, without_end_is_equal, lambda: True)


def has_plain_corner(pixels: tf.Tensor) -> tf.Tensor:
    """Whether the pixels of the last corner have one colour, a bool scalar."""
    return tf.reduce_all(tf.equal(pixels[-4:, -4:], pixels[-1, -1]))


def as_pixels(pixels: tf.Tensor) -> tf.Tensor:
    """Decoded pixels serialized as a string, which `decode_window` accepts as an image."""
    return tf.io.serialize_tensor(pixels)


def decode_window(
    data: tf.Tensor, orientation: tf.Tensor | int, choose: Choose, size: int | tuple[int, int]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Only the window that `choose` picks, at a resolution of at least `size` if the image has it.

    Args:
        data, orientation: as in `decode`, or a result of `as_pixels` with orientation 1.
        choose: function from height, width (int32, upright) to a window y, x, h, w (int32).
        size: (height, width) that the window will be resized to, or the side of a square.

    Returns:
        uint8 `(h', w', 3)`: the pixels around the window, of a photo that is not `SMALL` possibly
        shrunk by 2, 4 or 8; and float32 `(4,)`: y, x, h, w of the window in these pixels, which
        may be fractional after shrinking.
    """

    def parse() -> tf.Tensor:
        return tf.ensure_shape(tf.io.parse_tensor(data, tf.uint8), [None, None, 3])

    def crop_whole() -> tuple[tf.Tensor, tf.Tensor]:
        pixels = tf.cond(_has_pixels(data), parse, lambda: decode(data, orientation))
        shape = tf.shape(pixels)
        y, x, h, w = choose(shape[0], shape[1])
        return tf.image.crop_to_bounding_box(pixels, y, x, h, w), whole_box(h, w)

    def crop_jpeg() -> tuple[tf.Tensor, tf.Tensor]:
        shape = tf.io.extract_jpeg_shape(data)
        flips = _flips(orientation, tf.int32)
        *_, height, width = flips.swapped((0, 0, shape[0], shape[1]))
        chosen = choose(height, width)
        y, x, h, w = flips.stored(chosen, height, width)

        least_h, least_w = (size, size) if isinstance(size, int) else size
        shrink = tf.minimum(chosen[2] // least_h, chosen[3] // least_w)
        halvings = tf.reduce_sum(tf.cast(shrink >= [2, 4, 8], tf.int32))
        ratio = tf.bitwise.left_shift(1, halvings)
        # libjpeg counts the window in the pixels of the shrunken image.
        top, left = y // ratio, x // ratio
        bottom, right = -(-(y + h) // ratio), -(-(x + w) // ratio)
        # Colour is stored at a lower resolution and interpolated: one more column on either side
        # gives the outermost columns of the window the same colour as in the whole image.
        begin, end = tf.maximum(left - 1, 0), tf.minimum(right + 1, -(-shape[1] // ratio))
        window = tf.stack([top, begin, bottom - top, end - begin])

        def decode_at(ratio: int) -> tf.Tensor:
            return tf.image.decode_and_crop_jpeg(
                data, window, channels=3, ratio=ratio, dct_method=_DCT
            )

        wider = tf.switch_case(halvings, [partial(decode_at, ratio) for ratio in (1, 2, 4, 8)])
        stored = wider[:, left - begin : right - begin]
        box = tf.stack([y - top * ratio, x - left * ratio, h, w])
        box = tf.cast(box, tf.float32) / tf.cast(ratio, tf.float32)
        sides = tf.unstack(tf.cast(tf.shape(stored), tf.float32), num=3)
        box = _flips(orientation, tf.float32).displayed(tf.unstack(box, num=4), *sides[:2])
        return turn(stored, orientation), tf.stack(box)

    pixels, box = tf.cond(_is_photo(data, orientation), crop_jpeg, crop_whole)
    pixels.set_shape([None, None, 3])
    return pixels, box


def _has_pixels(data: tf.Tensor) -> tf.Tensor:
    """Whether `data` is from `as_pixels`: the first field of a serialized tensor is its type, here
    uint8, the second its shape. No image format begins with these bytes."""
    return tf.equal(tf.strings.substr(data, 0, 3), b"\x08\x04\x12")


def _is_photo(data: tf.Tensor, orientation: tf.Tensor | int) -> tf.Tensor:
    """Whether `data` is a JPEG above `SMALL`, or above `LARGE` if it has to be turned."""
    return _is_jpeg_above(data, tf.where(tf.less_equal(orientation, 1), SMALL, LARGE))


def _is_jpeg_above(data: tf.Tensor, count: tf.Tensor | int) -> tf.Tensor:
    """Whether `data` is a JPEG of more than `count` pixels."""

    def is_large() -> tf.Tensor:
        shape = tf.io.extract_jpeg_shape(data, tf.int64)  # up to 65535 × 65535
        return tf.reduce_prod(shape[:2]) > tf.cast(count, tf.int64)

    return tf.cond(tf.io.is_jpeg(data), is_large, lambda: False)


def _flips(orientation: tf.Tensor | int, dtype: tf.DType) -> Flips:
    return Flips(*(tf.cast(tf.reduce_any(tf.equal(orientation, some)), dtype) for some in FLIPPED))


def whole_box(height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """The box y, x, h, w of a whole image of this size: float32 `(4,)`."""
    return tf.cast(tf.stack([0, 0, height, width]), tf.float32)


def _opaque(data: tf.Tensor) -> tf.Tensor:
    return tf.cond(
        tf.io.is_jpeg(data),
        lambda: decode_jpeg(data),
        lambda: tf.io.decode_image(data, channels=3, expand_animations=False),
    )


def _with_alpha(data: tf.Tensor) -> tf.Tensor:
    """uint8 `(h, w, c)`, with the image's own 1 to 4 channels."""
    # With channels=4 TensorFlow makes a palette transparent; with channels=0 it aborts the process
    # on an animated WebP without alpha, for which channels=4 raises an error.
    head = tf.strings.substr(data, 0, 21) + b"\0" * 21  # a short file has no flags
    flags = tf.io.decode_raw(tf.strings.substr(head, 20, 1), tf.uint8)[0]
    has_flags = tf.equal(tf.strings.substr(head, 8, 8), b"WEBPVP8X")
    animated = tf.logical_and(has_flags, tf.equal(tf.bitwise.bitwise_and(flags, 2), 2))
    return tf.cond(
        animated,
        lambda: tf.io.decode_image(data, channels=4, expand_animations=False),
        lambda: tf.io.decode_image(data, channels=0, expand_animations=False),
    )


def _on_white(pixels: tf.Tensor) -> tf.Tensor:
    """Composites uint8 grey, grey + alpha, RGB or RGBA `(h, w, c)` on white: uint8 `(h, w, 3)`."""
    channels = tf.shape(pixels)[2]
    has_alpha = tf.equal(channels % 2, 0)

    def blend() -> tf.Tensor:
        # uint16 is sufficient: the maximum is 255 * 255 + 127.
        colour, alpha = tf.cast(pixels[..., :-1], tf.uint16), tf.cast(pixels[..., -1:], tf.uint16)
        return tf.cast((colour * alpha + (255 - alpha) * 255 + 127) // 255, tf.uint8)

    colour = tf.cond(has_alpha, blend, lambda: pixels)
    return tf.broadcast_to(colour, tf.concat([tf.shape(pixels)[:2], [3]], 0))
