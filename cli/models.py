"""keras-resnet models"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from keras_resnet.cli._options import command, report, reports
from keras_resnet.specs import SPECS


@command("models", example="keras-resnet models")
@reports
def models(as_json: bool, quiet: bool) -> None:
    """List the networks that --model takes."""
    report([asdict(spec) for spec in SPECS.values()], as_json, _table)


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = "{name:16} {branch:17} {stem:8} {shortcut:10} {image_size:>4}  {source}"
    names = ("name", "branch", "stem", "shortcut", "source")
    head = columns.format(**{name: name for name in names}, image_size="size")
    return "\n".join([head, *(columns.format(**row) for row in rows)])
