"""The training loop: callbacks, logs, evaluation, and where it can be interrupted."""

import contextlib
import csv
import io
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet import recipes
from keras_resnet import run as runs
from keras_resnet.checkpoint_notes import peek
from keras_resnet.config import Config
from keras_resnet.errors import CheckFailed, InputError
from keras_resnet.training import loop, schedule
from keras_resnet.training.checkpoint import Checkpoint
from keras_resnet.training.history import History, time_shares
from keras_resnet.training.loop import Loop
from keras_resnet.training.step import Evaluation, Steps
from keras_resnet.training.train import train

pytestmark = pytest.mark.usefixtures("no_pictures")
SMALL = {"model": "resnet8", "image_size": 16, "batch_size": 6, "epochs": 2, "seed": 3}  # 8 steps


class Recorder(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.calls = []

    def on_train_begin(self, logs=None):
        self.calls.append(("begin", self.params["epochs"], self.params["steps"]))

    def on_epoch_begin(self, epoch, logs=None):
        self.calls.append(("epoch", epoch))

    def on_train_batch_end(self, batch, logs=None):
        self.calls.append(("batch", batch, sorted(logs)))

    def on_epoch_end(self, epoch, logs=None):
        self.calls.append(("epoch end", epoch, logs["val_loss"] > 0))

    def on_train_end(self, logs=None):
        self.calls.append(("end",))


@pytest.fixture(scope="module")
def watched(photos, undrawn, tmp_path_factory):
    """A run of four epochs of 8 steps, the first at half the size, and what was seen of it."""
    recorder, err, seen, left = Recorder(), io.StringIO(), [], {}
    evaluate, note = loop.Evaluator.__call__, Loop._note

    def record_evaluation(self, weights):
        seen.append(self._batches.element_spec[0].shape[1:])
        return evaluate(self, weights)

    def record_note(self, means):
        if compiling := self._call_seconds[:-1]:  # no estimate after the first call
            spent = self.seconds["input"] + self.seconds["compute"] - compiling[0]
            left[self.step] = self._seconds_left() / spent
        return note(self, means)

    settings = {**SMALL, "image_size": 32, "epochs": 4, "size_steps": [[0.25, 0.5], [0.75, 1.0]]}
    with pytest.MonkeyPatch.context() as patched, undrawn(), contextlib.redirect_stderr(err):
        patched.setattr(loop.Evaluator, "__call__", record_evaluation)
        patched.setattr(Loop, "_note", record_note)
        run = train(str(photos), run_folder=tmp_path_factory.mktemp("watched") / "run",
                    callbacks=[recorder], **settings)  # fmt: skip
    return SimpleNamespace(
        run=run, calls=recorder.calls, err=err.getvalue(), evaluated=seen, left=left
    )


def test_callbacks_are_called_as_by_fit(watched):
    kinds = Counter(call[0] for call in watched.calls)
    assert watched.calls[0] == ("begin", 4, 8) and watched.calls[-1] == ("end",)
    assert kinds["epoch"] == kinds["epoch end"] == 4
    batches = [call[1] for call in watched.calls if call[0] == "batch"]
    assert batches[:3] == [0, 1, 2] and batches.count(7) == 4  # and calls of several steps between
    assert ("batch", 7, ["cross_entropy", "loss", "top1"]) in watched.calls
    assert ("epoch end", 3, True) in watched.calls


def test_the_learning_rate_of_an_epoch_is_that_of_its_last_step(watched):
    rate = schedule.learning_rate(watched.run.config, 8)
    with open(watched.run.file("history.csv"), newline="") as file:
        found = [float(row["learning_rate"]) for row in csv.DictReader(file)]
    assert found == pytest.approx([float(rate(step)) for step in (7, 15, 23, 31)])
    assert found[-1] > 0 == float(rate(32))


def test_the_remaining_time_has_no_60_seconds(monkeypatch):
    monkeypatch.setattr(Loop, "_seconds_left", lambda self: 3599.7)
    monkeypatch.setattr(Loop, "_speed", lambda self: 100.0)
    training = object.__new__(Loop)
    training._call_seconds = [1.0, 1.0]
    said = training._note({"cross_entropy": 1.0, "top1": 0.5})
    assert said == "loss 1.000  top-1 50.0%  100 images/s  1:00:00 remaining"


def test_keras_own_callbacks_work(photos, tmp_path):
    """Those people use: a log, a saved model, an end before the end."""
    callbacks = [
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        keras.callbacks.ModelCheckpoint(tmp_path / "model.keras"),
        keras.callbacks.EarlyStopping("val_loss", patience=0, min_delta=1000),
    ]
    run = train(
        str(photos), run_folder=tmp_path / "run", callbacks=callbacks, **{**SMALL, "epochs": 9}
    )
    with open(run.file("history.csv"), newline="") as file:
        assert len(list(csv.DictReader(file))) == 2  # min_delta is never reached
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"] and float(rows[1]["val_top1"]) >= 0
    saved = keras.models.load_model(tmp_path / "model.keras")
    assert saved.output_shape == (None, 3)
    # Keras opens it without this package, too; it has the weights of the last epoch.
    code = (
        "import sys, keras, numpy as np\n"
        f"model = keras.saving.load_model({str(tmp_path / 'model.keras')!r})\n"
        "assert 'keras_resnet' not in sys.modules\n"
        "print(model(np.full((1, 16, 16, 3), 99.0), training=False).numpy().tolist())"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = callbacks[0].model(np.full((1, 16, 16, 3), 99.0), training=False).numpy().tolist()
    assert np.allclose(json.loads(done.stdout), expected, atol=1e-5)


@pytest.mark.parametrize(
    "callback",
    [
        keras.callbacks.LearningRateScheduler(lambda epoch: 0.1),
        keras.callbacks.ReduceLROnPlateau("val_loss"),
    ],
)
def test_a_callback_that_sets_the_learning_rate_is_refused(callback, photos, tmp_path):
    kind = type(callback).__name__
    with pytest.raises(InputError, match=f"callbacks has a {kind}, but .* set learning_rate"):
        train(str(photos), run_folder=tmp_path / "run", callbacks=callback, **SMALL)
    assert not list(tmp_path.iterdir())


def test_what_is_no_callback_is_refused_before_a_folder_is_made(photos, tmp_path):
    with pytest.raises(InputError, match="callbacks has 'a'; expected objects of keras"):
        train(str(photos), run_folder=tmp_path / "run", callbacks=["a"], **SMALL)
    assert not list(tmp_path.iterdir())


def test_how_many_steps_a_call_does_changes_no_bit(photos, tmp_path, monkeypatch):
    """A call ends at each checkpoint and with its epoch, however many steps would fit into it."""
    weights, counts, call = [], [], loop.TrainStep.__call__

    def counted(self, batches, count=1):
        counts[-1].append(count)
        return call(self, batches, count)

    monkeypatch.setattr(loop.TrainStep, "__call__", counted)
    for name, seconds in (("one", 0.0), ("many", 1e9)):
        monkeypatch.setattr(loop, "CALL_SECONDS", seconds)
        counts.append([])
        run = train(str(photos), run_folder=tmp_path / name, drop_path=0.2, mixup=0.2,
                    checkpoint_every=5, **SMALL)  # fmt: skip
        weights.append(run.model().get_weights())
    # 8 steps an epoch; 5, 10 and 15 are saved; of the first three calls the time is taken.
    assert counts == [[1] * 16, [1, 1, 1, 2, 3, 2, 5, 1]]
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_epoch_is_validated_at_the_size_that_is_delivered(watched):
    """Else the best epoch would be one whose number nobody can get from the model."""
    assert watched.evaluated == [(32, 32, 3)] * 4
    lines = [line for line in watched.err.splitlines() if line.startswith("epoch  ")]
    assert "trained at 16 pixels" in lines[0] and "trained at" not in lines[1]


def test_tensorboard_has_the_steps_the_epochs_and_the_settings(watched):
    (path,) = watched.run.file("tensorboard").glob("events*")
    steps, tags = {}, Counter()
    for record in tf.data.TFRecordDataset(str(path)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        for value in event.summary.value:
            tags[value.tag] += 1
            steps.setdefault(value.tag, []).append(event.step)
            if value.tag == "configuration":
                assert '"batch_size": 6' in tf.make_ndarray(value.tensor)[0].decode()
    assert steps["step/loss"][:3] == [1, 2, 3] and steps["step/loss"][-1] == 32
    for name in ("gradient_norm", "learning_rate", "images_per_second"):
        assert tags[f"step/{name}"] == tags["step/loss"]
    assert steps["epoch/val_top1"] == [1, 2, 3, 4]


def test_what_the_time_was_spent_on_is_said_and_kept(watched):
    assert watched.err.count("time: about ") == 1
    run = watched.run
    spent = run.metrics["seconds_by"]
    assert set(spent) == {"input", "compute", "evaluation", "saving"}
    assert sum(spent.values()) == pytest.approx(run.metrics["seconds"], abs=0.3)


@pytest.mark.parametrize(
    ("recipe", "input_seconds", "advice"),
    [("quick", 2, None), ("quick", 6, "smaller image files"), ("rsb-a2", 6, "a lower --randaug"),
     ("torchvision-v2", 6, "--no-trivialaugment")],
)  # fmt: skip
def test_a_run_that_waits_for_its_images_is_told_what_helps(recipe, input_seconds, advice):
    seconds = {"input": input_seconds, "compute": 8, "evaluation": 1, "saving": 1}
    line = time_shares(seconds, recipes.resolve({"recipe": recipe}), 61.4)
    assert line.startswith("time: about 0:01:01 remaining; input ")
    assert f"input {input_seconds / (10 + input_seconds):.0%}" in line
    assert ("input-bound" in line) == bool(advice)
    assert (advice or "") in line


def test_progress_tells_what_is_left_of_the_run_by_its_pixels(watched):
    """Of four epochs, the first at half the size, a thirteenth of the work is the first."""
    assert watched.left[8] == pytest.approx(12)
    assert watched.left[32] == min(watched.left.values()) > 0  # the last evaluation


def test_what_one_worker_decides_all_do(photos, tmp_path, monkeypatch):
    """When another worker got a signal, this one saves a checkpoint and exits at the same step."""
    agree = loop.Devices.agree

    def agree_on_sigterm(self, signal, *others):
        return [15.0, *others] if len(others) > 1 else agree(self, signal, *others)

    monkeypatch.setattr(loop.Devices, "agree", agree_on_sigterm)
    with pytest.raises(KeyboardInterrupt) as caught:
        train(str(photos), run_folder=tmp_path / "run", **SMALL)
    assert caught.value.status == 143
    assert peek(runs.Run(tmp_path / "run"))["epoch_sums"]["steps"] == 1


def test_the_time_limit_is_in_minutes_of_all_epochs():
    def ends(seconds):
        part = SimpleNamespace(
            config=Config(max_minutes=2), seconds={"compute": 60.0, "evaluation": seconds}, step=5,
            _saved=time.monotonic(),
            stop=SimpleNamespace(signal=None), devices=SimpleNamespace(agree=lambda *own: own),
            train_step=SimpleNamespace(model=SimpleNamespace(stop_training=False)),
        )  # fmt: skip
        return Loop._agree(part)[2]

    assert [ends(seconds) for seconds in (1.0, 59.0, 60.0)] == [False, False, True]


@pytest.mark.parametrize(
    ("every", "step", "last", "expected"),
    [(0, 5, 1000, 64), (0, 5, 20, 15), (4, 5, 1000, 3), (4, 8, 1000, 4), (4, 5, 6, 1)],
)
def test_a_call_ends_where_a_checkpoint_is_due(every, step, last, expected):
    part = SimpleNamespace(
        config=Config(checkpoint_every=every), step=step, _call_seconds=[1e-4] * 3,
        devices=SimpleNamespace(of_chief=lambda count: [count]),
    )  # fmt: skip
    assert Loop._steps_of_a_call(part, last) == expected


def test_the_notes_of_a_checkpoint_are_json(watched):
    notes = peek(watched.run)
    assert json.loads(json.dumps(notes)) == notes
    assert {
        "history",
        "has_ended",
        "epoch_sums",
        "seconds",
        "precision",
        "environment",
        "files",
    } == set(notes)


def test_the_time_that_remains_is_not_guessed_from_the_call_that_compiles():
    means = {"loss": 9.0, "cross_entropy": 1.0, "top1": 0.5}
    part = SimpleNamespace(
        seconds=Counter(compute=30.0), step=1, _work=[1, 2, 3, 4], config=Config(epochs=2),
        history=SimpleNamespace(rows=[]), _speed=lambda: 8, _call_seconds=[30.0],
    )  # fmt: skip
    part._seconds_left = lambda: Loop._seconds_left(part)
    assert Loop._note(part, means) == "loss 1.000  top-1 50.0%"
    part._call_seconds, part.step = [30.0, 2.0], 2
    part.seconds["compute"] += 2
    assert Loop._note(part, means) == "loss 1.000  top-1 50.0%  8 images/s  0:00:02 remaining"


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, ["raw"]),
        ({"ema": 0.9}, ["raw", "averaged"]),
        ({"best_by": "last"}, ["raw"]),
        ({"best_by": "last", "ema": 0.9}, ["averaged"]),  # scores would choose
    ],
)
def test_only_scores_that_may_choose_choose_the_weights(settings, names):
    model = SimpleNamespace(weights=[tf.Variable(1.0)])
    part = object.__new__(Loop)
    part.config = Config(**settings)
    part.train_step = SimpleNamespace(model=model, average=[tf.constant(2.0)])
    assert list(part._weights()) == names


