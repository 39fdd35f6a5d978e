"""keras-resnet recipes"""

from collections.abc import Mapping
from typing import Any

from keras_resnet.cli._options import command, report, reports
from keras_resnet.config import show
from keras_resnet.recipes import RECIPES


@command("recipes", example="keras-resnet recipes")
@reports
def recipes(as_json: bool, quiet: bool) -> None:
    """List the training recipes that --recipe takes."""
    report(RECIPES, as_json, _table)


def _table(table: Mapping[str, Mapping[str, Any]]) -> str:
    lines = []
    for name, values in table.items():
        lines.append(f"{name}: {values['about']}")
        lines += [f"    {key} = {show(value)}" for key, value in values.items() if key != "about"]
    lines.append("other settings have their defaults; see `keras-resnet train --help`")
    return "\n".join(lines)
