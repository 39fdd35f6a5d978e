"""Which image is sample number i of a run: a function of the seed and i alone."""

import numpy as np
import tensorflow as tf


def make_order(labels, seed, *, repeats=1, balanced=False):
    """A function of the global sample number (int64) to the number of an image (int64).

    Args:
        labels: int `(n,)`, the class of each image.
        seed: the run's.
        repeats: an image is shown this many times in a row (repeated augmentation,
            arXiv:1902.05509), so that a pass takes as many times the steps.
        balanced: whether all classes come equally often, however many images they have.
    """
    draw = _balanced(labels, seed) if balanced else _passes(len(labels), seed)
    return lambda i: draw(i // repeats)


def _passes(count, seed):
    """Each pass over the images has its own order and shows every image once."""
    return lambda i: _shuffled(i, count, seed)


def _balanced(labels, seed):
    """Rounds of one image of each class, the classes in an order of the round's own; each class
    goes through its images in passes of its own."""
    labels = np.asarray(labels)
    classes, counts = np.unique(labels, return_counts=True)
    streams = len(classes) + 1  # the classes', and one for the order that they come in
    members = tf.constant(np.argsort(labels, kind="stable"))  # class by class
    starts = tf.constant(np.cumsum(counts) - counts)
    counts = tf.constant(counts)

    def draw(i):
        k = _shuffled(i, len(classes), seed, 0, streams)
        return members[starts[k] + _shuffled(i // len(classes), counts[k], seed, k + 1, streams)]

    return draw


def _shuffled(i, count, seed, stream=0, streams=1):
    """The place, below `count`, of the i-th of endless draws that take all before any again.

    Each of the `streams` has an order of its own in each of its passes.
    """
    turn = i // count * streams + stream
    return tf.random.experimental.index_shuffle(
        i % count, seed=tf.stack([tf.constant(seed, tf.int64), turn]), max_index=count - 1
    )
