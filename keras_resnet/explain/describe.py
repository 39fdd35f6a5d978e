"""What a network consists of: shapes, parameters, multiply-adds, receptive fields.

Keras only, and nothing is computed: the shapes alone go through the graph.
"""

import math

import keras
from keras import tree

from keras_resnet import specs
from keras_resnet.errors import InputError


def describe(model, input_shape=None):
    """Counts a functional model, layer by layer, in forward order.

    Args:
        model: a `keras.Model`, or a name such as `"resnet50"`, which is then built at its paper's
            image size, with 1,000 classes for an ImageNet net and 10 for a CIFAR net.
        input_shape: `(height, width, channels)` to count at, for a model that leaves them open.

    Returns:
        A dict ready for JSON:

        `name`; `input_shape` and every `output_shape`: without the batch;
        `parameters`: all numbers that are stored, the batch norms' moving averages too;
        `trainable_parameters`: what papers call parameters;
        `multiply_adds`: multiply-accumulate operations of convolutions and dense layers for one
        image, biases not counted: the convention of torchvision and fvcore, in which ResNet-50
        v1.5 has 4.089 G. FLOPs, where a multiplication and an addition are two, are twice that;
        `activations`: values put out by the convolutions (as in arXiv:2003.13678);
        `layers`: a list of `{name, kind, output_shape, parameters, multiply_adds,
        receptive_field}`. The receptive field is the side, in pixels of the image, of the square
        that a value can depend on, along the longest path; None is the whole image, after a
        global pooling. Up-sampling is not followed.

        Where a size is left open, what depends on it is None.

    Raises:
        InputError: an unknown name, a model without a graph, or an unfitting `input_shape`.
    """
    if isinstance(model, str):
        model = _without_weights(model)
    rows, activations, seen = [], [], set()
    inputs = _inputs(model, input_shape)

    def visit(operation):
        """Stands in for `operation` in the graph: takes and gives shapes, and notes a row."""

        def run(*args, **kwargs):
            if isinstance(operation, keras.Model) and _has_graph(operation):
                return _through_graph(operation, args, visit)
            outputs = operation.compute_output_spec(*args, **kwargs)
            given, made = _tensors((args, kwargs)), _tensors(outputs)
            _pass_field(operation, given, made)
            rows.append(_row(operation, given[0], made[0], first=operation not in seen))
            if hasattr(operation, "kernel_size"):
                activations.append(_product(made[0].shape[1:]))
            seen.add(operation)
            return outputs

        return run

    _through_graph(model, inputs, visit)
    return {
        "name": model.name,
        "input_shape": list(inputs[0].shape[1:]),
        "parameters": model.count_params(),
        "trainable_parameters": sum(math.prod(w.shape) for w in model.trainable_weights),
        "multiply_adds": _sum(row["multiply_adds"] for row in rows),
        "activations": _sum(activations),
        "layers": rows,
    }


def table(description):
    """The dict of `describe` as text for a terminal; the totals come last."""
    heads = ("layer", "kind", "output", "parameters", "multiply-adds", "field")
    lines = [
        (
            row["name"],
            row["kind"],
            "x".join("?" if side is None else str(side) for side in row["output_shape"]),
            f"{row['parameters']:,}" if row["parameters"] else "",
            "" if row["multiply_adds"] == 0 else _number(row["multiply_adds"]),
            "all" if row["receptive_field"] is None else str(row["receptive_field"]),
        )
        for row in description["layers"]
    ]
    widths = [max(len(line[column]) for line in (heads, *lines)) for column in range(len(heads))]

    def aligned(line):
        words = [word.ljust(width) for word, width in zip(line[:3], widths[:3], strict=True)]
        numbers = [word.rjust(width) for word, width in zip(line[3:], widths[3:], strict=True)]
        return "  ".join(words + numbers).rstrip()

    totals = (
        f"{description['name']}: {description['parameters']:,} parameters, "
        f"{description['trainable_parameters']:,} of them trainable; "
        f"{_number(description['multiply_adds'])} multiply-adds, "
        f"{_number(description['activations'])} activations"
    )
    ruler = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([aligned(heads), ruler, *map(aligned, lines), ruler, totals])


