"""Global state of the process: the library neither changes nor uses it."""

import json
import os
import random
import subprocess
import sys
import textwrap
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import config as tf_config

import keras_resnet as kr
from keras_resnet.errors import CheckFailed, InputError
from keras_resnet.state import isolated, without_values

TF32 = tf.config.experimental


def test_calls_from_several_threads_take_turns():
    inside, most = [], []

    @isolated()
    def call(number):
        inside.append(number)
        time.sleep(0.02)
        most.append(len(inside))
        inside.remove(number)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(call, range(8)))
    assert most == [1] * 8


def settings():
    """All that can be read of the state of this process."""
    return {
        "policy": keras.config.dtype_policy().name,
        "floatx": keras.config.floatx(),
        "epsilon": keras.config.epsilon(),
        "image data format": keras.config.image_data_format(),
        "op determinism": tf_config.is_op_determinism_enabled(),
        "eager functions": tf.config.functions_run_eagerly(),
        "TF32": TF32.tensor_float_32_execution_enabled(),
        "Python's random state": random.getstate(),
        "NumPy's random state": [*map(str, np.random.get_state())],
    }


USUAL = {
    "policy": "float32",
    "floatx": "float32",
    "epsilon": 1e-7,
    "image data format": "channels_last",
    "op determinism": False,
    "eager functions": False,
    "TF32": True,
}


@pytest.fixture
def odd():
    """A process in which all settings are others than usual; gives them."""
    with isolated():
        keras.config.set_floatx("float64")
        keras.config.set_dtype_policy("mixed_bfloat16")
        keras.config.set_epsilon(1e-3)
        keras.config.set_image_data_format("channels_first")
        tf.config.run_functions_eagerly(True)
        TF32.enable_tensor_float_32_execution(False)
        keras.utils.set_random_seed(7)
        TF32.enable_op_determinism()
        yield settings()


def test_a_network_of_channels_first_is_refused(odd):
    with pytest.raises(ValueError, match=r"call keras\.config\.set_image_data_format"):
        kr.build("resnet50", 10, (64, 64, 3))
    with pytest.raises(ValueError, match="image data format is channels_first"):
        kr.conv_block(keras.Input((8, 8, 64)), "basic", filters=128, name="down")


def test_within_settings_are_the_librarys_and_afterwards_the_callers(odd):
    with isolated():
        assert settings().items() >= USUAL.items()
        random.seed(0)
        np.random.seed(0)
        TF32.enable_op_determinism()
        keras.config.set_dtype_policy("float16")
    assert settings() == odd


def test_an_error_restores_them_too(odd):
    with pytest.raises(CheckFailed), isolated():
        random.seed(0)
        raise CheckFailed("no")
    assert settings() == odd


def dtypes(model_file):
    """The dtypes of the layers in a `.keras` file."""
    layers = json.loads(zipfile.ZipFile(model_file).read("config.json"))["config"]["layers"]
    found = [layer["config"].get("dtype") for layer in layers]
    return {dtype["config"]["name"] for dtype in found if isinstance(dtype, dict)}


def next_numbers():
    """What each source of random numbers of this process would give a caller next."""
    return [
        random.random(),
        float(np.random.rand()),
        float(tf.random.uniform(())),
        float(keras.random.uniform(())),
        float(keras.random.uniform((), seed=keras.random.SeedGenerator())),
    ]


