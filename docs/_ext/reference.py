"""The reference: Markdown made from the code, in place of `<!-- generated: NAME -->` and the line
behind it on a page.

It needs the installed package, without Sphinx, so that a test can read the same text.
"""

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

import click
import keras

import keras_resnet as kr
from keras_resnet import recipes as recipe_table
from keras_resnet.cli import group
from keras_resnet.config import show
from keras_resnet.exporting.verification import (
    ArtefactResult,
    FileComparison,
    KerasResult,
    Verification,
)
from keras_resnet.results import Result
from keras_resnet.specs import SPECS
from keras_resnet.weights.settings import PUBLISHED

# Names in annotations that their modules import for type checkers only.
_NAMES = {"keras": keras, "Verification": Verification}
# The public names by subject, in the order of a first session.
PYTHON = {
    "Networks": ("build", "resnet", "residual_mlp", "load_weights"),
    "Blocks": (
        "identity_block", "conv_block", "plain_block", "dense_identity_block",
        "dense_projection_block", "blocks.Options",
    ),
    "Training": ("train", "cross_validate", "plan_data", "find_lr", "open_run"),
    "Evaluation": ("evaluate", "predict", "compare", "benchmark", "open_artefact"),
    "Export": ("export", "verify", "ship", "import_model", "import_weights"),
    "Inspection": ("describe", "drawing", "gradients", "lesion", "paths", "cam"),
    "Errors": ("InputError", "CheckFailed", "Interrupted"),
}  # fmt: skip


