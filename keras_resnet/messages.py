"""Output of messages: to the terminal (stderr, because stdout holds results) and the log of a run.

The library logs to the logger `keras_resnet`. A program that configures `logging` gets the messages
as any others; for one that does not, they are shown on stderr. The command shows its own there, and
keeps those of other packages, and what C++ libraries print, in a log.
"""

import faulthandler
import logging
import math
import os
import re
import signal
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

log = logging.getLogger("keras_resnet")
_LAST_LINES = 10  # of the log, shown when native code has ended the process


# Control characters but for tab and line feed, and characters that turn the direction of text:
# from a class or a file name they could rewrite what a terminal shows.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """The text with control characters as escapes, such as `\\x1b`."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def plural(number: float, noun: str) -> str:
    """1 as "1 point", 0.5 as "0.5 points", 1234 as "1,234 points"."""
    shown = f"{number:g}" if isinstance(number, float) else f"{number:,}"
    return f"{shown} {noun}{'' if number == 1 else 's'}"


def some_of(names: Sequence[str], most: int = 10) -> str:
    """The first `most` names as part of a message, with "…" where there are more."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def percent(share: float | None) -> str:
    """0.9995 to 1 is "99.9%": 1 of 2,000 wrong is not "100.0%"; no number is "–"."""
    if share is None or not math.isfinite(share):
        return "–"
    return "99.9%" if 0.9995 <= share < 1 else f"{share:.1%}"


class _Formatter(logging.Formatter):
    """The message alone; warnings and messages of other packages get a prefix."""

    def format(self, record: logging.LogRecord) -> str:
        level = "warning: " if record.levelno == logging.WARNING else ""
        package = "" if record.name == log.name else f"{record.name}: "
        return printable(f"{package}{level}{super().format(record)}")


class _Log(logging.StreamHandler):
    """A handler that writes a file. If it cannot, as on a full disk, the caller gets the error."""

    def __init__(self, file: TextIO) -> None:
        super().__init__(file)
        self.setFormatter(_Formatter())

    def handleError(self, record: logging.LogRecord) -> None:
        if isinstance(sys.exception(), OSError):
            raise


class _Others(logging.Handler):
    """Shows warnings of other packages, as `logging` does for a program without handlers."""

    def emit(self, record: logging.LogRecord) -> None:
        if not _has_handler(record.name) and logging.lastResort:
            logging.lastResort.handle(record)


def _has_handler(name: str) -> bool:
    """Whether a logger shows its messages itself, as TensorFlow's does, or one above it, but for
    the root."""
    logger: logging.Logger | None = logging.getLogger(name)
    while logger and logger.parent:
        if logger.handlers:
            return True
        logger = logger.parent
    return False


class Terminal(logging.Handler):
    """Shows messages on stderr, unless the program has handlers of its own for them."""

    def emit(self, record: logging.LogRecord) -> None:
        handlers = [*logging.getLogger().handlers, *log.handlers]
        if all(isinstance(handler, (Terminal, _Log, _Others)) for handler in handlers):
            # The stream of now: notebooks, tests and progress bars exchange it.
            print(self.format(record), file=sys.stderr, flush=True)


class CommandLog(_Log):
    """The log of a command: what C++ libraries print to stderr, and all messages.

    TensorFlow prints lines even at its highest log level. Only file descriptor 2 is diverted:
    Python's `sys.stderr` keeps writing to where it wrote before. The log is a temporary file until
    `move_to` names a lasting one.
    """

    def __init__(self) -> None:
        sys.stderr.flush()
        terminal = os.dup(2)
        sys.stderr = os.fdopen(
            terminal, "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace"
        )
        with tempfile.TemporaryFile() as file:
            os.dup2(file.fileno(), 2)
        stream = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        super().__init__(stream)
        self._is_temporary = True
        self._watcher = _watch(terminal)

    def move_to(self, path: str | os.PathLike[str]) -> None:
        """Writes to the file `path` from now on, which gets what was logged so far."""
        with open(path, "ab") as file:
            if self._is_temporary:
                os.lseek(2, 0, os.SEEK_SET)
                while chunk := os.read(2, 1 << 16):
                    file.write(chunk)
                file.flush()
            os.dup2(file.fileno(), 2)
        self._is_temporary = False
        if self._watcher is not None:
            with suppress(OSError):  # the watcher was killed
                os.write(self._watcher, _LOG_IS + os.fsencode(os.path.abspath(path)) + b"\n")


terminal = Terminal()
terminal.setFormatter(_Formatter())
log.addHandler(terminal)
if log.level == logging.NOTSET:  # else the program has set it
    log.setLevel(logging.INFO)


def start_command(quiet: bool = False) -> None:
    """The messages of a command: its own on the terminal, all of them in a log.

    Args:
        quiet: whether the terminal shows errors only.
    """
    terminal.setLevel(logging.ERROR if quiet else logging.INFO)
    if _command_log() is None:
        log.setLevel(logging.DEBUG)  # messages for the log only
        logging.getLogger().addHandler(CommandLog())


@contextmanager
def logged_to(path: str | os.PathLike[str]) -> Iterator[None]:
    """Within the context, the log is the file `path`, with earlier messages of the command."""
    if command_log := _command_log():
        command_log.move_to(path)
        yield
        return
    with open(path, "a", encoding="utf-8", errors="backslashreplace") as file:
        handler = _Log(file)
        with _silenced_elsewhere():
            log.addHandler(handler)
            try:
                yield
            finally:
                log.removeHandler(handler)


@contextmanager
def _silenced_elsewhere() -> Iterator[None]:
    """Within, a program that silences the logger silences its present handlers instead, so that a
    new one gets all messages."""
    level, shown = log.level, terminal.level
    if level <= logging.INFO:
        yield
        return

    def is_shown(record: logging.LogRecord) -> bool:
        return record.levelno >= level or record.name != log.name

    others = [*log.handlers, *logging.getLogger().handlers]
    for handler in others:
        handler.addFilter(is_shown)
    log.setLevel(logging.INFO)
    terminal.setLevel(max(level, shown))  # no progress bars either
    try:
        yield
    finally:
        terminal.setLevel(shown)
        log.setLevel(level)
        for handler in others:
            handler.removeFilter(is_shown)


@contextmanager
def root_logger_kept() -> Iterator[None]:
    """Within, absl does not configure the root logger of a program that has not done so.

    It does at its first warning, and every message of ours would begin with `INFO:keras_resnet:`.
    """
    root = logging.getLogger()
    if root.handlers:
        yield
        return
    others = _Others(logging.WARNING)
    root.addHandler(others)
    try:
        yield
    finally:
        root.removeHandler(others)


@contextmanager
def no_retracing_warnings() -> Iterator[None]:
    """Within, TensorFlow does not warn that the networks of several runs are traced one by one."""
    logger = logging.getLogger("tensorflow")
    if _is_not_of_retracing in logger.filters:
        yield
        return
    logger.addFilter(_is_not_of_retracing)
    try:
        yield
    finally:
        logger.removeFilter(_is_not_of_retracing)


def _is_not_of_retracing(record: logging.LogRecord) -> bool:
    return "triggered tf.function retracing" not in record.getMessage()


@contextmanager
def quietly() -> Iterator[None]:
    """Within the context, the terminal shows errors only."""
    before = terminal.level
    terminal.setLevel(logging.ERROR)
    try:
        yield
    finally:
        terminal.setLevel(before)


def shows_progress() -> bool:
    """Whether the terminal shows more than errors."""
    return terminal.level <= logging.INFO and log.isEnabledFor(logging.INFO)


def leave_terminal() -> None:
    """To be called when the terminal has closed: messages go only into the log."""
    with open(os.devnull, "w") as nowhere:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):  # a notebook's are no files
                # One that is closed does not say that it was a terminal.
                if stat.S_ISCHR(os.fstat(stream.fileno()).st_mode):
                    os.dup2(nowhere.fileno(), stream.fileno())


# What TensorFlow and LiteRT print in any process: lines of their logs but for fatal ones.
_NOISE = re.compile(
    r"[IWE]\d{4} |\d{4}-\d\d-\d\d [\d:.]+: [IWE] |INFO: |WARNING: All log messages|"
    r"To enable the following"
)


# What C++ prints as it ends a process.
_CAUSE = re.compile(rb"F\d{4} |\d{4}-\d\d-\d\d [\d:.]+: F |terminate called|libc\+\+abi:")


def reason(status: int, errors: str) -> str:
    """Why a child process failed, as part of a line: its signal, and the first line that says why.

    Args:
        status: its exit status, or -signal.
        errors: what it has printed on stderr.
    """
    lines = [line for line in errors.splitlines() if line.strip() and not _NOISE.match(line)]
    traces = [n for n, line in enumerate(lines) if line.startswith("Traceback (most recent call")]
    # Of Python's trace, the first line of the error; of what C++ prints, all but the stack.
    told = [line for line in lines[traces[-1] + 1 if traces else 0 :] if not line.startswith(" ")]
    told = [line for line in told if not _is_frame(line.encode())]
    what = ""
    if status < 0:
        with suppress(ValueError):
            what = f"killed by {signal.Signals(-status).name}"
        what += ", probably out of memory" * (status == -signal.SIGKILL)
    first = told[0][:300] if told and status != -signal.SIGKILL else ""
    return ": ".join(filter(None, (what, first))) or f"status {status}"


def _command_log() -> CommandLog | None:
    """The `CommandLog` of this process, if it is a command."""
    handlers = logging.getLogger().handlers
    return next((handler for handler in handlers if isinstance(handler, CommandLog)), None)


_LOG_IS = b"the log is "


def _watch(terminal: int) -> int | None:
    """Starts a process that reports on `terminal` if native code ends this one.

    abort() and a segmentation fault leave no time for Python, and what they print is in the log.
    `faulthandler` still writes a stack, here into a pipe; a process that ends in any other way
    closes the pipe without one.

    Returns:
        The writing end of the pipe, for the path of the log; None if no process can be started.
    """
    reader, writer = os.pipe()
    try:
        child = os.fork()
    except OSError:  # too many processes: the stack goes to the terminal instead
        os.close(reader)
        os.close(writer)
        faulthandler.enable(file=terminal, all_threads=False)
        return None
    if child == 0:
        with suppress(BaseException):
            os.setsid()  # Ctrl-C is not for it
            os.close(writer)
            _report_crash(reader, terminal)
        os._exit(0)
    os.close(reader)
    faulthandler.enable(file=writer, all_threads=False)
    return writer


def _report_crash(reader: int, terminal: int) -> None:
    for number in {0, 1} - {reader, terminal}:
        with suppress(OSError):  # who reads our results need not wait for this process
            os.close(number)
    path: Path | None = None
    stack = b""
    with open(reader, "rb") as pipe:
        for line in pipe:
            if line.startswith(_LOG_IS):
                path = Path(os.fsdecode(line[len(_LOG_IS) : -1]))
            else:
                stack += line
    if not stack:
        return
    with open(path or 2, "rb") as record:
        record.seek(0)
        lines = [line for line in record.read().splitlines() if not _is_frame(line)]
    if path:
        with open(path, "ab") as whole:
            whole.write(stack)
    last = lines[-_LAST_LINES:]
    causes = [line for line in lines if _CAUSE.match(line)]
    last = causes[:1] + last if causes and causes[0] not in last else last
    kind = stack.splitlines()[0].rpartition(b": ")[2].decode(errors="replace")
    where = f"the last lines of {path}" if path else "its last lines"
    text = (
        f"keras-resnet: native code crashed ({kind}), perhaps because of a limit on threads or "
        f"memory (see `ulimit -a`); {where}:\n"
    ).encode()
    os.write(terminal, text + b"".join(b"  " + line + b"\n" for line in last))


def _is_frame(line: bytes) -> bool:
    """Whether it is of a stack that C++ prints, as TensorFlow does after what went wrong."""
    return line.lstrip().startswith((b"@ ", b"*** Check failure stack trace"))
