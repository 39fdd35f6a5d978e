"""Temperature scaling calibrates probabilities (Guo et al. 2017, arXiv:1706.04599, section 4.2).
Dividing all logits by a number changes the confidence, but not the predicted class.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_resnet.errors import InputError
from keras_resnet.evaluation.metrics import log_softmax

BINS = 15  # arXiv:1706.04599, table 1
FEW = 10  # with fewer mistakes, one more or less moves the temperature by a lot
_BOUNDS = (0.01, 100.0)
_HALVINGS = 60


def calibrate(
    logits: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], seed: int
) -> dict[str, Any]:
    """A temperature fitted on one half of the images and evaluated on the other.

    The halves are stratified by right and wrong predictions.

    Args:
        logits: `(n, k)`, of validation images.
        labels: int `(n,)`.
        seed: of the halves.

    Returns:
        {temperature, fitted_on, mistakes, judged_on, bins, ece_before, ece_after}: numbers of
        images, of mistaken ones among those it was fitted on, and the expected calibration error
        of the other half, in 0…1.

    Raises:
        InputError: too few mistakes to fit anything on.
    """
    fitted, judged = _halves(logits.argmax(-1) == labels, seed)
    mistakes = int((logits[fitted].argmax(-1) != labels[fitted]).sum())
    if not mistakes:
        raise InputError(
            f"--calibrate-probabilities: none of the {len(labels)} validation images is taken for "
            "another class, so that no certainty would be too high; leave it out, or train with "
            "a larger --val-split"
        )
    # Rounded, so that another export of the same run has the same contract.
    temperature = round(fit(logits[fitted], labels[fitted]), 4)
    before, after = (
        calibration_error(logits[judged] / t, labels[judged]) for t in (1.0, temperature)
    )
    return {
        "temperature": temperature,
        "fitted_on": len(fitted),
        "mistakes": mistakes,
        "judged_on": len(judged),
        "bins": BINS,
        "ece_before": before,
        "ece_after": after,
    }


def fit(logits: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> float:
    """The temperature that makes the mean cross-entropy of `logits / temperature` least.

    The loss is convex in the inverse of the temperature: its slope is bisected.
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


def calibration_error(logits: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> float:
    """Expected calibration error, in 0…1: difference of accuracy and confidence, over bins of
    confidence of equal width, weighted by their images (arXiv:1706.04599, equation 3).
    """
    logits = np.asarray(logits, np.float64)
    certainty = np.exp(log_softmax(logits)).max(-1)
    right = logits.argmax(-1) == labels
    bins = np.minimum((certainty * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weights=right - certainty, minlength=BINS)
    return float(np.abs(gaps).sum() / len(labels))


def line(found: Mapping[str, Any]) -> str:
    """The result of `calibrate` as one line below the table."""
    few = " (too few to rely on)" if found["mistakes"] < FEW else ""
    return (
        f"probabilities: logits divided by {found['temperature']:g}, fitted on "
        f"{found['fitted_on']:,} images, {found['mistakes']:,} of them mistaken{few}; expected "
        f"calibration error {found['ece_before']:.1%} before, {found['ece_after']:.1%} after, on "
        f"{found['judged_on']:,} others"
    )


def _halves(
    right: npt.NDArray[np.bool_], seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Indices of two halves; an odd mistake falls to the first, which has to be fitted on it."""
    rng = np.random.default_rng(seed)
    shuffled = np.concatenate([rng.permutation(np.flatnonzero(~right)),
                               rng.permutation(np.flatnonzero(right))])  # fmt: skip
    return np.sort(shuffled[::2]), np.sort(shuffled[1::2])
