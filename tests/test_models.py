"""The networks agree with published numbers, and have the properties that exports need."""

import collections
import functools
import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_resnet import models, specs
from keras_resnet.data.digits import load_digits
from keras_resnet.errors import InputError
from keras_resnet.evaluation.lite import Lite
from keras_resnet.exporting.convert import convert
from keras_resnet.exporting.folding import shortcut_pools
from keras_resnet.exporting.plan import ExportPlan
from keras_resnet.exporting.saved_model import write_for_conversion
from keras_resnet.geometry import Geometry
from keras_resnet.inspection.network import describe
from keras_resnet.inspection.tflite_file import census, faults
from keras_resnet.models import build, residual_mlp, resnet
from keras_resnet.state import without_values

# Trainable parameters, and multiply-adds in G, with 1,000 classes at 224 pixels for ImageNet nets
# and 10 at 32 for CIFAR nets. Published: torchvision's for 18 to 152, wide and ResNeXt-50, timm's
# for D, SE, RS and ResNeXt-101 (parameters) and for v2 (25,549,352, without the bias of the stem's
# 64 filters); keras.applications' for v1; option A nets and their plain counterparts
# arXiv:1512.03385 table 6, as counted by its reproductions; wrn: arXiv:1605.07146 table 5, 2.7 M
# and 36.5 M; 1001: 10.2 M, 164: 1.7 M, arXiv:1603.05027 table 4. The others are counted here.
GOLDEN = {
    "resnet18": (11_689_512, 1.814),
    "resnet34": (21_797_672, 3.664),
    "resnet50": (25_557_032, 4.089),
    "resnet101": (44_549_160, 7.801),
    "resnet152": (60_192_808, 11.514),
    "resnet8": (75_290, 0.012),
    "resnet20": (269_722, 0.041),
    "resnet32": (464_154, 0.069),
    "resnet44": (658_586, 0.097),
    "resnet56": (853_018, 0.125),
    "resnet110": (1_727_962, 0.253),
    "resnet1202": (19_421_274, 2.829),
    "resnet8_b": (78_042, 0.013),
    "resnet20_b": (272_474, 0.041),
    "resnet32_b": (466_906, 0.069),
    "resnet44_b": (661_338, 0.097),
    "resnet56_b": (855_770, 0.126),
    "resnet110_b": (1_730_714, 0.253),
    "resnet1202_b": (19_424_026, 2.830),
    "plain18": (11_515_688, 1.795),
    "plain34": (21_623_848, 3.644),
    "plain8": (75_290, 0.012),
    "plain20": (269_722, 0.041),
    "plain32": (464_154, 0.069),
    "plain44": (658_586, 0.097),
    "plain56": (853_018, 0.125),
    "plain110": (1_727_962, 0.253),
    "plain1202": (19_421_274, 2.829),
    "resnet50_v1": (25_583_592, 3.858),
    "resnet101_v1": (44_601_832, 7.570),
    "resnet152_v1": (60_268_520, 11.282),
    "resnet18_v2": (11_687_784, 1.814),
    "resnet34_v2": (21_795_944, 3.664),
    "resnet50_v2": (25_549_352 + 64, 3.482),
    "resnet101_v2": (44_541_544, 7.194),
    "resnet152_v2": (60_185_192, 10.907),
    "resnet164_v2": (1_703_258, 0.245),
    "resnet1001_v2": (10_327_706, 1.488),
    "resnet18d": (11_708_744, 2.054),
    "resnet34d": (21_816_904, 3.903),
    "resnet50d": (25_576_264, 4.329),
    "resnet101d": (44_568_392, 8.041),
    "resnet152d": (60_212_040, 11.753),
    "resnet200d": (64_693_064, 15.247),
    "wide_resnet50_2": (68_883_240, 11.398),
    "wide_resnet101_2": (126_886_696, 22.753),
    "wrn16_4": (2_748_890, 0.393),
    "wrn28_10": (36_479_194, 5.243),
    "resnext50_32x4d": (25_028_904, 4.230),
    "resnext101_32x4d": (44_177_704, 7.970),
    "seresnet18": (11_779_624, 1.814),
    "seresnet34": (21_960_416, 3.664),
    "seresnet50": (28_088_024, 4.092),
    "seresnet101": (49_326_872, 7.806),
    "seresnet152": (66_821_848, 11.520),
    "seresnext50_32x4d": (27_559_896, 4.233),
    "seresnext101_32x4d": (48_955_416, 7.975),
    "resnetrs50": (35_691_912, 4.454),
    "resnetrs101": (63_618_696, 8.176),
    "resnetrs152": (86_621_576, 11.895),
    "resnetrs200": (93_209_992, 15.391),
}
FIRST_OF_STAGES_2_TO_4 = ["conv3_block1", "conv4_block1", "conv5_block1"]
FIRST_OF_EACH_STAGE = ["conv2_block1", *FIRST_OF_STAGES_2_TO_4]
PROJECTIONS = {
    "resnet18": FIRST_OF_STAGES_2_TO_4,
    "resnet50": FIRST_OF_EACH_STAGE,
    "resnet50_v1": FIRST_OF_EACH_STAGE,
    "resnet18_v2": FIRST_OF_STAGES_2_TO_4,
    "resnet50_v2": FIRST_OF_EACH_STAGE,
    "resnet50d": FIRST_OF_EACH_STAGE,
    "wide_resnet50_2": FIRST_OF_EACH_STAGE,
    "resnext50_32x4d": FIRST_OF_EACH_STAGE,
    "resnet20": [],
    "resnet20_b": ["conv3_block1", "conv4_block1"],
    "plain34": [],
    "plain20": [],
    "resnet164_v2": ["conv2_block1", "conv3_block1", "conv4_block1"],
    "wrn28_10": ["conv2_block1", "conv3_block1", "conv4_block1"],
}
# Each way of building once; the others differ in numbers alone and are tested with -m slow.
KINDS = [
    "resnet8",
    "resnet18",
    "resnet50",
    "resnet20_b",
    "plain20",
    "resnet50_v1",
    "resnet18_v2",
    "resnet50_v2",
    "resnet50d",
    "wrn16_4",
    "resnext50_32x4d",
    "seresnet18",
    "resnetrs50",
]
# The other kinds as two blocks and, in a second stage, one: all of their blocks are among these.
WHOLE = ("resnet8",)
# Their stems, branches and shortcuts are those of others.
COMBINED = ("resnet18", "resnet20_b", "resnet18_v2", "resnet50_v1", "seresnet18")
EVERY = [
    *(
        pytest.param(
            name,
            2,
            id=f"two stages of {name}",
            marks=pytest.mark.slow if name in COMBINED else (),
        )
        for name in KINDS
        if name not in WHOLE
    ),
    *(
        pytest.param(name, None, id=name, marks=() if name in WHOLE else pytest.mark.slow)
        for name in specs.SPECS
    ),
]
# 333 to 600 blocks take half a minute to build: otherwise they are counted from smaller ones.
VERY_DEEP = ("resnet1001_v2", "plain1202", "resnet1202", "resnet1202_b")
PUBLISHED = [
    pytest.param(name, marks=pytest.mark.slow if name in VERY_DEEP else ()) for name in GOLDEN
]
# A promise about the whole: 53 convolutions, 16 sums, 4 poolings, 3 paddings, and the ends.
MOST_OPERATORS = {"resnet50": 78}
HALF_PRECISION = ["mixed_float16", "mixed_bfloat16"]


