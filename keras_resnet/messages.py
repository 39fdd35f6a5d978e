"""Output of messages: to the terminal (stderr, because stdout holds results) and the log of a run.

The library logs to the logger `keras_resnet`. A program that configures `logging` handles the
messages as any others; otherwise they are shown on stderr. The command shows its own messages
there, and writes those of other packages, and the output of C++ libraries, into a log.
"""

import errno
import faulthandler
import logging
import math
import os
import re
import signal
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

log = logging.getLogger("keras_resnet")
_LAST_LINES = 10  # lines of the log that are shown after a crash of native code


# Control characters except tab and line feed, and characters that change the direction of text: in
# the name of a class or file they could manipulate the terminal. Surrogates, which Python has for
# the bytes of a path that is not UTF-8, cannot be encoded.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """The text with control characters as escapes, such as `\\x1b`."""
    return _CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def plural(number: float, noun: str) -> str:
    """1 as "1 point", 0.5 as "0.5 points", 1234 as "1,234 points"."""
    shown = f"{number:g}" if isinstance(number, float) else f"{number:,}"
    return f"{shown} {noun}{'' if number == 1 else 's'}"


def some_of(names: Sequence[str], most: int = 10) -> str:
    """The first `most` names as part of a message, with "…" where there are more."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def one_line(text: str) -> str:
    """`printable` text in one line: tabs and line feeds are escapes too."""
    return printable(text).replace("\t", "\\t").replace("\n", "\\n")


def percent(share: float | None, digits: int = 1) -> str:
    """A share as a percentage; from 0.9995 to below 1 "99.9%", as only 1 is "100.0%"; None or not
    finite "–"."""
    if share is None or not math.isfinite(share):
        return "–"
    if share < 1:
        share = min(share, 1 - 10.0 ** -(digits + 2))
    return f"{share:.{digits}%}"


def points(difference: float | None, digits: int = 2) -> str:
    """A difference in percentage points; -0.002 is "0.00"; None or not finite "–"."""
    if difference is None or not math.isfinite(difference):
        return "–"
    return f"{round(difference, digits) + 0.0:.{digits}f}"


class _Formatter(logging.Formatter):
    """Formats the message only; warnings and messages of other packages get a prefix."""

    def format(self, record: logging.LogRecord) -> str:
        level = "warning: " if record.levelno == logging.WARNING else ""
        package = "" if record.name == log.name else f"{record.name}: "
        return printable(f"{package}{level}{super().format(record)}")


class _Log(logging.StreamHandler):
    """A handler that writes a file, and raises its errors, such as that of a full disk."""

    def __init__(self, file: TextIO) -> None:
        super().__init__(file)
        self.setFormatter(_Formatter())

    def handleError(self, record: logging.LogRecord) -> None:
        if isinstance(sys.exception(), OSError):
            raise


class _Others(logging.Handler):
    """Shows warnings of other packages, as `logging` does in a program without handlers."""

    def emit(self, record: logging.LogRecord) -> None:
        if not _has_handler(record.name) and logging.lastResort:
            logging.lastResort.handle(record)


def _has_handler(name: str) -> bool:
    """Whether a logger, such as TensorFlow's, or a parent other than the root has a handler."""
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
            show(self.format(record))


class CommandLog(_Log):
    """The log of a command: the output of C++ libraries to stderr, and all messages.

    TensorFlow prints lines even at its highest log level. Only file descriptor 2 is redirected:
    Python's `sys.stderr` keeps its destination. The log is a temporary file until `move_to` sets a
    permanent one.
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
        """Moves the log to the end of the file `path`, with all lines so far."""
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


def open_closed_streams() -> None:
    """Opens the null device for each standard stream that was closed when the program started.

    Python has None for it, and the next file would get its number and what is written to it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_RDWR)  # the lowest that is free: its own
            os.set_inheritable(number, True)
            # Open also after `CommandLog` has replaced `sys.stderr`.
            opened = open(number, mode, errors="backslashreplace", closefd=False)  # noqa: SIM115
            setattr(sys, name, opened)


def start_command(quiet: bool = False) -> None:
    """Sets up the messages of a command: its own on the terminal, all of them in a log.

    Args:
        quiet: whether the terminal shows warnings and errors only.
    """
    terminal.setLevel(logging.WARNING if quiet else logging.INFO)
    if _command_log() is None:
        log.setLevel(logging.DEBUG)  # debug messages go only into the log
        logging.getLogger().addHandler(CommandLog())


@contextmanager
def logged_to(path: str | os.PathLike[str]) -> Iterator[None]:
    """Writes all messages in the context, and earlier ones of the command, into the file `path`."""
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
    """If the program has silenced the logger, silences its current handlers instead, so that a new
    handler gets all messages."""
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
    terminal.setLevel(max(level, shown))  # also disables progress bars
    try:
        yield
    finally:
        terminal.setLevel(shown)
        log.setLevel(level)
        for handler in others:
            handler.removeFilter(is_shown)


@contextmanager
def root_logger_kept() -> Iterator[None]:
    """Prevents absl from configuring the root logger.

    absl configures an unconfigured root logger at its first warning; afterwards each of our
    messages would begin with `INFO:keras_resnet:`.
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
    """Hides TensorFlow's warnings about retracing, which networks of several runs would cause."""
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
    """A context in which the terminal shows errors only."""
    before = terminal.level
    terminal.setLevel(logging.ERROR)
    try:
        yield
    finally:
        terminal.setLevel(before)


