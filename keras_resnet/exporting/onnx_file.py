"""Converts a SavedModel to `model.onnx`, in a child process:

    python -m keras_resnet.exporting.onnx_file SAVED_MODEL OUTPUT

Like Keras' `model.export(format="onnx")` on TensorFlow, it uses tf2onnx, but on the same kind of
SavedModel as for the TFLite files, so that inputs and outputs have names.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

from keras_resnet import filenames, runtime
from keras_resnet.errors import needs_extra
from keras_resnet.exporting import child

OPSET = 18  # the newest that tf2onnx supports
PACKAGES = ("onnx", "onnxruntime", "tf2onnx")  # packages of the extra


def require() -> None:
    """InputError unless the packages of the extra are installed; does not import them."""
    for package in PACKAGES:
        if find_spec(package) is None:
            raise needs_extra(f"--onnx needs {package}", "onnx")


def convert(saved_model: Path, output: Path) -> None:
    """Converts in a child process.

    Args:
        saved_model: folder written by `write_for_conversion` with a dynamic batch size.
        output: path of the `.onnx` file: float32 image `(b, h, w, c)` in [0, 255] -> logits.

    Raises:
        CheckFailed: the converter failed; the message has the reason.
    """
    child.run(__name__, saved_model, output, what=f"conversion to {filenames.ONNX}")


def _convert(saved_model: str, output: str) -> None:
    import onnx
    import tensorflow as tf
    import tf2onnx

    loaded = tf.saved_model.load(saved_model)  # this reference keeps the weights alive
    serve = loaded.signatures["serving_default"]
    image = serve.structured_input_signature[1]["image"]
    model, _ = tf2onnx.convert.from_function(
        tf.function(lambda image: serve(image=image)), [image], opset=OPSET
    )
    for end in (*model.graph.input, *model.graph.output):
        end.type.tensor_type.shape.dim[0].dim_param = "batch"  # tf2onnx invents names
    onnx.save(model, output)


if __name__ == "__main__":
    runtime.prepare()
    _convert(*sys.argv[1:])
    child.report_peak()
