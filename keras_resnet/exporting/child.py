"""Runs modules in child processes: TensorFlow's converter leaks memory and prints much.

The children are forks of a server, a process that has loaded TensorFlow, which takes seconds, and
computed nothing. On macOS, whose libraries do not work in a fork, they are new processes.

`python -m keras_resnet.exporting.child IDLE_SECONDS` reads requests and prints responses, one line
of JSON each: {module, arguments, environ, cwd} and {status, output, errors}.
"""

import atexit
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, BinaryIO

from keras_resnet import runtime
from keras_resnet.errors import CheckFailed, NetworkFailed
from keras_resnet.files import StrPath, full_disk
from keras_resnet.messages import log, reason

_PEAK = "peak memory in bytes: "
_SECONDS_BETWEEN_LINES = 15
FORKS = sys.platform != "darwin"
IDLE_SECONDS = 60  # the server, which takes 0.7 GB, ends after this time without a request

_server: subprocess.Popen[str] | None = None
_last_words: BinaryIO | None = None  # stderr of the server
_one_order_at_a_time = threading.Lock()


def run(module: str, *arguments: StrPath | int, what: str) -> dict[str, Any]:
    """Runs `python -m module arguments` and logs progress.

    Args:
        module: full name of a module that ends with `report_peak()`.
        arguments: its arguments.
        what: name of the result, for the progress and the error.

    Returns:
        {seconds, peak_memory_bytes}; the latter is None if the system does not measure it.

    Raises:
        CheckFailed: the disk is full.
        NetworkFailed: the child failed for another reason, which the message has.
    """
    began = time.monotonic()
    order = {
        "module": module,
        "arguments": [*map(str, arguments)],
        "environ": os.environ | runtime.ON_CPU,
        "cwd": os.getcwd(),
    }
    with _one_order_at_a_time:
        try:
            answer = _answer(json.dumps(order), what, began)
        except BaseException:  # Ctrl-C: the child must stop writing
            stop()
            raise
    if answer["status"]:
        why = reason(answer["status"], answer["errors"])
        error = CheckFailed if full_disk(why) else NetworkFailed
        raise error(f"{what} failed: {why}")
    return {
        "seconds": round(time.monotonic() - began, 1),
        "peak_memory_bytes": _peak(answer["output"]),
    }


def start() -> None:
    """Starts the server unless it runs; does not wait for it."""
    global _server, _last_words
    if _server and _server.poll() is None:
        return
    stop()
    _last_words = tempfile.TemporaryFile()  # noqa: SIM115  open while the server runs
    _server = subprocess.Popen(
        # -P: a file in the user's folder must not shadow a module.
        [sys.executable, "-P", "-m", __name__, str(IDLE_SECONDS)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=_last_words, text=True,
        env=os.environ | runtime.ON_CPU,
        start_new_session=True,  # for `stop`, and so that Ctrl-C reaches this process only
    )  # fmt: skip


@atexit.register
def stop() -> None:
    """Ends the server and its running child."""
    global _server
    if _server:
        with suppress(ProcessLookupError, PermissionError):  # it has ended; the second on macOS
            os.killpg(_server.pid, signal.SIGKILL)
        _server.communicate()
        _server = None


def report_peak() -> None:
    """Reports the peak memory of this process to the parent."""
    if peak := runtime.peak_bytes():
        print(f"{_PEAK}{peak}", flush=True)


def cost(found: Mapping[str, Any]) -> str:
    """The measurements of `run` as text."""
    peak = found["peak_memory_bytes"]
    memory = f", {peak / 1e9:.1f} GB of memory" if peak else ""
    return f"{found['seconds']:.0f} s{memory}"


def _answer(order: str, what: str, began: float) -> dict[str, Any]:
    start()
    assert _server and _server.stdin and _server.stdout and _last_words
    with suppress(BrokenPipeError):  # the server has ended: there is no response
        print(order, file=_server.stdin, flush=True)
    while not select.select([_server.stdout], [], [], _SECONDS_BETWEEN_LINES)[0]:
        log.info(f"{what}: {time.monotonic() - began:.0f} s so far")
    if line := _server.stdout.readline():
        return json.loads(line)
    if not (status := _server.wait()):
        return _answer(order, what, began)
    return {"status": status, "errors": _text(_last_words)}


def _peak(output: str) -> int | None:
    found = [line for line in output.splitlines() if line.startswith(_PEAK)]
    return int(found[-1].removeprefix(_PEAK)) if found else None


def _serve(idle_seconds: int) -> None:
    """Serves requests until none arrives for `idle_seconds`, or stdin is closed."""
    runtime.prepare()
    if FORKS:
        import tensorflow  # noqa: F401  for the children

    while select.select([sys.stdin], [], [], idle_seconds)[0] and (line := sys.stdin.readline()):
        print(json.dumps(_in_a_child(**json.loads(line))), flush=True)


def _in_a_child(
    module: str, arguments: list[str], environ: dict[str, str], cwd: str
) -> dict[str, Any]:
    """Runs `python -m module arguments`; returns {status, output, errors}."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        if FORKS:
            child = os.fork()
            if child == 0:
                os.dup2(output.fileno(), 1)
                os.dup2(errors.fileno(), 2)
                os.environ.clear()
                os.environ.update(environ)
                os.chdir(cwd)
                sys.argv = [module, *arguments]
                runpy.run_module(module, run_name="__main__", alter_sys=True)
                sys.exit()
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        else:
            status = subprocess.call(
                [sys.executable, "-P", "-m", module, *arguments],
                stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=environ, cwd=cwd,
            )  # fmt: skip
        return {"status": status, "output": _text(output), "errors": _text(errors)}


def _text(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
