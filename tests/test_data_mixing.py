"""MixUp and CutMix: pixels and targets agree, and each batch is a function of its seed."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from keras_resnet.data.mixing import _beta, make_mixer

SIZE = 16


def _batch(values=(10, 60, 110, 160)):
    """Images of one value each, a class each."""
    images = np.stack([np.full((SIZE, SIZE, 3), value, np.uint8) for value in values])
    return tf.constant(images), tf.eye(len(values))


def _mixes(mixup, cutmix, count=60):
    images, targets = _batch()
    mixer = tf.function(make_mixer(mixup, cutmix))
    for number in range(count):
        mixed, goals = mixer(images, targets, tf.constant([3, number], tf.int64))
        assert mixed.dtype == tf.uint8 and mixed.shape == images.shape
        yield mixed.numpy().astype(float), goals.numpy()


def _share_of_first(pixels):
    """What the mean pixel says of how much of image 10 there is beside its partner, 160."""
    return (160 - pixels.mean()) / 150


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.2, 0), (0, 1.0), (0.2, 1.0), (5.0, 0)])
def test_targets_say_how_much_of_each_image_there_is(mixup, cutmix):
    shares = []
    for images, targets in _mixes(mixup, cutmix):
        np.testing.assert_allclose(targets.sum(-1), 1, atol=1e-6)
        np.testing.assert_allclose(targets[0, 0], _share_of_first(images[0]), atol=0.5 / 150)
        np.testing.assert_allclose(targets[0, 3], 1 - targets[0, 0], atol=1e-6)
        np.testing.assert_allclose(targets[3, 3], targets[0, 0], atol=1e-6)
        shares.append(targets[0, 0])
    assert len(set(shares)) > 20


def test_mixup_blends_every_pixel_alike_and_cutmix_puts_a_whole_box():
    for images, _ in _mixes(1.0, 0):
        assert np.ptp(images[0]) == 0
    for images, targets in _mixes(0, 1.0):
        assert set(np.unique(images[0])) <= {10, 160}
        rows, columns = np.nonzero(images[0, :, :, 0] == 160)
        if len(rows):
            box = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
            assert box == len(rows) == round((1 - targets[0, 0]) * SIZE**2)


def test_the_box_has_the_images_aspect_ratio_and_comes_anywhere():
    """Also in images that are not square: 16 high and 32 wide."""
    images = tf.constant(np.stack([np.full((16, 32, 3), v, np.uint8) for v in (10, 160)]))
    mixer, covered = tf.function(make_mixer(0, 1.0)), np.zeros((16, 32), int)
    for number in range(150):
        mixed, _ = mixer(images, tf.eye(2), tf.constant([3, number], tf.int64))
        inside = mixed[0, :, :, 0].numpy() == 160
        covered += inside
        rows, columns = map(np.flatnonzero, (inside.any(1), inside.any(0)))
        is_whole = len(rows) and min(rows[0], columns[0]) > 0 and rows[-1] < 15 and columns[-1] < 31
        if is_whole:  # not cut off at a border
            assert abs(len(columns) - 2 * len(rows)) <= 3  # each side is rounded
    assert covered.min() > 5


def test_of_both_each_batch_takes_one_and_each_comes_up():
    blended = [set(np.unique(images[0])) - {10, 160} != set() for images, _ in _mixes(1.0, 1.0)]
    assert 15 < sum(blended) < 45


@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0, 4.0])
def test_the_share_is_beta_distributed(alpha):
    draw = tf.function(lambda n: _beta(alpha, tf.stack([5, n])))
    shares = np.array([draw(tf.constant(n, tf.int64)).numpy() for n in range(400)])
    assert np.isfinite(shares).all()
    if alpha == 0.01:  # nearly all are 0 or 1, in float32 exactly
        assert (
            0.4 < (shares > 0.5).mean() < 0.6 and ((shares < 0.01) | (shares > 0.99)).mean() > 0.9
        )
    else:
        assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_a_batch_without_either_is_left_alone():
    assert make_mixer(0.0, 0.0) is None
