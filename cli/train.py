"""keras-resnet train"""

from typing import Any

import click

from keras_resnet import recipes
from keras_resnet import run as runs
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
from keras_resnet.weights import settings as weights_settings


@command("train", example="keras-resnet train photos/ --model resnet18 --epochs 20 --seed 1")
@click.argument("data", required=False)
@click.option("--run", "run_folder", metavar="DIR", help="Run folder.  [runs/MODEL-DATA-NNN]")
@click.option("--resume", metavar="RUN", help="Resume an interrupted run exactly.")
@config_file
@settings()
@reports
def train(
    config_file: str | None,
    run_folder: str | None,
    resume: str | None,
    as_json: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Train a network on DATA and write a run folder.

    DATA is a folder of images (CLASS/*.jpg, or train/CLASS and val/CLASS), tfds:NAME, or digits
    (the default: 1,797 handwritten digits that need no download).

    The same command with the same --run resumes a run that was interrupted or killed, and so does
    --resume RUN; both end with the weights of an uninterrupted run. If the images were moved,
    DATA --resume RUN says where they are now.

    The defaults below are those of --recipe quick; `keras-resnet recipes` lists the others.

    All GPUs of the machine are used. To train on several machines, start this command on each, with
    TF_CONFIG or Slurm (srun); `keras-resnet launch` starts several workers on one machine.
    """
    unfinished = runs.unfinished(resume, run_folder, config_file, given)
    config = unfinished.config if unfinished else recipes.resolve(given, config_file)
    require(given["data"] or config.data)
    if not unfinished:
        weights_settings.require(config)
    start(quiet)
    from keras_resnet.training.train import train as run_training

    run = run_training(config_file=config_file, run_folder=run_folder, resume=resume, **given)
    if run is None:
        return  # the chief of the workers reports
    path, metrics = str(run.path), run.metrics
    report(
        {"run": path, **metrics},
        as_json,
        lambda _: tables.trained(path, metrics, run.config.balance),
    )
