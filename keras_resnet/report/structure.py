"""The structure of a network as a picture: one column per stage, one frame per kind of block.

Black on white, as in the papers. Lengths are in pixels; y grows downwards.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Circle, FancyBboxPatch

from keras_resnet.errors import InputError
from keras_resnet.files import StrPath
from keras_resnet.report.plots import DPI, save, styled, text_width

if TYPE_CHECKING:
    from keras_resnet.inspection.drawing import Body, Drawing, DrawnBlock, DrawnStage, Fork

FONT, ITALIC = FontProperties(size=8), FontProperties(size=8, style="italic")
BOLD, SMALL = FontProperties(size=10, weight="bold"), FontProperties(size=7)
LINE = 20  # line height
PAD = 10  # between a text and its box, and between a box and its frame
GAP = 28  # length of an arrow between two boxes
LANE = 36  # between two paths, and between two columns
MARGIN = 30
RADIUS = 12  # of a sum
MOST_PIXELS = 2**16 - 1  # per side; matplotlib's limit


def structure(drawn: "Drawing", path: StrPath) -> StrPath:
    """Draws the structure of a network.

    Args:
        drawn: the result of `keras_resnet.inspection.drawing.drawing`.
        path: the PNG to write.

    Returns:
        `path`.

    Raises:
        InputError: the network has too many kinds of blocks for a picture.
    """
    about = f"image {_by(drawn.input_shape)}; under the name of a stage, the shape of its output"
    with styled():
        columns = [_column(stage) for stage in drawn.stages]
        top = MARGIN + 4 * LINE
        width = MARGIN + sum(column.width + LANE for column in columns) - LANE + MARGIN
        width = max(width, 2 * MARGIN + _half(about, FONT) * 2)
        height = top + max((column.height for column in columns), default=0) + MARGIN
        if max(width, height) > MOST_PIXELS:
            raise InputError(
                f"the picture of {drawn.name} would have {width}×{height} pixels; use --drawing"
            )
        figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
        axes.set_axis_off()
        _write(axes, MARGIN, MARGIN, drawn.name, BOLD, ha="left")
        _write(axes, MARGIN, MARGIN + 1.3 * LINE, about, FONT, ha="left")
        _draw_columns(axes, columns, drawn.stages, top)
        return save(figure, path, bbox_inches=None)


def _draw_columns(
    axes: Axes, columns: Sequence["_Piece"], stages: "Sequence[DrawnStage]", top: int
) -> None:
    """Draws columns side by side, with an arrow from each stage's name to the next."""
    x, end = MARGIN, None
    for column, stage in zip(columns, stages, strict=True):
        x += column.left
        column.draw(axes, x, top)
        half = _half(stage.name, BOLD) + PAD
        if end:
            _arrow(axes, (end, top + LINE / 2), (x - half, top + LINE / 2))
        end = x + half
        x += column.right + LANE


@dataclass(frozen=True)
class _Piece:
    """A drawing around a vertical axis, along which values flow.

    It includes the line that leads into it.
    """

    left: int  # extent to the left of the axis; `right`: to the right
    right: int
    height: int
    draw: Callable[[Axes, float, float], None]  # (axes, x of the axis, y of the top)

    @property
    def width(self) -> int:
        return self.left + self.right


def _column(stage: "DrawnStage") -> _Piece:
    return _chain([_head(stage.name, _by(stage.output_shape)), *map(_block, stage.blocks)])


def _head(name: str, shape: str) -> _Piece:
    half = max(_half(name, BOLD), _half(shape, FONT))

    def draw(axes: Axes, x: float, y: float) -> None:
        _write(axes, x, y + LINE / 2, name, BOLD)
        _write(axes, x, y + 1.6 * LINE, shape, FONT)

    return _Piece(half, half, 2 * LINE + PAD, draw)


def _block(block: "DrawnBlock") -> _Piece:
    """A frame; the names of its blocks are right of the arrow that leads into it."""
    inside = _body(block.body)
    if not block.names:
        return inside
    name = _name(block.names)
    left, right = inside.left + PAD, max(inside.right, 2 * _half(name, SMALL)) + PAD
    height = inside.height + GAP

    def draw(axes: Axes, x: float, y: float) -> None:
        _arrow(axes, (x, y), (x, y + 2 * LINE))
        _write(axes, x + PAD, y + 1.4 * LINE, name, SMALL, ha="left")
        y += 2 * LINE
        axes.add_patch(_rectangle(x - left, y, left + right, height, "#f3f3f3", "#888888"))
        inside.draw(axes, x, y)
        _line(axes, (x, x), (y + inside.height, y + height))

    return _Piece(left, right, 2 * LINE + height, draw)


