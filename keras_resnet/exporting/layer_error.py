"""Measures the int8 error of each Keras layer, and writes files with the worst layers in float.

TensorFlow's quantization debugger runs every operator twice on the same input, in int8 and in
float. It runs in a child process and calibrates once for all results:

    python -m keras_resnet.exporting.layer_error SAVED_MODEL CALIBRATION.npy FOLDER IO COUNT…
"""

import csv
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from keras_resnet import runtime
from keras_resnet.exporting import child
from keras_resnet.exporting.convert import calibrated, ends
from keras_resnet.files import StrPath, read_json, write_json
from keras_resnet.inspection.tflite_file import Op, operators
from keras_resnet.results import Result

if TYPE_CHECKING:
    import tensorflow as tf

PARTS = ("branch", "shortcut", "sum")
_IMAGES = 50  # number of calibration images to use; the debugger's kernels are slow
# Operators that move values without computing: they have no int8 error, and quantize values of
# float operators before them.
_MOVES = ("PAD", "MAX_POOL_2D", "RESHAPE")


@dataclass(frozen=True)
class LayerError:
    """The int8 error of a Keras layer."""

    layer: str  # its name
    block: str  # such as "conv2_block1", "stem" or "head"
    part: str  # part of the block: one of `PARTS`, or ""
    op: str  # the operator in the file
    # Error relative to the signal, in 0…1: RMS over the positions of a channel, mean over channels.
    # With one position, as after the global pooling: RMS over the vector.
    lost: float
    steps: float  # the error in quantization steps; 0.29 is pure rounding


@dataclass(frozen=True)
class LayerErrors:
    """The errors of all layers, and files with some layers in float, by number of layers."""

    layers: list[LayerError]  # in forward order
    files: dict[int, Path]  # without files that would be float only
    float_layers: dict[int, list[str]]  # worst first


@dataclass(frozen=True)
class BlockError:
    """The largest `lost` in each part of a block; None for a part that the block lacks."""

    block: str  # its name
    branch: float | None  # also for stem and head
    shortcut: float | None  # the projection or the pooling of the shortcut
    sum: float | None  # the addition of the two


@dataclass(frozen=True)
class Quantization(Result):
    """The int8 error by layer and by block."""

    layers: list[LayerError]  # in forward order
    blocks: list[BlockError]  # in forward order


def measure(
    saved_model: StrPath,
    calibration: StrPath,
    folder: StrPath,
    *,
    io: str = "float",
    counts: Sequence[int] = (),
) -> LayerErrors:
    """Measures the int8 error by layer, and writes files with some layers in float.

    Args:
        saved_model: folder written by `write_for_conversion`.
        calibration: `.npy` file of uint8 images `(n, h, w, c)`.
        folder: folder for the files.
        io: input and output type of the files.
        counts: numbers of worst layers in float, one file for each.

    Returns:
        `LayerErrors`.

    Raises:
        CheckFailed: the debugger failed.
    """
    folder = Path(folder)
    arguments = (saved_model, calibration, folder, io, *counts)
    child.run(__name__, *arguments, what="measuring the int8 error of each layer")
    found = read_json(folder / "layers.json")
    files = {count: folder / f"float_{count}.tflite" for count in counts}
    return LayerErrors(
        layers=[LayerError(**row) for row in found["layers"]],
        files={count: path for count, path in files.items() if path.exists()},
        float_layers={count: found["worst"][:count] for count in counts},
    )


def place(layer: str) -> tuple[str, str]:
    """(block, part) of a layer, by its name."""
    inside = re.fullmatch(r"(conv\d+_block\d+)_(\w+)", layer)
    if not inside:
        is_head = layer.startswith(("avg_pool", "logits", "post"))
        return "head" if is_head else "stem", ""
    block, rest = inside.groups()
    part = "shortcut" if rest.startswith("0_") else "sum" if rest in ("add", "out") else "branch"
    return block, part


def by_block(layers: Sequence[LayerError]) -> list[BlockError]:
    """The largest error in each part of each block, in forward order."""
    blocks: dict[str, dict[str, float | None]] = {}
    for row in layers:
        parts = blocks.setdefault(row.block, dict.fromkeys(PARTS))
        part = row.part or "branch"
        parts[part] = max(parts[part] or 0.0, row.lost)
    return [BlockError(block, **parts) for block, parts in blocks.items()]


