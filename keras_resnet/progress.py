"""Progress of long work: a transient bar on a terminal, elsewhere a line every ten seconds."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, TypeVar, cast

from keras_resnet import messages

_SECONDS_BETWEEN_LINES = 10.0
_T = TypeVar("_T")
_Advance = Callable[..., None]  # (count=1, note="")


@contextmanager
def bar(total: int, label: str, unit: str) -> Iterator[_Advance]:
    """Shows a progress bar; yields a function to call as `advance(count=1, note="")`."""
    if not messages.shows_progress():
        yield lambda count=1, note="": None
    elif (stderr := messages.stderr()) and stderr.isatty():
        yield from _terminal_bar(stderr, total, label, unit)
    else:
        yield from _plain_bar(total, label, unit)


def track(items: Iterable[_T], total: int, label: str, unit: str) -> Iterator[_T]:
    """Yields from `items` and shows a progress bar."""
    with bar(total, label, unit) as advance:
        for item in items:
            yield item
            advance()


class _Terminal:
    """A terminal for rich, which would raise an error in its thread after it has closed."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        messages.write(text, self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _terminal_bar(stderr: TextIO, total: int, label: str, unit: str) -> Iterator[_Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.completed:.0f}/{task.total:.0f} " + unit),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    console = Console(file=cast(TextIO, _Terminal(stderr)))
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(label, total=total, note="")
        yield lambda count=1, note="": progress.update(task, advance=count, note=note)


def _plain_bar(total: int, label: str, unit: str) -> Iterator[_Advance]:
    done, shown = 0, time.monotonic()

    def advance(count: int = 1, note: str = "") -> None:
        nonlocal done, shown
        done += count
        if time.monotonic() - shown >= _SECONDS_BETWEEN_LINES:
            shown = time.monotonic()
            messages.log.info(f"{label}: {done}/{total} {unit} {note}".rstrip())

    yield advance
