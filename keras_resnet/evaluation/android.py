"""Times `.tflite` files on a phone with LiteRT's benchmark program over adb."""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from keras_resnet.errors import CheckFailed, InputError, first_line
from keras_resnet.evaluation.benchmark import expand, require
from keras_resnet.files import StrPath
from keras_resnet.messages import log, some_of
from keras_resnet.results import Result
from keras_resnet.run import kind_of

FOLDER = "/data/local/tmp"  # adb may write and execute files here
PROGRAM = f"{FOLDER}/benchmark_model"
# The last lines that the program prints, in microseconds and MB.
_TIMINGS = re.compile(
    r"Init: (?P<init>[\d.]+), First inference: (?P<first>[\d.]+), .*Inference \(avg\): "
    r"(?P<average>[\d.e+]+)"
)
_MEMORY = re.compile(r"Memory footprint.*overall=(?P<megabytes>[\d.]+)")


@dataclass(frozen=True)
class Timing:
    """The timing of a file on the device."""

    artefact: str
    average_ms: float
    load_ms: float
    first_ms: float
    memory_bytes: int | None  # None if the program does not print it


@dataclass(frozen=True)
class PhoneBenchmark(Result):
    """The timings of files on the device that adb finds."""

    device: str
    threads: int
    runs: int
    artefacts: list[Timing]


def benchmark(artefacts: Iterable[StrPath], *, threads: int, runs: int) -> PhoneBenchmark:
    """Times the `.tflite` files among artefacts on the device that adb finds.

    Args:
        artefacts: as in `keras_resnet.evaluation.benchmark`.
        threads, runs: number of threads and runs of the program on the device.

    Returns:
        A `PhoneBenchmark`.

    Raises:
        InputError: no adb, no device, no benchmark program on it, no `.tflite` file.
        CheckFailed: the program failed on the device.
    """
    require(threads, 1, runs)
    files = [path for path in expand(artefacts) if kind_of(path) == "tflite"]
    if not files:
        raise InputError("--android takes .tflite files; `keras-resnet export --tflite` writes one")
    serial = require_device()
    device = _adb(serial, "shell", "getprop ro.product.model").strip() or serial
    timings = [_measure(serial, file, threads, runs) for file in files]
    return PhoneBenchmark(device, threads, runs, timings)


def require_device() -> str:
    """The serial number of the device, with the program on it; InputError without one."""
    if shutil.which("adb") is None:
        raise InputError(
            "--android needs adb, which is not installed: apt install adb, or Android's "
            "platform-tools"
        )
    found = [line.split() for line in _adb("", "devices").splitlines()[1:] if line.strip()]
    ready = [words[0] for words in found if words[1:2] == ["device"]]
    if chosen := os.environ.get("ANDROID_SERIAL"):
        ready = [serial for serial in ready if serial == chosen]
    if len(ready) > 1:
        raise InputError(
            f"--android needs one device, but adb finds {some_of(ready)}; set ANDROID_SERIAL to one"
        )
    if not ready:
        raise InputError(
            f"--android needs a device, but adb finds no {chosen or 'device'} that is ready; "
            "connect it, enable USB debugging, and check `adb devices`"
        )
    (serial,) = ready
    if _adb(serial, "shell", f"test -x {PROGRAM} && echo there").strip() != "there":
        raise InputError(
            f"--android needs LiteRT's benchmark_model for Android as {PROGRAM} on the device: "
            f"`adb push benchmark_model {FOLDER}/` and `adb shell chmod +x {PROGRAM}`"
        )
    return serial


def _measure(serial: str, file: str, threads: int, runs: int) -> Timing:
    log.info(f"timing {file} on the device …")
    there = f"{FOLDER}/keras_resnet_{Path(file).name}"
    quoted = shlex.quote(there)  # for the device's shell
    _adb(serial, "push", file, there)
    try:
        said = _adb(
            serial,
            "shell",
            f"{PROGRAM} --graph={quoted} --num_threads={threads} --num_runs={runs} "
            "--report_peak_memory_footprint=true 2>&1",
        )
    finally:
        _adb(serial, "shell", f"rm -f {quoted}")
    timings, memory = _TIMINGS.search(said), _MEMORY.search(said)
    if not timings:
        raise CheckFailed(f"{file}: benchmark_model printed no timings ({first_line(said)})")
    return Timing(
        artefact=file,
        average_ms=float(timings["average"]) / 1000,
        load_ms=float(timings["init"]) / 1000,
        first_ms=float(timings["first"]) / 1000,
        memory_bytes=round(float(memory["megabytes"]) * 1e6) if memory else None,
    )


def _adb(serial: str, *arguments: str) -> str:
    """Runs adb for a device; "": for none."""
    environment = os.environ | ({"ANDROID_SERIAL": serial} if serial else {})
    done = subprocess.run(["adb", *arguments], capture_output=True, text=True, env=environment)
    # `adb shell` returns the exit status of the remote command, whose output is checked instead.
    if done.returncode and arguments[0] != "shell":
        raise InputError(f"adb {arguments[0]} failed ({first_line(done.stderr)})")
    return done.stdout
