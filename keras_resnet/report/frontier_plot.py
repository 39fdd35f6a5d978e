"""The plot of the candidates of a search: accuracy against size and latency."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from keras_resnet.files import StrPath
from keras_resnet.report import plots


def plot(
    points: Sequence[Mapping[str, Any]],
    limits: Mapping[str, float | None],
    measured_on: str,
    title: str,
    path: StrPath,
) -> StrPath:
    """Plots top-1 of the int8 files against their size and their latency.

    Args:
        points: `studies.search.Candidate`s as dicts, with their `name`; those without a file are
            omitted.
        limits: `max_mb` and `max_ms`; None: no limit.
        measured_on: device of the latencies, such as "1 thread of this machine".
        title: title of the plot.
        path: the PNG to write.

    Returns:
        `path`.
    """
    drawn = [point for point in points if point["top1"] is not None]
    with plots.styled():
        figure = Figure(figsize=(10, 4.8), dpi=plots.DPI)
        left, right = figure.subplots(1, 2, sharey=True)
        _panel(left, drawn, [p["bytes"] / 1e6 for p in drawn], limits["max_mb"])
        _panel(right, drawn, [p["latency_ms"] for p in drawn], limits["max_ms"])
        left.set(xlabel="int8 file in MB (log scale)", ylabel="top-1 after a short training, %")
        right.set(xlabel=f"ms per image on {measured_on} (log scale)")
        left.set_title(title)
        figure.legend(*left.get_legend_handles_labels(), loc="upper center", ncols=5,
                      bbox_to_anchor=(0.5, 0.0))  # fmt: skip
        return plots.save(figure, path)


def _panel(
    axes: Axes, points: Sequence[Mapping[str, Any]], costs: Sequence[float], limit: float | None
) -> None:
    top1 = [100 * p["top1"] for p in points]
    order = sorted(range(len(points)), key=lambda i: costs[i])
    best = [i for n, i in enumerate(order) if all(top1[i] > top1[j] for j in order[:n])]
    axes.plot([costs[i] for i in best], [top1[i] for i in best], color=plots.QUIET,
              drawstyle="steps-post", linewidth=1, zorder=1, label="Pareto front")  # fmt: skip
    for fits, marker, label in ((True, "o", "within the budget"), (False, "x", "beyond it")):
        some = [i for i, p in enumerate(points) if (p["excess"] is None) == fits]
        axes.plot([costs[i] for i in some], [top1[i] for i in some], marker, linestyle="",
                  color=plots.VALIDATION, label=label)  # fmt: skip
    for i in (i for i, p in enumerate(points) if p["chosen"]):
        axes.plot(costs[i], top1[i], "o", color=plots.TRAINING, markersize=13, fillstyle="none",
                  markeredgewidth=2, label="chosen")  # fmt: skip
    middle = math.sqrt(min(costs) * max(costs))
    for i in best:  # names are on the sides that the front, which rises to the right, leaves free
        is_left = costs[i] <= middle
        axes.annotate(points[i]["name"], (costs[i], top1[i]), fontsize=7,
                      xytext=(7, -9) if is_left else (-7, 5),
                      textcoords="offset points", ha="left" if is_left else "right",
                      bbox={"facecolor": "white", "linewidth": 0, "pad": 1},
                      zorder=1.5)  # fmt: skip
    if limit is not None:
        axes.axvline(limit, color=plots.TRAINING, linestyle="--", linewidth=1.4, zorder=1,
                     label="limit")  # fmt: skip
    axes.set_xscale("log")
    axes.margins(x=0.1, y=0.1)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
