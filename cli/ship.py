"""keras-resnet ship"""

from typing import Any

import click

from keras_resnet import choices, recipes, shipping
from keras_resnet.cli import tables
from keras_resnet.cli._options import (
    calibrate_probabilities,
    command,
    max_drop,
    rejection,
    report,
    reports,
    settings,
    start,
)
from keras_resnet.data.names import require
from keras_resnet.errors import CheckFailed
from keras_resnet.studies import search
from keras_resnet.weights import settings as weights_settings


@command("ship", example="keras-resnet ship photos/ --image-size 64")
@click.argument("source", metavar="[DATA|RUN]", required=False)
@click.option("--run", "run_folder", metavar="DIR", help="Run folder of DATA.  [runs/ship-DATA]")
@settings("model", "width", "weights", "epochs", "batch_size", "image_size", "fit", "channels",
          "seed", "on_bad_image")  # fmt: skip
@click.option("--bundle", "bundles", type=click.Choice(choices.BUNDLES), multiple=True,
              help="Kind of app; may be repeated. web opens in any browser on a computer or a "
              "phone.  [web]")  # fmt: skip
@max_drop
@click.option(
    "--max-mb",
    metavar="MB",
    type=float,
    help="Maximum file size; searches for a network that fits.  [no limit]",
)
@click.option(
    "--max-ms",
    metavar="MS",
    type=float,
    help="Maximum time per image; searches for a network that fits.  [no limit]",
)
@click.option(
    "--threads", metavar="N", type=int, default=1, show_default=True, help="Threads for --max-ms."
)
@click.option("--android", is_flag=True, help="Measure --max-ms on a phone connected over adb.")
@calibrate_probabilities
@rejection
@reports
def ship(
    source: str | None,
    run_folder: str | None,
    bundles: tuple[str, ...],
    max_drop: float,
    max_mb: float | None,
    max_ms: float | None,
    threads: int,
    android: bool,
    calibrate_probabilities: bool,
    reject: float | None,
    unknown: str | None,
    as_json: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Create an app from photos or a run in one command.

    Trains on DATA (or takes RUN, by default the newest), exports a .tflite file that stays within
    --max-drop, int8 if possible (--quantize auto), verifies it and writes a ready-to-run bundle.

    --max-mb and --max-ms set a budget: networks of several sizes, starting with the smallest, are
    trained for a third of the epochs and measured as int8 files. Of the networks within the budget,
    the fastest that is as good as the best is then trained in full; a larger one that is no worse
    is its teacher.

    If it is interrupted or killed, the same command resumes it: existing, unchanged files are
    verified, not written again.
    """
    shipping.place(source, run_folder, given)  # raises errors of its options
    if shipping.is_data(source):
        config = recipes.resolve({"data": source, **given})
        require(config.data)
        weights_settings.require(config)
    search.Budget(max_mb, max_ms, threads, android).require()
    start(quiet)
    kinds = bundles or shipping.DEFAULT_BUNDLES
    try:
        result = shipping.ship(
            source,
            run_folder=run_folder,
            bundles=kinds,
            max_drop=max_drop,
            max_mb=max_mb,
            max_ms=max_ms,
            threads=threads,
            android=android,
            calibrate_probabilities=calibrate_probabilities,
            reject=reject,
            unknown=unknown,
            **given,
        )
    except CheckFailed as error:
        if error.result:  # the details
            report(error.result, as_json, tables.verification)
        raise
    report(result, as_json, tables.shipped)
