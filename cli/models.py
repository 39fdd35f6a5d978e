"""keras-resnet models"""

from dataclasses import asdict

from keras_resnet.cli import tables
from keras_resnet.cli._options import command, report, reports
from keras_resnet.specs import SPECS


@command("models", example="keras-resnet models")
@reports
def models(as_json: bool, quiet: bool) -> None:
    """List the networks that --model takes."""
    report([asdict(spec) for spec in SPECS.values()], as_json, tables.models)
