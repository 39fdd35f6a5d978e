"""A network as a chain of residual blocks, whose sums can be replaced in a forward pass.

Each analysis in this package is a forward pass in which a custom function combines shortcut and
branch: to record values, to drop a branch, or to pass the gradient through one path only.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.errors import InputError
from keras_resnet.inspection.network import through, walk

_IMAGE = -1  # index of the image, before all operations
_BLOCK = re.compile(r"(?:conv\d+_)?block\d+(?=_)")


@dataclass(frozen=True)
class Block:
    """A block in the graph, with indices of operations in forward order.

    `kind` is "identity" if the shortcut is x itself, "projection" if layers are applied to it, and
    "plain" without a shortcut; a plain block can be replaced by x if the shapes are equal.
    """

    name: str
    kind: str
    source: int  # the operation that outputs x
    join: int  # the sum; in a plain block, its last operation
    shortcut: int | None  # index of the shortcut among the operands of the sum
    removable: bool  # x has the shape of H(x)
    operand: object = field(repr=False, default=None)  # symbolic x, in the block's own graph


# join(block, x, shortcut or None, branch) returns H(x)
Join = Callable[[Block, tf.Tensor, Any, tf.Tensor], tf.Tensor]


class Flow:
    """A functional Keras model with the blocks in its graph.

    A residual block is found by its sum of two operands, not by names. Only in a model without any
    sum, the layers of plain blocks are grouped by their names, `conv2_block1_…`.

    Args:
        model: a `keras.Model` from images `(b, h, w, c)` to logits `(b, k)`.

    Attributes:
        model; operations: in forward order; blocks: a list of `Block` in forward order;
        first_kernel: the kernel of the first convolution or dense layer.

    Raises:
        InputError: a model without a graph or without blocks.
    """

    def __init__(self, model: keras.Model):
        if not isinstance(model, keras.Model):
            raise InputError(
                f"{model!r} is not a Keras model; give one, such as kr.open_run(…).model()"
            )
        self.model, inputs, _, self._steps = walk(model)
        self.operations = [step.operation for step in self._steps]
        maker = {id(x): index for index, step in enumerate(self._steps) for x in step.made}
        maker[id(inputs[0])] = _IMAGE
        self._makers = [[maker[id(x)] for x in step.given] for step in self._steps]
        self.blocks = self._residual_blocks() or self._plain_blocks()
        if not self.blocks:
            raise InputError(
                f"{self.model.name} has no shortcuts and no blocks to analyse; give a residual "
                "network, such as resnet20"
            )
        kernels = (getattr(operation, "kernel", None) for operation in self.operations)
        self.first_kernel = next(kernel for kernel in kernels if kernel is not None)
        self._at = {block.join: block for block in self.blocks}
        self._sources = {block.source for block in self.blocks}

    def run(self, images: tf.Tensor, join: Join, *, batch_statistics: bool = False) -> tf.Tensor:
        """One forward pass, eager or inside a `tf.function`.

        Args:
            images: `(b, h, w, c)` in [0, 255].
            join: `join(block, x, shortcut, branch)` returns H(x) of a block. `shortcut` is x or
                its projection, or None for a plain block; `branch` is F(x).
            batch_statistics: normalize by the batch's mean and variance, as in a training step,
                instead of the moving averages. Dropout and stochastic depth are always off.

        Returns:
            Logits `(b, k)`.
        """
        index, values = 0, {_IMAGE: images}

        def call(operation: keras.Operation, *args: Any, **kwargs: Any) -> Any:
            nonlocal index
            block = self._at.get(index)
            if block is None or block.kind == "plain":
                result = _apply(operation, args, kwargs, batch_statistics)
            if block is not None:
                operands = (None, result) if block.kind == "plain" else _operands(args, block)
                result = join(block, values[block.source], *operands)
            if index in self._sources:
                values[index] = result
            index += 1
            return result

        (logits,) = through(self.model, [images], call)
        return logits

    def batch(self, images: np.ndarray, labels: np.ndarray) -> tuple[tf.Tensor, tf.Tensor]:
        """Checks images and labels; returns tensors for `run`, labels as int32 `(b,)`.

        Raises:
            InputError: images of another shape or with values that are not finite, or labels that
                are not classes of the model.
        """
        images, labels = np.asarray(images), np.asarray(labels)
        shape, classes = self.model.input_shape, self.model.output_shape[-1]
        if images.ndim != len(shape) or any(
            side not in (None, given) for side, given in zip(shape, images.shape, strict=True)
        ):
            raise InputError(f"images is {images.shape}; {self.model.name} takes {shape}")
        if not np.isfinite(images).all():
            raise InputError("images has values that are not finite; give pixels in [0, 255]")
        if labels.shape != images.shape[:1] or not len(labels) or labels.dtype.kind not in "iu":
            raise InputError(
                f"labels is {labels.dtype} {labels.shape}; expected int ({len(images)},), the "
                "classes of the images, at least one"
            )
        if odd := [label for label in labels if not 0 <= label < classes]:
            raise InputError(f"labels has {odd[0]}; expected classes from 0 to {classes - 1}")
        return tf.cast(images, self.model.inputs[0].dtype), tf.cast(labels, tf.int32)

    def paths(
        self, block: Block, x: tf.Tensor, *, batch_statistics: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Runs one block on x; returns (shortcut, branch), the operands of its sum."""
        shortcut, branch = _operands(self.operations[block.join].input, block)
        outputs = [branch] if block.kind == "identity" else [branch, shortcut]
        values = through(
            keras.Model(block.operand, outputs),
            [x],
            lambda operation, *args, **kwargs: _apply(operation, args, kwargs, batch_statistics),
        )
        return (x, values[0]) if block.kind == "identity" else (values[1], values[0])

    def _residual_blocks(self) -> list[Block]:
        blocks = []
        for index, operation in enumerate(self.operations):
            makers = self._makers[index]
            if type(operation).__name__ != "Add" or len(set(makers)) != 2:
                continue
            source, before = self._split_point(index)
            weights = [self._convolutions(maker, before) for maker in makers]
            shortcut = int(weights[1] < weights[0])
            blocks.append(
                Block(
                    name=operation.name.removesuffix("_add"),
                    kind="identity" if makers[shortcut] == source else "projection",
                    source=source,
                    join=index,
                    shortcut=shortcut,
                    removable=self._shape(source) == self._shape(index),
                    operand=self._symbol(source, before),
                )
            )
        return blocks

    def _split_point(self, join: int) -> tuple[int, set[int]]:
        """Finds where the two paths to a sum split: their nearest common ancestor.

        Repeatedly replaces the latest value by its inputs until one is left. Returns its index in
        forward order, and the indices of the replaced ones and the sum.
        """
        values, inside = set(self._makers[join]), {join}
        while len(values) > 1:
            latest = max(values)
            inside.add(latest)
            values.remove(latest)
            values.update(self._makers[latest])
        return values.pop(), inside

    def _convolutions(self, index: int, inside: Collection[int]) -> int:
        """The number of weight layers on the longest path to a value from the split."""
        if index not in inside:
            return 0
        own = hasattr(self.operations[index], "kernel")
        return own + max(self._convolutions(maker, inside) for maker in self._makers[index])

    def _symbol(self, source: int, inside: Collection[int]) -> keras.KerasTensor:
        """The symbolic x in the block's graph: a nested model of a deep net has its own input."""
        for index in sorted(inside):
            given = keras.tree.flatten(self.operations[index].input)
            for maker, symbol in zip(self._makers[index], given, strict=True):
                if maker == source:
                    return symbol
        raise AssertionError("no operation of the block uses its input")

    def _shape(self, index: int) -> tuple[int | None, ...]:
        return tuple(self._steps[index].made[0].shape)

    def _plain_blocks(self) -> list[Block]:
        members: dict[str, list[int]] = {}
        for index, operation in enumerate(self.operations):
            if match := _BLOCK.match(operation.name):
                members.setdefault(match[0], []).append(index)
        blocks = []
        for name, indices in members.items():
            (source,) = self._makers[indices[0]]
            removable = source >= 0 and self._shape(source) == self._shape(indices[-1])
            blocks.append(Block(name, "plain", source, indices[-1], None, removable))
        return blocks


