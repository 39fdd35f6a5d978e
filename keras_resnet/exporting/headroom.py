"""Headroom for large logits in a quantized file.

Quantized logits saturate at the largest one of the calibration images, and a `Rejection` rejects
noise for an energy above that of all images of known classes: without headroom, no energy would be
above it.
"""

from pathlib import Path
from typing import Any

import numpy as np

_ROOM = 0.1  # share of the range above the largest energy; steps become coarser by as much
_ENDS = ("QUANTIZE", "DEQUANTIZE")  # operators that convert a file's output to its type


def give(path: Path, most_energy: float) -> None:
    """Extends the range of the logits of a `.tflite` file above `most_energy`, if quantized.

    The runtime computes the output scaling of a fully connected layer when it opens the file, so
    the range of the output can be changed by itself. Files that end in another layer are not
    changed.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(path))
    (graph,) = model.subgraphs
    writers = {output: operator for operator in graph.operators for output in operator.outputs}
    tensors: list[Any] = []
    name = ""
    (index,) = graph.outputs
    while not tensors or name in _ENDS:
        tensors.append(graph.tensors[index])
        name = flatbuffer_utils.opcode_to_name(model, writers[index].opcodeIndex)
        index = writers[index].inputs[0]
    logits = tensors[-1]
    if name != "FULLY_CONNECTED" or not _is_quantized(logits):
        return
    least, most = _range(logits)
    wanted = most_energy + _ROOM * (most_energy - least)
    if wanted <= most:
        return
    for tensor in filter(_is_quantized, tensors):
        _set_range(tensor, least, wanted)
    path.write_bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _is_quantized(tensor: Any) -> bool:
    return tensor.quantization is not None and tensor.quantization.scale is not None


def _steps(tensor: Any) -> np.iinfo:
    """The integer type, with its minimum and maximum."""
    from ai_edge_litert.tools import flatbuffer_utils

    return np.iinfo(flatbuffer_utils.type_to_name(tensor.type).lower())


def _range(tensor: Any) -> tuple[float, float]:
    """The minimum and maximum real value of the tensor."""
    (scale,), (zero,) = tensor.quantization.scale, tensor.quantization.zeroPoint
    steps = _steps(tensor)
    return scale * (steps.min - zero), scale * (steps.max - zero)


def _set_range(tensor: Any, least: float, most: float) -> None:
    steps = _steps(tensor)
    if steps.bits == 16:  # symmetric
        scale, zero = most / steps.max, 0
    else:
        scale = (most - least) / (steps.max - steps.min)
        zero = round(steps.min - least / scale)
    tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [zero]
