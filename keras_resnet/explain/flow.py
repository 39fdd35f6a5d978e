"""A network as a chain of residual blocks, whose sums can be replaced in a forward pass.

Each analysis in this package is a forward pass in which a custom function joins shortcut and
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

_IMAGE = -1  # the turn of the image: before all operations
_BLOCK = re.compile(r"(?:conv\d+_)?block\d+(?=_)")


@dataclass(frozen=True)
class Block:
    """Where a block begins and ends; operations are called by their turn in the forward order.

    `kind` is "identity" where the shortcut is x itself, "projection" where something is done to
    it, and "plain" without a shortcut: then the block may be replaced by x where the shapes allow.
    """

    name: str
    kind: str
    source: int  # the operation that makes x
    join: int  # the sum; of a plain block, its last operation
    shortcut: int | None  # which operand of the sum is the shortcut
    removable: bool  # x has the shape of H(x)
    operand: object = field(repr=False, default=None)  # symbolic x, in the block's own graph


# join(block, x, shortcut or None, branch) gives H(x)
Join = Callable[[Block, tf.Tensor, Any, tf.Tensor], tf.Tensor]


class Flow:
    """A functional Keras model with the blocks that are in its graph.

    A residual block is found by its sum of two operands, not by names; only where there is no sum
    at all are the layers of a plain counterpart put together by their names, `conv2_block1_…`.

    Args:
        model: a `keras.Model` from images `(b, h, w, c)` to logits `(b, k)`.

    Attributes:
        model; operations: in forward order; blocks: a list of `Block` in forward order;
        first_kernel: the variable of the first convolution or dense layer.

    Raises:
        InputError: a model without a graph or without blocks.
    """

    def __init__(self, model: keras.Model):
        if not isinstance(model, keras.Model):
            raise InputError(
                f"{model!r} is not a Keras model; give one, such as kr.build('resnet20')"
            )
        self.model, inputs, _, self._steps = walk(model)
        self.operations = [step.operation for step in self._steps]
        maker = {id(x): turn for turn, step in enumerate(self._steps) for x in step.made}
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
            join: `join(block, x, shortcut, branch)` gives H(x) for each block. `shortcut` is x or
                its projection, of a plain block None; `branch` is F(x).
            batch_statistics: normalize by the batch's own mean and variance, as a training step
                does, instead of the moving averages. Dropout and stochastic depth stay off.

        Returns:
            Logits `(b, k)`.
        """
        turn, values = 0, {_IMAGE: images}

        def call(operation: keras.Operation, *args: Any, **kwargs: Any) -> Any:
            nonlocal turn
            block = self._at.get(turn)
            if block is None or block.kind == "plain":
                result = _apply(operation, args, kwargs, batch_statistics)
            if block is not None:
                operands = (None, result) if block.kind == "plain" else _operands(args, block)
                result = join(block, values[block.source], *operands)
            if turn in self._sources:
                values[turn] = result
            turn += 1
            return result

        (logits,) = through(self.model, [images], call)
        return logits

    def batch(self, images: np.ndarray, labels: np.ndarray) -> tuple[tf.Tensor, tf.Tensor]:
        """Images as `run` takes them, and their labels, int32 `(b,)`.

        Raises:
            InputError: images of another shape or with NaN, or labels that are no classes of the
                model.
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
        """What a block makes of x alone: (shortcut, branch), the operands of its sum."""
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
        for turn, operation in enumerate(self.operations):
            makers = self._makers[turn]
            if type(operation).__name__ != "Add" or len(set(makers)) != 2:
                continue
            source, before = self._parting(turn)
            weights = [self._convolutions(maker, before) for maker in makers]
            shortcut = int(weights[1] < weights[0])
            blocks.append(
                Block(
                    name=operation.name.removesuffix("_add"),
                    kind="identity" if makers[shortcut] == source else "projection",
                    source=source,
                    join=turn,
                    shortcut=shortcut,
                    removable=self._shape(source) == self._shape(turn),
                    operand=self._symbol(source, before),
                )
            )
        return blocks

    def _parting(self, join: int) -> tuple[int, set[int]]:
        """Where the two paths of a sum part: the nearest operation that both come from.

        Repeatedly replacing the latest value by its inputs ends with a single one. Returns its
        number in the forward order, and the numbers of those replaced.
        """
        at_hand, inside = set(self._makers[join]), {join}
        while len(at_hand) > 1:
            latest = max(at_hand)
            inside.add(latest)
            at_hand.remove(latest)
            at_hand.update(self._makers[latest])
        return at_hand.pop(), inside

    def _convolutions(self, turn: int, inside: Collection[int]) -> int:
        """How many weight layers a value has passed since the parting."""
        if turn not in inside:
            return 0
        own = hasattr(self.operations[turn], "kernel")
        return own + max(self._convolutions(maker, inside) for maker in self._makers[turn])

    def _symbol(self, source: int, inside: Collection[int]) -> keras.KerasTensor:
        """x as the graph of the block knows it: a part of a deep net has an input of its own."""
        for turn in sorted(inside):
            given = keras.tree.flatten(self.operations[turn].input)
            for maker, symbol in zip(self._makers[turn], given, strict=True):
                if maker == source:
                    return symbol
        raise AssertionError("no operation of the block uses its input")

    def _shape(self, turn: int) -> tuple[int | None, ...]:
        return tuple(self._steps[turn].made[0].shape)

    def _plain_blocks(self) -> list[Block]:
        members: dict[str, list[int]] = {}
        for turn, operation in enumerate(self.operations):
            if match := _BLOCK.match(operation.name):
                members.setdefault(match[0], []).append(turn)
        blocks = []
        for name, turns in members.items():
            (source,) = self._makers[turns[0]]
            removable = source >= 0 and self._shape(source) == self._shape(turns[-1])
            blocks.append(Block(name, "plain", source, turns[-1], None, removable))
        return blocks


def add(block: Block, x: tf.Tensor, shortcut: tf.Tensor | None, branch: tf.Tensor) -> tf.Tensor:
    """The network's own join: H(x) = F(x) + x, or F(x) without a shortcut."""
    return branch if shortcut is None else shortcut + branch


@contextmanager
def kept(model: keras.Model) -> Iterator[None]:
    """Restores the moving averages afterwards: an analysis must not change the network."""
    before = [np.array(variable) for variable in model.non_trainable_variables]
    try:
        yield
    finally:
        for variable, value in zip(model.non_trainable_variables, before, strict=True):
            variable.assign(value)


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The mean over the batch, in nats; labels int32 `(b,)`."""
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    return tf.reduce_mean(losses)


def norm(gradient: tf.Tensor) -> float:
    """The L2 norm, in float64: the squares of small numbers vanish in float32."""
    return float(np.linalg.norm(np.asarray(gradient, np.float64).ravel()))


def _operands(given: Any, block: Block) -> tuple[Any, Any]:
    """What a sum adds up: (shortcut, branch)."""
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
