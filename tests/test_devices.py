"""Several devices and workers have the results of one process."""

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_resnet import manifest
from keras_resnet import run as runs
from keras_resnet.data import sources, stream
from keras_resnet.distributed import cluster, local_workers, strategy
from keras_resnet.errors import CheckFailed, InputError
from keras_resnet.recipes import resolve
from keras_resnet.training.train import train

SETTINGS = {
    "model": "resnet8", "image_size": 16, "batch_size": 48, "epochs": 2, "seed": 1,
    "precision": "float32", "sync_bn": True, "learning_rate": 0.01,
}  # fmt: skip
# Seven steps an epoch. An update takes the mean gradient of two, which is clipped at times.
FEW = {"val_split": 0.8, "accumulate": 2, "clip_norm": 0.4}
# What workers do instead of training: the chief waits, the other one fails.
FAILING = """
import os, sys, time
if '"index": 0' in os.environ["TF_CONFIG"]:
    time.sleep(60)
print("no luck", file=sys.stderr)
sys.exit(3)
"""


def _shares(workers, devices):
    """What each of the workers sees, each with so many devices."""
    parts = workers * devices
    return [stream.Share(parts, worker * devices, devices) for worker in range(workers)]


@pytest.mark.parametrize(("workers", "devices"), [(1, 1), (1, 3), (2, 1), (3, 2), (12, 1)])
def test_together_the_shares_are_each_batch_once_and_in_order(workers, devices):
    batch, steps = 12, 5
    own = batch // workers
    seen = np.array(
        [
            [share.sample(n, batch) for n in range(steps * own)]
            for share in _shares(workers, devices)
        ]
    )
    by_step = seen.reshape(workers, steps, own).swapaxes(0, 1)
    np.testing.assert_array_equal(by_step.ravel(), np.arange(steps * batch))


@pytest.mark.parametrize("mixed", [{}, {"mixup": 0.2, "cutmix": 1.0}])
def test_a_share_of_the_stream_is_those_rows_of_the_whole(mixed):
    source = sources.load("digits")
    config = resolve({"batch_size": 12, "image_size": 16, "seed": 4, **mixed})
    span = {"size": 16, "first_step": 3, "last_step": 5}

    def rows(share):
        batches = stream.training_stream(source, config, share=share, **span)
        return [images for images, _ in batches.as_numpy_iterator()]

    parts = list(zip(*(rows(share) for share in _shares(2, 1)), strict=True))
    together = [image for share in _shares(1, 2) for image in rows(share)]
    np.testing.assert_array_equal(np.concatenate(parts), together)
    if not mixed:  # which mixes within a part
        whole = np.concatenate(rows(stream.WHOLE))
        np.testing.assert_array_equal(np.concatenate(together), whole)


def test_parts_are_mixed_by_seeds_of_their_own():
    """Alike on all devices, the shares of a batch would be one random number, not many."""
    source = sources.load("digits")
    config = resolve({"batch_size": 48, "image_size": 16, "mixup": 1.0, "balance": "sample"})
    share = stream.Share(4, 0, 4)
    batches = stream.training_stream(
        source, config, size=16, first_step=0, last_step=1, share=share
    )
    strengths = {
        float(targets.max(-1).min().round(4)) for _, targets in batches.as_numpy_iterator()
    }
    assert len(strengths) == 4


def test_a_batch_that_cannot_be_shared_equally_is_refused():
    strategy.require_shareable(resolve({"batch_size": 48}), 4)
    with pytest.raises(InputError, match=r"--batch-size 30 .* 4 devices; use 28 or 32, or 3 dev"):
        strategy.require_shareable(resolve({"batch_size": 30}), 4)
    with pytest.raises(InputError, match="use 4, or 3 devices"):
        strategy.require_shareable(resolve({"batch_size": 3}), 4)
    strategy.require_shareable(resolve({"batch_size": 5}), 1)


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        '{"cluster": {"worker": ["a:1", "b:1"]}}',
        '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}',
        '{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "worker", "index": 0}}',
        '["cluster"]',
    ],
)
def test_an_environment_that_describes_no_worker_is_refused(text, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InputError, match="TF_CONFIG is"):
        strategy.choose(resolve(), "run")