def _name(names: Sequence[str]) -> str:
    """The label of equal blocks, such as "conv4_block2 … block6  ×5"."""
    first, last = names[0], names[-1].removeprefix(names[0].rpartition("_")[0] + "_")
    return first if len(names) == 1 else f"{first} … {last}  ×{len(names)}"


def _body(body: "Body") -> _Piece:
    return _chain([_box(part) if isinstance(part, list) else _fork(part) for part in body])


def _chain(pieces: Sequence[_Piece]) -> _Piece:
    def draw(axes: Axes, x: float, y: float) -> None:
        for piece in pieces:
            piece.draw(axes, x, y)
            y += piece.height

    return _Piece(
        max((piece.left for piece in pieces), default=0),
        max((piece.right for piece in pieces), default=0),
        sum(piece.height for piece in pieces),
        draw,
    )


def _box(words: list[str]) -> _Piece:
    """A line of the drawing, wrapped to the width of its longest word."""
    rows = words[:1]
    for word in words[1:]:
        longer = f"{rows[-1]} · {word}"
        if len(longer) <= max(map(len, words)):
            rows[-1] = longer
        else:
            rows.append(word)
    half = max(_half(row, FONT) for row in rows) + PAD
    height = LINE * len(rows) + PAD

    def draw(axes: Axes, x: float, y: float) -> None:
        _arrow(axes, (x, y), (x, y + GAP))
        y += GAP
        axes.add_patch(_rectangle(x - half, y, 2 * half, height, "white", "black"))
        for row, text in enumerate(rows):
            _write(axes, x, y + PAD / 2 + (row + 0.5) * LINE, text, FONT)

    return _Piece(half, half, GAP + height, draw)


def _fork(fork: "Fork") -> _Piece:
    """The first path on the axis, the others right of it, and their join below."""
    first, *others = [_body(path) if path else _identity() for path in fork.paths]
    join = _sum(fork.join) if len(fork.join) == 1 else _box([fork.join])
    places, right = [], max(first.right, join.right)
    for path in others:
        places.append(right + LANE + path.left)
        right = places[-1] + path.right
    longest = max(path.height for path in (first, *others))
    lead = GAP // 2

    def draw(axes: Axes, x: float, y: float) -> None:
        top = y + lead
        bottom = top + longest
        middle = bottom + GAP + (join.height - GAP) / 2
        _line(axes, (x, x), (y, top))
        first.draw(axes, x, top)
        _line(axes, (x, x), (top + first.height, bottom))
        join.draw(axes, x, bottom)
        for place, path in zip(places, others, strict=True):
            side, start = x + place, top + (longest - path.height) // 2
            _line(axes, (x, side, side), (top, top, start))
            path.draw(axes, side, start)
            _line(axes, (side, side), (start + path.height, middle))
            _arrow(axes, (side, middle), (x + join.right, middle))

    return _Piece(max(first.left, join.left), right, lead + longest + join.height, draw)


def _identity() -> _Piece:
    def draw(axes: Axes, x: float, y: float) -> None:
        _write(axes, x, y + LINE / 2, "identity", ITALIC)

    half = _half("identity", ITALIC)
    return _Piece(half, half, LINE, draw)


def _sum(sign: str) -> _Piece:
    def draw(axes: Axes, x: float, y: float) -> None:
        _arrow(axes, (x, y), (x, y + GAP))
        circle = Circle((x, y + GAP + RADIUS), RADIUS)
        axes.add_patch(circle).set(facecolor="white", edgecolor="black", linewidth=0.9)
        _write(axes, x, y + GAP + RADIUS, sign, BOLD)

    return _Piece(RADIUS, RADIUS, GAP + 2 * RADIUS, draw)


def _rectangle(
    x: float, y: float, width: float, height: float, face: str, edge: str
) -> FancyBboxPatch:
    return FancyBboxPatch(
        (x, y), width, height, boxstyle="round,pad=0,rounding_size=5",
        facecolor=face, edgecolor=edge, linewidth=0.9,
    )  # fmt: skip


def _half(text: str, font: FontProperties) -> int:
    """Half the width of a text, in whole pixels."""
    return math.ceil(text_width(text, font) / 2)


def _by(shape: Sequence[int | None]) -> str:
    return "×".join("?" if side is None else str(side) for side in shape)


def _write(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    font: FontProperties,
    ha: Literal["left", "center"] = "center",
) -> None:
    axes.text(x, y, text, fontproperties=font, ha=ha, va="center_baseline")


def _line(axes: Axes, xs: Sequence[float], ys: Sequence[float]) -> None:
    axes.plot(xs, ys, color="black", linewidth=0.9, solid_capstyle="butt")


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    shape = {"arrowstyle": "-|>", "color": "black", "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, start, arrowprops={**shape, "mutation_scale": 8})
