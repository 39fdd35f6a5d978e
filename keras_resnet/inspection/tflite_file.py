"""The content of a .tflite file, and reasons not to publish it. Does not need TensorFlow.

Schema: tensorflow/lite/schema/schema.fbs, compiled to Python in the package `ai-edge-litert`.
"""

import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

from keras_resnet.errors import InputError
from keras_resnet.files import StrPath
from keras_resnet.inspection import multiply_adds
from keras_resnet.inspection.census import Census, FileMemory, Operator, Signature, TensorInfo

IDENTIFIER = b"TFL3"  # at byte 4 of every file, schema.fbs
OMITTED = -1  # the tensor index of a missing optional input
VARIABLE_OPS = ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE")
INITIALIZER = "CALL_ONCE"  # runs the subgraph that initializes variables
# Operators whose second input is a kernel, and its number of axes.
KERNEL_RANKS = {"CONV_2D": 4, "DEPTHWISE_CONV_2D": 4, "FULLY_CONNECTED": 2}
# Names of tensors by Keras. Up to 3.15 it is `MODEL_1/LAYER_1/op`: the number increases with each
# call of a network. From 3.16 it is `MODEL/LAYER/op`, which only its ops tell from other names.
_KERAS_NAMES = (
    re.compile(r"[^/]*?(_\d+)/(?:[^;]*/)?(?P<layer>[^/;]+)\1/(?:batchnorm/)?[^/;]+(?:;|$)"),
    re.compile(
        r"[^/;]+/(?:[^;]*/)?(?!batchnorm/)(?P<layer>[^/;]+)/"
        r"(?:batchnorm/\w+|convolution\w*|depthwise\w*|add\w*|mul\w*|[A-Z]\w*)(?:;|$)"
    ),
)
_OF_A_KERNEL = re.compile(r"/(convolution|depthwise|MatMul)[^/]*$")
# (scale, zero point) of an input of raw pixels: real = scale * (stored - zero point).
RAW_PIXELS = {"uint8": (1.0, 0), "int8": (1.0, -128)}


def census(path: StrPath, content: bytes | None = None) -> Census:
    """Counts the content of a .tflite file.

    Args:
        path: path of the file.
        content: its bytes, if they were read already.

    Returns:
        `Census`; `multiply_adds`, `flops` and `activations` equal those of the Keras model.

    Raises:
        InputError: the file cannot be read, or is no TFLite model.
    """
    model = _read(path, content)
    main = model.graphs[0]
    ops = Counter(op.name for graph in model.graphs for op in graph.operators)
    layers = _layers(main)
    weights = _weights(tensor for graph in model.graphs for tensor in graph.tensors)
    total = sum(row.multiply_adds for row in layers)
    return Census(
        file=os.fspath(path),
        bytes=model.size,
        ops=dict(sorted(ops.items())),
        operators=sum(ops.values()),
        inputs=[_public(tensor) for tensor in main.inputs],
        outputs=[_public(tensor) for tensor in main.outputs],
        signatures=model.signatures,
        metadata=model.metadata,
        parameters=_numbers(weights),
        multiply_adds=total,
        flops=2 * total,
        activations=sum(map(_activations, main.operators)),
        memory=FileMemory(sum(tensor.stored for tensor in weights.values())),
        layers=layers,
    )


def faults(path: StrPath, content: bytes | None = None) -> list[str]:
    """The reasons why a .tflite file must not be published, one line each; empty for a good file.

    Each is a fault that the converter does not report, and that causes failures or wrong results on
    a device.

    Args:
        path: path of the file.
        content: its bytes, if they were read already.

    Raises:
        InputError: the file cannot be read, or is no TFLite model.
    """
    model = _read(path, content)
    operators = [op for graph in model.graphs for op in graph.operators]
    return [
        *_op_faults(operators),
        *_stride_faults(operators),
        *(fault for tensor in model.entrances for fault in _input_faults(tensor)),
        *(fault for op in operators for fault in _quantize_faults(op, model.entrances)),
    ]


class Op(NamedTuple):
    """An operator of a graph, with the names of its tensors."""

    name: str
    layer: str  # Keras layer, as in `census`
    inputs: list[str]  # without weights and constants
    outputs: list[str]


def operators(path: StrPath) -> list[Op]:
    """The operators of a .tflite file's main graph, in execution order.

    Args:
        path: path of the file.

    Raises:
        InputError: the file cannot be read, or is no TFLite model.
    """
    return [
        Op(
            op.name,
            _layer(op),
            [tensor.name for tensor in op.inputs if tensor and not tensor.stored],
            [tensor.name for tensor in op.outputs],
        )
        for op in _read(path).graphs[0].operators
    ]


