"""What a trained network loses when blocks are taken out of it: Veit et al. 2016,
arXiv:1605.06431, section 4."""

import numpy as np
import tensorflow as tf

from keras_resnet.errors import InputError
from keras_resnet.evaluation.reference import true_float32
from keras_resnet.explain.flow import Flow, add
from keras_resnet.explain.subject import subject
from keras_resnet.progress import bar
from keras_resnet.state import isolated

_BATCH = 100


@isolated()
@true_float32()
def lesion(run, data=None, *, split="val", images=1000, sets=5, seed=0, data_dir=None):
    """Removes blocks of a trained network and counts what it still gets right.

    Without its branch a block passes on x, or W x where it has a projection. A plain block is
    replaced by x, where that has the shape of its result; the others stay. Nothing is trained
    again.

    Args:
        run: a run folder or a `.keras` file.
        data, split, images, seed, data_dir: the images that judge, as in
            `keras_resnet.explain.subject.subject`.
        sets: how many random sets of each size are tried.

    Returns:
        A dict ready for JSON: `run`, `model`, `images`, `top1` (0…1) of the whole network,
        `chance`; `blocks`: {name, kind, top1} for each removed alone, in forward order; `last`:
        {removed, top1} for the last 1, 2, 4, … of them; `random`: {removed, top1: a list, one a
        set}.

    Raises:
        InputError: no such run, or a network without blocks that can be removed.
    """
    if sets < 1:
        raise InputError(f"--sets is {sets}; expected at least 1")
    seen = subject(run, data, images=images, seed=seed, split=split, data_dir=data_dir)
    flow = Flow(seen.model)
    removable = [i for i, block in enumerate(flow.blocks) if _can_go(block)]
    if not removable:
        raise InputError(f"{seen.model.name} has no block that can be removed")
    top1 = _scorer(flow, seen)
    sizes = [n for n in (2**i for i in range(12)) if n < len(removable)] + [len(removable)]
    rng = np.random.default_rng(seed)
    total = 1 + len(removable) + len(sizes) * (1 + sets)
    with bar(total, f"lesions of {seen.model.name}", "networks") as advance:

        def without(blocks):
            keep = np.ones(len(flow.blocks), np.float32)
            keep[blocks] = 0
            score = top1(keep)
            advance()
            return score

        return {
            "run": str(run),
            "model": seen.model.name,
            "images": len(seen.labels),
            "top1": without([]),
            "chance": 1 / len(seen.classes),
            "blocks": [
                {
                    "name": flow.blocks[i].name,
                    "kind": flow.blocks[i].kind,
                    "top1": without([i]),
                }
                for i in removable
            ],
            "last": [{"removed": n, "top1": without(removable[-n:])} for n in sizes],
            "random": [
                {
                    "removed": n,
                    "top1": [without(rng.choice(removable, n, replace=False)) for _ in range(sets)],
                }
                for n in sizes
            ],
        }


def _can_go(block):
    return block.kind != "plain" or block.removable


def _scorer(flow, seen):
    """A function of `keep`, float `(blocks,)`, 1 or 0 each: top-1 of what is left."""
    number = {block.name: i for i, block in enumerate(flow.blocks)}

    @tf.function
    def guesses(images, keep):
        def join(block, x, shortcut, branch):
            kept = keep[number[block.name]]
            if shortcut is None:
                return kept * branch + (1 - kept) * x if block.removable else branch
            return add(block, x, shortcut, kept * branch)

        return tf.argmax(flow.run(tf.cast(images, tf.float32), join), -1)

    batches = [seen.images[i : i + _BATCH] for i in range(0, len(seen.images), _BATCH)]

    def top1(keep):
        said = np.concatenate([guesses(batch, tf.constant(keep)) for batch in batches])
        return float(np.mean(said == seen.labels))

    return top1
