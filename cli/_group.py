"""The click side: commands loaded when they are called, and errors as one line each."""

import sys
from importlib import import_module

import click

from keras_resnet._version import __version__
from keras_resnet.cli import COMMANDS, overview
from keras_resnet.errors import CheckFailed, InputError, Interrupted


class _Lazy(click.Group):
    """Imports the module of a command when it is asked for, and no other."""

    def list_commands(self, context):
        return list(COMMANDS)

    def get_command(self, context, name):
        if name not in COMMANDS:
            return None
        module = import_module(f"keras_resnet.cli.{COMMANDS[name].module}")
        # By the command's own name: `import` cannot be a function's.
        commands = (c for c in vars(module).values() if isinstance(c, click.Command))
        return next(c for c in commands if c.name == name)

    def get_help(self, context):
        return overview().rstrip()


@click.group(cls=_Lazy)
@click.version_option(__version__, prog_name="keras-resnet", message="%(prog)s %(version)s")
def group():
    pass


def run(arguments):
    """Runs a command; returns the exit status: 0 good, 1 a check failed, 2 bad input."""
    try:
        result = group.main(arguments, prog_name="keras-resnet", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.UsageError as error:
        return _fail(2, _usage(error))
    except (InputError, click.ClickException) as error:
        return _fail(2, _text(error))
    except CheckFailed as error:
        return _fail(1, _text(error))
    except (KeyboardInterrupt, click.Abort) as error:
        cause = error.__cause__  # click makes its Abort of any KeyboardInterrupt
        if isinstance(cause, Interrupted):
            return _fail(cause.status, str(cause))
        return _fail(130, "interrupted")
    except RuntimeError as error:
        # Ctrl-C while pybind11 makes an exception of one of TensorFlow's.
        if "REPLACED BY KeyboardInterrupt" not in str(error):
            raise
        return _fail(130, "interrupted")
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        sys.stderr.close()
        return 0
    except OSError as error:
        # The user's disk and permissions, not our logic.
        return _fail(2, f"{error.filename or 'a file'}: {error.strerror or error}")


def _fail(status, text):
    print(f"keras-resnet: {text}", file=sys.stderr)
    return status


def _text(error):
    message = error.format_message() if isinstance(error, click.ClickException) else str(error)
    return " ".join(message.split("\n"))


def _usage(error):
    """Click's message on one line, with the next step."""
    path = error.ctx.command_path if error.ctx else "keras-resnet"
    return f"{_text(error).rstrip('.')}; see `{path} --help`"
