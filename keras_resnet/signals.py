"""Handling of the signals that end a program: Ctrl-C, SIGTERM, and SIGHUP (terminal closed)."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from keras_resnet.errors import Interrupted

_AGAIN = 0.05  # seconds until a lost signal is sent again
Handler = Callable[[int, FrameType | None], None]


@contextmanager
def handled(handler: Handler) -> Iterator[dict[signal.Signals, Any]]:
    """Calls `handler(number, frame)` for these signals; yields {number: previous handler}.

    Ignored signals stay ignored, as a shell requires for Ctrl-C and `command &`, and nohup for
    SIGHUP. Only the main thread receives signals: in any other thread this does nothing.

    Python drops an `Interrupted` that the handler raises while an object is deleted; the signal is
    then sent again.
    """
    before: dict[signal.Signals, Any] = {}
    again: list[threading.Timer] = []
    if threading.current_thread() is threading.main_thread():
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.getsignal(number) for number in numbers}
        before = {n: h for n, h in before.items() if h not in (signal.SIG_IGN, None)}

    def lost(unraisable: Any) -> None:
        if not isinstance(unraisable.exc_value, Interrupted):
            return others(unraisable)
        number = unraisable.exc_value.status - 128
        signal.signal(number, handler)
        again.append(threading.Timer(_AGAIN, os.kill, (os.getpid(), number)))
        again[-1].start()

    for number in before:
        signal.signal(number, handler)
    others = sys.unraisablehook
    sys.unraisablehook = lost
    try:
        yield before
    finally:
        sys.unraisablehook = others
        for timer in again:
            timer.cancel()
        for number, earlier in before.items():
            signal.signal(number, earlier)
