"""`describe`: counts equal published ones, the receptive field equals that of a gradient."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_resnet.blocks import conv_block, identity_block
from keras_resnet.cli import tables
from keras_resnet.errors import InputError
from keras_resnet.inspection.network import Memory, describe
from keras_resnet.models import build
from keras_resnet.specs import find

# torchvision's published counts (v1.5): parameters, and multiply-adds in G. timm's model cards:
# activations in M. The receptive field of the last feature map: 1 + the sum of (kernel - 1) ×
# distance.
PUBLISHED = {
    "resnet18": (11_689_512, 1.814, 2.5, 435),
    "resnet34": (21_797_672, 3.664, 3.7, 899),
    "resnet50": (25_557_032, 4.089, 11.1, 427),
    "resnet101": (44_549_160, 7.801, 16.2, 971),
    "resnet152": (60_192_808, 11.514, 22.6, 1451),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_of_the_imagenet_nets_are_the_published_ones(name):
    parameters, multiply_adds, activations, field = PUBLISHED[name]
    found = describe(name)
    assert found.trainable_parameters == parameters
    assert round(found.multiply_adds / 1e9, 3) == multiply_adds
    assert round(found.activations / 1e6, 1) == activations
    last_map = next(row for row in reversed(found.layers) if row.kind == "ReLU")
    assert (last_map.output_shape[:2], last_map.receptive_field) == ([7, 7], field)


def test_the_stride_in_the_1x1_convolution_would_be_another_number():
    """3.858 G is ResNet-50 v1, with as many parameters: only multiply-adds tell them apart."""
    found = describe("resnet50")
    first = [f"conv{stage}_block1_1_conv" for stage in (3, 4, 5)]
    saved = sum(row.multiply_adds for row in found.layers if row.name in first) * 3 / 4
    assert round((found.multiply_adds - saved) / 1e9, 3) == 3.858


@pytest.mark.parametrize("name", ["resnet20", "resnet18"])
def test_a_name_and_its_model_are_described_alike(name):
    assert describe(build(name, 10 if name == "resnet20" else 1000)) == describe(name)


def test_the_rows_add_up_to_the_totals():
    found = describe("resnet50")
    for total in ("parameters", "multiply_adds", "activations"):
        whole = getattr(found, total)
        assert sum(getattr(row, total) for row in found.layers) == whole
        assert sum(getattr(row, total) for row in found.stages) == whole


def test_the_rows_are_in_forward_order_with_shapes_for_json():
    found = json.loads(json.dumps(describe("resnet50").as_json()))
    assert found["name"] == "resnet50"
    assert found["input_shape"] == [224, 224, 3]
    rows = found["layers"]
    assert [row["name"] for row in rows[:3]] == ["normalize", "conv1_pad", "conv1_conv"]
    assert rows[2] == {
        "name": "conv1_conv",
        "kind": "Conv2D",
        "output_shape": [112, 112, 64],
        "parameters": 7 * 7 * 3 * 64,
        "multiply_adds": 112 * 112 * 7 * 7 * 3 * 64,
        "activations": 112 * 112 * 64,
        "receptive_field": 7,
    }
    assert rows[-1]["name"] == "logits"
    assert rows[-1]["multiply_adds"] == 2048 * 1000


def test_a_multiplication_and_an_addition_are_two_operations():
    found = describe("resnet50")
    assert round(found.flops / 1e9, 3) == 8.178
    assert found.flops == 2 * found.multiply_adds


@pytest.mark.parametrize("name", ["resnet50", "resnet20"])
def test_the_stages_are_those_of_the_paper(name):
    """Sizes and numbers of blocks: tables 1 and 6 of arXiv:1512.03385."""
    sides, blocks = {
        "resnet50": ([56, 56, 28, 14, 7], [0, 3, 4, 6, 3]),
        "resnet20": ([32, 32, 16, 8], [0, 3, 3, 3]),
    }[name]
    first, *stages, last = describe(name).stages
    assert (first.name, last.name) == ("input", "head")
    assert [stage.name for stage in stages] == find(name).stages
    assert [stage.blocks for stage in stages] == blocks
    assert [stage.output_shape[0] for stage in stages] == sides


def test_a_stage_ends_where_its_last_layer_does():
    found = describe("resnet50")
    rows = {row.name: row for row in found.layers}
    for stage, last in zip(
        found.stages,
        ["normalize", "pool1_pool", "conv2_block3_out", "conv3_block4_out", "conv4_block6_out",
         "conv5_block3_out", "logits"],
        strict=True,
    ):  # fmt: skip
        for key in ("output_shape", "receptive_field"):
            assert getattr(stage, key) == getattr(rows[last], key)


def test_a_network_with_other_names_has_no_stages():
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(2, 3, name="conv1_conv")])
    assert describe(model).stages == []
    assert tables.description(describe(model)).count("---\n") == 2


def small_graph(**options):
    """Bytes of the tensors in float32: 64 the image, 192 each map, 12 the pool, 8 the logits."""
    image = keras.Input((4, 4, 1))
    x = layers.Conv2D(3, 3, padding="same", **options)(image)
    x = layers.Add(**options)([x, layers.ReLU(**options)(x)])
    x = layers.GlobalAveragePooling2D(**options)(x)
    return keras.Model(image, layers.Dense(2, dtype="float32")(x))


def test_memory_of_a_small_graph_is_what_one_counts_by_hand():
    assert describe(small_graph()).memory == Memory(
        weights=4 * (3 * 3 * 3 + 3 + 3 * 2 + 2),
        activations_peak=192 + 192 + 192,  # the sum, and both that it takes
        activations_training=3 * 192 + 12 + 8,
    )


def test_half_precision_halves_the_activations_and_not_the_weights():
    half, full = describe(small_graph(dtype="mixed_bfloat16")), describe(small_graph())
    assert half.memory.weights == full.memory.weights
    assert half.memory.activations_peak == 3 * 96
    assert half.memory.activations_training == 3 * 96 + 6 + 8


@pytest.mark.parametrize("skip", [True, False])
def test_a_skip_keeps_its_tensor_until_the_sum(skip):
    x = image = keras.Input((16, 16, 1))  # 1024 bytes, as each map after it
    for _ in range(5):
        x = layers.ReLU()(x)
    x = layers.Add()([x, image]) if skip else layers.ReLU()(x)
    peak = describe(keras.Model(image, x)).memory.activations_peak
    assert peak == 1024 * (3 if skip else 2)


def test_an_output_stays_until_the_end():
    x = image = keras.Input((16, 16, 1))  # 1024 bytes, as each map after it
    outputs = []
    for _ in range(4):
        x = layers.ReLU()(x)
        outputs.append(x)
    assert describe(keras.Model(image, outputs)).memory.activations_peak == 4 * 1024


def all_ones(model):
    """Sums instead of weighted sums: a value depends on all that it can depend on."""
    for weight in model.trainable_weights:
        weight.assign(np.ones(weight.shape) if weight.path.endswith("kernel") else weight)
    return model


@pytest.mark.parametrize("branch", ["basic", "bottleneck"])
@pytest.mark.parametrize("shortcut", ["projection", "pad"])
def test_the_receptive_field_is_the_area_with_a_gradient(branch, shortcut):
    x = image = keras.Input((65, 65, 1))
    x = layers.Conv2D(2, 3, padding="same", dilation_rate=2)(x)
    x = layers.AveragePooling2D(3, 2, padding="same")(x)
    x = conv_block(x, branch, filters=2, name="a", shortcut=shortcut, zero_gamma=False)
    x = identity_block(x, branch, filters=2, name="b", zero_gamma=False)
    x = layers.AveragePooling2D(3, 1)(x)
    model = all_ones(keras.Model(image, x))

    pixels = tf.constant(np.random.default_rng(0).random((1, 65, 65, 1)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(pixels)
        middle = model(pixels)[:, 7, 7]
    rows, columns = np.nonzero(tape.gradient(middle, pixels)[0, ..., 0])
    field = describe(model).layers[-1].receptive_field
    assert np.ptp(rows) + 1 == np.ptp(columns) + 1 == field


def test_global_pooling_sees_the_whole_image_and_so_does_all_behind_it():
    x = image = keras.Input((8, 8, 4))
    gate = layers.Dense(4)(layers.GlobalAveragePooling2D(keepdims=True)(x))  # a squeeze and excite
    x = layers.Conv2D(4, 3, padding="same")(layers.Multiply()([x, gate]))
    fields = [row.receptive_field for row in describe(keras.Model(image, x)).layers]
    assert fields == [None] * 4


@pytest.mark.parametrize(
    ("layer", "multiply_adds"),
    [
        (layers.Conv2D(6, 3, groups=2), 6 * 6 * 3 * 3 * 2 * 6),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), 6 * 6 * 3 * 3 * 4 * 2),
        (layers.SeparableConv2D(6, 3), 6 * 6 * (3 * 3 * 4 + 4 * 6)),
        (layers.Conv2DTranspose(6, 3, strides=2), 8 * 8 * 3 * 3 * 4 * 6),
        (layers.Dense(5), 8 * 8 * 4 * 5),
        (layers.BatchNormalization(), 0),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_each_kind_of_layer_counts_its_multiplications(layer, multiply_adds):
    model = keras.Sequential([keras.Input((8, 8, 4)), layer])
    assert describe(model).multiply_adds == multiply_adds


def test_a_layer_used_twice_multiplies_twice_and_is_stored_once():
    x = keras.Input((4,))
    shared = layers.Dense(4)
    found = describe(keras.Model(x, shared(shared(x))))
    assert found.parameters == 20 == sum(row.parameters for row in found.layers)
    assert found.multiply_adds == 32


def test_a_model_inside_a_model_is_counted_layer_by_layer():
    body = build("resnet20", 3, (16, 16, 3))
    outer = keras.Sequential([keras.Input((16, 16, 3)), body, layers.Softmax()])
    inside, whole = describe(body), describe(outer)
    assert whole.layers[:-1] == inside.layers
    assert whole.stages[:-1] == inside.stages[:-1]
    in_training = inside.memory.activations_training + 3 * 4
    assert whole.memory == replace(inside.memory, activations_training=in_training)


def test_a_very_deep_network_made_of_models_is_followed():
    """Flat, Keras itself gives up at a thousand layers (RecursionError)."""
    x = image = keras.Input((4, 4, 1))
    for _ in range(12):
        y = part = keras.Input((4, 4, 1))
        for _ in range(100):
            y = layers.ReLU()(y)
        x = keras.Model(part, y)(x)
    found = describe(keras.Model(image, x))
    assert len(found.layers) == 1200
    assert found.memory.activations_peak == 2 * 64


def test_an_open_size_leaves_open_what_depends_on_it():
    found = describe(build("resnet20", 10, (None, None, 3)))
    assert found.input_shape == [None, None, 3]
    assert found.multiply_adds is None
    assert found.flops is None
    assert found.activations is None
    assert found.memory == Memory(4 * found.parameters, None, None)
    assert found.stages[1].multiply_adds is None
    assert found.trainable_parameters == 269_722
    assert "?x?x16" in tables.description(found)


def test_an_open_size_can_be_counted_at_a_given_one():
    found = describe(build("resnet20", 10, (None, None, 3)), input_shape=(32, 32, 3))
    assert found.multiply_adds == describe("resnet20").multiply_adds


def test_describing_leaves_the_model_as_it_was():
    model = build("resnet20", 3, (8, 8, 3))
    x = np.ones((1, 8, 8, 3), "float32")
    config, logits = model.get_config(), model(x)
    describe(model)
    assert model.get_config() == config
    np.testing.assert_array_equal(model(x), logits)


def test_the_table_is_aligned_and_ends_with_the_totals():
    *rows, ruler, parameters, counts, memory = tables.description(describe("resnet50")).splitlines()
    assert all(len(line) <= len(ruler) for line in rows)
    ends = {len(line) for line in rows if line.endswith(tuple("0123456789")) or "all" in line}
    assert ends == {len(ruler)}
    assert rows[-7].split() == ["input", "224x224x3", "1"]
    assert rows[-5].split()[:4] == ["conv2", "3", "blocks", "56x56x256"]
    assert parameters == "resnet50: 25,610,152 parameters, 25,557,032 of them trainable"
    assert counts == "4.089 G multiply-adds (8.178 GFLOPs), 11.114 M activations"
    assert memory == (
        "memory: 102.44 MB of weights; for one image 9.63 MB of activations at once, 159.38 MB "
        "kept in training"
    )


class NoGraph(keras.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize(
    ("model", "input_shape", "message"),
    [
        ("resnet5O", None, "'resnet5O'.*resnet50"),
        (NoGraph(name="mine"), None, "mine has no graph"),
        ("resnet20", (64, 64, 3), r"\(64, 64, 3\).*resnet20.*\(32, 32, 3\)"),
        ("resnet20", (32, 32), r"\(32, 32\).*resnet20"),
    ],
    ids=["an unknown name", "a subclass", "another size than the fixed one", "no channels"],
)
def test_what_cannot_be_described_is_an_input_error(model, input_shape, message):
    with pytest.raises(InputError, match=message):
        describe(model, input_shape)
