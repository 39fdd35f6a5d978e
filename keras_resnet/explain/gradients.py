"""The gradient through the shortcut and through the branch: dJ/dx = dJ/dH · (dF/dx + 1).

He et al. 2016, arXiv:1603.05027, equations 3 to 5; Veit et al. 2016, arXiv:1605.06431.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import specs
from keras_resnet.evaluation.reference import true_float32
from keras_resnet.explain.flow import Block, Flow, add, cross_entropy, norm, restoring_statistics
from keras_resnet.explain.subject import open_subject
from keras_resnet.files import StrPath
from keras_resnet.progress import track
from keras_resnet.results import Result
from keras_resnet.state import isolated

_TINY = 1e-30
# x and H of each block by its name, the loss, and the tape that recorded them
_Forward = tuple[dict[str, tf.Tensor], dict[str, tf.Tensor], tf.Tensor, tf.GradientTape]


@dataclass(frozen=True)
class BlockGradient:
    """The gradient at the input x of a block. Norms are Euclidean, over the whole batch."""

    name: str
    kind: str  # "identity", "projection" or "plain"
    sum_norm: float  # of dJ/dH, at the sum
    identity_norm: float | None  # of the identity term; None for a plain block
    branch_norm: float  # of the branch term
    total_norm: float  # of dJ/dx, the gradient at x
    ratio: float | None  # branch to identity; None where the identity term is 0
    cosine: float | None  # of the angle between the two terms; None where one of them is 0
    relative_error: float | None  # |identity + branch - total| / |total|


@dataclass(frozen=True)
class FirstLayer:
    """The gradient of the first kernel."""

    name: str
    gradient_norm: float


@dataclass(frozen=True)
class Gradients(Result):
    """The gradients of a batch."""

    name: str  # of the network
    images: int
    loss: float
    first_layer: FirstLayer
    relative_error: float | None  # the largest of the blocks'
    blocks: list[BlockGradient]  # in forward order


@dataclass(frozen=True)
class ParameterGradient(Result):
    """The gradient of a parameter, split at the next block's sum."""

    parameter: str
    through: str | None  # the next residual block; None without one, and then without terms
    total_norm: float
    identity_norm: float | None = None
    branch_norm: float | None = None
    relative_error: float | None = None

    def as_json(self) -> dict[str, Any]:
        content = super().as_json()
        return {k: v for k, v in content.items() if v is not None or k == "through"}


@dataclass(frozen=True)
class DepthGradients(Result):
    """The first layer's gradient in new networks of one kind and depth."""

    depth: int
    kind: str  # "plain", "residual", or "residual, branches from 0"
    gradient_norms: list[float]  # one per seed


