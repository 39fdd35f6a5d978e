"""Batches for training and evaluation.

The training stream is addressed by the global sample number i: the image and its random crop, flip,
brightness and augmentation depend only on the seed and i, and the mixing of a batch on the seed and
the number of its first sample. A stream from step s is therefore, bit for bit, the tail of the
stream from step 0, as an exact resume requires. Each of several devices finds its part of a batch
by index arithmetic: no image is decoded on two devices.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_resnet.config import Config
from keras_resnet.data.decode import as_written
from keras_resnet.data.examples import Examples
from keras_resnet.data.mixing import make_mixer
from keras_resnet.data.order import make_order
from keras_resnet.data.randaugment import randaugment, trivialaugment
from keras_resnet.data.sources import Source
from keras_resnet.data.views import center_view, erase, random_view, with_channels
from keras_resnet.geometry import Geometry


class Share(NamedTuple):
    """One machine's part of each batch, which is divided into `parts` equal parts, one per device
    of all machines: `count` parts starting with number `first`."""

    parts: int = 1
    first: int = 0
    count: int = 1  # type: ignore[assignment]  # the name of a method of tuples

    def sample(self, n: tf.Tensor, batch: int) -> tf.Tensor:
        """The global number of the `n`-th sample of this share; `batch` is the full batch size."""
        rows = batch // self.parts
        own = rows * self.count
        return n // own * batch + self.first * rows + n % own


WHOLE = Share()


def training_stream(
    source: Source,
    config: Config,
    *,
    size: int,
    first_step: int,
    last_step: int,
    share: Share = WHOLE,
) -> tf.data.Dataset:
    """Batches `first_step` to `last_step` - 1 of a run.

    Each pass over the training images has its own order and includes every image once; see
    `data.order` for balanced classes and repeated images.

    Args:
        source: a `Source`; its "train" split is streamed.
        config: a `Config`.
        size: shorter side of the images in pixels.
        first_step, last_step: global step numbers.
        share: this machine's parts of each batch, of b = `config.batch_size` / `share.parts` images
            each. MixUp and CutMix mix images within a part.

    Returns:
        tf.data.Dataset of (uint8 `(b, h, w, c)`, float32 targets `(b, k)`), with `share.count`
        elements per step.
    """
    train = source.splits["train"]
    classes = len(source.classes)
    place = make_order(
        train.labels,
        config.seed,
        repeats=config.repeats,
        balanced=config.balance == "sample",
    )
    flip = source.mirrors if config.flip is None else config.flip
    form = config.geometry.scaled(size)
    view = _graph(
        random_view,
        size=form,
        pad=config.pad,
        area=config.crop_area,
        aspect=config.crop_aspect,
        flip=flip,
        brightness=config.brightness,
    )
    ops, magnitude = config.randaugment
    augment = _graph(
        randaugment,
        ops=ops,
        magnitude=magnitude,
        prob=config.randaugment_prob,
        std=config.randaugment_std,
    )
    batch, part = config.batch_size, config.batch_size // share.parts
    own = part * share.count

    @as_written
    def places(n: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        i = share.sample(n, batch)
        return i, place(i)

    @as_written
    def sample(
        i: tf.Tensor, item: tf.Tensor, orientation: tf.Tensor, label: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        def seed(kind: int) -> tf.Tensor:
            return tf.stack([tf.constant(config.seed, tf.int64), i * _SEEDS_PER_SAMPLE + kind])

        image = view(train.read(item), orientation, seed(_VIEW))
        if ops:
            image = augment(image, seed(_RANDAUGMENT))
        if config.trivialaugment:
            image = _graph(trivialaugment)(image, seed(_RANDAUGMENT))
        if config.erasing:
            image = _graph(erase, share=config.erasing)(image, seed(_ERASING))
        return with_channels(image, form.channels), tf.one_hot(label, classes)

    numbers = tf.data.Dataset.range(first_step * own, last_step * own)
    numbers = numbers.batch(_PLACES).map(places).unbatch()
    batches = (
        train.look_up(numbers)
        .map(sample, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .batch(part, drop_remainder=True)
    )
    mixer = make_mixer(config.mixup, config.cutmix)
    if mixer:

        @as_written
        def mix(
            number: tf.Tensor, samples: tuple[tf.Tensor, tf.Tensor]
        ) -> tuple[tf.Tensor, tf.Tensor]:
            first = share.sample(number * part, batch)
            seed = tf.stack([config.seed, first * _SEEDS_PER_SAMPLE + _MIXING])
            return mixer(*samples, seed)

        batches = batches.enumerate(first_step * share.count)
        batches = batches.map(mix, num_parallel_calls=tf.data.AUTOTUNE)
    return batches.prefetch(2)


def evaluation_stream(
    examples: Examples, *, size: int | Geometry, crop: float, batch_size: int
) -> tf.data.Dataset:
    """Batches of every image once, in order, including the last partial batch.

    Args:
        examples: the images.
        size: `Geometry` of the images, or the side of a square, in pixels.
        crop: as in `Geometry.window`.
        batch_size: images per batch, b.

    Returns:
        tf.data.Dataset of (uint8 `(b, h, w, c)`, int32 `(b,)`).
    """

    view = _graph(center_view, size=size, crop=crop)

    @as_written
    def sample(
        _: tf.Tensor, item: tf.Tensor, orientation: tf.Tensor, label: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return view(examples.read(item), orientation), label

    return (
        examples.all()
        .map(sample, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .batch(batch_size)
        # For progress bars; TensorFlow cannot infer the number of batches.
        .apply(tf.data.experimental.assert_cardinality(math.ceil(len(examples) / batch_size)))
        .prefetch(2)
    )


def images_of(examples: Examples, *, size: int | Geometry, crop: float) -> npt.NDArray[np.uint8]:
    """All of `examples`, preprocessed as in evaluation: uint8 `(n, h, w, c)`, in order."""
    batches = evaluation_stream(examples, size=size, crop=crop, batch_size=32)
    return np.concatenate([images for images, _ in batches.as_numpy_iterator()])


@functools.cache
def _graph(function: Callable[..., tf.Tensor], **settings: Any) -> Callable[..., tf.Tensor]:
    """A graph of a function with these settings, shared by all streams.

    Tracing the decoder and a view takes about a second, and each epoch has a new stream.
    """
    return tf.function(functools.partial(function, **settings), autograph=False)


# Places in the order are computed for this many samples at once, in a tenth of the time.
_PLACES = 1024
# Each sample has this many consecutive seeds, one for each kind of random number.
_SEEDS_PER_SAMPLE = 16
_VIEW, _RANDAUGMENT, _ERASING, _MIXING = 0, 8, 9, 10  # a view uses several
