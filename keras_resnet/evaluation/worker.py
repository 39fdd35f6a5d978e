"""The process in which `benchmark` measures one artefact.

    python -m keras_resnet.evaluation.worker ARTEFACT THREADS BATCH

Each artefact has its own process: peak memory is measured per process, and the number of threads of
a runtime is fixed for a whole process. For each line on stdin, `{"images": 1 or BATCH, "runs": n}`,
it prints a line of JSON on stdout; a first line comes without a request.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from importlib import import_module, metadata
from typing import Any

import numpy as np

from keras_resnet import runtime
from keras_resnet.errors import InputError
from keras_resnet.evaluation.artefact import open_artefact
from keras_resnet.run import kind_of

# kind -> the modules to import before anything is opened, and the packages that hold them
_LITERT = (["ai_edge_litert.interpreter"], ["ai-edge-litert"])
_ORT = (["onnxruntime"], ["onnxruntime"])
_TENSORFLOW = (["tensorflow", "keras"], ["tensorflow", "keras"])
_RUNTIMES = {"tflite": _LITERT, "onnx": _ORT}


def _serve(path: str, threads: int, batch: int, answer: Callable[[dict[str, Any]], None]) -> None:
    modules, packages = _RUNTIMES.get(kind_of(path), _TENSORFLOW)
    began = time.perf_counter()
    _start_runtime(modules, threads)
    imported = time.perf_counter()
    runtime_bytes = _peak_bytes()
    artefact = open_artefact(path, threads=threads, trust=True)  # `benchmark` checked it
    shape = (batch, *artefact.geometry.shape)
    # Random, not zeros: some hardware is faster on zeros than on photos.
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
    artefact.predict(pixels[:1])
    loaded = time.perf_counter()
    answer(
        {
            "kind": artefact.kind,
            "versions": {name: metadata.version(name) for name in packages},
            "import_ms": 1000 * (imported - began),
            "load_ms": 1000 * (loaded - imported),
            "runtime_bytes": runtime_bytes,
        }
    )
    for line in sys.stdin:
        request = json.loads(line)
        times = _times(artefact.predict, pixels[: request["images"]], request["runs"])
        answer({"ms": times, "peak_bytes": _peak_bytes()})


def _start_runtime(modules: Iterable[str], threads: int) -> None:
    try:
        for module in modules:
            import_module(module)
    except ImportError:
        return  # `open_artefact` raises an error that names the extra to install
    if "tensorflow" in modules:
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)


def _times(predict: Callable[[np.ndarray], object], pixels: np.ndarray, runs: int) -> list[float]:
    """Milliseconds of each run, after one that is not counted, to warm the caches."""
    predict(pixels)
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        predict(pixels)
        times.append(1000 * (time.perf_counter() - began))
    return times


def _peak_bytes() -> int:
    """Peak resident set size of this process so far; not on Linux, maybe that of its parent."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return runtime.peak_bytes() or (peak if sys.platform == "darwin" else 1024 * peak)


def main(path: str, threads: str, batch: str) -> None:
    # Output of libraries must not mix with the answers.
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(content: dict[str, Any]) -> None:
        print(json.dumps(content), file=channel, flush=True)

    runtime.prepare()
    try:
        _serve(path, int(threads), int(batch), answer)
    except InputError as error:
        answer({"error": str(error)})


if __name__ == "__main__":
    main(*sys.argv[1:])
