"""What a number of images can show about a drop in top-1.

The Keras model and a file see the same images, so that only those count that one of the two gets
right and the other does not: the lost and the gained. Exact binomial bounds (Clopper and Pearson
1934, Biometrika 26:404) of both give an interval for the drop, lost minus gained.
"""

import math

import numpy as np

CONFIDENCE = 0.95  # of each end of the interval
# The risk of an end is divided between its two bounds: most to the images that speak for it, as
# often there are no others. Their sum is 1 - CONFIDENCE.
_RISK, _RISK_OF_OTHERS = 0.045, 0.005
_HALVINGS = 50


def drop_interval(lost: int, gained: int, images: int) -> tuple[float, float]:
    """The least and largest drop in top-1 that such a result is likely for, in points.

    Args:
        lost: images that the Keras model alone gets right.
        gained: images that the file alone gets right.
        images: all.
    """
    most = _upper(lost, images, _RISK) - _lower(gained, images, _RISK_OF_OTHERS)
    least = _lower(lost, images, _RISK_OF_OTHERS) - _upper(gained, images, _RISK)
    return 100 * least, 100 * most


def images_needed(points: float) -> int:
    """How many images rule out a drop of so many points, if none of them is lost."""
    return math.ceil(math.log(_RISK) / math.log1p(-points / 100))


def too_few(images: int, points: float) -> str:
    """That the images cannot rule out a larger drop than `points`, in words."""
    if not points:
        return f"no number of images can rule out every drop; {images:,} were tried"
    drop = f"a drop of {points:g} point{'s' * (points != 1)}"
    needed = images_needed(points)
    if images >= needed:
        return f"{images:,} images cannot rule out {drop}: too many of them change class"
    rounded = round(needed, 1 - len(str(needed))) if needed < 1000 else round(needed, -2)
    return (
        f"{images:,} image{'s' * (images != 1)} cannot rule out {drop}; about {rounded:,} without "
        f"a change could, at {CONFIDENCE:.0%}"
    )


def _upper(count: int, total: int, risk: float) -> float:
    """The share under which so few as `count` of `total` have the probability `risk`."""
    if count == total:
        return 1.0
    low, high = count / total, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(count, total, middle) > risk else (low, middle)
    return high


def _lower(count: int, total: int, risk: float) -> float:
    return 1 - _upper(total - count, total, risk)


def _at_most(count: int, total: int, share: float) -> float:
    """P(X ≤ count) of a binomial X."""
    k = np.arange(1, count + 1)
    ratios = np.log((total - k + 1) / k) + math.log(share) - math.log1p(-share)
    logs = total * math.log1p(-share) + np.concatenate([[0.0], np.cumsum(ratios)])
    return float(np.exp(logs).sum())
