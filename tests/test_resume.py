"""Interrupted and killed runs keep their checkpoints and resume exactly."""

import contextlib
import csv
import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_resnet import checkpoint_notes, recipes, runtime
from keras_resnet import run as runs
from keras_resnet.data import sources, stream
from keras_resnet.errors import CheckFailed, InputError, Interrupted, NetworkFailed
from keras_resnet.evaluation.scores import evaluate
from keras_resnet.training import checkpoint, loop, notices, precision
from keras_resnet.training import train as training
from keras_resnet.training.history import TensorBoard
from keras_resnet.training.loop import Loop
from keras_resnet.training.precision import Precision
from keras_resnet.training.train import train

pytestmark = pytest.mark.usefixtures("no_pictures")
SMALL = {"model": "resnet8", "image_size": 16, "batch_size": 12, "epochs": 2, "seed": 3}
AVERAGED = {**SMALL, "ema": 0.9, "precision": "float32"}
# Everything that draws random numbers or remembers something.
FULL = {
    "data": "digits", "model": "resnet8", "image_size": 16, "batch_size": 48, "epochs": 3,
    "checkpoint_every": 7, "drop_path": 0.3, "ema": 0.9, "mixup": 0.2, "cutmix": 1.0, "flip": True,
    "brightness": 0.2, "seed": 3, "steps": 90,
}  # fmt: skip


def _kill(tmp_path, kills, seed=1, **settings):
    (tmp_path / "settings.json").write_text(json.dumps({**FULL, **settings}))
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("kill9.py"), tmp_path, str(seed), str(kills),
         tmp_path / "settings.json"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["kills"] == kills and found["in_a_write"] >= max(kills // 4, 1)
    assert found["left"] == []  # of the writes that were killed
    assert found["values"] > 100
    assert found["different"] == []


def test_killed_at_a_step_and_in_a_write_it_ends_with_the_same_bits(tmp_path):
    _kill(tmp_path, 2, precision="float32", epochs=2, steps=60)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_killed_twenty_times_it_ends_with_the_same_bits(tmp_path, precision):
    _kill(tmp_path, 20, seed=2, precision=precision, epochs=8, steps=240)


@pytest.mark.slow
def test_so_it_does_compiled_with_xla(tmp_path):
    _kill(tmp_path, 6, seed=5, precision="float32", xla=True)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "lamb"])
def test_other_optimizers_and_gathered_gradients_resume_too(tmp_path, optimizer):
    _kill(tmp_path, 6, seed=3, optimizer=optimizer, accumulate=2, learning_rate=1e-3,
          precision="float32")  # fmt: skip


class KilledForTests(tfds.core.GeneratorBasedBuilder):
    """Noise in two classes, in turn."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(20, 24, 3)),
            "label": tfds.features.ClassLabel(names=["a", "b"]),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, _):
        return {"train": self._generate_examples(150)}

    def _generate_examples(self, count):
        images = np.random.default_rng(0).integers(0, 255, (count, 20, 24, 3), np.uint8)
        for i, image in enumerate(images):
            yield i, {"image": image, "label": i % 2}


@pytest.mark.slow
@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_so_does_a_run_on_a_tensorflow_dataset(tmp_path, file_format):
    KilledForTests(data_dir=tmp_path / "tfds", file_format=file_format).download_and_prepare()
    _kill(tmp_path, 6, seed=4, data="tfds:killed_for_tests", data_dir=str(tmp_path / "tfds"),
          precision="float32", batch_size=12, epochs=9, steps=90)  # fmt: skip


def test_a_program_that_ignores_ctrl_c_still_ignores_it(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with checkpoint.Stop(tmp_path).listening():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def whole(photos, undrawn, tmp_path_factory):
    """A finished run with the settings `AVERAGED`: (folder, stderr)."""
    folder, err = tmp_path_factory.mktemp("whole") / "run", io.StringIO()
    with undrawn(), contextlib.redirect_stderr(err):
        train(str(photos), run_folder=folder, **AVERAGED)
    return folder, err.getvalue()


def _require_weights_of(whole, run):
    weights = runs.Run(whole[0]).model().get_weights()
    for one, other in zip(weights, run.model().get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_best_model_that_a_kill_prevented_is_written_when_the_run_resumes(whole, tmp_path):
    """The checkpoint that knows of it comes first; what comes after may not have come."""
    folder = shutil.copytree(whole[0], tmp_path / "a")
    (folder / "manifest.json").unlink()
    (folder / "model.keras").unlink()
    _require_weights_of(whole, train(resume=folder))


def _latest(folder):
    """A reader of the latest checkpoint of a run."""
    step = runs.Run(folder).checkpoint_steps()[-1]
    return tf.train.load_checkpoint(str(folder / "checkpoints" / f"step-{step}"))


def _command(*arguments, **options):
    script = Path(sys.executable).parent / "keras-resnet"
    return subprocess.Popen(
        [script, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def stopped(photos, tmp_path_factory):
    """A run that got SIGTERM in its second epoch: (folder, process, seconds until it ended)."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    process = _command("train", photos, "--model", "resnet8", "--image-size", 16, "--batch-size", 4,
                       "--epochs", 400, "--seed", 3, "--run", folder)  # fmt: skip
    while not (folder / "history.csv").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    return folder, process.returncode, err


