"""Errors that a command reports. Any other exception is a bug."""

from numbers import Integral

from keras_resnet.results import Result


class InputError(ValueError):
    """Invalid input: one line that names the value and the next step.

    The command line prints it and exits with status 2.
    """


class CheckFailed(RuntimeError):
    """A check failed (a damaged artefact, a drop in accuracy); exit status 1.

    `result` has the details, if there are more than the message.
    """

    def __init__(self, line: str, result: Result | None = None):
        super().__init__(line)
        self.result = result


class NetworkFailed(CheckFailed):
    """The network fails: its training diverged, it cannot be converted, or a file does not pass."""


class Interrupted(KeyboardInterrupt):
    """A signal ended the work cleanly: one line with the next step; exit status 128 + signal.

    In Python it is caught as a `KeyboardInterrupt`.
    """

    def __init__(self, line: str, status: int):
        super().__init__(line)
        self.status = status


def require_whole(option: str, value: object, least: int) -> None:
    """Raises InputError unless the value of an option is a whole number of at least `least`."""
    if not (isinstance(value, Integral) and int(value) >= least):
        raise InputError(f"{option} is {value!r}; expected a whole number of at least {least}")


def needs_extra(what: str, extra: str) -> InputError:
    """The `InputError` for a missing package of an optional extra."""
    return InputError(f"{what}: pip install 'keras-resnet-edge[{extra}]'")


def first_line(error: object) -> str:
    """The first line of another package's error, at most about 160 characters, for a message."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line if len(line) <= 160 else line[:160].rsplit(" ", 1)[0] + " …"
