"""Which image size, and which learning rate, at which point of a run."""

import keras
from keras import ops

from keras_resnet import specs


def steps_per_epoch(config, images):
    """The steps of an epoch of so many training images."""
    return max(round(images / config.batch_size), 1)


def epoch_sizes(config):
    """The image size of every epoch: `config.size_steps`, rounded to a multiple of the network's
    total stride.

    >>> epoch_sizes(Config(epochs=4, image_size=64, size_steps=((0.5, 0.5), (0.5, 1.0))))
    [32, 32, 64, 64]
    """
    multiple = specs.SPECS[config.model].total_stride
    ends, passed = [], 0.0
    for share, scale in config.size_steps:
        passed += share
        pixels = round(config.side * scale / multiple) * multiple
        ends.append((round(passed * config.epochs), max(pixels, multiple)))
    sizes = [
        next((size for end, size in ends if epoch < end), config.side)
        for epoch in range(config.epochs)
    ]
    sizes[-1] = config.side  # a run of one epoch has one size
    return sizes


def training_size(config, size):
    """The side of the training images where `size` pixels are judged: `config.train_size` of it.

    A net sees things larger in random crops than in the middle crop that judges it, so it gains by
    being judged on larger images than it was trained on (arXiv:1906.06423).
    """
    return max(round(config.train_size * size), specs.SPECS[config.model].total_stride)


def learning_rate(config, steps_per_epoch):
    """Linear warm-up from 0, then a cosine to 0 at the last step (arXiv:1608.03983), or
    `config.rate_drops`.

    Over the optimizer's updates, one for `config.accumulate` steps. The warm-up takes at most a
    quarter of a short run.
    """
    total = max(config.epochs * steps_per_epoch // config.accumulate, 1)
    warmup = round(config.warmup_epochs * steps_per_epoch / config.accumulate)
    warmup, peak = min(warmup, total // 4), config.peak_rate
    if config.rate_drops:
        drops = [round(share * total) for share in config.rate_drops]
        return StepDecay(peak, drops, warmup)
    if warmup == 0:
        return keras.optimizers.schedules.CosineDecay(peak, total)
    return keras.optimizers.schedules.CosineDecay(
        0.0, total - warmup, warmup_target=peak, warmup_steps=warmup
    )


class StepDecay(keras.optimizers.schedules.LearningRateSchedule):
    """`peak`, a tenth of it from each of the steps `drops` on; before, a linear warm-up from 0.

    Keras' PiecewiseConstantDecay has no warm-up.
    """

    def __init__(self, peak, drops, warmup_steps=0):
        super().__init__()
        self._peak, self._drops, self._warmup = peak, list(drops), warmup_steps

    def __call__(self, step):
        step = ops.cast(step, "float32")
        passed = sum(ops.cast(step >= drop, "float32") for drop in self._drops)
        rise = ops.minimum(step / max(self._warmup, 1), 1.0) if self._warmup else 1.0
        return self._peak * rise * ops.power(0.1, passed)

    def get_config(self):
        return {"peak": self._peak, "drops": self._drops, "warmup_steps": self._warmup}
