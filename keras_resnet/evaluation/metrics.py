"""Computes the scores of a model from logits and labels."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from keras_resnet.results import Result

BINS = 15  # arXiv:1706.04599, table 1
_BLOCK = 4096  # images whose probabilities are computed at once


@dataclass(frozen=True)
class ClassScores:
    """Scores on the images of one class."""

    images: int
    top1: float | None  # in 0…1; None without images
    precision: float | None  # share of the images predicted as this class that are; None: no image
    recall: float | None  # the same as top1
    f1: float | None  # harmonic mean of the two; None without images


@dataclass(frozen=True)
class Scores(Result):
    """Scores of a model on labelled images. Accuracies are in 0…1."""

    images: int
    loss: float  # mean cross-entropy, in nats
    top1: float
    macro_top1: float  # mean top-1 over the classes with images
    macro_precision: float  # mean precision; that of a class that was never predicted counts as 0
    macro_recall: float  # the same as macro_top1
    macro_f1: float
    top5: float | None  # None for five classes or fewer
    per_class: dict[str, ClassScores]
    confusion: list[list[int]]  # images by true class (rows) and predicted class (columns)


def confusion_of(
    labels: npt.ArrayLike, guesses: npt.ArrayLike, classes: int
) -> npt.NDArray[np.int_]:
    """Number of images by true class (rows) and predicted class (columns), int `(k, k)`."""
    confusion = np.zeros((classes, classes), int)
    np.add.at(confusion, (np.asarray(labels, int), np.asarray(guesses, int)), 1)
    return confusion


def summarize(logits: npt.ArrayLike, labels: npt.ArrayLike, classes: Sequence[str]) -> Scores:
    """The scores of a model.

    Args:
        logits: float `(n, k)`.
        labels: int `(n,)`.
        classes: k names.

    Returns:
        `Scores`.
    """
    logits, labels = np.asarray(logits), np.asarray(labels)
    count, k = logits.shape
    guesses, _, of_labels = answers(logits, labels)
    confusion = confusion_of(labels, guesses, k)
    rows = class_scores(confusion, classes)
    scored = [row for row in rows.values() if row.images]
    recall = float(np.mean([row.recall for row in scored]))
    return Scores(
        images=count,
        loss=float(-of_labels.mean()),
        top1=float((guesses == labels).mean()),
        macro_top1=recall,
        macro_precision=float(np.mean([row.precision or 0.0 for row in scored])),
        macro_recall=recall,
        macro_f1=float(np.mean([row.f1 for row in scored])),
        top5=_top(5, logits, labels) if k > 5 else None,
        per_class=rows,
        confusion=confusion.tolist(),
    )


class Answers(NamedTuple):
    """Predictions for labelled images; each `(n,)`, natural logarithms in float64."""

    guesses: npt.NDArray[np.integer]  # indices of the most probable classes
    log_scores: npt.NDArray[np.float64]  # log of their probabilities
    log_label_scores: npt.NDArray[np.float64]  # log of the probabilities of the given labels


def answers(logits: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> Answers:
    """The `Answers` for logits `(n, k)`. In blocks: float64 logits of a large data set may not fit
    into memory."""
    blocks = []
    for rows in _blocks(len(labels)):
        log_p, each = log_softmax(np.asarray(logits[rows], np.float64)), labels[rows]
        numbers, best = np.arange(len(each)), log_p.argmax(-1)
        blocks.append((best, log_p[numbers, best], log_p[numbers, each]))
    return Answers(*map(np.concatenate, zip(*blocks, strict=True)))


def _blocks(count: int) -> list[slice]:
    return [slice(i, i + _BLOCK) for i in range(0, max(count, 1), _BLOCK)]


def class_scores(confusion: np.ndarray, classes: Sequence[str]) -> dict[str, ClassScores]:
    """The scores of each class from a confusion matrix: true class (rows), predicted class."""
    counts = (confusion.diagonal(), confusion.sum(1), confusion.sum(0))
    rows = {}
    for name, right, images, predicted in zip(
        classes, *map(np.ndarray.tolist, counts), strict=True
    ):
        recall = right / images if images else None
        f1 = 2 * right / (images + predicted) if images else None
        precision = right / predicted if predicted else None
        rows[name] = ClassScores(images, recall, precision, recall, f1)
    return rows


def is_imbalanced(images: Iterable[int]) -> bool:
    """Whether the largest class has more than one and a half times the images of the smallest.

    Args:
        images: number of images of each class; classes without images are ignored.
    """
    counts = [count for count in images if count]
    return max(counts) > 1.5 * min(counts)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log of the class probabilities along the last axis."""
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


class ScoreBin(NamedTuple):
    """The images whose score lies in one of `BINS` intervals of equal width in 0…1."""

    images: int
    score: float  # mean; 0 without images
    accuracy: float  # the share that is classified correctly; 0 without images


def score_bins(scores: npt.NDArray[np.floating], right: npt.NDArray[np.bool_]) -> list[ScoreBin]:
    """The bins of a reliability diagram (arXiv:1706.04599, equations 1 and 2).

    Args:
        scores: the probability of the predicted class, `(n,)`.
        right: whether that is the true class, `(n,)`.
    """
    bins = np.minimum((scores * BINS).astype(int), BINS - 1)
    images = np.bincount(bins, minlength=BINS)
    of_scores, of_right = (
        np.bincount(bins, weights=values, minlength=BINS) / np.maximum(images, 1)
        for values in (scores, right)
    )
    return [*map(ScoreBin, images.tolist(), of_scores.tolist(), of_right.tolist())]


def calibration_error(bins: Sequence[ScoreBin]) -> float:
    """Expected calibration error, in 0…1: the difference of score and accuracy, weighted by the
    images of the bins (arXiv:1706.04599, equation 3)."""
    images = sum(bin.images for bin in bins)
    return sum(bin.images * abs(bin.score - bin.accuracy) for bin in bins) / images


def _top(n: int, logits: np.ndarray, labels: np.ndarray) -> float:
    right = 0
    for rows in _blocks(len(labels)):
        best = np.argpartition(-logits[rows], n - 1, axis=-1)[:, :n]
        right += int((best == labels[rows, None]).any(-1).sum())
    return right / len(labels)
