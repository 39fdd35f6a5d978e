"""A self-contained page that compares runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_resnet import filenames
from keras_resnet.files import StrPath, write_text
from keras_resnet.messages import percent
from keras_resnet.report import page
from keras_resnet.specs import network_title


def write(path: StrPath, comparison: Mapping[str, Any]) -> None:
    """Writes the page.

    Args:
        path: path of the page.
        comparison: `evaluation.compare.Comparison` as JSON; the curves are read from its runs.
    """
    runs = comparison["runs"]
    values = {
        "runs": runs,
        "pairs": comparison["pairs"],
        "rows": _rows(runs),
        "settings": [
            (name, [page.setting(value) for value in row])
            for name, row in comparison["settings"].items()
        ],
        "per_class": comparison["per_class"].items(),
        "plots": [{"name": run["run"], **page.plots_of(Path(run["run"]))} for run in runs],
    }
    write_text(path, page.fill_in("compare.html.jinja", values))


def _rows(runs: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    rows = [
        ("network", [network_title(run["model"], run["width"]) for run in runs]),
        ("top-1, validation", [f"{percent(run['top1'])} of {run['images']:,}" for run in runs]),
        ("macro F1, validation", [percent(run["macro_f1"]) for run in runs]),
        ("loss, validation", [f"{run['loss']:.4f}" for run in runs]),
        ("top-1, test", [percent(run["test_top1"]) for run in runs]),
        ("parameters", [f"{run['parameters']:,}" for run in runs]),
        (filenames.MODEL, [page.megabytes(run["bytes"]) for run in runs]),
        ("best epoch", [str(run["best_epoch"]) for run in runs]),
        ("training time", [page.duration(run["seconds"]) for run in runs]),
    ]
    names = dict.fromkeys(name for run in runs for name in run["files"])
    return [*rows, *((name, [_file(run["files"].get(name)) for run in runs]) for name in names)]


def _file(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "–"
    latency = f", {row['latency_ms']:.2f} ms" if page.finite(row["latency_ms"]) else ""
    return f"{page.megabytes(row['bytes'])}{latency}" + ("" if row["passed"] else ", FAILED")
