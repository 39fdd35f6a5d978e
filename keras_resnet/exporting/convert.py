"""Converts a SavedModel to one `.tflite` file, in a child process:

python -m keras_resnet.exporting.convert SAVED_MODEL OUTPUT VARIANT IO CALIBRATION.npy
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_resnet import runtime
from keras_resnet.exporting import child
from keras_resnet.exporting.plan import CALIBRATED
from keras_resnet.files import StrPath

if TYPE_CHECKING:
    import tensorflow as tf

# Measured with ResNet-20 and ResNet-50 on x86-64.
INT16X8_WARNING = (
    "int16x8 takes 30 times as long as float32 on a CPU; it is for accelerators that support it"
)


def convert(
    saved_model: Path,
    output: Path,
    variant: str,
    *,
    io: str = "float",
    calibration: Path | None = None,
) -> dict[str, Any]:
    """Converts in a child process.

    Args:
        saved_model: folder written by `write_for_conversion`.
        output: path of the `.tflite` file.
        variant: "none" (float32), "float16" (weights), "dynamic" (int8 weights), "int8" (all) or
            "int16x8" (int16 activations, int8 weights).
        io: input and output type of an int8 file: "float", "uint8" or "int8".
        calibration: `.npy` file of uint8 images `(n, h, w, c)`, for int8 and int16x8.

    Returns:
        {seconds, peak_memory_bytes} of the child.

    Raises:
        CheckFailed: the converter failed; the message has the reason.
    """
    arguments = (saved_model, output, variant, io, calibration or "")
    return child.run(__name__, *arguments, what=f"conversion to {Path(output).name}")


def calibrated(saved_model: StrPath, calibration: StrPath) -> "tf.lite.TFLiteConverter":
    """A converter that calibrates with the images of a `.npy` file, one float32 batch each."""
    import numpy as np
    import tensorflow as tf

    images = np.load(calibration)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    # Lists, because the quantization debugger crashes on dicts.
    converter.representative_dataset = lambda: (
        [image[None].astype(np.float32)] for image in images
    )
    return converter


def ends(io: str) -> "tf.DType":
    """The TensorFlow type of the input and output of an int8 file."""
    import tensorflow as tf

    return {"float": tf.float32, "uint8": tf.uint8, "int8": tf.int8}[io]


def _convert(saved_model: str, output: str, variant: str, io: str, calibration: str) -> None:
    import tensorflow as tf

    if variant in CALIBRATED:
        converter = calibrated(saved_model, calibration)
    else:
        converter = tf.lite.TFLiteConverter.from_saved_model(saved_model)
    # No SELECT_TF_OPS: an operator that phones lack is an error here, not on the phone.
    sets = tf.lite.OpsSet
    operators = {
        "int8": sets.TFLITE_BUILTINS_INT8,
        "int16x8": sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
    }.get(variant, sets.TFLITE_BUILTINS)
    converter.target_spec.supported_ops = [operators]
    if variant != "none":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if variant == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if variant == "int8":
        converter.inference_input_type = converter.inference_output_type = ends(io)
    with open(output, "wb") as file:
        file.write(converter.convert())


if __name__ == "__main__":
    runtime.prepare()
    _convert(*sys.argv[1:])
    child.report_peak()