def _op_faults(operators: Iterable["_Operator"]) -> Iterator[str]:
    counts = Counter(op.name for op in operators)
    for name, count in sorted(counts.items()):
        if name.startswith("CUSTOM:"):
            yield (
                f"custom op {name.removeprefix('CUSTOM:')} ({count}x): LiteRT alone cannot run it; "
                "convert a float32 model with built-in ops only"
            )
        elif name in VARIABLE_OPS and INITIALIZER not in counts:
            yield (
                f"{name} ({count}x): the weights are variables that start uninitialized, the "
                "answers NaN; convert a SavedModel, whose weights become constants"
            )


def _stride_faults(operators: Iterable["_Operator"]) -> Iterator[str]:
    strided = [op for op in operators if op.name == "CONV_2D" and _skips_pixels(op)]
    if strided:
        yield (
            f"1x1 CONV_2D with int8 weights and a stride ({len(strided)}x, the first is "
            f"{_layer(strided[0])}): LiteRT 2.3's GPU accelerator computes it wrongly; pool by 1x1 "
            "with the stride first"
        )


def _skips_pixels(op: "_Operator") -> bool:
    kernel = op.inputs[1]
    return kernel.shape[1:3] == (1, 1) and kernel.dtype == "int8" and max(op.strides) > 1


def _input_faults(tensor: "_Tensor") -> Iterator[str]:
    if -1 in tensor.shape:
        yield (
            f"input {tensor.name} has the dynamic shape {list(tensor.shape)}: some runtimes refuse "
            "it, others use 1 for each dynamic dimension; set fixed sizes before the conversion"
        )
    asked = RAW_PIXELS.get(tensor.dtype)
    # A uint8 tensor that is not quantized has the raw bytes.
    raw_bytes = tensor.dtype == "uint8" and tensor.scale is None
    if asked and not raw_bytes and (tensor.scale, tensor.zero_point) != asked:
        yield _wrong_scale(f"input {tensor.name}", tensor, asked)


def _quantize_faults(op: "_Operator", entrances: Iterable["_Tensor"]) -> Iterator[str]:
    """Checks the first operator, which quantizes the float32 input of an int8 model."""
    if op.name != "QUANTIZE" or not any(op.inputs[0] is tensor for tensor in entrances):
        return
    made, asked = op.outputs[0], RAW_PIXELS.get(op.outputs[0].dtype)
    if asked and not (
        made.scale is not None
        and math.isclose(made.scale, asked[0], rel_tol=1e-6)
        and made.zero_point == asked[1]
    ):
        yield _wrong_scale(f"QUANTIZE of input {op.inputs[0].name}", made, asked)


def _wrong_scale(where: str, tensor: "_Tensor", asked: tuple[float, int]) -> str:
    return (
        f"{where} to {tensor.dtype} has scale {tensor.scale} and zero point {tensor.zero_point}, "
        f"not {asked[0]} and {asked[1]}: raw pixels would be misread; put an all-0 and an all-255 "
        "image into the calibration set and normalize in the model"
    )


# The file as plain data: the code below reads it, the code above counts it.


@dataclass(frozen=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]  # -1: dynamic
    dtype: str
    scale: float | None  # None: not quantized, or by channel
    zero_point: int | None
    quantized: bool
    buffer: int
    stored: int  # bytes of a constant; 0: computed


@dataclass(frozen=True)
class _Operator:
    name: str
    inputs: list[Any]  # of _Tensor; None for a missing optional input
    outputs: list[_Tensor]
    strides: tuple[int, int]  # of a CONV_2D; else (1, 1)


@dataclass(frozen=True)
class _Graph:
    inputs: list[_Tensor]
    outputs: list[_Tensor]
    tensors: list[_Tensor]
    operators: list[_Operator]


@dataclass(frozen=True)
class _Model:
    size: int  # bytes
    graphs: list[_Graph]
    entrances: list[_Tensor]  # the inputs of the main graph and of the graphs of signatures
    signatures: dict[str, Signature]
    metadata: list[str]


Items = Callable[[Callable[[int], Any], Callable[[], int]], list[Any]]  # see `items_up_to`


def _read(path: StrPath, content: bytes | None = None) -> _Model:
    if content is None:
        try:
            with open(path, "rb") as file:
                content = file.read()
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from None
    if content[4:8] != IDENTIFIER:
        raise InputError(f"{path} is not a TFLite model; `keras-resnet export --tflite` writes one")
    try:
        return _parse(content)
    # The generated reader does not validate: with a damaged file, it may raise any exception.
    except Exception as error:
        raise InputError(f"{path} is damaged ({_one_line(error)}); export or copy it again") from (
            error
        )


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__} {error}".split())


