"""Room for large logits in files of integers."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from keras_resnet.exporting import headroom

KINDS = [("int8", "float32"), ("int8", "uint8"), ("int8", "int8"), ("int16", "float32")]
pytestmark = pytest.mark.filterwarnings("ignore:Statistics for quantized inputs")
MOST = 2.0  # energy; the range of the logits then reaches 2.3


def converted(path, kind, output="float32", activation=None):
    """A file whose logits are the sum of four numbers in -1…1, calibrated with sums in -1…1."""
    inputs = keras.Input((4,))
    dense = keras.layers.Dense(3, activation=activation, kernel_initializer="ones")
    converter = tf.lite.TFLiteConverter.from_keras_model(
        keras.Model(inputs, dense(inputs), name="net")
    )
    alone = [sign * np.eye(4, dtype=np.float32)[i][None] for i in range(4) for sign in (1, -1)]
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image] for image in alone)
    sets = tf.lite.OpsSet
    converter.target_spec.supported_ops = [
        sets.TFLITE_BUILTINS_INT8
        if kind == "int8"
        else sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
    ]
    if kind == "int8":
        converter.inference_output_type = tf.dtypes.as_dtype(output)
    path.write_bytes(converter.convert())
    return path


def answer(path, *numbers):
    """The first logit of a file."""
    opened = Interpreter(str(path))
    opened.allocate_tensors()
    (given,), (found,) = opened.get_input_details(), opened.get_output_details()
    opened.set_tensor(given["index"], np.array([numbers], np.float32))
    opened.invoke()
    steps = opened.get_tensor(found["index"])[0, 0]
    scale, zero = found["quantization"]
    return scale * (float(steps) - zero) if scale else float(steps)


@pytest.mark.parametrize(("kind", "output"), KINDS, ids=map("-".join, KINDS))
def test_large_logits_are_told_apart_and_the_others_stay(tmp_path, kind, output):
    path = converted(tmp_path / "file.tflite", kind, output)
    below = [(1, 0, 0, 0), (-1, 0, 0, 0), (0.5, 0.25, 0, 0), (0, 0, 0, 0)]
    assert answer(path, 1, 1, 1, 1) == pytest.approx(1, abs=0.02)  # the calibrated largest
    headroom.give(path, MOST)
    assert answer(path, 1, 1, 1, 1) == pytest.approx(2.3, abs=0.02)
    assert answer(path, 1, 0.5, 0, 0) == pytest.approx(1.5, abs=0.02)
    for numbers in below:
        assert answer(path, *numbers) == pytest.approx(sum(numbers), abs=0.02)


@pytest.mark.parametrize(("activation", "most"), [(None, 0.5), ("softmax", MOST)])
def test_files_with_room_or_another_end_stay(tmp_path, activation, most):
    path = converted(tmp_path / "file.tflite", "int8", activation=activation)
    before = path.read_bytes()
    headroom.give(path, most)
    assert path.read_bytes() == before