def _without_weights(name):
    from keras_resnet.models import build

    spec = specs.SPECS.get(name)
    classes = 10 if spec and spec.stem == "cifar" else 1000
    # Its variables have shapes and no values: a tenth of the time and none of the memory.
    with keras.StatelessScope(initialize_variables=False):
        return build(name, classes)


def _inputs(model, input_shape):
    """Symbolic inputs, each value of which is a field of 1 pixel, 1 pixel apart."""
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
    inputs = [
        keras.KerasTensor((None, *shape), dtype=x.dtype)
        for shape, x in zip(shapes, model.inputs, strict=True)
    ]
    for x in inputs:
        x.field = (1, 1)
    return inputs


def _has_graph(model):
    return bool(getattr(model, "inputs", None))


def _through_graph(model, inputs, visit):
    """Keras' own walk, with `visit(operation)` in the place of each operation.

    The one use of a private name: nothing public walks operations that are no layers, shared
    layers and nested models in their order. A Sequential becomes functional first.
    """
    graph = keras.Model(model.inputs, model.outputs)
    return graph._run_through_graph(inputs, operation_fn=visit)


def _tensors(structure):
    return [x for x in tree.flatten(structure) if isinstance(x, keras.KerasTensor)]


def _pass_field(operation, given, made):
    """Sets each result's `field`: (side in pixels of the image, pixels from value to value).

    None is the whole image. Side += (kernel - 1) × distance; distance ×= stride; where paths
    meet, the longest counts. Araujo et al. 2019, doi:10.23915/distill.00021.
    """
    fields = [x.field for x in given]
    if None in fields or len(made[0].shape) < 3 or type(operation).__name__.startswith("Global"):
        field = None
    else:
        kernel = _largest(getattr(operation, "kernel_size", getattr(operation, "pool_size", 1)))
        reach = (kernel - 1) * _largest(getattr(operation, "dilation_rate", 1))
        side, distance = max(fields)
        field = (side + reach * distance, distance * _largest(getattr(operation, "strides", 1)))
    for x in made:
        x.field = field


def _row(operation, given, made, first):
    parameters = operation.count_params() if isinstance(operation, keras.Layer) else 0
    return {
        "name": operation.name,
        "kind": type(operation).__name__,
        "output_shape": list(made.shape[1:]),
        "parameters": parameters if first else 0,  # a shared layer stores its weights once
        "multiply_adds": _multiply_adds(operation, given, made),
        "receptive_field": made.field and made.field[0],
    }


def _multiply_adds(operation, given, made):
    """Each number of a kernel is used once at each position of the output."""
    is_convolution = hasattr(operation, "kernel_size")
    if not (is_convolution or isinstance(operation, keras.layers.Dense)):
        return 0
    # A transposed convolution uses its kernel at each position of the input.
    x = given if type(operation).__name__.endswith("Transpose") else made
    positions = x.shape[1:-1]
    if is_convolution and operation.data_format == "channels_first":
        positions = x.shape[2:]
    kernels = [w for w in operation.weights if w.name.endswith("kernel")]
    numbers = sum(math.prod(w.shape) for w in kernels)
    count = _product(positions)
    return None if count is None else numbers * count


def _product(sides):
    return None if None in sides else math.prod(sides)


def _sum(counts):
    counts = list(counts)
    return None if None in counts else sum(counts)


def _largest(sizes):
    return max(sizes) if isinstance(sizes, (tuple, list)) else sizes


def _number(count):
    """4089184256 as "4.089 G"."""
    if count is None:
        return "?"
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3f} {unit}"
    return str(count)