def _debug(
    saved_model: StrPath, calibration: StrPath, folder: StrPath, io: str, *counts: str
) -> None:
    import tensorflow as tf

    debugger = tf.lite.experimental.QuantizationDebugger
    options = tf.lite.experimental.QuantizationDebugOptions
    converter = calibrated(saved_model, calibration)
    some = np.load(calibration)[:_IMAGES]

    def samples() -> Iterator[list[npt.NDArray[np.float32]]]:
        return ([image[None].astype(np.float32)] for image in some)

    whole = debugger(converter=converter, debug_dataset=samples)
    # Opened again from the file, which keeps all tensors that the metrics compare.
    compared = debugger(
        quant_debug_model_content=whole.get_debug_quantized_model(),
        debug_dataset=samples,
        debug_options=options(layer_direct_compare_metrics={"lost": _lost, "steps": _steps}),
    )
    compared.run()
    folder = Path(folder)
    (folder / "calibrated.tflite").write_bytes(whole.calibrated_model)
    graph = operators(folder / "calibrated.tflite")
    measured = _statistics(compared, folder / "layers.csv")
    names = _names_by_output(measured, [op.outputs[0] for op in graph])
    statistics = {output: measured[name] for output, name in names.items()}
    rows = [
        LayerError(op.layer, *place(op.layer), op.name, *statistics[op.outputs[0]])
        for op in graph
        if op.outputs[0] in statistics
    ]
    worst = _worst(rows, graph, io)
    computed = {op.outputs[0] for op in graph if op.name not in _MOVES} & statistics.keys()
    for count in map(int, counts):
        nodes = [node for layer in worst[:count] for node in _around(layer, graph)]
        if count > len(worst) or computed <= set(nodes):
            break
        whole.options = options(denylisted_nodes=[names.get(node, node) for node in nodes])
        content = _with_ends(whole.get_nondebug_quantized_model(), io)
        (folder / f"float_{count}.tflite").write_bytes(content)
    write_json(folder / "layers.json", {"layers": [asdict(row) for row in rows], "worst": worst})


def _lost(
    floats: npt.NDArray[np.float32], steps: npt.NDArray[np.integer], scale: float, zero_point: int
) -> float:
    """Mean over channels of RMS error / RMS signal, for one image."""
    floats = np.asarray(floats, np.float32)
    error = (steps.astype(np.int32) - zero_point) * scale - floats
    if floats.size == floats.shape[-1]:  # one value per channel: near 0, it would be all error
        floats, error = floats.reshape(-1, 1), error.reshape(-1, 1)
    positions = tuple(range(floats.ndim - 1))
    signal, noise = (np.square(v).mean(positions) for v in (floats, error))  # (c,)
    alive = signal > 0
    # At most 1: a channel that int8 rounds to 0 has lost everything.
    shares = np.minimum(np.sqrt(noise[alive] / signal[alive]), 1)
    return float(shares.mean()) if alive.any() else 0.0


def _steps(
    floats: npt.NDArray[np.float32], steps: npt.NDArray[np.integer], scale: float, zero_point: int
) -> float:
    error = steps.astype(np.int32) - zero_point - np.asarray(floats, np.float32) / scale
    return float(np.sqrt(np.square(error).mean()))


def _statistics(
    debugger: "tf.lite.experimental.QuantizationDebugger", path: Path
) -> dict[str, tuple[float, float]]:
    """{tensor name: (lost, steps)}."""
    with open(path, "w+", newline="") as file:
        debugger.layer_statistics_dump(file)
        file.seek(0)
        return {
            row["tensor_name"]: (float(row["lost"]), float(row["steps"]))
            for row in csv.DictReader(file)
        }


def _names_by_output(measured: Collection[str], outputs: Iterable[str]) -> dict[str, str]:
    """The debugger's names of these tensors, without those that it has not measured. From
    TensorFlow 2.22, it may leave out later parts of a name, "OP;FOLDED_OP;…"."""
    by_first = {name.partition(";")[0]: name for name in measured}
    found = {
        output: output if output in measured else by_first.get(output.partition(";")[0])
        for output in outputs
    }
    return {output: name for output, name in found.items() if name}


def _worst(rows: Sequence[LayerError], graph: Sequence[Op], io: str) -> list[str]:
    """The layers that can be kept in float, largest error first."""
    # Byte inputs and outputs need int8 operators.
    entrance = graph[0].inputs[0]
    readers = {op.outputs[0] for op in graph if entrance in op.inputs}
    outer = set() if io == "float" else {*readers, graph[-1].outputs[0]}
    names = [row.layer for row in sorted(rows, key=lambda row: -row.lost)]
    moves = {row.layer for row in rows if row.op in _MOVES}
    return [
        layer
        for layer in dict.fromkeys(names)
        if layer not in moves and outer.isdisjoint(_around(layer, graph))
    ]


def _around(layer: str, graph: Sequence[Op]) -> Iterator[str]:
    """Output names of the operators that must be in float for a layer's output to be in float: its
    producers and consumers."""
    for op in graph:
        if op.layer == layer:
            yield op.outputs[0]
            yield from _readers(op.outputs[0], graph)


def _readers(tensor: str, graph: Sequence[Op]) -> Iterator[str]:
    for op in graph:
        if tensor in op.inputs:
            yield op.outputs[0]
            if op.name in _MOVES:
                yield from _readers(op.outputs[0], graph)


def _with_ends(model: bytes, io: str) -> bytes:
    """The model with the types of `io`: the converter's last step, which the debugger omits."""
    from tensorflow.lite.python.util import modify_model_io_type

    return modify_model_io_type(model, ends(io), ends(io))


if __name__ == "__main__":
    runtime.prepare()
    _debug(*sys.argv[1:])
    child.report_peak()
