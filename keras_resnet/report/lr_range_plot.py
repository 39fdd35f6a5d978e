"""The plot of a learning-rate range test."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from keras_resnet.files import StrPath
from keras_resnet.report import plots
from keras_resnet.specs import network_title


def plot(result: Mapping[str, Any], path: StrPath) -> StrPath:
    """Plots the loss against the learning rate, on a logarithmic axis, and the suggested rate.

    Args:
        result: `as_json()` of the result of `training.find_lr`; without a suggestion, only losses
            are plotted.
        path: the PNG to write.

    Returns:
        `path`.
    """
    rates, losses, smoothed = (
        np.array([step[name] for step in result["steps"]]) for name in ("rate", "loss", "smoothed")
    )
    with plots.styled():
        optimizer = result["optimizer"].upper().replace("ADAMW", "AdamW")
        figure = Figure(figsize=(8, 4.6), dpi=plots.DPI)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.plot(rates, losses, ".", color="#bbbbbb", markersize=4, label="loss of a step")
        axes.plot(rates, smoothed, color=plots.VALIDATION, linewidth=2, label="smoothed")
        _limit(axes, smoothed, losses)
        if "suggestion" in result:
            _mark(axes, result, rates, smoothed)
        axes.set_xscale("log")
        plain = FuncFormatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_major_formatter(plain)
        if rates[-1] < 10 * rates[0]:  # too short for two powers of ten
            axes.xaxis.set_minor_formatter(plain)
        axes.set(xlabel="learning rate (log scale)", ylabel="training loss")
        network = network_title(result["model"], result["width"])
        axes.set_title(
            f"Learning rate range test: {network} on {Path(result['data']).name}, {optimizer}, "
            f"batch {result['batch_size']}"
        )
        axes.legend(ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.12))
        return plots.save(figure, path)


def _limit(axes: Axes, smoothed: npt.NDArray[np.float64], losses: npt.NDArray[np.float64]) -> None:
    """Limits the axis to the decrease and the start of the divergence; if nothing decreases, to the
    variation between steps."""
    low, first = min(smoothed.min(), np.quantile(losses, 0.05)), smoothed[0]
    noise = 4 * np.median(np.abs(losses - smoothed))
    if first > low:
        fall = first - low
        axes.set_ylim(low - max(0.15 * fall, noise), first + max(0.6 * fall, noise))


def _mark(
    axes: Axes,
    result: Mapping[str, Any],
    rates: npt.NDArray[np.float64],
    smoothed: npt.NDArray[np.float64],
) -> None:
    """Marks the suggested rate by a line and the two reference rates, which the legend names."""
    for name, marker, words in (("steepest", "v", "steepest fall"), ("lowest", "o", "lowest")):
        axes.plot(
            result[name], float(np.interp(result[name], rates, smoothed)), marker, linestyle="",
            color=plots.VALIDATION, markersize=8, markeredgecolor="white",
            label=f"{words}: {result[name]:.2g}",
        )  # fmt: skip
    axes.axvline(result["suggestion"], color=plots.TRAINING, linestyle="--", linewidth=1.6)
    # Above the axes, where there is no curve.
    above: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "va": "bottom"}
    axes.text(
        result["suggestion"], 1.01, f"suggested: {result['suggestion']:g}",
        color=plots.TRAINING, ha="center", fontweight="bold", **above,
    )  # fmt: skip
    if result["diverged"]:
        axes.text(rates[-1], 1.01, "diverges", color=plots.QUIET, ha="right", **above)