def test_sigterm_saves_and_says_how_to_resume(stopped):
    folder, status, err = stopped
    assert status == 143
    assert err.splitlines()[-1] == (
        f"keras-resnet: interrupted; `keras-resnet train --resume {folder}` resumes it"
    )
    rows = (folder / "history.csv").read_text().splitlines()
    latest = _latest(folder)
    step = int(latest.get_tensor("step/.ATTRIBUTES/VARIABLE_VALUE"))
    assert step >= 12 * (len(rows) - 2)  # not a step of the epoch was lost, but for the last


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_between_steps_leaves_at_once_with_its_status(
    signals_are_heard, tmp_path, number, status
):
    before = signal.getsignal(number)
    with (
        pytest.raises(Interrupted, match="resumes it") as caught,
        checkpoint.Stop(tmp_path).listening(),
    ):
        os.kill(os.getpid(), number)
    assert caught.value.status == status
    assert signal.getsignal(number) is before


def test_who_is_told_to_leave_as_time_is_up_leaves_with_this_step_saved(
    photos, tmp_path, monkeypatch
):
    """Evaluation, which the end of the training brings, may take minutes."""

    def ask(self, means):
        self.stop.signal = signal.SIGTERM

    monkeypatch.setattr(Loop, "_note", ask)
    with pytest.raises(Interrupted):
        train(str(photos), run_folder=tmp_path / "run", max_minutes=1e-6, **SMALL)
    notes = checkpoint_notes.peek(runs.Run(tmp_path / "run"))
    assert notes["epoch_sums"]["steps"] == 1 and not notes["has_ended"]


def _interrupt(*args, **options):
    os.kill(os.getpid(), signal.SIGINT)


def test_who_was_told_to_leave_says_so_when_others_left_first(photos, tmp_path, monkeypatch):
    """Python swallows what a signal's handler raises where it cannot be raised, as in `__del__`."""

    def fail(self):
        self.stop.signal = signal.SIGTERM
        raise tf.errors.UnavailableError(None, None, "the other worker has left")

    monkeypatch.setattr(Loop, "run", fail)
    with pytest.raises(Interrupted, match="resumes it"):
        train(str(photos), run_folder=tmp_path / "run", **SMALL)


def test_a_terminal_that_was_closed_is_left(monkeypatch):
    """Else what is said on the way out fails, and takes the exit status with it."""
    master, slave = os.openpty()
    with open(slave, "w", buffering=1) as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setattr(sys, "stdout", terminal)
        os.close(master)
        with pytest.raises(OSError):
            os.write(slave, b"nobody is there\n")
        checkpoint.messages.leave_terminal()
        terminal.write("into the void\n")
        monkeypatch.undo()


def test_a_second_ctrl_c_does_not_wait_for_the_step(signals_are_heard, tmp_path):
    stop = checkpoint.Stop(tmp_path)
    with stop.listening():
        stop.is_patient = True
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal == signal.SIGINT
        with pytest.raises(KeyboardInterrupt) as second:
            os.kill(os.getpid(), signal.SIGINT)
        assert not isinstance(second.value, Interrupted)


