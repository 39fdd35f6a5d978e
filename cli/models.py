"""keras-resnet models"""

from dataclasses import asdict

from keras_resnet.cli import tables
from keras_resnet.cli._options import command, report, reports
from keras_resnet.specs import SPECS
from keras_resnet.weights.settings import PUBLISHED


@command("models", example="keras-resnet models")
@reports
def models(as_json: bool, quiet: bool) -> None:
    """List the networks that --model takes."""
    rows = [{**asdict(spec), "weights": PUBLISHED.get(spec.name)} for spec in SPECS.values()]
    report(rows, as_json, tables.models)
