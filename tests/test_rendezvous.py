"""The comparison of workers before training; here, the workers are threads."""

import json
import socket
import threading
import time

import pytest

from keras_resnet.distributed import rendezvous
from keras_resnet.distributed.local_workers import free_addresses
from keras_resnet.errors import InputError

SETTINGS = {"--epochs": 3, "--crop-area": (0.7, 1.0)}


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(rendezvous, "LIMIT", 20)


@pytest.fixture
def addresses():
    return free_addresses(3)


def _meet(addresses, settings, delays=()):
    """What each worker of `settings` ends with: None, or the line of its InputError."""
    found = {}

    def be(worker):
        time.sleep(dict(delays).get(worker, 0))
        try:
            found[worker] = rendezvous.meet(addresses, worker, settings[worker])
        except InputError as error:
            found[worker] = str(error)

    threads = [threading.Thread(target=be, args=(worker,)) for worker in settings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[worker] for worker in sorted(found)]


@pytest.mark.parametrize("late", [0, 1, 2])
def test_they_wait_until_all_are_there(late, addresses):
    assert _meet(addresses, dict.fromkeys(range(3), SETTINGS), {late: 0.5}) == [None] * 3


def test_the_port_is_free_again_for_who_listens_next(addresses):
    _meet(addresses, dict.fromkeys(range(3), SETTINGS))
    for address in addresses:
        host, _, port = address.partition(":")
        rendezvous._listen(host, int(port)).close()


def test_all_report_a_worker_with_different_settings(addresses):
    line = "--epochs is 4 for worker 2, 3 for worker 0; it must be the same for all workers"
    assert (
        _meet(addresses, {0: SETTINGS, 1: SETTINGS, 2: {**SETTINGS, "--epochs": 4}}) == [line] * 3
    )


def test_all_report_a_worker_that_did_not_connect(addresses, monkeypatch):
    monkeypatch.setattr(rendezvous, "LIMIT", 1)
    first, other = _meet(addresses, {0: SETTINGS, 2: SETTINGS})
    assert first == other
    assert f"worker 1 ({addresses[1]}) did not connect within 1 s; start all workers" in first


def test_without_worker_0_there_is_no_meeting(addresses, monkeypatch):
    monkeypatch.setattr(rendezvous, "LIMIT", 1)
    (line,) = _meet(addresses, {1: SETTINGS})
    assert line.startswith(
        f"worker 0 ({addresses[0]}) was not reachable for 1 s (Connection refused); start all"
    )


def test_a_port_that_is_taken_is_named(addresses):
    host, _, port = addresses[1].partition(":")
    with rendezvous._listen(host, int(port)):
        (line,) = _meet(addresses, {1: SETTINGS})
    assert line == (
        f"worker 1 cannot listen at {addresses[1]} (Address already in use); use a free port"
    )
    (line,) = _meet(["127.0.0.1:http", addresses[1]], {0: SETTINGS})
    assert line.startswith("worker 0 cannot listen at 127.0.0.1:http")


STRANGERS = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"",
    b"[]\n",
    b'{"worker": 7, "settings": {}}\n',
    b'{"worker": 1, "settings": 5}\n',
    b"\xff" * 100_000,
    b"[" * 60_000 + b"\n",
]


def test_a_stranger_who_is_slow_does_not_hold_the_meeting():
    ours, its = socket.socketpair()

    def dribble():
        try:
            while True:
                its.sendall(b" ")
                time.sleep(0.05)
        except OSError:
            return

    stranger = threading.Thread(target=dribble)
    stranger.start()
    with ours, pytest.raises(TimeoutError):
        rendezvous._read(ours, 0.3)
    stranger.join()
    its.close()


def test_workers_of_one_machine_listen_to_it_alone(addresses):
    host, _, port = addresses[0].partition(":")
    with rendezvous._listen(host, int(port)) as own:
        assert own.getsockname()[0] == host == "127.0.0.1"


def test_strangers_are_not_counted(addresses, monkeypatch):
    monkeypatch.setattr(rendezvous, "_READ", 0.2)
    host, _, port = addresses[0].partition(":")

    def intrude():
        time.sleep(0.2)
        for message in STRANGERS:
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(message)
                time.sleep(0.1)

    stranger = threading.Thread(target=intrude)
    stranger.start()
    assert _meet(addresses, dict.fromkeys(range(3), SETTINGS), {2: 1}) == [None] * 3
    stranger.join()


def test_of_two_connections_of_a_worker_the_later_one_counts(addresses):
    """Its machine died, and could not say so, before it was started again."""
    host, _, port = addresses[0].partition(":")
    with socket.socket() as dead:

        def come_and_die():
            time.sleep(0.2)
            dead.connect((host, int(port)))
            message = json.dumps({"worker": 1, "settings": {"--epochs": "long ago"}})
            dead.sendall(message.encode() + b"\n")

        thread = threading.Thread(target=come_and_die)
        thread.start()
        assert _meet(addresses, dict.fromkeys(range(3), SETTINGS), {1: 0.8, 2: 1.5}) == [None] * 3
        thread.join()


def test_who_left_while_others_were_awaited_is_not_counted(addresses):
    """It would be waited for in vain; started again, it is."""
    host, _, port = addresses[0].partition(":")

    def come_and_go():
        time.sleep(0.2)
        with socket.create_connection((host, int(port))) as connection:
            message = json.dumps({"worker": 1, "settings": {"--epochs": "long ago"}})
            connection.sendall(message.encode() + b"\n")
            time.sleep(0.2)

    left = threading.Thread(target=come_and_go)
    left.start()
    began = time.monotonic()
    assert _meet(addresses, dict.fromkeys(range(3), SETTINGS), {1: 1.5, 2: 0.8}) == [None] * 3
    assert time.monotonic() - began > 1.5
    left.join()