@pytest.mark.parametrize("when", ["while an epoch ends", "while it is evaluated at last"])
def test_what_an_epoch_has_given_is_not_lost(
    signals_are_heard, photos, tmp_path, monkeypatch, when
):
    if when == "while an epoch ends":
        monkeypatch.setattr(TensorBoard, "write_epoch", _interrupt)
    else:
        monkeypatch.setattr(training, "evaluate_best_model", _interrupt)
    with pytest.raises(Interrupted, match=f"--resume {tmp_path}/run` resumes it"):
        train(str(photos), run_folder=tmp_path / "run", **{**SMALL, "epochs": 1})
    notes = checkpoint_notes.peek(runs.Run(tmp_path / "run"))
    assert not notes["epoch_sums"] and [row["epoch"] for row in notes["history"]["rows"]] == [1]


def test_an_epoch_whose_evaluation_was_interrupted_is_evaluated_when_it_is_resumed(
    signals_are_heard, whole, photos, tmp_path, monkeypatch
):
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        patched.setattr(loop, "_WORTH_SAVING", 0)
        patched.setattr(Loop, "_evaluate", _interrupt)
        train(str(photos), run_folder=tmp_path / "run", **AVERAGED)
    notes = checkpoint_notes.peek(runs.Run(tmp_path / "run"))
    assert notes["epoch_sums"]["steps"] == 4 and notes["history"]["rows"] == []
    _require_weights_of(whole, train(resume=tmp_path / "run"))


def test_its_lines_are_in_the_log_too_and_none_of_tensorflows_on_the_terminal(stopped):
    folder, _, err = stopped
    log = (folder / "log.txt").read_text()
    assert "epoch   1/400" in log and "epoch   1/400" in err
    for noise in ("oneDNN", "cuda", "I0000", "E0000", "Warning"):
        assert noise not in err


def test_it_resumes_at_its_checkpoint(command, stopped, tmp_path):
    """Shortened by hand: what counts here is that the command takes it up and finishes it."""
    folder = tmp_path / "run"
    shutil.copytree(stopped[0], folder)
    before = (folder / "history.csv").read_text().splitlines()
    config = json.loads((folder / "config.json").read_text())
    epochs = len(before) + 1
    (folder / "config.json").write_text(json.dumps({**config, "epochs": epochs}))
    done = command("train", "--resume", folder)
    assert done.returncode == 0, done.stderr
    assert "resumed after step" in done.stderr
    assert f"next         keras-resnet export {folder}" in done.stdout
    assert "config.json changed after the run started: results will differ" in done.stderr
    rows = (folder / "history.csv").read_text().splitlines()
    assert rows[: len(before) - 1] == before[:-1] and len(rows) == epochs + 1
    assert (folder / "manifest.json").exists()


def test_two_trainings_that_begin_at_once_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = Path("runs/resnet8-digits-001")
    free = iter([first, Path("runs/resnet8-digits-002")])
    monkeypatch.setattr(runs, "_next_folder_of", lambda config: next(free))
    first.mkdir(parents=True)  # by the other, after this one looked
    with runs.claim(None, None) as run:
        assert run.path == Path("runs/resnet8-digits-002")


def test_a_link_that_leads_nowhere_is_a_name_in_use(tmp_path, monkeypatch):
    """As of runs on a disk that is not mounted."""
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    Path("runs/net-001").symlink_to("gone")
    assert runs.next_folder("net") == Path("runs/net-002")


def test_one_writer_a_run(photos, tmp_path):
    with (
        runs.claim(tmp_path / "run", None),
        pytest.raises(InputError, match=r"another process is training in .*run; wait for it"),
    ):
        train(str(photos), run_folder=tmp_path / "run", **SMALL)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["log.txt"]  # what is locked


def test_a_folder_of_something_else_is_left_as_it_was(photos, tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match=r"already holds mine\.txt"):
        train(str(photos), run_folder=tmp_path / "letters", **SMALL)
    assert [path.name for path in (tmp_path / "letters").iterdir()] == ["mine.txt"]


def test_a_run_that_was_killed_while_it_began_begins_anew(tmp_path):
    for name in ("log.txt", "labels.txt", "config.json.part"):
        (tmp_path / name).write_text("half of something")
    assert runs.unfinished(None, tmp_path, None, {"data": "digits"}) is None
    runs.Run(tmp_path).begin(recipes.resolve({"data": "digits"}), ["a", "b"])
    assert runs.Run(tmp_path).classes == ["a", "b"]


