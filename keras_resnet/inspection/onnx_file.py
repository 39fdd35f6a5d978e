"""The content of an `.onnx` file."""

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from keras_resnet.errors import InputError, first_line, needs_extra
from keras_resnet.files import StrPath
from keras_resnet.inspection import multiply_adds
from keras_resnet.inspection.census import Census, FileMemory, Operator, TensorInfo

if TYPE_CHECKING:
    import onnx


def census(path: StrPath, content: bytes | None = None) -> Census:
    """Counts the content of an `.onnx` file.

    Args:
        path: path of the file.
        content: its bytes, if they were read already.

    Returns:
        `Census`, with opset and producer in `metadata`.

    Raises:
        InputError: the extra is missing, or the file cannot be read.
    """
    try:
        import onnx
    except ImportError:
        raise needs_extra(f"{path} needs onnx to be read", "onnx") from None
    try:
        loaded = onnx.load(path) if content is None else onnx.load_from_string(content)
        model = onnx.shape_inference.infer_shapes(loaded)
    except Exception as error:  # exceptions of protobuf and onnx have no common base class
        raise InputError(f"{path} is not an ONNX model ({first_line(error)})") from None
    if not model.graph.node:  # an empty file is a valid protobuf message
        raise InputError(f"{path} is not an ONNX model: it contains no operators")
    try:
        return _census(model, path, os.path.getsize(path) if content is None else len(content))
    except (LookupError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read: only operators on tensors are known ({first_line(error)})"
        ) from None


def _census(model: "onnx.ModelProto", path: StrPath, size: int) -> Census:
    import onnx

    graph = model.graph
    if any(side < 0 for tensor in graph.initializer for side in tensor.dims):
        raise ValueError("weights of a negative size")
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    shapes = {value.name: _shape(value) for value in (*graph.value_info, *graph.output)}
    parameters = sum(
        math.prod(tensor.dims)
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
    )
    layers = [
        Operator(
            name=node.name,
            kind=node.op_type,
            output_shape=[*shapes.get(node.output[0], [])[1:]],
            multiply_adds=_multiply_adds(node, weights, shapes),
        )
        for node in graph.node
    ]
    total = sum(row.multiply_adds for row in layers)
    ops = Counter(row.kind for row in layers)
    return Census(
        file=os.fspath(path),
        bytes=size,
        ops=dict(sorted(ops.items())),
        operators=sum(ops.values()),
        inputs=[_end(value, onnx) for value in graph.input],
        outputs=[_end(value, onnx) for value in graph.output],
        signatures={},
        metadata=[
            f"opset {model.opset_import[0].version}",
            # tf2onnx appends its commit, "None" if unknown.
            f"{model.producer_name} {model.producer_version}".removesuffix(" None"),
        ],
        parameters=parameters,
        multiply_adds=total,
        flops=2 * total,
        memory=FileMemory(4 * parameters),
        layers=layers,
    )


def _shape(value: "onnx.ValueInfoProto") -> list[int]:
    """Shape of a tensor; -1: dynamic."""
    return [side.dim_value or -1 for side in value.type.tensor_type.shape.dim]


def _end(value: "onnx.ValueInfoProto", onnx: ModuleType) -> TensorInfo:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    return TensorInfo(value.name, _shape(value), str(dtype))


def _multiply_adds(
    node: "onnx.NodeProto", weights: Mapping[str, Sequence[int]], shapes: Mapping[str, list[int]]
) -> int:
    """Multiply-adds of one inference. Dynamic sizes count as 1, and so do unknown shapes, as after
    an operator that ONNX does not define."""
    kernel = weights.get(node.input[1]) if len(node.input) > 1 else None
    if node.op_type not in ("Conv", "Gemm", "MatMul") or kernel is None:
        return 0
    batch, *sides = shapes.get(node.output[0]) or [-1]
    positions = sides[1:] if node.op_type == "Conv" else sides[:-1]  # without the channels
    return multiply_adds.count(kernel, map(abs, (batch, *positions)))
