"""report.html: a self-contained report of a finished run, which opens offline.

`write` reads the files of the run, `report_data` computes what the page shows, and `render` fills
in `report.html.jinja`.
"""

import csv
import json
import math
import shlex
import struct
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from keras_resnet import filenames, recipes
from keras_resnet.errors import InputError
from keras_resnet.evaluation import binomial
from keras_resnet.evaluation.metrics import calibration_error, score_bins
from keras_resnet.files import StrPath, read_json, read_lines, write_text
from keras_resnet.messages import percent, plural, points
from keras_resnet.report import svg
from keras_resnet.report.bundles import bundles_in, how_to_open
from keras_resnet.specs import CUSTOM, network_title

MOST_ROWS = 20  # visible rows of the table of classes; the others are folded
MOST_CONFUSIONS = 5
PICTURES = ("confusion", "batch")
# The files of a run folder that the page is made from, except those that `write` may be given.
SOURCES = (
    filenames.HISTORY, filenames.PREDICTIONS, filenames.EXAMPLES,
    *(f"{name}.png" for name in PICTURES),
)  # fmt: skip
_T = TypeVar("_T")
_SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Picture:
    """A PNG inside the page; `width` is in CSS pixels."""

    width: int
    base64: str


@dataclass(frozen=True)
class ClassScore:
    """A row of the table of classes; shares in 0…1, None without images."""

    name: str
    images: int
    top1: float | None
    precision: float | None = None
    f1: float | None = None


@dataclass(frozen=True)
class Calibration:
    """The calibration of the scores as probabilities."""

    error: float  # expected calibration error, in 0…1
    score: float  # mean over all images, as is the accuracy
    accuracy: float
    plot: Markup


@dataclass(frozen=True)
class Export:
    """The results of `export` and `verify`."""

    verified: dict[str, Any]  # verify.json
    preprocess: dict[str, Any]  # preprocess.json
    bundles: dict[str, tuple[str, str]]  # name of the folder -> how to open it
    classifier: str | None  # the path of a `.tflite` file, quoted for a shell


@dataclass(frozen=True)
class RunFiles:
    """The content of those files of a run for the page that exist."""

    metrics: dict[str, Any]
    config: dict[str, Any]
    labels: list[str]
    epochs: list[dict[str, float]]
    predictions: list[dict[str, str]]
    examples: dict[str, list[dict[str, Any]]]
    pictures: dict[str, bytes]
    export: Export | None


@dataclass(frozen=True)
class Confusion:
    """`count` of the `images` of the class `label` were predicted as `prediction`."""

    count: int
    images: int
    label: str
    prediction: str


@dataclass(frozen=True)
class ReportData:
    """The values of `report.html.jinja`, not escaped."""

    model: str
    data: str  # the data set
    run: str  # the run folder and its config.json, quoted for a shell
    config_file: str
    metrics: dict[str, Any]  # metrics.json
    val: dict[str, Any] | None  # the scores of the two splits, from metrics.json
    test: dict[str, Any] | None
    interval: tuple[float, float]  # 95% confidence interval of the validation top-1
    test_interval: tuple[float, float]  # of the test top-1
    class_count: int
    classes: list[ClassScore]  # worst first
    confusions: list[Confusion]  # most frequent first
    epochs: list[dict[str, float]]  # history.csv
    best_epoch: dict[str, float] | None
    sizes: list[tuple[int, int, int]]  # first and last epoch of each image size
    images: dict[str, dict[str, int]]  # split -> class -> images
    command: str | None  # trains such a run
    settings: dict[str, str]
    calibration: Calibration | None
    suspects: list[dict[str, str]]  # rows of predictions.csv
    examples: dict[str, list[dict[str, Any]]]  # examples.json
    export: Export | None
    plots: dict[str, Markup]  # loss, top1, confusion
    pictures: dict[str, Picture]  # by name in PICTURES
    most_rows: int = MOST_ROWS


def write(
    folder: StrPath,
    *,
    metrics: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    labels: list[str] | None = None,
) -> Path:
    """Writes `report.html` into a run folder, from the files of the run.

    Reads `metrics.json` and, if they exist, `config.json`, `labels.txt`, the `SOURCES`, and files
    in `export/`.

    Args:
        folder: the run folder.
        metrics, config, labels: the content of `metrics.json`, `config.json` and `labels.txt`, if
            they were read already.

    Returns:
        The path of the page.

    Raises:
        InputError: there is no readable `metrics.json`.
    """
    folder = Path(folder)
    files = RunFiles(
        metrics=_metrics(folder / filenames.METRICS) if metrics is None else metrics,
        config=_if_there(read_json, folder / filenames.CONFIG, {}) if config is None else config,
        labels=_if_there(read_lines, folder / filenames.LABELS, []) if labels is None else labels,
        epochs=_epochs(folder),
        predictions=_csv(folder / filenames.PREDICTIONS),
        examples=_if_there(read_json, folder / filenames.EXAMPLES, {}),
        pictures={name: _png(folder / f"{name}.png") for name in PICTURES},
        export=_export(folder / filenames.EXPORT),
    )
    page = folder / filenames.REPORT
    write_text(page, render(report_data(folder, files)))
    return page


