"""The loss of a run, for hard or soft targets (label smoothing, mixed images, a teacher)."""

from typing import Protocol

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from keras_resnet.config import Config


class Loss(Protocol):
    """A function of targets `(b, k)` that sum to 1, logits `(b, k)` and, with a teacher, its logits
    `(b, k)`, to losses `(b,)`."""

    def __call__(
        self,
        targets: keras.KerasTensor,
        logits: keras.KerasTensor,
        of_teacher: keras.KerasTensor | None = None,
    ) -> keras.KerasTensor: ...


def make_loss(config: Config, labels: npt.NDArray[np.int32], classes: int) -> Loss:
    """The loss of a run.

    Args:
        config: a `Config`; its `loss`, `bce_threshold`, `label_smoothing`, `balance` and those of
            distillation count.
        labels: int `(n,)`, the classes of the training images.
        classes: how many classes there are, k.
    """
    kind = _binary if config.loss == "bce" else keras.losses.categorical_crossentropy
    weights = class_weights(labels, classes) if config.balance == "loss" else None

    def of_labels(targets: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
        # In this one place, and alike for both losses: arXiv:1512.00567, section 7.
        goal = targets * (1 - config.label_smoothing) + config.label_smoothing / classes
        # After the smoothing, as in timm: smoothed targets are compared, and become 0 or 1.
        if config.loss == "bce" and config.bce_threshold:
            goal = ops.cast(goal > config.bce_threshold, targets.dtype)
        value = kind(goal, logits, from_logits=True)
        return value if weights is None else value * ops.matmul(targets, weights)

    def loss(
        targets: keras.KerasTensor,
        logits: keras.KerasTensor,
        of_teacher: keras.KerasTensor | None = None,
    ) -> keras.KerasTensor:
        own = of_labels(targets, logits)
        if of_teacher is None:
            return own
        other = distillation(logits, of_teacher, config.distill_temperature)
        return (1 - config.distill_weight) * own + config.distill_weight * other

    return loss


def distillation(
    logits: keras.KerasTensor, of_teacher: keras.KerasTensor, temperature: float
) -> keras.KerasTensor:
    """Kullback-Leibler divergence `(b,)` from the teacher's answers to the network's own, both from
    logits `(b, k)` that are divided by the temperature. Times its square, so that the gradients
    keep their size: arXiv:1503.02531, section 2."""
    goal, found = (ops.log_softmax(x / temperature) for x in (of_teacher, logits))
    return temperature**2 * ops.sum(ops.exp(goal) * (goal - found), -1)


def _binary(
    targets: keras.KerasTensor, logits: keras.KerasTensor, from_logits: bool
) -> keras.KerasTensor:
    """Each class against the others, the mean over the classes: arXiv:2110.00476, section 3."""
    return keras.losses.binary_crossentropy(targets, logits, from_logits=from_logits)


def class_weights(labels: npt.NDArray[np.int32], classes: int) -> npt.NDArray[np.float32]:
    """float32 `(k,)`, inversely proportional to how often a class is there; their mean over the
    images is 1, so that the learning rate keeps its meaning."""
    counts = np.bincount(labels, minlength=classes)
    present = np.count_nonzero(counts)
    weights = len(labels) / (present * np.maximum(counts, 1))
    return weights.astype(np.float32)
