"""keras-resnet predict"""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from keras_resnet import run
from keras_resnet.cli._options import command, report, reports, start


@command("predict", example="keras-resnet predict runs/resnet20-photos-001 new/*.jpg --top 1")
@click.argument("artefact")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--top", default=3, show_default=True, help="Number of classes per image.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV: image,rank,label,score.")
@reports
def predict(
    artefact: str, images: tuple[str, ...], top: int, as_csv: bool, as_json: bool, quiet: bool
) -> None:
    """Classify images.

    IMAGE is a file, a folder or a pattern such as 'new/*.jpg'.

    ARTEFACT is a run folder, a .keras file, a SavedModel folder, a .tflite or an .onnx file.
    """
    run.kind_of(artefact)
    start(quiet)
    from keras_resnet.evaluation import scores

    result = [row.as_json() for row in scores.predict(artefact, images, top=top)]
    report(result, as_json, _csv if as_csv else _lines)


def _lines(result: Sequence[Mapping[str, Any]]) -> str:
    width = min(max(len(row["image"]) for row in result), 60)
    return "\n".join(
        f"{row['image']:{width}}  "
        + "  ".join(f"{p['label']} {p['score']:.1%}" for p in row["predictions"])
        for row in result
    )


def _csv(result: Sequence[Mapping[str, Any]]) -> str:
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "rank", "label", "score"])
    for row in result:
        for rank, p in enumerate(row["predictions"], 1):
            writer.writerow([row["image"], rank, p["label"], f"{p['score']:.6f}"])
    return text.getvalue().rstrip("\n")
