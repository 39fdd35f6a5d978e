"""The two ways a command ends badly. Everything else that escapes is a bug."""


class InputError(ValueError):
    """What the user gave cannot be used: one line that names the value and the next step.

    The command line prints it and exits with status 2.
    """


class CheckFailed(RuntimeError):
    """A gate said no (a damaged artefact, a drop in accuracy); exit status 1."""
