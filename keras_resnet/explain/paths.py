"""A residual network as the sum of its paths: their lengths, and the gradient they carry.

Veit et al. 2016, arXiv:1605.06431, sections 3 and 5.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_resnet.errors import InputError, require_whole
from keras_resnet.evaluation.reference import true_float32
from keras_resnet.explain.flow import Block, Flow, cross_entropy, norm, restoring_statistics
from keras_resnet.messages import plural
from keras_resnet.progress import track
from keras_resnet.results import Result
from keras_resnet.state import isolated


@dataclass(frozen=True)
class PathLength:
    """The paths through a given number of branches."""

    length: int
    share_of_paths: float
    gradient_norm: float  # mean over the measured paths of |dJ/dx| at the first block's input
    share_of_gradient: float  # norm times number of paths, relative to the sum over all lengths


@dataclass(frozen=True)
class Effective:
    """The range of lengths that carries the middle 95 % of the gradient."""

    shortest: int
    longest: int


@dataclass(frozen=True)
class Paths(Result):
    """The paths through a network, and the gradient they carry.

    The sum of the paths' norms is larger than the norm of their sum.
    """

    name: str
    blocks: int
    images: int
    samples: int  # paths measured for each length; fewer if there are not so many
    total_norm: float  # of the whole gradient
    effective: Effective
    lengths: list[PathLength]


@isolated()
@true_float32()
def paths(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    samples: int = 10,
    seed: int = 0,
    batch_statistics: bool = False,
) -> Paths:
    """Measures the gradient at the first block by the number of branches that its paths pass.

    A network of n blocks has 2^n paths from its first block to its logits: at each sum a path comes
    from the branch or the shortcut. binom(n, k) of them pass k branches. For each k, `samples`
    random paths are measured, or all if there are no more. In the backward pass, the gradient
    follows only the path's side of each sum; the forward pass is unchanged.

    Args:
        model: a functional `keras.Model` with residual blocks.
        images: `(b, h, w, c)` in [0, 255].
        labels: int `(b,)`.
        samples: most paths per length.
        seed: seed of the random paths.
        batch_statistics: normalize by the batch's own statistics; for an untrained network.

    Returns:
        `Paths`.

    Raises:
        InputError: a network without shortcuts; images or labels that do not fit it, or whose
            gradient is 0.
    """
    require_whole("--samples", samples, 1)
    require_whole("--seed", seed, 0)
    flow = Flow(model)
    n = len(flow.blocks)
    if flow.blocks[0].kind == "plain":
        raise InputError(
            f"{model.name} has no shortcuts: it is one path of {n} blocks; give a residual network"
        )
    gradient = along(flow, images, labels, batch_statistics=batch_statistics)
    rng = np.random.default_rng(seed)
    with restoring_statistics(model):
        norms = [
            np.mean([norm(gradient(takes)) for takes in _choose(rng, n, k, samples)])
            for k in track(range(n + 1), n + 1, f"paths of {model.name}", "lengths")
        ]
        total = norm(gradient(None))
    counts = [math.comb(n, k) for k in range(n + 1)]
    carried = np.array([count / 2**n * mean for count, mean in zip(counts, norms, strict=True)])
    if not carried.any():
        raise InputError(
            f"{model.name} has a gradient of 0 for the {plural(len(labels), 'image')}; give others"
        )
    shares = carried / carried.sum()
    within = np.cumsum(shares)
    ends = (int(np.searchsorted(within, share)) for share in (0.025, 0.975))
    return Paths(
        name=model.name,
        blocks=n,
        images=len(labels),
        samples=samples,
        total_norm=total,
        effective=Effective(*ends),
        lengths=[
            PathLength(k, counts[k] / 2**n, float(norms[k]), float(shares[k])) for k in range(n + 1)
        ],
    )


def along(
    flow: Flow, images: np.ndarray, labels: np.ndarray, *, batch_statistics: bool = False
) -> Callable[[npt.NDArray[np.float32] | None], tf.Tensor]:
    """A function that returns the gradient at the first block's input along one path.

    Its argument is float `(blocks,)`: 1 if the path takes the branch, 0 if it takes the shortcut;
    None: the whole gradient, along all paths.
    """
    images, labels = flow.batch(images, labels)
    number = {block.name: i for i, block in enumerate(flow.blocks)}

    @tf.function
    def gradient(takes: tf.Tensor | None) -> tf.Tensor:
        entrance = []

        def join(block: Block, x: tf.Tensor, shortcut: tf.Tensor, branch: tf.Tensor) -> tf.Tensor:
            entrance.append(x)
            if takes is None:
                return shortcut + branch
            through = tf.cast(takes[number[block.name]], branch.dtype)
            # The value is the sum for any path; the gradient flows back through one side only.
            value = tf.stop_gradient(shortcut + branch)
            by_branch = through * (branch - tf.stop_gradient(branch))
            return value + by_branch + (1 - through) * (shortcut - tf.stop_gradient(shortcut))

        with tf.GradientTape() as tape:
            tape.watch(images)
            logits = flow.run(images, join, batch_statistics=batch_statistics)
            loss = cross_entropy(logits, labels)
        return tape.gradient(loss, entrance[0])

    return lambda takes: gradient(None if takes is None else tf.constant(takes, tf.float32))


def _choose(
    rng: np.random.Generator, n: int, k: int, samples: int
) -> Iterator[npt.NDArray[np.float32]]:
    """All paths through k of n branches, or `samples` random ones if there are more."""
    if math.comb(n, k) <= samples:
        chosen = [list(branches) for branches in combinations(range(n), k)]
    else:
        chosen = [rng.choice(n, k, replace=False).tolist() for _ in range(samples)]
    for branches in chosen:
        takes = np.zeros(n, np.float32)
        takes[branches] = 1
        yield takes
