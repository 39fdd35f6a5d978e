"""Starts several workers of one run on this machine, connected by `TF_CONFIG`."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import FrameType

from keras_resnet import signals
from keras_resnet.errors import InputError, require_whole
from keras_resnet.messages import log, show

_NOTICE = 60  # seconds from the failure of a worker to SIGTERM for the others
_LEAVE = 20  # seconds from SIGTERM to SIGKILL
_POLL = 0.1
_MAIN = "import sys; from keras_resnet.cli import main; sys.exit(main())"


def launch(arguments: Sequence[str], workers: int) -> int:
    """Runs `keras-resnet ARGUMENTS` as several workers of one run, until all have ended.

    The chief's stdout is passed on; stderr lines get the worker's number as a prefix. If a worker
    fails, the others are stopped; Ctrl-C, SIGTERM and SIGHUP are sent to all workers.

    Returns:
        The exit status of the chief, worker 0; 128 + n if signal n ended it.

    Raises:
        InputError: no `train`, or fewer than two workers.
    """
    if arguments[:1] != ("train",):
        raise InputError(
            "launch runs only `train`: keras-resnet launch --workers 2 -- train DATA …"
        )
    require_whole("--workers", workers, 2)
    addresses = free_addresses(workers)
    processes: list[subprocess.Popen[str]] = []
    readers = []
    with _signals_to(processes) as passed:
        for number in range(workers):
            process = _start(arguments, addresses, number)
            processes.append(process)
            reader = threading.Thread(target=_pass_on, args=(number, process.stderr), daemon=True)
            readers.append(reader)
            reader.start()
            if passed:  # the signal may have arrived before this process started
                process.send_signal(passed[-1])
                break
        _wait(processes, passed)
    for reader in readers:
        reader.join()
    return _status(processes[0])


def free_addresses(count: int) -> list[str]:
    """Free HOST:PORT addresses of this machine."""
    with ExitStack() as stack:  # all open at the same time, so that ports differ
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]


def _start(
    arguments: Sequence[str], addresses: Sequence[str], number: int
) -> subprocess.Popen[str]:
    task = {"type": "worker", "index": number}
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _MAIN, *arguments],  # -P: no imports from the current folder
        env={
            **os.environ,
            "TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": task}),
        },
        stdin=subprocess.DEVNULL,
        stdout=None if number == 0 else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="backslashreplace",
        start_new_session=True,  # otherwise the terminal's Ctrl-C would arrive twice
    )


def _pass_on(number: int, lines: Iterable[str]) -> None:
    for line in lines:
        show(f"[worker {number}] {line}".rstrip("\n"))


@contextmanager
def _signals_to(processes: Sequence[subprocess.Popen[str]]) -> Iterator[list[int]]:
    """Passes signals on to the processes; yields the list of these signals."""
    passed = []

    def send(number: int, frame: FrameType | None) -> None:
        passed.append(number)
        for process in processes:
            process.send_signal(number)  # does nothing for a process that has ended

    with signals.handled(send):
        yield passed


def _wait(processes: Sequence[subprocess.Popen[str]], passed: Sequence[int]) -> None:
    """Waits until all have ended; if one fails, stops the others after a grace period."""
    limits = [(_NOTICE, subprocess.Popen.terminate), (_LEAVE, subprocess.Popen.kill)]
    since = None  # time of the failure, or of the last signal to the others
    while any(process.poll() is None for process in processes):
        time.sleep(_POLL)
        failed = [n for n, process in enumerate(processes) if process.poll()]
        if failed and since is None:
            since = time.monotonic()
            status = _status(processes[failed[0]])
            if not passed:
                log.info(f"worker {failed[0]} exited with status {status}; stopping the others")
        if limits and since and time.monotonic() - since > limits[0][0]:
            _, end = limits.pop(0)
            since = time.monotonic()
            for process in processes:
                end(process)


def _status(process: subprocess.Popen[str]) -> int:
    """The exit status as in a shell: 128 + n after signal n."""
    return process.returncode if process.returncode >= 0 else 128 - process.returncode
