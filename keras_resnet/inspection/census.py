"""The content of an exported file, `.tflite` or `.onnx`."""

from dataclasses import dataclass
from typing import Any

from keras_resnet.results import Result


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a file."""

    name: str
    shape: list[int]  # -1: dynamic
    dtype: str
    scale: float | None = None  # None: not quantized
    zero_point: int | None = None


@dataclass(frozen=True)
class Signature:
    """The names of a signature's inputs and outputs."""

    inputs: list[str]
    outputs: list[str]


@dataclass(frozen=True)
class FileMemory:
    """The memory of a file's tensors."""

    weights: int  # bytes


@dataclass(frozen=True, kw_only=True)
class Operator:
    """An operator. Dynamic sizes count as 1; some values are not computed for ONNX nodes."""

    name: str  # of its Keras layer if the file has it, else of its output
    kind: str
    output_shape: list[int | None]  # without the batch
    parameters: int | None = None
    multiply_adds: int
    activations: int | None = None
    dtype: str | None = None  # of its output


@dataclass(frozen=True, kw_only=True)
class Census(Result):
    """Counts of a file's content, with the names of `describe` for a network.

    `ops`, `parameters` and `memory` include all subgraphs; everything else is that of the first.
    """

    file: str
    bytes: int
    ops: dict[str, int]  # number of operators by name; a custom one is `CUSTOM:NAME`
    operators: int
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    signatures: dict[str, Signature]
    metadata: list[str]
    # Stored float or quantized constants: with folded batch norms, without the integers for shapes
    # and axes.
    parameters: int
    trainable_parameters: int = 0  # constants cannot be trained
    multiply_adds: int  # of one inference
    flops: int
    activations: int | None = None  # output values of the convolutions; None: not counted
    memory: FileMemory
    layers: list[Operator]  # in the order of execution

    def as_json(self) -> dict[str, Any]:
        """Without the values that are not computed for an ONNX file."""
        content = super().as_json()
        if self.activations is None:
            del content["activations"]
            for row in content["layers"]:
                del row["parameters"], row["activations"], row["dtype"]
        return content
