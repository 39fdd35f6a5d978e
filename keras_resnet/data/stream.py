"""Examples -> batches, for training and for judging.

The training stream is addressed by the global sample number i: which image it is, how it is
cropped, flipped and brightened are functions of the seed and i alone. A stream from step s on is
therefore the tail of the stream from step 0 on, bit for bit: that is what an exact resume needs.
"""

import numpy as np
import tensorflow as tf

from keras_resnet.data.views import center_view, random_view


def training_stream(source, config, *, size, first_step, last_step):
    """Batches `first_step` to `last_step` - 1 of a run.

    Sample number i shows image `shuffle(i mod n)` of pass `i div n` over the n training images;
    each pass has its own order and shows every image once.

    Args:
        source: a `Source`; its "train" split is streamed.
        config: a `Config`.
        size: side of the images in pixels.
        first_step, last_step: global step numbers.

    Returns:
        tf.data.Dataset of (uint8 `(b, size, size, 3)`, float32 one-hot `(b, k)`).
    """
    train = source.splits["train"]
    count, classes = len(train), len(source.classes)
    fetch = train.fetcher()
    flip = source.mirrors if config.flip is None else config.flip

    def sample(i):
        seed = tf.constant(config.seed, tf.int64)
        place = tf.random.experimental.index_shuffle(
            i % count, seed=tf.stack([seed, i // count]), max_index=count - 1
        )
        data, orientation, label = fetch(place)
        image = random_view(
            data,
            orientation,
            tf.stack([seed, i * _SEEDS_PER_SAMPLE]),
            size=size,
            pad=config.pad,
            area=config.crop_area,
            aspect=config.crop_aspect,
            flip=flip,
            brightness=config.brightness,
        )
        return image, tf.one_hot(label, classes)

    batch = config.batch_size
    return (
        tf.data.Dataset.range(first_step * batch, last_step * batch)
        .map(sample, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .batch(batch, drop_remainder=True)
        .prefetch(2)
    )


def evaluation_stream(examples, *, size, crop, batch_size):
    """Every image once, in order, the last partial batch too.

    Returns:
        tf.data.Dataset of (uint8 `(b, size, size, 3)`, int32 `(b,)`).
    """
    fetch = examples.fetcher()

    def sample(i):
        data, orientation, label = fetch(i)
        return center_view(data, orientation, size=size, crop=crop), label

    return (
        tf.data.Dataset.range(len(examples))
        .map(sample, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .batch(batch_size)
        .prefetch(2)
    )


def images_of(examples, *, size, crop):
    """All of `examples` as evaluation shows them: uint8 `(n, size, size, 3)`, in order."""
    batches = evaluation_stream(examples, size=size, crop=crop, batch_size=32)
    return np.concatenate([images for images, _ in batches.as_numpy_iterator()])


# Each sample owns this many consecutive seeds, one for each kind of random number.
_SEEDS_PER_SAMPLE = 16
