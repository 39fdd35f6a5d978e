"""The plots of a run, as PNG: curves, confusion matrix, grids of images.

Drawn by matplotlib's object-oriented API with Agg: this needs no display and does not touch the
pyplot state of a notebook. Line styles, markers or numbers repeat the information of colours, so
that the plots are legible in black and white.
"""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib import font_manager, style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from keras_resnet.files import StrPath, atomic
from keras_resnet.messages import percent
from keras_resnet.report.svg import end_of_losses
from keras_resnet.report.text import clean, short_labels, shorten, width_of

DPI = 150
TRAINING, VALIDATION, QUIET = "#d95f02", "#1b4f9c", "#777777"
MOST_COUNTS = 25  # classes up to which the cells of a confusion matrix show their counts

_STYLE = {
    "font.size": 9.0,
    "text.parse_math": False,  # a class name such as "$5" is not a formula
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": QUIET,
    "axes.titlelocation": "left",
    "axes.titlesize": 11.0,
    "axes.titlepad": 16.0,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "savefig.facecolor": "white",
}
# matplotlib's default font has no Chinese, Japanese, Korean or Indic letters and few emoji; these
# scalable fonts are used if installed. A letter that no font has is drawn as a box.
_MORE_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "WenQuanYi Zen Hei",
    "IPAPGothic",
    "Arial Unicode MS",
    "Nirmala UI",
    "Noto Emoji",
    "Segoe UI Emoji",
    "Symbola",
)


def curves(
    history: Sequence[Mapping[str, Any]], path: StrPath, *, best_epoch: int | None = None
) -> StrPath:
    """Plots cross-entropy and top-1 accuracy by epoch, in training and validation.

    Training accuracy is measured on augmented images while the weights change, so it may be lower
    than validation accuracy.

    Args:
        history: a list of dicts, one per epoch: `epoch` from 1, `loss`, `top1`, `val_loss`,
            `val_top1` (accuracies in 0…1), `image_size`.
        path: the PNG to write.
        best_epoch: the epoch to mark; default: the highest `val_top1`, among equals the lowest
            `val_loss`.

    Returns:
        `path`.
    """
    epochs = _column(history, "epoch")
    best = _row_of(epochs, best_epoch) if best_epoch else _best_row(history)
    with styled():
        figure = Figure(figsize=(10, 3.9), dpi=DPI)
        loss, top1 = figure.subplots(1, 2)
        loss.set(title="Cross-entropy", ylabel="cross-entropy (nats)")
        top1.set(title="Top-1 accuracy", ylabel="top-1 (%)")
        losses = _column(history, "loss"), _column(history, "val_loss")
        top, beyond = end_of_losses(*(column.tolist() for column in losses))
        _curve(loss, epochs, *losses, best, top=top)
        _curve(
            top1,
            epochs,
            100 * _column(history, "top1"),
            100 * _column(history, "val_top1"),
            best,
            unit="%",
        )
        low, high = loss.get_ylim()
        loss.text(
            0.98, 0.96, beyond, transform=loss.transAxes, ha="right", va="top", fontsize=8,
            backgroundcolor="#ffffffcc",
        )  # fmt: skip
        high = 1.05 * min(high, top)
        # From zero, so that a decrease does not look larger than it is.
        loss.set_ylim(max(min(low, 0), -0.05 * high), high)
        low, high = top1.get_ylim()
        low = max(min(low, 98.95), -2)
        high = min(high, 102, 100 + 0.1 * (100 - low))
        top1.set_yticks([tick for tick in top1.get_yticks() if tick <= 100])
        top1.set_ylim(low, high)
        for axes in (loss, top1):
            _mark_sizes(axes, epochs, _column(history, "image_size"))
        figure.subplots_adjust(wspace=0.16)
        # Below the axes, where it does not cover a curve.
        handles, labels = top1.get_legend_handles_labels()
        figure.legend(handles, labels, ncols=3, loc="upper center", bbox_to_anchor=(0.5, 0.02))
        return save(figure, path)