def test_the_speed_of_an_epoch_is_that_without_the_call_that_compiles():
    part = object.__new__(Loop)
    part.config, part.step = Config(batch_size=4), 50
    part.epoch_sums, part.seconds, part._call_seconds = Counter(), Counter(), []
    part.checkpoint = part.board = part.train_step = MagicMock()
    speeds = []
    for count, seconds in ((1, 30.0), (1, 2.0), (3, 6.0)):
        part._spend = lambda what, seconds=seconds: seconds
        part._log(Steps(*np.ones((5, count)), seconds_of_input=0.0))
        speeds.append(part._speed())
    assert speeds == [4 / 30, 2.0, 2.0]


@pytest.mark.parametrize(("best_by", "name"), [("top1", "averaged"), ("macro_top1", "raw")])
def test_the_weights_with_the_better_score_are_those_of_the_epoch(best_by, name):
    part = object.__new__(Loop)
    part.config = Config(ema=0.9, best_by=best_by)
    part.history = History(None, part.config)
    part.devices = SimpleNamespace(is_chief=True, of_chief=lambda *own: own)
    raw, averaged = Evaluation(1.0, 0.4, 0.5), Evaluation(2.0, 0.6, 0.3)
    part._weights = lambda: {"raw": raw, "averaged": averaged}
    part.evaluator = lambda weights: weights
    assert part._evaluate() == (name, part._weights()[name])


