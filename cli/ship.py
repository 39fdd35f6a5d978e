"""keras-resnet ship"""

from typing import Any

import click

from keras_resnet import recipes, shipping
from keras_resnet.cli import tables
from keras_resnet.cli._options import (
    calibrate_probabilities,
    command,
    rejection,
    report,
    reports,
    settings,
    start,
)
from keras_resnet.cli.export import BUNDLES
from keras_resnet.data.names import require
from keras_resnet.errors import CheckFailed, InputError
from keras_resnet.studies import search
from keras_resnet.weights import settings as weights_settings


@command("ship", example="keras-resnet ship photos/ --image-size 64")
@click.argument("source", metavar="[DATA|RUN]", required=False)
@click.option("--run", "run_folder", metavar="DIR", help="Run folder of DATA.  [runs/ship-DATA]")
@settings("model", "width", "weights", "epochs", "batch_size", "image_size", "fit", "channels",
          "seed", "on_bad_image")  # fmt: skip
@click.option("--bundle", "bundles", type=click.Choice(BUNDLES), multiple=True,
              help="Kind of app; may be repeated. web opens in any browser, of a computer or a "
              "phone.  [web]")  # fmt: skip
@click.option("--max-drop", metavar="POINTS", type=float, default=1.0, show_default=True,
              help="Allowed drop in top-1, in percentage points.")  # fmt: skip
@click.option(
    "--max-mb",
    metavar="MB",
    type=float,
    help="Largest size of the file: finds the network for it.  [no limit]",
)
@click.option(
    "--max-ms",
    metavar="MS",
    type=float,
    help="Longest time of an image: finds the network for it.  [no limit]",
)
@click.option(
    "--threads", metavar="N", type=int, default=1, show_default=True, help="Threads for --max-ms."
)
@click.option("--android", is_flag=True, help="Measure --max-ms on the phone that adb finds.")
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
    """Go from photos, or a run, to an app in one command.

    Trains on DATA (or takes RUN, by default the newest), exports the smallest .tflite file that
    keeps --max-drop (--quantize auto), verifies it and writes a bundle that is ready to run.

    --max-mb and --max-ms are a budget: networks of several sizes are trained for a third of the
    epochs, from the smallest on, and measured as int8 files. The fastest one that is as good as the
    best within the budget is then trained in full, with the largest as its teacher.

    Interrupted or killed, it resumes with the same command: files that are there and unchanged are
    verified, not written again.
    """
    place = shipping.place(source, run_folder, given)
    if not 0 <= max_drop <= 100:
        raise InputError(f"--max-drop is {max_drop}; expected points of top-1, 0 to 100")
    if source is not None and str(place) != source:
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