def confusion(matrix: npt.ArrayLike, classes: Sequence[str], path: StrPath) -> StrPath:
    """Plots the confusion matrix: rows are true classes, columns predicted classes.

    Args:
        matrix: `(k, k)` counts.
        classes: the `k` names.
        path: the PNG to write.

    Returns:
        `path`.

    Raises:
        ValueError: the matrix has another shape.
    """
    counts = np.asarray(matrix).astype(int)
    k = len(classes)
    if counts.shape != (k, k):
        raise ValueError(f"a confusion matrix of {k} classes is ({k}, {k}), not {counts.shape}")
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)  # of a true class; (k, k)
    with styled():
        side = _matrix_side(k)
        figure = Figure(figsize=(side, side), dpi=DPI)
        axes = figure.add_axes((0, 0, 1, 1))
        # Square root of the share, to make rare confusions visible.
        norm = PowerNorm(0.5, vmin=0, vmax=1)
        image = axes.imshow(shares, cmap="Blues", norm=norm, interpolation="nearest")
        axes.set(xlabel="predicted class", ylabel="true class")
        axes.grid(visible=False)
        axes.spines[:].set_visible(True)
        _name_classes(axes, classes, side / k)
        if k <= MOST_COUNTS:
            _write_counts(axes, counts, norm(shares), side / k)
        _shade_scale(figure, image, side)
        return save(figure, path)


class Line(NamedTuple):
    """A line of a caption, such as "predicted cat (97.0%)"; only its name may be shortened."""

    name: str
    before: str = ""
    after: str = ""


def image_grid(
    images: npt.NDArray[np.uint8],
    captions: Sequence[str | Sequence[Line]],
    path: StrPath,
    *,
    title: str,
    columns: int = 8,
) -> StrPath:
    """Draws images in rows, with captions below.

    Args:
        images: uint8 `(n, h, w, 3)`; small ones are enlarged by an integer factor.
        captions: `n` captions: a name, or several lines. A line that is wider than its image is
            wrapped at a space; then its name is shortened.
        path: the PNG to write.
        title: title above the images.
        columns: images per row.

    Returns:
        `path`.

    Raises:
        ValueError: the numbers of captions and images differ.
    """
    if len(images) != len(captions):
        raise ValueError(f"{len(images)} images, but {len(captions)} captions")
    with styled():
        if not len(images):
            return _save_empty(title, path)
        tiles = _magnified(np.asarray(images))  # (n, th, tw, 3)
        texts = [_wrap(caption, tiles.shape[2], FontProperties(size=8)) for caption in captions]
        return _save_grid(tiles, texts, title, min(columns, len(tiles)), path)


@contextmanager
def styled() -> Iterator[None]:
    """Applies the fonts and colours of all pictures within the context."""
    # "default" first: the pictures do not depend on the user's matplotlibrc.
    ours = {**_STYLE, "font.family": _fonts()}  # a list in "font.sans-serif" has no fallback
    with style.context(("default", ours)), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        # matplotlib before 3.11 does not shape complex scripts
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        yield


def _fonts() -> list[str]:
    present = {font.name for font in font_manager.fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in _MORE_FONTS if name in present)]


def save(figure: Figure, path: StrPath, **options: Any) -> StrPath:
    """Writes a figure as PNG, atomically; `options` are those of `savefig`. Returns `path`."""
    options = options or {"bbox_inches": "tight", "pad_inches": 0.15}
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, **options)
    return path


# Curves


def _column(history: Sequence[Mapping[str, Any]], name: str) -> npt.NDArray[np.float64]:
    """One column, `(epochs,)`; missing and non-finite values are gaps."""
    cells = [row.get(name) for row in history]
    values = np.array([math.nan if v is None else float(v) for v in cells])
    return np.where(np.isfinite(values), values, math.nan)


def _row_of(epochs: npt.NDArray[np.float64], epoch: int) -> int | None:
    rows = np.flatnonzero(epochs == epoch)
    return int(rows[0]) if len(rows) else None


def _best_row(history: Sequence[Mapping[str, Any]]) -> int | None:
    top1 = _column(history, "val_top1")
    if np.isnan(top1).all():
        return None
    loss = np.nan_to_num(_column(history, "val_loss"), nan=math.inf)
    return int(np.lexsort((loss, -np.nan_to_num(top1, nan=-1.0)))[0])


