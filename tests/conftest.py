"""Fixtures that all tests share; those that take seconds are created once."""

import fcntl
import json
import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
# What is cached by the tests does not stay; Matplotlib's list of fonts, which takes seconds, does.
os.environ.setdefault("MPLCONFIGDIR", os.path.expanduser("~/.cache/matplotlib"))
os.environ["XDG_CACHE_HOME"] = (_cache := tempfile.TemporaryDirectory()).name
os.environ["TMPDIR"] = _cache.name  # a process that is killed leaves files of TensorFlow

import numpy as np
import pytest
from PIL import Image

from keras_resnet.exporting import child

child.IDLE_SECONDS = 3600  # not to load TensorFlow again for each export


def pytest_configure(config):
    """Messages are shown on stderr, where tests look for them, if `logging` has no handlers."""
    config.pluginmanager.set_blocked("logging-plugin")  # its handlers are on the root logger


@pytest.fixture(scope="session")
def script(tmp_path_factory):
    """Runs the installed console script in its own folder: `script("models", "--json")`."""
    home = tmp_path_factory.mktemp("home")
    path = Path(sys.executable).parent / "keras-resnet"

    def run(*arguments, cwd=home):
        return subprocess.run([path, *map(str, arguments)], cwd=cwd, capture_output=True, text=True)

    return run


@pytest.fixture(scope="session")
def command(tmp_path_factory):
    """As `script`, but faster: in a fork of a process that has loaded TensorFlow; see forks.py.

    `most_bytes` limits the size of each file that it writes. Runs end without their plots, which
    take a third of the time of a short training.
    """
    home = tmp_path_factory.mktemp("home")
    with subprocess.Popen(
        [sys.executable, Path(__file__).with_name("forks.py")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as forks:  # fmt: skip

        def run(*arguments, cwd=home, env=os.environ, most_bytes=None):
            order = {"arguments": [*map(str, arguments)], "cwd": str(cwd), "env": dict(env)}
            order["most_bytes"] = most_bytes
            print(json.dumps(order), file=forks.stdin, flush=True)
            return SimpleNamespace(**json.loads(forks.stdout.readline()))

        yield run
        forks.stdin.close()


def made_once(tmp_path_factory, name, make):
    """The folder that `make(folder)` fills, in the first test process that needs it."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = base / name
    with open(base / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            folder.mkdir()
            try:
                make(folder)
            except BaseException:
                shutil.rmtree(folder)
                raise
    return folder


@pytest.fixture(scope="session")
def accept():
    """Deletes the entries of files that a test changed from a run's manifest, as a user may."""

    def delete(folder, *names):
        path = Path(folder, "manifest.json")
        rows = json.loads(path.read_text())
        path.write_text(json.dumps({k: row for k, row in rows.items() if k not in names}))

    return delete


@pytest.fixture(scope="session")
def mislabel(accept):
    """Gives other labels to three validation images of a run, which its model then mistakes."""

    def change(run):
        split = json.loads(run.file("split.json").read_text())
        for i in (0, 5, 10):
            name, label, *_ = split["val"][i]
            split["val"][i] = [name, next(c for c in run.classes if c != label)]
        run.file("split.json").write_text(json.dumps(split))
        accept(run, "split.json")

    return change


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """60 JPEGs, 40×48 pixels, in three classes that are easy to learn: bright, dark, striped."""

    def make(folder):
        rng = np.random.default_rng(0)
        for i in range(60):
            noise = rng.integers(0, 60, (40, 48, 3))
            stripes = 180 * (np.arange(48) // 6 % 2)[None, :, None]
            name, base = (("bright", 190), ("dark", 0), ("striped", stripes))[i % 3]
            (folder / name).mkdir(exist_ok=True)
            pixels = (noise + base).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:02d}.jpg", quality=95)

    return made_once(tmp_path_factory, "photos", make)


@pytest.fixture(scope="session")
def untouched(tmp_path_factory, photos):
    """The folder of a finished run of a ResNet-8 on `photos`, 24 pixels, three epochs: to copy."""
    from keras_resnet.training.train import train

    def make(folder):
        # Branches that start at 0 leave a shallow net, which 18 steps are enough for. In float32 it
        # is the same net on every CPU.
        options = {"epochs": 3, "image_size": 24, "batch_size": 8, "seed": 3, "zero_gamma": True}
        options |= {"model": "resnet8", "precision": "float32"}
        train(str(photos), run_folder=folder / "run", **options)

    return made_once(tmp_path_factory, "trained", make) / "run"


@pytest.fixture(scope="session")
def trained(tmp_path_factory, untouched):
    """That run."""
    from keras_resnet.run import open_run

    return open_run(shutil.copytree(untouched, tmp_path_factory.mktemp("runs") / "trained"))


@pytest.fixture(scope="session")
def first_export(tmp_path_factory, untouched):
    """A folder: `run`, that run with all variants exported and explained; `result.pickle` of the
    gate; `seen.json`, what the export read, see watch.py."""

    def make(folder):
        shutil.copytree(untouched, folder / "run")
        environment = os.environ | {"XDG_CACHE_HOME": str(folder)}  # no photo is known to be good
        script = Path(__file__).with_name("watch.py")
        subprocess.run([sys.executable, "-P", script, folder], env=environment, check=True)

    return made_once(tmp_path_factory, "exported", make)


@pytest.fixture(scope="session")
def exported(tmp_path_factory, first_export):
    """A copy of that run, and the result of the gate: (run, result)."""
    from keras_resnet.run import open_run

    run = shutil.copytree(first_export / "run", tmp_path_factory.mktemp("runs") / "exported")
    return open_run(run), pickle.loads((first_export / "result.pickle").read_bytes())


@pytest.fixture(scope="session")
def classify():
    """Runs a Python bundle where TensorFlow, Keras and this package are not to be had:
    `classify(folder, "--check")`."""
    code = (
        "import runpy, sys\n"
        "for name in ('tensorflow', 'keras', 'keras_resnet'): sys.modules[name] = None\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )

    def run(folder, *arguments):
        return subprocess.run(
            [sys.executable, "-P", "-c", code, folder / "classify.py", *map(str, arguments)],
            cwd=folder, capture_output=True, text=True,
        )  # fmt: skip

    return run


@pytest.fixture(scope="session")
def undrawn():
    """`with undrawn():` runs end without their plots, as those of `command`."""

    @contextmanager
    def context():
        from keras_resnet.training import final_evaluation

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(final_evaluation, "_draw", lambda *_: None)
            yield

    return context


@pytest.fixture
def no_pictures(undrawn):
    """The whole test is `undrawn`."""
    with undrawn():
        yield


@pytest.fixture(autouse=True)
def no_handlers_of_others():
    """absl gives the root logger a handler when TensorFlow first logs with it; fixtures of the next
    file would begin before it is cleared there."""
    logging.getLogger().handlers.clear()
    yield
    logging.getLogger().handlers.clear()


@pytest.fixture(autouse=True)
def float32_is_float32():
    """On a GPU too, where tests compare it; see `keras_resnet.evaluation.reference`."""
    if "tensorflow" not in sys.modules:
        yield
        return
    from keras_resnet.evaluation.reference import true_float32

    with true_float32():
        yield


@pytest.fixture
def signals_are_heard():
    """A test that a shell started in the background would have it ignored, under nohup SIGHUP."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    before_hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, before)
    signal.signal(signal.SIGHUP, before_hangup)
