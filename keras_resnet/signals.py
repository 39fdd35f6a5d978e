"""Signals that ask a program to end: Ctrl-C, SIGTERM, and SIGHUP, that its terminal was closed."""

import signal
import threading
from contextlib import contextmanager


@contextmanager
def heard(handler):
    """Within, `handler(number, frame)` hears them; gives {number: its handler before}.

    Those that are ignored stay so, as a shell wants it for Ctrl-C and `command &`, and nohup for
    SIGHUP. Only the main thread hears signals: in another one nothing is done.
    """
    before = {}
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
