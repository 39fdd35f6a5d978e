"""keras-resnet verify"""

from typing import Any

import click

from keras_resnet.cli import tables
from keras_resnet.cli._options import command, gate_limits, report, reports, setting, start
from keras_resnet.messages import log
from keras_resnet.run import open_run


@command("verify", example="keras-resnet verify runs/resnet20-digits-001 --max-drop 0.5")
@click.argument("run", required=False)
@gate_limits
@click.option("--data", metavar="DATA", help="Where the images of RUN are now.")
@setting("data_dir")
@click.option("--images", metavar="N", type=int, default=1000, show_default=True,
              help="Judge by at most this many held-out images.")  # fmt: skip
@click.option("--unknown", metavar="DIR",
              help="Count how many images of no class the files refuse.")  # fmt: skip
@click.option("--output", metavar="DIR",
              help="The folder that export --output wrote.  [RUN/export]")  # fmt: skip
@reports
def verify(run: str | None, as_json: bool, quiet: bool, **options: Any) -> None:
    """Compare every exported file of RUN with the Keras model.

    Runs the files on held-out images, and the golden set on each; compares labels, preprocessing
    and bundles with what was exported. Exit status 1 if a file lost accuracy, gives other logits
    than its precision explains, holds operators that phones lack, or was changed.
    """
    opened = open_run(run)
    start(quiet)
    if run is None:
        log.info(f"the newest run: {opened.path}")
    from keras_resnet.exporting import gate

    result = gate.verify(opened, **options)
    report(result, as_json, tables.verification)
    gate.demand(result)