def test_training_and_export_change_nothing_and_obey_nothing(
    odd, untouched, photos, tmp_path, no_pictures
):
    """The same weights as without, and the caller's next random numbers are the same too."""
    plain = kr.open_run(untouched)
    given = ("model", "epochs", "image_size", "batch_size", "seed", "zero_gamma", "precision")
    same = {name: getattr(plain.config, name) for name in given}
    keras.utils.set_random_seed(7)
    expected = next_numbers()
    keras.utils.set_random_seed(7)
    run = kr.train(str(photos), run_folder=tmp_path / "run", **same)
    assert run.config == plain.config
    for ours, theirs in zip(run.model().get_weights(), plain.model().get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert dtypes(tmp_path / "run" / "model.keras") == {"float32"}
    result = kr.export(run, saved_model=False, tflite=["none"], max_drop=100)
    assert result.passed
    assert settings() == odd
    assert next_numbers() == expected


def test_what_is_asked_of_a_run_depends_on_no_policy(odd, untouched, photos):
    run = kr.open_run(untouched)
    photo = next(photos.rglob("*.jpg"))
    with isolated():
        expected = kr.evaluate(run), kr.predict(run, [photo]), kr.describe("resnet20")
    assert (kr.evaluate(run), kr.predict(run, [photo]), kr.describe("resnet20")) == expected
    assert {w.dtype for w in run.model().weights} == {"float32"}
    assert kr.cam(run, [photo])[0].image
    assert settings() == odd


def test_a_network_of_ones_own_follows_ones_own_policy():
    with isolated():
        keras.config.set_dtype_policy("mixed_bfloat16")
        model = kr.build("resnet8", 10, (16, 16, 3))
        assert model.get_layer("conv1_conv").compute_dtype == "bfloat16"


@pytest.mark.parametrize("name", ["train", "find_lr", "export", "verify", "evaluate"])
def test_a_scope_that_cannot_be_left_is_refused(name, untouched):
    given = "digits" if name in ("train", "find_lr") else untouched
    outside = pytest.raises(InputError, match="call it outside: it uses all GPUs by itself")
    with tf.distribute.OneDeviceStrategy("CPU:0").scope(), outside:
        getattr(kr, name)(given)
    with tf.Graph().as_default(), pytest.raises(InputError, match=r"tf\.Graph"):
        getattr(kr, name)(given)


def _python(code, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True,
    )  # fmt: skip


def test_another_backend_that_is_there_already_is_refused(tmp_path, untouched):
    pytest.importorskip("jax")
    code = f"""
        import keras, keras_resnet as kr
        assert keras.backend.backend() == "jax"
        for call in (kr.train, kr.export, kr.find_lr, kr.verify):
            try: call({str(untouched)!r})
            except kr.InputError as error: print(error)
        print(kr.open_run({str(untouched)!r}).model().name, kr.describe("resnet8").parameters)
    """
    done = _python(code, tmp_path, KERAS_BACKEND="jax", JAX_PLATFORMS="cpu")
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    assert (
        lines
        == [
            "Keras runs on jax in this process, but TensorFlow is required; restart Python with "
            "KERAS_BACKEND=tensorflow"
        ]
        * 4
    )
    assert last == "resnet8 75770"


def test_the_command_depends_on_no_settings_of_keras(photos, tmp_path):
    """Neither on those in its folder nor on those in the environment."""
    settings = {"floatx": "float16", "epsilon": 1e-3, "image_data_format": "channels_first"}
    (tmp_path / "keras.json").write_text(json.dumps({"backend": "jax", **settings}))
    options = "--model resnet8 --image-size 16 --epochs 1 --batch-size 16 --precision float32"
    commands = [
        ["train", str(photos), *options.split(), "--run", "run"],
        ["export", "run", "--tflite", "--quantize", "none", "--max-drop", "100"],
        ["inspect", "resnet8"],
    ]
    # One after the other in one process, which loads TensorFlow once.
    code = f"""
        import sys
        from keras_resnet.cli import main
        from keras_resnet.training import final_evaluation
        final_evaluation._draw = lambda *_: None
        for words in {commands}:
            sys.argv = ["keras-resnet", *words, "--json"]
            if main(): sys.exit(words[0])
            print("---")
    """
    done = _python(code, tmp_path, KERAS_HOME=str(tmp_path), KERAS_BACKEND="jax")
    assert done.returncode == 0, done.stderr
    _, exported, inspected = map(json.loads, done.stdout.split("---\n")[:3])
    assert dtypes(tmp_path / "run" / "model.keras") == {"float32"}
    assert exported["passed"]
    assert inspected["memory"]["weights"] == 4 * inspected["parameters"]


@pytest.mark.parametrize("odd", ["float32", "mixed_bfloat16"])
def test_variables_without_values_get_none_later(odd):
    given = []
    kernel = lambda shape, dtype: given.append(shape) or keras.ops.zeros(shape, dtype)  # noqa: E731
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(odd)
    try:
        layer = keras.layers.Dense(2, kernel_initializer=kernel)
        assert without_values(lambda: layer(keras.Input([3]))).dtype == odd.removeprefix("mixed_")
    finally:
        keras.config.set_dtype_policy(before)
    with keras.StatelessScope():  # its end gives values to variables that wait for one
        pass
    assert layer.kernel.shape == (3, 2) and not given
