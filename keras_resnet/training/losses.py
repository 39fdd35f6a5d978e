"""The loss of a run, for hard or soft targets (label smoothing, mixed images, a teacher)."""

from typing import Protocol

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from keras_resnet.config import Config


class Loss(Protocol):
    """Losses `(b,)` from targets `(b, k)` that sum to 1, logits `(b, k)` and, with a teacher, its
    logits `(b, k)`."""

    def __call__(
        self,
        targets: keras.KerasTensor,
        logits: keras.KerasTensor,
        of_teacher: keras.KerasTensor | None = None,
    ) -> keras.KerasTensor: ...


def make_loss(config: Config, labels: npt.NDArray[np.int32], classes: int) -> Loss:
    """The loss of a run.

    Args:
        config: a `Config`; `loss`, `bce_threshold`, `label_smoothing`, `balance` and the settings
            of distillation are used.
        labels: int `(n,)`, the classes of the training images.
        classes: number of classes, k.
    """
    losses = keras.losses
    kind = losses.binary_crossentropy if config.loss == "bce" else losses.categorical_crossentropy
    weights = class_weights(labels, classes) if config.balance == "loss" else None

    def of_labels(targets: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
        # Label smoothing, the same for both losses: arXiv:1512.00567, section 7.
        goal = targets * (1 - config.label_smoothing) + config.label_smoothing / classes
        # As in timm, the threshold is applied to the smoothed targets, which become 0 or 1.
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
    """Kullback-Leibler divergence `(b,)` between the teacher's and the network's predictions, from
    logits `(b, k)` divided by the temperature. Multiplied by its square to keep the scale of the
    gradients: arXiv:1503.02531, section 2."""
    goal, own = (ops.log_softmax(x / temperature) for x in (of_teacher, logits))
    return temperature**2 * ops.sum(ops.exp(goal) * (goal - own), -1)


def class_weights(labels: npt.NDArray[np.int32], classes: int) -> npt.NDArray[np.float32]:
    """Class weights, float32 `(k,)`, inversely proportional to the number of images of a class;
    their mean over the images is 1, so that the scale of the loss does not change."""
    counts = np.bincount(labels, minlength=classes)
    present = np.count_nonzero(counts)
    weights = len(labels) / (present * np.maximum(counts, 1))
    return weights.astype(np.float32)
