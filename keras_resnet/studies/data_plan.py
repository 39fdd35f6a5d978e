"""Predicts the gain from more photos: a learning curve, unseen groups, and the classes that gain.

The curve is measured with a small network at low resolution, on parts of the training images:
nested, stratified, with several seeds. All trainings have the same number of updates, batch size
and schedule, so that small parts are trained long enough and only the images differ.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_resnet import filenames, recipes, run
from keras_resnet.data import sources, splitting
from keras_resnet.data.examples import Examples
from keras_resnet.data.names import show
from keras_resnet.data.sources import Source
from keras_resnet.errors import InputError, require_whole
from keras_resnet.evaluation import binomial
from keras_resnet.evaluation.compare import mcnemar
from keras_resnet.evaluation.per_image import answers_of
from keras_resnet.evaluation.power_law import PowerLaws
from keras_resnet.files import StrPath, write_json
from keras_resnet.results import Result
from keras_resnet.specs import network_title
from keras_resnet.studies import trainings
from keras_resnet.training import defaults, schedule

_MODEL, _SIZE = "resnet8", 32  # defaults; a training takes seconds on a CPU
_HALVINGS = 3
_LEAST_SIZES = 3  # minimum number of points of a curve
_TIMES = (2, 4)  # predictions for these multiples of the images
_MOST_FOLDS = 5  # of the groups
_EPOCHS = 7  # minimum
_WARMUP = 0.1  # share of the epochs
_FEW_ERRORS = 5
_RISK = 0.05  # significance level over all classes


@dataclass(frozen=True)
class CurvePoint:
    """The trainings on one number of images. Errors are in 0…1."""

    images: int  # mean over the seeds
    error: float  # mean over the seeds
    low: float  # 95 % interval for the number of validation images (Clopper and Pearson)
    high: float
    spread: float  # standard deviation over the seeds
    errors: list[float]  # of each seed


@dataclass(frozen=True)
class PredictedError:
    """The error that the curve predicts. Errors are in 0…1."""

    images: int
    error: float
    low: float  # 95 % interval
    high: float


@dataclass(frozen=True)
class ClassGain:
    """A class, with half of the training images and with all. Errors are in 0…1."""

    name: str
    images: int  # validation images
    error_of_half: float
    error: float
    gain: float  # the difference
    spread: float  # its standard deviation over the seeds
    p_value: float  # of the exact sign test over the images
    is_gain: bool  # whether the gain is significant, given the number of classes


@dataclass(frozen=True)
class GroupScore:
    """The score on images of a group, by a network that was not trained on the group."""

    name: str
    images: int
    top1: float


@dataclass(frozen=True)
class Groups:
    """Accuracy for groups that were not seen in training. Accuracies are in 0…1."""

    groups: int
    folds: int
    known_top1: float  # of held-out images of groups that were trained on
    known_images: int
    unseen_top1: float
    unseen_images: int
    drop: float  # known minus unseen, the mean over the folds
    spread: float  # its standard deviation over the folds
    by_group: list[GroupScore]  # the worst first


@dataclass(frozen=True)
class DataPlan(Result):
    """Result of `plan_data`."""

    run: str  # the folder of the trainings
    model: str
    width: float
    image_size: int | str
    seeds: int
    updates: int  # of each training
    validation_images: int
    curve: list[CurvePoint]  # the smallest number of images first
    exponent: list[float] | None  # of the power laws: median, and the ends of the 95 % interval
    predictions: list[PredictedError]
    check: PredictedError | None  # the error with all images, predicted from the smaller parts
    classes: list[ClassGain]  # the largest gain first
    groups: Groups | None
    notes: list[str]  # limitations of the result


def default_folder(data: StrPath) -> Path:
    """The default folder for a data set; a repeated call finds its trainings there."""
    return run.RUNS / f"plan-{run.short_name(data)}"


def plan_data(
    data: StrPath = "digits",
    *,
    seeds: int = 3,
    group_by: str | None = None,
    run_folder: StrPath | None = None,
    **options: Any,
) -> DataPlan:
    """Measures a learning curve, and predicts the error for more photos.

    A ResNet-8 at 32 pixels is trained on an eighth, a quarter, half and all of the training images,
    as long as each class has enough of them, with several seeds, and scored on one validation
    split. See `evaluation.power_law` for the prediction. The same call resumes an interrupted one.

    Args:
        data: as in `train`.
        seeds: number of trainings for each number of images.
        group_by: as in `train`. The validation split and the parts then have whole groups, and the
            accuracy for unseen groups is measured: each group is left out of one training, with
            others if there are more than five.
        run_folder: the folder to write; default `runs/plan-DATA`.
        **options: settings of `train`; `epochs` is for the training with all images.

    Returns:
        `DataPlan`, also written to `plan.json` in the folder and plotted in `learning-curve.png`.

    Raises:
        InputError, CheckFailed, Interrupted: as in `train`.
    """
    require_whole("--seeds", seeds, 1)
    if seeds > 100:
        raise InputError(f"--seeds is {seeds}; expected 1 to 100")
    options = trainings.by_last_epoch(options)
    config = recipes.resolve({"data": data, "group_by": group_by, **options})
    trainings.require_no_splits(config, "data plan")
    folder = Path(run_folder) if run_folder else default_folder(config.data)
    source = sources.load_for(replace(config, weights=None))
    for examples in source.splits.values():
        trainings.require_unseen(examples, config.weights)
    study_options = {**options, "seeds": seeds, "group_by": group_by}
    trainings.begin(folder, "plan", study_options, source)
    parts = _Parts(source, seeds, group_by, config.val_split, options)
    trained = trainings.train_parts(folder, source, parts.all)
    runs = {part.name: one for part, one in zip(parts.all, trained, strict=True)}
    result = _result(folder, source, parts, runs)
    write_json(folder / filenames.PLAN, result.as_json())
    from keras_resnet.report import learning_curve_plot

    network = network_title(result.model, result.width)
    title = f"{run.short_name(config.data)}: {network} at {result.image_size} pixels"
    learning_curve_plot.plot(result.as_json(), title, folder / filenames.CURVE)
    return result


class _Parts:
    """The trainings of a plan."""

    def __init__(
        self,
        source: Source,
        seeds: int,
        group_by: str | None,
        val_split: float,
        options: Mapping[str, Any],
    ) -> None:
        self.seeds = seeds
        train, val = source.splits["train"], source.splits["val"]
        groups = splitting.group(train, group_by)
        nested = [_halves(train, groups, source.classes, seed) for seed in range(seeds)]
        self.sizes = min(map(len, nested))
        smallest = min(len(halves[self.sizes - 1]) for halves in nested)
        self._options = _with_defaults(options, smallest)
        steps = self._steps(train)
        least, _ = defaults.LENGTHS["finetune" if options.get("weights") else "quick"]
        self.updates = steps * (options.get("epochs") or max(_EPOCHS, math.ceil(least / steps)))
        # (number of halvings, seed) -> name of the training.
        self.curve = {
            (halving, seed): f"{_WORDS[halving]}-seed-{seed}"
            for halving in reversed(range(self.sizes))
            for seed in range(seeds)
        }
        self.all = [
            self._part(name, {"train": nested[seed][halving], "val": val}, seed)
            for (halving, seed), name in self.curve.items()
        ]
        self.keys: list[list[str | None]] = []  # groups of the unseen images, by fold
        if group_by:
            self._leave_groups_out(source, group_by, val_split)

    def _steps(self, train: Examples) -> int:
        return schedule.steps_per_epoch(self._options["batch_size"], len(train))

    def _part(self, name: str, splits: Mapping[str, Examples], seed: int) -> trainings.Part:
        epochs = max(round(self.updates / self._steps(splits["train"])), 1)
        first = self._options.get("seed") or 0
        return trainings.Part(
            name,
            splits,
            {
                **self._options,
                "seed": first + seed,
                "epochs": epochs,
                "warmup_epochs": _WARMUP * epochs,
            },
        )

    def _leave_groups_out(self, source: Source, group_by: str, val_split: float) -> None:
        """Adds a training for each fold, with the groups of the fold as its test split."""
        pool = sources.pool(source)
        pool = pool.take(np.argsort(pool.names))
        found = splitting.keys(pool, group_by)
        groups = splitting.group(pool, group_by)
        known = len(set(found) - {None})
        if known < 2:
            raise InputError(f"--group-by {group_by} finds one group; at least 2 are needed")
        count = min(known, _MOST_FOLDS)
        fold_of = splitting.folds(pool, groups, source.classes, count, 0)
        for k in range(count):
            unseen, rest = pool.take(np.flatnonzero(fold_of == k)), np.flatnonzero(fold_of != k)
            seen = pool.take(rest)
            held = splitting.hold_out(seen, splitting.group(seen), source.classes, val_split, k)
            splits = {
                "train": seen.take(np.flatnonzero(~held)),
                "val": seen.take(np.flatnonzero(held)),
                "test": unseen,
            }
            self.all.append(self._part(f"groups-{k + 1}", splits, 0))
            self.keys.append([found[i] for i in np.flatnonzero(fold_of == k)])


_WORDS = ("all", "half", "quarter", "eighth")


def _with_defaults(options: Mapping[str, Any], smallest: int) -> dict[str, Any]:
    """The settings of all trainings; the batch size is that of `train` for the smallest part."""
    chosen = {name: value for name, value in options.items() if value is not None}
    chosen.pop("epochs", None)
    if "weights" not in chosen:
        chosen = {"model": _MODEL, "image_size": _SIZE, **chosen}
    if "batch_size" not in chosen:
        usual = recipes.resolve(chosen).batch_size
        if {"learning_rate", "base_batch"} <= recipes.unset(chosen):
            chosen["base_batch"] = usual
        chosen["batch_size"] = defaults.batch_size_for(smallest, usual)
    return chosen


def _halves(
    train: Examples, groups: npt.NDArray[np.int64], classes: Sequence[str], seed: int
) -> list[Examples]:
    """All training images, half of them, half of these, …, while each class can be halved."""
    parts = [train]
    for _ in range(_HALVINGS):
        try:
            held = splitting.hold_out(parts[-1], groups, classes, 0.5, seed)
        except InputError:
            break
        parts.append(parts[-1].take(np.flatnonzero(held)))
        groups = groups[held]
    return parts


def _result(folder: Path, source: Source, parts: _Parts, runs: Mapping[str, run.Run]) -> DataPlan:
    wrong = {
        key: np.array([not row.is_right for row in answers_of(runs[name])["val"]])
        for key, name in parts.curve.items()
    }
    images = {key: len(runs[name].splits["train"]) for key, name in parts.curve.items()}
    val = source.splits["val"]
    curve = [
        _point(
            [wrong[h, s] for s in range(parts.seeds)], [images[h, s] for s in range(parts.seeds)]
        )
        for h in reversed(range(parts.sizes))
    ]
    notes = list(_limits(curve, val, parts))
    predictions, check, exponent = [], None, None
    if len(curve) >= _LEAST_SIZES:
        laws = _laws(curve, len(val))
        now = curve[-1].images
        predictions = [_predicted(laws, times * now) for times in _TIMES]
        exponent = [laws.exponent.error, laws.exponent.low, laws.exponent.high]
        check = _predicted(_laws(curve[:-1], len(val)), now)
        if not laws.fits:
            notes.append(
                "the errors do not follow a power law: the small subsets may be too small to "
                "learn from, and the prediction is rough"
            )
    some = runs[parts.curve[0, 0]]
    return DataPlan(
        run=str(folder),
        model=some.config.model,
        width=some.config.width,
        image_size=some.config.image_size,
        seeds=parts.seeds,
        updates=parts.updates,
        validation_images=len(val),
        curve=curve,
        exponent=exponent,
        predictions=predictions,
        check=check,
        classes=_gains(source, parts, wrong) if parts.sizes > 1 else [],
        groups=_groups(parts, runs) if parts.keys else None,
        notes=notes,
    )


def _point(wrong: Sequence[npt.NDArray[np.bool_]], images: Sequence[int]) -> CurvePoint:
    errors = [float(each.mean()) for each in wrong]
    count = len(wrong[0])
    mean = float(np.mean(errors))
    low, high = binomial.interval(round(mean * count), count)
    spread = float(np.std(errors, ddof=1)) if len(errors) > 1 else 0.0
    return CurvePoint(round(float(np.mean(images))), mean, low, high, spread, errors)


def _laws(curve: Sequence[CurvePoint], validation: int) -> PowerLaws:
    """The power laws of these points.

    Trainings of one size are scored on the same images, so the variance between their seeds adds to
    the sampling variance of these images.
    """
    by_seeds = np.mean([point.spread**2 / len(point.errors) for point in curve])
    by_images = np.mean([max(p.error * (1 - p.error), 1 / validation) / validation for p in curve])
    return PowerLaws(
        [point.images for point in curve],
        [point.error for point in curve],
        validation,
        1 + float(by_seeds / by_images),
    )


def _predicted(laws: PowerLaws, images: int) -> PredictedError:
    found = laws.at(images)
    return PredictedError(images, found.error, found.low, found.high)


def _limits(curve: Sequence[CurvePoint], val: Examples, parts: _Parts) -> Iterator[str]:
    """The notes on limitations of the result."""
    validation = len(val)
    # The best guess is the largest class.
    last, guessing = curve[-1], 1 - float(np.bincount(val.labels).max()) / validation
    if last.high >= guessing:
        yield (
            f"with all images the error is {last.error:.1%}, and up to {last.high:.1%} (95 %); "
            f"guessing has {guessing:.1%}: this says nothing about more photos; train longer, with "
            "more --epochs"
        )
    if len(curve) < _LEAST_SIZES:
        yield (
            f"too few images for a curve: a class can be halved {len(curve) - 1} times, but a "
            f"prediction needs {_LEAST_SIZES - 1}"
        )
    if last.error * validation < _FEW_ERRORS:
        yield (
            f"with all images {last.error * validation:.1f} of {validation:,} validation images "
            f"are wrong: the error is at most {last.high:.1%} (95 %), and fewer errors could not "
            "be measured; more or harder validation images are needed"
        )
    if parts.seeds < 2:
        yield "one seed: the variation between trainings is unknown; give --seeds 3"
    if parts.keys:
        yield (
            "images of a group are similar: the intervals, which count images, are too narrow if "
            "there are few groups"
        )


def _gains(
    source: Source, parts: _Parts, wrong: Mapping[tuple[int, int], npt.NDArray[np.bool_]]
) -> list[ClassGain]:
    """The gain of each class from half of the images to all, the largest first.

    An image is better if it is wrong for fewer seeds with all images than with half. The sign test
    over images is that of McNemar, with a Bonferroni correction for the number of classes. It does
    not see the variation between trainings, so the class must gain with each seed too.
    """
    labels = source.splits["val"].labels
    half, full = (np.array([wrong[h, s] for s in range(parts.seeds)]) for h in (1, 0))
    rows = []
    for k, name in enumerate(source.classes):
        of_class = labels == k
        if not of_class.any():
            continue
        before, after = half[:, of_class], full[:, of_class]
        change = before.sum(0).astype(int) - after.sum(0)
        p_value = mcnemar(int((change > 0).sum()), int((change < 0).sum()))
        gains = before.mean(1) - after.mean(1)
        rows.append(
            ClassGain(
                name=name,
                images=int(of_class.sum()),
                error_of_half=float(before.mean()),
                error=float(after.mean()),
                gain=float(gains.mean()),
                spread=float(np.std(gains, ddof=1)) if len(gains) > 1 else 0.0,
                p_value=p_value,
                is_gain=bool(gains.min() > 0 and p_value < _RISK / len(source.classes)),
            )
        )
    return sorted(rows, key=lambda row: -row.gain)


def _groups(parts: _Parts, runs: Mapping[str, run.Run]) -> Groups:
    """The accuracy for known groups and for unseen ones."""
    known, unseen = [], []
    by_group: dict[str, list[bool]] = {}
    for k, names in enumerate(parts.keys):
        one = runs[f"groups-{k + 1}"]
        answers = answers_of(one)
        known.append(np.array([row.is_right for row in answers["val"]]))
        images = zip(names, answers["test"], strict=True)
        grouped = [(name, row.is_right) for name, row in images if name is not None]
        unseen.append(np.array([right for _, right in grouped]))
        for name, right in grouped:
            by_group.setdefault(name, []).append(right)
    pairs = zip(known, unseen, strict=True)
    # The images of a fold may all be of no group.
    drops = [a.mean() - b.mean() for a, b in pairs if len(b)]
    rows = [
        GroupScore(show(name), len(right), float(np.mean(right)))
        for name, right in by_group.items()
    ]
    return Groups(
        groups=len(rows),
        folds=len(known),
        known_top1=float(np.concatenate(known).mean()),
        known_images=sum(map(len, known)),
        unseen_top1=float(np.concatenate(unseen).mean()),
        unseen_images=sum(map(len, unseen)),
        drop=float(np.mean(drops)),
        spread=float(np.std(drops, ddof=1)) if len(drops) > 1 else 0.0,
        by_group=sorted(rows, key=lambda row: (row.top1, row.name)),
    )
