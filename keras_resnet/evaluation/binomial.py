"""Exact confidence bounds of a proportion: Clopper and Pearson 1934, Biometrika 26:404."""

import math

import numpy as np

_HALVINGS = 50
_RISK = 0.025  # on either side of an interval


def interval(count: int, total: int) -> tuple[float, float]:
    """The 95 % confidence interval, in 0…1, of a proportion, given `count` of `total`."""
    return lower(count, total, _RISK), upper(count, total, _RISK)


def may_be_guesses(right: int, total: int, classes: float) -> bool:
    """Whether chance can explain `right` of `total` right answers, at 2.5 %: random guessing of one
    of so many classes."""
    return lower(right, total, _RISK) <= 1 / classes


def upper(count: int, total: int, risk: float) -> float:
    """The proportion for which `count` or fewer of `total` have the probability `risk`.

    >>> round(upper(0, 300, 0.05), 4)  # the rule of three: 3 / 300
    0.0099
    """
    if count == total:
        return 1.0
    low, high = count / total, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(count, total, middle) > risk else (low, middle)
    return high


def lower(count: int, total: int, risk: float) -> float:
    """The proportion for which `count` or more of `total` have the probability `risk`."""
    return 1 - upper(total - count, total, risk)


def _at_most(count: int, total: int, share: float) -> float:
    """P(X ≤ count) of a binomial X."""
    k = np.arange(1, count + 1)
    ratios = np.log((total - k + 1) / k) + math.log(share) - math.log1p(-share)
    logs = total * math.log1p(-share) + np.concatenate([[0.0], np.cumsum(ratios)])
    return float(np.exp(logs).sum())
