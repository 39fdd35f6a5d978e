"""Every pass shows every image once, in an order that all 64 bits of the seed decide."""

from collections import Counter
from functools import cache
from itertools import permutations

import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.data.order import _hash, _permuted, make_order

SIZES = [1, 2, 3, 4, 5, 7, 8, 10, 31, 64, 100, 1000, 1023, 4099]


def _order(count, seed, passes=1):
    """The images of the first passes: `(passes, count)`."""
    samples = tf.range(passes * count, dtype=tf.int64)
    order = _compiled(count)(samples, tf.constant(seed, tf.int64))
    return order.numpy().reshape(passes, count)


@cache
def _compiled(count):
    """Once for all seeds: operation by operation, a thousand orders would take minutes."""
    signature = (tf.TensorSpec([None], tf.int64), tf.TensorSpec([], tf.int64))

    @tf.function(input_signature=signature, autograph=False)
    def place(samples, seed):
        return make_order(np.zeros(count, int), seed)(samples)

    return place


def _orders(count, keys):
    """The order of `count` items under each of so many keys: `(keys, count)`."""
    items = tf.range(count, dtype=tf.int64)[None, :] + tf.zeros([keys, 1], tf.int64)
    key = _hash(tf.range(keys, dtype=tf.int64))[:, None]
    return _permuted(items, count, key).numpy()


@pytest.mark.parametrize("count", SIZES)
def test_every_pass_is_a_permutation(count):
    assert (np.sort(_order(count, seed=7, passes=4)) == np.arange(count)).all()


@pytest.mark.parametrize("other", [263, 7 + 2**31, 7 + 2**62], ids=["+ 2^8", "+ 2^31", "+ 2^62"])
def test_a_seed_counts_to_its_last_bit(other):
    assert (_order(1000, 7) != _order(1000, other)).mean() > 0.98


def test_a_thousand_seeds_give_a_thousand_orders():
    assert len({_order(20, seed).tobytes() for seed in range(1000)}) == 1000


def test_each_pass_has_an_order_of_its_own():
    assert len({order.tobytes() for order in _order(20, 3, passes=1000)}) == 1000


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_all_orders_of_a_few_items_are_equally_likely(count):
    orders = Counter(map(tuple, _orders(count, keys=24_000).tolist()))
    possible = list(permutations(range(count)))
    expected = 24_000 / len(possible)
    chi_square = sum((orders[order] - expected) ** 2 / expected for order in possible)
    freedom = len(possible) - 1
    assert chi_square < freedom + 4 * np.sqrt(2 * freedom)


@pytest.mark.parametrize("count", [6, 13, 16, 33])
def test_a_pair_of_places_holds_any_pair_of_items_equally_often(count):
    orders = _orders(count, keys=20_000)
    for first, second in ((0, 1), (0, count - 1), (count // 2, count // 2 + 1)):
        pairs = np.bincount(orders[:, first] * count + orders[:, second], minlength=count**2)
        pairs = pairs.reshape(count, count)
        assert (pairs.diagonal() == 0).all()
        expected, freedom = 20_000 / (count * (count - 1)), count * (count - 1) - 1
        chi_square = ((pairs - expected) ** 2 / expected).sum() - count * expected
        assert abs(chi_square - freedom) < 4.5 * np.sqrt(2 * freedom)


@pytest.mark.parametrize("count", [100, 1000, 50_000])
def test_place_and_item_do_not_correlate(count):
    orders = _order(count, seed=11, passes=20)
    for shift in (0, 1):  # with the place, and with the item before
        ahead, behind = (np.arange(count), orders) if not shift else (orders[:, 1:], orders[:, :-1])
        found = [np.corrcoef(a, b)[0, 1] for a, b in zip(np.broadcast_to(ahead, behind.shape),
                                                        behind, strict=True)]  # fmt: skip
        assert np.abs(found).max() < 4.5 / np.sqrt(count)
    passes = np.corrcoef(orders)[np.triu_indices(20, 1)]
    assert np.abs(passes).max() < 4.5 / np.sqrt(count)


def test_a_sample_is_found_alone_as_among_others():
    place = make_order(np.zeros(1437, int), 7)
    together = place(tf.range(10**9, 10**9 + 50, dtype=tf.int64)).numpy()
    alone = [place(tf.constant(10**9 + n, tf.int64)).numpy() for n in range(0, 50, 10)]
    assert together[::10].tolist() == alone


def test_classes_of_a_balanced_order_go_through_their_images_in_different_orders():
    labels = np.repeat([0, 1], 40)
    place = make_order(labels, 5, balanced=True)
    shown = place(tf.range(160, dtype=tf.int64)).numpy()
    first, second = shown[labels[shown] == 0], shown[labels[shown] == 1] - 40
    passes = [*first.reshape(2, 40), *second.reshape(2, 40)]
    assert all((np.sort(order) == np.arange(40)).all() for order in passes)
    assert len({order.tobytes() for order in passes}) == 4


@pytest.mark.parametrize("count", [1, 2, 7, 31])
def test_an_order_is_the_swap_or_not_shuffle_of_the_paper(count):
    """Written again, with Python's integers, after arXiv:1208.1176, algorithm 2, in 64 rounds."""
    key = _splitmix(_splitmix(7) + 1)  # of the second pass
    keys = [_splitmix(key + n * -0x61C8864680B583EB) for n in range(64)]

    def place(x):
        for key in keys:
            partner = (key - x) % count
            if _splitmix(max(x, partner) ^ key) < 0:
                x = partner
        return x

    assert _order(count, 7, passes=2)[1].tolist() == list(map(place, range(count)))


def _splitmix(number):
    return int(_hash(tf.constant((number + 2**63) % 2**64 - 2**63, tf.int64)))


def test_the_hash_is_splitmix64s():
    """The first outputs of its generator from state 1234567, as in its authors' C."""
    golden, published = 0x9E3779B97F4A7C15, [
        6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431,
        16408922859458223821,
    ]  # fmt: skip
    states = [(1234567 + n * golden) % 2**64 for n in range(5)]
    found = _hash(tf.constant(np.array(states, np.uint64).view(np.int64))).numpy().view(np.uint64)
    assert found.tolist() == published
