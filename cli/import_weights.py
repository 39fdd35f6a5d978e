"""keras-resnet import. No module can be called `import`."""

import os
from typing import Any

import click

from keras_resnet import recipes
from keras_resnet.cli import tables
from keras_resnet.cli._options import command, report, reports, setting, settings, start
from keras_resnet.errors import InputError
from keras_resnet.weights import settings as weights_settings


@command(
    "import",
    example="keras-resnet import resnet20.safetensors --model resnet20 --normalize cifar10 "
    "--labels labels.txt --run runs/theirs",
)
@click.argument("file")
@setting(
    "model",
    help="Network of the weights; `keras-resnet models` lists all.  [detected from the arrays]",
)
@setting("normalize")
@click.option(
    "--labels",
    metavar="FILE|imagenet",
    help="Class names, one per line, in output order; imagenet: the names of ImageNet's "
    "classes.  [those of the run of FILE; for imagenet, ImageNet's; else 0, 1, 2, …]",
)
@setting("width")
@setting(
    "image_size", help="Side of square images in pixels, or HEIGHTxWIDTH.  [the network's own]"
)
@settings("fit", "channels", "center_crop")
@click.option("--run", "run_folder", metavar="DIR", help="Run folder.  [runs/MODEL-data-NNN]")
@reports
def import_weights(
    file: str, run_folder: str | None, labels: str | None, as_json: bool, quiet: bool, **given: Any
) -> None:
    """Create a run folder from weights or from a Keras classifier.

    FILE is a .keras file with a whole image classifier, or the weights of a network: an .h5 file of
    keras.applications, a .safetensors or .pth file of torchvision, timm or a PyTorch network for
    CIFAR, a .keras file with --model, or imagenet, to download published weights.
    """
    given = {name: value for name, value in given.items() if value is not None}
    is_whole = file.endswith(".keras") and "model" not in given
    if not is_whole:
        weights_settings.require(recipes.resolve({**given, "weights": file}))
    elif not os.path.exists(file):
        raise InputError(f"no Keras model {file}; give a .keras file")
    elif given.pop("width", 1) != 1:
        raise InputError(
            "--width is for weights, with --model; a whole Keras classifier is imported "
            "unchanged: leave it out"
        )
    start(quiet)
    from keras_resnet.weights import importing

    make = importing.import_model if is_whole else importing.import_weights
    run = make(file, labels=labels, run_folder=run_folder, **given)
    report({"run": str(run.path), **run.metrics}, as_json, lambda _: tables.imported(run))