def test_labels_or_a_split_that_changed_do_not_resume_a_run(stopped, photos, tmp_path, capsys):
    for name in ("labels.txt", "split.json"):
        folder = shutil.copytree(stopped[0], tmp_path / name)
        (folder / name).write_text((folder / name).read_text().replace("dark", "bark"))
        with pytest.raises(InputError, match=rf"{name} is missing, damaged or was changed"):
            train(resume=folder)
        (folder / name).unlink()
        with pytest.raises(InputError, match=rf"{name} is missing"):
            train(resume=folder)


def test_an_unfinished_run_is_named_and_not_evaluated_with_labels_that_changed(
    stopped, tmp_path, capsys
):
    folder = shutil.copytree(stopped[0], tmp_path / "run")
    assert evaluate(folder).images == 12
    assert f"{folder} is not finished: this is its best model so far" in capsys.readouterr().err
    labels = (folder / "labels.txt").read_text().splitlines()
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in labels[::-1]))
    for artefact in (folder, folder / "model.keras"):
        with pytest.raises(InputError, match=r"labels\.txt is missing, damaged or was changed"):
            evaluate(artefact)


def test_a_run_without_a_checkpoint_begins_anew_with_its_labels_and_split(photos, tmp_path, capsys):
    run = runs.Run(tmp_path / "run")
    run.path.mkdir()
    source = sources.load(str(photos))
    run.begin(recipes.resolve({"data": str(photos), **SMALL}), source.classes)
    run.save_split(source)
    whole = run.file("split.json").read_bytes()
    run.file("split.json").write_bytes(whole[:100])
    run.file("labels.txt").write_text("bright\ndark\nstripes\n")
    checkpoint.save_data_files(run, source)
    assert run.file("split.json").read_bytes() == whole
    assert run.file("labels.txt").read_text() == "bright\ndark\nstriped\n"
    assert "starts again with a new split of the current images" in capsys.readouterr().err
    checkpoint.save_data_files(run, source)
    assert not capsys.readouterr().err


def test_an_image_that_changed_since_is_named(photos, tmp_path, capsys):
    copy = tmp_path / "photos"
    shutil.copytree(photos, copy)
    sources.save_split(sources.load(str(copy)), tmp_path / "split.json")
    classes = ["bright", "dark", "striped"]
    sources.load_saved(tmp_path / "split.json", data=str(copy), classes=classes)
    assert "changed" not in capsys.readouterr().err
    shutil.copy(copy / "dark" / "04.jpg", copy / "dark" / "01.jpg")
    sources.load_saved(tmp_path / "split.json", data=str(copy), classes=classes)
    assert "dark/01.jpg" in (err := capsys.readouterr().err)
    assert "results will differ from an uninterrupted run" in err


def test_changes_of_the_environment_are_reported(capsys):
    then = {"tensorflow": "2.21.0", "threads": 8}
    config = recipes.resolve()
    notices.log_changes(then, then, config)
    assert capsys.readouterr().err == ""
    notices.log_changes(then, {**then, "threads": 2}, config)
    assert "the last bits of results may differ" in (err := capsys.readouterr().err)
    assert "threads was 8, is 2" in err and "tensorflow" not in err
    notices.log_changes(
        then, {**then, "onednn": True}, config
    )  # which an older version did not note
    assert capsys.readouterr().err == ""


def test_on_other_devices_more_than_the_last_bits_differ_unless_batch_norms_are_synced(capsys):
    for synced, line in ((False, "results will differ"), (True, "the last bits of results may")):
        notices.log_changes({"devices": 2}, {"devices": 1}, recipes.resolve({"sync_bn": synced}))
        assert capsys.readouterr().err.startswith(line)


def test_the_number_of_devices_is_the_machines_not_the_runs(stopped, photos):
    """--resume allows no other option, and --run no other settings than those of the run."""
    folder, same = stopped[0], {**SMALL, "data": str(photos), "batch_size": 4, "epochs": 400}
    assert runs.unfinished(folder, None, None, {"devices": 2}).path == folder
    assert runs.unfinished(None, folder, None, {**same, "devices": 2}).path == folder
    assert training._updated_config(runs.Run(folder), None, {"devices": 2}).devices == 2
    assert training._updated_config(runs.Run(folder), None, {"devices": None}).devices == 0


