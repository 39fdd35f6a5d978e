"""Decodes images once: to check them and, if they are small, to keep them in memory.

One parallel pass does both, without Python in the loop. Images kept decoded give the same pixels,
bit for bit, at a lower cost.
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from PIL import Image

from keras_resnet import progress
from keras_resnet.data import memory
from keras_resnet.data.decode import (
    SMALL,
    as_pixels,
    as_written,
    decode_jpeg,
    decode_to_check,
    has_plain_corner,
    is_complete,
    turn,
)
from keras_resnet.data.examples import Examples
from keras_resnet.messages import log

MOST_BYTES = 1 << 30  # and at most a quarter of the memory that this process may still take
_HEADER = 20  # bytes of a kept image beyond its pixels, about


Shape = tuple[int, int, int]  # width, height and bytes, as encoded, of an image
BLOCK = 32  # images that are decoded by one unrolled graph


def decodable(examples: Examples) -> Iterator[list[int]]:
    """Decodes all images; yields the numbers of the good ones, a few at a time."""

    @as_written
    def one(number: tf.Tensor, item: tf.Tensor, *_: tf.Tensor) -> tf.Tensor:
        return _after_decoding(number, examples.read(item))

    stream = examples.all().map(one, num_parallel_calls=tf.data.AUTOTUNE)
    for numbers in stream.ignore_errors().batch(64).as_numpy_iterator():
        yield numbers.tolist()


def budget() -> int:
    """Bytes that decoded images may take in memory."""
    return min(MOST_BYTES, memory.available() // 4)


def fits(shapes: Iterable[Shape]) -> bool:
    """Whether to keep images decoded: they fit into memory, and most of them are small.

    `decode.SMALL` defines small. Of a larger image only a window is decoded, which may be faster
    and whose last bits differ: larger images are kept encoded, if they are few.

    Args:
        shapes: width, height and size in bytes, as encoded, of each image.
    """
    left, large = budget(), 0
    for i, (width, height, size) in enumerate(shapes):
        is_large = width * height > SMALL
        large += is_large
        left -= size if is_large else 3 * width * height + _HEADER
        if left < 0 or large > 10 + i // 10:
            return False
    return True


def preload(examples: Examples, shapes: Sequence[Shape]) -> tuple[Examples, npt.NDArray[np.int64]]:
    """Decodes all images and keeps them: `(examples, good)`.

    Plain small images are decoded a block at a time: for one of 32×32 pixels, its own stream
    element and the check of its format cost three times as much as the decoding. A block with
    anything else in it, or anything broken, is left to the general decoder, one by one, with what
    does not fill one.

    Args:
        examples: encoded images.
        shapes: as in `fits`.

    Returns:
        examples: those that could be decoded, in order, in one tensor in memory.
        good: the numbers, in `examples`, of those that could be.
    """
    done, small = [], []  # numbers, and which of them are small, as they come

    def advance(numbers: npt.NDArray[np.int64], is_small: npt.NDArray[np.bool_]) -> np.int64:
        done.extend(numbers.tolist())
        small.extend(is_small.tolist())
        show(len(numbers))
        return np.int64(len(done))

    @as_written
    def note(numbers: tf.Tensor, is_small: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        with tf.control_dependencies([tf.numpy_function(advance, [numbers, is_small], tf.int64)]):
            return tf.identity(items)

    @as_written
    def others(_: tf.Tensor) -> tf.data.Dataset:  # read after all blocks
        numbers = tf.numpy_function(
            lambda: np.setdiff1d(np.arange(len(examples)), done), [], tf.int64
        )
        numbers = tf.ensure_shape(numbers, [None])
        return tf.data.Dataset.from_tensor_slices((numbers, numbers))

    @as_written
    def block(
        numbers: tf.Tensor, items: tf.Tensor, *_: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        encoded = [examples.read(item) for item in tf.unstack(items)]
        return numbers, tf.fill([BLOCK], True), _plain_pixels(encoded)

    @as_written
    def one(
        number: tf.Tensor, item: tf.Tensor, orientation: tf.Tensor, _: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        data = examples.read(item)
        stored = decode_to_check(data)
        with tf.control_dependencies(_checks(data, stored)):
            pixels = tf.identity(stored) if are_upright else turn(stored, orientation)
            is_small = tf.reduce_prod(tf.shape(pixels)[:2]) <= SMALL
            return number, is_small, tf.cond(is_small, lambda: as_pixels(pixels), lambda: data)

    are_upright = bool((examples.orientations == 1).all())  # most are; to turn costs time
    how = {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": True}
    plain = [width * height <= SMALL for width, height, _ in shapes] & (examples.orientations == 1)
    numbers = np.flatnonzero(plain)
    plain = tf.data.Dataset.from_tensor_slices((numbers, numbers)).batch(BLOCK, True)
    # Many are looked up at once: tf.data adds up the size of all items each time.
    blocks = examples.look_up_blocks(plain.batch(BLOCK)).unbatch()
    quick = blocks.map(block, **how).ignore_errors()
    rest = tf.data.Dataset.from_tensors(0).flat_map(others)
    singles = examples.look_up_blocks(rest.batch(BLOCK * BLOCK)).unbatch()
    slow = singles.map(one, **how).ignore_errors().batch(BLOCK)
    stream = quick.concatenate(slow).map(note).unbatch()
    with progress.bar(len(examples), "decoding images", "images") as show:
        # A single batch, for images are moved into it, not copied; none, if no image is good.
        for items in stream.batch(len(examples)):
            rows = np.argsort(done)
            good = np.array(done)[rows]
            kept = examples.take(good)
            turns = np.where(np.array(small)[rows], np.int32(1), kept.orientations)
            return replace(kept, items=items, rows=rows, read=_decoded, orientations=turns), good
    return examples.take([]), np.zeros(0, np.int64)


def _plain_pixels(encoded: list[tf.Tensor]) -> tf.Tensor:
    """`as_pixels` of images that are stored plainly, `(n,)`; an error if one of them is not.

    Plain are a JPEG, and a PNG in grey or RGB, which has no alpha and no palette: these are what
    `decode` handles without a check of each image.
    """
    joined = tf.stack(encoded)
    is_png = tf.equal(tf.strings.substr(joined, 0, 4), b"\x89PNG")
    colour = tf.strings.substr(joined, 25, 1)
    is_png &= tf.equal(colour, b"\0") | tf.equal(colour, b"\2")
    is_plain = is_png | tf.equal(tf.strings.substr(joined, 0, 3), b"\xff\xd8\xff")
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(is_plain), ["not plain"])]):
        pixels = [decode_jpeg(data) for data in encoded]
    shapes = tf.stack([tf.shape(image) for image in pixels])
    is_kept = tf.reduce_all(shapes > 0) & tf.reduce_all(tf.reduce_prod(shapes[:, :2], 1) <= SMALL)
    has_end = is_png | ~tf.stack([has_plain_corner(image) for image in pixels])
    is_kept &= tf.reduce_all(has_end)
    with tf.control_dependencies([tf.debugging.Assert(is_kept, ["not small, or not complete"])]):
        return tf.stack([as_pixels(image) for image in pixels])


def _decoded(item: tf.Tensor) -> tf.Tensor:
    return item


def preload_splits(splits: dict[str, Examples]) -> dict[str, Examples]:
    """Splits of encoded images in memory or in records, kept decoded if they all `fit`."""
    encoded = {k: v for k, v in splits.items() if v.item_tensor.dtype != tf.uint8}
    shapes = {name: list(_shapes(examples)) for name, examples in encoded.items()}
    if not encoded or not fits(chain.from_iterable(shapes.values())):
        return splits
    kept = {name: preload(examples, shapes[name]) for name, examples in encoded.items()}
    if any(len(good) < len(encoded[name]) for name, (_, good) in kept.items()):
        return splits  # training stops at a broken image
    return splits | {name: examples for name, (examples, _) in kept.items()}


def log_preloaded(splits: dict[str, Examples]) -> None:
    """Logs the memory used by images kept decoded."""
    kept = [examples for examples in splits.values() if examples.read is _decoded]
    tensors = {id(examples.items): examples.item_tensor for examples in kept}.values()
    if tensors:
        size = sum(int(tf.reduce_sum(tf.cast(tf.strings.length(t), tf.int64))) for t in tensors)
        count = sum(map(len, kept))
        log.info(f"{count:,} images are kept decoded in memory: {size / 1e6:,.0f} MB")


def _shapes(examples: Examples) -> Iterator[Shape]:
    """Width, height and size of each encoded image; a broken one counts as empty."""
    for i in range(len(examples)):
        data = examples.image(i).numpy()
        try:
            yield *Image.open(io.BytesIO(data)).size, len(data)
        except OSError:
            yield 0, 0, 0


def _checks(data: tf.Tensor, pixels: tf.Tensor) -> list[tf.Operation]:
    """Errors for what the decoder lets pass."""
    return [
        tf.debugging.assert_positive(tf.shape(pixels)),
        tf.debugging.Assert(is_complete(data, pixels), ["pixels are missing"]),
    ]


@tf.function(autograph=False)  # traced once, however many folders are checked
def _after_decoding(number: tf.Tensor, data: tf.Tensor) -> tf.Tensor:
    pixels = decode_to_check(data)
    with tf.control_dependencies(_checks(data, pixels)):
        return tf.identity(number)
