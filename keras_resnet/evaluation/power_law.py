"""Inverse power laws: the error as a function of the number of training images.

The error after training on n images is taken to be a + b n^-c: Cortes et al. 1993, "Learning
curves: asymptotic values and rate of convergence"; Hestness et al. 2017,
arXiv:1712.00409, section 2, where c is 0.07 to 0.35 for large data sets and 0.5 to 1 in theory.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.95
# With few images the exponent may exceed 1: the curve begins at random guessing.
_EXPONENTS = np.geomspace(0.1, 2.0, 39)
# Grid of a, relative to the error for the smallest number of images. Denser near 0: on simulated
# curves, 95 % intervals from an even grid covered 89 %, those from this one 95 %.
_FLOORS = np.linspace(0.0, 1.0, 41) ** 2
# Grid of the error for the smallest number of images: points, and half-width in standard errors.
_STARTS, _WIDTH = 121, 6
# A power law is an approximation: more validation images than this do not make it more certain.
_MOST_EVIDENCE = 2000
_MISFIT = 3.84  # deviance per degree of freedom: chi-squared with one, at 5 %


@dataclass(frozen=True)
class Estimate:
    """An error in 0…1 with its 95 % interval."""

    error: float
    low: float
    high: float


class PowerLaws:
    """A grid of curves a + b n^-c, each weighted by its likelihood given the measured errors.

    A few points do not determine one curve, so none is selected: the grid spans the error for the
    smallest number of images, a as a share of it, and exponents c in 0.1…2. The weights are
    binomial likelihoods of the wrong answers; an estimate is a quantile over the grid.

    Args:
        images: numbers of training images, at least two different ones, `(m,)`.
        errors: the mean error of the trainings with each number, `(m,)`.
        validation: number of validation images.
        dispersion: variance of such a mean, relative to the binomial variance for that number of
            validation images.
    """

    def __init__(
        self,
        images: Sequence[float],
        errors: Sequence[float],
        validation: int,
        dispersion: float = 1.0,
    ) -> None:
        order = np.argsort(images)
        n, e = np.asarray(images, float)[order], np.asarray(errors, float)[order]
        self._first = n[0]
        evidence = min(validation / max(dispersion, 1.0), _MOST_EVIDENCE)
        spread = _WIDTH * np.sqrt((e[0] * (1 - e[0]) + 1 / evidence) / evidence)
        starts = np.linspace(max(e[0] - spread, 1e-4), min(e[0] + spread, 1 - 1e-4), _STARTS)
        grid = np.meshgrid(starts, _FLOORS, _EXPONENTS, indexing="ij")
        self._start, self._floor, self._exponent = (axis.ravel() for axis in grid)
        predicted = np.clip([self._at(number) for number in n], 1e-9, 1 - 1e-9)
        likelihood = evidence * (
            e[:, None] * np.log(predicted) + (1 - e[:, None]) * np.log1p(-predicted)
        ).sum(0)
        best = likelihood.max()
        self._weights = np.exp(likelihood - best)
        self._weights /= self._weights.sum()
        inside = np.clip(e, 1e-9, 1 - 1e-9)
        perfect = evidence * (e * np.log(inside) + (1 - e) * np.log1p(-inside)).sum()
        # Three parameters; fewer points than four fit in any case.
        self.fits = bool(2 * (perfect - best) <= _MISFIT * max(len(n) - 3, 1))

    def at(self, images: float) -> Estimate:
        """The error after training on this number of images: weighted median and interval."""
        tail = (1 - CONFIDENCE) / 2
        low, middle, high = self._quantiles(self._at(images), (tail, 0.5, 1 - tail))
        return Estimate(middle, low, high)

    @property
    def exponent(self) -> Estimate:
        """The exponent c: weighted median and interval."""
        tail = (1 - CONFIDENCE) / 2
        low, middle, high = self._quantiles(self._exponent, (tail, 0.5, 1 - tail))
        return Estimate(middle, low, high)

    def _at(self, images: float) -> npt.NDArray[np.float64]:
        falling = (images / self._first) ** -self._exponent
        return np.asarray(self._start * (self._floor + (1 - self._floor) * falling))

    def _quantiles(
        self, values: npt.NDArray[np.float64], shares: Sequence[float]
    ) -> tuple[float, ...]:
        order = np.argsort(values)
        passed = np.cumsum(self._weights[order])
        last = len(order) - 1
        return tuple(
            float(values[order[min(int(np.searchsorted(passed, share)), last)]]) for share in shares
        )