def test_the_command_to_resume_can_be_pasted():
    assert runs.resume_command("my runs/1") == (
        "`keras-resnet train --resume 'my runs/1'` resumes it"
    )


def test_auto_keeps_the_precision_that_it_chose_first(photos, tmp_path, monkeypatch):
    """As on a machine whose processor multiplies something else."""
    folder = tmp_path / "run"

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Loop, "_save_best", _leave)
        patched.setattr(
            precision, "_for_cpu", lambda flags, xla: Precision("mixed_bfloat16", "then")
        )
        train(str(photos), run_folder=folder, **{**SMALL, "epochs": 1})
    monkeypatch.setattr(precision, "_for_cpu", lambda flags, xla: Precision("float32", "now"))
    metrics = train(resume=folder).metrics
    assert (metrics["precision"], metrics["precision_reason"]) == ("mixed_bfloat16", "then")
    assert metrics["threads"] >= 1


def test_it_resumes_where_its_images_are_now(photos, tmp_path, monkeypatch, capsys):
    folder, moved = tmp_path / "run", tmp_path / "moved"
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Loop, "_save_best", _leave)
        train(str(photos), run_folder=folder, **{**SMALL, "epochs": 1})
    shutil.copytree(photos, moved)
    assert train(moved, resume=folder).config.data == str(moved)
    assert "results will differ" not in capsys.readouterr().err


def _leave(self, weights):
    raise KeyboardInterrupt


def test_only_the_same_settings_resume(stopped, photos):
    folder = stopped[0]
    same = {**SMALL, "batch_size": 4, "epochs": 400}
    assert runs.unfinished(None, folder, None, {"data": str(photos), **same}).path == folder
    with pytest.raises(
        InputError, match=r"was started with --epochs 400, not --epochs 2; "
    ) as error:
        train(str(photos), run_folder=folder, **{**same, "epochs": 2})
    # Of `ship` too, which has no --resume.
    assert f"`keras-resnet train --resume {folder}`, which takes its settings" in str(error.value)
    with pytest.raises(
        InputError, match=r"--resume takes all settings from .*; leave out --epochs"
    ):
        train(resume=folder, epochs=3)


def test_a_finished_run_is_not_resumed(trained, tmp_path):
    with pytest.raises(InputError, match="the run is finished"):
        train(resume=trained.path)
    with pytest.raises(InputError, match="is finished; give a new folder"):
        train(run_folder=trained.path)
    with pytest.raises(InputError, match="no run there"):
        train(resume=tmp_path)


# Numbers that go wrong


def _plant_nan(monkeypatch, at):
    """One NaN pixel in one image of the step `at`."""
    whole = stream.training_stream

    def planted(*args, first_step, last_step, **options):
        def spoil(i, batch):
            images, targets = batch
            pixel = tf.one_hot(tf.where(i == at - first_step, 5, -1), tf.size(images))
            spoilt = tf.where(
                tf.reshape(pixel, tf.shape(images)) > 0, np.nan, tf.cast(images, "float32")
            )
            return spoilt, targets

        batches = whole(*args, first_step=first_step, last_step=last_step, **options)
        return batches.enumerate().map(spoil)

    monkeypatch.setattr(stream, "training_stream", planted)


@pytest.mark.parametrize(
    "precision", ["float32", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)]
)
def test_one_nan_pixel_ends_the_run_and_is_never_written(photos, tmp_path, monkeypatch, precision):
    _plant_nan(monkeypatch, at=6)
    folder = tmp_path / "run"
    with pytest.raises(NetworkFailed, match=r"training diverged at step \d+: .*Try a lower"):
        train(str(photos), run_folder=folder, precision=precision, checkpoint_every=1, **SMALL)
    latest = _latest(folder)
    assert int(latest.get_tensor("step/.ATTRIBUTES/VARIABLE_VALUE")) == 6
    for name in latest.get_variable_to_shape_map():
        value = latest.get_tensor(name)
        kind = np.asarray(value).dtype.kind
        assert kind != "f" or np.isfinite(value).all()
    model = runs.Run(folder).model()  # of the first epoch
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_weights_that_are_no_numbers_do_not_become_the_best_model(photos, tmp_path, monkeypatch):
    _plant_nan(monkeypatch, at=2)
    with pytest.raises(NetworkFailed, match="training diverged at step"):
        train(str(photos), run_folder=tmp_path / "run", precision="float32", **SMALL)
    assert not (tmp_path / "run" / "model.keras").exists()
    assert checkpoint_notes.peek(runs.Run(tmp_path / "run")) is None


