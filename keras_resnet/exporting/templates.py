"""Copies the files in `bundles/`, which are part of the package, and fills in placeholders.

A placeholder is a name in double braces, `{{height}}`; most files have none.
"""

import re
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

_ROOT = files("keras_resnet.exporting") / "bundles"


def copy(name: str, target: Path, values: Mapping[str, object] | None = None) -> None:
    """Copies the folder `bundles/NAME` to `target`, filling in the placeholders.

    Args:
        name: name of the folder.
        target: the folder to write; created if missing.
        values: placeholder -> text.
    """
    _copy(_ROOT / name, target, values or {})


def _copy(source: Traversable, target: Path, values: Mapping[str, object]) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for entry in source.iterdir():
        if entry.name == "__pycache__":
            continue
        if entry.is_dir():
            _copy(entry, target / entry.name, values)
        else:
            text = entry.read_text(encoding="utf-8")
            (target / entry.name).write_text(_fill(text, values), encoding="utf-8", newline="\n")


def _fill(text: str, values: Mapping[str, object]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda match: str(values[match[1]]), text)
