"""Compares artefacts: latency, throughput, memory and load time, each in a separate process.

The processes run at the same time and are measured in turn, A B C A, A B C A, …: a slowdown of the
machine affects all of them. The first artefact is the reference; it runs again at the end of every
round, so that its ratio to itself shows how far the other ratios can be trusted.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_resnet import filenames, progress, runtime
from keras_resnet.choices import BATCH, RUNS, THREADS
from keras_resnet.errors import CheckFailed, InputError, require_whole
from keras_resnet.files import StrPath, require_path
from keras_resnet.manifest import fingerprint
from keras_resnet.messages import log, plural, reason
from keras_resnet.results import Result
from keras_resnet.run import kind_of, open_run, require_trusted

ROUNDS = 7
_MOST_THREADS = 64
STEADY = (0.95, 1.05)  # ratio of the reference to itself; outside, the machine was busy


@dataclass(frozen=True)
class Spread:
    """Median and range of a ratio over the rounds."""

    median: float
    min: float
    max: float


@dataclass(frozen=True)
class Measurement:
    """An artefact's latency, from pixels in memory to scores in memory, throughput and memory."""

    artefact: str
    kind: str
    versions: dict[str, str]  # versions of the packages that ran it
    bytes: int
    memory_bytes: int  # peak of the process, Python and runtime included
    runtime_bytes: int  # memory after the import of the runtime
    load_ms: float  # from the end of the import to the first prediction
    import_ms: float
    p50_ms: float
    p95_ms: float
    ratio: Spread  # of the median of a round to that of the reference
    images_per_second: float


@dataclass(frozen=True)
class Benchmark(Result):
    """The measurements of all artefacts."""

    machine: dict[str, Any]
    threads: int
    batch_size: int
    rounds: int
    runs: int  # actual number: a multiple of `rounds`
    reference: str  # path of the first artefact
    noise: Spread  # the reference's ratio to itself
    steady: bool  # whether its median is within 0.95 and 1.05
    artefacts: list[Measurement]


