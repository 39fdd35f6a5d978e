"""Folded networks have fewer operators and the same results."""

import numpy as np
import pytest

from keras_resnet.exporting.folding import fold
from keras_resnet.models import build, residual_mlp


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


def kernels(model):
    return {c.name: c.kernel_size[0] for c in model.layers if hasattr(c, "kernel_size")}


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


def test_the_stem_and_the_first_strided_kernel_of_resnet50_grow_and_the_wide_ones_do_not():
    model = build("resnet50", input_shape=(32, 32, 3))
    before, after = kernels(model), kernels(fold(model))
    grown = {name: (before[name], after[name]) for name in after if before[name] != after[name]}
    assert grown == {"conv1_conv": (7, 8), "conv3_block1_2_conv": (3, 4)}


def test_a_network_without_convolutions_is_left_as_it_is():
    model = residual_mlp((8, 8, 3), 5, zero_last=False)
    x = images(8)
    np.testing.assert_allclose(fold(model)(x), model(x), rtol=1e-6)
