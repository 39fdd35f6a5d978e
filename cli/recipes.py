"""keras-resnet recipes"""

from keras_resnet import recipes as recipe_room
from keras_resnet.cli import _tables
from keras_resnet.cli._options import command, report, reports


@command("recipes", example="keras-resnet recipes")
@reports
def recipes(as_json, quiet):
    """List the training recipes that --recipe takes."""
    report(recipe_room.RECIPES, as_json, lambda _: _tables.recipes().rstrip())
