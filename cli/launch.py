"""keras-resnet launch"""

import click

from keras_resnet.cli._options import command, reports


@command("launch", example="keras-resnet launch --workers 2 -- train photos/ --run runs/photos")
@click.option("--workers", type=int, default=2, show_default=True, metavar="N",
              help="Processes that train together.")  # fmt: skip
@click.argument("train", nargs=-1, required=True, type=click.UNPROCESSED)
@reports
def launch(workers, train, as_json, quiet):
    """Start N workers of one run on this machine: `-- train DATA --run DIR …`.

    To try out what several machines do, each of which is told by TF_CONFIG or Slurm which worker it
    is. They share each batch, so --batch-size has to be a multiple of N. On one machine without
    GPUs this is no faster than one process.
    """
    from keras_resnet.training.local_workers import launch as start

    also = [flag for flag, given in (("--json", as_json), ("--quiet", quiet)) if given]
    return start((*train, *also), workers)
