"""keras-resnet export"""

import click

from keras_resnet.cli._options import command, report, reports, start
from keras_resnet.data.names import require
from keras_resnet.errors import CheckFailed
from keras_resnet.run import open_run

# Written out, so that --help need not load the export room; a test holds them equal.
QUANTIZE = ("none", "float16", "dynamic", "int8", "int16x8", "auto")
IO = ("float", "uint8", "int8")
BUNDLES = ("android", "web", "python", "c")


@command("export", example="keras-resnet export --tflite --quantize none --quantize int8")
@click.argument("run", required=False)
@click.option("--saved-model", is_flag=True, help="Write a SavedModel.")
@click.option("--tflite", is_flag=True, help="Write TFLite files.")
@click.option("--quantize", type=click.Choice(QUANTIZE), multiple=True,
              help="Variant of the TFLite file; may be repeated. auto: the smallest that keeps "
              "--max-drop, with some layers in float if need be. int16x8: 30 times slower than "
              "float32 on a CPU, for chips made for it.  [none]")  # fmt: skip
@click.option("--io", type=click.Choice(IO), default="float", show_default=True,
              help="Type of the ends of the int8 file.")  # fmt: skip
@click.option("--explain-quantization", is_flag=True,
              help="Show what int8 costs each layer and block.")  # fmt: skip
@click.option("--calibration", metavar="N", type=int, default=500, show_default=True,
              help="Training images that set the ranges of int8.")  # fmt: skip
@click.option("--bundle", "bundles", type=click.Choice(BUNDLES), multiple=True,
              help="A folder that is ready to run; may be repeated.")  # fmt: skip
@click.option("--max-drop", metavar="POINTS", type=float, default=1.0, show_default=True,
              help="Top-1 that a file may lose.")  # fmt: skip
@click.option("--output", metavar="DIR", help="Where to write.  [RUN/export]")
@click.option("--data", metavar="DATA", help="Images for a run that was imported without.")
@click.option("--data-dir", metavar="DIR", help="Where tensorflow-datasets keeps its files.")
@reports
def export(
    run, saved_model, tflite, quantize, io, explain_quantization, calibration, bundles, max_drop,
    output, data, data_dir, as_json, quiet,
):  # fmt: skip
    """Write a SavedModel and TFLite files of RUN, verify them on held-out images, and publish them
    only if all pass. Neither --saved-model nor --tflite given: both.
    """
    if quantize and saved_model and not tflite:
        raise click.UsageError("--quantize is for TFLite files; add --tflite")
    opened = open_run(run)
    if data is None:
        opened.require_images()
    else:
        require(data)
    start(quiet)
    from keras_resnet.exporting import exporter
    from keras_resnet.exporting.gate import table

    both = not saved_model and not tflite
    try:
        result = exporter.export(
            run,
            saved_model=saved_model or both,
            tflite=(quantize or ("none",)) if tflite or both else (),
            io=io,
            explain_quantization=explain_quantization,
            calibration=calibration,
            max_drop=max_drop,
            bundles=bundles,
            output=output,
            data=data,
            data_dir=data_dir,
        )
    except CheckFailed as error:
        if error.result:  # the numbers that explain it
            report(error.result, as_json, table)
        raise
    report(result, as_json, table)
