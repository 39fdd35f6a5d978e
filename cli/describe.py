"""keras-resnet inspect. The file is not called inspect.py: it would shadow the standard library's
for anyone standing in this folder."""

import os

import click

from keras_resnet import recipes, run
from keras_resnet.cli._options import command, report, reports, start
from keras_resnet.specs import SPECS


@command("inspect", example="keras-resnet inspect resnet50")
@click.argument("artefact", metavar="MODEL|ARTEFACT")
@reports
def inspect(artefact, as_json, quiet):
    """Show what a network consists of: layers, shapes, parameters, multiply-adds, receptive field.

    MODEL is a name that `keras-resnet models` lists. Of a .tflite or an .onnx file: operators,
    types, scales, signatures, metadata.
    """
    if artefact not in SPECS:
        if artefact.isidentifier() and not os.path.exists(artefact):
            recipes.resolve({"model": artefact})  # an unknown name: says which are near
        run.kind_of(artefact)
    start(quiet)
    if artefact.endswith(".onnx"):
        from keras_resnet.exporting import census, onnx_file

        found = onnx_file.census(artefact)
        report({"name": found["file"], **found}, as_json, census.table)
        return
    if artefact.endswith(".tflite"):
        from keras_resnet.exporting import census

        report(_as_network(census.census(artefact)), as_json, census.table)
        return
    from keras_resnet.explain.describe import describe, table

    report(describe(artefact if artefact in SPECS else _model(artefact)), as_json, table)


def _as_network(found):
    """What a file holds, under the names that `inspect --json` has for every network."""
    layers = [{"kind": kind, "count": count} for kind, count in found["ops"].items()]
    return {"name": found["file"], "trainable_parameters": 0, "layers": layers, **found}


def _model(artefact):
    from keras_resnet.errors import InputError
    from keras_resnet.evaluation.artefact import open_artefact

    opened = open_artefact(artefact)
    if opened.model is not None:
        return opened.model
    if opened.run is not None:  # a SavedModel of ours: the network it was made from
        return opened.run.model()
    raise InputError(f"{artefact} is a SavedModel from elsewhere, whose layers cannot be read")