def _curve(
    axes: Axes,
    epochs: npt.NDArray[np.float64],
    training: npt.NDArray[np.float64],
    validation: npt.NDArray[np.float64],
    best: int | None,
    unit: str = "",
    top: float = math.inf,  # the end of the axis
) -> None:
    # Markers if there is space: a run of one epoch has no line.
    marker, other = ("o", "s") if len(epochs) <= 30 else (None, None)
    axes.plot(
        epochs,
        training,
        color=TRAINING,
        linestyle="--",
        marker=other,
        markersize=3.5,
        markerfacecolor="white",
        linewidth=1.4,
        label="training (on augmented images)",
    )
    axes.plot(
        epochs,
        validation,
        color=VALIDATION,
        marker=marker,
        markersize=3.5,
        linewidth=1.8,
        label="validation",
    )
    if best is not None and np.isfinite(validation[best]):
        value = validation[best]
        text = percent(value / 100) if unit else f"{value:.3f}"
        axes.axvline(epochs[best], color="black", linewidth=0.8, linestyle=":")
        axes.plot(
            epochs[best],
            min(value, top),
            "*",
            color="black",
            markersize=11,
            zorder=5,
            clip_on=False,
            label="best epoch",
        )
        axes.set_title(f"★ epoch {epochs[best]:.0f}: {text}", loc="right", fontsize=9)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if len(epochs):
        axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)


def _mark_sizes(
    axes: Axes, epochs: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64]
) -> None:
    """Marks changes of the image size, which cause jumps of the curves."""
    if np.isnan(sizes).any():
        return
    starts = [0, *(np.flatnonzero(np.diff(sizes)) + 1), len(sizes)]
    if len(starts) <= 2:
        return
    for start, end in pairwise(starts):
        if start:
            axes.axvline(epochs[start] - 0.5, color=QUIET, linewidth=0.8, linestyle=(0, (1, 3)))
        if end - start >= 0.12 * len(sizes):  # space for its label
            middle = (epochs[start] + epochs[end - 1]) / 2
            axes.text(
                middle,
                1.01,
                f"{sizes[start]:.0f} px",
                transform=axes.get_xaxis_transform(),
                color=QUIET,
                fontsize=8,
                ha="center",
                va="bottom",
            )


# Confusion matrix


def _matrix_side(k: int) -> float:
    """Side of the matrix in inches: cells with space for numbers, or a whole number of pixels per
    cell."""
    if k <= MOST_COUNTS:
        return k * float(np.clip(6.0 / k, 0.38, 0.9))
    return k * math.ceil(1000 / k) / DPI


