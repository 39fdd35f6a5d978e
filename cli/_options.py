"""What commands share: --json and --quiet, the start of heavy work, the way results are printed."""

import json
import os
import warnings

import click

from keras_resnet import progress, recipes, runtime

_DEFAULTS = recipes.Config()


def command(name, *, example):
    """`click.command` with an example to paste at the end of its help."""

    def decorate(function):
        return click.command(name, epilog=f"\b\nExample:\n  {example}")(function)

    return decorate


def reports(function):
    """Adds --json and --quiet."""
    function = click.option("--quiet", is_flag=True, help="No progress, only the result.")(function)
    return click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")(
        function
    )


def setting(flag, about, **kind):
    """An option that fills the field of `Config` of the same name, and shows its default."""
    name = flag.split("/")[0].removeprefix("--").replace("-", "_")
    default = getattr(_DEFAULTS, name)
    notes = [] if default in (None, ()) else [recipes.show(default)]
    if any(name in recipe for recipe in recipes.RECIPES.values()):
        notes.append("some recipes have their own")
    return click.option(
        flag, default=None, help=about + (f"  [{'; '.join(notes)}]" if notes else ""), **kind
    )


def numbers(text):
    """ "0.5 0.75" as (0.5, 0.75); other text as it is, for `recipes` to say what it expected."""
    try:
        return tuple(map(float, text.split()))
    except ValueError:
        return text


def pairs(text):
    """ "0.6 0.5 / 0.4 1" as ((0.6, 0.5), (0.4, 1.0)); as above."""
    return tuple(map(numbers, text.split("/")))


def macro_top1(scores, balance):
    """The mean of the classes' top-1, to print beside top-1 where the two say different things."""
    from keras_resnet.evaluation.metrics import is_imbalanced

    if balance in (None, "none") and not is_imbalanced(scores["per_class"]):
        return ""
    return f"  macro top-1 {scores['macro_top1']:.2%}"


def start(quiet=False):
    """Before the first heavy import: TensorFlow's noise goes off the terminal.

    What can be found wrong without TensorFlow is looked for before this is called: it takes
    seconds to load.
    """
    runtime.prepare()
    runtime.divert_native_output()
    progress.be_quiet(quiet)
    if "PYTHONWARNINGS" not in os.environ:
        warnings.simplefilter("ignore")


def report(result, as_json, text):
    """Prints `result` as JSON, or `text(result)`."""
    if as_json:
        click.echo(json.dumps(result, indent=2, ensure_ascii=False))
    else:
        click.echo(text(result))