def _state(value=0.0):
    return {"model": [tf.Variable([value] * 1000)], "optimizer": [tf.Variable(3)]}


# Checkpoints


def test_a_checkpoint_brings_back_every_value_and_the_notes(tmp_path):
    checkpoint.Checkpoint(runs.Run(tmp_path), _state(5.0)).save(7, {"rows": [0.1, "ü"]})
    other = _state()
    restored = checkpoint.Checkpoint(runs.Run(tmp_path), other).restore()
    assert restored == (7, {"rows": [0.1, "ü"]})
    np.testing.assert_array_equal(other["model"][0], [5.0] * 1000)


def test_what_a_killed_write_left_is_swept(tmp_path):
    keeper = checkpoint.Checkpoint(runs.Run(tmp_path), _state())
    keeper.save(1, {"one": 1})
    left = tmp_path / "checkpoints" / "step-2_temp"
    left.mkdir()
    (left / "part-00000-of-00001.data-00000-of-00001.tempstate41").write_bytes(b"half")
    again = checkpoint.Checkpoint(runs.Run(tmp_path), _state())
    assert not left.exists() and again.restore() == (1, {"one": 1})


def test_of_a_damaged_checkpoint_the_one_before_is_taken(tmp_path, capsys):
    keeper = checkpoint.Checkpoint(runs.Run(tmp_path), _state())
    keeper.save(1, {})
    keeper.save(2, {})
    data = next(tmp_path.glob("checkpoints/step-2.data*"))
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    again = checkpoint.Checkpoint(runs.Run(tmp_path), _state())
    assert again.restore() == (1, {})
    assert "step-2 is damaged" in capsys.readouterr().err
    next(tmp_path.glob("checkpoints/step-2.index")).write_bytes(b"")
    assert checkpoint_notes.peek(runs.Run(tmp_path)) == {}  # the notes of step 1


@pytest.mark.parametrize(
    "name", ["trial [2]", "a*b?c", "a{b}", "a\\b", "-x", "größe 'q\" z", os.fsdecode(b"caf\xe9")]
)
def test_no_name_of_a_folder_is_taken_for_a_pattern(tmp_path, name):
    run = runs.Run(tmp_path / name)
    run.path.mkdir()
    keeper = checkpoint.Checkpoint(run, _state(5.0))
    for step in (1, 2, 3):
        keeper.save(step, {"step": step})
    assert run.checkpoint_steps() == [2, 3]  # the first was removed
    assert checkpoint_notes.peek(run) == {"step": 3}
    other = _state()
    assert checkpoint.Checkpoint(run, other).restore() == (3, {"step": 3})
    np.testing.assert_array_equal(other["model"][0], [5.0] * 1000)


@pytest.mark.parametrize("damage", ["missing", "empty", "of another step"])
def test_the_list_of_checkpoints_that_tensorflow_may_have_left_is_not_asked(tmp_path, damage):
    run = runs.Run(tmp_path)
    checkpoint.Checkpoint(run, _state(5.0)).save(7, {"rows": []})
    if damage != "missing":
        line = 'model_checkpoint_path: "step-3"\n' * (damage != "empty")
        (tmp_path / "checkpoints" / "checkpoint").write_text(line)
    assert checkpoint.Checkpoint(run, _state()).restore() == (7, {"rows": []})