def _name_classes(axes: Axes, classes: Sequence[str], cell: float) -> None:
    k = len(classes)
    labels = short_labels(classes, 22)
    step = 1 if k <= MOST_COUNTS else math.ceil(k / 40)
    shown = range(0, k, step)
    inches = 0.075 * max((width_of(labels[i]) for i in shown), default=0)
    slant: dict[str, Any] = (
        {} if inches < cell else {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    )
    if step > 1 or k > MOST_COUNTS:  # slanted names this close would touch
        slant = {"rotation": 90} if slant else {}
    size = 8 if k <= MOST_COUNTS else 7
    axes.set_xticks(shown, [labels[i] for i in shown], fontsize=size, **slant)
    axes.set_yticks(shown, [labels[i] for i in shown], fontsize=size)
    axes.tick_params(length=0 if k <= MOST_COUNTS else 2, color=QUIET)


def _write_counts(
    axes: Axes, counts: npt.NDArray[np.int64], shades: npt.NDArray[np.float64], cell: float
) -> None:
    digits = len(str(int(counts.max(initial=0))))
    size = min(10.0, 72 * cell / (0.65 * digits + 0.7))
    for (row, column), count in np.ndenumerate(counts):
        dark = shades[row, column] > 0.72  # the contrast is above 4.5:1 on both sides
        color = "white" if dark else "black" if count else "#b0b0b0"
        text = axes.text(column, row, f"{count:d}", color=color, fontsize=size)
        text.set(ha="center", va="center", in_layout=False)  # inside the axes anyway


def _shade_scale(figure: Figure, image: AxesImage, side: float) -> None:
    gap, width = 0.15 / side, 0.14 / side  # the axes fill the figure: 1 is `side` inches
    scale = figure.colorbar(image, cax=figure.add_axes((1 + gap, 0, width, 1)))
    ticks = (0, 1, 5, 10, 25, 50, 100)
    scale.set_ticks([t / 100 for t in ticks], labels=[f"{t}%" for t in ticks], fontsize=7)
    scale.set_label("share of the true class", fontsize=8)
    scale.ax.grid(visible=False)
    scale.outline.set_edgecolor(QUIET)


# Grids of images

_GAP, _MARGIN, _LINE, _TITLE = 14, 20, 19, 44  # pixels
_SMALLEST, _LARGEST = 180, 360  # side of a tile in pixels
_LONGEST_TITLE = 900  # pixels


def _magnified(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Images enlarged or reduced by an integer factor to a readable size: `(n, th, tw, 3)`."""
    side = max(images.shape[1:3])
    if side < _LARGEST:
        factor = math.ceil(_SMALLEST / side)
        return images.repeat(factor, axis=1).repeat(factor, axis=2)
    factor = side // _SMALLEST
    n, height, width, channels = images.shape
    height, width = max(height // factor, 1), max(width // factor, 1)
    whole = images[:, : height * factor, : width * factor]
    cells = whole.reshape(n, height, -1, width, whole.shape[2] // width, channels)
    return cells.mean(axis=(2, 4)).astype(np.uint8)


def _save_grid(
    tiles: npt.NDArray[np.uint8],
    texts: Sequence[Sequence[str]],
    title: str,
    columns: int,
    path: StrPath,
) -> StrPath:
    n, height, width, _ = tiles.shape
    rows = math.ceil(n / columns)
    step_x = width + _GAP
    step_y = height + _LINE * max(map(len, texts)) + _GAP
    # Space for the title of a single narrow image.
    wide = math.ceil(text_width(clean(title), _title_font()))
    whole_x = 2 * _MARGIN + max(columns * step_x - _GAP, min(wide, _LONGEST_TITLE))
    whole_y = _TITLE + rows * step_y + _MARGIN
    canvas = np.full((whole_y, whole_x, 3), 255, np.uint8)
    figure = Figure(figsize=(whole_x / DPI, whole_y / DPI), dpi=DPI)
    for i, (tile, lines) in enumerate(zip(tiles, texts, strict=True)):
        x = _MARGIN + i % columns * step_x
        y = _TITLE + i // columns * step_y
        canvas[y : y + height, x : x + width] = tile
        for row, line in enumerate(lines):
            # transform=None: in pixels, from the lower left
            below = whole_y - (y + height + 5 + row * _LINE)
            figure.text(x + width / 2, below, line, transform=None, size=8, ha="center", va="top")
    figure.figimage(canvas, origin="upper")
    _title(figure, title, whole_x, whole_y)
    return save(figure, path, bbox_inches=None)


def _save_empty(title: str, path: StrPath) -> StrPath:
    width, height = 480, 120
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    _title(figure, title, width, height)
    figure.text(_MARGIN, 30, "none", transform=None, color=QUIET)
    return save(figure, path, bbox_inches=None)


def _title_font() -> FontProperties:
    return FontProperties(size=11)  # not a constant: it takes the current font family


def _title(figure: Figure, title: str, width: int, height: int) -> None:
    text = _fit(clean(title), width - 2 * _MARGIN, _title_font())
    figure.text(_MARGIN, height - 12, text, transform=None, fontproperties=_title_font(), va="top")


# Text


def _wrap(caption: str | Sequence[Line], width: int, font: FontProperties) -> list[str]:
    """A caption as lines no wider than `width` pixels, at most two per line of the caption."""
    lines = [Line(caption)] if isinstance(caption, str) else caption
    return [text for line in lines for text in _two_lines(line, width, font)]


def _two_lines(line: Line, width: int, font: FontProperties) -> list[str]:
    whole = " ".join(filter(None, (line.before, clean(line.name), line.after)))
    if text_width(whole, font) <= width:
        return [whole]
    head, words = "", f"{line.before} {clean(line.name)}".strip().split(" ")
    while words and text_width(f"{head} {words[0]}".strip(), font) <= width:
        head = f"{head} {words.pop(0)}".strip()
    end = f" {line.after}" if line.after else ""
    tail = _fit(" ".join(words), width - text_width(end, font), font) + end
    return [text for text in (head, tail.strip()) if text]


def _fit(text: str, width: float, font: FontProperties) -> str:
    length = width_of(text)
    # A first estimate from the measured width, then one column at a time.
    if (wide := text_width(text, font)) > width:
        length = min(length, int(1.2 * length * width / wide) + 1)
    while length > 1 and text_width(shorten(text, length), font) > width:
        length -= 1
    return shorten(text, length)


def text_width(text: str, font: FontProperties) -> float:
    """The width in pixels of the picture."""
    return _renderer().get_text_width_height_descent(text, font, ismath=False)[0]


@cache
def _renderer() -> RendererAgg:
    return RendererAgg(1, 1, DPI)  # to measure with
