"""Structure of a network: shapes, parameters, multiply-adds, memory, receptive fields.

Keras only; computes shapes, not values.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import keras
from keras import tree

from keras_resnet import specs
from keras_resnet.errors import InputError
from keras_resnet.inspection import multiply_adds
from keras_resnet.results import Result
from keras_resnet.state import isolated, without_values


@dataclass(frozen=True)
class Layer:
    """Counts of one layer for one image; None if they depend on a dynamic size."""

    name: str
    kind: str  # its class
    output_shape: list[int | None]  # without the batch
    parameters: int
    multiply_adds: int | None  # as `keras_resnet.inspection.multiply_adds` counts them
    activations: int | None  # output values of the convolutions (as in arXiv:2003.13678)
    # Side, in pixels of the image, of the square that an output value depends on, along the longest
    # path; None: the whole image, after a global pooling. Not computed through up-sampling.
    receptive_field: int | None


@dataclass(frozen=True)
class Stage:
    """The layers whose names begin with conv1, conv2, …, with the counts of a `Layer`; "input" and
    "head" are the layers before and after."""

    name: str
    blocks: int
    output_shape: list[int | None]
    parameters: int
    multiply_adds: int | None
    activations: int | None
    receptive_field: int | None


@dataclass(frozen=True)
class Memory:
    """Memory in bytes, for one image; None if it depends on a dynamic size."""

    weights: int  # of all variables
    # Largest size of the tensors that are alive at the same time in a forward pass, layer by layer:
    # each lives from its operation to the last one that reads it; no operation is in place.
    activations_peak: int | None
    activations_training: int | None  # all outputs, which the backward pass needs


@dataclass(frozen=True)
class Description(Result):
    """Structure of a network. Values that depend on a dynamic size are None."""

    name: str
    input_shape: list[int | None]  # without the batch
    parameters: int  # all variables, including the moving averages of batch norms
    trainable_parameters: int  # what papers call parameters
    multiply_adds: int | None  # see `Layer`
    flops: int | None  # twice that: a multiplication and an addition are two operations
    activations: int | None  # see `Layer`
    memory: Memory
    stages: list[Stage]  # empty if the layers have other names
    layers: list[Layer]  # in forward order


@isolated(any_backend=True)
def describe(model: keras.Model | str, input_shape: Sequence[int] | None = None) -> Description:
    """Counts a functional model, layer by layer, in forward order.

    Args:
        model: a `keras.Model`, or a name such as `"resnet50"`, which is built at the image size of
            its paper, with 1,000 classes for an ImageNet network and 10 for a CIFAR network.
        input_shape: `(height, width, channels)` for a model with a dynamic input shape.

    Returns:
        A `Description`.

    Raises:
        InputError: an unknown name, a model without a graph, or an incompatible `input_shape`.
    """
    model, inputs, outputs, steps = walk(model, input_shape)
    rows, seen = [], set()
    for x in inputs:
        x.field = (1, 1)  # the field of a pixel is 1 pixel wide, and fields are 1 pixel apart
    for step in steps:
        _pass_field(step)
        rows.append(_row(step, first=step.operation not in seen))
        seen.add(step.operation)
    total = _sum(row.multiply_adds for row in rows)
    return Description(
        name=model.name,
        input_shape=list(inputs[0].shape[1:]),
        parameters=model.count_params(),
        trainable_parameters=sum(math.prod(w.shape) for w in model.trainable_weights),
        multiply_adds=total,
        flops=None if total is None else 2 * total,
        activations=_sum(row.activations for row in rows),
        memory=Memory(
            weights=sum(math.prod(w.shape) * _bytes_of(w.dtype) for w in model.weights),
            activations_peak=_peak(inputs, outputs, steps),
            activations_training=_sum(_bytes(x) for step in steps for x in step.made),
        ),
        stages=_stages(rows),
        layers=rows,
    )


def sides(shape: Iterable[int | None]) -> str:
    """[56, 56, 64] as "56x56x64"; a dynamic size is a question mark."""
    return "x".join("?" if side is None else str(side) for side in shape)


@dataclass(frozen=True)
class Step:
    """A call of an operation, with its symbolic inputs and outputs."""

    operation: keras.Operation
    given: list[keras.KerasTensor]
    made: list[keras.KerasTensor]


def walk(
    model: keras.Model | str, input_shape: Sequence[int] | None = None
) -> tuple[keras.Model, list[keras.KerasTensor], list[keras.KerasTensor], list[Step]]:
    """Traverses a network in forward order, including nested models.

    Args:
        model, input_shape: as in `describe`.

    Returns:
        `(model, inputs, outputs, steps)`: the model, built if a name was given; symbolic tensors; a
        list of `Step`. The output of one step and the input of another that reads it are the same
        object.

    Raises:
        InputError: as in `describe`.
    """
    if isinstance(model, str):
        model = without_weights(model)
    if not isinstance(model, keras.Model):
        raise InputError(
            f"{model!r} is neither a Keras model, such as kr.open_run(…).model(), nor the name of "
            "a network"
        )
    inputs, steps = _inputs(model, input_shape), []

    def note(operation: keras.Operation, *args: Any, **kwargs: Any) -> Any:
        outputs = operation.compute_output_spec(*args, **kwargs)
        steps.append(Step(operation, _tensors((args, kwargs)), _tensors(outputs)))
        return outputs

    outputs = _tensors(through(model, inputs, note))
    return model, inputs, outputs, steps


@isolated(any_backend=True)
def without_weights(
    name: str,
    num_classes: int | None = None,
    input_shape: Sequence[int | None] | None = None,
    *,
    width: float = 1.0,
) -> keras.Model:
    """`build` without values for the weights, for counting; defaults as in `describe`."""
    from keras_resnet.models import build

    classes = num_classes or (10 if specs.find(name).stem == "cifar" else 1000)
    return without_values(lambda: build(name, classes, input_shape, width=width))


def _inputs(model: keras.Model, input_shape: Sequence[int] | None) -> list[keras.KerasTensor]:
    if not _has_graph(model):
        raise InputError(
            f"{model.name} has no graph to follow; describe() takes functional and Sequential "
            "models that know their input's shape"
        )
    shapes = [tuple(x.shape[1:]) for x in model.inputs]
    if input_shape is not None:
        input_shape = tuple(input_shape)
        fixed = shapes[0]
        if len(input_shape) != len(fixed) or any(
            side not in (None, asked) for side, asked in zip(fixed, input_shape, strict=True)
        ):
            raise InputError(f"input_shape is {input_shape}; {model.name} takes {fixed}")
        shapes[0] = input_shape
    return [
        keras.KerasTensor((None, *shape), dtype=x.dtype)
        for shape, x in zip(shapes, model.inputs, strict=True)
    ]


def _has_graph(model: keras.Model) -> bool:
    return bool(getattr(model, "inputs", None))


def through(model: keras.Model, inputs: Sequence[Any], call: Callable[..., Any]) -> list[Any]:
    """Runs a functional or Sequential model, and nested models, operation by operation.

    Args:
        model: the model.
        inputs: its inputs, symbolic or not.
        call: `call(operation, *args, **kwargs)` is called instead of `operation(*args, **kwargs)`.

    Returns:
        The list of the model's outputs, computed by `call`.
    """

    def stand_in(operation: keras.Operation) -> Callable[..., Any]:
        if isinstance(operation, keras.Model) and _has_graph(operation):
            return lambda *args, **kwargs: through(operation, args, call)
        return partial(call, operation)

    # The only use of a private name: no public function traverses operations that are not layers,
    # shared layers and nested models in order. A Sequential becomes functional first.
    graph = keras.Model(model.inputs, model.outputs)
    return graph._run_through_graph(inputs, operation_fn=stand_in)


def _tensors(structure: Any) -> list[keras.KerasTensor]:
    return [x for x in tree.flatten(structure) if isinstance(x, keras.KerasTensor)]


def _pass_field(step: Step) -> None:
    """Sets `field` of each output: (side, distance between neighbours), in pixels of the image.

    None: the whole image. Side += (kernel - 1) × distance; distance ×= stride; after a join, the
    largest of the paths. Araujo et al. 2019, doi:10.23915/distill.00021.
    """
    operation, made = step.operation, step.made
    fields = [x.field for x in step.given]
    if None in fields or len(made[0].shape) < 3 or type(operation).__name__.startswith("Global"):
        field = None
    else:
        kernel = _largest(getattr(operation, "kernel_size", getattr(operation, "pool_size", 1)))
        reach = (kernel - 1) * _largest(getattr(operation, "dilation_rate", 1))
        side, distance = max(fields)
        field = (side + reach * distance, distance * _largest(getattr(operation, "strides", 1)))
    for x in made:
        x.field = field


def _row(step: Step, first: bool) -> Layer:
    operation, made = step.operation, step.made[0]
    parameters = operation.count_params() if isinstance(operation, keras.Layer) else 0
    return Layer(
        name=operation.name,
        kind=type(operation).__name__,
        output_shape=list(made.shape[1:]),
        parameters=parameters if first else 0,  # weights of a shared layer count once
        multiply_adds=_multiply_adds(operation, step.given[0], made),
        activations=_product(made.shape[1:]) if hasattr(operation, "kernel_size") else 0,
        receptive_field=made.field and made.field[0],
    )


def _multiply_adds(
    operation: keras.Operation, given: keras.KerasTensor, made: keras.KerasTensor
) -> int | None:
    is_convolution = hasattr(operation, "kernel_size")
    if not (is_convolution or isinstance(operation, keras.layers.Dense)):
        return 0
    x = given if type(operation).__name__.endswith("Transpose") else made
    positions = x.shape[1:-1]
    if is_convolution and operation.data_format == "channels_first":
        positions = x.shape[2:]
    known = _known(positions)
    kernels = [w.shape for w in operation.weights if w.name.endswith("kernel")]
    if known is None:
        return None
    return sum(multiply_adds.count(kernel, known) for kernel in kernels)


def _peak(
    inputs: list[keras.KerasTensor], outputs: list[keras.KerasTensor], steps: list[Step]
) -> int | None:
    """Peak size of the tensors alive at the same time, in bytes; None if a size is dynamic."""
    last = {id(x): turn for turn, step in enumerate(steps) for x in step.given}
    last.update((id(x), len(steps)) for x in outputs)
    alive = {id(x): _bytes(x) for x in inputs}
    peaks = [_sum(alive.values())]
    for turn, step in enumerate(steps):
        alive.update((id(x), _bytes(x)) for x in step.made)
        peaks.append(_sum(alive.values()))
        for x in (*step.given, *step.made):
            if last.get(id(x), turn) <= turn:
                alive.pop(id(x), None)
    known = _known(peaks)
    return None if known is None else max(known)


def _bytes(x: keras.KerasTensor) -> int | None:
    """Bytes of a tensor for one image."""
    count = _product(x.shape[1:])
    return None if count is None else count * _bytes_of(x.dtype)


def _bytes_of(dtype: str) -> int:
    """Bytes of one value: 4 for float32, 2 for bfloat16, 1 for bool."""
    bits = re.search(r"\d+", dtype)
    return int(bits[0]) // 8 if bits else 1


STAGE = re.compile(r"conv\d+(?=_)")
BLOCK = re.compile(r"conv\d+_block\d+(?=_)")


def stages_of(names: Sequence[str]) -> list[str] | list[None]:
    """The stage of each of a network's layers, in forward order; None for all if it has none.

    It is the first part of a name such as `conv2_block1_add`. A name without one (the stem's
    pool) belongs to the stage before it; before the first that is "input", after the last "head".
    """
    if not any(map(BLOCK.match, names)):
        return [None] * len(names)
    own = [STAGE.match(name) for name in names]
    last = max(turn for turn, match in enumerate(own) if match)
    stages = ["input"]
    for match in own[: last + 1]:
        stages.append(match[0] if match else stages[-1])
    return stages[1:] + ["head"] * (len(names) - last - 1)


def _stages(rows: Sequence[Layer]) -> list[Stage]:
    stages = stages_of([row.name for row in rows])
    members = groupby(zip(stages, rows, strict=True), lambda pair: pair[0])
    return [_stage(name, [row for _, row in pairs]) for name, pairs in members if name]


def _stage(name: str, rows: Sequence[Layer]) -> Stage:
    return Stage(
        name=name,
        blocks=len({block[0] for row in rows if (block := BLOCK.match(row.name))}),
        output_shape=rows[-1].output_shape,
        parameters=sum(row.parameters for row in rows),
        multiply_adds=_sum(row.multiply_adds for row in rows),
        activations=_sum(row.activations for row in rows),
        receptive_field=rows[-1].receptive_field,
    )


def _product(sides: Sequence[int | None]) -> int | None:
    known = _known(sides)
    return None if known is None else math.prod(known)


def _sum(counts: Iterable[int | None]) -> int | None:
    known = _known(counts)
    return None if known is None else sum(known)


def _known(numbers: Iterable[int | None]) -> list[int] | None:
    """The sizes; None if one of them is dynamic."""
    numbers = list(numbers)
    known = [number for number in numbers if number is not None]
    return known if len(known) == len(numbers) else None


def _largest(sizes: int | tuple[int, ...] | list[int]) -> int:
    return max(sizes) if isinstance(sizes, (tuple, list)) else sizes