def _parse(content: bytes) -> _Model:
    from ai_edge_litert import schema_py_generated as schema

    root = schema.Model.GetRootAs(content, 0)
    # Each element of a vector takes at least a byte: a vector longer than the file is damaged.
    items = items_up_to(len(content))
    stored = [_stored_bytes(b, content) for b in items(root.Buffers, root.BuffersLength)]
    codes = [_op_name(c, schema) for c in items(root.OperatorCodes, root.OperatorCodesLength)]
    graphs = [
        _graph(graph, codes, stored, items, schema)
        for graph in items(root.Subgraphs, root.SubgraphsLength)
    ]
    if not graphs:
        raise ValueError("no subgraph")
    signatures = list(items(root.SignatureDefs, root.SignatureDefsLength))
    homes = [graphs[0], *(graphs[s.SubgraphIndex()] for s in signatures)]
    entrances = {id(tensor): tensor for graph in homes for tensor in graph.inputs}
    return _Model(
        size=len(content),
        graphs=graphs,
        entrances=list(entrances.values()),
        signatures={
            _text(s.SignatureKey()): Signature(
                inputs=[_text(x.Name()) for x in items(s.Inputs, s.InputsLength)],
                outputs=[_text(x.Name()) for x in items(s.Outputs, s.OutputsLength)],
            )
            for s in signatures
        },
        metadata=[_text(m.Name()) for m in items(root.Metadata, root.MetadataLength)],
    )


def items_up_to(limit: int) -> Items:
    """A reader of vectors that refuses more elements than a file of `limit` bytes can have, all
    vectors together: offsets of a damaged file may all lead to the same one."""
    read = 0

    def items(element: Callable[[int], Any], length: Callable[[], int]) -> list[Any]:
        nonlocal read
        count = length()
        read += count
        if read > limit:
            raise ValueError(f"vectors of {read} elements in {limit} bytes")
        return [element(index) for index in range(count)]

    return items


def _stored_bytes(buffer: Any, content: bytes) -> int:
    """Size of a buffer's data, 0 for a computed tensor; ValueError if it is truncated."""
    # Offset 0 and 1 mean "inside the flatbuffer"; otherwise the data is stored after it.
    if buffer.Offset() > 1:
        if buffer.Offset() + buffer.Size() > len(content):
            raise ValueError("a buffer ends beyond the file")
        return buffer.Size()
    return 0 if buffer.DataIsNone() else len(buffer.DataAsNumpy())


def _op_name(code: Any, schema: ModuleType) -> str:
    # Codes from 127 on are only in the newer field.
    number = max(code.DeprecatedBuiltinCode(), code.BuiltinCode())
    name = _names(schema.BuiltinOperator)[number]
    return f"CUSTOM:{_text(code.CustomCode())}" if name == "CUSTOM" else name


def _graph(
    graph: Any, codes: Sequence[str], stored: Sequence[int], items: Items, schema: ModuleType
) -> _Graph:
    tensors = [_tensor(t, stored, items, schema) for t in items(graph.Tensors, graph.TensorsLength)]

    def pick(element: Callable[[int], int], length: Callable[[], int], least: int = 0) -> list[Any]:
        indices = items(element, length)
        if any(not least <= index < len(tensors) for index in indices):
            raise ValueError(f"tensor indices {indices} of {len(tensors)} tensors")
        return [None if index == OMITTED else tensors[index] for index in indices]

    operators = [
        _Operator(
            name=codes[op.OpcodeIndex()],
            inputs=pick(op.Inputs, op.InputsLength, least=OMITTED),
            outputs=pick(op.Outputs, op.OutputsLength),
            strides=_strides(op, schema),
        )
        for op in items(graph.Operators, graph.OperatorsLength)
    ]
    for op in operators:
        _check_kernel(op)
    return _Graph(
        inputs=pick(graph.Inputs, graph.InputsLength),
        outputs=pick(graph.Outputs, graph.OutputsLength),
        tensors=tensors,
        operators=operators,
    )


def _check_kernel(op: _Operator) -> None:
    rank = KERNEL_RANKS.get(op.name)
    if rank and (len(op.inputs) < 2 or not op.inputs[1] or len(op.inputs[1].shape) != rank):
        raise ValueError(f"{op.name} without a kernel")
    if (rank or op.name == "QUANTIZE") and (not op.inputs or not op.inputs[0] or not op.outputs):
        raise ValueError(f"{op.name} without input or output")


