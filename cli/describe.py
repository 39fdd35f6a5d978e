"""keras-resnet inspect. The file is not called inspect.py: it would shadow the standard library's
for anyone standing in this folder."""

import click

from keras_resnet.cli._options import command, report, reports, start
from keras_resnet.specs import SPECS


@command("inspect", example="keras-resnet inspect resnet50")
@click.argument("artefact", metavar="MODEL|ARTEFACT")
@reports
def inspect(artefact, as_json, quiet):
    """Show what a network consists of: layers, shapes, parameters, multiply-adds, receptive field.

    MODEL is a name that `keras-resnet models` lists. Of a .tflite file: operators, types, scales,
    signatures, metadata.
    """
    start(quiet)
    if artefact.endswith(".tflite"):
        from keras_resnet.export.census import inspect as inspect_file
        from keras_resnet.export.census import table

        report(inspect_file(artefact), as_json, table)
        return
    from keras_resnet.explain.describe import describe, table

    report(describe(artefact if artefact in SPECS else _model(artefact)), as_json, table)


def _model(artefact):
    from keras_resnet.errors import InputError
    from keras_resnet.evaluation import open_artefact

    opened = open_artefact(artefact)
    if opened.model is None:
        raise InputError(
            f"{artefact} is a {opened.kind}, whose layers cannot be read; inspect its run, or its "
            ".tflite files"
        )
    return opened.model


command = inspect
