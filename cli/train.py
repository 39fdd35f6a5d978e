"""keras-resnet train"""

import click

from keras_resnet import recipes
from keras_resnet import run as runs
from keras_resnet.cli._options import (
    command,
    macro_top1,
    numbers,
    pairs,
    report,
    reports,
    setting,
    start,
)
from keras_resnet.data.names import require
from keras_resnet.weights import settings as weights_settings


@command("train", example="keras-resnet train photos/ --model resnet18 --epochs 20 --seed 1")
@click.argument("data", required=False)
@setting("--model", "A network; `keras-resnet models` lists them.")
@setting("--recipe", "Named settings; `keras-resnet recipes` lists them.")
@click.option("--config", "config_file", metavar="FILE", help="Settings of a run: its config.json.")
@setting("--epochs", "Passes over the training images.", type=int)
@setting("--batch-size", "Images in a training step.", type=int)
@setting("--image-size", "Side of the images in pixels; 0 is the network's own.", type=int)
@setting("--learning-rate", "Highest learning rate, after the warm-up.", type=float)
@setting("--base-batch", "Batch that the recipe's rate is for, which is scaled to yours; 0: not "
          "scaled.", type=int)  # fmt: skip
@setting("--body-rate", "Learning rate of all but the last layer, as a share of the last one's.",
          type=float)  # fmt: skip
@setting("--optimizer", "What turns gradients into steps.", type=click.Choice(recipes.OPTIMIZERS))
@setting("--accumulate", "Batches whose mean gradient makes one step.", type=int)
@setting("--clip-norm", "Longest gradient, over all weights together; 0: any.", type=float)
@setting("--warmup-epochs", "Epochs of rising learning rate.", type=float)
@setting("--momentum", "Momentum of SGD.", type=float)
@setting("--nesterov/--no-nesterov", "Nesterov's form of the momentum of SGD.")
@setting("--rate-drops", "Divide the learning rate by ten at these shares of the run; default: "
          "cosine.", type=numbers, metavar="'SHARE …'")  # fmt: skip
@setting("--weight-decay", "Share of a weight taken off per unit of rate.", type=float)
@setting("--loss", "bce: each class against the others.", type=click.Choice(recipes.LOSSES))
@setting("--bce-threshold", "With bce: a target above this becomes 1, any other 0; 0: none does.",
          type=float)  # fmt: skip
@setting("--label-smoothing", "Share of each target spread over all classes.", type=float)
@setting("--pad", "Random windows of the image in a black border of so many pixels; 0: random "
          "crops.", type=int)  # fmt: skip
@setting("--crop-area", "Area of a random crop, as shares of the image's.", type=(float, float),
          metavar="LEAST MOST")  # fmt: skip
@setting("--crop-aspect", "Width / height of a random crop.", type=(float, float),
          metavar="LEAST MOST")  # fmt: skip
@setting("--center-crop", "Evaluation: side of the middle square, as a share of the shorter side.",
          type=float)  # fmt: skip
@setting("--brightness", "Largest random change of brightness.", type=float)
@setting("--mixup", "Blend pairs of images: alpha of the shares' distribution.", type=float)
@setting("--cutmix", "Paste boxes of one image on another: alpha, as above.", type=float)
@setting("--randaugment", "Random operations on each image, and their magnitude up to 10.",
          type=(int, float), metavar="OPS MAGNITUDE")  # fmt: skip
@setting("--randaugment-prob", "Probability of each of these operations.", type=float)
@setting("--randaugment-std", "Standard deviation of their magnitude.", type=float)
@setting("--trivialaugment/--no-trivialaugment", "One random operation on each image, of any "
          "strength.")  # fmt: skip
@setting("--erasing", "Share of the images of which a box becomes noise.", type=float)
@setting("--repeats", "Times that a batch shows each of its images.", type=int)
@setting("--balance", "Skewed classes: show all as often (sample), or weigh them (loss).",
          type=click.Choice(recipes.BALANCES))  # fmt: skip
@setting("--train-size", "Side of the training images, as a share of --image-size.", type=float)
@setting("--size-steps", "Smaller images first: shares of the epochs, and of --image-size.",
          type=pairs, metavar="'EPOCHS SIZE / …'")  # fmt: skip
@setting("--best-by", "Score of the best epoch; macro_top1: mean of the classes' top-1.",
          type=click.Choice(recipes.BEST_BY))  # fmt: skip
