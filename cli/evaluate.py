"""keras-resnet evaluate"""

from typing import Literal

import click

from keras_resnet import run
from keras_resnet.cli import tables
from keras_resnet.cli._options import (
    command,
    report,
    reports,
    setting,
    start,
    trust,
)
from keras_resnet.data.names import require
from keras_resnet.files import require_file, write_text


@command(
    "evaluate", example="keras-resnet evaluate runs/resnet20-digits-001/export/model_int8.tflite"
)
@click.argument("artefact", required=False)
@click.argument("data", required=False)
@click.option("--split", type=click.Choice(["train", "val", "test"]),
              help="Split of the run or of DATA; for a plain folder, the run's images of this "
              "split.  [val]")  # fmt: skip
@click.option("--csv", metavar="FILE",
              help="Write one row per image: file, label, prediction, score.")  # fmt: skip
@setting("on_bad_image", default="error")
@setting("data_dir")
@trust
@reports
def evaluate(
    artefact: str | None,
    data: str | None,
    split: Literal["train", "val", "test"] | None,
    csv: str | None,
    on_bad_image: Literal["error", "skip"],
    data_dir: str | None,
    trust: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Evaluate ARTEFACT on labelled images.

    ARTEFACT is a run folder, a .keras file, a SavedModel folder, a .tflite or an .onnx file; the
    default is the newest run. It is evaluated on all images of DATA, or on --split if DATA has
    splits; without DATA, on a split of its run.
    """
    require_file(csv, "--csv", "csv")
    run.require_trusted(artefact or run.open_run(), trust)
    if data is not None:
        require(data)
    start(quiet)
    from keras_resnet.evaluation import per_image, scores

    result = scores.evaluate(
        artefact, data, split=split, on_bad_image=on_bad_image, data_dir=data_dir, trust=trust
    )
    if csv:
        write_text(csv, per_image.to_csv(result.rows))
    report(result, as_json, tables.evaluation, csv=csv)
