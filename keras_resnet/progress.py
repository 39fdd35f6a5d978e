"""Progress and notes for the person at the terminal: stderr only, so that stdout holds results.

On a terminal long work shows a bar that goes away when it is done; elsewhere a line now and then.
"""

import os
import stat
import sys
import time
from contextlib import contextmanager, suppress

from keras_resnet import runtime

_quiet = False
_SECONDS_BETWEEN_LINES = 10.0


def be_quiet(quiet=True):
    """Errors only, from now on."""
    global _quiet
    _quiet = quiet


@contextmanager
def quietly():
    """Within, errors only."""
    before = _quiet
    be_quiet()
    try:
        yield
    finally:
        be_quiet(before)


def leave_terminal():
    """To be called when the terminal is gone: what is said goes into the log alone."""
    with open(os.devnull, "w") as nowhere:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):  # a notebook's are no files
                # One that is closed does not say that it was a terminal.
                if stat.S_ISCHR(os.fstat(stream.fileno()).st_mode):
                    os.dup2(nowhere.fileno(), stream.fileno())


def say(text):
    """One line for the person at the terminal, and for the log."""
    runtime.log(text)
    if not _quiet:
        print(text, file=sys.stderr, flush=True)


@contextmanager
def bar(total, label, unit):
    """A progress bar; gives a function to call as `advance(count=1, note="")`."""
    if _quiet:
        yield lambda count=1, note="": None
    elif sys.stderr.isatty():
        yield from _terminal_bar(total, label, unit)
    else:
        yield from _plain_bar(total, label, unit)


def track(items, total, label, unit):
    """Yields from `items`, showing a bar."""
    with bar(total, label, unit) as advance:
        for item in items:
            yield item
            advance()


def _terminal_bar(total, label, unit):
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.completed:.0f}/{task.total:.0f} " + unit),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    console = Console(file=sys.stderr)
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(label, total=total, note="")
        yield lambda count=1, note="": progress.update(task, advance=count, note=note)


def _plain_bar(total, label, unit):
    done, shown = 0, time.monotonic()

    def advance(count=1, note=""):
        nonlocal done, shown
        done += count
        if time.monotonic() - shown >= _SECONDS_BETWEEN_LINES:
            shown = time.monotonic()
            say(f"{label}: {done}/{total} {unit} {note}".rstrip())

    yield advance