def test_the_loss_of_a_row_is_the_cross_entropy_which_all_losses_share():
    part = object.__new__(Loop)
    part.config, part.sizes, part.seconds, part._lap = Config(batch_size=4), [32], Counter(), 0.0
    part.epoch_sums = Counter(
        steps=2, seconds=1.0, loss=18.0, cross_entropy=3.0, top1=1.0, learning_rate=0.1
    )
    row = part._row(0, "raw", Evaluation(7.0, 0.25, 0.5))
    assert (row["loss"], row["top1"]) == (1.5, 0.5)
    assert (row["val_loss"], row["val_top1"]) == (7.0, 0.25)


def test_the_training_images_have_the_training_size(monkeypatch):
    """`train_size` of the size of each epoch; a new size is a new stream from the next step."""
    monkeypatch.setattr(loop, "training_batches", lambda source, config, **span: span)
    part = object.__new__(Loop)
    part.config, part.source = Config(model="resnet8", train_size=0.75), None
    part.sizes, part.epoch_steps, part.step, part._size = [32, 64, 64], 10, 10, 32
    part.devices = SimpleNamespace(distribute=lambda batches: [batches()])
    assert next(part._batches_of(64)) == {"first_step": 10, "last_step": 30, "size": 48}


def test_a_checkpoint_is_due_when_the_last_one_is_old():
    part = object.__new__(Loop)
    part.config, part.step, part.has_ended, part.notes = Config(), 5, False, {}
    part.epoch_sums, part.seconds = Counter(), Counter()
    part.stop, part.devices = SimpleNamespace(signal=None), SimpleNamespace(agree=lambda *own: own)
    part.checkpoint = part.history = MagicMock()
    part.train_step = SimpleNamespace(model=SimpleNamespace(stop_training=False))
    part._lap = time.monotonic()
    due = []
    for age in (loop.CHECKPOINT_SECONDS - 9, loop.CHECKPOINT_SECONDS + 9):
        part._saved = time.monotonic() - age
        due.append(part._agree()[1])
    part._save()
    assert [*due, part._agree()[1]] == [False, True, False]


