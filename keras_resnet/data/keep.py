"""Small images are decoded once and kept in memory: the same pixels, bit for bit, for less work."""

import os
from dataclasses import replace

import numpy as np
import tensorflow as tf

from keras_resnet import progress
from keras_resnet.data.decode import SMALL, decode

MOST_BYTES = 1 << 30  # and at most a quarter of the machine's memory


def keep_decoded(source):
    """A `Source` whose images are decoded, or `source` itself where they are large or too many.

    The images must be small in the decoder's sense: of others it decodes less than the whole,
    which is not the same to the last bit, and may be the quicker.
    """
    room = min(MOST_BYTES, _memory() // 4)
    splits, total = {}, 0
    for name, examples in source.splits.items():
        kept = _decoded(examples, room - total)
        if kept is None:
            return source
        splits[name], size = kept
        total += size
    if total:
        count = sum(map(len, splits.values()))
        progress.say(f"{count:,} small images are kept decoded in memory, {total / 1e6:.0f} MB")
    return replace(source, splits=splits)


def _decoded(examples, room):
    """(Examples that hold their pixels, bytes that takes); None if they do not belong there."""
    if isinstance(examples.items, np.ndarray) and examples.items.ndim == 4:
        return examples, 0  # pixels already
    fetch, images = examples.fetcher(), []
    for pixels in (
        tf.data.Dataset.range(len(examples))
        .map(lambda i: decode(*fetch(i)[:2]), num_parallel_calls=tf.data.AUTOTUNE)
        .as_numpy_iterator()
    ):
        room -= pixels.nbytes
        if pixels.shape[0] * pixels.shape[1] > SMALL or room < 0:
            return None
        images.append(pixels)
    return _holding(examples, images), sum(pixels.nbytes for pixels in images)


def _holding(examples, images):
    """`examples` read from one long row of bytes, for the images differ in size."""
    row = tf.constant(np.concatenate([pixels.reshape(-1) for pixels in images]))
    shapes = np.array([pixels.shape for pixels in images], np.int64)
    ends = tf.constant(np.cumsum(shapes.prod(1)))
    shapes = tf.constant(shapes)

    def read(number):
        shape, end = shapes[number], ends[number]
        pixels = tf.reshape(row[end - tf.reduce_prod(shape) : end], shape)
        return tf.ensure_shape(pixels, [None, None, 3])

    upright = np.ones(len(images), np.int32)
    return replace(examples, items=np.arange(len(images)), read=read, orientations=upright)


def _memory():
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
