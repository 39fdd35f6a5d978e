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
@click.option("--data", metavar="DATA", help="New folder of the images of RUN, if they were moved.")
@setting("data_dir")
@click.option("--unknown", metavar="DIR",
              help="Folder of images of no class, to count how many the files reject.")  # fmt: skip
@click.option("--output", metavar="DIR",
              help="Folder written by export --output.  [RUN/export]")  # fmt: skip
@reports
def verify(run: str | None, as_json: bool, quiet: bool, **options: Any) -> None:
    """Compare every exported file of RUN with the Keras model.

    Runs each file on held-out images and on the golden set, and checks that labels, preprocessing
    and bundles are unchanged. The exit status is 1 if a file loses accuracy, its logits differ by
    more than its precision explains, it uses operators that phones lack, or it was changed.
    """
    opened = open_run(run)
    start(quiet)
    if run is None:
        log.info(f"the newest run: {opened.path}")
    from keras_resnet.exporting import gate

    result = gate.verify(opened, **options)
    report(result, as_json, tables.verification)
    gate.demand(result)
