"""Room for large logits in a file of integers.

Integers end at the largest logit of the calibration images, and a `Rejection` refuses noise for an
energy above that of all images of known classes: without room, none would be above it.
"""

from pathlib import Path
from typing import Any

import numpy as np

_ROOM = 0.1  # of the range, above the largest energy; the steps become so much coarser
_ENDS = ("QUANTIZE", "DEQUANTIZE")  # give a file's output its type


def give(path: Path, most_energy: float) -> None:
    """Lets the logits of a `.tflite` file be larger than `most_energy`, if they are integers.

    A fully connected layer scales its sums to the range of its output when the file is opened, so
    that this range can be changed alone. Files that end in another layer stay as they are.
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
    """The least and largest integer."""
    from ai_edge_litert.tools import flatbuffer_utils

    return np.iinfo(flatbuffer_utils.type_to_name(tensor.type).lower())


def _range(tensor: Any) -> tuple[float, float]:
    """The least and largest number that it can hold."""
    (scale,), (zero,) = tensor.quantization.scale, tensor.quantization.zeroPoint
    steps = _steps(tensor)
    return scale * (steps.min - zero), scale * (steps.max - zero)


def _set_range(tensor: Any, least: float, most: float) -> None:
    steps = _steps(tensor)
    if steps.bits == 16:  # zero is in the middle
        scale, zero = most / steps.max, 0
    else:
        scale = (most - least) / (steps.max - steps.min)
        zero = round(steps.min - least / scale)
    tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [zero]
