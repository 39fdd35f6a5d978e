"""Teaches a trainable file a new class, as an app would, and compares it with the same in NumPy.

The class is artificial: mosaics of random colours, which are unlike any training image.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from keras_resnet.evaluation.trainable import NEVER, PASSES, Trainable
from keras_resnet.exporting import evidence
from keras_resnet.exporting.trainable import LEARNING_RATE, STORED_WEIGHT, Head

PHOTOS = 20  # training photos of the class, and as many for evaluation
_TILES = 8  # in a row of a mosaic
LEAST_RECOGNIZED = 0.9
# Largest difference from NumPy, relative to the largest logit; float32 rounding gives 1e-6.
_TOLERANCE = 1e-3


class Taught(NamedTuple):
    """The accuracy of a trainable file after it learned a class."""

    recognized: float  # share of held-out images of the new class, in 0…1
    drop_points: float  # drop in top-1 on images of known classes, in percentage points
    reasons: list[str]  # why the file must not be used


def mosaics(shape: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """Images of an artificial class, `(2 * PHOTOS, *shape)`; shape is (height, width, channels)."""
    height, width, channels = shape
    tiles = (2 * PHOTOS, _TILES, _TILES, channels)
    colours = np.random.default_rng(0).integers(0, 256, tiles, dtype=np.uint8)
    rows, columns = (np.arange(side) * _TILES // side for side in (height, width))
    return colours[:, rows][:, :, columns]


def teach(
    file: Trainable,
    again: Trainable,
    head: Head,
    known: np.ndarray,
    labels: np.ndarray,
    expected: tuple[np.ndarray, np.ndarray],
    max_drop: float,
) -> Taught:
    """Teaches a file an artificial class.

    Args:
        file: the file.
        again: the same file, opened a second time, to restore the weights of the first.
        head: the expected `Head`.
        known: uint8 `(n, h, w, c)`, images of known classes.
        labels: `(n,)`, their labels.
        expected: `Head.features` from the Keras model of the training mosaics, and of `known`.
        max_drop: allowed drop in top-1, in points.
    """
    new = mosaics(known.shape[1:])
    before, _ = file.infer(known)
    classes = before.shape[1] - file.spare
    _, features = file.infer(new[:PHOTOS])
    file.teach(features, [0] * PHOTOS)
    after, _ = file.infer(known)
    judged, _ = file.infer(new[PHOTOS:])
    recognized = float((judged.argmax(-1) == classes).mean())
    right_before, right_after = ((found.argmax(-1) == labels).mean() for found in (before, after))
    drop = round(100 * float(right_before - right_after), 4)
    again.restore(file.save())
    restored, _ = again.infer(new[PHOTOS:])

    def reasons() -> Iterator[str]:
        if (before[:, classes:] > NEVER / 2).any():
            yield "has a class that it was not trained on"
        if not np.array_equal(before[:, :classes], after[:, :classes]):
            yield "changes the logits of known classes when it learns a new one"
        wanted = _logits_after_training(head, *expected)
        off = float(np.abs(after[:, classes] - wanted).max())
        allowed = _TOLERANCE * float(np.abs(wanted).max())
        if not off <= allowed:
            yield (
                f"gives logits of a new class that differ by {off:.2g} from those of the same "
                f"training in NumPy ({allowed:.2g} allowed)"
            )
        if recognized < LEAST_RECOGNIZED:
            yield (
                f"recognizes {recognized:.0%} of the images of a class that it learned from "
                f"{PHOTOS} others (minimum: {LEAST_RECOGNIZED:.0%}); train the network longer or "
                "on more photos"
            )
        if drop > max_drop:
            yield (
                f"top-1 of the known classes is {drop:.4g} points lower after it learned a new one "
                f"(allowed: {max_drop:g}){evidence.of_one_image(len(known), max_drop)}"
            )
        if not np.array_equal(restored, judged):
            yield "does not restore what it saved"

    return Taught(recognized, drop, list(reasons()))


def _logits_after_training(
    head: Head, photos: np.ndarray, images: np.ndarray
) -> npt.NDArray[np.float64]:
    """The expected logits `(n,)` of a new class after `train`.

    Args:
        head: the head.
        photos: `Head.features` of the photos of the class.
        images: `Head.features` of other images, `(n, d + 1)`.
    """
    share = STORED_WEIGHT / len(head.stored)
    weights, bias = np.zeros(images.shape[1] - 1), 0.0
    for photo in np.tile(photos, (PASSES, 1)):
        x = np.vstack([photo, head.stored]).astype(np.float64)
        x, energy = x[:, :-1], x[:, -1]
        slope = 1 / (1 + np.exp(energy - x @ weights - bias))
        slope = np.concatenate([slope[:1] - 1, share * slope[1:]])
        weights -= LEARNING_RATE * slope @ x
        bias -= LEARNING_RATE * slope.sum()
    return images[:, :-1] @ weights + bias
