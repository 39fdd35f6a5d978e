"""Runs work in a child process: TensorFlow's converter leaks memory and prints hundreds of lines.

A module that runs as a child ends with `report_peak()`.
"""

import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from keras_resnet.errors import CheckFailed
from keras_resnet.files import StrPath
from keras_resnet.messages import log

_PEAK = "peak memory in bytes: "
_SECONDS_BETWEEN_LINES = 15


def run(module: str, *arguments: StrPath | int, what: str) -> dict[str, Any]:
    """Runs `python -m module arguments`, with a line of progress now and then.

    Args:
        module: full name of a module that ends with `report_peak()`.
        arguments: its arguments, as text.
        what: what is being made, for the lines and the error.

    Returns:
        {seconds, peak_memory_bytes}; the latter None where the system does not say.

    Raises:
        CheckFailed: the child failed; the line holds its reason.
    """
    # -P: a file of the user's that is called like a module must not be imported instead of it.
    command = [sys.executable, "-P", "-m", module, *map(str, arguments)]
    began = time.monotonic()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as child:
        try:
            output, errors = _wait(child, what, began)
        except BaseException:  # Ctrl-C: the child must not go on writing
            child.kill()
            raise
    if child.returncode:
        raise CheckFailed(f"{what} failed: {_reason(child.returncode, errors)}")
    return {
        "seconds": round(time.monotonic() - began, 1),
        "peak_memory_bytes": _peak(output),
    }


def report_peak() -> None:
    """Reports the peak memory of this process to the parent."""
    # Not getrusage: what it calls the peak of a child begins with what the parent held at the fork.
    try:
        with open("/proc/self/status") as status:
            (kilobytes,) = [line.split()[1] for line in status if line.startswith("VmHWM:")]
    except OSError:
        return
    print(f"{_PEAK}{1024 * int(kilobytes)}", flush=True)


def cost(found: Mapping[str, Any]) -> str:
    """What `run` measured, in words."""
    peak = found["peak_memory_bytes"]
    memory = f", {peak / 1e9:.1f} GB of memory" if peak else ""
    return f"{found['seconds']:.0f} s{memory}"


def _wait(child: subprocess.Popen[str], what: str, began: float) -> tuple[str, str]:
    while True:
        try:
            return child.communicate(timeout=_SECONDS_BETWEEN_LINES)
        except subprocess.TimeoutExpired:
            log.info(f"{what}: {time.monotonic() - began:.0f} s so far")


def _reason(status: int, errors: str) -> str:
    if status == -9:
        return "killed by signal 9, probably out of memory"
    lines = [line for line in errors.splitlines() if line.strip()]
    return lines[-1][:300] if lines else f"status {status}"


def _peak(output: str) -> int | None:
    found = [line for line in output.splitlines() if line.startswith(_PEAK)]
    return int(found[-1].removeprefix(_PEAK)) if found else None
