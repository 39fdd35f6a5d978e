"""keras-resnet export"""

import re
from typing import Any

import click

from keras_resnet import choices
from keras_resnet.cli import tables
from keras_resnet.cli._options import (
    calibrate_probabilities,
    command,
    gate_limits,
    rejection,
    report,
    reports,
    setting,
    settings,
    start,
)
from keras_resnet.data.names import require
from keras_resnet.errors import CheckFailed


@command("export", example="keras-resnet export --tflite --quantize none --quantize int8")
@click.argument("run", required=False)
@click.option("--saved-model", is_flag=True, help="Write a SavedModel.")
@click.option("--tflite", is_flag=True, help="Write TFLite files.")
@click.option("--onnx", is_flag=True, help="Write an ONNX file too; needs the extra [onnx].")
@click.option("--features", is_flag=True,
              help="Write model_features.tflite too: the pooled features.")  # fmt: skip
@click.option("--trainable", type=click.Choice(choices.TRAINABLE),
              help="Write model_trainable.tflite too, float32: its head learns new classes on the "
              "device.")  # fmt: skip
@click.option("--quantize", type=click.Choice((*choices.VARIANTS, choices.AUTO)), multiple=True,
              help="Variant of the TFLite file; may be repeated. auto: the first that stays "
              "within --max-drop, with some layers in float if necessary. int16x8: for "
              "accelerators that support it, 20 to 40 times as slow as float32 on a CPU.  "
              "[none]")  # fmt: skip
@click.option("--io", type=click.Choice(choices.IO_TYPES), default="float", show_default=True,
              help="Input and output type of the int8 file.")  # fmt: skip
@click.option("--explain-quantization", is_flag=True,
              help="Measure the int8 error of each layer and block.")  # fmt: skip
@click.option("--calibration", metavar="N", type=int, default=choices.CALIBRATION,
              show_default=True,
              help="Number of training images that determine the int8 ranges.")  # fmt: skip
@click.option("--scores", type=click.Choice(choices.SCORES), default="logits", show_default=True,
              help="Output of the files: logits or probabilities.")  # fmt: skip
@click.option("--top", metavar="K", type=int,
              help="Output only the K highest probabilities and their classes; "
              "TFLite.")  # fmt: skip
@click.option("--input-size", metavar="HxW",
              help="Take camera frames of this size; crop and resize inside the file.")  # fmt: skip
@calibrate_probabilities
@rejection
@click.option("--bundle", "bundles", type=click.Choice(choices.BUNDLES), multiple=True,
              help="Write a ready-to-run app folder; may be repeated.")  # fmt: skip
@gate_limits
@click.option("--output", metavar="DIR", help="Output folder.  [RUN/export]")
@click.option(
    "--data",
    metavar="DATA",
    help="Images for a Keras model or an imported run without images, or the new folder of moved "
    "images.",
)
@setting("data_dir")
@click.option("--labels", metavar="FILE|imagenet",
              help="With FILE.keras: class names, one per line, in output order; imagenet: the "
              "names of ImageNet's classes.  [the classes of DATA in alphabetical "
              "order]")  # fmt: skip
@settings("normalize", "image_size", "fit", "channels", "center_crop")
@reports
def export(
    run: str | None,
    saved_model: bool,
    tflite: bool,
    quantize: tuple[str, ...],
    input_size: str | None,
    data: str | None,
    data_dir: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Write SavedModel, TFLite and ONNX files that pass the gate.

    The files of RUN are verified on held-out images and published only if all pass. Without
    --saved-model and --tflite, both are written. RUN may also be FILE.keras with any Keras image
    classifier, from which a run is created; only then, --labels, --normalize, --image-size, --fit,
    --channels and --center-crop apply.
    """
    if quantize and saved_model and not tflite:
        raise click.UsageError("--quantize is for TFLite files; add --tflite")
    size = _size(input_size) if input_size else None
    if data is not None:
        require(data)
    from keras_resnet.exporting.given import is_model, run_and_plan

    is_new = is_model(run)
    if is_new:
        start(quiet)
    both = not saved_model and not tflite
    wanted: Any = {
        "saved_model": saved_model or both,
        "tflite": (quantize or ("none",)) if tflite or both else (),
        "input_size": size,
        **options,
    }
    with run_and_plan(run, wanted, data=data, data_dir=data_dir) as (opened, plan):
        if is_new:
            data = None  # the images are in the run
        elif data is None:
            opened.require_images()
        from keras_resnet.exporting import publish

        with publish.locked(plan.target):
            start(quiet)
            from keras_resnet.exporting import exporter

            try:
                result = exporter.execute(plan, opened, data, data_dir)
            except CheckFailed as error:
                if error.result:  # the details
                    report(error.result, as_json, tables.verification)
                raise
    report(result, as_json, tables.verification)


def _size(text: str) -> tuple[int, int]:
    """(height, width) of "480x640"."""
    sides = re.fullmatch(r"(\d{1,6})[xX×](\d{1,6})", text)
    if not sides:
        raise click.UsageError(f"--input-size is {text!r}; expected HEIGHTxWIDTH, such as 480x640")
    return int(sides[1]), int(sides[2])
