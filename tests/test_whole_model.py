"""A `.keras` file from elsewhere takes no more memory than its bytes explain."""

import json
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from keras_resnet.errors import InputError
from keras_resnet.weights import whole_model


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    x = image = keras.Input((32, 32, 3), name="image")
    x = layers.UpSampling2D(2, name="larger")(layers.ZeroPadding2D(1, name="frame")(x))
    x = layers.Dropout(0.5)(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, keras.Sequential([layers.Dense(4, name="dense")])(x))
    path = tmp_path_factory.mktemp("honest") / "net.keras"
    model.save(path)
    return model, path


def test_weights_that_are_no_numbers_are_named(honest, tmp_path):
    model = keras.models.clone_model(honest[0])
    model.layers[-1].layers[-1].bias.assign([1, 2, np.nan, 4])
    model.save(tmp_path / "net.keras")
    with pytest.raises(InputError, match="dense/bias contains NaN or infinity; give other weights"):
        whole_model.load(tmp_path / "net.keras")


def test_an_honest_file_is_loaded(honest):
    model, path = honest
    loaded = whole_model.load(path)
    pixels = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    np.testing.assert_array_equal(loaded(pixels), model(pixels))


@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")
def test_a_compiled_model_inside_another_is_loaded(tmp_path):
    inner = keras.Sequential([layers.GlobalAveragePooling2D(), layers.Dense(4)])
    inner.build((None, 8, 8, 3))
    inner.compile("adam", "mse")
    keras.Sequential([keras.Input((8, 8, 3)), inner, layers.Softmax()]).save(tmp_path / "net.keras")
    assert whole_model.load(tmp_path / "net.keras").output_shape == (None, 4)


def changed(path, target, layer, **settings):
    """A copy of a `.keras` file in which a layer has other settings."""

    def change(node):
        for child in node.values() if isinstance(node, dict) else node:
            if isinstance(child, dict | list):
                change(child)
        if isinstance(node, dict) and node.get("config", {}).get("name") == layer:
            node["config"].update(settings)

    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                tree = json.loads(content)
                change(tree)
                content = json.dumps(tree)
            new.writestr(name, content)
    return target


@pytest.mark.parametrize(
    ("layer", "settings", "said"),
    [
        ("dense", {"units": 10**8}, "its layers have 1,600,000,0.. bytes of weights"),
        ("larger", {"size": [1000, 1000]}, "a layer gives 13,872,000,000 bytes"),
        ("frame", {"padding": [[9999, 9999]] * 2}, "takes too much memory"),
        ("image", {"batch_shape": [None, 30_000, 30_000, 3]}, "takes too much memory"),
    ],
)
def test_what_would_take_gigabytes_is_refused_unbuilt(honest, tmp_path, layer, settings, said):
    path = changed(honest[1], tmp_path / "net.keras", layer, **settings)
    before = _peak(reset=True)
    with pytest.raises(InputError, match=said) as error:
        whole_model.load(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    with keras.StatelessScope():  # its end gives values to variables that wait for one
        pass
    assert _peak() - before < 200 << 20


@keras.saving.register_keras_serializable("here")
class Registered(layers.Layer):
    def call(self, x):
        return x


class Unknown(Registered):
    """Not registered itself, and therefore not found."""


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (lambda: layers.Lambda(lambda x: x / 2), r"is a Python lambda\); replace that layer"),
        (Unknown, r"\(Could not locate class 'Unknown'\); in Python, import that class"),
        (Registered, None),
    ],
)
@pytest.mark.parametrize("kind", ["sequential", "functional"])
def test_code_and_unknown_classes_are_named(tmp_path, kind, layer, said):
    model = keras.Sequential([keras.Input((4, 4, 3)), layer(), layers.Flatten(), layers.Dense(2)])
    if kind == "functional":
        model = keras.Model(model.inputs, model.outputs)
    model.save(tmp_path / "net.keras")
    if said:
        with pytest.raises(InputError, match=said) as error:
            whole_model.load(tmp_path / "net.keras")
        assert "\n" not in str(error.value)
    else:
        assert whole_model.load(tmp_path / "net.keras").output_shape == (None, 2)


def _peak(reset=False):
    """Bytes."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    (line,) = [x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x]
    return 1024 * int(line.split()[1])
