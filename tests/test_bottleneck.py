"""What limits a run: told by the two speeds, each measured where it is."""

import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import tensorflow as tf

from keras_resnet import recipes
from keras_resnet.training import bottleneck


@pytest.mark.parametrize(
    ("delivered", "taken", "limit"),
    [(1000, 100, "arithmetic"), (1000, 790, "arithmetic"), (1000, 810, "input"), (50, 60, "input")],
)
def test_the_one_that_the_training_keeps_up_with_limits(delivered, taken, limit):
    line = bottleneck.verdict(delivered, taken, recipes.resolve())
    assert f"the {limit} limits" in line and "--randaugment" not in line
    assert f"delivers {delivered:,} images/s, training takes {taken:,}" in line


def test_the_knob_fits_the_recipe():
    config = recipes.resolve({"recipe": "rsb-a2"})
    assert "a lower --randaugment" in bottleneck.verdict(100, 100, config)
    assert "a lower --randaugment" not in bottleneck.verdict(100, 10, config)
    trivial = replace(config, randaugment=(0, 0.0), trivialaugment=True)
    assert "--no-trivialaugment" in bottleneck.verdict(100, 100, trivial)


def test_the_input_is_measured_by_itself():
    def slow(i):
        return tf.numpy_function(lambda n: (time.sleep(0.02), n)[1], [i], tf.int64)

    batches = tf.data.Dataset.range(8).map(slow)
    # A sleep is never shorter than was asked for.
    assert 0 < bottleneck.images_per_second(batches, 32) <= 32 / 0.02


def test_it_is_told_once_after_the_first_epoch(capsys):
    watcher = bottleneck.Bottleneck(tf.data.Dataset.range(200), recipes.resolve())
    watcher.set_model(SimpleNamespace())
    for _ in range(2):  # two segments of a run
        watcher.on_train_begin()
        for epoch in range(2):
            watcher.on_epoch_begin(epoch)
            for step in range(3):
                watcher.on_train_batch_end(step)
                time.sleep(0.01)
            watcher.on_test_begin()
    assert capsys.readouterr().err.count("the input alone delivers") == 1