@pytest.mark.parametrize(("first", "second"), [(5, 10), (12, 20)])
def test_after_damage_the_good_checkpoint_stays_until_two_newer_ones_are_whole(
    tmp_path, first, second
):
    run = runs.Run(tmp_path)
    keeper = checkpoint.Checkpoint(run, _state())
    keeper.save(1, {})
    keeper.save(9, {})
    next(tmp_path.glob("checkpoints/step-9.data*")).write_bytes(b"half")
    again = checkpoint.Checkpoint(run, _state())
    assert again.restore() == (1, {})
    assert run.checkpoint_steps() == [1, 9]  # nothing is removed before there is something new
    again.save(first, {})
    assert run.checkpoint_steps() == [1, first]
    again.save(second, {})
    assert run.checkpoint_steps() == [first, second]


@pytest.mark.parametrize("files", ["damaged", "gone"])
def test_a_run_that_lost_all_checkpoints_does_not_begin_anew(untouched, tmp_path, files):
    """It would overwrite the best model."""
    folder = shutil.copytree(untouched, tmp_path / "run")
    (folder / "manifest.json").unlink()
    for path in (folder / "checkpoints").iterdir():
        path.unlink() if files == "gone" else path.write_bytes(path.read_bytes()[:50])
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    refusal = r"no checkpoint in .*; restore the folder from a copy"
    with pytest.raises(CheckFailed, match=refusal) as e:
        train(resume=folder)
    assert "\n" not in str(e.value)
    assert {path: path.read_bytes() for path in before} == before


def test_of_a_write_that_fails_nothing_is_left(tmp_path, monkeypatch):
    """It may be half of what fills the disk."""
    keeper = checkpoint.Checkpoint(runs.Run(tmp_path), _state())
    keeper.save(1, {})

    def fail(path):
        Path(f"{path}_temp").mkdir()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(keeper._all, "write", fail)
    with pytest.raises(CheckFailed, match="No space left on device"):
        keeper.save(2, {})
    assert not [*tmp_path.glob("checkpoints/*_temp")]
    assert keeper.restore() == (1, {})


def test_a_checkpoint_that_cannot_be_written_says_what_helps(tmp_path, monkeypatch):
    keeper = checkpoint.Checkpoint(runs.Run(tmp_path), _state())
    for error, said in [
        (tf.errors.ResourceExhaustedError(None, None, "x; No space left on device"), "free some"),
        (tf.errors.PermissionDeniedError(None, None, "x; Permission denied"), "make it writable"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS), "x"), "make it writable"),
        (OSError(errno.EIO, os.strerror(errno.EIO), "x"), "check the disk"),
    ]:
        monkeypatch.setattr(keeper._all, "write", Mock(side_effect=error))
        with pytest.raises(CheckFailed, match=rf"\(.*\); {said}.*, then `"):
            keeper.save(2, {})


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            tf.errors.ResourceExhaustedError(None, None, "x.v2; No space left on device"),
            r"\(No space .*\); free some space \(the run needs up to [1-9][\d.]* MB\)",
        ),
        (
            OSError(errno.EACCES, "Permission denied", "of the run"),
            r"\(Permission denied\); make it writable",
        ),
        (
            OSError(errno.EIO, "Input/output error", "of the run"),
            r"\(Input/output error\); check the disk",
        ),
    ],
    ids=["TensorFlow", "Python", "disk"],
)
def test_a_file_that_cannot_be_written_is_one_line(error, said, photos, tmp_path, monkeypatch):
    def run(self):
        if isinstance(error, OSError):
            error.filename = str(tmp_path / "run" / "history.csv")
        raise error

    monkeypatch.setattr(Loop, "run", run)
    line = rf"^cannot write into .*run {said}, then `keras-resnet train "
    with pytest.raises(CheckFailed, match=line):
        train(str(photos), run_folder=tmp_path / "run", **SMALL)


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOENT, "no", "/x/y"), ConnectionError("no route"), RuntimeError("no")],
)
def test_an_error_of_a_callback_is_raised_as_it_is(error, photos, tmp_path, monkeypatch):
    def run(self):
        raise error

    monkeypatch.setattr(Loop, "run", run)
    with pytest.raises(type(error)) as caught:
        train(str(photos), run_folder=tmp_path / "run", **SMALL)
    assert caught.value is error


