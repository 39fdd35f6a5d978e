"""Accuracy of a trained network without some of its blocks: Veit et al. 2016, arXiv:1605.06431,
section 4."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_resnet.errors import InputError, require_whole
from keras_resnet.evaluation.reference import true_float32
from keras_resnet.explain.flow import Block, Flow, add
from keras_resnet.explain.subject import Subject, open_subject
from keras_resnet.files import StrPath
from keras_resnet.progress import bar
from keras_resnet.results import Result
from keras_resnet.state import isolated

_BATCH = 100


@dataclass(frozen=True)
class BlockLesion:
    """A network without one block."""

    name: str
    kind: str  # "identity", "projection" or "plain"
    top1: float


@dataclass(frozen=True)
class LastLesion:
    """A network without its last `removed` blocks."""

    removed: int
    top1: float


@dataclass(frozen=True)
class RandomLesions:
    """Networks without random sets of blocks."""

    removed: int
    top1: list[float]  # one per set


@dataclass(frozen=True)
class Lesions(Result):
    """Accuracies of a network without some of its blocks, in 0…1."""

    run: str
    model: str
    images: int
    top1: float  # of the whole network
    chance: float
    blocks: list[BlockLesion]  # each removed alone, in forward order
    last: list[LastLesion]  # without the last 1, 2, 4, … blocks
    random: list[RandomLesions]


@isolated()
@true_float32()
def lesion(
    run: StrPath,
    data: StrPath | None = None,
    *,
    split: str = "val",
    images: int = 1000,
    sets: int = 5,
    seed: int = 0,
    data_dir: StrPath | None = None,
) -> Lesions:
    """Removes blocks of a trained network and measures its accuracy.

    A residual block is removed by dropping its branch: its output is x, or W x with a projection. A
    plain block is replaced by x if the shapes are equal, else it is kept. Nothing is retrained.

    Args:
        run: a run folder or a `.keras` file.
        data, split, images, seed, data_dir: the evaluation images, as in
            `keras_resnet.explain.subject.open_subject`.
        sets: number of random sets of each size.

    Returns:
        `Lesions`.

    Raises:
        InputError: no such run, or a network without blocks that can be removed.
    """
    require_whole("--sets", sets, 1)
    subject = open_subject(run, data, images=images, seed=seed, split=split, data_dir=data_dir)
    flow = Flow(subject.model)
    removable = [i for i, block in enumerate(flow.blocks) if _can_go(block)]
    if not removable:
        raise InputError(
            f"{subject.model.name} has no block that can be removed; give a deeper network"
        )
    top1 = _scorer(flow, subject)
    sizes = [n for n in (2**i for i in range(12)) if n < len(removable)] + [len(removable)]
    rng = np.random.default_rng(seed)
    total = 1 + len(removable) + len(sizes) * (1 + sets)
    with bar(total, f"lesions of {subject.model.name}", "networks") as advance:

        def without(blocks: Sequence[int] | npt.NDArray[np.int64]) -> float:
            keep = np.ones(len(flow.blocks), np.float32)
            keep[blocks] = 0
            score = top1(keep)
            advance()
            return score

        return Lesions(
            run=str(run),
            model=subject.model.name,
            images=len(subject.labels),
            top1=without([]),
            chance=1 / len(subject.classes),
            blocks=[
                BlockLesion(flow.blocks[i].name, flow.blocks[i].kind, without([i]))
                for i in removable
            ],
            last=[LastLesion(n, without(removable[-n:])) for n in sizes],
            random=[
                RandomLesions(
                    n, [without(rng.choice(removable, n, replace=False)) for _ in range(sets)]
                )
                for n in sizes
            ],
        )


def _can_go(block: Block) -> bool:
    return block.kind != "plain" or block.removable


def _scorer(flow: Flow, subject: Subject) -> Callable[[npt.NDArray[np.float32]], float]:
    """A function of `keep`, float `(blocks,)`, 1 or 0 each, that returns the top-1 of the network
    with the blocks to keep."""
    number = {block.name: i for i, block in enumerate(flow.blocks)}

    @tf.function
    def guesses(images: tf.Tensor, keep: tf.Tensor) -> tf.Tensor:
        def join(
            block: Block, x: tf.Tensor, shortcut: tf.Tensor | None, branch: tf.Tensor
        ) -> tf.Tensor:
            kept = tf.cast(keep[number[block.name]], branch.dtype)
            if shortcut is None:
                return kept * branch + (1 - kept) * x if block.removable else branch
            return add(block, x, shortcut, kept * branch)

        return tf.argmax(flow.run(tf.cast(images, tf.float32), join), -1)

    batches = [subject.images[i : i + _BATCH] for i in range(0, len(subject.images), _BATCH)]

    def top1(keep: npt.NDArray[np.float32]) -> float:
        predictions = np.concatenate([guesses(batch, tf.constant(keep)) for batch in batches])
        return float(np.mean(predictions == subject.labels))

    return top1
