"""keras-resnet import. The file cannot be called import.py: nothing could import it."""

import click

from keras_resnet import recipes
from keras_resnet.cli._options import command, report, reports, start
from keras_resnet.weights import settings

_DEFAULTS = recipes.Config()


@command(
    "import",
    example="keras-resnet import resnet20.safetensors --model resnet20 --normalize cifar10 "
    "--labels labels.txt --run runs/theirs",
)
@click.argument("file")
@click.option("--model", required=True, help="The network; `keras-resnet models` lists them.")
@click.option("--normalize", metavar="NAME|MEAN/STD",
              help="What the weights were trained with: imagenet, cifar10, caffe, tf, or numbers "
                   "in [0, 255], such as 120,115,105/60,58,57.  [as the file says, or as usual for "
                   "the network]")  # fmt: skip
@click.option("--labels", metavar="FILE", help="A class a line, in their order.  [0, 1, 2, …]")
@click.option("--image-size", type=int, default=_DEFAULTS.image_size, show_default=True,
              help="Side of the images in pixels; 0 is the network's own.")  # fmt: skip
@click.option("--center-crop", type=float, default=_DEFAULTS.center_crop, show_default=True,
              help="The middle square of an image that it sees, as a share.")  # fmt: skip
@click.option(
    "--run", "run_folder", metavar="DIR", help="Where the run goes.  [runs/MODEL-data-NNN]"
)
@reports
def import_weights(file, run_folder, as_json, quiet, **settings_given):
    """Make a run of weights that were trained elsewhere.

    FILE is a .keras or .h5 file of keras.applications, a .safetensors or .pth file of torchvision,
    timm or a PyTorch net for CIFAR, or imagenet, to download what is published.
    """
    named = {"model", "normalize", "image_size", "center_crop"}
    config = {name: value for name, value in settings_given.items() if name in named}
    settings.require(recipes.resolve({**config, "weights": file}))
    start(quiet)
    from keras_resnet.weights.importing import import_weights

    run = import_weights(file, run_folder=run_folder, **settings_given)
    report({"run": str(run.path), **run.metrics}, as_json, _summary)


def _summary(result):
    return "\n".join(
        [
            f"run folder   {result['run']}",
            f"network      {result['model']}, {result['parameters']:,} parameters",
            f"next         keras-resnet evaluate {result['run']} DATA",
            f"             keras-resnet export {result['run']} --data DATA --tflite "
            "--quantize int8",
        ]
    )