def shows_progress() -> bool:
    """Whether the terminal shows progress bars: not if it shows only warnings or errors."""
    return terminal.level <= logging.INFO and log.isEnabledFor(logging.INFO)


def show(text: str) -> None:
    """Prints a line on stderr, unless it is closed."""
    if stream := stderr():
        write(text + "\n", stream)


def stderr() -> TextIO | None:
    """`sys.stderr`, which notebooks, tests and progress bars replace; None if it is closed."""
    is_closed = sys.stderr is None or getattr(sys.stderr, "closed", False)
    return None if is_closed else sys.stderr


def write(text: str, stream: TextIO) -> None:
    """Writes to stderr; an error there must not stop the work.

    If the terminal or reader has gone, output there stops. Any other error, such as that of a full
    disk or a pipe without room, loses this text only.
    """
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        if has_gone(stream, error):
            leave(stream)


def show_result(text: str) -> None:
    """Prints a line on stdout; it is no error if its reader, such as `head`, has exited.

    Raises:
        OSError: any other error of a write, such as that of a full disk.
    """
    try:
        print(text, flush=True)
    except OSError as error:
        if not has_gone(sys.stdout, error):
            raise
        leave(sys.stdout)


def has_gone(stream: TextIO, error: OSError) -> bool:
    """Whether an error of a write says that the terminal or the reader of the pipe has gone."""
    is_pipe = error.errno == errno.EPIPE
    return is_pipe or (error.errno == errno.EIO and _is_terminal(os.fstat(stream.fileno())))


def leave(stream: TextIO) -> None:
    """Stops output to the file of a stream, by stdout and stderr.

    Otherwise Python would fail when it flushes them at its exit, with status 120.
    """
    with suppress(OSError, ValueError):  # a notebook's streams have no file descriptor
        file = os.fstat(stream.fileno())
        _leave(lambda status: os.path.samestat(status, file))


def leave_terminal() -> None:
    """Stops output to a terminal that has closed; messages then go only into the log."""
    _leave(_is_terminal)


def _is_terminal(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode)  # `isatty` is false after the terminal has closed


def _leave(is_gone: Callable[[os.stat_result], bool]) -> None:
    """Connects stdout and stderr to the null device if `is_gone(status)` of their files."""
    with open(os.devnull, "w") as nowhere:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            with suppress(OSError, ValueError):  # no file descriptor, or closed
                if is_gone(os.fstat(stream.fileno())):
                    os.dup2(nowhere.fileno(), stream.fileno())


# Lines that TensorFlow and LiteRT print in any process: their logs except fatal messages.
_NOISE = re.compile(
    r"[IWE]\d{4} |\d{4}-\d\d-\d\d [\d:.]+: [IWE] |INFO: |WARNING: All log messages|"
    r"To enable the following"
)


# Lines that C++ prints when it aborts a process.
_CAUSE = re.compile(rb"F\d{4} |\d{4}-\d\d-\d\d [\d:.]+: F |terminate called|libc\+\+abi:")


def reason(status: int, errors: str) -> str:
    """Why a child process failed, as part of a line: its signal, and the first line of its error.

    Args:
        status: its exit status, or -signal.
        errors: its output on stderr.
    """
    lines = [line for line in errors.splitlines() if line.strip() and not _NOISE.match(line)]
    traces = [n for n, line in enumerate(lines) if line.startswith("Traceback (most recent call")]
    # Without the stacks of Python and C++, the error message remains.
    rest = [line for line in lines[traces[-1] + 1 if traces else 0 :] if not line.startswith(" ")]
    rest = [line for line in rest if not _is_frame(line.encode())]
    what = ""
    if status < 0:
        with suppress(ValueError):
            what = f"killed by {signal.Signals(-status).name}"
        if status == -signal.SIGKILL:
            what += ", probably out of memory"
    first = rest[0][:300] if rest and status != -signal.SIGKILL else ""
    return ": ".join(filter(None, (what, first))) or f"status {status}"


def _command_log() -> CommandLog | None:
    """The `CommandLog` of this process, if it is a command."""
    handlers = logging.getLogger().handlers
    return next((handler for handler in handlers if isinstance(handler, CommandLog)), None)


_LOG_IS = b"the log is "


def _watch(terminal: int) -> int | None:
    """Starts a process that reports on `terminal` if native code crashes this one.

    After abort() and a segmentation fault no Python code runs, and their output is in the log.
    `faulthandler` still writes a stack, here into a pipe; a process that ends in any other way
    closes the pipe without one.

    Returns:
        The write end of the pipe, for the path of the log; None if no process can be started.
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
            os.setsid()  # not interrupted by Ctrl-C
            os.close(writer)
            _report_crash(reader, terminal)
        os._exit(0)
    os.close(reader)
    faulthandler.enable(file=writer, all_threads=False)
    return writer


def _report_crash(reader: int, terminal: int) -> None:
    for number in {0, 1} - {reader, terminal}:
        with suppress(OSError):  # so that a reader of our output need not wait for this process
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
    """Whether a line belongs to a C++ stack, which TensorFlow prints after its error."""
    return line.lstrip().startswith((b"@ ", b"*** Check failure stack trace"))