def _if_there(read: Callable[[Path], _T], path: Path, otherwise: _T) -> _T:
    return read(path) if path.exists() else otherwise


def _metrics(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except OSError as error:
        raise InputError(
            f"cannot read {path} ({error.strerror}); the run is not finished: resume it or train "
            "again"
        ) from None


def _csv(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _export(folder: Path) -> Export | None:
    verified, preprocess = folder / filenames.VERIFY, folder / filenames.PREPROCESS
    if not (verified.exists() and preprocess.exists()):
        return None
    bundles = {path.name: how_to_open(path) for path in bundles_in(folder)}
    files = [folder / name for name in filenames.TFLITE.values()]
    classifier = next((shlex.quote(str(file)) for file in files if file.exists()), None)
    return Export(read_json(verified), read_json(preprocess), bundles, classifier)


def _number(text: str) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan


def _png(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


# Files of a run -> values of the template


def report_data(folder: Path, files: RunFiles) -> ReportData:
    """Computes the values of the page; does not read or write files.

    Args:
        folder: path of the run folder for the commands on the page.
        files: the content of its files.
    """
    metrics, config, epochs = files.metrics, files.config, files.epochs
    val = metrics.get("val") or None
    names = _class_names(val or {}, files.labels)
    best = (row for row in epochs if row.get("epoch") == metrics.get("best_epoch"))
    pictures = {name: _picture(png) for name, png in files.pictures.items() if _is_png(png)}
    if len(names) <= svg.MOST_DRAWN:
        pictures.pop("confusion", None)
    return ReportData(
        model=network_title(metrics.get("model", "A run"), config.get("width", 1)),
        data=_data_name(config),
        run=shlex.quote(str(folder)),
        config_file=shlex.quote(str(folder / filenames.CONFIG)),
        metrics=metrics,
        val=val,
        test=metrics.get("test") or None,
        interval=_interval(val or {}),
        test_interval=_interval(metrics.get("test") or {}),
        class_count=len(names),
        classes=_class_scores(val or {}),
        confusions=_confusions(val or {}, names),
        epochs=epochs,
        best_epoch=next(best, None),
        sizes=svg.size_spans(epochs),
        images=_images(metrics),
        command=_command(config),
        settings={name: setting(rounded(value)) for name, value in config.items()},
        calibration=_calibration([r for r in files.predictions if r.get("split") == "val"]),
        suspects=[row for row in files.predictions if row.get("suspect")],
        examples=files.examples,
        export=files.export,
        plots=_plots(epochs, metrics, val, names),
        pictures=pictures,
    )


def plots_of(folder: Path) -> dict[str, Markup]:
    """The plots of a run in its report."""
    metrics, labels = _metrics(folder / filenames.METRICS), folder / filenames.LABELS
    val = metrics.get("val") or None
    names = _class_names(val or {}, _if_there(read_lines, labels, []))
    return _plots(_epochs(folder), metrics, val, names)


def _epochs(folder: Path) -> list[dict[str, float]]:
    rows = _csv(folder / filenames.HISTORY)
    return [{name: _number(value) for name, value in row.items()} for row in rows]


def _plots(
    epochs: list[dict[str, float]],
    metrics: Mapping[str, Any],
    val: Mapping[str, Any] | None,
    names: Sequence[str],
) -> dict[str, Markup]:
    plots = {}
    if epochs:
        best = metrics.get("best_epoch")
        plots["loss"] = svg.curves(epochs, "loss", best)
        plots["top1"] = svg.curves(epochs, "top1", best, percent=True)
    if val and 0 < len(names) <= svg.MOST_DRAWN:
        plots["confusion"] = svg.confusion(val["confusion"], names)
    return plots


def _images(metrics: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """The images of each split by class; for a run of an older version, evaluated splits only."""
    if counts := metrics.get("data"):
        return counts
    return {
        split: {name: row["images"] for name, row in metrics[split]["per_class"].items()}
        for split in _SPLITS
        if metrics.get(split)
    }


def _command(config: Mapping[str, Any]) -> str | None:
    if not config or config.get("model") == CUSTOM.name:  # no command has its layers
        return None
    try:
        # As from a file: a recipe's settings without effect are not given.
        return recipes.command(recipes.resolve(None, filenames.CONFIG, json.dumps(config).encode()))
    except InputError:  # settings that this version does not have
        return None


def _interval(score: Mapping[str, Any]) -> tuple[float, float]:
    """The 95 % confidence interval of a top-1, for independent images."""
    top1, images = score.get("top1"), score.get("images")
    if not images or not finite(top1):
        return 0.0, 1.0
    return binomial.interval(round(top1 * images), images)


def _calibration(rows: Sequence[Mapping[str, str]]) -> Calibration | None:
    """The expected calibration error and its diagram."""
    scores = np.array([_number(row["score"]) for row in rows])
    right = np.array([row["label"] == row["prediction"] for row in rows], bool)
    known = np.isfinite(scores)
    if not known.any():
        return None
    scores, right = scores[known], right[known]
    bins = score_bins(scores, right)
    return Calibration(calibration_error(bins), scores.mean(), right.mean(), svg.reliability(bins))


def _class_names(score: Mapping[str, Any], labels: Sequence[str]) -> Sequence[str]:
    """Class names in the order of the confusion matrix."""
    k = len(score.get("confusion") or [])
    if len(labels) == k:
        return labels
    names = list(score.get("per_class") or {})
    return names if len(names) == k else [str(i) for i in range(k)]


def _class_scores(score: Mapping[str, Any]) -> list[ClassScore]:
    rows = [
        ClassScore(
            name,
            row["images"],
            row["top1"] if row["images"] and finite(row.get("top1")) else None,
            row.get("precision"),
            row.get("f1"),
        )
        for name, row in (score.get("per_class") or {}).items()
    ]
    # Classes without validation images, which have no accuracy, come last.
    return sorted(rows, key=lambda row: math.inf if row.top1 is None else row.top1)


def _confusions(score: Mapping[str, Any], names: Sequence[str]) -> list[Confusion]:
    rows = [
        Confusion(count, sum(row), names[i], names[j])
        for i, row in enumerate(score.get("confusion") or [])
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(rows, key=lambda row: (-row.count, row.images))[:MOST_CONFUSIONS]


def rounded(value: Any) -> Any:
    """Rounds floats, also in lists and tuples, to four significant digits: 4/3 is 1.333."""
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def setting(value: Any) -> str:
    """A setting as JSON, strings without quotes."""
    if value is None:
        return "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _is_png(content: bytes) -> bool:
    return content[:8] == b"\x89PNG\r\n\x1a\n"


def _picture(png: bytes) -> Picture:
    (width,) = struct.unpack(">I", png[16:20])
    # Drawn at 150 dots per inch; a CSS pixel is 1/96 inch.
    return Picture(width * 96 // 150, b64encode(png).decode())


def _data_name(config: Mapping[str, Any]) -> str:
    """The name of a data set: "signs" for `photos/signs/`; tfds:NAME and digits are unchanged."""
    data = str(config.get("data", "its data"))
    return data if data.startswith("tfds:") else Path(data).name or data


# Values -> page


def render(data: ReportData) -> str:
    """The HTML of the page, with escaped values."""
    return fill_in("report.html.jinja", vars(data))


def fill_in(template: str, values: Mapping[str, Any]) -> str:
    """Renders a template of this package with escaped values."""
    environment = Environment(
        loader=PackageLoader("keras_resnet.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=percent, points=points, count=plural, short=short, duration=duration,
        megabytes=megabytes, words=words,
    )  # fmt: skip
    environment.tests["finite"] = finite
    page = environment.get_template(template).render(values)
    # Lone surrogates, from bytes that are not UTF-8, cannot be encoded.
    return page.encode("utf-8", errors="replace").decode()


def words(command: str) -> Markup:
    """A command that wraps at spaces, and in long words after a `/`.

    The text is not changed and can be copied.
    """
    parts = (escape(word).replace("/", Markup("/<wbr>")) for word in command.split(" "))
    return Markup(" ").join(Markup("<bdi>{}</bdi>").format(word) for word in parts)


def finite(value: object) -> TypeGuard[float]:
    """Whether the value is a finite number; None and NaN are missing values."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def short(n: float) -> str:
    """272,474 is "272 k", 25,557,032 is "25.6 M"."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= 0.9995 * size:
            digits = 1 if n < 100 * size else 0
            return f"{n / size:.{digits}f} {letter}"
    return f"{n} "


def duration(seconds: float) -> str:
    """134.2 is "2 min 14 s"."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600:,} h {seconds % 3600 // 60} min"


def megabytes(size: int) -> str:
    """308,379 is "0.31 MB"."""
    return f"{size / 1e6:.2f} MB"