def test_a_cluster_of_one_is_none(monkeypatch):
    alone = {"cluster": {"chief": ["a:1"]}, "task": {"type": "chief", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(alone))
    assert strategy.choose(resolve(), None) is strategy.ONE


def test_the_chief_is_worker_0(monkeypatch):
    workers = {"worker": ["b:1", "c:1"], "chief": ["a:1"]}
    for kind, index, number in [("chief", 0, 0), ("worker", 0, 1), ("worker", 1, 2)]:
        task = {"type": kind, "index": index}
        monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": workers, "task": task}))
        assert cluster.tf_config() == (["a:1", "b:1", "c:1"], number)


def test_workers_need_a_run_folder_in_common(monkeypatch):
    two = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(two))
    with pytest.raises(InputError, match="2 workers need one --run"):
        strategy.choose(resolve(), None)


def test_workers_need_equal_settings_but_for_paths(tmp_path):
    tf.train.Checkpoint(step=tf.Variable(1)).write(str(tmp_path / "run" / "checkpoints" / "step-1"))
    (tmp_path / "mount").symlink_to(tmp_path / "run")

    def shared(devices=1, folder="run", **settings):
        return strategy._shared_settings(resolve(settings), tmp_path / folder, devices)

    here = shared(data="/here", devices=2)
    assert here == shared(data="/there", devices=2, folder="mount")
    assert here != shared(devices=2, folder="empty")
    assert here != shared(devices=1)
    assert here != shared(devices=2, epochs=3)

    teachers = [tmp_path / name for name in ("teacher", "its copy", "another")]
    for folder, model in zip(teachers, ("the same", "the same", "other"), strict=True):
        folder.mkdir()
        (folder / "model.keras").write_text(model)
        rows = {"model.keras": manifest.fingerprint(folder / "model.keras")}
        (folder / "manifest.json").write_text(json.dumps(rows))
    of_each = [shared(teacher=str(folder)) for folder in teachers]
    assert of_each[0] == of_each[1] != of_each[2]
    assert shared(split_file="/here/split.json") == shared(split_file="/there/split.json")


@pytest.mark.parametrize(
    ("number", "addresses", "worker", "own"),
    [
        (0, ["a:1", "b:1"], 1, [0, 1, 2, 3]),  # one on each machine
        (0, ["a:1", "a:2"], 0, [0, 1]),
        (0, ["a:1", "b:1", "a:2"], 2, [2, 3]),
        (1, ["a:1", "a:2"], 1, [1]),
        (0, ["a:1", "a:2", "a:3", "a:4", "a:5"], 4, [0, 1, 2, 3]),  # it sees its own alone
    ],
)
def test_workers_of_a_machine_share_its_gpus(number, addresses, worker, own):
    assert cluster.own_gpus([0, 1, 2, 3], number, addresses, worker) == own


def test_slurm_may_have_shared_out_the_gpus_before(monkeypatch):
    monkeypatch.setenv("SLURM_GPUS_PER_TASK", "2")
    assert cluster.own_gpus([0, 1], 0, ["a:1", "a:2"], 1) == [0, 1]
    assert cluster.own_gpus([0, 1], 1, ["a:1", "a:2"], 1) == [0]  # --devices 1


def test_a_worker_whose_port_is_taken_says_so_in_one_line(command, tmp_path, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        _be_worker(monkeypatch, f"127.0.0.1:{taken.getsockname()[1]}", "127.0.0.1:1")
        done = command("train", "digits", "--run", tmp_path / "run")
    assert done.returncode == 2
    assert "keras-resnet: worker 0 cannot listen at 127.0.0.1:" in done.stderr
    assert "use a free port" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


ALONE = """
from keras_resnet.recipes import resolve
from keras_resnet.distributed import strategy, rendezvous

rendezvous.meet = lambda *arguments: None  # the other one was there, and has gone
strategy._CONNECT = 1
strategy.choose(resolve(), "run")
"""


def test_a_worker_whose_other_has_just_gone_does_not_wait_for_ever(monkeypatch):
    _be_worker(monkeypatch, *local_workers.free_addresses(2))
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "Timeout (0:00:01)!" in done.stderr


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)],
)
def test_a_worker_that_waits_for_others_can_be_ended(
    signals_are_heard, number, status, tmp_path, monkeypatch
):
    _be_worker(monkeypatch, *local_workers.free_addresses(2))
    process = subprocess.Popen(_command(tmp_path / "run"), stderr=subprocess.PIPE, text=True)
    assert "worker 0 waits for all 2" in process.stderr.readline()
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == status, err
    assert "Traceback" not in err and not (tmp_path / "run").exists()


