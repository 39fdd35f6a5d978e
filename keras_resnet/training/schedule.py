"""Which image size, and which learning rate, at which point of a run."""

import keras
from keras import ops


def epoch_sizes(config, multiple):
    """The image size of every epoch: `config.size_steps`, rounded to a `multiple` of pixels.

    >>> epoch_sizes(Config(epochs=4, image_size=64, size_steps=((0.5, 0.5), (0.5, 1.0))), 4)
    [32, 32, 64, 64]
    """
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


def training_size(config, size, least):
    """The side of the training images where `size` pixels are judged: `config.train_size` of it.

    A net sees things larger in random crops than in the middle crop that judges it, so it gains by
    being judged on larger images than it was trained on (arXiv:1906.06423).
    """
    return max(round(config.train_size * size), least)


def segments(sizes):
    """Runs of equal size as (first epoch, last epoch + 1, size).

    >>> list(segments([32, 32, 64]))
    [(0, 2, 32), (2, 3, 64)]
    """
    first = 0
    for epoch in range(1, len(sizes) + 1):
        if epoch == len(sizes) or sizes[epoch] != sizes[first]:
            yield first, epoch, sizes[first]
            first = epoch


def spans(sizes, steps_per_epoch, done):
    """What is left of a run after `done` steps as (first step, last step + 1, size), one for each
    call of `fit`: the rest of a begun epoch, then whole epochs of one size.

    >>> list(spans([32, 32, 64], steps_per_epoch=10, done=15))
    [(15, 20, 32), (20, 30, 64)]
    """
    for first, last, size in segments(sizes):
        begin, end = max(first * steps_per_epoch, done), last * steps_per_epoch
        whole = -(-begin // steps_per_epoch) * steps_per_epoch
        if begin < min(whole, end):
            yield begin, whole, size
        if whole < end:
            yield whole, end, size


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
