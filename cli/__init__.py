"""The command line: one file per command; each parses, calls one library function, prints.

A command's file is imported on first use, and imports nothing heavy at module level.
"""

import errno
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from types import FrameType

import click

from keras_resnet import messages, signals
from keras_resnet._version import __version__
from keras_resnet.errors import CheckFailed, InputError, Interrupted

# The file of each command, in the order of a first session.
COMMANDS = {
    "train": "train",
    "launch": "launch",
    "find-lr": "find_lr",
    "evaluate": "evaluate",
    "predict": "predict",
    "compare": "compare",
    "export": "export",
    "verify": "verify",
    "ship": "ship",
    "import": "import_weights",
    "benchmark": "benchmark",
    "inspect": "describe",
    "explain": "explain",
    "data": "data",
    "models": "models",
    "recipes": "recipes",
    "doctor": "doctor",
}

# Names used by other tools; those of settings are in `recipes.OTHER_NAMES`.
OTHER_COMMANDS = {"val": "evaluate", "eval": "evaluate", "test": "evaluate", "list": "models"}
OTHER_OPTIONS = {
    "--pretrained": "--weights imagenet",
    "--device": "--devices (the number of GPUs; CUDA_VISIBLE_DEVICES selects them)",
    "--format": "--tflite (or --onnx, --saved-model)",
    "--int8": "--quantize int8",
}
# Names of other tools for the place of the results -> the first of our options that a command has.
OUTPUTS = ("--out", "--output", "--project", "--name", "--save")
OUTPUT_OPTIONS = ("--run", "--output", "--csv", "--html", "--png", "--json")


class _Lazy(click.Group):
    """A group that imports the file of a command on first use."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = import_module(f"keras_resnet.cli.{COMMANDS[name]}")
        # By the command's name, because no function can be called `import`.
        commands = (c for c in vars(module).values() if isinstance(c, click.Command))
        return next(c for c in commands if c.name == name)

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = arguments[0]
        if name not in COMMANDS and not name.startswith("-"):
            near = OTHER_COMMANDS.get(name) or _nearest(name, COMMANDS)
            context.fail(f"no such command '{name}'{_did_you_mean(near)}")
        return super().resolve_command(context, arguments)


@click.group(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExample:\n  keras-resnet train photos/ --model resnet18 --epochs 20",
)
@click.version_option(__version__, prog_name="keras-resnet", message="%(prog)s %(version)s")
def group() -> None:
    """Residual networks in Keras 3: from a folder of photos to a checked model on a phone.

    `keras-resnet COMMAND --help` explains a command.
    """


def main() -> int:
    """Entry point of the console script; returns the exit status."""
    messages.open_closed_streams()
    return run(sys.argv[1:])


def run(arguments: Sequence[str]) -> int:
    """Runs a command; returns the exit status: 0 good, 1 a check failed, 2 bad input, 128 + signal.

    Signals are handled like Ctrl-C: temporary files are removed, and training saves a checkpoint.
    """
    arrived: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        for each, handler in before.items():  # a second signal has its default effect
            signal.signal(each, handler)
        if number == signal.SIGHUP:
            messages.leave_terminal()
        arrived.append(number)
        raise Interrupted("interrupted", 128 + number)

    with signals.handled(handle) as before:
        try:
            return _run(arguments)
        except Exception:
            if not arrived:  # after a signal, errors come from the interrupted cleanup or C++ code
                raise
            return _fail(128 + arrived[0], "interrupted")


def _expanded(argument: str) -> str:
    """Replaces a ~ that the shell has not expanded, as in `--run=~/runs/a`."""
    option, equals, value = argument.partition("=") if argument[:2] == "--" else ("", "", argument)
    if value == "~" or value.startswith("~/"):
        value = os.path.expanduser(value)
        if value.startswith("~"):
            raise InputError(f"{argument}: ~ is unknown, as HOME is not set; give the whole path")
    return f"{option}{equals}{value}"


def _run(arguments: Sequence[str]) -> int:
    try:
        arguments = [*map(_expanded, arguments)]
        result = group.main(arguments, prog_name="keras-resnet", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        messages.show_result(error.format_message())
        return 0
    except click.UsageError as error:
        return _fail(2, _usage(error, arguments))
    except (InputError, click.ClickException) as error:
        return _fail(2, _text(error))
    except CheckFailed as error:
        return _fail(1, _text(error))
    except (KeyboardInterrupt, click.Abort) as error:
        # Click converts any KeyboardInterrupt to Abort.
        cause = error if isinstance(error, Interrupted) else error.__cause__
        if isinstance(cause, Interrupted):
            return _fail(cause.status, str(cause))
        return _fail(130, "interrupted")
    except OSError as error:
        from keras_resnet.files import DISK_FULL

        # From the user's disk or permissions, not a bug.
        reason = error.strerror or str(error)
        what = f"{error.filename}: {reason}" if error.filename else reason
        if error.errno in DISK_FULL:
            return _fail(1, f"cannot write ({what}); free some space, then run the command again")
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            what += "; give another path, or change its permissions"
        return _fail(2, what)


def _fail(status: int, text: str) -> int:
    messages.show(f"keras-resnet: {messages.printable(text)}")
    return status


def _text(error: Exception) -> str:
    message = error.format_message() if isinstance(error, click.ClickException) else str(error)
    return " ".join(message.split("\n"))


def _usage(error: click.UsageError, arguments: Sequence[str]) -> str:
    """Click's message on one line, with the next step."""
    text = _text(error).rstrip(".")
    if isinstance(error, click.NoSuchOption):
        text = f"no such option {error.option_name}{_option_meant(error)}"
    # For an option without its value, click does not report the command.
    command = [name for name in arguments[:1] if name in COMMANDS]
    path = error.ctx.command_path if error.ctx else " ".join(["keras-resnet", *command])
    return f"{text}{' See' if text.endswith('?') else '; see'} `{path} --help`"


