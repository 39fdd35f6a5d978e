"""Folded networks have fewer operators and the same results."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from keras_resnet import models
from keras_resnet.exporting.folding import fold, shortcut_pools
from keras_resnet.models import build, residual_mlp, resnet
from keras_resnet.specs import SPECS


def random_weights(model):
    """Weights and statistics as after a training, so that nothing is 0 or 1 by chance."""
    rng = np.random.default_rng(0)
    for variable in model.weights:
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif variable.name in ("beta", "moving_mean", "bias"):
            variable.assign(rng.normal(0, 0.1, variable.shape))
    return model


def images(side):
    return np.random.default_rng(0).integers(0, 256, (2, side, side, 3)).astype("float32")


@pytest.mark.parametrize(  # sides that leave an odd map somewhere, too
    ("side", "normalize"),
    [
        (64, "imagenet"),
        (65, "caffe"),
        (67, "imagenet"),
        pytest.param(64, "caffe", marks=pytest.mark.slow),
        pytest.param(65, "imagenet", marks=pytest.mark.slow),
        pytest.param(67, "caffe", marks=pytest.mark.slow),
    ],
)
def test_the_numbers_stay_to_rounding_and_the_model_is_left_alone(side, normalize):
    model = random_weights(build("resnet18", 7, (side, side, 3), normalize=normalize))
    before = [np.array(w) for w in model.get_weights()]
    logits = model.predict(images(side), verbose=0)
    ours = fold(model).predict(images(side), verbose=0)
    assert np.abs(ours - logits).max() <= 1e-5 * np.abs(logits).max()
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("part", [models.PART, 1], ids=["whole", "of parts"])
@pytest.mark.parametrize("name", ["resnet50", "resnet50_v1", "resnet50_v2", "resnet20"])
def test_convolutions_of_one_pixel_skip_pixels_themselves_but_for_int8(name, part, monkeypatch):
    monkeypatch.setattr(models, "PART", part)
    spec = replace(SPECS[name], blocks=(1, 1, 1), filters=SPECS[name].filters[:3])
    model = random_weights(resnet(spec, 7, (32, 32, 3)))
    folded, pooled = fold(model), fold(model, pooled=True)
    assert shortcut_pools(folded) == {}
    assert shortcut_pools(pooled).keys() == shortcut_pools(model).keys()
    assert bool(shortcut_pools(model)) == (name != "resnet20")
    assert any(isinstance(layer, keras.Model) for layer in folded.layers) == (part == 1)
    logits = model(images(32))
    for copy in (folded, pooled):
        assert np.abs(copy(images(32)) - logits).max() <= 1e-5 * np.abs(logits).max()


def test_what_normalizes_is_as_long_as_a_row_of_the_image():
    folded = fold(build("resnet8", 7, (24, 32, 3), normalize="imagenet"))
    assert np.shape(folded.get_layer("normalize").offset) == (32, 3)


def test_a_network_without_convolutions_is_left_as_it_is():
    model = residual_mlp((8, 8, 3), 5, zero_last=False)
    x = images(8)
    np.testing.assert_allclose(fold(model)(x), model(x), rtol=1e-6)