@pytest.mark.slow  # test_ship.py does the same with 40 kB
@pytest.mark.parametrize("kilobytes", [60, 500])
def test_a_full_disk_is_one_line_and_nothing_is_lost(command, photos, tmp_path, kilobytes):
    """60 kB stop model.keras, 500 kB the checkpoint, which holds the optimizer too."""
    folder = tmp_path / "run"
    done = command(
        "train", photos, "--model", "resnet8", "--image-size", 16, "--batch-size", 12, "--epochs",
        1, "--run", folder, most_bytes=kilobytes * 1000,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("keras-resnet: ")]
    assert str(folder) in line and f"`keras-resnet train --resume {folder}` resumes it" in line
    assert "Traceback" not in done.stderr
    assert train(resume=folder).metrics["best_epoch"] == 1


# Averages


def test_the_better_of_weights_and_average_is_saved_and_said(whole):
    run, err = runs.open_run(whole[0]), whole[1]
    with open(run.file("history.csv"), newline="") as file:
        rows = list(csv.DictReader(file))
    best = rows[run.metrics["best_epoch"] - 1]
    assert f"{best['weights']} weights, best" in err
    assert run.metrics["val"]["top1"] == pytest.approx(float(best["val_top1"]))
    assert run.metrics["val"]["loss"] == pytest.approx(float(best["val_loss"]), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("ema", [0.99, 0.999])
def test_a_long_average_does_not_spoil_a_short_run(tmp_path, ema):
    settings = {
        "model": "resnet8",
        "image_size": 16,
        "epochs": 2,
        "seed": 1,
        "size_steps": [[1, 1]],
    }
    raw = train("digits", run_folder=tmp_path / "raw", **settings)
    averaged = train("digits", run_folder=tmp_path / "ema", ema=ema, **settings)
    assert averaged.metrics["val"]["top1"] >= raw.metrics["val"]["top1"] - 0.01


@pytest.mark.slow
def test_what_xla_compiled_is_used_again(tmp_path):
    """By the next start, which then has the same weights: what was compiled is what runs."""
    cache = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "my cache")}
    cache.pop("TF_XLA_FLAGS", None)
    digests, times = [], []
    for name in ("first", "second"):
        process = _command(
            "train", "digits", "--model", "resnet8", "--image-size", 16, "--batch-size", 200,
            "--epochs", 1, "--seed", 1, "--xla", "--run", tmp_path / name,
            "--precision", "float32",  # `auto` compiles a trial too
            env=cache,
        )  # fmt: skip
        assert process.wait(timeout=300) == 0, process.stderr.read()
        (compiled,) = (tmp_path / "my cache" / "keras-resnet" / "xla").glob("*/*/*.pb")
        digests.append([w.tobytes() for w in runs.Run(tmp_path / name).model().get_weights()])
        times.append(compiled.stat().st_mtime_ns)
    assert digests[0] == digests[1] and times[0] == times[1]


def test_xla_keeps_nothing_where_nothing_can_be_written(tmp_path, monkeypatch):
    """TensorFlow would end the training."""
    monkeypatch.setenv("TF_XLA_FLAGS", "")
    monkeypatch.delenv("TF_XLA_FLAGS")
    (tmp_path / "file").touch()
    for home, room in ((tmp_path / "file", 2**40), (tmp_path, 2**20)):
        monkeypatch.setenv("XDG_CACHE_HOME", str(home))
        monkeypatch.setattr(
            runtime.shutil, "disk_usage", lambda path, n=room: SimpleNamespace(free=n)
        )
        runtime.prepare()
        assert "TF_XLA_FLAGS" not in os.environ
    monkeypatch.setattr(runtime.shutil, "disk_usage", lambda path: SimpleNamespace(free=2**40))
    runtime.prepare()
    assert str(tmp_path) in os.environ["TF_XLA_FLAGS"]


def test_a_run_folder_whose_name_is_not_utf8_is_refused(tmp_path):
    place = tmp_path / os.fsdecode(b"r\xff")
    with pytest.raises(InputError, match=r"--run .*r\\xff is not UTF-8"):
        runs.unfinished(None, place, None, {})
    assert not place.exists()


@pytest.mark.parametrize("place", ["notes.txt", "notes.txt/run"])
def test_a_run_folder_that_cannot_be_made_is_refused_at_once(tmp_path, place):
    (tmp_path / "notes.txt").write_text("not a folder")
    with pytest.raises(InputError, match=r"cannot create the run folder .*notes.txt is a file"):
        runs.unfinished(None, tmp_path / place, None, {})
