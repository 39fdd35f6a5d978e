"""Predictions for each image, as rows of a CSV file, and suspected label errors."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import islice

import numpy as np
import numpy.typing as npt

from keras_resnet import filenames
from keras_resnet.data.names import show
from keras_resnet.errors import InputError
from keras_resnet.evaluation import binomial
from keras_resnet.evaluation.metrics import answers, confusion_of
from keras_resnet.files import csv_text, read_text
from keras_resnet.run import Run

# A label is suspect if the model gives it at most the first probability, and another class at
# least the second.
_UNLIKELY, _CERTAIN = 0.05, 0.8


@dataclass(frozen=True)
class ImageScore:
    """A model's prediction for a labelled image."""

    file: str
    label: str  # the given class
    prediction: str  # the class of the highest probability
    score: float  # its probability, in 0…1
    label_score: float  # the probability of the given class
    suspect: bool  # whether the given class may be wrong; see `suspects`
    rejected: bool | None = None  # whether it is rejected as "none of these"; None: no threshold

    @property
    def is_right(self) -> bool:
        return self.label == self.prediction


def image_scores(
    logits: npt.ArrayLike,
    labels: npt.ArrayLike,
    classes: Sequence[str],
    names: Sequence[str],
    rejected: npt.NDArray[np.bool_] | None = None,
) -> list[ImageScore]:
    """One `ImageScore` per image.

    Args:
        logits: float `(n, k)`.
        labels: int `(n,)`.
        classes: k names.
        names: names of the n images.
        rejected: bool `(n,)`, images rejected as "none of these"; None: no threshold.
    """
    logits, labels = np.asarray(logits), np.asarray(labels)
    guesses, *logs = answers(logits, labels)
    scores, given = map(np.exp, logs)
    doubtful = suspects(labels, guesses, scores, given, len(classes))
    refused = [None] * len(labels) if rejected is None else rejected.tolist()
    columns = (names, labels, guesses, scores, given, doubtful, refused)
    return [
        ImageScore(
            file=show(name),
            label=classes[label],
            prediction=classes[guess],
            score=float(score),
            label_score=float(label_score),
            suspect=bool(is_suspect),
            rejected=none,
        )
        for name, label, guess, score, label_score, is_suspect, none in zip(*columns, strict=True)
    ]


def suspects(
    labels: npt.NDArray[np.integer],
    guesses: npt.NDArray[np.integer],
    scores: npt.NDArray[np.floating],
    given: npt.NDArray[np.floating],
    k: int,
) -> npt.NDArray[np.bool_]:
    """Which of the given labels may be wrong, bool `(n,)`.

    After confident learning (Northcutt et al. 2021, arXiv:1911.00068, section 3.1): the model gives
    another class at least the mean probability that it gives that class on images with that label.
    In addition, that class must be near certain and the given label very unlikely, so that the
    mistakes of a weak model are not counted. No label is suspect unless `can_suspect`.

    Args:
        labels: the given labels, int `(n,)`, of images that the model was not trained on.
        guesses: the most probable classes, int `(n,)`.
        scores, given: the probabilities of the guesses and of the given labels, `(n,)`.
        k: number of classes.
    """
    if not can_suspect(confusion_of(labels, guesses, k)):
        return np.zeros(len(labels), bool)
    threshold = np.maximum(_usual(labels, given, k), _CERTAIN)[guesses]
    return (guesses != labels) & (scores >= threshold) & (given <= _UNLIKELY)


def can_suspect(confusion: npt.NDArray[np.integer]) -> bool:
    """Whether a network is good enough to find label errors: at least half of its predictions are
    right, and predictions of these classes in any order cannot explain that (the expected agreement
    of Cohen 1960, "A coefficient of agreement for nominal scales").

    Args:
        confusion: number of images by true and predicted class, `(k, k)`.
    """
    right, total = int(confusion.trace()), int(confusion.sum())
    if 2 * right <= total:
        return False
    by_chance = float(confusion.sum(1) @ confusion.sum(0)) / total**2
    return not binomial.may_be_guesses(right, total, 1 / by_chance)


def ranked_suspects(rows: Sequence[ImageScore], classes: Sequence[str]) -> list[int]:
    """Indices of the rows whose label may be wrong, the least likely label first.

    For networks after a short training, which do not reach the limits of `suspects`: candidates by
    arXiv:1911.00068, section 3.1, or with a near certain prediction, ranked by the probability of
    the given label, the self-confidence of section 3.2. Mistakes of the network are among them,
    towards the end. Empty unless `can_suspect`.

    Args:
        rows: predictions for images that the networks were not trained on.
        classes: the class names.
    """
    number = {name: k for k, name in enumerate(classes)}
    labels = np.array([number[row.label] for row in rows], int)
    guesses = np.array([number[row.prediction] for row in rows], int)
    if not can_suspect(confusion_of(labels, guesses, len(classes))):
        return []
    given = np.array([row.label_score for row in rows])
    # A well trained network is near certain of all images, so its mean is no useful limit.
    least = np.minimum(_usual(labels, given, len(classes)), _CERTAIN)
    candidates = (
        i for i, row in enumerate(rows) if not row.is_right and row.score >= least[guesses[i]]
    )
    return sorted(candidates, key=lambda i: (rows[i].label_score, -rows[i].score))


def _usual(
    labels: npt.NDArray[np.integer], given: npt.NDArray[np.floating], k: int
) -> npt.NDArray[np.float64]:
    """The mean probability of each class over the images with that label, `(k,)`."""
    images = np.bincount(labels, minlength=k)
    return np.asarray(np.bincount(labels, given, minlength=k) / np.maximum(images, 1))


def to_csv(rows: Sequence[ImageScore], split: str | None = None, *, header: bool = True) -> str:
    """CSV text, probabilities with six decimals; with a column "rejected" if there is a threshold.

    Args:
        rows: one line each.
        split: the last column of each line; None omits the column.
        header: whether to begin with the column names.
    """
    last = [] if split is None else [split]
    names = [field.name for field in fields(ImageScore)]
    if all(row.rejected is None for row in rows):
        names.remove("rejected")
    lines = [names + ["split"] * len(last)] if header else []
    lines += [[*(_cell(getattr(row, name)) for name in names), *last] for row in rows]
    return csv_text(lines)


def _cell(value: str | float | bool) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    return value if isinstance(value, str) else f"{value:.6f}"


def answers_of(run: Run) -> dict[str, list[ImageScore]]:
    """The predictions of a finished run for its validation and test images, in the order of its
    split.json.

    Raises:
        InputError: predictions.csv is missing, damaged, or of other images.
    """
    path = run.intact(filenames.PREDICTIONS)
    rows = list(csv.DictReader(io.StringIO(read_text(path))))
    splits = {name: run.splits[name] for name in ("val", "test") if name in run.splits}
    images = [image for of_split in splits.values() for image in of_split]
    if len(images) != len(rows):
        raise InputError(
            f"{path} has {len(rows)} rows, split.json {len(images)} such images; restore both from "
            "a copy of the run, or train again"
        )
    # Class names that look like a spreadsheet formula are escaped in the file.
    class_of = {next(csv.reader([csv_text([[name]])]))[0]: name for name in run.classes}
    answers = (
        ImageScore(
            file=show(image.name),
            label=class_of[row["label"]],
            prediction=class_of[row["prediction"]],
            score=float(row["score"]),
            label_score=float(row["label_score"]),
            suspect=row["suspect"] == "yes",
        )
        for image, row in zip(images, rows, strict=True)
    )
    return {name: list(islice(answers, len(of_split))) for name, of_split in splits.items()}
