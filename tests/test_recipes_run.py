"""Every recipe runs: its images, its loss, its optimizer; and the runs that end early."""

import csv
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from keras_resnet.data import sources
from keras_resnet.data.stream import training_stream
from keras_resnet.recipes import RECIPES, resolve
from keras_resnet.training import schedule, stopping
from keras_resnet.training.fit import compile_model, train


@pytest.fixture(scope="module")
def digits():
    return sources.load("digits", val_split=0.9)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_trains(recipe, digits):
    """Three steps of a net of one convolution, which takes a second where a ResNet takes ten."""
    config = resolve({"recipe": recipe, "batch_size": 8, "image_size": 16, "seed": 1})
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            keras.layers.Rescaling(1 / 127.5, -1.0),
            keras.layers.Conv2D(8, 3),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(10, name="logits"),
        ]
    )
    compile_model(model, config, digits, schedule.learning_rate(config, 20))
    size = schedule.training_size(config, config.side, 8)
    before = model.get_weights()
    for images, targets in training_stream(digits, config, size=size, first_step=0, last_step=3):
        assert images.shape == (8, size, size, 3)
        assert np.isfinite(model.train_on_batch(images, targets)).all()
    after = model.get_weights()
    assert all(np.isfinite(w).all() for w in after)
    assert not any(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [name for name in RECIPES if name != "finetune"])
def test_a_recipe_leaves_a_whole_run(recipe, photos, tmp_path):
    run = train(
        str(photos), run_folder=tmp_path / "run", recipe=recipe, epochs=1, image_size=16,
        batch_size=8, val_split=0.2,
    )  # fmt: skip
    assert run.metrics["val"]["images"] == 12


def test_a_run_whose_time_is_up_is_judged_and_finished(photos, tmp_path, capsys):
    run = train(
        str(photos), run_folder=tmp_path / "run", recipe="rsb-a3", epochs=100, image_size=24,
        batch_size=8, accumulate=2, balance="loss", max_minutes=1e-6,
    )  # fmt: skip
    with open(run.file("history.csv"), newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["epoch"] == "1" and row["image_size"] == "24"
    assert run.metrics["val"]["images"] == 12 and run.file("manifest.json").exists()
    said = capsys.readouterr().err
    assert "--max-minutes 1e-06: time is up" in said
    assert "optimizer lamb" in said and "besides: accumulate 2, balance loss" in said
    assert "learning rate 0.000707: 0.008 for a batch of 2,048 images, scaled" in said


def _rows(*scores, size=64):
    return [{"val_top1": top1, "val_loss": loss, "image_size": size} for top1, loss in scores]


@pytest.mark.parametrize(
    ("rows", "waited"),
    [
        ([], 0),
        (_rows((0.5, 1.0)), 0),
        (_rows((0.5, 1.0), (0.5, 1.0), (0.4, 0.9)), 2),
        (_rows((0.5, 1.0), (0.5, 0.9), (0.4, 0.1)), 1),
        (_rows((0.9, 1.0), (0.1, 2.0), size=32), 0),
        (_rows((0.9, 1.0), size=32) + _rows((0.1, 2.0), (0.2, 2.0), (0.1, 2.0)), 1),
    ],
    ids=["none", "one", "equals are no better", "a lower loss is", "small images do not count",
         "only the full size counts"],
)  # fmt: skip
def test_epochs_since_the_best_are_counted_in_the_rows(rows, waited):
    assert stopping.epochs_since_best(rows, 64) == waited


def test_patience_ends_the_run_where_an_unbroken_one_would_have_ended(capsys):
    config = resolve({"patience": 2, "image_size": 64, "epochs": 9})
    scores = [(0.5, 1.0), (0.6, 1.0), (0.6, 1.1), (0.5, 1.0), (0.7, 1.0)]

    class Done:
        def __init__(self, count):
            self.rows = _rows(*scores[:count])

    def stops(count):
        (watcher,) = stopping.watchers(Done(count), config)  # as new, as after a resume
        watcher.set_model(SimpleNamespace(stop_training=False))
        watcher.on_epoch_end(count - 1)
        return watcher.model.stop_training

    assert [stops(count) for count in (1, 2, 3, 4)] == [False, False, False, True]
    assert "no new best in the last 2 epochs; ends after epoch 4 of 9" in capsys.readouterr().err
