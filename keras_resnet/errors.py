"""The ways a command ends badly. Everything else that escapes is a bug."""

from typing import Any


class InputError(ValueError):
    """What the user gave cannot be used: one line that names the value and the next step.

    The command line prints it and exits with status 2.
    """


class CheckFailed(RuntimeError):
    """A gate said no (a damaged artefact, a drop in accuracy); exit status 1.

    `result` is what the gate found, where there is more to show than the line.
    """

    def __init__(self, line: str, result: Any = None):
        super().__init__(line)
        self.result = result


class Interrupted(KeyboardInterrupt):
    """A signal ended the work in order: one line that says how to go on; exit status 128 + signal.

    From Python it is a `KeyboardInterrupt` like any other.
    """

    def __init__(self, line: str, status: int):
        super().__init__(line)
        self.status = status


def needs_extra(what: str, extra: str) -> InputError:
    """The `InputError` for a package that only an extra of ours brings."""
    return InputError(f"{what}: pip install 'keras-resnet-edge[{extra}]'")


def first_line(error: object) -> str:
    """The first line of somebody else's error, short enough to be part of ours."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