def add(block: Block, x: tf.Tensor, shortcut: tf.Tensor | None, branch: tf.Tensor) -> tf.Tensor:
    """The default join: H(x) = F(x) + shortcut, or F(x) without a shortcut."""
    return branch if shortcut is None else shortcut + branch


@contextmanager
def restoring_statistics(model: keras.Model) -> Iterator[None]:
    """Restores the moving averages at the end, so that an analysis does not change the network."""
    before = [np.array(variable) for variable in model.non_trainable_variables]
    try:
        yield
    finally:
        for variable, value in zip(model.non_trainable_variables, before, strict=True):
            variable.assign(value)


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Mean cross-entropy over the batch, in nats; labels int32 `(b,)`."""
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    return tf.reduce_mean(losses)


def norm(gradient: tf.Tensor) -> float:
    """The L2 norm, in float64, because squares of small numbers underflow in float32."""
    return float(np.linalg.norm(np.asarray(gradient, np.float64).ravel()))


def _operands(given: Any, block: Block) -> tuple[Any, Any]:
    """The operands of a sum: (shortcut, branch)."""
    assert block.shortcut is not None  # a plain block has no sum
    given = keras.tree.flatten(given)
    return given[block.shortcut], given[1 - block.shortcut]


def _apply(
    operation: keras.Operation,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    batch_statistics: bool,
) -> Any:
    if isinstance(operation, keras.layers.BatchNormalization):
        return operation(*args, **{**kwargs, "training": batch_statistics})
    if isinstance(operation, keras.layers.Dropout):
        return args[0]
    return operation(*args, **kwargs)
