"""The order of the samples: the image of sample i depends only on the seed and i."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf


def make_order(
    labels: np.ndarray, seed: int, *, repeats: int = 1, balanced: bool = False
) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function from global sample numbers to image numbers; int64 of any shape.

    It consists of about a thousand small operations: call it with many numbers at once.

    Args:
        labels: int `(n,)`, the class of each image.
        seed: seed of the run.
        repeats: number of consecutive samples of one image (repeated augmentation,
            arXiv:1902.05509); a pass then takes this many times the steps.
        balanced: whether to sample all classes equally often, regardless of their sizes.
    """
    draw = _balanced(labels, seed) if balanced else _passes(len(labels), seed)
    return lambda i: draw(i // repeats)


def _passes(count: int, seed: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """Each pass over the images has its own order and includes every image once."""
    return lambda i: _shuffled(i, count, seed)


def _balanced(labels: np.ndarray, seed: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """Rounds with one image of each class, in an order that differs by round; each class has its
    own passes over its images."""
    labels = np.asarray(labels)
    classes, counts = np.unique(labels, return_counts=True)
    streams = len(classes) + 1  # one per class, and one for the order of the classes
    members = tf.constant(np.argsort(labels, kind="stable"))  # sorted by class
    starts = tf.constant(np.cumsum(counts) - counts)
    counts = tf.constant(counts)

    def draw(i: tf.Tensor) -> tf.Tensor:
        k = _shuffled(i, len(classes), seed, 0, streams)
        count = tf.gather(counts, k)
        place = _shuffled(i // len(classes), count, seed, k + 1, streams)
        return tf.gather(members, tf.gather(starts, k) + place)

    return draw


def _shuffled(
    i: tf.Tensor, count: int | tf.Tensor, seed: int, stream: int | tf.Tensor = 0, streams: int = 1
) -> tf.Tensor:
    """The i-th number of an endless sequence of shuffled passes over 0 to `count` - 1.

    Each of the `streams` has a different order in each of its passes.
    """
    turn = i // count * streams + stream
    return _permuted(i % count, count, _hash(_hash(tf.convert_to_tensor(seed, tf.int64)) + turn))


# The place of an item among 1.28 million is then uniform to 1e-7: half of sqrt(n / 2^rounds).
_ROUNDS = 64


def _permuted(x: tf.Tensor, count: int | tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """The image of `x`, below `count`, under a permutation selected by the 64-bit `key`.

    The swap-or-not shuffle (Hoang, Morris and Rogaway 2012, arXiv:1208.1176): each round pairs x
    with s - x modulo `count`, and a hash of the pair decides whether the two are swapped. It needs
    no table and works for any `count`. (tf.random.experimental.index_shuffle reduces its seed to 8
    bits.)
    """
    count = tf.cast(count, tf.int64)
    rounds = tf.reshape(tf.range(_ROUNDS, dtype=tf.int64), [-1] + [1] * x.shape.rank)
    keys = _hash(key + rounds * _GOLDEN)  # (rounds, *shape of x)
    sums = keys % count

    def swap_or_not(n: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        partner = sums[n] - x
        partner = tf.where(partner < 0, partner + count, partner)
        swap = _hash(tf.maximum(x, partner) ^ keys[n]) < 0  # one of its bits: the sign
        return n + 1, tf.where(swap, partner, x)

    return tf.while_loop(lambda n, _: n < _ROUNDS, swap_or_not, (0, x))[1]


_GOLDEN = -0x61C8864680B583EB  # 2^64 divided by the golden ratio, as int64


def _hash(number: tf.Tensor) -> tf.Tensor:
    """SplitMix64 (Steele, Lea and Flood 2014): int64 to int64, a bijection that mixes all bits."""
    z = tf.bitcast(number + _GOLDEN, tf.uint64)
    z = (z ^ tf.bitwise.right_shift(z, _uint64(30))) * _uint64(0xBF58476D1CE4E5B9)
    z = (z ^ tf.bitwise.right_shift(z, _uint64(27))) * _uint64(0x94D049BB133111EB)
    return tf.bitcast(z ^ tf.bitwise.right_shift(z, _uint64(31)), tf.int64)


def _uint64(number: int) -> tf.Tensor:
    return tf.constant(number, tf.uint64)