def _tensor(tensor: Any, stored: Sequence[int], items: Items, schema: ModuleType) -> _Tensor:
    quantization = tensor.Quantization()
    scales = items(quantization.Scale, quantization.ScaleLength) if quantization else []
    per_tensor = len(scales) == 1
    # A dynamic size is 1 in `shape` and -1 in `shape_signature`, which is absent if none is.
    shape = items(tensor.ShapeSignature, tensor.ShapeSignatureLength)
    shape = shape or items(tensor.Shape, tensor.ShapeLength)
    if any(side < -1 for side in shape):
        raise ValueError(f"a tensor of shape {shape}")
    return _Tensor(
        name=_text(tensor.Name()),
        shape=tuple(shape),
        dtype=_names(schema.TensorType)[tensor.Type()].lower(),
        scale=float(scales[0]) if per_tensor else None,
        zero_point=_zero_point(quantization) if per_tensor else None,
        quantized=bool(scales),
        buffer=tensor.Buffer(),
        stored=stored[tensor.Buffer()],
    )


def _zero_point(quantization: Any) -> int:
    return int(quantization.ZeroPoint(0)) if quantization.ZeroPointLength() else 0


def _strides(op: Any, schema: ModuleType) -> tuple[int, int]:
    if op.BuiltinOptionsType() != schema.BuiltinOptions.Conv2DOptions:
        return (1, 1)
    options = schema.Conv2DOptions()
    table = op.BuiltinOptions()
    options.Init(table.Bytes, table.Pos)
    return (options.StrideH(), options.StrideW())


@cache
def _names(enumeration: type) -> dict[int, str]:
    return {v: k for k, v in vars(enumeration).items() if not k.startswith("_")}


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode("utf-8", errors="replace")


def _public(tensor: _Tensor) -> TensorInfo:
    return TensorInfo(
        tensor.name, list(tensor.shape), tensor.dtype, tensor.scale, tensor.zero_point
    )


def _layers(graph: _Graph) -> list[Operator]:
    """One row per operator; shared constants count for the first of them."""
    rows: list[Operator] = []
    counted: set[int] = set()
    for op in graph.operators:
        weights = _weights(tensor for tensor in op.inputs if tensor)
        new = {buffer: weights[buffer] for buffer in weights.keys() - counted}
        counted |= new.keys()
        # An operator may have no output, such as ASSIGN_VARIABLE.
        shape, dtype = (op.outputs[0].shape, op.outputs[0].dtype) if op.outputs else ((), None)
        rows.append(
            Operator(
                name=_layer(op),
                kind=op.name,
                output_shape=[None if side == -1 else side for side in shape[1:]],
                parameters=_numbers(new),
                multiply_adds=_multiply_adds(op),
                activations=_activations(op),
                dtype=dtype,
            )
        )
    return rows


def _layer(op: _Operator) -> str:
    """The Keras layer of an operator, preferably from the name of its kernel, else its output."""
    names = [tensor.name for tensor in op.outputs]
    if op.name in KERNEL_RANKS:
        # With Keras 3.16, the layers that are folded into a kernel come before its own.
        parts = op.inputs[1].name.split(";")
        names = [*filter(_OF_A_KERNEL.search, parts), *parts, *names]
    for name in names:
        for pattern in _KERAS_NAMES:
            if match := pattern.match(name):
                return match["layer"]
    return op.outputs[0].name if op.outputs else op.name


def _weights(tensors: Iterable[_Tensor]) -> dict[int, _Tensor]:
    """The constants among tensors, by buffer: signatures share them, and each counts once."""
    return {
        tensor.buffer: tensor
        for tensor in tensors
        if tensor.stored and (tensor.quantized or "float" in tensor.dtype)
    }


def _numbers(weights: Mapping[int, _Tensor]) -> int:
    return sum(math.prod(tensor.shape) for tensor in weights.values())


def _multiply_adds(op: _Operator) -> int:
    """Multiply-adds of one inference; dynamic sizes count as 1."""
    if op.name not in KERNEL_RANKS:
        return 0
    return multiply_adds.count(op.inputs[1].shape, map(abs, op.outputs[0].shape[:-1]))


def _activations(op: _Operator) -> int:
    """Output values of a convolution in one inference; dynamic sizes count as 1."""
    return math.prod(map(abs, op.outputs[0].shape)) if KERNEL_RANKS.get(op.name) == 4 else 0