@isolated()
@true_float32()
def gradients(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> Gradients:
    """Splits the gradient at the input of each block into its two terms.

    J is the mean cross-entropy of the batch, computed as in a training step: batch norms use the
    batch's statistics, but dropout and stochastic depth are off. At each sum H = F(x) + W x (W = 1
    in an identity block):

        identity term   dJ/dH · W        branch term   dJ/dH · dF/dx

    Each term is computed from the block alone, given x and dJ/dH. Their sum must equal the gradient
    at x of one backward pass through the whole network. In a pre-activation block with a
    projection, x is the activated input, where the two paths split.

    Args:
        model: a functional `keras.Model` from raw pixels to logits, with residual blocks; for a
            plain counterpart there are only totals.
        images: `(b, h, w, c)` in [0, 255].
        labels: int `(b,)`.

    Returns:
        `Gradients`.

    Raises:
        InputError: a model without a graph or without blocks; images or labels that do not fit it.
    """
    flow = Flow(model)
    first = flow.first_kernel
    with restoring_statistics(flow.model):
        inputs, sums, loss, tape = _forward(flow, images, labels)
        # One pass through the whole network, for all blocks.
        reached, arrived, at_first = tape.gradient(loss, [inputs, sums, first.value])
        blocks = [
            _split(flow, block, inputs[block.name], arrived[block.name], reached[block.name])
            for block in flow.blocks
        ]
    errors = [block.relative_error for block in blocks]
    return Gradients(
        name=flow.model.name,
        images=len(labels),
        loss=float(loss),
        first_layer=FirstLayer(first.path, norm(at_first)),
        relative_error=max((e for e in errors if e is not None), default=None),
        blocks=blocks,
    )


@isolated()
@true_float32()
def parameters(
    model: keras.Model, images: np.ndarray, labels: np.ndarray
) -> list[ParameterGradient]:
    """Splits the gradient of each parameter at the next block's sum.

    The gradient dJ/dW of weights before a block flows through the block's x, so it is the sum of a
    term through the shortcut and a term through the branch. The weights of the block's own branch
    get their gradient through the branch; an identity shortcut has no weights.

    Args:
        model, images, labels: as in `gradients`; a network of few blocks.

    Returns:
        A `ParameterGradient` for each parameter, in forward order.
    """
    flow = Flow(model)
    rows = []
    with restoring_statistics(flow.model):
        inputs, sums, loss, tape = _forward(flow, images, labels, persistent=True)
        arrived = tape.gradient(loss, sums)
        for index, operation in enumerate(flow.operations):
            block = next((block for block in flow.blocks if block.source >= index), None)
            for variable in getattr(operation, "trainable_variables", []):
                total = tape.gradient(loss, variable.value)
                if block is None or block.kind == "plain":
                    rows.append(ParameterGradient(variable.path, None, norm(total)))
                    continue
                x = inputs[block.name]
                terms = _terms(flow, block, x, arrived[block.name])
                identity, branch = (
                    tape.gradient(x, variable.value, output_gradients=term) for term in terms
                )
                rows.append(
                    ParameterGradient(
                        parameter=variable.path,
                        through=block.name,
                        total_norm=norm(total),
                        identity_norm=norm(identity),
                        branch_norm=norm(branch),
                        relative_error=_error(identity + branch, total),
                    )
                )
    return rows


@isolated()
@true_float32()
def by_depth(
    depths: Iterable[int],
    data: StrPath | None = None,
    *,
    images: int = 32,
    seeds: int = 3,
    image_size: int = 0,
    data_dir: StrPath | None = None,
) -> list[DepthGradients]:
    """The first layer's gradient in new networks of increasing depth, with shortcuts and without.

    Args:
        depths: numbers of weight layers of nets with a plain counterpart, such as 20, 56, 110.
        data, images, image_size, data_dir: as in `keras_resnet.explain.subject.open_subject`.
        seeds: number of networks of each kind, with seeds 0, 1, ….

    Returns:
        `DepthGradients` by depth: "plain", "residual" (initialized as in the paper) and
        "residual, branches from 0" (arXiv:1706.02677, section 5.1).

    Raises:
        InputError: a depth without a plain counterpart, or unsuitable images.
    """
    rows = []
    for depth in sorted(specs.with_plain_counterparts(depths)):
        for kind, name, zero_gamma in (
            ("plain", f"plain{depth}", False),
            ("residual", f"resnet{depth}", False),
            ("residual, branches from 0", f"resnet{depth}", True),
        ):
            norms = []
            for seed in track(range(seeds), seeds, f"{name}, {kind}", "networks"):
                subject = open_subject(
                    name, data, images=images, seed=seed, image_size=image_size,
                    zero_gamma=zero_gamma, data_dir=data_dir,
                )  # fmt: skip
                flow = Flow(subject.model)
                _, _, loss, tape = _forward(flow, subject.images, subject.labels)
                norms.append(norm(tape.gradient(loss, flow.first_kernel.value)))
            rows.append(DepthGradients(depth, kind, norms))
    return rows


def _forward(
    flow: Flow, images: np.ndarray, labels: np.ndarray, persistent: bool = False
) -> _Forward:
    """Runs a forward pass; returns x and H of each block by its name, the loss and the tape."""
    images, labels = flow.batch(images, labels)
    inputs, sums = {}, {}

    def note(
        block: Block, x: tf.Tensor, shortcut: tf.Tensor | None, branch: tf.Tensor
    ) -> tf.Tensor:
        inputs[block.name], sums[block.name] = x, add(block, x, shortcut, branch)
        return sums[block.name]

    with tf.GradientTape(persistent=persistent) as tape:
        tape.watch([images, flow.first_kernel.value])  # the weights may be frozen
        loss = cross_entropy(flow.run(images, note, batch_statistics=True), labels)
    return inputs, sums, loss, tape


def _terms(
    flow: Flow, block: Block, x: tf.Tensor, arrived: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """(identity term, branch term) at x, from the gradient at the sum and the block alone."""
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        shortcut, branch = flow.paths(block, x, batch_statistics=True)
    back = arrived if block.kind == "identity" else tape.gradient(shortcut, x, arrived)
    return back, tape.gradient(branch, x, arrived)


def _split(
    flow: Flow, block: Block, x: tf.Tensor, arrived: tf.Tensor, total: tf.Tensor
) -> BlockGradient:
    row: dict[str, Any] = {"name": block.name, "kind": block.kind, "sum_norm": norm(arrived)}
    if block.kind == "plain":
        return BlockGradient(
            **row,
            identity_norm=None,
            branch_norm=norm(total),
            total_norm=norm(total),
            ratio=None,
            cosine=None,
            relative_error=None,
        )
    identity, branch = _terms(flow, block, x, arrived)
    norms = [norm(identity), norm(branch)]
    product = float(tf.reduce_sum(tf.cast(identity, tf.float64) * tf.cast(branch, tf.float64)))
    return BlockGradient(
        **row,
        identity_norm=norms[0],
        branch_norm=norms[1],
        total_norm=norm(total),
        ratio=norms[1] / norms[0] if norms[0] else None,
        cosine=product / math.prod(norms) if all(norms) else None,
        relative_error=_error(identity + branch, total),
    )


def _error(found: tf.Tensor, expected: tf.Tensor) -> float:
    return norm(found - expected) / max(norm(expected), _TINY)
