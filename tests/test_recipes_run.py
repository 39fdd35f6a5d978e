"""Each recipe trains; early stopping and the time limit end a run."""

import csv
import json

import keras
import numpy as np
import pytest

from keras_resnet.data import sources
from keras_resnet.recipes import RECIPES, resolve
from keras_resnet.run import Run
from keras_resnet.training import schedule
from keras_resnet.training.history import History
from keras_resnet.training.precision import Precision
from keras_resnet.training.step import Evaluation, training_batches
from keras_resnet.training.train import make_step, train

_NUMBERS = ("loss", "top1", "val_loss", "val_top1", "images_per_second")
_ROW = {**dict.fromkeys(_NUMBERS, 0.0), "weights": "raw"}


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
    rate = schedule.learning_rate(config, 20)
    step = make_step(model, config, digits, rate, Precision("float32", "test"))
    size = schedule.training_size(config, config.side)
    before = step.model.get_weights()
    batches = iter(training_batches(digits, config, size=size, first_step=0, last_step=3))
    assert np.isfinite(step(batches, 3).loss).all()
    after = step.model.get_weights()
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


def test_a_run_whose_time_is_up_is_judged_and_finished(photos, tmp_path, capsys, no_pictures):
    run = train(
        str(photos), run_folder=tmp_path / "run", recipe="rsb-a3", model="resnet8", epochs=100,
        image_size=24, batch_size=8, accumulate=2, balance="loss", max_minutes=1e-6,
    )  # fmt: skip
    with open(run.file("history.csv"), newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["epoch"] == "1" and row["image_size"] == "24"
    assert run.metrics["val"]["images"] == 12 and run.file("manifest.json").exists()
    said = capsys.readouterr().err
    assert "--max-minutes 1e-06: time limit reached" in said
    assert "optimizer lamb" in said and "other settings: --accumulate 2, --balance loss" in said
    assert "learning rate 0.000707: 0.008 for a batch of 2,048 images, scaled" in said


def _recorded(folder, config, scores, sizes):
    """A history of epochs with these (top-1, loss), trained at these sizes."""
    history = History(Run(folder), config)
    for epoch, (score, size) in enumerate(zip(scores, sizes, strict=True), 1):
        row = _ROW | {"epoch": epoch, "image_size": size}
        history.record(row, Evaluation(loss=score[1], top1=score[0], macro_top1=score[0]))
    return history


@pytest.mark.parametrize(
    ("scores", "small", "best", "ends"),
    [
        ([(0.5, 1.0)], 0, 1, False),
        ([(0.5, 1.0), (0.5, 1.0), (0.4, 0.9)], 0, 1, True),
        ([(0.5, 1.0), (0.5, 0.9), (0.4, 0.1)], 0, 2, False),
        ([(0.9, 1.0), (0.1, 2.0), (0.1, 2.0)], 3, 1, False),
        ([(0.9, 1.0), (0.1, 2.0), (0.2, 2.0)], 1, 1, True),
    ],
    ids=["one", "equals are no better", "a lower loss is", "epochs at small sizes do not count",
         "those at the full size do"],
)  # fmt: skip
def test_patience_counts_epochs_at_full_size_since_the_best(scores, small, best, ends, tmp_path):
    config = resolve({"patience": 2, "image_size": 64, "epochs": 9})
    sizes = [32] * small + [64] * (len(scores) - small)
    history = _recorded(tmp_path, config, scores, sizes)
    assert history.best_epoch == best
    assert history.is_out_of_patience() == ends


def test_patience_ends_the_run_where_an_unbroken_one_would_have_ended(tmp_path, capsys):
    config = resolve({"patience": 2, "image_size": 64, "epochs": 9})
    scores = [(0.5, 1.0), (0.6, 1.0), (0.6, 1.1), (0.5, 1.0), (0.7, 1.0)]

    def stops(count):
        before = _recorded(tmp_path, config, scores[:count], [64] * count)
        resumed = History(Run(tmp_path), config)
        resumed.restore(json.loads(json.dumps(before.state())))
        return resumed.is_out_of_patience()

    assert [stops(count) for count in (1, 2, 3, 4)] == [False, False, False, True]
    err = capsys.readouterr().err
    assert "no new best in the last 2 epochs; training ends after epoch 4 of 9" in err


def test_a_resumed_run_knows_how_good_its_best_epoch_was(tmp_path):
    config = resolve({"image_size": 64, "epochs": 9})
    resumed = History(Run(tmp_path), config)
    resumed.restore(json.loads(json.dumps(_recorded(tmp_path, config, [(0.6, 1)], [64]).state())))
    for epoch, top1, best in ((2, 0.5, 1), (3, 0.7, 3)):
        row = _ROW | {"epoch": epoch, "image_size": 64}
        resumed.record(row, Evaluation(loss=1.0, top1=top1, macro_top1=top1))
        assert (resumed.best_epoch, resumed.is_best) == (best, best == epoch)


def test_macro_top1_chooses_the_best_epoch_on_request(tmp_path):
    """Of ninety cats and ten dogs, a network that knows cats alone is not the better one."""
    for best_by, best in (("top1", 1), ("macro_top1", 2), ("last", 3)):
        history = History(Run(tmp_path), resolve({"best_by": best_by}))
        for epoch, (top1, macro) in enumerate([(0.9, 0.5), (0.8, 0.8), (0.7, 0.7)], 1):
            row = _ROW | {"epoch": epoch, "image_size": 32}
            history.record(row, Evaluation(loss=1.0, top1=top1, macro_top1=macro))
        assert history.best_epoch == best