def _be_worker(monkeypatch, *addresses):
    described = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(described))


def test_a_slurm_step_is_a_cluster_whatever_the_order_of_its_machines(monkeypatch):
    """By name, node10 comes before node9; by number after it."""
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "3")
    monkeypatch.setenv("SLURM_PROCID", "1")  # in each task
    monkeypatch.setenv("SLURM_JOB_ID", "120007")
    monkeypatch.setenv("SLURM_STEP_NODELIST", "node[9-10]")
    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", "2,1")
    numbers = []
    for name, local in [("node9", "0"), ("node9", "1"), ("node10", "0")]:
        monkeypatch.setenv("SLURMD_NODENAME", name)
        monkeypatch.setenv("SLURM_LOCALID", local)
        addresses, number = cluster.slurm()
        assert addresses[number].startswith(f"{name}:")
        numbers.append(number)
    assert sorted(numbers) == [0, 1, 2]
    assert set(addresses) == {"node9:15007", "node9:15008", "node10:15007"}
    monkeypatch.setenv("SLURMD_NODENAME", "elsewhere")
    with pytest.raises(InputError, match="runs this task at elsewhere:15007, which is not one of"):
        cluster.slurm()


def test_outside_of_a_step_slurm_is_not_asked(monkeypatch):
    """In a batch script there is one process, however many tasks the job may have."""
    monkeypatch.setenv("SLURM_NTASKS", "3")
    assert cluster.slurm() is None


def test_devices_are_counted_before_tensorflow_starts():
    tf.constant(0)
    with pytest.raises(InputError, match="--devices 2: TensorFlow is already running"):
        strategy.choose(resolve({"devices": 2}), None)


TWO = strategy.Devices(tf.distribute.get_strategy(), worker=0, workers=2)


@pytest.mark.parametrize(
    ("kind", "text", "who"),
    [
        ("UnavailableError", "Socket closed\n remote target /job:worker/task:1", "worker 1"),
        ("UnavailableError", "what it says does not matter", "another worker"),
        ("InternalError", "Collective ops is aborted by: failed", "another worker"),
        ("DeadlineExceededError", "no heartbeat of /job:worker/replica:0/task:1", "worker 1"),
    ],
)
def test_a_lost_worker_is_reported_in_one_line(kind, text, who, tmp_path):
    error = getattr(tf.errors, kind)(None, None, text)
    with pytest.raises(CheckFailed) as caught, TWO.watching(tmp_path):
        raise error
    assert str(caught.value) == f"{who} stopped responding; start all workers again"
    (tmp_path / "config.json").touch()
    with pytest.raises(CheckFailed) as caught, TWO.watching(tmp_path):
        raise error
    assert str(caught.value) == (
        f"{who} stopped responding; `keras-resnet train --resume {tmp_path}` resumes it with the "
        "remaining workers"
    )
    with pytest.raises(type(error)), strategy.ONE.watching(tmp_path):
        raise error


@pytest.mark.parametrize("kind", ["InternalError", "FailedPreconditionError", "CancelledError"])
def test_an_error_of_its_own_is_not_blamed_on_another_worker(kind, tmp_path):
    error = getattr(tf.errors, kind)(None, None, "at /job:worker/replica:0/task:0: no memory")
    with pytest.raises(type(error)), TWO.watching(tmp_path):
        raise error