def _after_steps(last, losses):
    """Calls `Loop._log` after a call with these losses whose last step was `last`; returns the
    steps at which all weights were checked."""
    part = object.__new__(Loop)
    part.config, part.step = Config(batch_size=4), last
    part.epoch_sums, part.seconds, part._call_seconds = Counter(), Counter(), [1.0] * 3
    part._spend = lambda what: 1.0
    part.board, part.train_step = MagicMock(), MagicMock()
    part.train_step.loss_scale_problem.return_value = None
    part.checkpoint, checked = object.__new__(Checkpoint), []
    part.checkpoint._run = SimpleNamespace(checkpoint_steps=lambda: [])
    part.checkpoint._folder = Path("checkpoints")
    part.checkpoint.require_finite = checked.append
    part._log(Steps(np.array(losses), *np.ones((4, len(losses))), seconds_of_input=0.0))
    return checked


def test_a_training_that_diverges_within_a_call_names_the_step():
    with pytest.raises(CheckFailed, match="diverged at step 52: the loss is nan; nothing was"):
        _after_steps(53, [1.0, np.nan, np.inf])


def test_all_weights_are_checked_when_a_call_passes_a_multiple_of_100_steps():
    checks = {last: _after_steps(last, [1.0] * 3) for last in range(198, 205)}
    assert [last for last, checked in checks.items() if checked] == [200, 201, 202]
    assert checks[201] == [201]


def test_the_time_that_remains_is_that_of_steps_by_pixels_and_of_evaluations_by_epochs():
    part = SimpleNamespace(
        seconds=Counter(input=1.0, compute=9.0, evaluation=3.0, saving=1.0), step=2,
        _work=[1, 2, 6, 10], config=Config(epochs=2), history=SimpleNamespace(rows=[{}]),
        _call_seconds=[4.0, 3.0],
    )  # fmt: skip
    assert Loop._seconds_left(part) == 6 * 4 + 4
    part.config = Config(epochs=2, max_minutes=0.5)
    assert Loop._seconds_left(part) == 30 - 14
    part.config = Config(epochs=2, max_minutes=0.1)
    assert Loop._seconds_left(part) == 0
