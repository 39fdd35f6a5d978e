"""keras-resnet recipes"""

from keras_resnet.cli import tables
from keras_resnet.cli._options import command, report, reports
from keras_resnet.recipes import RECIPES


@command("recipes", example="keras-resnet recipes")
@reports
def recipes(as_json: bool, quiet: bool) -> None:
    """List the training recipes that --recipe takes."""
    report(RECIPES, as_json, tables.recipes)