def test_other_workers_write_only_their_log(tmp_path):
    devices = strategy.Devices(tf.distribute.get_strategy(), worker=1, workers=2)
    with devices.folder(tmp_path / "run", None) as folder:
        folder.begin(None, [])
        folder.save_model(None)
        folder.save_history([{"epoch": 1}])
        assert folder.file("history.csv").exists()
        assert folder.file("checkpoints") == tmp_path / "run" / "checkpoints"
        folder.file("log.txt").write_text("before the chief has made the folder")
    assert not folder.file("history.csv").exists()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["log-worker-1.txt"]


def test_only_the_chief_speaks(tmp_path, capsys):
    with strategy.Devices(None, worker=1, workers=2).watching(tmp_path):
        strategy.log.info("heard from all")
    with TWO.watching(tmp_path):
        strategy.log.info("heard from the chief")
    strategy.log.info("and after")
    assert capsys.readouterr().err.splitlines() == ["heard from the chief", "and after"]


class Weights:
    def __init__(self, *values):
        self._values = [np.array([value], np.float32) for value in values]

    def get_weights(self):
        return self._values


def test_what_workers_begin_with_is_compared(monkeypatch):
    source = sources.load("digits")
    fewer = replace(source, splits={"train": source.splits["train"].take(range(7))})
    sums = []
    monkeypatch.setattr(
        strategy.Devices, "_of_all", lambda self, own: np.array([sums.append(own) or own] * 2)
    )
    for each in (source, source, fewer):
        TWO.require_same_images(each)
    for each in (Weights(1, 2), Weights(1, 2), Weights(1, 3)):
        TWO.require_same_weights(each)
    for first, same, other in (sums[:3], sums[3:]):
        assert first == same != other
    monkeypatch.setattr(strategy.Devices, "_of_all", lambda self, own: np.array([own, [3]]))
    with pytest.raises(
        InputError, match=r"worker 1 has different training images from worker 0; give"
    ):
        TWO.require_same_images(source)
    with pytest.raises(InputError, match=r"different initial weights .* the same --weights"):
        TWO.require_same_weights(Weights(1))


def test_what_is_wrong_with_the_files_of_one_ends_all(monkeypatch):
    sent = []
    monkeypatch.setattr(strategy.Devices, "_of_all", lambda self, own: sent.append(own))
    with pytest.raises(InputError, match="damaged"), TWO.preparing():
        raise InputError("damaged")
    assert np.isnan(sent[0]).tolist() == [True]
    with pytest.raises(InputError, match="damaged"), strategy.ONE.preparing():
        raise InputError("damaged")
    assert len(sent) == 1
    monkeypatch.setattr(strategy.Devices, "_of_all", lambda self, own: np.array([own, sent[0]]))
    with pytest.raises(InputError, match="worker 1 cannot start; see its own error message"):
        TWO.require_same_weights(Weights(1))


def test_launch_starts_trainings_alone():
    with pytest.raises(InputError, match="launch runs only `train`"):
        local_workers.launch(("evaluate", "run"), 2)
    with pytest.raises(InputError, match="--workers is 1; expected a whole number of at least 2"):
        local_workers.launch(("train", "digits"), 1)


def test_when_a_worker_fails_the_others_are_ended(monkeypatch, capfd):
    monkeypatch.setattr(local_workers, "_MAIN", FAILING)
    monkeypatch.setattr(local_workers, "_NOTICE", 0.2)
    assert local_workers.launch(("train", "digits"), 2) == 143
    err = capfd.readouterr().err.splitlines()
    assert err == ["[worker 1] no luck", "worker 1 exited with status 3; stopping the others"]


