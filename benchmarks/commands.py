"""Rows of run.py: whole commands, each in its own process, as a user runs them."""

import json
import re
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

from inputs import photos, resnet50
from pairs import measure, once, seconds_of

COMMAND = Path(sys.executable).with_name("keras-resnet")
LIGHT = (("--help",), ("models",), ("recipes",), ("train", "--epoch", "3"))  # the last: misspelt
HEAVY = {"tensorflow", "keras", "jax", "numpy"}
TRAIN = ("--model", "resnet8", "--image-size", "32", "--precision", "float32")
BATCH = 32
IMAGES = 64  # number of images for `predict`
FILES, FEW_FILES = 20_000, 100
KEPT = 4_000  # number of photos of 250×250 pixels that a training keeps decoded
# The work of `predict` without this package: the interpreter runs repeatedly on one image.
BARE = """
import sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
path, count, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
lite = Interpreter(path, num_threads=threads)
lite.allocate_tensors()
given = lite.get_input_details()[0]
pixels = np.random.default_rng(0).integers(0, 256, given["shape"]).astype(given["dtype"])
lite.set_tensor(given["index"], pixels)
for _ in range(count):
    lite.invoke()
"""


def c1(setting):
    """Seconds of the slowest of four commands that build no network."""
    for arguments in LIGHT:
        imported = _imported(arguments) & HEAVY
        if imported:
            text = " ".join(arguments)
            raise AssertionError(f"keras-resnet {text} imports {', '.join(sorted(imported))}")
    commands = [seconds_of(_run, COMMAND, *arguments) for arguments in LIGHT]
    return measure(lambda: max(seconds() for seconds in commands), pairs=setting.pairs)


def _imported(arguments):
    """The packages that a command imports."""
    lines = _run(sys.executable, "-X", "importtime", COMMAND, *arguments).stderr.splitlines()
    names = (line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:"))
    return {name.partition(".")[0] for name in names}


def _run(*command):
    return subprocess.run([*map(str, command)], capture_output=True, text=True)


def _checked(*command):
    done = _run(*command)
    if done.returncode:
        raise ChildProcessError(f"{command[0]} failed: {done.stderr.strip()[-500:]}")
    return done


def c19(setting):
    import os

    file = resnet50(setting) / "export" / "model_float32.tflite"
    images = photos(setting, IMAGES, name="images_to_classify")
    bare = (sys.executable, "-c", BARE, file, IMAGES, os.cpu_count())  # threads of `predict`
    return measure(
        seconds_of(_checked, COMMAND, "predict", file, images),
        seconds_of(_checked, *bare),
        setting.pairs,
    )


def c20(setting):
    export = resnet50(setting) / "export"
    (image, *_) = photos(setting).glob("*/*.jpg")
    bundle = export / "bundle_python"  # its model.tflite is model_int8.tflite
    return measure(
        seconds_of(_checked, COMMAND, "predict", export / "model_int8.tflite", image),
        seconds_of(_checked, sys.executable, bundle / "classify.py", image),
        setting.pairs,
    )


def c21(setting):
    """Seconds per 100,000 files. The files are in the page cache: reading them from a disk or a
    network takes longer."""
    many = photos(setting, FILES, (32, 32), "many_files")
    few = photos(setting, FEW_FILES, (32, 32), "few_files")
    runs = (setting.folder / f"run{i}" for i in count())
    # The first starts, which fill the caches, are the warm-up of `measure`.
    return measure(
        lambda: _until_first_step(many, next(runs)),
        lambda: _until_first_step(few, next(runs)),
        min(setting.pairs, 3),  # some ten seconds each
        compare=lambda a, b: (a - b) * 100_000 / (FILES - FEW_FILES),
    )


def _until_first_step(data, run):
    """Seconds from the command until the checkpoint of its first step; then it is killed."""
    command = [COMMAND, "train", "--quiet", data, *TRAIN, "--run", run, "--checkpoint-every", "1"]
    began = time.monotonic()
    with subprocess.Popen([*map(str, command)]) as process:
        while not list(run.glob("checkpoints/*.index")):
            if process.poll() is not None:
                raise ChildProcessError(f"the training on {data} ended before its first step")
            time.sleep(0.01)
        seconds = time.monotonic() - began
        process.send_signal(signal.SIGKILL)
    return seconds


def c22(setting):
    """Peak memory in bytes of a whole training, with the three image sizes of its recipe."""
    import os

    def peak_memory(*command):
        """(bytes, stderr)"""
        with subprocess.Popen(
            [*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            text = process.stderr.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise ChildProcessError(f"{command[0]} failed: {text.strip()[-500:]}")
        return usage.ru_maxrss * 1024, text

    data = photos(setting, KEPT, (250, 250), "kept_photos")
    run = setting.folder / "memory"
    peak, text = peak_memory(COMMAND, "train", data, *TRAIN, "--epochs", "8", "--run", run)
    tensorflow, _ = peak_memory(sys.executable, "-c", "import tensorflow")
    network = json.loads(_checked(COMMAND, "inspect", "resnet8", "--json").stdout)
    kept = re.search(r"kept decoded in memory: ([\d,]+) MB", text)
    parts = {
        "tensorflow": tensorflow,
        "images": int(kept[1].replace(",", "")) * 10**6 if kept else 0,
        "activations": BATCH * network["memory"]["activations_training"],
    }
    return once(peak / sum(parts.values()), peak=peak, **parts)
