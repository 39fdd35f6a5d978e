"""Searches for a network within a budget of size and latency.

Networks from small to large are trained for a short time, exported as int8 files and measured. Of
those within the budget and as good as the best of them, the fastest is chosen.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_resnet import filenames, geometry, recipes, specs
from keras_resnet.errors import CheckFailed, InputError, NetworkFailed, require_whole
from keras_resnet.files import StrPath, read_json, write_json
from keras_resnet.messages import log, plural, quietly
from keras_resnet.run import Run, finished
from keras_resnet.weights.settings import IMAGENET

if TYPE_CHECKING:
    from keras_resnet.data.sources import Source

# (network, width), each tried at the sizes below. Small networks are those for CIFAR.
_NETWORKS = (
    ("resnet8", 0.5), ("resnet8", 1.0), ("resnet20", 0.5), ("resnet20", 1.0), ("resnet32", 0.5),
    ("resnet32", 1.0), ("resnet56", 1.0), ("resnet18", 0.25), ("resnet18", 0.5), ("resnet18", 1.0),
    ("resnet34", 1.0), ("resnet50", 1.0),
)  # fmt: skip
_PRETRAINED = ("resnet18", "resnet34", "resnet50")  # with published weights
_WIDTHS = (0.25, 0.5, 1.0)  # for a network named by the user
_SIZES = (32, 48, 64, 96, 128, 160, 224)
_CIFAR_STEM_MOST, _IMAGENET_STEM_LEAST = 64, 64
_SHARE = 3  # a short training has a third of the epochs
_LEAST_EPOCHS = 3
# The search stops after this many consecutive networks that are no better or exceed the budget.
_PATIENCE = 3
_RUNS = 35  # inferences per latency measurement


@dataclass(frozen=True)
class Budget:
    """Limits for a model file; None: no limit."""

    max_mb: float | None = None  # size of the file, in millions of bytes
    max_ms: float | None = None  # median latency of one image
    threads: int = 1
    android: bool = False  # measure latency on the phone connected with adb

    @property
    def is_set(self) -> bool:
        return self.max_mb is not None or self.max_ms is not None

    @property
    def measured_on(self) -> str:
        """The device of the latency measurement, in words."""
        if self.android:
            return "the phone" if self.threads == 1 else f"{self.threads} threads of the phone"
        return f"{plural(self.threads, 'thread')} of this machine"

    def require(self) -> None:
        """Raises InputError for invalid limits, or without a phone for `android`."""
        for option, limit in (("max-mb", self.max_mb), ("max-ms", self.max_ms)):
            if limit is not None and not (isinstance(limit, Real) and 0 < limit < math.inf):
                raise InputError(f"--{option} is {limit!r}; expected a number above 0")
        require_whole("--threads", self.threads, 1)
        if self.max_ms is None and (self.threads != 1 or self.android):
            raise InputError(
                f"{'--android' if self.android else '--threads'} is for --max-ms; give that too"
            )
        if self.android:
            from keras_resnet.evaluation.android import require_device

            require_device()

    def excess(self, size: int, latency_ms: float) -> str | None:
        """The size or latency that exceeds the budget, as text; None if the file is within it."""
        if self.max_mb is not None and size > self.max_mb * 1e6:
            return f"{size / 1e6:.3g} MB"
        if self.max_ms is not None and latency_ms > self.max_ms:
            return f"{latency_ms:.3g} ms"
        return None


@dataclass(frozen=True)
class Candidate:
    """A network at an image size; after its trial, with its short training and its int8 file."""

    model: str
    width: float
    image_size: int | str
    parameters: int
    multiply_adds: int
    run: str = ""
    epochs: int = 0
    images: int | None = None  # validation images; None, like the next three, without a file
    top1: float | None = None  # of the file, on these images
    bytes: int | None = None
    latency_ms: float | None = None
    excess: str | None = None  # the value that exceeds the budget, or why there is no file
    chosen: bool = False

    @property
    def name(self) -> str:
        return f"{specs.network_title(self.model, self.width)} at {self.image_size}"

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, **asdict(self)}


def choose(
    data: StrPath, folder: Path, budget: Budget, options: Mapping[str, Any], run_folder: Path
) -> tuple[dict[str, Any], list[Candidate]]:
    """Finds the network for a budget.

    The same call resumes an interrupted one.

    Args:
        data: as in `train`.
        folder: folder of the short trainings, with a sub-folder for each state of the images and
            the options.
        budget: the limits.
        options: settings of `train`; a given model, width or image size is not varied.
        run_folder: the folder in which the chosen network will be trained.

    Returns:
        Settings of `train` for the chosen network, with its teacher, which is trained here; and all
        candidates that were tried, sorted by multiply-adds.

    Raises:
        InputError: `run_folder` already has a run, of another search or none.
        CheckFailed: no network is within the budget. Interrupted: as in `train`.
    """
    from keras_resnet.data import sources

    source = sources.load_for(recipes.resolve({"data": data, **options}))
    folder = folder / _key(data, source, options)
    result = folder / filenames.FRONTIER
    found = read_json(result) if result.exists() else {}
    if found.get("budget") != asdict(budget):  # saved, because timings vary between calls
        if (run_folder / filenames.CONFIG).exists():
            raise InputError(
                f"--run {run_folder} has a network that was not searched for this budget, these "
                "images and options; give another --run"
            )
        points, teacher = _search(data, source, folder, budget, options)
        found = {
            "budget": asdict(budget),
            "points": [asdict(point) for point in points],
            "teacher": teacher and _settings(teacher),
        }
        folder.mkdir(parents=True, exist_ok=True)
        write_json(result, found)
    points = [Candidate(**point) for point in found["points"]]
    (winner,) = (point for point in points if point.chosen)
    settings = _settings(winner)
    if teacher := found["teacher"]:
        log.info("training the teacher …")
        place = folder / f"teacher-{'-'.join(map(str, teacher.values()))}"
        # A teacher trained with label smoothing teaches less (arXiv:1906.02629, section 4).
        _trained(place, data, {**options, **teacher, "label_smoothing": 0.0})
        settings["teacher"] = str(place)
    return settings, points


def _key(data: StrPath, source: "Source", options: Mapping[str, Any]) -> str:
    """A short name for the images and the options of a search."""
    given = {name: str(value) for name, value in options.items() if value is not None}
    identity = [os.path.abspath(data), source.classes, source.fingerprint(), given]
    content = json.dumps(identity, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:8]


def _search(
    data: StrPath, source: "Source", folder: Path, budget: Budget, options: Mapping[str, Any]
) -> tuple[list[Candidate], Candidate | None]:
    """Returns all candidates that were tried, and the teacher for the chosen one."""
    listed = candidates(source.side, len(source.classes), options)
    if not listed:
        given = ", ".join(
            f"--{name.replace('_', '-')} {options[name]}"
            for name in ("weights", "width", "image_size")
            if options.get(name)
        )
        where = f", where images have {source.side} pixels" if source.side else ""
        raise InputError(f"no network can be tried with {given}{where}; give --model")
    points = list(_try_all(listed, data, source, folder, budget, options))
    if not points:
        least = min(candidate.parameters for candidate in listed)
        raise CheckFailed(
            f"no network is within --max-mb {budget.max_mb:g}: the smallest has {least:,} weights, "
            "at least one byte each; give a larger value"
        )
    winner = best(points)
    if winner is None:
        raise CheckFailed(_none_fits(points))
    return [replace(p, chosen=p is winner) for p in points], teacher_of(winner, points)


def _none_fits(points: Sequence[Candidate]) -> str:
    least = points[0]
    size = (
        "" if least.bytes is None else f" ({least.bytes / 1e6:.3g} MB, {least.latency_ms:.3g} ms)"
    )
    return (
        f"no network is within the budget, not even {least.name}{size}: {least.excess}; give a "
        "larger --max-mb or --max-ms"
    )


def best(points: Iterable[Candidate]) -> Candidate | None:
    """The fastest candidate within the budget whose top-1 is at most one standard error below the
    best; None if none is within the budget.

    The one-standard-error rule is from Breiman et al. 1984, "Classification and Regression Trees",
    section 3.4.3: smaller differences are noise of the validation images.
    """
    fitting = [p for p in points if p.excess is None and p.top1 is not None]
    if not fitting:
        return None
    most = max(fitting, key=_top1)
    least = _top1(most) - _standard_error(most)
    good = (p for p in fitting if _top1(p) >= least)
    return min(good, key=lambda p: (p.latency_ms, p.bytes))


def teacher_of(winner: Candidate, points: Iterable[Candidate]) -> Candidate | None:
    """The largest candidate that is larger than the winner and no worse; None if there is none."""
    larger = (
        p for p in points if p.multiply_adds > winner.multiply_adds and _top1(p) >= _top1(winner)
    )
    return max(larger, key=lambda p: p.multiply_adds, default=None)


def _top1(point: Candidate) -> float:
    return -1.0 if point.top1 is None else point.top1


def _standard_error(point: Candidate) -> float:
    """The standard error of a top-1 accuracy, with two additional successes and failures (Agresti
    and Coull 1998), so that it is not 0 for an accuracy of 1."""
    assert point.images and point.top1 is not None
    n = point.images + 4
    p = (point.top1 * point.images + 2) / n
    return math.sqrt(p * (1 - p) / n)


def candidates(side: int | None, num_classes: int, options: Mapping[str, Any]) -> list[Candidate]:
    """The networks to try, sorted by multiply-adds.

    Args:
        side: median of the images' shorter sides in pixels; None if unknown.
        num_classes: number of classes.
        options: settings of `train`.
    """
    listed: list[Candidate] = []
    for model, width in _networks(options):
        sizes = [size for size in _sizes(side, options) if _suit(model, size, options)]
        if sizes:
            listed += _counted(model, width, sizes, num_classes, options)
    return sorted(listed, key=lambda c: (c.multiply_adds, c.parameters))


def _networks(options: Mapping[str, Any]) -> Sequence[tuple[str, float]]:
    model, width, weights = (options.get(name) for name in ("model", "width", "weights"))
    if weights == IMAGENET:
        return [(name, width or 1.0) for name in ([model] if model else _PRETRAINED)]
    if weights:
        from keras_resnet.weights.fitting import network_of

        own = recipes.network_of_weights(weights) if not model else {}
        width = width or own.get("width", 1.0)
        return [(model or own.get("model") or network_of(weights), width)]
    if model is None:
        return [(name, own) for name, own in _NETWORKS if width in (None, own)]
    return [(specs.find(model).name, own) for own in ([width] if width else _WIDTHS)]


def _sizes(side: int | None, options: Mapping[str, Any]) -> Sequence[int | str]:
    if options.get("image_size"):
        return [geometry.parse_size(options["image_size"])]
    return [size for size in _SIZES if size <= max(side or _CIFAR_STEM_MOST, _SIZES[0])]


def _suit(model: str, size: int | str, options: Mapping[str, Any]) -> bool:
    """Whether a network suits images of this size; a requested network always does."""
    if options.get("model") or options.get("weights") not in (None, IMAGENET):
        return True
    side = geometry.from_size(size, "crop", 3).side
    if specs.find(model).stem == "cifar":
        return side <= _CIFAR_STEM_MOST
    return side >= _IMAGENET_STEM_LEAST


def _counted(
    model: str,
    width: float,
    sizes: Iterable[int | str],
    num_classes: int,
    options: Mapping[str, Any],
) -> Iterator[Candidate]:
    """Yields a network at several image sizes, with its costs; it is built once."""
    from keras_resnet.inspection.network import describe, without_weights

    fit, channels = options.get("fit") or "crop", options.get("channels") or 3
    network = without_weights(model, num_classes, (None, None, channels), width=width)
    for size in sizes:
        costs = describe(network, geometry.from_size(size, fit, channels).shape)
        yield Candidate(model, width, size, costs.parameters, costs.multiply_adds or 0)


def _try_all(
    listed: Iterable[Candidate],
    data: StrPath,
    source: "Source",
    folder: Path,
    budget: Budget,
    options: Mapping[str, Any],
) -> Iterator[Candidate]:
    """Trains and measures candidates in order, until `_PATIENCE` stops the search."""
    left, highest = _PATIENCE, -1.0
    for candidate in listed:
        if budget.max_mb is not None and candidate.parameters > budget.max_mb * 1e6:
            continue  # an int8 file has at least one byte per parameter
        log.info(f"trying {candidate.name}: {candidate.multiply_adds / 1e6:.3g} M multiply-adds …")
        short = max(_LEAST_EPOCHS, round(_epochs(candidate, data, source, options) / _SHARE))
        point = _try(candidate, data, folder, budget, {**options, "epochs": short})
        log.info(_summary(point))
        yield point
        is_better = point.excess is None and _top1(point) > highest
        highest = max(highest, _top1(point))
        left = _PATIENCE if is_better else left - 1
        if not left:
            log.info("larger networks are no better or over budget")
            return


def _summary(point: Candidate) -> str:
    if point.top1 is None:
        return f"  no int8 file: {point.excess}"
    assert point.bytes and point.latency_ms
    return f"  top-1 {point.top1:.1%}, {point.bytes / 1e6:.3g} MB, {point.latency_ms:.3g} ms" + (
        ", over budget" if point.excess else ""
    )


def _try(
    candidate: Candidate, data: StrPath, folder: Path, budget: Budget, options: Mapping[str, Any]
) -> Candidate:
    """Trains for a short time, exports an int8 file and measures it; finished steps are not
    repeated. Returns the candidate with the results."""
    from keras_resnet.exporting import exporter

    place = folder / f"{candidate.model}-{candidate.width:g}-{candidate.image_size}"
    candidate = replace(candidate, epochs=options["epochs"], run=str(place))
    try:
        trained = _trained(place, data, {**options, **_settings(candidate)})
        path = trained.export_folder / filenames.TFLITE["int8"]
        if not path.exists():
            exporter.export(trained, saved_model=False, tflite=["int8"], max_drop=100.0)
    except NetworkFailed as error:  # other errors, such as a full disk, say nothing of it
        return replace(candidate, excess=str(error).splitlines()[0])
    (row,) = read_json(trained.export_folder / filenames.VERIFY)["artefacts"]
    latency = measure(path, budget)
    size = path.stat().st_size
    return replace(
        candidate,
        images=row["images"],
        top1=row["top1"],
        bytes=size,
        latency_ms=latency,
        excess=budget.excess(size, latency),
    )


def _settings(candidate: Candidate) -> dict[str, Any]:
    return {name: getattr(candidate, name) for name in ("model", "width", "image_size")}


def _trained(place: Path, data: StrPath, settings: Mapping[str, Any]) -> Run:
    from keras_resnet.training.train import train

    given = {"data": data, **settings}
    trained = finished(place, given) or train(run_folder=place, **given)
    if trained is None:
        raise InputError("a search is for one process; leave out the other workers")
    return trained


def measure(path: Path, budget: Budget) -> float:
    """Latency of one image in milliseconds, with LiteRT: the median, in a separate process on this
    machine; or the mean, on a phone."""
    from keras_resnet.evaluation import android, benchmark

    if budget.android:
        return android.benchmark([path], threads=budget.threads, runs=_RUNS).artefacts[0].average_ms
    timings = benchmark.benchmark([path], threads=budget.threads, runs=_RUNS)
    return timings.artefacts[0].p50_ms


def _epochs(
    candidate: Candidate, data: StrPath, source: "Source", options: Mapping[str, Any]
) -> int:
    """The number of epochs of a full training."""
    from keras_resnet.training import defaults

    given = {"data": data, **options, **_settings(candidate)}
    with quietly():
        return defaults.fit(recipes.resolve(given), source, recipes.unset(given, None)).epochs
