"""Checks before training that all workers are connected and have the same settings.

TensorFlow's own start-up waits up to an hour in C++, where it handles neither Ctrl-C nor SIGTERM,
and does not detect different settings: training would hang, or sum gradients of different networks.
So all workers first send their settings to worker 0, at the address of its future TensorFlow
server, and receive the result of its comparison.
"""

import json
import os
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from keras_resnet.errors import InputError

LIMIT = 600  # seconds that workers wait for each other
_POLL = 0.2
_READ = 5  # seconds that a message may take
_LONGEST = 1 << 16  # bytes of a message
_LOOPBACK = {"127.0.0.1": socket.AF_INET, "localhost": socket.AF_INET, "::1": socket.AF_INET6}


def meet(addresses: Sequence[str], worker: int, settings: Mapping[str, Any]) -> None:
    """Returns when all workers are connected and have the same settings.

    Args:
        addresses: HOST:PORT of each worker.
        worker: the number of this worker.
        settings: settings that must be equal for all workers, {name: value}, ready for JSON.

    Raises:
        InputError: different settings, or a missing worker (raised by all connected workers); or
            this worker's port is in use.
    """
    deadline = time.monotonic() + LIMIT
    settings = json.loads(json.dumps(settings))  # tuples become lists, as in received settings
    host, _, port = addresses[worker].rpartition(":")
    try:
        own = _listen(host.strip("[]"), int(port))
    except (OSError, ValueError, OverflowError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
        raise InputError(
            f"worker {worker} cannot listen at {addresses[worker]} ({reason}); use a free port"
        ) from None
    if worker == 0:
        objection = _collect(own, addresses, settings, deadline)
    else:
        own.close()
        objection = _send(addresses[0], worker, settings, deadline)
    if objection:
        raise InputError(objection)


def _listen(host: str, port: int) -> socket.socket:
    """Listens at all addresses of this machine, including IPv6 if available; for a worker that is
    only for this machine, at its loopback address."""
    if host in _LOOPBACK:
        return socket.create_server((host, port), family=_LOOPBACK[host])
    try:
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    except (OSError, ValueError):
        return socket.create_server(("", port))


def _collect(
    own: socket.socket, addresses: Sequence[str], settings: Mapping[str, Any], deadline: float
) -> str | None:
    """Worker 0: receives and compares all settings; returns the problem, or None."""
    # Connection and settings by worker.
    others: dict[int, tuple[socket.socket, dict[str, Any]]] = {}
    with own:
        while True:
            others = {n: each for n, each in others.items() if _is_open(each[0])}
            missing = [n for n in range(1, len(addresses)) if n not in others]
            left = deadline - time.monotonic()
            if not missing or left <= 0:
                break
            own.settimeout(min(left, 1.0))
            try:
                connection, _ = own.accept()
                message = _read(connection)
                number, its = message["worker"], message["settings"].items()
                if 1 <= number < len(addresses):
                    # Replaces a dead connection if the worker was restarted.
                    others[number] = (connection, dict(its))
            except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
                continue  # timeout, or not a worker
    objection = None
    if missing:
        absent = ", ".join(f"{number} ({addresses[number]})" for number in missing)
        objection = (
            f"worker {absent} did not connect within {LIMIT} s; start all workers, and check that "
            "they can reach each other's ports"
        )
    for number, (_, its) in sorted(others.items()):
        objection = objection or _difference(number, its, settings)
    for connection, _ in others.values():
        with connection, suppress(OSError):  # TensorFlow will detect a lost worker
            connection.sendall(_line({"objection": objection}))
    return objection


def _send(address: str, worker: int, settings: Mapping[str, Any], deadline: float) -> str | None:
    """Other workers: send their settings to worker 0; returns the problem, or None."""
    host, _, port = address.rpartition(":")
    problem = "no answer"
    while (left := deadline - time.monotonic()) > 0:
        try:
            with socket.create_connection((host.strip("[]"), int(port)), _READ) as connection:
                connection.sendall(_line({"worker": worker, "settings": settings}))
                # Waits a little longer than worker 0, which then reports the missing worker.
                return _read(connection, left + _READ)["objection"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            problem = getattr(error, "strerror", None) or problem
            time.sleep(_POLL)
    return (
        f"worker 0 ({address}) was not reachable for {LIMIT} s ({problem}); start all workers, and "
        "check that they can reach each other's ports"
    )


def _difference(number: int, its: Mapping[str, Any], settings: Mapping[str, Any]) -> str | None:
    for what in settings:
        if its.get(what) != settings[what]:
            return (
                f"{what} is {its.get(what)} for worker {number}, {settings[what]} for worker 0; it "
                "must be the same for all workers"
            )
    return None


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _read(connection: socket.socket, seconds: float = _READ) -> Any:
    """The message of a peer, who has so many seconds for all of it."""
    end, received = time.monotonic() + seconds, b""
    while not received.endswith(b"\n") and len(received) < _LONGEST:
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"a message took longer than {seconds:g} s")
        connection.settimeout(left)
        if not (part := connection.recv(4096)):
            break
        received += part
    return json.loads(received)


def _is_open(connection: socket.socket) -> bool:
    """Whether the other end, which sends nothing more, is still connected."""
    connection.setblocking(False)
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        connection.settimeout(_READ)
