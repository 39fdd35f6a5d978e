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
from keras_resnet.errors import InputError
from keras_resnet.weights import settings as weights_settings


@command("train", example="keras-resnet train photos/ --model resnet18 --epochs 20 --seed 1")
@click.argument("data", required=False)
@click.option("--run", "run_folder", metavar="DIR", help="Run folder.  [runs/MODEL-DATA-NNN]")
@click.option("--resume", metavar="RUN", help="Resume an interrupted run exactly.")
@click.option("--folds", metavar="K", type=int,
              help="K-fold cross-validation: train K networks, each scored on its held-out fold.  "
              "[one network]")  # fmt: skip
@config_file
@settings()
@reports
def train(
    config_file: str | None,
    run_folder: str | None,
    resume: str | None,
    folds: int | None,
    as_json: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Train a network on DATA and write a run folder.

    DATA is a folder of images (CLASS/*.jpg, or train/CLASS and val/CLASS), tfds:NAME, or digits
    (the default: 1,797 handwritten digits that need no download).

    To resume an interrupted run, repeat the command with the same --run, or use --resume RUN; both
    end with the weights of an uninterrupted run. If the images were moved, give their new folder:
    DATA --resume RUN.

    The defaults below are those of --recipe quick; `keras-resnet recipes` lists the others.

    With --folds K, the run folder (by default runs/folds-DATA) contains K runs, fold-1 to fold-K.
    Each image is scored by the network that was not trained on it; predictions.csv has all
    predictions, and suspects.png shows the images whose label may be wrong. The same command
    resumes it.

    All GPUs of the machine are used. To train on several machines, start this command on each, with
    TF_CONFIG or Slurm (srun); `keras-resnet launch` starts several workers on one machine.
    """
    if folds is not None:
        return _cross_validate(folds, config_file, run_folder, resume, as_json, quiet, given)
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


def _cross_validate(
    folds: int,
    config_file: str | None,
    run_folder: str | None,
    resume: str | None,
    as_json: bool,
    quiet: bool,
    given: dict[str, Any],
) -> None:
    if resume is not None:
        raise InputError(f"--resume {resume} is for one run; the same --folds command resumes")
    config = recipes.resolve(given, config_file)
    require(config.data)
    weights_settings.require(config)
    start(quiet)
    from keras_resnet.studies.folds import cross_validate

    result = cross_validate(folds=folds, config_file=config_file, run_folder=run_folder, **given)
    report(result, as_json, tables.cross_validation)
