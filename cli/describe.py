"""keras-resnet inspect. A file inspect.py would shadow the module of the standard library in this
folder."""

from typing import Any

import click

from keras_resnet import recipes, run
from keras_resnet.cli import tables
from keras_resnet.cli._options import (
    command,
    network_or_artefact,
    report,
    reports,
    setting,
    start,
)
from keras_resnet.errors import InputError
from keras_resnet.files import require_png
from keras_resnet.specs import SPECS


@command("inspect", example="keras-resnet inspect resnet50 --drawing --png resnet50.png")
@click.argument("artefact", metavar="MODEL|ARTEFACT")
@click.option("--drawing", is_flag=True, help="Draw the blocks instead of the table.")
@click.option("--png", metavar="FILE.png", help="Draw the blocks as a picture.")
@setting("width")
@reports
def inspect(
    artefact: str, drawing: bool, png: str | None, width: float | None, as_json: bool, quiet: bool
) -> None:
    """Show layers, parameters, multiply-adds and memory; draw blocks.

    By layer and by stage: shapes, parameters, multiply-adds, activations, receptive field. A
    drawing shows each block with its branch and its shortcut.

    MODEL is a name that `keras-resnet models` lists. For a .tflite or an .onnx file: operators,
    types, scales, signatures, metadata; with --json, every operator.
    """
    artefact = network_or_artefact(artefact)
    require_png(png)
    is_name = artefact in SPECS
    if is_name:
        config = recipes.resolve({"model": artefact, "width": width})
    elif width is not None:
        raise InputError(f"--width {width:g} is for the name of a network; {artefact} has its own")
    is_file = artefact.endswith((".tflite", ".onnx"))
    if is_file and (drawing or png):
        raise InputError(
            f"{artefact} has operators and no blocks; draw the run that it was exported from"
        )
    start(quiet)
    if is_file:
        _inspect_file(artefact, as_json)
        return
    from keras_resnet.inspection.network import describe, without_weights

    network = without_weights(artefact, width=config.width) if is_name else _model(artefact)
    result = describe(network)
    if not (drawing or png):
        report(result, as_json, tables.description)
        return
    from keras_resnet.inspection.drawing import drawing as draw
    from keras_resnet.report.structure import structure

    drawn = draw(network)
    if png:
        structure(drawn, png)
    document = result.as_json() | ({"drawing": drawn.as_json()} if drawing else {})
    report(document, as_json, lambda _: str(drawn) if drawing else "", png=png)


def _inspect_file(path: str, as_json: bool) -> None:
    from keras_resnet.inspection import metadata, onnx_file, tflite_file

    contract = None
    if path.endswith(".onnx"):
        found = onnx_file.census(path)
        document = found.as_json()
    else:
        found, contract = tflite_file.census(path), metadata.read(path)
        document = {**found.as_json(), "contract": contract}
    report({"name": found.file, **document}, as_json, lambda _: tables.census(found, contract))


def _model(artefact: str) -> Any:  # a Keras model
    from keras_resnet.evaluation.artefact import open_artefact

    if run.kind_of(artefact) != "saved_model":
        return open_artefact(artefact).model
    exported_from = run.run_of(artefact)
    if exported_from is not None:
        return exported_from.model()
    raise InputError(
        f"{artefact} is a SavedModel without readable layers; give the .keras file that it was "
        "made from"
    )
