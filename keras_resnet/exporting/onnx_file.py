"""SavedModel -> `model.onnx`, in a process of its own; and what such a file holds.

    python -m keras_resnet.exporting.onnx_file SAVED_MODEL OUTPUT

What Keras' `model.export(format="onnx")` does on TensorFlow, tf2onnx on the traced model, from the
same kind of SavedModel as the TFLite files, so that both ends are named.
"""

import math
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from keras_resnet import filenames, runtime
from keras_resnet.errors import InputError, first_line, needs_extra
from keras_resnet.exporting import child

if TYPE_CHECKING:  # to name its types costs no import
    import onnx

OPSET = 18  # the newest that tf2onnx writes
PACKAGES = ("onnx", "onnxruntime", "tf2onnx")  # packages of the extra


def require() -> None:
    """InputError unless the packages of the extra are installed; imports none of them."""
    for package in PACKAGES:
        if find_spec(package) is None:
            raise needs_extra(f"--onnx needs {package}", "onnx")


def convert(saved_model: Path, output: Path) -> None:
    """Converts in a child process.

    Args:
        saved_model: folder written by `write_for_conversion` with an open batch.
        output: path of the `.onnx` file: float32 image `(b, s, s, 3)` in [0, 255] -> logits.

    Raises:
        CheckFailed: the converter failed; the line holds its reason.
    """
    child.run(__name__, saved_model, output, what=f"conversion to {filenames.ONNX}")


def census(path: str | os.PathLike[str], content: bytes | None = None) -> dict[str, Any]:
    """Counts what is in an `.onnx` file, under the names of the census of a `.tflite`.

    Args:
        path: of the file.
        content: its bytes, where they were read already.

    Returns:
        A dict ready for JSON: `file, bytes, ops, operators, inputs, outputs, signatures, metadata,
        parameters, trainable_parameters, multiply_adds, flops, memory, layers`; `metadata` tells
        the opset and the producer; `layers` is a list of `{name, kind, output_shape,
        multiply_adds}`, an operator each; an open side of a shape is -1.

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
    except Exception as error:  # protobuf's and onnx's own have no base in common
        raise InputError(f"{path} is no ONNX model ({first_line(error)})") from None
    graph = model.graph
    if not graph.node:  # an empty file is a valid message
        raise InputError(f"{path} is no ONNX model: it holds no operators")
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    shapes = {value.name: _shape(value) for value in (*graph.value_info, *graph.output)}
    parameters = sum(
        math.prod(tensor.dims)
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
    )
    layers = [_row(node, weights, shapes) for node in graph.node]
    multiply_adds = sum(row["multiply_adds"] for row in layers)
    ops = Counter(row["kind"] for row in layers)
    return {
        "file": os.fspath(path),
        "bytes": os.path.getsize(path) if content is None else len(content),
        "ops": dict(sorted(ops.items())),
        "operators": sum(ops.values()),
        "inputs": [_end(value, onnx) for value in graph.input],
        "outputs": [_end(value, onnx) for value in graph.output],
        "signatures": {},
        "metadata": [
            f"opset {model.opset_import[0].version}",
            f"{model.producer_name} {model.producer_version}",
        ],
        "parameters": parameters,
        "trainable_parameters": 0,
        "multiply_adds": multiply_adds,
        "flops": 2 * multiply_adds,
        "memory": {"weights": 4 * parameters},
        "layers": layers,
    }


def _row(
    node: "onnx.NodeProto", weights: Mapping[str, Sequence[int]], shapes: Mapping[str, list[int]]
) -> dict[str, Any]:
    return {
        "name": node.name,
        "kind": node.op_type,
        "output_shape": shapes.get(node.output[0], [])[1:],
        "multiply_adds": _multiply_adds(node, weights, shapes),
    }


def _shape(value: "onnx.ValueInfoProto") -> list[int]:
    """Sides of a tensor; -1 is an open one."""
    return [side.dim_value or -1 for side in value.type.tensor_type.shape.dim]


def _end(value: "onnx.ValueInfoProto", onnx: ModuleType) -> dict[str, Any]:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    return {
        "name": value.name,
        "shape": _shape(value),
        "dtype": str(dtype),
        "scale": None,
        "zero_point": None,
    }


def _multiply_adds(
    node: "onnx.NodeProto", weights: Mapping[str, Sequence[int]], shapes: Mapping[str, list[int]]
) -> int:
    """Multiply-adds of one run, with 1 for each open side."""
    kernel = weights.get(node.input[1]) if len(node.input) > 1 else None
    if node.op_type not in ("Conv", "Gemm", "MatMul") or kernel is None:
        return 0
    per_output = math.prod(kernel[1:]) if node.op_type == "Conv" else kernel[0]
    return math.prod(map(abs, shapes[node.output[0]])) * per_output


def _convert(saved_model: str, output: str) -> None:
    import onnx
    import tensorflow as tf
    import tf2onnx

    loaded = tf.saved_model.load(saved_model)  # owns the weights, for as long as it has a name
    serve = loaded.signatures["serving_default"]
    image = serve.structured_input_signature[1]["image"]
    model, _ = tf2onnx.convert.from_function(
        tf.function(lambda image: serve(image=image)), [image], opset=OPSET
    )
    for end in (*model.graph.input, *model.graph.output):
        end.type.tensor_type.shape.dim[0].dim_param = "batch"  # tf2onnx makes up a name for each
    onnx.save(model, output)


if __name__ == "__main__":
    runtime.prepare()
    _convert(*sys.argv[1:])
    child.report_peak()