def _option_meant(error: click.NoSuchOption) -> str:
    """A suggestion for an unknown option, of this or another command; "" if there is none."""
    assert error.ctx  # only a command raises this error
    from keras_resnet.config import SETTINGS
    from keras_resnet.recipes import OTHER_NAMES

    settings = {f"--{word}": SETTINGS[name].flag for word, name in OTHER_NAMES.items()}
    meant = (settings | OTHER_OPTIONS).get(error.option_name, error.option_name)
    # Compared without the dashes, which all options have.
    known = {name.strip("-"): name for name in _option_names(error.ctx.command)}
    if meant in OUTPUTS:
        meant = next((name for name in OUTPUT_OPTIONS if name in known.values()), meant)
        if any(p.is_flag for p in _options_of(error.ctx.command) if meant in p.opts):
            return _did_you_mean(f"{meant} > FILE")
    option = meant.split()[0]
    for parameter in error.ctx.command.params:
        if isinstance(parameter, click.Argument) and option == f"--{parameter.name}":
            return f"; {parameter.human_readable_name} is given without {option}"
    if option in known.values():
        return _did_you_mean(meant)
    if near := _nearest(option.strip("-"), known):
        return _did_you_mean(known[near])
    for name in COMMANDS:
        if (other := group.get_command(error.ctx, name)) and option in _option_names(other):
            then = ", and `keras-resnet ship RUN` continues from the run"
            is_before = (error.ctx.command.name, name) == ("ship", "train")
            return f"; `keras-resnet {name}` has {meant}{then * is_before}"
    return ""


def _options_of(command: click.Command) -> list[click.Option]:
    return [p for p in command.params if isinstance(p, click.Option)]


def _option_names(command: click.Command) -> list[str]:
    """The names of a command's options, including those that disable a flag."""
    options = _options_of(command)
    return [name for option in options for name in (*option.opts, *option.secondary_opts)]


def _nearest(word: str, words: Iterable[str]) -> str | None:
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, words, n=1, cutoff=0.7)), None)


def _did_you_mean(word: str | None) -> str:
    return f"; did you mean {word}?" if word else ""
