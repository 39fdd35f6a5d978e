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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from jinja2 import Environment, PackageLoader, StrictUndefined

from keras_resnet import filenames
from keras_resnet.errors import InputError
from keras_resnet.files import read_json, read_lines, write_text

MOST_ROWS = 20  # rows shown of the table of classes; the rest is folded
MOST_CONFUSIONS = 5
PICTURES = ("curves", "confusion", "mistakes", "batch")
_Z = 1.96  # standard deviations on either side that hold 95% of a normal distribution


@dataclass(frozen=True)
class Picture:
    """A PNG inside the page; `width` is in CSS pixels."""

    width: int
    base64: str


@dataclass(frozen=True)
class ClassScore:
    """A row of the table of classes; `top1` is in 0…1, None without images."""

    name: str
    images: int
    top1: float | None


@dataclass(frozen=True)
class Confusion:
    """`count` of the `images` of the class `label` were predicted as `prediction`."""

    count: int
    images: int
    label: str
    prediction: str


@dataclass(frozen=True)
class ReportData:
    """The values of `report.html.jinja`; none of them is escaped yet."""

    model: str
    data: str  # the data set
    run: str  # the run folder and its config.json, quoted for a shell
    config_file: str
    metrics: dict[str, Any]  # metrics.json
    val: dict[str, Any] | None  # its scores of the two splits
    test: dict[str, Any] | None
    interval: tuple[float, float]  # 95% confidence interval of the validation top-1
    class_count: int
    classes: list[ClassScore]  # worst first
    confusions: list[Confusion]  # most frequent first
    epochs: list[dict[str, float]]  # history.csv
    best_epoch: dict[str, float] | None
    several_sizes: bool  # whether the image size changes between epochs
    settings: dict[str, str]
    pictures: dict[str, Picture]  # those of PICTURES that exist
    most_rows: int = MOST_ROWS


def write(folder: str | Path) -> Path:
    """Writes `report.html` into a run folder, from the files of the run.

    Reads `metrics.json`; and `config.json`, `history.csv`, `labels.txt`, `curves.png`,
    `confusion.png`, `mistakes.png` and `batch.png`, each of which may be missing.

    Returns:
        The path of the page.

    Raises:
        InputError: there is no readable `metrics.json`.
    """
    folder = Path(folder)
    config, labels = folder / filenames.CONFIG, folder / filenames.LABELS
    data = report_data(
        folder,
        _metrics(folder / filenames.METRICS),
        config=read_json(config) if config.exists() else {},
        labels=read_lines(labels) if labels.exists() else [],
        epochs=_history(folder / filenames.HISTORY),
        pictures={name: _png(folder / f"{name}.png") for name in PICTURES},
    )
    page = folder / filenames.REPORT
    write_text(page, render(data))
    return page


def _metrics(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except OSError as error:
        raise InputError(
            f"cannot read {path} ({error.strerror}); the run is not finished: resume it or train "
            "again"
        ) from None


def _history(path: Path) -> list[dict[str, float]]:
    if not path.exists():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        return [{k: _number(v) for k, v in row.items()} for row in csv.DictReader(file)]


def _number(text: str) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan


def _png(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


# From the files of a run to the values of the template


def report_data(
    folder: Path,
    metrics: dict[str, Any],
    *,
    config: dict[str, Any],
    labels: list[str],
    epochs: list[dict[str, float]],
    pictures: dict[str, bytes],
) -> ReportData:
    """What the page shows; reads and writes no files.

    Args:
        folder: the run folder, as the commands on the page name it.
        metrics: `metrics.json`.
        config: `config.json`.
        labels: the classes in the order of the logits.
        epochs: the rows of `history.csv`.
        pictures: the PNG files by name; other files are left out.
    """
    val = metrics.get("val") or None
    names = _class_names(val or {}, labels)
    best = (row for row in epochs if row.get("epoch") == metrics.get("best_epoch"))
    return ReportData(
        model=metrics.get("model", "A run"),
        data=_data_name(config),
        run=shlex.quote(str(folder)),
        config_file=shlex.quote(str(folder / filenames.CONFIG)),
        metrics=metrics,
        val=val,
        test=metrics.get("test") or None,
        interval=wilson_interval(val["top1"], val["images"]) if val else (0.0, 1.0),
        class_count=len(names),
        classes=_class_scores(val or {}),
        confusions=_confusions(val or {}, names),
        epochs=epochs,
        best_epoch=next(best, None),
        several_sizes=len({row.get("image_size") for row in epochs}) > 1,
        settings={name: _setting(value) for name, value in config.items()},
        pictures={name: _picture(png) for name, png in pictures.items() if _is_png(png)},
    )


def _class_names(score: Mapping[str, Any], labels: Sequence[str]) -> Sequence[str]:
    """Names in the order of the confusion matrix."""
    k = len(score.get("confusion") or [])
    if len(labels) == k:
        return labels
    names = list(score.get("per_class") or {})
    return names if len(names) == k else [str(i) for i in range(k)]


def _class_scores(score: Mapping[str, Any]) -> list[ClassScore]:
    rows = [
        ClassScore(
            name, row["images"], row["top1"] if row["images"] and finite(row.get("top1")) else None
        )
        for name, row in (score.get("per_class") or {}).items()
    ]
    # A class without validation images has no accuracy: it comes last.
    return sorted(rows, key=lambda row: math.inf if row.top1 is None else row.top1)


def _confusions(score: Mapping[str, Any], names: Sequence[str]) -> list[Confusion]:
    rows = [
        Confusion(count, sum(row), names[i], names[j])
        for i, row in enumerate(score.get("confusion") or [])
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(rows, key=lambda row: (-row.count, row.images))[:MOST_CONFUSIONS]


def _setting(value: Any) -> str:
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
    """`photos/signs/` is "signs"; tfds:NAME and digits stay as they are."""
    data = str(config.get("data", "its data"))
    return data if data.startswith("tfds:") else Path(data).name or data


def wilson_interval(share: float, n: int) -> tuple[float, float]:
    """95% confidence interval (Wilson 1927) of a share of `n` images; holds at 0 and at 1 too."""
    if not n or not finite(share):
        return 0.0, 1.0
    middle = share + _Z**2 / (2 * n)
    spread = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    scale = 1 + _Z**2 / n
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


# From the values to the page


def render(data: ReportData) -> str:
    """The HTML of the page; every value is escaped."""
    environment = Environment(
        loader=PackageLoader("keras_resnet.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, count=count, short=short, duration=duration)
    environment.tests["finite"] = finite
    page = environment.get_template("report.html.jinja").render(vars(data))
    # Lone surrogates stand for bytes that are no UTF-8; no page can hold them.
    return page.encode("utf-8", errors="replace").decode()


def finite(value: object) -> TypeGuard[float]:
    """Whether there is a number: None and NaN stand for values that were not measured."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def percent(share: float | None) -> str:
    """0.9995 to 1 is "99.9%": 1 of 2,000 wrong is not "100.0%"."""
    if not finite(share):
        return "–"
    return "99.9%" if 0.9995 <= share < 1 else f"{share:.1%}"


def count(n: int, noun: str) -> str:
    """1 is "1 image", 2 is "2 images"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


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
