"""The plot of a learning curve: error against the number of training images."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from keras_resnet.files import StrPath
from keras_resnet.report import plots


def plot(result: Mapping[str, Any], title: str, path: StrPath) -> StrPath:
    """Plots measured errors with their intervals, and predicted errors.

    Args:
        result: a `studies.data_plan.DataPlan` as JSON.
        title: title of the plot.
        path: the PNG to write.

    Returns:
        `path`.
    """
    curve, predictions = result["curve"], result["predictions"]
    with plots.styled():
        figure = Figure(figsize=(8, 4.6), dpi=plots.DPI)
        axes = figure.subplots()
        sizes = [point["images"] for point in curve]
        for point in curve:
            axes.plot([point["images"]] * len(point["errors"]), _percent(point["errors"]), ".",
                      color=plots.QUIET, markersize=5)  # fmt: skip
        errors = _percent(p["error"] for p in curve)
        axes.errorbar(sizes, errors, yerr=_bars(curve), fmt="o-", color=plots.VALIDATION,
                      capsize=3, label="measured, mean of the seeds")  # fmt: skip
        if predictions:
            axes.errorbar([p["images"] for p in predictions],
                          _percent(p["error"] for p in predictions), yerr=_bars(predictions),
                          fmt="s--", color=plots.TRAINING, capsize=3, fillstyle="none",
                          label="predicted")  # fmt: skip
        if check := result["check"]:
            axes.errorbar([1.04 * check["images"]], _percent([check["error"]]), yerr=_bars([check]),
                          fmt="x", color=plots.QUIET, capsize=3,
                          label="predicted from the smaller subsets")  # fmt: skip
        axes.set_xscale("log")
        ticks = [*sizes, *(p["images"] for p in predictions)]
        axes.set_xticks(ticks)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(bottom=0)
        axes.set(
            xlabel="training images (log scale)",
            ylabel=f"error on {result['validation_images']:,} validation images, %",
        )
        axes.set_title(title)
        axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2,
            title="bars: 95 % intervals; dots: seeds",
        )  # fmt: skip
        return plots.save(figure, path)


def _percent(shares: Any) -> list[float]:
    return [100 * share for share in shares]


def _bars(points: Any) -> list[list[float]]:
    """Lengths of the bars below and above."""
    return [
        [100 * max(p["error"] - p["low"], 0.0) for p in points],
        [100 * max(p["high"] - p["error"], 0.0) for p in points],
    ]
