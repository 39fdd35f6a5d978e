"""Small images are decoded once and kept in memory: the same pixels, bit for bit, for less work."""

import io
import os
from dataclasses import replace

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_resnet import progress
from keras_resnet.data.decode import SMALL, decode
from keras_resnet.data.examples import from_bytes

MOST_BYTES = 1 << 30  # and at most a quarter of the machine's memory


def keep_decoded(source):
    """A `Source` whose images are decoded, or `source` itself where they are large or too many.

    Small is what the decoder calls so. Of a larger image it decodes less than the whole, which is
    not the same to the last bit and may be the quicker: such are kept as they are, if they are few.
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
        progress.say(f"{count:,} images are kept decoded in memory: {total / 1e6:.0f} MB")
    return replace(source, splits=splits)


def _decoded(examples, room):
    """(Examples in memory, bytes that they take); None if they do not belong there."""
    fetch, kept, large = examples.fetcher(), [], []
    if fetch(0)[0].dtype != tf.string:
        return examples, 0  # pixels already

    @tf.autograph.experimental.do_not_convert  # as in `stream`
    def read(i):
        data, orientation, _ = fetch(i)
        return data, decode(data, orientation)

    images = tf.data.Dataset.range(len(examples)).map(read, num_parallel_calls=tf.data.AUTOTUNE)
    for i, (data, pixels) in enumerate(images.as_numpy_iterator()):
        if pixels.shape[0] * pixels.shape[1] > SMALL:
            large.append(i)
        else:
            data = _as_bitmap(pixels)
        kept.append(data)
        room -= len(data)
        if room < 0 or len(large) > 10 + i // 10:
            return None
    orientations = np.ones(len(kept), np.int32)
    orientations[large] = examples.orientations[large]
    in_memory = from_bytes(kept, examples.labels, examples.names, orientations)
    return in_memory, sum(map(len, kept))


def _as_bitmap(pixels):
    """uint8 `(h, w, 3)` as a BMP file: encoded like its larger neighbours, yet read by copying."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "BMP")
    return buffer.getvalue()


def _memory():
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