def test_workers_continue_when_nobody_reads_their_output(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", buffering=1) as gone:
        monkeypatch.setattr(sys, "stderr", gone)
        talk = "import sys; print('loss ' * 10**6, file=sys.stderr)\n" * 2  # more than a pipe holds
        monkeypatch.setattr(local_workers, "_MAIN", talk)
        monkeypatch.setattr(local_workers, "_NOTICE", 0.2)
        assert local_workers.launch(("train", "digits"), 2) == 0


def test_what_nohup_ignores_launch_ignores(monkeypatch):
    """So do its workers, as they are started with what it ignores."""
    monkeypatch.setattr(local_workers, "_MAIN", "import time; time.sleep(2)")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    timer = threading.Timer(1, os.kill, (os.getpid(), signal.SIGHUP))
    timer.start()
    try:
        assert local_workers.launch(("train", "digits"), 2) == 0
    finally:
        signal.signal(signal.SIGHUP, before)
        timer.join()


def test_what_is_wrong_is_said_by_every_worker(command, tmp_path):
    done = command("launch", "--workers", 2, "--", "train", tmp_path / "none", "--run", "run")
    assert done.returncode == 2 and done.stdout == ""
    for number in (0, 1):
        assert f"[worker {number}] keras-resnet: " in done.stderr
    assert "Traceback" not in done.stderr


def _command(folder, *options, launch=()):
    script = Path(sys.executable).parent / "keras-resnet"
    line = (script, *launch, "train", "digits", *_options(SETTINGS), "--run", folder, *options)
    return [str(part) for part in line]


def _options(settings):
    """As they are typed."""
    for name, value in settings.items():
        yield f"--{name.replace('_', '-')}"
        if value is not True:
            yield value


def _train(command, folder, *options, launch=()):
    done = command(*_command(folder, *options, launch=launch)[1:])
    assert done.returncode == 0, done.stderr[-3000:]
    return runs.Run(folder)


def _numbers(run):
    with open(run.file("history.csv")) as file:
        rows = list(csv.DictReader(file))
    names = ("loss", "top1", "val_loss", "val_top1")
    return np.array([[float(row[name]) for name in names] for row in rows])


@pytest.fixture(scope="module")
def one(undrawn, tmp_path_factory):
    """A run on one device."""
    with undrawn():
        folder = tmp_path_factory.mktemp("one") / "run"
        return train("digits", run_folder=folder, **SETTINGS, **FEW)


def test_some_gradients_of_that_run_are_clipped_and_some_are_not(one):
    """Else the runs below would not compare both."""
    (path,) = one.file("tensorboard").glob("events*")
    records = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    values = [v for record in records for v in tf.compat.v1.Event.FromString(record).summary.value]
    norms = [float(tf.make_ndarray(v.tensor)) for v in values if v.tag == "step/gradient_norm"]
    assert 2 <= sum(norm > FEW["clip_norm"] for norm in norms) <= len(norms) - 2, norms


# Two devices drop half of the same thousand ones: what is left by both, as a share.
DROPPING = """
import keras, tensorflow as tf
from keras_resnet.distributed import strategy
from keras_resnet.training.layers import for_training
from keras_resnet.recipes import resolve

devices = strategy.choose(resolve({"devices": 2, "batch_size": 2}), None)
with devices.strategy.scope():
    plain = keras.Sequential([keras.Input((1000,)), keras.layers.Dropout(0.5, seed=1)])
    models = for_training(plain), plain
for model in models:
    left = devices.strategy.run(lambda: model(tf.ones((1, 1000)), training=True) > 0)
    first, second = devices.strategy.experimental_local_results(left)
    print(float(tf.reduce_mean(tf.cast(first & second, tf.float32))))
"""


def test_each_device_drops_branches_of_its_own():
    done = subprocess.run([sys.executable, "-c", DROPPING], capture_output=True, text=True)
    own, alike = map(float, done.stdout.split())
    assert 0.2 < own < 0.3 and 0.4 < alike < 0.6


LAUNCH = ("launch", "--workers", 2, "--")


def test_two_devices_learn_accumulate_and_clip_as_one_does(command, one, tmp_path):
    """The mean gradient of two batches is clipped, whoever computed its parts."""
    _require_same(one, _train(command, tmp_path / "run", *_options(FEW), "--devices", 2))


def test_two_workers_learn_what_one_process_learns(command, one, tmp_path):
    _require_same(one, _train(command, tmp_path / "run", *_options(FEW), launch=LAUNCH))


def _require_same(expected, run):
    np.testing.assert_allclose(_numbers(run), _numbers(expected), rtol=1e-5)
    images = stream.images_of(sources.load("digits").splits["val"], size=16, crop=1.0)[:64]
    logits, others = (r.model().predict(images, verbose=0) for r in (run, expected))
    np.testing.assert_allclose(logits, others, atol=1e-3)
    assert run.metrics["val"]["top1"] == expected.metrics["val"]["top1"]


@pytest.mark.slow
@pytest.mark.parametrize("bn", ["--sync-bn", "--no-sync-bn"])
def test_two_devices_resume_exactly(command, bn, tmp_path):
    options = ("--devices", 2, bn, "--epochs", 8, "--checkpoint-every", 7, "--ema", 0.9)
    whole = _train(command, tmp_path / "whole", *options)
    _interrupted(tmp_path / "broken", *options)
    broken = _again(tmp_path / "broken")
    np.testing.assert_array_equal(_numbers(broken), _numbers(whole))
    for weights, expected in zip(
        broken.model().get_weights(), whole.model().get_weights(), strict=True
    ):
        np.testing.assert_array_equal(weights, expected)


@pytest.mark.slow
def test_a_run_that_xla_compiled_resumes_on_two_devices(tmp_path):
    """As it is by default on one GPU."""
    _interrupted(tmp_path / "run", "--devices", 1, "--xla", "--epochs", 8)
    assert runs.Run(tmp_path / "run").config.xla
    done = _again(tmp_path / "run", "--devices", "2")
    assert done.metrics["val"]["top1"] > 0.5
    assert "without XLA from here on" in done.file("log.txt").read_text()


def _interrupted(folder, *options):
    """Starts a run, and interrupts it after its first epoch."""
    process = subprocess.Popen(_command(folder, *options), stderr=subprocess.PIPE)
    while not (folder / "history.csv").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 143


def _again(folder, *options):
    script = Path(sys.executable).parent / "keras-resnet"
    line = [script, "train", "--resume", folder, *options]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "resumed after step" in done.stderr
    return runs.Run(folder)


@pytest.mark.slow
@pytest.mark.parametrize("dead", [0, 1])
def test_when_a_worker_dies_the_run_resumes_with_the_remaining_workers(dead, tmp_path):
    folder = tmp_path / "run"
    process = subprocess.Popen(
        _command(folder, "--epochs", 8, launch=LAUNCH), stderr=subprocess.PIPE, text=True
    )
    while not runs.Run(folder).checkpoint_steps():
        assert process.poll() is None
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    subprocess.run(["kill", "-9", children[dead]])
    _, err = process.communicate()
    assert process.returncode == (137 if dead == 0 else 1)
    assert f"worker {dead} exited with status 137; stopping the others" in err
    assert (
        f"[worker {1 - dead}] keras-resnet: worker {dead} stopped responding; `keras-resnet train "
        f"--resume {folder}` resumes it with the remaining workers"
    ) in err
    assert "Traceback" not in err
    assert (folder / "log-worker-1.txt").exists()
    assert len(_numbers(_again(folder))) == 8


@pytest.mark.slow
@pytest.mark.parametrize("has_images", [True, False])
def test_workers_with_other_images_or_none_are_reported(photos, tmp_path, has_images):
    """Alike but for what a folder of that name holds here and there."""
    if has_images:
        shutil.copytree(photos, tmp_path / "more")
        shutil.copy(photos / "dark" / "01.jpg", tmp_path / "more" / "dark" / "one-more.jpg")
    else:
        (tmp_path / "more").mkdir()
    addresses = local_workers.free_addresses(2)
    settings = ("--model", "resnet8", "--image-size", "16", "--batch-size", "4")
    workers = [
        local_workers._start(
            ("train", str(data), *settings, "--run", str(tmp_path / "run")), addresses, number
        )
        for number, data in enumerate((photos, tmp_path / "more"))
    ]
    for number, worker in enumerate(workers):
        _, err = worker.communicate(timeout=120)
        assert worker.returncode == 2, err
        if has_images:
            assert "keras-resnet: worker 1 has different training images from worker 0" in err
        elif number == 0:
            assert "keras-resnet: worker 1 cannot start; see its own error message" in err
        else:
            assert "no class folders" in err
        assert "Traceback" not in err
    assert not (tmp_path / "run").exists()