@pytest.fixture
def policy(request):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


@functools.cache
def shapes_of(name):
    """The network at its paper's size, without values for its weights."""
    return without_values(lambda: build(name, classes_of(name)))


def classes_of(name):
    return 10 if specs.SPECS[name].stem == "cifar" else 1000


def images(*shape):
    return np.random.default_rng(0).integers(0, 256, shape).astype("float32")


def leaves(model):
    """The layers of a model, through the parts of a deep one."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from leaves(layer)
        else:
            yield layer


def small(name, stages, zero_gamma=False):
    """The network, or its first stages, at a size that leaves it a map of more than a pixel."""
    keras.utils.set_random_seed(0)
    spec = specs.SPECS[name]
    if stages:
        blocks = (2, *(1,) * (stages - 1))
        spec = replace(spec, blocks=blocks, filters=spec.filters[:stages])
    side = 2 * spec.total_stride
    return resnet(spec, 3, (side, side, 3), zero_gamma=zero_gamma), side


def test_every_model_of_the_family_is_in_the_golden_list():
    assert set(GOLDEN) == set(specs.SPECS)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_shapes_are_the_published_ones(name):
    model = shapes_of(name)
    side = specs.SPECS[name].image_size
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == GOLDEN[name][0]
    assert model.input_shape == (None, side, side, 3)
    assert model.output_shape == (None, classes_of(name))
    assert model.get_layer("avg_pool").input.shape[1:3] == ((8, 8) if side == 32 else (7, 7))


@pytest.mark.parametrize("name", PUBLISHED)
def test_multiply_adds_are_the_published_ones(name):
    assert round(describe(shapes_of(name)).multiply_adds / 1e9, 3) == GOLDEN[name][1]


@pytest.mark.parametrize("name", VERY_DEEP)
def test_a_very_deep_network_counts_what_its_blocks_add(name):
    """All blocks but the first of a stage are equal: two small networks tell the count of any."""
    spec, counts = specs.SPECS[name], []
    for blocks in (2, 3):
        found = describe(without_values(partial(resnet, replace(spec, blocks=(blocks,) * 3), 10)))
        counts.append(np.array([found.trainable_parameters, found.multiply_adds]))
    parameters, multiply_adds = counts[0] + (spec.blocks[0] - 2) * (counts[1] - counts[0])
    assert len(set(spec.blocks)) == 1
    assert (parameters, round(multiply_adds / 1e9, 3)) == GOLDEN[name]


def test_the_table_of_the_networks_page_has_them_too():
    rows = {}
    for spec in specs.SPECS.values():
        rows.setdefault((spec.source, spec.shortcut), []).append(spec.name)
    lines = [
        "| networks | shortcut | parameters, M | multiply-adds, G | source |",
        "|---|---|---|---|---|",
    ]
    for (source, shortcut), names in rows.items():
        parameters = ", ".join(f"{GOLDEN[name][0] / 1e6:.2f}" for name in names)
        multiply_adds = ", ".join(f"{GOLDEN[name][1]:.3f}" for name in names)
        quoted = ", ".join(f"`{name}`" for name in names)
        lines.append(f"| {quoted} | {shortcut} | {parameters} | {multiply_adds} | {source} |")
    page = Path(__file__).parent.parent / "docs" / "reference" / "networks.md"
    assert "\n".join(lines) in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_name_counts_the_layers_that_were_built(name):
    convolutions = [
        layer.name for layer in leaves(shapes_of(name)) if hasattr(layer, "kernel_size")
    ]
    if name.startswith("wrn"):  # named after all convolutions
        layers = len(convolutions)
    else:
        layers = sum(not re.search(r"_(0|se_\d)_conv$", name) for name in convolutions) + 1
        # ResNet-D keeps the name of the net whose 7×7 convolution it replaces by three, ResNet-RS
        # by four.
        layers -= {"deep": 2, "deep_conv": 3}.get(specs.SPECS[name].stem, 0)
    assert layers == int(re.search(r"\d+", name).group())


@pytest.mark.parametrize("name", ["resnet20", "resnet18", "resnext50_32x4d", "wrn16_4"])
def test_half_the_width_has_half_the_channels_everywhere_and_a_quarter_of_the_products(name):
    half = build(name, 10, width=0.5)
    pairs = zip(half.layers, shapes_of(name).layers, strict=True)
    kernels = [(a.filters, b.filters) for a, b in pairs if isinstance(a, keras.layers.Conv2D)]
    assert all(2 * a == b for a, b in kernels)
    ratio = describe(half).multiply_adds / describe(build(name, 10)).multiply_adds
    assert 0.24 < ratio < 0.34  # the stem has three channels of input whatever the width


@pytest.mark.parametrize("name", PROJECTIONS)
def test_projections_are_where_the_channels_change_and_nowhere_else(name):
    projections = [op.name for op in shapes_of(name).operations if op.name.endswith("_0_conv")]
    assert projections == [f"{block}_0_conv" for block in PROJECTIONS[name]]


@pytest.mark.parametrize("name", ["resnet50", "resnet50_v2", "plain20", "resnet20"])
def test_each_block_has_one_sum_and_a_plain_one_none(name):
    sums = [op.name for op in shapes_of(name).operations if isinstance(op, keras.layers.Add)]
    blocks = 0 if name.startswith("plain") else sum(specs.SPECS[name].blocks)
    assert len(sums) == blocks and all(name.endswith("_add") for name in sums)


@pytest.mark.parametrize("policy", HALF_PRECISION, indirect=True)
@pytest.mark.parametrize("name", KINDS)
def test_logits_are_float32_in_half_precision(name, policy):
    model = without_values(lambda: build(name))
    stem = next(layer for layer in model.layers if layer.name.endswith("_conv"))
    assert stem.compute_dtype == policy.removeprefix("mixed_")
    assert model.output.dtype == "float32"


def test_every_kind_of_network_builds_on_jax(tmp_path):
    pytest.importorskip("jax")
    code = (
        "import sys, keras, numpy as np\n"
        "from dataclasses import replace\n"
        "from keras_resnet.models import build, residual_mlp, resnet\n"
        "from keras_resnet.specs import SPECS\n"
        f"for name in {[name for name in KINDS if name not in COMBINED]}:\n"
        "    spec = replace(SPECS[name], blocks=(2, 1), filters=SPECS[name].filters[:2])\n"
        "    with keras.StatelessScope(initialize_variables=False):\n"
        "        assert resnet(spec, 7).output_shape == (None, 7)\n"
        "x = np.ones((2, 32, 32, 3), 'float32')\n"
        "model = build('resnet8', 7, (32, 32, 3), drop_path=0.1)\n"
        "assert model(x, training=True).shape == (2, 7)\n"
        "assert residual_mlp((32, 32, 3), 7)(x).shape == (2, 7)\n"
        "assert keras.backend.backend() == 'jax' and 'tensorflow' not in sys.modules\n"
    )
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, env=environment)


@pytest.mark.parametrize("policy", ["float32", *HALF_PRECISION], indirect=True)
@pytest.mark.parametrize("normalize", ["imagenet", "tf", ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))])
def test_raw_pixels_are_normalized_in_the_model(normalize, policy):
    model = build("resnet20", 10, (8, 8, 3), normalize=normalize)
    first = keras.Model(model.input, model.get_layer("normalize").output)
    mean, deviation = map(np.float32, specs.NORMALIZATIONS.get(normalize, normalize))
    x = images(2, 8, 8, 3)
    np.testing.assert_allclose(first(x), (x - mean) / deviation, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet20", "resnet18"])
def test_an_open_side_takes_images_of_any_size(name):
    model = build(name, 3, (None, None, 3))
    assert model(images(1, 40, 33, 3)).shape == (1, 3)


@pytest.mark.parametrize(("name", "stages"), EVERY)
def test_one_gradient_step_changes_every_trainable_weight(name, stages):
    model, side = small(name, stages)
    model.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=True,
    )
    before = [np.array(w) for w in model.trainable_weights]
    model.train_on_batch(images(4, side, side, 3), np.array([0, 1, 2, 0]))
    untouched = [
        w.path
        for w, old in zip(model.trainable_weights, before, strict=True)
        if np.array_equal(w, old)
    ]
    assert untouched == []
    # The gradient of a plain net explodes with its depth; with shortcuts it does not.
    assert name == "plain1202" or all(np.isfinite(w).all() for w in model.trainable_weights)


@pytest.mark.parametrize(("name", "stages"), EVERY)
def test_saved_and_converted_it_says_the_same_with_the_operators_it_needs(name, stages, tmp_path):
    # Before its batch norms know its statistics, each block doubles the trunk: 333 are too many.
    model, side = small(name, stages, zero_gamma=sum(specs.SPECS[name].blocks) > 100)
    for layer in leaves(model):
        if layer.name.endswith("_bn"):  # an addition of 0 would be left out of the file
            layer.moving_mean.assign(np.linspace(-0.1, 0.1, layer.moving_mean.shape[0]))
    x = images(2, side, side, 3)
    logits = model(x)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(loaded(x), logits)

    plan = ExportPlan(
        geometry=Geometry(side, side), classes=[str(k) for k in range(logits.shape[-1])]
    )
    write_for_conversion(plan, model, tmp_path / "saved_model")
    convert(tmp_path / "saved_model", tmp_path / "model.tflite", "none")
    error = np.abs(Lite(tmp_path / "model.tflite").predict(x) - logits).max()
    assert error <= 1e-4 * np.abs(logits).max()
    assert faults(tmp_path / "model.tflite") == []
    found = census(tmp_path / "model.tflite").ops
    assert {op: found.get(op, 0) for op in expected_ops(model)} == expected_ops(model)
    assert found.keys() - expected_ops(model).keys() <= {"PAD"}
    assert sum(found.values()) <= MOST_OPERATORS.get(name, 10**6)


def test_resnet50_needs_no_more_operators_than_promised():
    """By the count that the files above have."""
    pads = 5  # of the stem, its pooling and the three strided blocks
    assert sum(expected_ops(shapes_of("resnet50")).values()) + pads <= MOST_OPERATORS["resnet50"]


def expected_ops(model):
    """What the layers leave after conversion: a batch norm behind a convolution is folded into it,
    any other is a multiplication and an addition, and a ReLU is part of what comes before it."""
    names = [layer.name for layer in leaves(model)]
    kinds = collections.Counter(type(layer).__name__ for layer in leaves(model))
    folded = [name.removesuffix("_bn") + "_conv" in names for name in names if name.endswith("_bn")]
    # Without a pooling in the stem, the first of a pre-activation net stands behind a convolution.
    behind_stem = "conv2_block1_preact_bn" in names and "pool1_pool" not in names
    apart = folded.count(False) - behind_stem
    return {
        "CONV_2D": kinds["Conv2D"],
        "ADD": kinds["Add"] + apart + 1,
        # That of the normalization is in the first kernel.
        "MUL": apart + kinds["Multiply"],
        "LOGISTIC": kinds["Multiply"],
        "MAX_POOL_2D": kinds["MaxPooling2D"] - len(shortcut_pools(model)),
        "AVERAGE_POOL_2D": kinds["AveragePooling2D"],
        "MEAN": kinds["GlobalAveragePooling2D"],
        "FULLY_CONNECTED": 1,
    }


@pytest.mark.parametrize(
    ("name", "part", "shapes"),
    [
        ("resnet50", models.PART, [(56, 256), (28, 512), (14, 1024), (7, 2048)]),
        ("resnet50_v2", models.PART, [(28, 256), (14, 512), (7, 1024), (7, 2048)]),
        ("resnet20", models.PART, [(32, 16), (16, 32), (8, 64)]),
        ("resnet20", 2, [(32, 16), (16, 32), (8, 64)]),
    ],
)
def test_features_are_the_last_maps_of_the_stages_by_name(name, part, shapes, monkeypatch):
    monkeypatch.setattr(models, "PART", part)
    maps = without_values(lambda: build(name, features=True)).output
    expected = {f"conv{stage}": (None, s, s, c) for stage, (s, c) in enumerate(shapes, 2)}
    assert {stage: x.shape for stage, x in maps.items()} == expected


def test_features_are_what_the_classifier_sees():
    model = build("resnet18_v2", 3, (32, 32, 3), zero_gamma=False)
    features = build("resnet18_v2", input_shape=(32, 32, 3), features=True)
    features.set_weights(model.get_weights()[:-2])
    x = images(2, 32, 32, 3)
    pooled = np.asarray(features(x)["conv5"]).mean((1, 2))
    kernel, bias = model.get_layer("logits").get_weights()
    np.testing.assert_allclose(model(x), pooled @ kernel + bias, rtol=1e-4, atol=1e-5)


def test_stochastic_depth_rises_linearly_to_its_share():
    model = build("resnet20", drop_path=0.9)
    rates = [layer.rate for layer in model.layers if layer.name.endswith("_drop")]
    np.testing.assert_allclose(rates, np.linspace(0.1, 0.9, 9))


@pytest.mark.parametrize("blocks", [51, pytest.param(200, marks=pytest.mark.slow)])
def test_a_deep_net_is_made_of_parts_that_any_keras_can_load(blocks):
    spec = replace(specs.SPECS["resnet1202"], blocks=(blocks,) * 3)
    model = without_values(lambda: resnet(spec, 10))
    deepest = max(len(part.layers) for part in model.layers if is_part(part))
    assert deepest < 500  # Python's recursion limit is 1,000
    assert not any(map(is_part, shapes_of("resnet164_v2").layers))
    names = [layer.name for layer in leaves(model)]
    assert len(names) == len(set(names)) and f"conv4_block{blocks}_add" in names


def is_part(layer):
    return isinstance(layer, keras.Model)


@pytest.mark.parametrize("shortcut", [True, False])
def test_a_fully_connected_net_learns_on_digits(shortcut):
    keras.utils.set_random_seed(0)
    pixels, labels = load_digits()
    model = residual_mlp((8, 8), 10, units=(32, 32, 16), shortcut=shortcut)
    kinds = collections.Counter(type(layer).__name__ for layer in model.layers)
    assert kinds["Add"] == 3 * shortcut
    assert kinds["Dense"] == 1 + 6 + shortcut + 1  # one projection, where the width changes
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss, metrics=["accuracy"])
    history = model.fit(pixels * 15.9, labels, epochs=6, verbose=0)
    assert history.history["accuracy"][-1] > 0.9


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
        ((18,), "unknown model '18'"),
        (("resnet50", 10, (31, 31, 3)), "31 pixels.*resnet50.*at least 32"),
        (("resnet50", 10, (224, 16, 3)), "16 pixels.*resnet50.*at least 32"),
        (("resnet20", 10, (3, 3, 3)), "3 pixels.*resnet20.*at least 4"),
        (("resnet20", 10, (32, 32, 2)), r"\(32, 32, 2\).*\(height, width, 3\)"),
        (("resnet20", 10, (32, 32)), r"\(32, 32\).*\(height, width, 3\)"),
        (("resnet20", 10, 32), r"input_shape is 32; expected \(height, width, 3\)"),
        (("resnet20", 10, np.array([32, 32, 3])), r"input_shape is \[32 32  3\]; expected"),
        (("resnet20", 10, (32.0, 32.0, 3)), r"\(32.0, 32.0, 3\); expected whole numbers"),
        (("resnet20", "10"), "num_classes is '10'; expected a whole number"),
        (("resnet20", 1), "num_classes is 1;.*at least 2"),
        (("resnet20", 0), "num_classes is 0;.*at least 2"),
        (("resnet20", -3), "num_classes is -3;.*at least 2"),
        (("resnet20", 10, None, -0.5), "width is -0.5;.*above 0"),
        (("resnet20", 10, None, "half"), "width is 'half';.*above 0"),
    ],
    ids=[
        "an unknown name lists the near misses",
        "a number for a name",
        "an image one pixel too small",
        "one side too small",
        "too small for a cifar net",
        "two channels",
        "no channels",
        "one side",
        "sides in an array",
        "sides that are no whole numbers",
        "classes as text",
        "one class",
        "no class",
        "fewer than no classes",
        "a width below 0",
        "a width as text",
    ],
)
def test_what_cannot_be_built_is_an_input_error(arguments, message):
    with pytest.raises(InputError, match=message):
        build(*arguments[:3], **dict(zip(["width"], arguments[3:], strict=False)))


def test_the_number_of_classes_may_be_numpys_and_a_spec_is_no_name():
    assert build("resnet8", np.int64(3), (8, 8, 3)).output_shape == (None, 3)
    with pytest.raises(InputError, match="spec is 'resnet8'; expected a row of SPECS"):
        resnet("resnet8", 3)
    with pytest.raises(InputError, match="se_ratio is 16; expected a share"):
        resnet(replace(specs.SPECS["resnet8"], se_ratio=16), 3)


@pytest.mark.parametrize("normalize", ["imagnet", (1.0, 2.0), 5], ids=repr)
def test_an_unusable_normalization_is_an_input_error_that_lists_the_known_ones(normalize):
    with pytest.raises(InputError, match="imagenet"):
        build("resnet20", 10, (8, 8, 3), normalize=normalize)


def test_a_normalization_may_be_given_as_lists_as_json_does():
    model = build("resnet20", 10, (8, 8, 3), normalize=([0.0] * 3, [255.0] * 3))
    assert model.get_layer("normalize").scale == [1 / 255] * 3


@pytest.mark.parametrize(
    "name",
    [
        "resnet20",
        "resnet18",
        "resnet50",
        "wrn16_4",
        pytest.param("resnet164_v2", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("zero_gamma", [True, False])
def test_the_first_loss_is_that_of_a_guess(name, zero_gamma):
    """ln k, as with the head of arXiv:1706.02677, section 5.1; with the batch's statistics."""
    keras.utils.set_random_seed(0)
    classes, side = 10, 32 if specs.SPECS[name].stem == "cifar" else 64
    model = build(name, classes, (side, side, 3), zero_gamma=zero_gamma)
    images = np.random.default_rng(0).integers(0, 256, (8, side, side, 3)).astype("float32")
    logits = model(images, training=True)
    losses = keras.losses.sparse_categorical_crossentropy(
        np.arange(8), logits, from_logits=True
    )  # fmt: skip
    assert float(np.mean(losses)) == pytest.approx(np.log(classes), rel=0.03)
    assert model.layers[-1].kernel.numpy().std() == pytest.approx(0.01, rel=0.15)
