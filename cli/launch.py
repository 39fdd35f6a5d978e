"""keras-resnet launch"""

import click

from keras_resnet.cli._options import command, reports


@command("launch", example="keras-resnet launch --workers 2 -- train photos/ --run runs/photos")
@click.option("--workers", type=int, default=2, show_default=True, metavar="N",
              help="Number of workers.")  # fmt: skip
@click.argument("train", nargs=-1, required=True, type=click.UNPROCESSED)
@reports
def launch(workers: int, train: tuple[str, ...], as_json: bool, quiet: bool) -> int:
    """Start N workers of one training run on this machine.

    The train command follows `--`: `-- train DATA --run DIR …`. Use it to test a run that is meant
    for several machines. The workers share each batch: --batch-size must be a multiple of N.
    Without GPUs, several workers on one machine are no faster than one process.
    """
    from keras_resnet.distributed.local_workers import launch as start

    also = [flag for flag, given in (("--json", as_json), ("--quiet", quiet)) if given]
    return start((*train, *also), workers)
