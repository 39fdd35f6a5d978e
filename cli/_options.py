"""Shared by the commands: options, --json and --quiet, the start of heavy work, printing."""

import json
import os
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import click

from keras_resnet import messages, recipes, run, runtime, specs
from keras_resnet.config import SETTINGS
from keras_resnet.errors import InputError

_DEFAULTS = recipes.resolve()  # those of the default recipe
Function = TypeVar("Function", bound=Callable[..., Any])  # that a decorator returns


def command(name: str, *, example: str) -> Callable[[Callable[..., Any]], click.Command]:
    """`click.command` with an example to paste at the end of its help."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        return click.command(name, epilog=f"\b\nExample:\n  {example}")(function)

    return decorate


def reports(function: Function) -> Function:
    """Adds --json and --quiet."""
    function = click.option("--quiet", is_flag=True, help="Print only the result, no progress.")(
        function
    )
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(
        function
    )


def setting(name: str, **changes: Any) -> Callable[[Function], Function]:
    """The option of a setting, made from its row; None stands for "not given".

    Args:
        name: the field of `Config`.
        **changes: keywords of `click.option` that differ in this command.
    """
    row = SETTINGS[name]
    kind: dict[str, Any] = {
        "default": None,
        "help": f"{row.help}  [{row.shown(getattr(_DEFAULTS, name))}]",
        "metavar": row.metavar,
    }
    if row.choices:
        kind["type"] = click.Choice(row.choices)
    elif row.type in (int, float):
        kind["type"] = row.type
    elif get_origin(row.type) is tuple and set(get_args(row.type)) <= {int, float}:
        kind["type"] = get_args(row.type)
    if row.flag_value:
        kind |= {"is_flag": False, "flag_value": row.flag_value}
    return click.option(row.flag, **{**kind, **changes})


def settings(*names: str) -> Callable[[Function], Function]:
    """The options of several settings; of all, if none is named."""

    def decorate(function: Function) -> Function:
        for name in reversed(names or [name for name in SETTINGS if name != "data"]):
            function = setting(name)(function)
        return function

    return decorate


config_file = click.option(
    "--config", "config_file", metavar="FILE", help="Settings from the config.json of a run."
)


def network_or_artefact(text: str) -> str:
    """The name of a network as the table has it, or the path of an artefact.

    Raises:
        InputError: it is neither.
    """
    if text in specs.SPECS or (re.fullmatch(r"[\w-]+", text) and not os.path.exists(text)):
        return specs.find(text).name
    run.kind_of(text)
    return text


def require_png(png: str | None) -> None:
    """Checks the value of --png.

    Raises:
        InputError: it is no path of a PNG file in a folder that exists.
    """
    if png and not (png.endswith(".png") and Path(png).parent.is_dir()):
        raise InputError(f"--png is {png!r}; expected FILE.png in a folder that exists")


def macro_top1(scores: Mapping[str, Any], balance: str | None) -> str:
    """The mean of the classes' top-1, to print beside top-1 if the classes are imbalanced."""
    from keras_resnet.evaluation.metrics import is_imbalanced

    if balance in (None, "none") and not is_imbalanced(scores["per_class"]):
        return ""
    return f"  macro top-1 {scores['macro_top1']:.2%}"


def start(quiet: bool = False) -> None:
    """Call this before the first heavy import: it sends TensorFlow's log lines to the log.

    Commands check their arguments before they call this, because TensorFlow takes seconds to load.
    """
    runtime.prepare()
    messages.start_command(quiet)
    if "PYTHONWARNINGS" not in os.environ:
        warnings.simplefilter("ignore")


def report(result: Any, as_json: bool, text: Callable[[Any], str]) -> None:
    """Prints `result` as JSON, or `text(result)`."""
    if as_json:
        click.echo(json.dumps(result, indent=2, ensure_ascii=False))
    else:
        click.echo(text(result))