@setting("--patience", "End after so many epochs at full size without a new best.", type=int)
@setting("--max-minutes", "End the training after so many minutes.", type=float)
@setting("--flip/--no-flip", "Mirror every other image; default: yes, but not for digits.")
@setting("--precision", "Number format; auto takes what this hardware runs well.",
          type=click.Choice(recipes.PRECISIONS))  # fmt: skip
@setting("--deterministic/--no-deterministic", "The same command gives the same weights, bit for "
          "bit; default: yes on a CPU, no on a GPU, where it costs speed.")  # fmt: skip
@setting("--xla/--no-xla", "Compile the training step with XLA; default: on a GPU, unless "
          "deterministic.")  # fmt: skip
@setting("--devices", "GPUs that share each batch, or without GPUs parts of the CPU; 0: all GPUs.",
          type=int)  # fmt: skip
@setting("--sync-bn/--no-sync-bn", "Batch norms take the statistics of the whole batch, not of "
          "each device's part.")  # fmt: skip
@setting("--weights", "Start from these: imagenet, a run folder, or a .keras, .h5, .safetensors "
          "or .pth file.", metavar="FILE|imagenet")  # fmt: skip
@click.option("--freeze", metavar="[STAGE]", is_flag=False, flag_value="body", default=None,
              help="Keep the weights up to this stage; alone: all but the head.")  # fmt: skip
@setting("--freeze-bn/--no-freeze-bn", "Keep the batch norms' weights and statistics.")
@setting("--normalize", "imagenet, cifar10, caffe, tf or MEAN/STD of the pixels; default: as the "
          "weights have it, or as is usual for the network.", metavar="NAME|MEAN/STD")  # fmt: skip
@setting("--zero-gamma/--no-zero-gamma", "Residual branches start at 0.")
@setting("--drop-path", "Stochastic depth: share of the images that skip the last branch.",
          type=float)  # fmt: skip
@setting("--seed", "Decides the split, the order, the crops and the first weights.", type=int)
@setting("--val-split", "Share held out where the data have no val split.", type=float)
@click.option(
    "--run", "run_folder", metavar="DIR", help="Where the run goes.  [runs/MODEL-DATA-NNN]"
)
@click.option("--resume", metavar="RUN", help="Resume an interrupted run exactly.")
@setting("--checkpoint-every", "Steps from one saved state to the next.", type=int)
@setting("--ema", "Momentum of a running average of the weights, saved where it is better.",
          type=float)  # fmt: skip
@setting("--on-bad-image", "What to do about a broken file.", type=click.Choice(["error", "skip"]))
@setting("--check", "Check of a folder: decode each new image once, or read only the headers.",
          type=click.Choice(recipes.CHECKS))  # fmt: skip
@setting("--data-dir", "Where tensorflow-datasets keeps its files.", metavar="DIR")
@reports
def train(config_file, run_folder, resume, as_json, quiet, **settings):
    """Train a network on DATA and leave a run folder.

    DATA is a folder of images (CLASS/*.jpg, or train/CLASS and val/CLASS), tfds:NAME, or digits
    (the default: 1,797 handwritten digits that need no download).

    The same command with the same --run resumes a run that was interrupted or killed, and so does
    --resume RUN; both end with the weights of an uninterrupted run.

    Several GPUs train together by themselves; so do the processes that TF_CONFIG or Slurm (srun)
    make workers of one run: `keras-resnet launch` starts some on this machine.
    """
    going_on = runs.begun(resume, run_folder, config_file, settings)
    config = going_on.config if going_on else recipes.resolve(settings, config_file)
    require(config.data)
    if not going_on:
        weights_settings.require(config)
    start(quiet)
    from keras_resnet.training.train import train as run_training

    run = run_training(config_file=config_file, run_folder=run_folder, resume=resume, **settings)
    if run is None:
        return  # the chief of the workers reports
    report(
        {"run": str(run.path), **run.metrics},
        as_json,
        lambda result: _summary(result, run.config.balance),
    )


def _summary(result, balance):
    lines = [f"run folder   {result['run']}"]
    for split in ("val", "test"):
        if split in result:
            scores = result[split]
            macro = macro_top1(scores, balance)
            lines.append(
                f"top-1        {scores['top1']:.2%}{macro} of {scores['images']:,} {split} images"
            )
    lines.append(f"report       {result['run']}/report.html")
    lines.append(f"next         keras-resnet export {result['run']} --tflite --quantize int8")
    return "\n".join(lines)
