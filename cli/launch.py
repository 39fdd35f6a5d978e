"""keras-resnet launch"""

import click

from keras_resnet.cli._options import command, reports


@command("launch", example="keras-resnet launch --workers 2 -- train photos/ --run runs/photos")
@click.option("--workers", type=int, default=2, show_default=True, metavar="N",
              help="Processes that train together.")  # fmt: skip
@click.argument("train", nargs=-1, required=True, type=click.UNPROCESSED)
@reports
def launch(workers: int, train: tuple[str, ...], as_json: bool, quiet: bool) -> int:
    """Start N workers of one training run on this machine.

    The command follows `--`: `-- train DATA --run DIR …`. For trying out a run on several machines,
    on which TF_CONFIG or Slurm numbers the workers. The workers share each batch, so --batch-size
    has to be a multiple of N. On one machine without GPUs this is no faster than one process.
    """
    from keras_resnet.distributed.local_workers import launch as start

    also = [flag for flag, given in (("--json", as_json), ("--quiet", quiet)) if given]
    return start((*train, *also), workers)
