"""Signals that ask a program to end: Ctrl-C, SIGTERM, and SIGHUP, that its terminal was closed."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], None]


@contextmanager
def heard(handler: Handler) -> Iterator[dict[signal.Signals, Any]]:
    """Calls `handler(number, frame)` for them, within the context; yields {number: previous
    handler}.

    Ignored signals stay ignored, as a shell requires for Ctrl-C and `command &`, and nohup for
    SIGHUP. Only the main thread receives signals: in any other thread this does nothing.
    """
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.getsignal(number) for number in numbers}
        before = {n: h for n, h in before.items() if h not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, handler)
    try:
        yield before
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
