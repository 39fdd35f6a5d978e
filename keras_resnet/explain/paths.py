"""A residual network as the sum of its paths: how long they are, and which carry the gradient.

Veit et al. 2016, arXiv:1605.06431, sections 3 and 5.
"""

import math

import numpy as np
import tensorflow as tf

from keras_resnet.errors import InputError
from keras_resnet.evaluation.reference import true_float32
from keras_resnet.explain.flow import Flow, cross_entropy, kept
from keras_resnet.progress import track
from keras_resnet.state import isolated


@isolated()
@true_float32()
def paths(model, images, labels, *, samples=10, seed=0, batch_statistics=False):
    """The gradient that reaches the first block, by the number of branches it passed.

    A network of n blocks has 2^n paths from its first block to its logits: at each sum a path
    comes from the branch or from the shortcut. binom(n, k) of them pass k branches. For each k,
    `samples` paths are drawn; backwards, each lets the gradient through its own side of every sum
    alone, while the forward pass stays whole.

    Args:
        model: a functional `keras.Model` with residual blocks.
        images: `(b, h, w, 3)` in [0, 255].
        labels: int `(b,)`.
        samples: paths for each length.
        seed: decides which.
        batch_statistics: normalise by the batch's own statistics; for a network that was not
            trained yet.

    Returns:
        A dict ready for JSON: `name`, `blocks`: n, `images`, `samples`, `total_norm`: of the whole
        gradient; `effective`: {shortest, longest}, the lengths that hold the middle 95 % of
        `share_of_gradient`; `lengths`: {length, share_of_paths, gradient_norm, share_of_gradient},
        where `gradient_norm` is the mean over sampled paths of |dJ/dx| at the first block's input,
        and `share_of_gradient` that times the number of paths, of its sum over all lengths. Norms
        add up to more than the norm of a sum: paths that disagree count in full.

    Raises:
        InputError: a network without shortcuts.
    """
    if samples < 1:
        raise InputError(f"--samples is {samples}; expected at least 1")
    flow = Flow(model)
    n = len(flow.blocks)
    if flow.blocks[0].kind == "plain":
        raise InputError(f"{model.name} has no shortcuts: it is one path of {n} blocks")
    gradient = along(flow, images, labels, batch_statistics=batch_statistics)
    rng = np.random.default_rng(seed)
    with kept(model):
        norms = [
            np.mean([_norm(gradient(_draw(rng, n, k))) for _ in range(samples)])
            for k in track(range(n + 1), n + 1, f"paths of {model.name}", "lengths")
        ]
        total = _norm(gradient(None))
    counts = [math.comb(n, k) for k in range(n + 1)]
    carried = np.array([count / 2**n * norm for count, norm in zip(counts, norms, strict=True)])
    shares = carried / max(carried.sum(), 1e-300)
    within = np.cumsum(shares)
    return {
        "name": model.name,
        "blocks": n,
        "images": len(labels),
        "samples": samples,
        "total_norm": total,
        "effective": {
            "shortest": int(np.searchsorted(within, 0.025)),
            "longest": int(np.searchsorted(within, 0.975)),
        },
        "lengths": [
            {
                "length": k,
                "share_of_paths": counts[k] / 2**n,
                "gradient_norm": float(norms[k]),
                "share_of_gradient": float(shares[k]),
            }
            for k in range(n + 1)
        ],
    }


def along(flow, images, labels, *, batch_statistics=False):
    """A function that gives the gradient at the first block's input along one path.

    Its argument is float `(blocks,)`: 1 where the path takes the branch, 0 where it takes the
    shortcut; None is all paths together, the gradient as it is.
    """
    images = tf.cast(images, tf.float32)
    number = {block.name: i for i, block in enumerate(flow.blocks)}

    @tf.function
    def gradient(takes):
        entrance = []

        def join(block, x, shortcut, branch):
            entrance.append(x)
            if takes is None:
                return shortcut + branch
            through = takes[number[block.name]]
            # The value is the sum, whatever the path; the gradient has one way back.
            value = tf.stop_gradient(shortcut + branch)
            by_branch = through * (branch - tf.stop_gradient(branch))
            return value + by_branch + (1 - through) * (shortcut - tf.stop_gradient(shortcut))

        with tf.GradientTape() as tape:
            tape.watch(images)
            logits = flow.run(images, join, batch_statistics=batch_statistics)
            loss = cross_entropy(logits, labels)
        return tape.gradient(loss, entrance[0])

    return lambda takes: gradient(None if takes is None else tf.constant(takes, tf.float32))


def _draw(rng, n, k):
    takes = np.zeros(n, np.float32)
    takes[rng.choice(n, k, replace=False)] = 1
    return takes


def _norm(gradient):
    return float(np.linalg.norm(np.asarray(gradient, np.float64).ravel()))
