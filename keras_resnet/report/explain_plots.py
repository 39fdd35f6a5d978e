"""The plots of `keras-resnet explain`: PNG, legible in black and white too."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from keras_resnet.files import StrPath
from keras_resnet.messages import percent
from keras_resnet.report.plots import (
    DPI,
    QUIET,
    TRAINING,
    VALIDATION,
    Line,
    image_grid,
    save,
    styled,
)

# Styles of the two kinds of network in all plots: colour, line, marker, face.
PLAIN: dict[str, Any] = {
    "color": TRAINING,
    "linestyle": "--",
    "marker": "s",
    "markerfacecolor": "white",
}
RESIDUAL: dict[str, Any] = {"color": VALIDATION, "linestyle": "-", "marker": "o"}
_THIN: dict[str, Any] = {"markersize": 4.5, "linewidth": 1.5}
_MOST_NAMES = 20
_MOST_IMAGES = 60


def gradient_split(result: Mapping[str, Any], path: StrPath) -> StrPath:
    """Plots the two terms at each block: their norms, and the angle between them.

    Args:
        result: `as_json()` of the result of `keras_resnet.explain.gradients.gradients`.
        path: the PNG to write.

    Returns:
        `path`.
    """
    blocks = result["blocks"]
    places = np.arange(1, len(blocks) + 1)
    with styled():
        figure = Figure(figsize=(10, 4.2), dpi=DPI)
        norms, angles = figure.subplots(1, 2, width_ratios=(3, 2))
        norms.set(
            title=f"{result['name']}: the gradient at the input of each block",
            ylabel="Euclidean norm",
        )
        terms = (
            ("total_norm", "total, dJ/dx", {"color": "black", "linestyle": "-", "marker": "."}),
            ("identity_norm", "through the shortcut, dJ/dH (projected: · W)", RESIDUAL),
            ("branch_norm", "through the branch, dJ/dH · dF/dx", PLAIN),
        )
        for key, label, look in terms:
            values = _numbers(block[key] for block in blocks)
            if np.isfinite(values).any() and np.nanmax(values) > 0:
                shown = np.where(values > 0, values, np.nan)
                norms.plot(places, shown, label=label, **{**_THIN, **look})
            elif key == "branch_norm":
                norms.plot([], [], label="through the branch: 0", **{**_THIN, **look})
        _log(norms)
        norms.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.32), ncols=3)
        cosines = _numbers(block["cosine"] for block in blocks)
        angles.set(title="cosine between the two terms", ylim=(-1.05, 1.05))
        angles.axhline(0, color=QUIET, linewidth=0.8)
        angles.plot(places, cosines, **{**_THIN, **RESIDUAL})
        if not np.isfinite(cosines).any():
            angles.text(
                0.5, 0.54, "undefined: a term is 0 or missing", transform=angles.transAxes,
                color=QUIET, ha="center",
            )  # fmt: skip
        for axes in (norms, angles):
            _name_blocks(axes, places, [block["name"] for block in blocks])
        figure.subplots_adjust(wspace=0.2)
        return save(figure, path)


def first_layer(rows: Sequence[Mapping[str, Any]], path: StrPath) -> StrPath:
    """Plots the norm of the first layer's gradient against depth.

    Args:
        rows: `as_json()` of each result of `keras_resnet.explain.gradients.by_depth`.
        path: the PNG to write.
    """
    looks = {
        "plain": PLAIN,
        "residual": RESIDUAL,
        "residual, branches from 0": {"color": "black", "linestyle": ":", "marker": "^"},
    }
    with styled():
        figure = Figure(figsize=(6.4, 4.2), dpi=DPI)
        axes = figure.subplots()
        axes.set(
            title="Gradient of the first layer before training",
            xlabel="weight layers",
            ylabel="norm of dJ/dW of the first convolution",
        )
        for kind, look in looks.items():
            members = [row for row in rows if row["kind"] == kind]
            depths = [row["depth"] for row in members]
            norms = [row["gradient_norms"] for row in members]
            _with_spread(axes, depths, norms, label=kind, **look)
        axes.set_xticks(sorted({row["depth"] for row in rows}))
        _log(axes)
        _legend_below(axes, 3)
        return save(figure, path)


def lesions(results: Sequence[Mapping[str, Any]], path: StrPath) -> StrPath:
    """Plots accuracy after removing blocks, for one or several networks.

    Args:
        results: `as_json()` of results of `keras_resnet.explain.lesion.lesion`.
        path: the PNG to write.
    """
    looks = [RESIDUAL, PLAIN, {"color": "black", "linestyle": ":", "marker": "^"}]
    with styled():
        figure = Figure(figsize=(11, 3.9), dpi=DPI)
        alone, last, several = figure.subplots(1, 3, sharey=True)
        alone.set(
            title="one block removed",
            xlabel="position of the block (0: first, 1: last)",
            ylabel="top-1 (%)",
        )
        last.set(title="the last blocks removed", xlabel="share of the removable blocks")
        several.set(title="random blocks removed", xlabel="share of the removable blocks")
        for result, look in zip(results, looks, strict=False):
            look = {**_THIN, **look}
            n = len(result["blocks"])
            axis = np.linspace(0, 1, n) if n > 1 else np.array([0.0])
            label = f"{result['model']} (all blocks: {result['top1']:.1%})"
            alone.plot(axis, [100 * row["top1"] for row in result["blocks"]], label=label, **look)
            shares = [0, *(row["removed"] / n for row in result["last"])]
            whole = [100 * result["top1"]]
            last.plot(shares, whole + [100 * row["top1"] for row in result["last"]], **look)
            tries = [[result["top1"]], *(row["top1"] for row in result["random"])]
            _with_spread(several, shares, [[100 * t for t in row] for row in tries], **look)
        for axes in (alone, last, several):
            chance = 100 * results[0]["chance"]
            axes.axhline(chance, color=QUIET, linewidth=1, linestyle="-.", label="chance")
            axes.set_ylim(-2, 102)  # space for markers at the ends
        figure.subplots_adjust(wspace=0.08)
        handles, labels = alone.get_legend_handles_labels()
        figure.legend(handles, labels, ncols=4, loc="upper center", bbox_to_anchor=(0.5, 0.0))
        return save(figure, path)


def path_lengths(result: Mapping[str, Any], path: StrPath) -> StrPath:
    """Plots by length: number of paths, gradient of one path, and gradient of all paths.

    Args:
        result: `as_json()` of the result of `keras_resnet.explain.paths.paths`.
        path: the PNG to write.
    """
    rows = result["lengths"]
    lengths = [row["length"] for row in rows]
    panels = (
        ("share of the paths (%)", [100 * row["share_of_paths"] for row in rows]),
        ("gradient norm of one path", [row["gradient_norm"] for row in rows]),
        ("share of the gradient (%)", [100 * row["share_of_gradient"] for row in rows]),
    )
    with styled():
        figure = Figure(figsize=(11, 3.6), dpi=DPI)
        all_axes = figure.subplots(1, 3, sharex=True)
        for axes, (title, values) in zip(all_axes, panels, strict=True):
            axes.set(title=title, xlabel="number of branches in the path")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            if title.startswith("gradient"):
                shown = np.where(np.array(values) > 0, values, np.nan)
                axes.plot(lengths, shown, **{**_THIN, **RESIDUAL})
                _log(axes)
            else:
                axes.bar(lengths, values, color=VALIDATION, width=0.85)
                axes.set_axisbelow(True)
        shortest, longest = result["effective"]["shortest"], result["effective"]["longest"]
        axes.axvspan(shortest - 0.5, longest + 0.5, color=QUIET, alpha=0.15, linewidth=0)
        axes.set_xlabel(f"{axes.get_xlabel()}\nshaded, {shortest} to {longest}: the middle 95 %")
        figure.subplots_adjust(wspace=0.3)
        return save(figure, path)


def degradation(result: Mapping[str, Any], path: StrPath) -> StrPath:
    """Plots error against depth, for plain and residual networks.

    Args:
        result: `as_json()` of the result of `keras_resnet.explain.depth.depth`.
        path: the PNG to write.
    """
    with styled():
        figure = Figure(figsize=(9, 3.9), dpi=DPI)
        panels = zip(figure.subplots(1, 2, sharey=True), ("training", "validation"), strict=True)
        for axes, which in panels:
            axes.set(
                title=f"{which} error in epoch {result['epochs']}",
                xlabel="weight layers",
                ylabel="top-1 error (%)" if which == "training" else None,
            )
            for kind, label, look in (
                ("plain", "plain", PLAIN),
                ("resnet", "residual", RESIDUAL),
            ):
                rows = [row for row in result["rows"] if row["kind"] == kind]
                errors = [100 * row[f"{which}_error"] for row in rows]
                places = [row["depth"] for row in rows]
                axes.plot(places, errors, label=label, clip_on=False, **_THIN, **look)
            axes.set_xticks(sorted({row["depth"] for row in result["rows"]}))
        axes.set_ylim(bottom=0)  # of both, which share the axis
        figure.subplots_adjust(wspace=0.08)
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, ncols=2, loc="upper center", bbox_to_anchor=(0.5, 0.0))
        return save(figure, path)


def grad_cam(rows: Sequence[Mapping[str, Any]], path: StrPath) -> StrPath:
    """Draws each of the first 60 images and, beside it, the regions that support the class
    (Grad-CAM).

    Args:
        rows: `vars` of each `Cam` of `keras_resnet.explain.cam.cam`.
        path: the PNG to write.
    """
    images: list[npt.NDArray[np.uint8]] = []
    captions: list[str | list[Line]] = []
    for row in rows[:_MOST_IMAGES]:
        colour = overlay(row["pixels"], row["map"])
        images += [np.broadcast_to(row["pixels"], colour.shape), colour]  # pixels may be luma
        label = [Line(row["label"]), Line(percent(row["score"]))]
        captions += [row["image"].rpartition("/")[2], label]
    title = "Regions that support the class (Grad-CAM)"
    if len(rows) > _MOST_IMAGES:
        title += f": {_MOST_IMAGES} of {len(rows):,} images"
    return image_grid(np.stack(images), captions, path, title=title, columns=6)


def overlay(
    pixels: npt.NDArray[np.uint8], strength: npt.NDArray[np.float32]
) -> npt.NDArray[np.uint8]:
    """An image with its map as an overlay: grey and dim, bright and orange in relevant regions.

    Args:
        pixels: uint8 `(h, w, c)`.
        strength: float `(h, w)` in 0…1.

    Returns:
        uint8 `(h, w, 3)`.
    """
    strength = strength[..., None]
    grey = pixels.mean(-1, keepdims=True)
    # Brightness too, so that the map is legible without colour.
    light = (0.35 + 0.65 * strength) * grey
    share = 0.65 * strength
    return (light * (1 - share) + np.array([255.0, 140.0, 0.0]) * share).astype(np.uint8)


def _numbers(values: Iterable[float | None]) -> npt.NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], float)


def _log(axes: Axes) -> None:
    """Sets a logarithmic axis with labels below the lowest and above the highest value.

    With plain numbers, since matplotlib's labels are formulas, which `parse_math` switches off.
    """
    axes.set_yscale("log")
    low, high = axes.dataLim.minposy, axes.dataLim.y1
    if not 0 < low <= high < math.inf:  # nothing to plot
        low, high = 0.1, 1.0
    ticks = _log_ticks(low, high)
    space = (ticks[-1] / ticks[0]) ** 0.04  # for markers at the ends
    axes.set_ylim(ticks[0] / space, ticks[-1] * space)
    axes.set_yticks(ticks, _plain_numbers(ticks))
    axes.yaxis.set_minor_locator(NullLocator())


def _log_ticks(low: float, high: float) -> list[float]:
    """Up to eleven round numbers around a range: 1, 2, 5 × 10ⁿ, or powers of ten for a long one."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    if last - first > 2 and high > 100 * low:
        step = -(-(last - first) // 10)
        return [float(f"1e{power}") for power in range(first, last + step, step)]
    near = [float(f"{n}e{power}") for power in range(first, last + 1) for n in (1, 2, 5)]
    start = max(i for i, tick in enumerate(near) if tick <= low)
    end = min(i for i, tick in enumerate(near) if tick >= high and i > start)
    return near[start : end + 1]


def _plain_numbers(values: Sequence[float]) -> list[str]:
    """All values as 0.02, or all as 2·10⁻²."""
    if all(1e-3 <= value < 1e5 for value in values):
        return [f"{value:g}" for value in values]
    return [_power_of_ten(value) for value in values]


def _power_of_ten(value: float) -> str:
    digits, power = f"{value:e}".split("e")
    raised = str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{raised}" if float(digits) == 1 else f"{float(digits):g}·10{raised}"


def _name_blocks(axes: Axes, places: npt.NDArray[np.int64], names: Sequence[str]) -> None:
    """Labels as many blocks as fit, with full names."""
    step = -(-len(names) // _MOST_NAMES)
    axes.set_xticks(places[::step], names[::step], rotation=60, ha="right", fontsize=7,
                    rotation_mode="anchor")  # fmt: skip
    axes.set_xlim(places[0] - 0.5, places[-1] + 0.5)


def _with_spread(
    axes: Axes, places: Sequence[float], values: Sequence[Sequence[float]], **look: Any
) -> None:
    """Plots means, with bars from minimum to maximum."""
    means = np.array([np.mean(row) for row in values])
    spread = np.array([[np.mean(row) - min(row), max(row) - np.mean(row)] for row in values]).T
    spread = np.maximum(spread, 0)  # the mean of three equal numbers may differ by rounding
    axes.errorbar(places, means, spread, capsize=3, elinewidth=1, **{**_THIN, **look})


def _legend_below(axes: Axes, columns: int) -> None:
    axes.legend(ncols=columns, loc="upper center", bbox_to_anchor=(0.5, -0.14))
