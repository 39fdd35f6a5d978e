"""The family against what is published about it, and what every artefact relies on."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_resnet import specs
from keras_resnet.errors import InputError
from keras_resnet.models import build

# Trainable parameters. ImageNet nets: torchvision's published counts, with 1,000 classes.
# CIFAR nets: the paper's 0.27, 0.46, 0.66, 0.85 and 1.7 M (arXiv:1512.03385 table 6), 10 classes.
TRAINABLE = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
}
PROJECTIONS = {
    "resnet18": ["conv3_block1", "conv4_block1", "conv5_block1"],
    "resnet50": ["conv2_block1", "conv3_block1", "conv4_block1", "conv5_block1"],
    "resnet20": [],
}
HALF_PRECISION = ["mixed_float16", "mixed_bfloat16"]


@pytest.fixture
def policy(request):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


def shapes_of(name):
    """The network at its paper's size, without values for its weights."""
    with keras.StatelessScope(initialize_variables=False):
        return build(name, 10 if specs.SPECS[name].stem == "cifar" else 1000)


def images(*shape):
    return np.random.default_rng(0).integers(0, 256, shape).astype("float32")


def test_every_model_of_the_family_is_in_the_golden_list():
    assert set(TRAINABLE) == set(specs.SPECS)


@pytest.mark.parametrize("name", TRAINABLE)
def test_parameters_and_shapes_are_the_published_ones(name):
    model = shapes_of(name)
    side = specs.SPECS[name].image_size
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == TRAINABLE[name]
    assert model.input_shape == (None, side, side, 3)
    assert model.output_shape == (None, 10 if side == 32 else 1000)
    assert model.get_layer("avg_pool").input.shape[1:3] == ((8, 8) if side == 32 else (7, 7))


@pytest.mark.parametrize("name", PROJECTIONS)
def test_projections_are_where_the_shape_changes_and_nowhere_else(name):
    projections = [op.name for op in shapes_of(name).operations if op.name.endswith("_0_conv")]
    assert projections == [f"{block}_0_conv" for block in PROJECTIONS[name]]


@pytest.mark.parametrize("policy", HALF_PRECISION, indirect=True)
@pytest.mark.parametrize("name", ["resnet20", "resnet50"])
def test_logits_are_float32_in_half_precision(name, policy):
    model = shapes_of(name)
    assert model.get_layer("conv1_conv").compute_dtype == policy.removeprefix("mixed_")
    assert model.output.dtype == "float32"


@pytest.mark.parametrize("policy", ["float32", *HALF_PRECISION], indirect=True)
@pytest.mark.parametrize("normalize", ["imagenet", "tf", ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))])
def test_raw_pixels_are_normalised_in_the_model(normalize, policy):
    model = build("resnet20", 10, (8, 8, 3), normalize=normalize)
    first = keras.Model(model.input, model.get_layer("normalize").output)
    mean, deviation = map(np.float32, specs.NORMALIZATIONS.get(normalize, normalize))
    x = images(2, 8, 8, 3)
    np.testing.assert_allclose(first(x), (x - mean) / deviation, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet20", "resnet18"])
def test_an_open_side_takes_images_of_any_size(name):
    model = build(name, 3, (None, None, 3))
    assert model(images(1, 40, 33, 3)).shape == (1, 3)


@pytest.mark.parametrize("name", ["resnet20", "resnet18"])
def test_one_gradient_step_changes_every_trainable_weight(name):
    keras.utils.set_random_seed(0)
    model = build(name, 3, (32, 32, 3), zero_gamma=False)  # at gamma 0 the branch learns nothing
    model.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=True,
    )
    before = [np.array(w) for w in model.trainable_weights]
    model.train_on_batch(images(4, 32, 32, 3), np.array([0, 1, 2, 0]))
    untouched = [
        w.path
        for w, old in zip(model.trainable_weights, before, strict=True)
        if np.array_equal(w, old)
    ]
    assert untouched == []


def test_a_saved_model_opens_without_this_package_and_says_the_same(tmp_path):
    model = build("resnet20", 3, (16, 16, 3), zero_gamma=False)
    x = images(2, 16, 16, 3)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", x)
    code = (
        "import sys, keras, numpy as np\n"
        "model = keras.models.load_model('model.keras')\n"
        "np.save('logits.npy', model(np.load('x.npy')))\n"
        "assert not any(name.startswith('keras_resnet') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), model(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet5O",), "'resnet5O'.*resnet50"),
        (("resnet50", 10, (31, 31, 3)), "31 pixels.*resnet50.*at least 32"),
        (("resnet50", 10, (224, 16, 3)), "16 pixels.*resnet50.*at least 32"),
        (("resnet20", 10, (3, 3, 3)), "3 pixels.*resnet20.*at least 4"),
        (("resnet20", 10, (32, 32, 1)), r"\(32, 32, 1\).*\(height, width, 3\)"),
        (("resnet20", 10, (32, 32)), r"\(32, 32\).*\(height, width, 3\)"),
        (("resnet20", 1), "num_classes is 1;.*at least 2"),
        (("resnet20", 0), "num_classes is 0;.*at least 2"),
        (("resnet20", -3), "num_classes is -3;.*at least 2"),
    ],
    ids=[
        "an unknown name lists the near misses",
        "an image one pixel too small",
        "one side too small",
        "too small for a cifar net",
        "one channel",
        "no channels",
        "one class",
        "no class",
        "fewer than no classes",
    ],
)
def test_what_cannot_be_built_is_an_input_error(arguments, message):
    with pytest.raises(InputError, match=message):
        build(*arguments)


@pytest.mark.parametrize("normalize", ["imagnet", (1.0, 2.0), None], ids=repr)
def test_an_unusable_normalisation_is_an_input_error_that_lists_the_known_ones(normalize):
    with pytest.raises(InputError, match="imagenet"):
        build("resnet20", 10, (8, 8, 3), normalize=normalize)


def test_a_normalisation_may_be_given_as_lists_as_json_does():
    model = build("resnet20", 10, (8, 8, 3), normalize=([0.0] * 3, [255.0] * 3))
    assert model.get_layer("normalize").scale == [1 / 255] * 3
