"""Decodes images once: to check them and, if they are small, to keep them in memory.

One parallel pass does both, without Python in the loop. Decoded images in memory have the same
pixels, bit for bit, and are faster to read.
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

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

MOST_BYTES = 1 << 30  # and at most a quarter of the available memory
_HEADER = 20  # approximate number of bytes of a decoded image in addition to its pixels


Shape = tuple[int, int, int]  # width, height and encoded size in bytes of an image
BLOCK = 32  # images decoded by one unrolled graph


def decodable(examples: Examples) -> Iterator[list[int]]:
    """Decodes all images; yields lists of the numbers of the good ones."""

    @as_written
    def one(number: tf.Tensor, item: tf.Tensor, *_: tf.Tensor) -> tf.Tensor:
        return _after_decoding(number, examples.read(item))

    stream = examples.all().map(one, num_parallel_calls=tf.data.AUTOTUNE)
    for numbers in stream.ignore_errors().batch(64).as_numpy_iterator():
        yield numbers.tolist()


def budget() -> int:
    """Maximum number of bytes for decoded images in memory."""
    return min(MOST_BYTES, memory.available() // 4)


def fits(shapes: Iterable[Shape]) -> bool:
    """Whether to keep images decoded: they fit into memory, and most of them are small.

    `decode.SMALL` defines small. Of a larger image only a window is decoded, which may be faster
    and differs in the last bits, so a few larger images stay encoded.

    Args:
        shapes: width, height and encoded size in bytes of each image.
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

    Plain small images are decoded in blocks: for an image of 32×32 pixels, a separate stream
    element and the check of its format take three times as long as the decoding. Blocks that
    contain other or broken images, and the last incomplete block, are decoded image by image with
    the general decoder.

    Args:
        examples: encoded images.
        shapes: as in `fits`.

    Returns:
        examples: the good images, in order, in one tensor in memory.
        good: their numbers in the given `examples`.
    """
    done, small = [], []  # numbers, and whether they are small, in the order of decoding

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

    are_upright = bool((examples.orientations == 1).all())  # usual; turning takes time
    how = {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": True}
    plain = [width * height <= SMALL for width, height, _ in shapes] & (examples.orientations == 1)
    numbers = np.flatnonzero(plain)
    plain = tf.data.Dataset.from_tensor_slices((numbers, numbers)).batch(BLOCK, True)
    # Many are looked up at once, because tf.data sums the sizes of all items each time.
    blocks = examples.look_up_blocks(plain.batch(BLOCK)).unbatch()
    quick = blocks.map(block, **how).ignore_errors()
    rest = tf.data.Dataset.from_tensors(0).flat_map(others)
    singles = examples.look_up_blocks(rest.batch(BLOCK * BLOCK)).unbatch()
    slow = singles.map(one, **how).ignore_errors().batch(BLOCK)
    stream = quick.concatenate(slow).map(note).unbatch()
    with progress.bar(len(examples), "decoding images", "images") as show:
        # A single batch, because images are moved into it, not copied; no batch if none is good.
        for items in stream.batch(len(examples)):
            rows = np.argsort(done)
            good = np.array(done)[rows]
            kept = examples.take(good)
            turns = np.where(np.array(small)[rows], np.int32(1), kept.orientations)
            return replace(kept, items=items, rows=rows, read=_decoded, orientations=turns), good
    return examples.take([]), np.zeros(0, np.int64)


def _plain_pixels(encoded: list[tf.Tensor]) -> tf.Tensor:
    """`as_pixels` of plain images, `(n,)`; an error if one of them is not plain, small or complete.

    Plain images are JPEGs, and PNGs in grey or RGB without alpha and palette: for these, `decode`
    needs no check of each image.
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
    """The splits, with encoded images (in memory or records) decoded into memory if all fit."""
    encoded = {k: v for k, v in splits.items() if v.item_tensor.dtype != tf.uint8}
    shapes: dict[str, list[Shape]] = {name: [] for name in encoded}

    def read() -> Iterator[Shape]:  # no more images than `fits` looks at
        for name, examples in encoded.items():
            for shape in _shapes(examples):
                shapes[name].append(shape)
                yield shape

    if not encoded or not fits(read()):
        return splits
    kept = {name: preload(examples, shapes[name]) for name, examples in encoded.items()}
    if any(len(good) < len(encoded[name]) for name, (_, good) in kept.items()):
        return splits  # training stops at a broken image
    return splits | {name: examples for name, (examples, _) in kept.items()}


def log_preloaded(splits: dict[str, Examples]) -> None:
    """Logs the memory used by decoded images."""
    kept = [examples for examples in splits.values() if examples.read is _decoded]
    tensors = {id(examples.items): examples.item_tensor for examples in kept}.values()
    if tensors:
        size = sum(int(tf.reduce_sum(tf.cast(tf.strings.length(t), tf.int64))) for t in tensors)
        count = sum(map(len, kept))
        log.info(f"{count:,} images are kept decoded in memory: {size / 1e6:,.0f} MB")


def _shapes(examples: Examples) -> Iterator[Shape]:
    """Width, height and size in bytes of each encoded image; zeros for a broken one."""
    for i in range(len(examples)):
        data = examples.image(i).numpy()
        try:
            yield *Image.open(io.BytesIO(data)).size, len(data)
        except OSError:
            yield 0, 0, 0


def _checks(data: tf.Tensor, pixels: tf.Tensor) -> list[tf.Operation]:
    """Assertions for errors that the decoder does not report."""
    return [
        tf.debugging.assert_positive(tf.shape(pixels)),
        tf.debugging.Assert(is_complete(data, pixels), ["pixels are missing"]),
    ]


@tf.function(autograph=False)  # traced once for all folders
def _after_decoding(number: tf.Tensor, data: tf.Tensor) -> tf.Tensor:
    pixels = decode_to_check(data)
    with tf.control_dependencies(_checks(data, pixels)):
        return tf.identity(number)
