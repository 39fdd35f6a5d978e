"""The threshold for "none of these": below it, an image is of none of the classes.

Split-conformal prediction (arXiv:2107.07511, section 1.1) takes an order statistic of the scores of
held-out images: the model refuses a new image of a known class with a probability of at most the
share that was asked for. One half of the images sets the threshold; the result counts in the other.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_resnet.errors import InputError
from keras_resnet.evaluation.contract import REJECTION_SCORES, Rejection, certainty
from keras_resnet.results import Result

DEFAULT = "probability"  # without images of no class to choose by; see `fit`
_LEAST_UNKNOWN = 10  # images of no class in each half
_RISK = 0.001  # that chance alone refuses more images than `most_refused`
_DECIMALS = 6  # of a threshold: another export of the same run has the same contract


@dataclass(frozen=True)
class Refused:
    """The images that a score refuses of those that did not set its threshold, in 0…1."""

    known: float
    unknown: float | None  # None without images of no class


@dataclass(frozen=True)
class RejectionFit(Result):
    """A threshold, and what it does to images that it was not fitted on."""

    score: str  # of `REJECTION_SCORES`
    threshold: float
    share: float  # of the images of known classes that may be refused, in 0…1
    known_refused: float  # by Keras, of `judged_on` images, in 0…1
    unknown_refused: float | None  # by Keras, of `unknown_judged_on` images; None without any
    fitted_on: int  # images of known classes
    judged_on: int  # the others; the same, where there are too few for two halves
    unknown_judged_on: int | None
    compared: dict[str, Refused]  # each score with its own threshold

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "RejectionFit":
        """The inverse of `as_json`."""
        compared = {name: Refused(**row) for name, row in content["compared"].items()}
        return cls(**{**content, "compared": compared})

    @property
    def rejection(self) -> Rejection:
        return Rejection(self.score, self.threshold, self.share, self.fitted_on)

    def __str__(self) -> str:
        unknown = ""
        if self.unknown_refused is not None:
            others = [
                f"{name} {refused.unknown:.1%}"
                for name, refused in self.compared.items()
                if name != self.score and refused.unknown is not None
            ]
            unknown = (
                f" and {self.unknown_refused:.1%} of {self.unknown_judged_on:,} images of no class"
                + (f" ({', '.join(others)})" if others else "")
            )
        return (
            f"{self.score} below {self.threshold:g}, fitted on {self.fitted_on:,} images of known "
            f"classes of which {self.share:.1%} may be refused; the Keras model refuses "
            f"{self.known_refused:.1%} of {self.judged_on:,} others{unknown}"
        )


def fit(
    known: npt.NDArray[np.floating],
    unknown: npt.NDArray[np.floating] | None,
    share: float,
    seed: int,
    scores: Sequence[str] = REJECTION_SCORES,
) -> RejectionFit:
    """The threshold of the score that refuses most images of no class.

    Without such images it is the maximum probability: no other score is better on all data, and
    it is what an app shows (arXiv:1610.02136).

    Args:
        known: logits `(n, k)` of validation images, as the files give them: over the temperature.
        unknown: logits `(m, k)` of images of no class.
        share: of the images of known classes that may be refused, in 0…1.
        seed: of the halves.
        scores: those that the output of the files allows.

    Raises:
        InputError: too few images for such a share.
    """
    fitted, judged = halves(len(known), share, seed)
    choice, others = _split(0 if unknown is None else len(unknown), _LEAST_UNKNOWN, seed)
    thresholds = {name: _threshold(certainty(name, known[fitted]), share) for name in scores}

    def refused(name: str, logits: npt.NDArray[np.floating]) -> float:
        return float((certainty(name, logits) < thresholds[name]).mean())

    def compare(name: str) -> Refused:
        of_no_class = None if unknown is None else refused(name, unknown[others])
        return Refused(refused(name, known[judged]), of_no_class)

    chosen = DEFAULT
    if unknown is not None:
        chosen = max(scores, key=lambda name: refused(name, unknown[choice]))
    compared = {name: compare(name) for name in scores}
    return RejectionFit(
        score=chosen,
        threshold=thresholds[chosen],
        share=share,
        known_refused=compared[chosen].known,
        unknown_refused=compared[chosen].unknown,
        fitted_on=len(fitted),
        judged_on=len(judged),
        unknown_judged_on=None if unknown is None else len(others),
        compared=compared,
    )


def halves(
    count: int, share: float, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Indices of the validation images that set a threshold, and of those that it is judged by:
    the same where there are too few for two halves.

    Raises:
        InputError: too few images for such a share.
    """
    least = math.ceil(1 / share - 1e-9) - 1
    if count < least:
        raise InputError(
            f"--reject {share:g} needs {least} validation images, and there are {count}; give a "
            "larger share, or train with a larger --val-split"
        )
    return _split(count, least, seed)


def judged_unknown(count: int, seed: int) -> npt.NDArray[np.int64]:
    """Indices of the images of no class that did not choose the score."""
    return _split(count, _LEAST_UNKNOWN, seed)[1]


def most_refused(judged: int, rejection: Rejection) -> int:
    """How many of `judged` images of known classes a file may refuse that behaves like the model.

    The number below an order statistic of other images has a negative hypergeometric distribution,
    whatever that of the scores.
    """
    fitted, order = rejection.fitted_on, _order(rejection.fitted_on, rejection.share)
    ways, total = 0, math.comb(judged + fitted, judged)
    for count in range(judged + 1):
        ways += math.comb(count + order - 1, count) * math.comb(
            judged - count + fitted - order, judged - count
        )
        if ways >= (1 - _RISK) * total:
            return count
    return judged


def _split(
    count: int, least: int, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Indices of two halves; all of them twice, if that leaves less than `least` for one."""
    if count < 2 * least:
        return np.arange(count), np.arange(count)
    shuffled = np.random.default_rng(seed).permutation(count)
    return np.sort(shuffled[::2]), np.sort(shuffled[1::2])


def _threshold(scores: npt.NDArray[np.floating], share: float) -> float:
    """The order statistic, rounded downwards."""
    exact = np.sort(scores)[_order(len(scores), share) - 1]
    return math.floor(exact * 10**_DECIMALS) / 10**_DECIMALS


def _order(count: int, share: float) -> int:
    """Which of `count` scores is the threshold; 1 is the smallest."""
    return math.floor(share * (count + 1) + 1e-9)
