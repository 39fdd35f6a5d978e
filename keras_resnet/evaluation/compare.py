"""Compares finished runs: settings, scores, sizes, and predictions for the same images."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from keras_resnet import filenames
from keras_resnet.errors import InputError
from keras_resnet.evaluation.per_image import answers_of
from keras_resnet.files import StrPath, read_json
from keras_resnet.results import Result
from keras_resnet.run import Run, open_run


@dataclass(frozen=True)
class ComparedFile:
    """An exported file with its results from the gate."""

    passed: bool
    top1: float | None
    bytes: int
    latency_ms: float | None


@dataclass(frozen=True)
class ComparedRun:
    """A run with the numbers in its metrics.json. Scores are on its own validation images."""

    run: str
    model: str
    width: float
    parameters: int
    bytes: int  # of model.keras
    best_epoch: int
    seconds: float  # of training
    images: int
    top1: float
    macro_f1: float
    loss: float
    test_top1: float | None  # None without test images
    files: dict[str, ComparedFile]  # the exported ones, by name


@dataclass(frozen=True)
class Pair:
    """The predictions of two runs for the images that neither was trained on."""

    first: str
    second: str
    images: int  # held out by both
    both_right: int
    first_only: int  # classified correctly by the first run only
    second_only: int
    p_value: float | None  # of the exact McNemar test; None without such images


@dataclass(frozen=True)
class Comparison(Result):
    """Runs side by side; lists have an item for each run."""

    runs: list[ComparedRun]
    settings: dict[str, list[Any]]  # the settings that differ
    # Recall on the validation images, sorted by the largest difference between runs.
    per_class: dict[str, list[float | None]]
    pairs: list[Pair]  # of the first run with each of the others


def compare(*runs: Run | StrPath) -> Comparison:
    """Compares finished runs.

    Args:
        runs: two or more, each a `Run` or its path.

    Returns:
        `Comparison`.

    Raises:
        InputError: fewer than two runs, the same one twice, or a run without scores or
            predictions.
    """
    opened = [open_run(path) for path in runs]
    if len(opened) < 2:
        raise InputError("compare takes two or more runs; `ls runs` shows them")
    paths = [os.path.realpath(run.path) for run in opened]
    if twice := next(
        (run for run, path in zip(opened, paths, strict=True) if paths.count(path) > 1), None
    ):
        raise InputError(f"{twice.path} is given twice; give another run")
    answers = [_answers(run) for run in opened]
    configs = [asdict(run.config) for run in opened]
    scores = [run.metrics["val"]["per_class"] for run in opened]
    names = dict.fromkeys(name for of_run in scores for name in of_run)
    recalls = ((name, [of_run.get(name, {}).get("top1") for of_run in scores]) for name in names)
    return Comparison(
        runs=[_compared(run) for run in opened],
        settings=_different(configs),
        per_class=dict(sorted(recalls, key=lambda row: -_spread(row[1]))),
        pairs=[
            _pair(opened[0], run, answers[0], of_run)
            for run, of_run in zip(opened[1:], answers[1:], strict=True)
        ],
    )


def _different(configs: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    columns = {name: [config[name] for config in configs] for name in configs[0]}
    return {name: row for name, row in columns.items() if any(value != row[0] for value in row)}


def _spread(shares: Iterable[float | None]) -> float:
    known = [share for share in shares if share is not None]
    return max(known) - min(known) if known else 0.0


def mcnemar(first_only: int, second_only: int) -> float:
    """The two-sided p-value of McNemar's exact test (1947) that two classifiers are equally good:
    an image that only one of them classifies correctly is equally likely to be either's."""
    n = first_only + second_only
    tail = ways = 1  # of choosing none of n
    for i in range(min(first_only, second_only)):
        ways = ways * (n - i) // (i + 1)
        tail += ways
    return min(float(Fraction(2 * tail, 2**n)), 1.0)


def _compared(run: Run) -> ComparedRun:
    metrics = run.metrics
    val, test = metrics["val"], metrics.get("test")
    verified = run.export_folder / filenames.VERIFY
    rows = read_json(verified)["artefacts"] if verified.exists() else []
    return ComparedRun(
        run=str(run.path),
        model=metrics["model"],
        width=run.config.width,
        parameters=metrics["parameters"],
        bytes=run.file(filenames.MODEL).stat().st_size,
        best_epoch=metrics["best_epoch"],
        seconds=metrics["seconds"],
        images=val["images"],
        top1=val["top1"],
        macro_f1=val["macro_f1"],
        loss=val["loss"],
        test_top1=test["top1"] if test else None,
        files={
            row["file"]: ComparedFile(row["passed"], row["top1"], row["bytes"], row["latency_ms"])
            for row in rows
        },
    )


def _answers(run: Run) -> dict[Any, bool]:
    """Whether each validation and test image was classified correctly, by its content and label."""
    if "val" not in run.metrics:
        raise InputError(f"{run.path} was imported and has no scores; train from its weights")
    # By content if it is known: the folder may have been moved or renamed.
    return {
        (image.digest or (run.config.data, image.name), image.label): row.is_right
        for split, rows in answers_of(run).items()
        for image, row in zip(run.splits[split], rows, strict=True)
    }


def _pair(first: Run, second: Run, of_first: dict[Any, bool], of_second: dict[Any, bool]) -> Pair:
    common = of_first.keys() & of_second.keys()
    right = [(of_first[key], of_second[key]) for key in common]
    first_only, second_only = right.count((True, False)), right.count((False, True))
    return Pair(
        first=str(first.path),
        second=str(second.path),
        images=len(common),
        both_right=right.count((True, True)),
        first_only=first_only,
        second_only=second_only,
        p_value=mcnemar(first_only, second_only) if common else None,
    )
