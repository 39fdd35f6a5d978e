"""keras-resnet find-lr"""

import shlex
from typing import Any

import click

from keras_resnet import recipes
from keras_resnet.cli import tables
from keras_resnet.cli._options import (
    command,
    config_file,
    report,
    reports,
    settings,
    start,
)
from keras_resnet.data.names import require
from keras_resnet.files import require_png
from keras_resnet.weights import settings as weights_settings


@command("find-lr", example="keras-resnet find-lr photos/ --model resnet18 --png rates.png")
@click.argument("data", required=False)
@config_file
@settings(
    "model", "width", "recipe", "batch_size", "image_size", "fit", "channels", "optimizer",
    "weights", "freeze", "seed", "data_dir",
)  # fmt: skip
@click.option("--low", type=float, help="Lowest learning rate.  [depends on the optimizer]")
@click.option("--high", type=float, help="Highest learning rate.  [depends on the optimizer]")
@click.option(
    "--steps", type=int, default=400, show_default=True, help="Number of learning rates to try."
)
@click.option("--png", metavar="FILE", default="learning-rates.png", show_default=True,
              help="Write the plot to this file.")  # fmt: skip
@reports
def find_lr(
    config_file: str | None,
    low: float | None,
    high: float | None,
    steps: int,
    png: str,
    as_json: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Find a learning rate for DATA, with a plot (range test).

    Records the loss of a short training whose learning rate increases with each batch, until the
    loss diverges (arXiv:1506.01186). The trained network is discarded.
    """
    config = recipes.resolve(given, config_file)
    require_png(png)
    require(config.data)
    weights_settings.require(config)
    start(quiet)
    from keras_resnet.training import find_lr as library

    result = library.find_lr(
        config_file=config_file, low=low, high=high, steps=steps, png=png, **given
    )
    options = [
        f"--{name.replace('_', '-')} {shlex.quote(str(value))}"
        for name, value in [("config", config_file), *given.items()]
        if value is not None and name not in ("data", "seed")
    ]
    again = " ".join(["keras-resnet train", shlex.quote(config.data), *options])
    report(
        {**result.as_json(), "png": png}, as_json, lambda _: tables.range_test(result, png, again)
    )
