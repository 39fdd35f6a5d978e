"""The content of an exported file, of whatever format."""

from dataclasses import dataclass
from typing import Any

from keras_resnet.results import Result


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a file."""

    name: str
    shape: list[int]  # -1 is an open side
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
    """What a file tells of the memory that it takes."""

    weights: int  # bytes


@dataclass(frozen=True, kw_only=True)
class Operator:
    """An operator. Open sides count as 1; of an ONNX node not all is counted."""

    name: str  # of its Keras layer, where the file has kept it, or else of its output
    kind: str
    output_shape: list[int | None]  # without the batch
    parameters: int | None = None
    multiply_adds: int
    activations: int | None = None
    dtype: str | None = None  # of its output


@dataclass(frozen=True, kw_only=True)
class Census(Result):
    """Counts of what is in a file, under the names that `describe` has for a network.

    Several subgraphs are counted together in `ops`, `parameters` and `memory`; all else is that of
    the first.
    """

    file: str
    bytes: int
    ops: dict[str, int]  # operators by name; a custom one is `CUSTOM:NAME`
    operators: int
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    signatures: dict[str, Signature]
    metadata: list[str]
    # Float or quantized constants that are stored: after batch norms were folded, without the
    # integers that hold shapes and axes.
    parameters: int
    trainable_parameters: int = 0  # constants cannot be trained
    multiply_adds: int  # of one run
    flops: int
    activations: int | None = None  # values put out by the convolutions; None: not counted
    memory: FileMemory
    layers: list[Operator]  # in the order of execution

    def as_json(self) -> dict[str, Any]:
        """Without what is not counted in an ONNX file."""
        content = super().as_json()
        if self.activations is None:
            del content["activations"]
            for row in content["layers"]:
                del row["parameters"], row["activations"], row["dtype"]
        return content
