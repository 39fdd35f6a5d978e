"""keras-resnet train"""

import click

from keras_resnet import recipes
from keras_resnet.cli._options import command, report, reports, start
from keras_resnet.data.names import require
from keras_resnet.weights import settings as weights_settings

_DEFAULTS = recipes.Config()


def _setting(flag, about, **kind):
    """An option that fills the field of `Config` of the same name, and shows its default."""
    name = flag.split("/")[0].removeprefix("--").replace("-", "_")
    default = getattr(_DEFAULTS, name)
    others = [f"{r} {n[name]}" for r, n in recipes.RECIPES.items() if name in n]
    shown = "; ".join([*([] if default is None else [str(default)]), *others])
    return click.option(flag, default=None, help=about + (f"  [{shown}]" if shown else ""), **kind)


@command("train", example="keras-resnet train photos/ --model resnet18 --epochs 20 --seed 1")
@click.argument("data", required=False)
@_setting("--model", "A network; `keras-resnet models` lists them.")
@_setting("--recipe", "Named settings; `keras-resnet recipes` lists them.")
@click.option("--config", "config_file", metavar="FILE", help="Settings of a run: its config.json.")
@_setting("--epochs", "Passes over the training images.", type=int)
@_setting("--batch-size", "Images in a training step.", type=int)
@_setting("--image-size", "Side of the images in pixels; 0 is the network's own.", type=int)
@_setting("--learning-rate", "Highest learning rate, after the warm-up.", type=float)
@_setting("--warmup-epochs", "Epochs of rising learning rate.", type=float)
@_setting("--weight-decay", "Share of a weight taken off per unit of rate.", type=float)
@_setting("--label-smoothing", "Share of each target spread over all classes.", type=float)
@_setting("--brightness", "Largest random change of brightness.", type=float)
@_setting("--flip/--no-flip", "Mirror every other image; default: yes, but not for digits.")
@_setting("--precision", "Number format; auto takes what this hardware runs well.",
          type=click.Choice(recipes.PRECISIONS))  # fmt: skip
@_setting("--weights", "Start from these: imagenet, a run folder, or a .keras, .h5, .safetensors "
          "or .pth file.", metavar="FILE|imagenet")  # fmt: skip
@click.option("--freeze", metavar="[STAGE]", is_flag=False, flag_value="body", default=None,
              help="Keep the weights up to this stage; alone: all but the head.")  # fmt: skip
@_setting("--normalize", "imagenet, cifar10, caffe, tf or MEAN/STD of the pixels; default: as the "
          "weights have it, or as is usual for the network.", metavar="NAME|MEAN/STD")  # fmt: skip
@_setting("--drop-path", "Stochastic depth: share of the images that skip the last branch.",
          type=float)  # fmt: skip
@_setting("--seed", "Decides the split, the order, the crops and the first weights.", type=int)
@_setting("--val-split", "Share held out where the data have no val split.", type=float)
@click.option(
    "--run", "run_folder", metavar="DIR", help="Where the run goes.  [runs/MODEL-DATA-NNN]"
)
@_setting("--on-bad-image", "What to do about a broken file.", type=click.Choice(["error", "skip"]))
@_setting("--data-dir", "Where tensorflow-datasets keeps its files.", metavar="DIR")
@reports
def train(config_file, run_folder, as_json, quiet, **settings):
    """Train a network on DATA and leave a run folder.

    DATA is a folder of images (CLASS/*.jpg, or train/CLASS and val/CLASS), tfds:NAME, or digits
    (the default: 1,797 handwritten digits that need no download).
    """
    config = recipes.resolve(settings, config_file)
    require(config.data)
    weights_settings.require(config)
    start(quiet)
    from keras_resnet.training import fit

    run = fit.train(config_file=config_file, run_folder=run_folder, **settings)
    report({"run": str(run.path), **run.metrics}, as_json, _summary)


def _summary(result):
    lines = [f"run folder   {result['run']}"]
    for split in ("val", "test"):
        if split in result:
            scores = result[split]
            lines.append(
                f"top-1        {scores['top1']:.2%} of {scores['images']:,} {split} images"
            )
    lines.append(f"report       {result['run']}/report.html")
    lines.append(f"next         keras-resnet export {result['run']} --tflite --quantize int8")
    return "\n".join(lines)
