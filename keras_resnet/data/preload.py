"""Images are decoded once: to check them, and, where they are small, to keep them in memory.

Both in one pass, in parallel, without Python in the loop. Kept decoded, an image gives the same
pixels, bit for bit, for less work.
"""

import io
from dataclasses import replace
from itertools import chain

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_resnet import progress
from keras_resnet.data import memory
from keras_resnet.data.decode import SMALL, as_pixels, decode, decode_stored
from keras_resnet.data.examples import from_bytes

MOST_BYTES = 1 << 30  # and at most a quarter of the memory that this process may still take
_HEADER = 20  # bytes of a kept image beyond its pixels, about


def decodable(examples):
    """Decodes all images; yields the numbers of those that can be, some at a time."""
    if not len(examples):
        return

    def one(number, item, *_):
        return _after_decoding(number, examples.read(item))

    stream = examples.all().map(one, num_parallel_calls=tf.data.AUTOTUNE)
    with progress.bar(len(examples), "checking images", "images") as advance:
        for batch in stream.ignore_errors().batch(64).as_numpy_iterator():
            yield batch.tolist()
            advance(len(batch))


def fits(shapes):
    """Whether images belong in memory: small ones, with few larger ones between, not too many.

    Small is what the decoder calls so. Of a larger image it decodes less than the whole, which is
    not the same to the last bit and may be the quicker: such are kept as they are, if they are few.

    Args:
        shapes: width, height and size in bytes, as encoded, of each image.
    """
    room, large = min(MOST_BYTES, memory.available() // 4), 0
    for i, (width, height, size) in enumerate(shapes):
        is_large = width * height > SMALL
        large += is_large
        room -= size if is_large else 3 * width * height + _HEADER
        if room < 0 or large > 10 + i // 10:
            return False
    return True


def keep(examples):
    """Decodes all images and keeps them: `(examples, good)`.

    Returns:
        examples: those that could be decoded, in order, in one tensor in memory.
        good: the numbers, in `examples`, of those that could be.
    """

    are_upright = bool((examples.orientations == 1).all())  # most are; to turn costs time

    def one(number, item, orientation, _):
        data = examples.read(item)
        pixels = decode_stored(data) if are_upright else decode(data, orientation)
        with tf.control_dependencies([tf.debugging.assert_positive(tf.shape(pixels))]):
            is_small = tf.reduce_prod(tf.shape(pixels)[:2]) <= SMALL
            return number, is_small, tf.cond(is_small, lambda: as_pixels(pixels), lambda: data)

    stream = examples.all().map(one, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    # A single batch, for images are moved into it, not copied; none, if no image is good.
    for good, is_small, items in stream.ignore_errors().batch(len(examples)):
        kept = examples.take(good)
        turns = np.where(is_small, 1, kept.orientations)
        return replace(from_bytes(items, kept.labels, kept.names, turns), read=_kept), good.numpy()
    return examples.take([]), np.zeros(0, np.int64)


def _kept(item):
    return item


def keep_splits(splits):
    """Splits of encoded images in memory or in records, kept decoded if they all `fit`."""
    encoded = {k: v for k, v in splits.items() if v.items.dtype != tf.uint8}
    if not encoded or not fits(chain.from_iterable(map(_shapes, encoded.values()))):
        return splits
    kept = {name: keep(examples) for name, examples in encoded.items()}
    if any(len(good) < len(encoded[name]) for name, (_, good) in kept.items()):
        return splits  # training stops at what is broken
    return splits | {name: examples for name, (examples, _) in kept.items()}


def say_kept(splits):
    """Tells how much memory is taken by what `keep` kept."""
    kept = [examples for examples in splits.values() if examples.read is _kept]
    tensors = {id(examples.items): examples.items for examples in kept}.values()
    if tensors:
        size = sum(int(tf.reduce_sum(tf.cast(tf.strings.length(t), tf.int64))) for t in tensors)
        count = sum(map(len, kept))
        progress.say(f"{count:,} images are kept decoded in memory: {size / 1e6:,.0f} MB")


def _shapes(examples):
    """Width, height and size of each encoded image; a broken one counts as empty."""
    for i in range(len(examples)):
        data = examples.image(i).numpy()
        try:
            yield *Image.open(io.BytesIO(data)).size, len(data)
        except OSError:
            yield 0, 0, 0


@tf.function(autograph=False)  # traced once, however many folders are checked
def _after_decoding(number, data):
    pixels = decode_stored(data)
    with tf.control_dependencies([tf.debugging.assert_positive(tf.shape(pixels))]):
        return tf.identity(number)
