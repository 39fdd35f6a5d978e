"""The structure of a network as a drawing: its blocks with branches, shortcuts and sums.

Parallel paths are found in the graph of any network. Names are used only to group layers into
stages and blocks.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import keras

from keras_resnet.errors import InputError
from keras_resnet.inspection.network import BLOCK, Step, sides, stages_of, walk
from keras_resnet.results import Result
from keras_resnet.state import isolated

WORDS = {
    "Add": "+",
    "AveragePooling2D": "average pool",
    "BatchNormalization": "BN",
    "Concatenate": "concat",
    "Conv2D": "conv",
    "Dense": "dense",
    "DepthwiseConv2D": "depthwise conv",
    "Dropout": "dropout",
    "GlobalAveragePooling2D": "global average pool",
    "MaxPooling2D": "max pool",
    "Multiply": "×",
    "Rescaling": "rescaling",
    "SeparableConv2D": "separable conv",
}
Body = list["list[str] | Fork"]  # lines, each a list of words, and forks
_Address = tuple[str | None, str | None]  # stage and block
_Part = tuple[_Address, "_Segment"]
IMAGE = -1  # the index of the image: before all steps


@dataclass(frozen=True)
class Fork:
    """Parallel paths."""

    paths: list[Body]  # the one with most convolutions first; an empty one is the identity
    join: str  # the operation that joins them, such as "+"


@dataclass(frozen=True)
class DrawnBlock:
    """Consecutive equal blocks."""

    names: list[str]  # empty for layers outside the blocks
    body: Body  # of each, with lines such as ["3×3 conv 64 /2", "BN", "ReLU"]


@dataclass(frozen=True)
class DrawnStage:
    """A stage of a network."""

    name: str
    output_shape: list[int | None]
    blocks: list[DrawnBlock]


@dataclass(frozen=True)
class Drawing(Result):
    """The structure of a network; `print` draws it.

    Not shown: zero padding, rates of dropout.
    """

    name: str
    input_shape: list[int | None]
    stages: list[DrawnStage]  # in forward order; one, "all", if the layers have other names

    def __str__(self) -> str:
        lines = [f"{self.name}: {sides(self.input_shape)}"]
        for stage in self.stages:
            lines += ["", f"{stage.name}: {sides(stage.output_shape)}"]
            for block in stage.blocks:
                if block.names:
                    lines.append(f"  {_title(block.names)}")
                elif block is not stage.blocks[0]:
                    lines.append("")
                lines += [f"    {line}" for line in _body_text(block.body, "x")]
        return "\n".join(lines)


@isolated(any_backend=True)
def drawing(model: keras.Model | str, input_shape: Sequence[int] | None = None) -> Drawing:
    """Finds the structure of a network.

    Args:
        model, input_shape: as in `keras_resnet.inspection.network`.

    Returns:
        `Drawing`.

    Raises:
        InputError: as in `describe`; or the network has several inputs or outputs.
    """
    model, inputs, outputs, steps = walk(model, input_shape)
    if (len(inputs), len(outputs)) != (1, 1):
        raise InputError(
            f"{model.name} has {len(inputs)} inputs and {len(outputs)} outputs; only networks with "
            "one of each can be drawn"
        )
    graph = _Graph(inputs[0], steps)
    segments = graph.segments(range(len(steps)), IMAGE)
    addresses = _addresses([[steps[turn] for turn in segment.turns] for segment in segments])
    parts = list(zip(addresses, segments, strict=True))
    return Drawing(
        name=model.name,
        input_shape=list(inputs[0].shape[1:]),
        stages=[
            _stage(name, list(members), graph)
            for name, members in groupby(parts, lambda part: part[0][0])
        ],
    )


def _stage(name: str | None, parts: list[_Part], graph: "_Graph") -> DrawnStage:
    blocks: list[DrawnBlock] = []
    for (_, block), members in groupby(parts, lambda part: part[0]):
        body = graph.body([segment for _, segment in members])
        last = blocks[-1] if blocks else None
        if block and last and last.names and last.body == body:
            blocks[-1] = replace(last, names=[*last.names, block])
        else:
            blocks.append(DrawnBlock([block] if block else [], body))
    output = graph.steps[parts[-1][1].turns[-1]].made[0]
    return DrawnStage(name or "all", list(output.shape[1:]), blocks)


def _addresses(segments: Sequence[Sequence[Step]]) -> list[_Address]:
    """(stage, block) of each segment; block is None outside the blocks.

    In a network with other layer names, a block is a fork and the element-wise operations after it,
    with the name of its join.
    """
    names = [_address([step.operation.name for step in segment]) for segment in segments]
    stages, blocks = stages_of(names), []
    for name, stage, segment in zip(names, stages, segments, strict=True):
        if stage:
            match = BLOCK.match(name)
            blocks.append(match and match[0])
        elif len(segment) > 1:
            blocks.append(segment[-1].operation.name)
        else:
            blocks.append(blocks[-1] if blocks and _is_by_value(segment[0]) else None)
    return list(zip(stages, blocks, strict=True))


def _address(names: Sequence[str]) -> str:
    return next(filter(BLOCK.match, names), names[0])


class _Segment:
    """Steps from one cut of the graph to the next: a link of a chain, or a fork and its join."""

    def __init__(self, source: int, turns: list[int], is_closed: bool):
        self.source = source  # the index of the step whose result is the input
        self.turns = turns
        self.is_closed = is_closed  # whether it has a single output

    @property
    def is_link(self) -> bool:
        return len(self.turns) == 1


class _Graph:
    """Steps, each identified by its index in forward order."""

    def __init__(self, image: keras.KerasTensor, steps: Sequence[Step]):
        maker = {id(x): turn for turn, step in enumerate(steps) for x in step.made}
        maker[id(image)] = IMAGE
        self.steps = steps
        self.makers = [[maker[id(x)] for x in step.given] for step in steps]

    def segments(self, turns: Sequence[int], source: int) -> list[_Segment]:
        """Splits steps, which depend only on `source` and each other, at single tensors."""
        last_use = {maker: turn for turn in turns for maker in self.makers[turn]}
        segments, segment, alive = [], [], {source}
        for turn in turns:
            segment.append(turn)
            alive.add(turn)
            alive -= {maker for maker in self.makers[turn] if last_use[maker] == turn}
            if alive == {turn}:
                segments.append(_Segment(source, segment, is_closed=True))
                source, segment = turn, []
        return segments + ([_Segment(source, segment, is_closed=False)] if segment else [])

    def body(self, segments: Iterable[_Segment]) -> Body:
        body: Body = []
        for is_link, run in groupby(segments, lambda segment: segment.is_link):
            if is_link:
                body += _lines([self.steps[segment.turns[0]] for segment in run])
            else:
                body += map(self.fork, run)
        return body

    def fork(self, segment: _Segment) -> list[str] | Fork:
        join = segment.turns[-1]
        parts = self.parts(segment) + [[]] * self.makers[join].count(segment.source)
        if not segment.is_closed or len(parts) == 1:
            return [f"{len(segment.turns)} layers in another pattern"]
        paths = [self.body(self.segments(part, segment.source)) for part in parts]
        return Fork(paths, join=" ".join(_words(self.steps[join])))

    def parts(self, segment: _Segment) -> list[list[int]]:
        """The steps before the join, in unconnected parts; most convolutions first."""
        inner = segment.turns[:-1]
        root = {turn: turn for turn in inner}  # union-find: one tree per part

        def find(turn: int) -> int:
            while root[turn] != turn:
                root[turn] = turn = root[root[turn]]
            return turn

        for turn in inner:
            for maker in self.makers[turn]:
                if maker != segment.source:
                    root[find(turn)] = find(maker)
        parts = defaultdict(list)
        for turn in inner:
            parts[find(turn)].append(turn)
        return sorted(parts.values(), key=self.convolutions, reverse=True)

    def convolutions(self, turns: Sequence[int]) -> int:
        return sum(hasattr(self.steps[turn].operation, "kernel_size") for turn in turns)


def _lines(steps: Sequence[Step]) -> list[list[str]]:
    """Words in lines: each with one layer with weights and the element-wise operations after it.

    With pre-activation, the element-wise operations are those before it.
    """
    lines: list[list[str]] = []
    previous: Any = None
    steps = [step for step in steps if not _is_border(step)]
    for step in steps:
        if not lines or not _is_by_value(previous if _is_by_value(steps[0]) else step):
            lines.append([])
        lines[-1] += _words(step)
        previous = step
    return lines


def _is_by_value(step: Step) -> bool:
    """Whether the step is element-wise: a batch norm, a ReLU, a dropout."""
    layer = step.operation
    if type(layer).__name__ in ("Dense", "Rescaling") or len(step.given) > 1:
        return False
    moves = hasattr(layer, "kernel_size") or hasattr(layer, "pool_size")
    return not moves and step.given[0].shape == step.made[0].shape


def _is_border(step: Step) -> bool:
    """Whether the step is zero padding, which other convolutions include."""
    return _is_padding(step) and step.given[0].shape[-1] == step.made[0].shape[-1]


def _is_padding(step: Step) -> bool:
    return type(step.operation).__name__ == "ZeroPadding2D"


def _words(step: Step) -> list[str]:
    layer, kind = step.operation, type(step.operation).__name__
    before, after = step.given[0].shape[-1], step.made[0].shape[-1]
    word = WORDS.get(kind, kind)
    if hasattr(layer, "kernel_size"):
        return [_convolution(layer, word, getattr(layer, "filters", after)), *_activation(layer)]
    if hasattr(layer, "pool_size"):
        return [_pool(layer, word)]
    if kind == "Dense":
        return [f"{word} {after}", *_activation(layer)]
    if kind == "Activation":
        return _activation(layer) or [word]
    if kind == "Dropout" and layer.noise_shape and set(layer.noise_shape[1:]) == {1}:
        return ["stochastic depth"]  # drops whole branches per image, arXiv:1603.09382
    if _is_padding(step):
        return [f"zeros, {before} to {after} channels"]
    return [word]


def _convolution(layer: keras.Layer, word: str, filters: int) -> str:
    groups, dilation = getattr(layer, "groups", 1), max(layer.dilation_rate)
    return (
        f"{_by(layer.kernel_size)} {word} {filters}{_stride(layer)}"
        + (f", {groups} groups" if groups > 1 else "")
        + (f", dilation {dilation}" if dilation > 1 else "")
    )


def _pool(layer: keras.Layer, word: str) -> str:
    if set(layer.pool_size) == {1} and set(layer.strides) == {2}:
        return "every other pixel"
    return f"{_by(layer.pool_size)} {word}{_stride(layer)}"


def _stride(layer: keras.Layer) -> str:
    return f" /{max(layer.strides)}" if max(layer.strides) > 1 else ""


def _by(sizes: Iterable[int]) -> str:
    return "×".join(map(str, sizes))


def _activation(layer: keras.Layer) -> list[str]:
    name = getattr(layer.activation, "__name__", "activation")
    return [] if name == "linear" else [{"relu": "ReLU"}.get(name, name)]


def _title(names: Sequence[str]) -> str:
    """The title of equal blocks: the first name, the last, and their number."""
    return names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}  ×{len(names)}"


def _body_text(body: Body, start: str = "┬") -> list[str]:
    lines: list[str] = []
    for part in body:
        if isinstance(part, Fork):
            lines += _fork_text(part, "┬" if lines else start)
        else:
            lines.append(" · ".join(part))
    return lines


def _fork_text(fork: Fork, start: str) -> list[str]:
    """The first path below `start`, the others right of it; an identity is a vertical line."""
    columns = [_body_text(path) for path in fork.paths]
    height = max(map(len, columns))
    columns = [_filled(column, height) for column in columns]
    widths = [max(map(len, column)) + 3 for column in columns[:-1]]
    rows = zip(*columns, strict=True)
    return [
        _bar(start, widths, "┬┐"),
        *(_spaced(row, widths) for row in rows),
        _bar(fork.join, widths, "┴┘"),
    ]


def _filled(column: list[str], height: int) -> list[str]:
    """The column, extended by a vertical line; in the middle of an empty one, its label."""
    if column:
        return column + ["│"] * (height - len(column))
    middle = (height - 1) // 2
    return ["│"] * middle + ["identity"] + ["│"] * (height - middle - 1)


def _spaced(row: Iterable[str], widths: Sequence[int]) -> str:
    return "".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True))


def _bar(start: str, widths: Sequence[int], corners: str) -> str:
    """A line from the first column to all others: "x ───┬───┐"."""
    ends = corners[0] * (len(widths) - 1) + corners[1]
    first = f"{start} ".ljust(widths[0], "─")
    return first + "".join(
        end + "─" * (width - 1) for end, width in zip(ends, [*widths[1:], 1], strict=True)
    )
