"""Schedules of the image size and the learning rate over a run."""

import math
from collections.abc import Iterable
from typing import Any

import keras
from keras import ops

from keras_resnet import specs
from keras_resnet.config import Config, size_plan
from keras_resnet.errors import InputError
from keras_resnet.messages import plural


def steps_per_epoch(batch_size: int, images: int) -> int:
    """The number of steps in an epoch of this number of training images, at least 1."""
    return max(round(images / batch_size), 1)


def require_steps(config: Config, images: int) -> None:
    """Raises InputError if there are fewer training images than a batch needs, or fewer batches in
    the run than an update accumulates."""
    if config.batch_size > images:
        raise InputError(
            f"--batch-size {config.batch_size} is larger than the training set "
            f"({plural(images, 'image')}); an epoch of several steps needs "
            f"{max(images // 4, 1)} or less"
        )
    steps = config.epochs * steps_per_epoch(config.batch_size, images)
    if config.accumulate > steps:
        raise InputError(
            f"--accumulate {config.accumulate} is more than the {steps:,} batches of the run; no "
            f"update would be made; use {steps:,} or less"
        )


def epoch_sizes(config: Config) -> list[int]:
    """The image size of every epoch; see `config.size_plan`.

    >>> epoch_sizes(Config(epochs=6, image_size=64, size_steps=((0.5, 0.5), (0.5, 1.0))))
    [32, 32, 32, 64, 64, 64]
    """
    plan = size_plan(config, specs.of(config.model).total_stride)
    return [size for size, epochs in plan for _ in range(epochs)]


def training_size(config: Config, size: int) -> int:
    """The side of the training images for evaluation at `size` pixels: `config.train_size * size`.

    Objects appear larger in random crops than in the central crop of the evaluation, so evaluation
    on larger images than those of the training improves accuracy (arXiv:1906.06423).
    """
    return max(round(config.train_size * size), specs.of(config.model).total_stride)


def learning_rate(config: Config, steps_per_epoch: int) -> "Schedule":
    """Linear warm-up, then a cosine (arXiv:1608.03983) or `config.rate_drops`; a Keras schedule.

    A step of the schedule is an update of the optimizer, which takes `config.accumulate` batches.
    The warm-up takes at most a quarter of the run.
    """
    total = max(config.epochs * steps_per_epoch // config.accumulate, 1)
    warmup = round(config.warmup_epochs * steps_per_epoch / config.accumulate)
    drops = [round(share * total) for share in config.rate_drops]
    return Schedule(config.peak_rate, total, min(warmup, total // 4), drops)


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A linear warm-up to `peak`, then a cosine to 0, or division by 10 at each of the `drops`.

    The warm-up rises from `peak / warmup_steps` in the first step to `peak` in its last: Keras'
    CosineDecay spends the first step on a rate of 0, and its PiecewiseConstantDecay has no warm-up.
    The cosine reaches 0 one step after the last.

    Args:
        peak: the highest rate.
        total_steps: number of steps in the run.
        warmup_steps: number of these in the warm-up; 0: no warm-up.
        drops: steps at which the rate drops; empty: a cosine.
    """

    def __init__(
        self, peak: float, total_steps: int, warmup_steps: int = 0, drops: Iterable[int] = ()
    ):
        super().__init__()
        self._peak, self._drops = peak, list(drops)
        self._total, self._warmup = total_steps, warmup_steps

    def __call__(self, step: Any) -> keras.KerasTensor:
        step = ops.cast(step, "float32")
        if self._drops:
            passed = sum(ops.cast(step >= drop, "float32") for drop in self._drops)
            share = ops.power(0.1, passed)
        else:
            done = (step - self._warmup) / (self._total - self._warmup)
            share = (1 + ops.cos(math.pi * ops.clip(done, 0.0, 1.0))) / 2
        rise = ops.minimum((step + 1) / self._warmup, 1.0) if self._warmup else 1.0
        return self._peak * rise * share

    def get_config(self) -> dict[str, Any]:
        return {
            "peak": self._peak,
            "total_steps": self._total,
            "warmup_steps": self._warmup,
            "drops": self._drops,
        }
