"""SavedModel -> one `.tflite` file, in a process of its own.

TensorFlow's converter leaks memory and prints hundreds of lines, so each conversion is a child:

    python -m keras_resnet.exporting.convert SAVED_MODEL OUTPUT VARIANT IO CALIBRATION.npy
"""

import subprocess
import sys

from keras_resnet import runtime
from keras_resnet.errors import CheckFailed

VARIANTS = ("none", "float16", "dynamic", "int8")
IO_TYPES = ("float", "uint8", "int8")
FILES = {
    "none": "model_float32.tflite",
    "float16": "model_float16.tflite",
    "dynamic": "model_dynamic.tflite",
    "int8": "model_int8.tflite",
}


def convert(saved_model, output, variant, *, io="float", calibration=None):
    """Converts in a child process.

    Args:
        saved_model: folder written by `write_for_conversion`.
        output: path of the `.tflite` file.
        variant: "none" (float32), "float16" (weights), "dynamic" (int8 weights) or "int8" (all).
        io: type of the ends of an int8 file: "float", "uint8" or "int8".
        calibration: `.npy` file of uint8 images `(n, s, s, 3)`, for int8.

    Raises:
        CheckFailed: the converter failed; the line holds its reason.
    """
    in_child(__name__, [saved_model, output, variant, io, calibration or ""], variant)


def in_child(module, arguments, what):
    """Runs `python -m module arguments`; CheckFailed with the last line it printed if it fails."""
    # -P: a file of the user's that is called like a module must not be imported instead of it.
    command = [sys.executable, "-P", "-m", module, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = lines[-1][:300] if lines else f"status {done.returncode}"
        raise CheckFailed(f"conversion to {what} failed: {reason}")


def _convert(saved_model, output, variant, io, calibration):
    import numpy as np
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model)
    # Without SELECT_TF_OPS: an operator the phone lacks is an error here, not there.
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if variant != "none":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if variant == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if variant == "int8":
        images = np.load(calibration)
        converter.representative_dataset = lambda: (
            {"image": image[None].astype(np.float32)} for image in images
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        ends = {"float": tf.float32, "uint8": tf.uint8, "int8": tf.int8}[io]
        converter.inference_input_type = converter.inference_output_type = ends
    with open(output, "wb") as file:
        file.write(converter.convert())


if __name__ == "__main__":
    runtime.prepare()
    _convert(*sys.argv[1:])
