"""The plots in report.html, as SVG in the colours of the page, also in its dark mode.

The CSS classes of the elements are defined in `report.html.jinja`. Names are escaped. Widths are in
CSS pixels of a phone; a plot scales with the page.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from keras_resnet.messages import percent as percentage
from keras_resnet.report.text import short_labels, width_of

MOST_DRAWN = 50  # classes up to which a confusion matrix is drawn; a larger one is a PNG
MOST_COUNTS = 25  # classes up to which its cells show their counts
_WIDTH, _HEIGHT = 360, 230  # of curves
_LEFT, _RIGHT, _TOP, _BOTTOM = 42, 10, 28, 32  # their margins; the left is wider for long labels
_LETTER, _CAPITAL, _WIDE = 6.7, 8.4, 11.0  # widths of letters in labels, for wide fonts


def curves(
    epochs: Sequence[Mapping[str, float]], name: str, best: int | None, *, percent: bool = False
) -> Markup:
    """A column of the history by epoch, in training (dashed) and validation.

    Args:
        epochs: the rows of history.csv.
        name: name of the column; that of the validation has the prefix `val_`.
        best: the epoch to mark.
        percent: whether the values are shares.
    """
    scale = 100.0 if percent else 1.0
    lines = {
        kind: [scale * _number(row.get(column)) for row in epochs]
        for kind, column in (("training", name), ("validation", f"val_{name}"))
    }
    values = [v for line in lines.values() for v in line if math.isfinite(v)]
    beyond = ""
    if percent:  # at least one point
        ticks = _ticks(min([99.0, *values]) if values else 0.0, 100)
    else:  # from zero, so that a decrease does not look larger than it is
        top, beyond = end_of_losses(lines["training"], lines["validation"])
        ticks = _ticks(0, min(max(values, default=1.0), top))
    low, high = ticks[0], ticks[-1]
    labels = _labels(ticks, "%" if percent else "")
    left = max(_LEFT, 8 + max(map(_length, labels)))
    first, last = epochs[0]["epoch"] - 0.5, epochs[-1]["epoch"] + 0.5

    def x(epoch: float) -> float:
        return left + (epoch - first) / (last - first) * (_WIDTH - left - _RIGHT)

    def y(value: float) -> float:
        value = min(value, high) if math.isfinite(value) else value
        return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [_rows(labels, map(y, ticks), left)]
    parts += [
        f'<text class="axis" x="{x(epoch):.1f}" y="{_HEIGHT - 16}" text-anchor="middle">'
        f"{epoch}</text>"
        for epoch in _epoch_ticks(int(epochs[0]["epoch"]), int(epochs[-1]["epoch"]))
    ]
    parts.append(
        f'<text class="axis" x="{(_WIDTH + left) / 2:.1f}" y="{_HEIGHT - 3}" text-anchor="middle">'
        "epoch</text>"
    )
    parts += _sizes(epochs, x)
    for kind, line in lines.items():
        points = [(x(r["epoch"]), y(v)) for r, v in zip(epochs, line, strict=True)]
        end = _TOP if beyond else -math.inf  # values beyond the axis get no marker
        parts += _line(points, kind, dots=len(epochs) <= 30, end=end)
    if best is not None:
        parts += _marked(epochs, lines["validation"], best, x, y, percent)
    if beyond:
        parts.append(f'<text class="axis" font-size="9" x="{left:.1f}" y="10">{beyond}</text>')
    label = "Top-1 accuracy" if percent else "Cross-entropy"
    ends = [_shown(v, percent) for v in lines["validation"] if math.isfinite(v)]
    if ends:
        label += f", validation from {ends[0]} to {ends[-1]}"
    if best is not None:
        label += f", best epoch {best}"
    return _svg(_WIDTH, _HEIGHT, label, parts)


def end_of_losses(training: Sequence[float], validation: Sequence[float]) -> tuple[float, str]:
    """The end of the axis of the losses, and the note if losses are beyond it.

    A few epochs with a validation loss far above all training losses, as with a large learning
    rate, must not compress the other values.
    """
    usual = 2 * max(filter(math.isfinite, training), default=0.0) or math.inf
    beyond = [loss for loss in validation if usual < loss < math.inf]
    if max(beyond, default=0.0) <= 2 * usual or 2 * len(beyond) >= len(validation):
        return math.inf, ""
    return usual, f"validation up to {max(beyond):,.4g}, beyond the axis"


def confusion(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> Markup:
    """The confusion matrix: rows are true classes, columns predicted classes."""
    k = len(names)
    labels = short_labels(names, 18)
    longest = max(map(_length, labels))
    gutter = 26 + longest
    cell = 30.0 if k <= 12 else 24.0 if k <= MOST_COUNTS else 13.0
    # Long names are rotated.
    is_turned = longest > cell
    angle = 0 if not is_turned else 45 if k <= MOST_COUNTS else 90
    head = 24 + {0: 14.0, 45: gutter * 0.75, 90: gutter}[angle]
    parts = [
        f'<text class="axis" x="{gutter:.1f}" y="12">predicted class</text>',
        f'<text class="axis" x="11" y="{head:.1f}" text-anchor="end" '
        f'transform="rotate(-90 11 {head:.1f})">true class</text>',
    ]
    for i, label in enumerate(labels):
        middle = gutter + (i + 0.5) * cell
        middle += 4 if angle == 90 else 0
        turn = f' transform="rotate(-{angle} {middle:.1f} {head - 6:.1f})"' if is_turned else ""
        anchor = "start" if is_turned else "middle"
        parts.append(
            f'<text class="label" x="{middle:.1f}" y="{head - 6:.1f}" text-anchor="{anchor}"{turn}>'
            f"{escape(label)}</text>"
        )
        parts.append(
            f'<text class="label" x="{gutter - 6:.1f}" y="{head + (i + 0.5) * cell + 4:.1f}" '
            f'text-anchor="end">{escape(label)}</text>'
        )
    for i, row in enumerate(matrix):
        parts += _cells(row, i, gutter, head, cell, counts=k <= MOST_COUNTS)
    side = k * cell
    parts.append(
        f'<rect class="frame" x="{gutter:.1f}" y="{head:.1f}" width="{side:g}" height="{side:g}"/>'
    )
    tail = gutter * 0.6 if angle == 45 else 4  # space for the last slanted name
    width = max(gutter + side + tail, gutter + 90)
    height = head + max(side, 70) + 4  # space for "true class"
    right, images = sum(row[i] for i, row in enumerate(matrix)), sum(map(sum, matrix))
    title = f"Confusion matrix: {right:,} of {images:,} images on the diagonal"
    return _svg(width, height, title, parts, is_fixed=True) + _table(matrix, names)


def _table(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> Markup:
    """The confusion matrix as a table for screen readers, which is not visible."""
    head = Markup("").join(Markup('<th scope="col"><bdi>{}</bdi></th>').format(n) for n in names)
    rows = Markup("").join(
        Markup('<tr><th scope="row"><bdi>{}</bdi></th>{}</tr>').format(
            name, Markup("").join(Markup("<td>{}</td>").format(count) for count in row)
        )
        for name, row in zip(names, matrix, strict=True)
    )
    return Markup(
        '<table class="unseen"><caption>Images by true class (rows) and predicted class</caption>'
        "<thead><tr><td></td>{}</tr></thead><tbody>{}</tbody></table>"
    ).format(head, rows)


def _length(label: str) -> float:
    """Upper limit of the width of a label: text beyond the edge of an SVG is cut off."""
    return sum(
        _WIDE if c in "mwMW@%" or width_of(c) > 1 else _CAPITAL if c.isupper() else _LETTER
        for c in label
    )


def _cells(
    row: Sequence[int], i: int, left: float, top: float, cell: float, *, counts: bool
) -> list[str]:
    total, parts = max(sum(row), 1), []
    for j, count in enumerate(row):
        x, y = left + j * cell, top + i * cell
        # Square root of the share, to make rare confusions visible.
        shade = math.sqrt(count / total)
        if counts:  # light enough for the contrast of the counts, 4.5:1 in both colour schemes
            shade /= 2
        kind = "right" if i == j else "wrong"
        if count:
            parts.append(
                f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{cell:g}" height="{cell:g}" '
                f'fill-opacity="{max(shade, 0.08):.2f}"/>'
            )
        if counts:
            shown = "count" if count else "none"
            size = 10 if count < 1000 else 8
            parts.append(
                f'<text class="{shown}" font-size="{size}" x="{x + cell / 2:.1f}" '
                f'y="{y + cell / 2 + 3.5:.1f}" text-anchor="middle">{count}</text>'
            )
    return parts


def reliability(bins: Sequence[tuple[int, float, float]]) -> Markup:
    """Accuracy by score.

    Args:
        bins: (images, mean score, accuracy) of bins of equal width in 0…1.
    """
    width, height = _WIDTH, 250
    left, top, bottom = _LEFT, 12, 48
    across, up = width - left - _RIGHT, height - top - bottom

    def y(share: float) -> float:
        return height - bottom - share * up

    ticks = [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]
    parts = [_rows(_labels(ticks, "%"), [y(tick / 100) for tick in ticks], left)]
    step = across / len(bins)
    for i, (images, score, accuracy) in enumerate(bins):
        x = left + i * step
        if images:
            parts.append(
                f'<rect class="bin" x="{x + 1:.1f}" y="{y(accuracy):.1f}" '
                f'width="{step - 2:.1f}" height="{accuracy * up:.1f}"><title>{images:,} images: '
                f"mean score {percentage(score)}, {percentage(accuracy)} correct</title></rect>"
            )
        parts.append(
            f'<text class="axis" font-size="9" x="{x + step / 2:.1f}" y="{height - bottom + 13}" '
            f'text-anchor="middle">{_short(images)}</text>'
        )
    parts.append(
        f'<line class="diagonal" x1="{left}" y1="{y(0):.1f}" x2="{left + across}" y2="{y(1):.1f}"/>'
    )
    for n, score, accuracy in bins:
        if n:
            parts.append(
                f'<circle class="dot" cx="{left + score * across:.1f}" cy="{y(accuracy):.1f}" '
                'r="3"/>'
            )
    parts.append(
        f'<text class="axis" x="{left}" y="{height - 18}">images, by score from 0 to 100%</text>'
    )
    shown = [f"{percentage(score)}: {percentage(right)} correct" for n, score, right in bins if n]
    return _svg(width, height - 12, f"Accuracy by mean score: {', '.join(shown)}", parts)


# Parts of curves


def _labels(ticks: Sequence[float], unit: str) -> list[str]:
    """The ticks as text, with the digits of their step."""
    digits = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    return [f"{_fitting(tick, digits, ticks[-1])}{unit}" for tick in ticks]


def _rows(labels: Sequence[str], heights: Iterable[float], left: float) -> str:
    return "".join(
        f'<line class="grid" x1="{left:.1f}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="axis" x="{left - 5:.1f}" y="{y + 3.5:.1f}" text-anchor="end">{label}</text>'
        for label, y in zip(labels, heights, strict=True)
    )


def _line(points: Sequence[tuple[float, float]], kind: str, *, dots: bool, end: float) -> list[str]:
    """A line with a gap where a value is not finite, and dots below the `end` of the axis."""
    runs: list[list[str]] = [[]]
    for x, y in points:
        if math.isfinite(y):
            runs[-1].append(f"{x:.1f},{y:.1f}")
        else:
            runs.append([])
    parts = [f'<polyline class="{kind}" points="{" ".join(run)}"/>' for run in runs if run]
    parts += [
        f'<circle class="dot {kind}" cx="{x:.1f}" cy="{y:.1f}" r="2.2"/>'
        for x, y in points
        if dots and end < y < math.inf
    ]
    return parts


def _marked(
    epochs: Sequence[Mapping[str, float]],
    values: Sequence[float],
    best: int,
    x: Any,
    y: Any,
    percent: bool,
) -> list[str]:
    """The chosen epoch."""
    found = [v for row, v in zip(epochs, values, strict=True) if row.get("epoch") == best]
    if not found or not math.isfinite(found[0]):
        return []
    at = x(best)
    number = _shown(found[0], percent)
    return [
        f'<line class="chosen" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>'
        f'<text class="star" x="{at:.1f}" y="{y(found[0]) + 5:.1f}" text-anchor="middle">★</text>'
        f'<text class="label" x="{_WIDTH - _RIGHT}" y="10" text-anchor="end">'
        f"★ epoch {best}: {number}</text>"
    ]


def _sizes(epochs: Sequence[Mapping[str, float]], x: Any) -> list[str]:
    """Marks changes of the image size, which cause jumps of the curves."""
    spans = size_spans(epochs)
    if len(spans) < 2:
        return []
    parts = []
    for first, last, size in spans:
        left, right = x(first - 0.5), x(last + 0.5)
        if first != spans[0][0]:
            parts.append(
                f'<line class="change" x1="{left:.1f}" x2="{left:.1f}" y1="{_TOP}" '
                f'y2="{_HEIGHT - _BOTTOM}"/>'
            )
        if right - left > 34:
            parts.append(
                f'<text class="axis" font-size="9" x="{(left + right) / 2:.1f}" y="{_TOP - 5}" '
                f'text-anchor="middle">{size} px</text>'
            )
    return parts


def size_spans(epochs: Sequence[Mapping[str, float]]) -> list[tuple[int, int, int]]:
    """(first epoch, last epoch, image size) of consecutive epochs with one size; [] if unknown."""
    spans: list[tuple[int, int, int]] = []
    for row in epochs:
        if not math.isfinite(_number(row.get("image_size"))):
            return []
        epoch, size = int(row["epoch"]), int(row["image_size"])
        if spans and spans[-1][2] == size:
            spans[-1] = (spans[-1][0], epoch, size)
        else:
            spans.append((epoch, epoch, size))
    return spans


def _epoch_ticks(first: int, last: int) -> list[int]:
    step = next(s for n in range(9) for s in (10**n, 2 * 10**n, 5 * 10**n) if last - first < 8 * s)
    return [e for e in range(first, last + 1) if e % step == 0 or last == first]


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers around a range, at most seven."""
    spread = max(high - low, 1e-3)
    power = 10.0 ** math.floor(math.log10(spread / 5))
    step = next((base for base in (1, 2, 5) if base * power >= spread / 5), 10) * power
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 6) for i in range(first, max(last, first + 1) + 1)]


def _shown(value: float, percent: bool) -> str:
    return percentage(value / 100) if percent else _fitting(value, 3, value)


def _fitting(value: float, digits: int, largest: float) -> str:
    """The value as text, formatted for an axis with a `largest` value of up to five digits."""
    return f"{value:.{digits}f}" if largest < 1e5 else f"{value:.2g}"


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan


def _short(count: int) -> str:
    return f"{count / 1000:.0f}k" if count >= 10_000 else str(count)


def _svg(
    width: float, height: float, title: str, parts: Sequence[str], *, is_fixed: bool = False
) -> Markup:
    """An SVG element. Fixed: with its own width, to be scrolled on a phone; else as wide as the
    page."""
    limits = f' style="min-width:{width:.0f}px;max-width:{1.25 * width:.0f}px"' if is_fixed else ""
    return Markup(
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{title}"{limits}>'
        f"{''.join(parts)}</svg>"
    )
