"""The plot of the int8 error of each layer."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from keras_resnet.files import StrPath
from keras_resnet.report import plots

# Shape and fill differ too, for print without colour.
_MARKS: dict[str, dict[str, Any]] = {
    "branch": {"marker": "o", "color": plots.VALIDATION, "facecolor": "white"},
    "shortcut": {"marker": "^", "color": plots.TRAINING, "facecolor": plots.TRAINING},
    "sum": {"marker": "s", "color": "black", "facecolor": "black"},
    "stem and head": {"marker": "D", "color": plots.QUIET, "facecolor": "#cccccc"},
}
_NAMED = 5  # number of worst layers with names
_MOST_BLOCKS = 36  # maximum number of block labels; with more blocks, stages are labelled
_NOTHING = 1e-5  # layers below it, such as paddings and max-pools, only move values: not plotted


def plot(layers: Sequence[Mapping[str, Any]], path: StrPath) -> StrPath:
    """Plots the int8 error of each layer relative to its signal, in forward order.

    Args:
        layers: a list of {layer, block, part, op, lost} from `exporting.layer_error`; `lost` in
            0…1.
        path: the PNG to write.

    Returns:
        `path`.
    """
    rows = [row for row in layers if row["lost"] > _NOTHING]
    lost = 100 * np.array([row["lost"] for row in rows])
    with plots.styled():
        figure = Figure(figsize=(10, 4.4), dpi=plots.DPI)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.plot(lost, color="#bbbbbb", linewidth=0.7, zorder=1)
        for kind, mark in _MARKS.items():
            here = [i for i, row in enumerate(rows) if (row["part"] or "stem and head") == kind]
            style: dict[str, Any] = {
                "marker": mark["marker"],
                "edgecolor": mark["color"],
                "s": 30,
                "zorder": 3,
            }
            if here:
                axes.scatter(here, lost[here], facecolor=mark["facecolor"], label=kind, **style)
        _percent_axis(axes, lost)
        _name_blocks(axes, [row["block"] for row in rows])
        _name_worst(axes, rows, lost)
        axes.set_title("Quantization error of each layer in int8")
        axes.set_ylabel("error relative to the channel's signal")
        axes.set_xlim(-0.8, len(rows) - 0.2)
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(1.01, 1.02),
            title="part of the block",
            alignment="left",
        )
        return plots.save(figure, path)


def _percent_axis(axes: Axes, lost: npt.NDArray[np.float64]) -> None:
    axes.set_yscale("log")
    low, high = 0.7 * lost.min(), 1.9 * lost.max()  # space for the numbers above the worst
    axes.set_ylim(low, high)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}%"))
    axes.set_yticks([t for t in (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100) if low <= t <= high])
    axes.yaxis.set_minor_locator(NullLocator())


def _name_blocks(axes: Axes, blocks: Sequence[str]) -> None:
    """Labels each block, or stage, below its middle, with alternating grey background."""
    if len(set(blocks)) > _MOST_BLOCKS:
        blocks = [block.partition("_")[0] for block in blocks]
    starts = [i for i, block in enumerate(blocks) if i == 0 or block != blocks[i - 1]]
    ends = [*starts[1:], len(blocks)]
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        if number % 2:
            axes.axvspan(start - 0.5, end - 0.5, color="#f2f2f2", zorder=0, linewidth=0)
    middles = [(start + end - 1) / 2 for start, end in zip(starts, ends, strict=True)]
    axes.set_xticks(middles, [blocks[i] for i in starts], rotation=90, fontsize=8)
    axes.tick_params(axis="x", length=0)
    axes.grid(visible=False, axis="x")


def _name_worst(
    axes: Axes, rows: Sequence[Mapping[str, Any]], lost: npt.NDArray[np.float64]
) -> None:
    """Numbers the worst layers and lists their names beside the plot, where they cannot overlap."""
    worst = np.argsort(-lost, kind="stable")[:_NAMED]
    lines = ["worst layers"]
    for number, i in enumerate(worst, 1):
        above = (0, 5)
        axes.annotate(str(number), (i, lost[i]), above, textcoords="offset points",
                      ha="center", va="bottom", fontsize=8, fontweight="bold")  # fmt: skip
        lines.append(f"{number}  {rows[i]['layer']}  {lost[i]:.1f}%")
    axes.text(1.022, 0.02, "\n".join(lines), transform=axes.transAxes, va="bottom", fontsize=9,
              linespacing=1.5)  # fmt: skip
