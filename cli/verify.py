"""keras-resnet verify"""

import click

from keras_resnet.cli import tables
from keras_resnet.cli._options import command, report, reports, start
from keras_resnet.run import open_run


@command("verify", example="keras-resnet verify runs/resnet20-digits-001 --max-drop 0.5")
@click.argument("run", required=False)
@click.option("--max-drop", metavar="POINTS", type=float, default=1.0, show_default=True,
              help="Allowed drop in top-1, in percentage points.")  # fmt: skip
@click.option("--images", metavar="N", type=int, default=1000, show_default=True,
              help="Judge by at most this many held-out images.")  # fmt: skip
@reports
def verify(run: str | None, max_drop: float, images: int, as_json: bool, quiet: bool) -> None:
    """Compare every exported file of RUN with the Keras model.

    Runs the files on held-out images. Exit status 1 if one of them lost accuracy, holds operators
    that phones lack, or was changed.
    """
    opened = open_run(run)
    start(quiet)
    from keras_resnet.exporting import gate

    result = gate.verify(opened, max_drop=max_drop, images=images)
    report(result, as_json, tables.verification)
    gate.demand(result)