def benchmark(
    artefacts: Iterable[StrPath] | StrPath = (),
    *,
    threads: int = THREADS,
    batch_size: int = BATCH,
    runs: int = RUNS,
    trust: bool = False,
) -> Benchmark:
    """Measures artefacts against the first of them, on the CPU.

    Args:
        artefacts: a path or several; a run folder stands for its Keras model and all files
            exported from it. Empty: the newest run.
        threads: threads of each runtime.
        batch_size: images per call for the throughput; a `.tflite` takes them one by one.
        runs: single-image inferences per artefact, over all rounds.
        trust: run SavedModels that were not exported here.

    Returns:
        A `Benchmark`.

    Raises:
        InputError: an invalid argument, or not an artefact. CheckFailed: one of them crashed.
    """
    require(threads, batch_size, runs)
    paths = expand(artefacts)
    for path in paths:
        require_trusted(path, trust)
    rounds = min(ROUNDS, runs)
    per_round = -(-runs // rounds)
    with ExitStack() as stack:
        workers = []
        for path in paths:
            log.info(f"opening {path} …")
            workers.append(stack.enter_context(_Worker(path, threads, batch_size)))
        asked = [(w, 1, per_round) for w in (*workers, workers[0])]
        single = [[w.ask(images, n) for w, images, n in asked] for _ in _counted(rounds, "one")]
        batched = [[w.ask(batch_size, 1) for w in workers] for _ in _counted(rounds, "a batch")]
    medians = np.array([[np.median(times) for times in row] for row in single])  # (rounds, n + 1)
    ratios = medians / medians[:, :1]
    noise = _spread(ratios[:, -1])
    return Benchmark(
        machine=_machine(),
        threads=threads,
        batch_size=batch_size,
        rounds=rounds,
        runs=rounds * per_round,
        reference=paths[0],
        noise=noise,
        steady=STEADY[0] <= noise.median <= STEADY[1],
        artefacts=[
            Measurement(
                **worker.facts,
                p50_ms=_percentile(single, i, 50),
                p95_ms=_percentile(single, i, 95),
                ratio=_spread(ratios[:, i]),
                images_per_second=round(1000 * batch_size / _percentile(batched, i, 50), 1),
            )
            for i, worker in enumerate(workers)
        ],
    )


def require(threads: int, batch_size: int, runs: int) -> None:
    """InputError for values out of range."""
    for option, value in (("threads", threads), ("batch-size", batch_size), ("runs", runs)):
        require_whole(f"--{option}", value, 1)
    cores = runtime.cores()
    if threads > max(_MOST_THREADS, cores):
        raise InputError(
            f"--threads is {threads}; expected at most {max(_MOST_THREADS, cores)}: this machine "
            f"has {plural(cores, 'core')}"
        )


def expand(artefacts: Iterable[StrPath] | StrPath) -> list[str]:
    """The paths to measure, each once: a run's model and exported files in place of its folder.

    Raises:
        InputError: no such path, or not an artefact.
    """
    paths: list[str] = []
    is_one = isinstance(artefacts, str | os.PathLike) or not isinstance(artefacts, Iterable)
    given: Any = [artefacts] if is_one else artefacts or [open_run()]
    for path in [str(require_path(artefact)) for artefact in given]:
        if kind_of(path) == "run":
            run = open_run(path)
            paths += map(str, [run.file(filenames.MODEL), *run.exported()])
        else:
            paths.append(path)
    return list(dict.fromkeys(paths))


class _Worker:
    """A process with one artefact; see `keras_resnet.evaluation.worker`."""

    def __init__(self, path: str, threads: int, batch: int):
        self._path = path
        self._log = tempfile.TemporaryFile()  # noqa: SIM115, closed in __exit__
        # -P: a file in the user's folder must not shadow a module.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "keras_resnet.evaluation.worker", path, str(threads),
             str(batch)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
            env=os.environ | runtime.ON_CPU,
        )  # fmt: skip

    def __enter__(self) -> "_Worker":
        try:
            found = self._answer()
        except BaseException:
            self.__exit__()
            raise
        self.facts: dict[str, Any] = {
            "artefact": self._path,
            "kind": found["kind"],
            "versions": found["versions"],
            "bytes": fingerprint(self._path)["bytes"],
            "memory_bytes": None,
            "runtime_bytes": found["runtime_bytes"],
            "load_ms": round(found["load_ms"], 1),
            "import_ms": round(found["import_ms"], 1),
        }
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def ask(self, images: int, runs: int) -> list[float]:
        """Milliseconds of each of `runs` inferences on `images` images."""
        question = json.dumps({"images": images, "runs": runs})
        # If the process has ended, `_answer` reports its last output.
        with suppress(BrokenPipeError):
            print(question, file=self._process.stdin, flush=True)
        found = self._answer()
        self.facts["memory_bytes"] = found["peak_bytes"]
        return found["ms"]

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None  # it is a pipe
        line = self._process.stdout.readline()
        if not line:
            raise CheckFailed(f"{self._path}: {self._last_words()}")
        found = json.loads(line)
        if "error" in found:
            raise InputError(found["error"])
        return found

    def _last_words(self) -> str:
        status = self._process.wait()
        self._log.seek(0)
        return "its process failed: " + reason(status, self._log.read().decode(errors="replace"))


def _counted(rounds: int, what: str) -> Iterator[int]:
    return progress.track(range(rounds), rounds, f"timing {what} at a time", "rounds")


def _percentile(rounds: Sequence[Sequence[Sequence[float]]], column: int, percent: float) -> float:
    return round(float(np.percentile([t for row in rounds for t in row[column]], percent)), 3)


def _spread(values: np.ndarray) -> Spread:
    least, middle, most = np.percentile(values, [0, 50, 100])
    return Spread(*(round(float(value), 3) for value in (middle, least, most)))


def _machine() -> dict[str, Any]:
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "cpu": runtime.cpu_name(),
        "cores": runtime.cores(),
        "flags": runtime.fast_cpu_flags(),
    }
