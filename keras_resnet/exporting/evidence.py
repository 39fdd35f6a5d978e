"""Confidence interval of a drop in top-1.

The Keras model and a file classify the same images, so only images that exactly one of the two
classifies correctly count: lost and gained images. Exact binomial bounds (Clopper and Pearson 1934,
Biometrika 26:404) of both give an interval for the drop, lost minus gained.
"""

import math

from keras_resnet.evaluation.binomial import lower, upper
from keras_resnet.messages import plural

CONFIDENCE = 0.95  # of each end of the interval
# The risk of an end is divided between the bounds of lost and gained images: most to the images
# that determine this end, since often there are no others. Their sum is 1 - CONFIDENCE.
_RISK, _RISK_OF_OTHERS = 0.045, 0.005


def drop_interval(lost: int, gained: int, images: int) -> tuple[float, float]:
    """The confidence interval of the drop in top-1, (low, high), in points.

    Args:
        lost: number of images that only the Keras model classifies correctly.
        gained: number of images that only the file classifies correctly.
        images: number of all images.
    """
    most = upper(lost, images, _RISK) - lower(gained, images, _RISK_OF_OTHERS)
    least = lower(lost, images, _RISK_OF_OTHERS) - upper(gained, images, _RISK)
    return 100 * least, 100 * most


def images_needed(points: float) -> int:
    """Number of images that rule out a drop of `points`, if none of them is lost."""
    return math.ceil(math.log(_RISK) / math.log1p(-points / 100))


def of_one_image(images: int, points: float) -> str:
    """The next step, as text, if a single lost image is more than `points`; "" if it is less, or
    `points` is 0."""
    if not 0 < points < 100 / images:
        return ""
    share = 100 / images
    return (
        f"; one of {images:,} images is {share:.4g} points: check with more validation images, or "
        f"allow it with --max-drop {math.ceil(10 * share) / 10:g}"
    )


def too_few(images: int, points: float) -> str:
    """The message that the images cannot rule out a drop above `points`."""
    if not points:
        return f"no number of images can rule out every drop; {images:,} were tried"
    drop = f"a drop of {plural(points, 'point')}"
    needed = images_needed(points)
    if images >= needed:
        return f"{images:,} images cannot rule out {drop}: too many of them change class"
    return (
        f"{plural(images, 'image')} cannot rule out {drop}; {needed:,} without a change could, at "
        f"{CONFIDENCE:.0%}"
    )