def plain(text: str) -> str:
    """Text for Markdown: options as code, no accidental emphasis or links, code left alone."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(part if part.startswith("`") else _escaped(part) for part in parts)


def _escaped(text: str) -> str:
    words = re.split(r"(?<![\w-])(--[a-z][\w-]*)", text)
    return "".join(
        f"`{word}`"
        if word.startswith("--") and len(word) > 2
        else re.sub(r"([*_<>\[\]|])", r"\\\1", word)
        for word in words
    )


# Commands


def walk(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """(name, command) of a command and those below it."""
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found
            yield from walk(found, f"{name} {below}")


def all_commands() -> list[tuple[str, click.Command]]:
    return list(walk(group, "keras-resnet"))[1:]


def options(command: click.Command) -> list[click.Option]:
    return [option for option in command.params if isinstance(option, click.Option)]


def commands() -> str:
    """Every command: usage, help, options, example."""
    return "\n\n".join(_command(name, command) for name, command in all_commands())


def _command(name: str, command: click.Command) -> str:
    level = "#" * len(name.split())
    context = click.Context(command, info_name=name)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    parts = [f"{level} `{name.removeprefix('keras-resnet ')}`", f"```text\n{usage}\n```"]
    parts += [plain(paragraph) for paragraph in paragraphs]
    parts += [_option(option, context) for option in options(command)]
    if command.epilog:
        example = command.epilog.split("Example:")[-1].strip()
        parts.append(f"Example:\n\n```text\n$ {example}\n```")
    return "\n\n".join(parts)


def _option(option: click.Option, context: click.Context) -> str:
    words, text = option.get_help_record(context) or ("", "")
    return f"`{words}`\n: {plain(text)}"


# Settings, recipes, networks


def settings() -> str:
    """Every setting of a run, with its option, values, default, recipes and source."""
    return "\n\n".join(map(_setting, recipe_table.reference()))


def _setting(row: Mapping[str, Any]) -> str:
    parts = [
        plain(row["help"]),
        f"Values: {plain(row['range'])}.",
        f"Default: {plain(row['default'])}.",
    ]
    if row["recipes"]:
        of_recipes = ", ".join(f"{name} {value}" for name, value in row["recipes"].items())
        parts.append(f"Recipes: {plain(of_recipes)}.")
    if row["source"]:
        parts.append(f"Source: {row['source']}.")
    return f"`{row['name']}` (`{row['flag']}`)\n: " + " ".join(parts)


def recipes() -> str:
    """Every recipe with its values."""
    return "\n\n".join(_recipe(name, row) for name, row in recipe_table.RECIPES.items())


def _recipe(name: str, row: Mapping[str, Any]) -> str:
    values = ", ".join(f"`{key}` {show(value)}" for key, value in row.items() if key != "about")
    return f"`{name}`\n: {plain(row['about'])}. {plain(values)}."


def networks() -> str:
    """A row of a table for every network."""
    lines = [
        "| name | branch | blocks | filters | groups | SE | stem |",
        "|---|---|---|---|---|---|---|",
    ]
    for spec in SPECS.values():
        cells = (
            f"`{spec.name}`", plain(spec.branch), "\N{NO-BREAK SPACE}".join(map(str, spec.blocks)),
            spec.filters[0], spec.groups if spec.groups > 1 else "", spec.se_ratio or "",
            plain(spec.stem),
        )  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def weights() -> str:
    """A row of a table for every network with published weights."""
    rows = [f"| `{name}` | {_source(home)} |" for name, home in PUBLISHED.items()]
    return "\n".join(["| network | source |", "|---|---|", *rows])


def _source(home: str) -> str:
    return f"[{plain(home)}](https://huggingface.co/{home})" if "/" in home else f"`{home}`"


# Python


def python() -> str:
    """The public names, by subject, for autodoc."""
    return "\n\n".join(f"### {subject}\n\n{_autodoc(names)}" for subject, names in PYTHON.items())


def _autodoc(names: tuple[str, ...]) -> str:
    lines = [f".. {_directive(name)}:: keras_resnet.{name}" for name in names]
    return "```{eval-rst}\n" + "\n\n".join(lines) + "\n```"


def _directive(name: str) -> str:
    if "." in name:
        return "autoclass"
    return "autoexception" if isinstance(getattr(kr, name), type) else "autofunction"


# Files of an export


def preprocess() -> str:
    """preprocess.json of an export with the default options."""
    from keras_resnet.exporting.guard import preprocessing
    from keras_resnet.exporting.plan import ExportPlan
    from keras_resnet.exporting.rejection import RejectionFit
    from keras_resnet.exporting.temperature import TemperatureFit
    from keras_resnet.geometry import Geometry

    plan = ExportPlan(geometry=Geometry(224, 224), classes=["cat", "dog"])
    content = preprocessing(plan)
    parts = [f"```json\n{json.dumps(content, indent=2)}\n```"]
    parts += ["## `probabilities`", _fields(TemperatureFit), "## `reject`", _fields(RejectionFit)]
    return "\n\n".join(parts)


def verify() -> str:
    """verify.json, from the classes that it is written from."""
    shared = {ArtefactResult: FileComparison, KerasResult: FileComparison}  # described there
    parts = []
    for each in _with_inner(Verification):
        heading = "The document" if each is Verification else f"`{each.__name__}`"
        table = _fields(each, shared.get(each))
        parts += [f"## {heading}", plain(inspect.getdoc(each) or ""), table]
    return "\n\n".join(parts)


def results() -> str:
    """The classes that the public functions return, except that of verify.json."""
    return "\n\n".join(_result(name, kind) for name, kind in returned().items())


def returned() -> dict[str, type]:
    """The `Result` that each public function returns, alone or in a list."""
    found = {}
    for name in (name for names in PYTHON.values() for name in names if name in kr.__all__):
        hint = get_type_hints(getattr(kr, name), localns=_NAMES).get("return")
        for kind in (hint, *get_args(hint)):
            if isinstance(kind, type) and issubclass(kind, Result) and kind is not Verification:
                found[name] = kind
    return found


def _result(name: str, kind: type) -> str:
    parts = []
    for each in _with_inner(kind, but=Verification):
        heading = f"## `{name}`: `{kind.__name__}`" if each is kind else f"### `{each.__name__}`"
        parts += [heading, plain(inspect.getdoc(each) or ""), _fields(each)]
    return "\n\n".join(parts)


def described(kind: type, shared: type | None = None) -> dict[str, tuple[str, str]]:
    """(type, description) of each field of a dataclass, from the comments in its source.

    Args:
        kind: the dataclass.
        shared: another one, whose descriptions come first.
    """
    rows: dict[str, tuple[str, str]] = {}
    before: list[str] = []
    sources = (inspect.getsource(base) for base in reversed(kind.__mro__) if is_dataclass(base))
    for line in "\n".join(sources).splitlines():
        if comment := re.fullmatch(r"    # (.*)", line):
            before.append(comment[1])
        elif row := re.match(r"    (\w+): ([^=#]+?)(?: = [^#]+?)?(?:  # (.*))?$", line):
            rows[row[1]] = (row[2], row[3] or " ".join(before))
            before = []
    kept = {field.name: rows[field.name] for field in fields(kind)}
    return kept | {n: row for n, row in (described(shared) if shared else {}).items() if n in kept}


def _fields(kind: type, shared: type | None = None) -> str:
    return "\n".join(
        f"- `{name}` ({plain(type_)})" + (f": {plain(_after_colon(text))}" if text else "")
        for name, (type_, text) in described(kind, shared).items()
    )


def _after_colon(text: str) -> str:
    return text[0].lower() + text[1:] if text[1:2].islower() else text


def _with_inner(kind: type, but: type | None = None) -> list[type]:
    """A dataclass and those in its fields, each once, outer ones first; without `but`."""
    found = [kind]
    for each in found:
        found += dict.fromkeys(k for k in _classes_in(each) if k not in found and k is not but)
    return found


def _classes_in(kind: type) -> Iterator[type]:
    """The dataclasses of the fields of a dataclass."""
    for annotation in get_type_hints(kind, localns=_NAMES).values():
        for part in (annotation, *get_args(annotation), *map(get_args, get_args(annotation))):
            if is_dataclass(part):
                yield part


GENERATED = {
    maker.__name__: maker
    for maker in (
        commands,
        settings,
        recipes,
        networks,
        weights,
        python,
        results,
        preprocess,
        verify,
    )
}


def fill(text: str) -> str:
    """The text of a page with what its marks stand for."""
    return re.sub(r"<!-- generated: (\w+) -->\n.*", lambda mark: GENERATED[mark[1]](), text)


def setup(app: Any) -> dict[str, bool]:
    """Connects this extension to Sphinx."""

    def read(app: Any, name: str, source: list[str]) -> None:
        source[0] = fill(source[0])

    app.connect("source-read", read)
    return {"parallel_read_safe": True}
