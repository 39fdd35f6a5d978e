"""keras-resnet inspect. The file is not called inspect.py: it would shadow the standard library's
for anyone standing in this folder."""

from collections.abc import Mapping
from typing import Any

import click

from keras_resnet.cli._options import (
    command,
    network_or_artefact,
    report,
    reports,
    require_png,
    start,
)
from keras_resnet.errors import InputError
from keras_resnet.specs import SPECS


@command("inspect", example="keras-resnet inspect resnet50 --drawing --png resnet50.png")
@click.argument("artefact", metavar="MODEL|ARTEFACT")
@click.option("--drawing", is_flag=True, help="Draw the blocks, in place of the table.")
@click.option("--png", metavar="FILE.png", help="Draw the blocks as a picture.")
@reports
def inspect(artefact: str, drawing: bool, png: str | None, as_json: bool, quiet: bool) -> None:
    """Show layers, parameters, multiply-adds and memory; draw blocks.

    By layer and by stage: shapes, parameters, multiply-adds, activations, receptive field. A
    drawing shows each block with its branch and its shortcut.

    MODEL is a name that `keras-resnet models` lists. Of a .tflite or an .onnx file: operators,
    types, scales, signatures, metadata; with --json, every operator.
    """
    artefact = network_or_artefact(artefact)
    require_png(png)
    is_file = artefact.endswith((".tflite", ".onnx"))
    if is_file and (drawing or png):
        raise InputError(
            f"{artefact} has operators and no blocks; draw the run that it was exported from"
        )
    start(quiet)
    if is_file:
        from keras_resnet.exporting import onnx_file
        from keras_resnet.inspection import metadata, tflite_file

        if artefact.endswith(".onnx"):
            found = onnx_file.census(artefact)
        else:
            found = tflite_file.census(artefact) | {"contract": metadata.read(artefact)}
        report({"name": found["file"], **found}, as_json, _table)
        return
    from keras_resnet.inspection.network import describe, table

    network = artefact if artefact in SPECS else _model(artefact)
    result = describe(network).as_json()
    if drawing or png:
        result |= _draw(network, drawing, png)
    report(result, as_json, _drawn if drawing or png else table)


def _draw(network: Any, as_text: bool, png: str | None) -> dict[str, Any]:
    from keras_resnet.inspection.drawing import drawing
    from keras_resnet.report.structure import structure

    drawn = drawing(network)
    result = {"drawing": drawn} if as_text else {}
    return {**result, "png": structure(drawn, png)} if png else result


def _drawn(result: Mapping[str, Any]) -> str:
    from keras_resnet.inspection.drawing import text

    lines = [text(result["drawing"])] if "drawing" in result else []
    return "\n".join(lines + ([f"wrote {result['png']}"] if "png" in result else []))


def _table(found: Mapping[str, Any]) -> str:
    from keras_resnet.inspection import metadata, tflite_file

    contract = found.get("contract")
    return "\n".join([*([metadata.table(contract)] if contract else []), tflite_file.table(found)])


def _model(artefact: str) -> Any:  # a Keras model
    from keras_resnet.evaluation.artefact import open_artefact

    opened = open_artefact(artefact)
    if opened.model is not None:
        return opened.model
    if opened.run is not None:  # a SavedModel of ours: the network it was made from
        return opened.run.model()
    raise InputError(
        f"{artefact} is a SavedModel from elsewhere, whose layers cannot be read; give the .keras "
        "file that it was made from"
    )
