"""K-fold cross-validation: each image is scored by a network that was not trained on it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet import filenames, recipes, run
from keras_resnet.data import sources, splitting
from keras_resnet.data.examples import Examples
from keras_resnet.errors import InputError, require_whole
from keras_resnet.evaluation import binomial
from keras_resnet.evaluation.metrics import ClassScores, class_scores, confusion_of
from keras_resnet.evaluation.per_image import (
    ImageScore,
    answers_of,
    can_suspect,
    ranked_suspects,
    to_csv,
)
from keras_resnet.files import StrPath, write_json, write_text
from keras_resnet.messages import percent
from keras_resnet.results import Result
from keras_resnet.studies import trainings

_SHOWN = 48  # images on the contact sheet


@dataclass(frozen=True)
class Fold:
    """A training and its score on the held-out images. Accuracies are in 0…1."""

    run: str
    images: int  # held out
    top1: float


@dataclass(frozen=True)
class CrossValidation(Result):
    """The scores of all folds. Accuracies are in 0…1."""

    run: str  # the folder of the folds
    folds: list[Fold]
    images: int
    top1: float  # of all images, each held out once
    low: float  # 95 % interval of top1, if the images are independent (Clopper and Pearson)
    high: float
    mean: float  # of the folds' top1
    spread: float  # its standard deviation over the folds
    per_class: dict[str, ClassScores]
    confusion: list[list[int]]  # images by true class (rows) and predicted class (columns)
    suspects: list[ImageScore]  # images whose label may be wrong, the least likely label first

    @property
    def can_suspect(self) -> bool:
        """Whether the networks were good enough to find suspects."""
        return can_suspect(np.array(self.confusion))


def default_folder(data: StrPath) -> Path:
    """The default folder for a data set; a repeated call finds its folds there."""
    return run.RUNS / f"folds-{run.short_name(data)}"


def cross_validate(
    data: StrPath | None = None,
    folds: int = 5,
    *,
    config_file: StrPath | None = None,
    run_folder: StrPath | None = None,
    **options: Any,
) -> CrossValidation:
    """Trains a network for each fold of the images, and scores it on that fold.

    The folds are stratified and seeded; equal images, and images related by `group_by`, are in one
    fold. A test split of the data is left out. Each network is that of its last epoch: choosing the
    epoch on the images of the fold, as `train` does, would make the scores too good.

    The same call resumes an interrupted one.

    Args:
        data: as in `train`.
        folds: number of folds, k; each network is trained on (k - 1) / k of the images.
        config_file: as in `train`.
        run_folder: the folder to write, with runs `fold-1`, …; default `runs/folds-DATA`.
        **options: settings of `train`.

    Returns:
        `CrossValidation`, also written to `metrics.json` in the folder; `predictions.csv` has the
        prediction for each image, `suspects.png` shows images whose label may be wrong.

    Raises:
        InputError, CheckFailed, Interrupted: as in `train`; InputError also for fewer groups of
            images than folds.
    """
    require_whole("--folds", folds, 2)
    options = trainings.by_last_epoch(options, config_file)
    config = recipes.resolve({"data": data, **options}, config_file)
    trainings.require_no_splits(config, "--folds")
    if options.get("val_split") is not None:
        raise InputError("--folds creates the splits; leave out --val-split")
    folder = Path(run_folder) if run_folder else default_folder(config.data)
    source = sources.load_for(replace(config, weights=None))
    pool = sources.pool(source)
    trainings.require_unseen(pool, config.weights)
    pool = pool.take(np.argsort(pool.names))
    groups = splitting.group(pool, config.group_by)
    fold_of = splitting.folds(pool, groups, source.classes, folds, config.seed)
    study_options = {**asdict(config), "data": None, "folds": folds}  # the images may be moved
    trainings.begin(folder, "cross-validation", study_options, source)
    parts = [
        trainings.Part(
            f"fold-{k + 1}",
            {
                "train": pool.take(np.flatnonzero(fold_of != k)),
                "val": pool.take(np.flatnonzero(fold_of == k)),
            },
            options,
        )
        for k in range(folds)
    ]
    runs = trainings.train_parts(folder, source, parts, config_file)
    rows = [row for one in runs for row in answers_of(one)["val"]]
    numbers = np.concatenate([np.flatnonzero(fold_of == k) for k in range(folds)])
    ranked = ranked_suspects(rows, source.classes)
    suspects = set(ranked)
    rows = [replace(row, suspect=i in suspects) for i, row in enumerate(rows)]
    result = _result(folder, runs, rows, ranked, source.classes)
    _write(folder, result, rows)
    _draw(folder, result, [int(numbers[i]) for i in ranked], pool)
    return result


def _result(
    folder: Path,
    runs: Sequence[run.Run],
    rows: Sequence[ImageScore],
    ranked: Sequence[int],
    classes: Sequence[str],
) -> CrossValidation:
    number = {name: k for k, name in enumerate(classes)}
    labels = [number[row.label] for row in rows]
    guesses = [number[row.prediction] for row in rows]
    confusion = confusion_of(labels, guesses, len(classes))
    right = int(confusion.trace())
    scores = [one.metrics["val"] for one in runs]
    top1 = [score["top1"] for score in scores]
    low, high = binomial.interval(right, len(rows))
    return CrossValidation(
        run=str(folder),
        folds=[
            Fold(str(one.path), score["images"], score["top1"])
            for one, score in zip(runs, scores, strict=True)
        ],
        images=len(rows),
        top1=right / len(rows),
        low=low,
        high=high,
        mean=float(np.mean(top1)),
        spread=float(np.std(top1, ddof=1)),
        per_class=class_scores(confusion, classes),
        confusion=confusion.tolist(),
        suspects=[rows[i] for i in ranked],
    )


def _write(folder: Path, result: CrossValidation, rows: Sequence[ImageScore]) -> None:
    text, first = "", 0
    for k, fold in enumerate(result.folds):
        text += to_csv(rows[first : first + fold.images], f"fold-{k + 1}", header=not k)
        first += fold.images
    write_text(folder / filenames.PREDICTIONS, text)
    write_json(folder / filenames.METRICS, result.as_json())


def _draw(folder: Path, result: CrossValidation, numbers: Sequence[int], pool: Examples) -> None:
    from keras_resnet.report.plots import Line
    from keras_resnet.training import gallery

    shown = result.suspects[:_SHOWN]
    captions = [
        [
            Line(row.file),
            Line(row.label, "label", f"({percent(row.label_score)})"),
            Line(row.prediction, "predicted", f"({percent(row.score)})"),
        ]
        for row in shown
    ]
    path = folder / filenames.SUSPECTS
    gallery.contact_sheet(pool, numbers[:_SHOWN], captions, path, "Labels that may be wrong")
