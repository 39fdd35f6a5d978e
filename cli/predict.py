"""keras-resnet predict"""

from typing import Literal

import click

from keras_resnet import run
from keras_resnet.cli import tables
from keras_resnet.cli._options import command, report, reports, setting, start, trust


@command("predict", example="keras-resnet predict runs/resnet20-photos-001 new/*.jpg --top 1")
@click.argument("artefact")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option(
    "--top",
    default=3,
    show_default=True,
    help="Number of classes per image; a file exported with --top K has at most K.",
)
@setting(
    "on_bad_image",
    default="skip",
    help="Unreadable images: stop with an error, or skip them.  [skip]",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV: image,rank,label,score.")
@trust
@reports
def predict(
    artefact: str,
    images: tuple[str, ...],
    top: int,
    on_bad_image: Literal["error", "skip"],
    as_csv: bool,
    trust: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Classify images.

    IMAGE is a file, a folder or a pattern such as 'new/*.jpg'.

    ARTEFACT is a run folder, a .keras file, a SavedModel folder, a .tflite or an .onnx file.
    """
    if as_csv and as_json:
        raise click.UsageError("--csv and --json are mutually exclusive; give one")
    run.require_trusted(artefact, trust)
    start(quiet)
    from keras_resnet.evaluation import scores

    rows = scores.predict(artefact, images, top=top, on_bad_image=on_bad_image, trust=trust)
    text = tables.predictions_csv if as_csv else tables.predictions
    report([row.as_json() for row in rows], as_json, lambda _: text(rows))
