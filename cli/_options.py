"""Shared by the commands: options, --json and --quiet, the start of heavy work, printing."""

import json
import os
import re
import warnings
from collections.abc import Callable
from typing import Any, TypeVar, get_args, get_origin

import click

from keras_resnet import choices, messages, recipes, run, runtime, specs
from keras_resnet.config import SETTINGS
from keras_resnet.results import Result

_DEFAULTS = recipes.resolve()  # of the default recipe
Function = TypeVar("Function", bound=Callable[..., Any])  # a decorated function


def epilog(example: str) -> str:
    """An example at the end of a command's help."""
    return f"\b\nExample:\n  {example}"


def command(name: str, *, example: str) -> Callable[[Callable[..., Any]], click.Command]:
    """`click.command` with an example at the end of its help."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        return click.command(name, epilog=epilog(example))(function)

    return decorate


def reports(function: Function) -> Function:
    """Adds --json and --quiet."""
    function = click.option("--quiet", is_flag=True, help="Print only warnings and the result.")(
        function
    )
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(
        function
    )


def setting(name: str, **changes: Any) -> Callable[[Function], Function]:
    """The option of a setting, generated from its row; its default is None, "not given".

    Args:
        name: the field of `Config`.
        **changes: keywords of `click.option` that differ in this command.
    """
    row = SETTINGS[name]
    kind: dict[str, Any] = {
        "default": None,
        "help": f"{row.help}  [{row.default_of(_DEFAULTS)}]",
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
    """The options of these settings; of all settings without arguments."""
    return stacked(*map(setting, names or [name for name in SETTINGS if name != "data"]))


def stacked(*options: Callable[[Function], Function]) -> Callable[[Function], Function]:
    """Combines options, in the order of the help, into one decorator."""

    def decorate(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


trust = click.option(
    "--trust", is_flag=True,
    help="Run a SavedModel that this package did not export; it can run any TensorFlow operation.",
)  # fmt: skip


calibrate_probabilities = click.option(
    "--calibrate-probabilities", is_flag=True,
    help="Divide the logits by a temperature fitted on validation images.",
)  # fmt: skip


# Rejection as "none of these".
rejection = stacked(
    click.option("--reject", metavar="SHARE", type=float,
                 help="Answer \"none of these\" by a threshold that rejects at most this share, "
                 "such as 0.05, of the images of known classes."),
    click.option("--unknown", metavar="DIR",
                 help="Folder of images of no class, to select the score that rejects most of "
                 "them."),
)  # fmt: skip


max_drop = click.option(
    "--max-drop", metavar="POINTS", type=float, default=choices.MAX_DROP, show_default=True,
    help="Allowed drop in top-1, in percentage points.",
)  # fmt: skip


gate_limits = stacked(
    max_drop,
    click.option("--min-agreement", metavar="SHARE", type=float,
                 help="Minimum share of images, 0 to 1, for which a file must predict the same "
                 "class as the Keras model.  [no limit]"),
    click.option("--require-evidence", is_flag=True,
                 help="Fail if there are too few images to rule out a larger drop."),
    click.option("--images", metavar="N", type=int, default=choices.IMAGES, show_default=True,
                 help="Maximum number of validation images."),
)  # fmt: skip


config_file = click.option(
    "--config", "config_file", metavar="FILE", help="Settings from the config.json of a run."
)


def network_or_artefact(text: str) -> str:
    """Returns the canonical name of a network, or the path of an artefact.

    Raises:
        InputError: `text` is neither.
    """
    if text in specs.SPECS or (re.fullmatch(r"[\w-]+", text) and not os.path.exists(text)):
        return specs.find(text).name
    run.kind_of(text)
    return text


def start(quiet: bool = False) -> None:
    """Sets up messages before the first heavy import, and sends TensorFlow's lines to the log.

    Commands check their arguments first, because TensorFlow takes seconds to load.
    """
    runtime.prepare()
    messages.start_command(quiet)
    if "PYTHONWARNINGS" not in os.environ:
        warnings.simplefilter("ignore")


def report(
    result: Any,
    as_json: bool,
    text: Callable[[Any], str],
    **written: str | None,
) -> None:
    """Prints `result` as JSON, or `text(result)`.

    Args:
        result: a `Result`, or data for JSON.
        as_json: the value of --json.
        text: function from `result` to text for a terminal.
        **written: paths of written files by kind, to be printed too: `png="a.png"`.
    """
    files = {kind: path for kind, path in written.items() if path}
    if as_json:
        document = result.as_json() if isinstance(result, Result) else result
        document = {**document, **files} if files else document
        printed = json.dumps(document, indent=2, ensure_ascii=False)
        # json.dumps does not escape these, which occur only in strings: control characters, and
        # surrogates (bytes of a path that is not UTF-8), which cannot be encoded.
        escaped = re.sub(
            "[\x7f-\x9f\ud800-\udfff]", lambda match: f"\\u{ord(match[0]):04x}", printed
        )
        messages.show_result(escaped)
    else:
        lines = [text(result), *(f"wrote {path}" for path in files.values())]
        messages.show_result(messages.printable("\n".join(filter(None, lines))))
