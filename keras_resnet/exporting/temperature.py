"""Temperature scaling calibrates probabilities (Guo et al. 2017, arXiv:1706.04599, section 4.2).
Dividing all logits by a number changes the confidence, but not the predicted class.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from keras_resnet.errors import InputError
from keras_resnet.evaluation.metrics import (
    BINS,
    answers,
    calibration_error,
    log_softmax,
    score_bins,
)
from keras_resnet.results import Result

FEW = 10  # with fewer mistakes, a single one changes the temperature much
_BOUNDS = (0.01, 100.0)
_HALVINGS = 60


@dataclass(frozen=True)
class TemperatureFit(Result):
    """A temperature, and its effect on held-out probabilities."""

    temperature: float  # the logits are divided by it
    fitted_on: int  # number of validation images in the first half
    mistakes: int  # of the model in the first half
    judged_on: int  # number of validation images in the second half
    bins: int  # of confidence, for the calibration error
    ece_before: float  # expected calibration error of the second half, in 0…1
    ece_after: float  # the same, with the temperature
    loss_before: float  # mean cross-entropy of the second half, in nats
    loss_after: float  # the same, with the temperature

    @property
    def is_harmful(self) -> bool:
        """Whether the temperature increases the cross-entropy of the second half, which varies less
        from sample to sample than the calibration error."""
        return self.loss_after > self.loss_before

    @property
    def is_at_a_bound(self) -> bool:
        """Whether the temperature is the end of the searched range: none fits these logits."""
        return self.temperature in _BOUNDS

    def __str__(self) -> str:
        few = " (too few to rely on)" if self.mistakes < FEW else ""
        return (
            f"logits divided by {self.temperature:g}, fitted on {self.fitted_on:,} images, "
            f"{self.mistakes:,} of them misclassified{few}; expected calibration error "
            f"{self.ece_before:.1%} before, {self.ece_after:.1%} after, on {self.judged_on:,} "
            "others"
        )


def calibrate(
    logits: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], seed: int
) -> TemperatureFit:
    """A temperature fitted on one half of the images and evaluated on the other.

    The halves are stratified by right and wrong predictions.

    Args:
        logits: logits `(n, k)` of validation images.
        labels: int `(n,)`.
        seed: seed of the halves.

    Returns:
        `TemperatureFit`.

    Raises:
        InputError: too few mistakes for a fit.
    """
    fitted, judged = _halves(logits.argmax(-1) == labels, seed)
    mistakes = int((logits[fitted].argmax(-1) != labels[fitted]).sum())
    if not mistakes or not len(judged):
        why = (
            "one validation image is too few to fit a temperature"
            if mistakes
            else f"all {len(labels)} validation images are classified correctly, so a temperature "
            "cannot be fitted"
        )
        raise InputError(
            f"--calibrate-probabilities: {why}; leave it out, or train with a larger --val-split"
        )
    # Rounded, so that another export of the same run has the same contract.
    temperature = round(fit(logits[fitted], labels[fitted]), 4)
    before, after = (_scores(logits[judged] / t, labels[judged]) for t in (1.0, temperature))
    return TemperatureFit(
        temperature=temperature,
        fitted_on=len(fitted),
        mistakes=mistakes,
        judged_on=len(judged),
        bins=BINS,
        ece_before=before[0],
        ece_after=after[0],
        loss_before=before[1],
        loss_after=after[1],
    )


def fit(logits: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> float:
    """The temperature that minimizes the mean cross-entropy of `logits / temperature`.

    The loss is convex in the inverse of the temperature, so its derivative is bisected.
    """
    logits = np.asarray(logits, np.float64)
    target = logits[np.arange(len(labels)), labels]

    def slope(inverse: float) -> float:
        probabilities = np.exp(log_softmax(logits * inverse))
        return ((probabilities * logits).sum(-1) - target).mean()

    low, high = (np.log(1 / bound) for bound in reversed(_BOUNDS))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(np.exp(middle)) > 0 else (middle, high)
    return float(np.exp(-(low + high) / 2))


def _scores(
    logits: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]
) -> tuple[float, float]:
    """(expected calibration error, mean cross-entropy)."""
    best, log_of_best, log_of_label = answers(logits, labels)
    bins = score_bins(np.exp(log_of_best), best == labels)
    return calibration_error(bins), float(-log_of_label.mean())


def _halves(
    right: npt.NDArray[np.bool_], seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Indices of two halves; the first, for the fit, gets the odd mistake."""
    rng = np.random.default_rng(seed)
    shuffled = np.concatenate([rng.permutation(np.flatnonzero(~right)),
                               rng.permutation(np.flatnonzero(right))])  # fmt: skip
    return np.sort(shuffled[::2]), np.sort(shuffled[1::2])
