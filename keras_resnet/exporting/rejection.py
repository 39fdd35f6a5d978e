"""Fits the threshold for "none of these": images with a lower score are rejected.

Split-conformal prediction (arXiv:2107.07511, section 1.1) takes an order statistic of the scores of
held-out images: a new image of a known class is rejected with a probability of at most the
requested share. One half of the images sets the threshold; it is evaluated on the other half.

The largest energy of these images is a second limit, if the share allows more than one image: with
the rest for the threshold, the probability stays the same (equivalent blocks, Tukey 1947, Annals of
Mathematical Statistics 18:529).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_resnet.errors import InputError
from keras_resnet.evaluation.contract import REJECTION_SCORES, Rejection, certainty
from keras_resnet.results import Result

DEFAULT = "probability"  # the score if there are no images of no class; see `fit`
_LEAST_UNKNOWN = 10  # least number of images of no class in each half
_ONCE_IN = 1000  # in one of so many exports, chance exceeds `most_refused`
_DECIMALS = 6  # of a threshold: another export of the same run has the same contract


@dataclass(frozen=True)
class Refused:
    """The shares of held-out images that a score rejects, in 0…1."""

    known: float  # of images of known classes
    unknown: float | None  # of images of no class; None without any


@dataclass(frozen=True)
class RejectionFit(Result):
    """A threshold, and the images it rejects of those that it was not fitted on."""

    score: str  # the score with the threshold: probability, energy or margin
    threshold: float  # an image with a lower score is rejected
    most_energy: float | None  # an image with a larger energy is rejected too; None: no limit
    share: float  # of the images of known classes that may be rejected, in 0…1
    known_refused: float  # share that Keras rejects of `judged_on` images, in 0…1
    unknown_refused: float | None  # the same of `unknown_judged_on` images; None without any
    fitted_on: int  # number of images of known classes
    judged_on: int  # number of images of known classes in the other half
    unknown_judged_on: int | None  # number of images of no class; None without any
    # Whether these images are disjoint from those that set the threshold and selected the score.
    # They are not if there are too few for two halves.
    held_out: bool
    compared: dict[str, Refused]  # each score with its own threshold

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "RejectionFit":
        """The inverse of `as_json`.

        Raises:
            InputError: the content is damaged.
        """
        try:
            compared = {name: Refused(**row) for name, row in content["compared"].items()}
            return cls(**{**content, "compared": compared})
        except (KeyError, TypeError, AttributeError):
            raise InputError(
                f"preprocess.json is damaged: reject is {content!r}; export it again"
            ) from None

    @property
    def rejection(self) -> Rejection:
        return Rejection(**{f.name: getattr(self, f.name) for f in fields(Rejection)})

    def __str__(self) -> str:
        most = "" if self.most_energy is None else f" or energy above {self.most_energy:g}"
        has_none = self.most_energy is None and "energy" in self.compared
        few = ", too few for an upper limit of the energy," if has_none else ""
        which = "other" if self.held_out else "the same (too few)"
        return (
            f"{self.score} below {self.threshold:g}{most}, fitted on {self.fitted_on:,} "
            f"images{few} to reject at most {self.share:.1%}; of {which} images, the Keras model "
            f"rejects {self.known_refused:.1%} of {self.judged_on:,} of known "
            f"classes{self._of_unknown()}"
        )

    def _of_unknown(self) -> str:
        if self.unknown_refused is None:
            return ""
        others = [
            f"{name} {refused.unknown:.1%}"
            for name, refused in self.compared.items()
            if name != self.score and refused.unknown is not None
        ]
        text = f" and {self.unknown_refused:.1%} of {self.unknown_judged_on:,} of no class"
        return text + (f" ({', '.join(others)})" if others else "")


def fit(
    known: npt.NDArray[np.floating],
    unknown: npt.NDArray[np.floating] | None,
    share: float,
    seed: int,
    scores: Sequence[str] = REJECTION_SCORES,
) -> RejectionFit:
    """The threshold of the score that rejects most images of no class.

    Without such images the score is the maximum probability (arXiv:1610.02136): no score is best on
    all data, and this one was never the worst. For letters, with a model of digits, the margin
    rejected most and the energy (arXiv:2010.03759) least; for photos of other classes it was the
    reverse.

    Args:
        known: logits `(n, k)` of validation images, divided by the temperature, as in the files.
        unknown: logits `(m, k)` of images of no class.
        share: of the images of known classes that may be rejected, in 0…1.
        seed: seed of the halves.
        scores: the scores that the outputs of the files allow.

    Raises:
        InputError: too few images for such a share.
    """
    fitted, judged = halves(len(known), share, seed)
    choice, others = _split(0 if unknown is None else len(unknown), _LEAST_UNKNOWN, seed)
    # Probabilities do not determine the energy.
    rules = {name: _rule(name, known[fitted], share, "energy" in scores) for name in scores}

    def refused(name: str, logits: npt.NDArray[np.floating]) -> float:
        return float(rules[name].rejects(logits).mean())

    def compare(name: str) -> Refused:
        of_no_class = None if unknown is None else refused(name, unknown[others])
        return Refused(refused(name, known[judged]), of_no_class)

    chosen = DEFAULT
    if unknown is not None:
        chosen = max(scores, key=lambda name: refused(name, unknown[choice]))
    compared = {name: compare(name) for name in scores}
    return RejectionFit(
        **vars(rules[chosen]),
        known_refused=compared[chosen].known,
        unknown_refused=compared[chosen].unknown,
        judged_on=len(judged),
        unknown_judged_on=None if unknown is None else len(others),
        held_out=len(judged) < len(known) and (unknown is None or len(others) < len(unknown)),
        compared=compared,
    )


def halves(
    count: int, share: float, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Indices of the validation images that set a threshold, and of those that evaluate it; the
    same if there are too few for two halves.

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
    """Indices of the images of no class that did not select the score."""
    return _split(count, _LEAST_UNKNOWN, seed)[1]


def most_refused(judged: int, rejection: Rejection) -> int:
    """The largest number of `judged` images of known classes that a correct file may reject.

    The number below an order statistic of other images has a negative hypergeometric distribution,
    whatever the distribution of the scores.
    """
    fitted, order = rejection.fitted_on, _order(rejection.fitted_on, rejection.share)
    total, chance = _log_comb(judged + fitted, judged), 0.0
    for count in range(judged + 1):
        left = judged - count
        ways = _log_comb(count + order - 1, count) + _log_comb(left + fitted - order, left)
        chance += math.exp(ways - total)
        if 1 - chance <= 1 / _ONCE_IN:
            return count
    return judged


def _log_comb(n: int, k: int) -> float:
    """The logarithm of the number of ways to choose k of n."""
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _split(
    count: int, least: int, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Indices of two halves; all indices twice if a half would have less than `least`."""
    if count < 2 * least:
        return np.arange(count), np.arange(count)
    shuffled = np.random.default_rng(seed).permutation(count)
    return np.sort(shuffled[::2]), np.sort(shuffled[1::2])


def _rule(
    score: str, logits: npt.NDArray[np.floating], share: float, has_energy: bool
) -> Rejection:
    """The threshold of a score, and the limit of the energy; both rounded to reject less."""
    order, most, scale = _order(len(logits), share), None, 10**_DECIMALS
    scores = certainty(score, logits)
    if has_energy and order > 1:
        energy = certainty("energy", logits)
        most = math.ceil(energy.max() * scale) / scale
        scores, order = np.delete(scores, energy.argmax()), order - 1
    threshold = math.floor(np.sort(scores)[order - 1] * scale) / scale
    return Rejection(score, threshold, most, share, len(logits))


def _order(count: int, share: float) -> int:
    """The number of `count` images that the two limits may exclude; for a score without a limit of
    the energy, the rank of the threshold, from 1."""
    return math.floor(share * (count + 1) + 1e-9)
