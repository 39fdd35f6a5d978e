"""Drawings show the structure of the graph, also of foreign networks."""

import json
import re
from dataclasses import replace
from textwrap import dedent

import keras
import pytest
from keras import layers

from keras_resnet.blocks import conv_block, identity_block
from keras_resnet.errors import InputError
from keras_resnet.inspection.drawing import Fork, drawing
from keras_resnet.models import build
from keras_resnet.specs import SPECS
from keras_resnet.state import without_values


def model_of(function, shape=(8, 8, 64)):
    image = keras.Input(shape)
    return keras.Model(image, function(image), name="net")


def drawn(function, shape=(8, 8, 64)):
    """The text of the first stage that `function` builds, without its head."""
    lines = str(drawing(model_of(function, shape))).splitlines()
    return dedent("\n".join(lines[3:]))


def is_drawn(function, expected, shape=(8, 8, 64)):
    assert drawn(function, shape) == dedent(expected).strip("\n")


# The kinds of blocks that there are


def test_a_bottleneck_with_the_identity():
    is_drawn(
        lambda x: identity_block(x, "bottleneck", filters=16, name="conv2_block2"),
        """
        conv2_block2
          x ────────────────────────┐
          1×1 conv 16 · BN · ReLU   │
          3×3 conv 16 · BN · ReLU   identity
          1×1 conv 64 · BN          │
          + ────────────────────────┘
          ReLU
        """,
    )


def test_a_bottleneck_with_a_projection():
    is_drawn(
        lambda x: conv_block(x, "bottleneck", filters=32, name="conv3_block1"),
        """
        conv3_block1
          x ───────────────────────────┐
          1×1 conv 32 · BN · ReLU      every other pixel
          3×3 conv 32 /2 · BN · ReLU   1×1 conv 128 · BN
          1×1 conv 128 · BN            │
          + ───────────────────────────┘
          ReLU
        """,
    )


def test_a_basic_block_with_the_identity():
    is_drawn(
        lambda x: identity_block(x, "basic", filters=64, name="conv2_block1"),
        """
        conv2_block1
          x ────────────────────────┐
          3×3 conv 64 · BN · ReLU   identity
          3×3 conv 64 · BN          │
          + ────────────────────────┘
          ReLU
        """,
    )


def test_a_basic_block_with_a_padded_shortcut():
    is_drawn(
        lambda x: conv_block(x, "basic", filters=128, name="conv3_block1", shortcut="pad"),
        """
        conv3_block1
          x ────────────────────────────┐
          3×3 conv 128 /2 · BN · ReLU   every other pixel
          3×3 conv 128 · BN             zeros, 64 to 128 channels
          + ────────────────────────────┘
          ReLU
        """,
    )


# Blocks of other people's networks


def conv(x, filters, name, **options):
    return layers.Conv2D(filters, 3, padding="same", name=f"{name}_conv", **options)(x)


def bn_relu(x, name):
    return layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(name=f"{name}_bn")(x))


def test_a_pre_activation_with_the_raw_input_as_its_shortcut():
    """arXiv:1603.05027, figure 1b; and a branch that is left out at random, arXiv:1603.09382."""

    def block(x, name):
        y = conv(bn_relu(x, f"{name}_0"), 64, f"{name}_1")
        y = conv(bn_relu(y, f"{name}_1"), 64, f"{name}_2")
        y = layers.Dropout(0.5, noise_shape=(None, 1, 1, 1), name=f"{name}_drop")(y)
        return layers.Add(name=f"{name}_add")([x, y])

    is_drawn(
        lambda x: block(block(x, "conv2_block1"), "conv2_block2"),
        """
        conv2_block1 … conv2_block2  ×2
          x ────────────────────────┐
          BN · ReLU · 3×3 conv 64   │
          BN · ReLU · 3×3 conv 64   identity
          stochastic depth          │
          + ────────────────────────┘
        """,
    )


def test_a_pre_activation_that_branch_and_pooled_projection_share():
    def block(x, name):
        x = bn_relu(x, f"{name}_0")
        y = conv(x, 32, f"{name}_1", strides=2, groups=4)
        y = conv(bn_relu(y, f"{name}_1"), 32, f"{name}_2")
        x = layers.AveragePooling2D(2, name=f"{name}_0_pool")(x)
        x = layers.Conv2D(32, 1, name=f"{name}_0_conv")(x)
        return layers.Add(name=f"{name}_add")([x, y])

    is_drawn(
        lambda x: block(x, "conv3_block1"),
        """
        conv3_block1
          BN · ReLU
          ┬ ─────────────────────────────────────┐
          3×3 conv 32 /2, 4 groups · BN · ReLU   2×2 average pool /2
          3×3 conv 32                            1×1 conv 32
          + ─────────────────────────────────────┘
        """,
    )


def test_a_plain_network_has_blocks_without_a_sum():
    def block(x, name):
        for i in (1, 2):
            x = bn_relu(conv(x, 64, f"{name}_{i}"), f"{name}_{i}")
        return x

    is_drawn(
        lambda x: block(block(x, "conv2_block1"), "conv2_block2"),
        """
        conv2_block1 … conv2_block2  ×2
          3×3 conv 64 · BN · ReLU
          3×3 conv 64 · BN · ReLU
        """,
    )


def squeeze_and_excite(x):
    y = layers.Conv2D(64, 3, padding="same")(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(y)
    gate = layers.Dense(64, activation="sigmoid")(layers.Dense(4, activation="relu")(gate))
    return layers.ReLU()(layers.Add(name="sum")([x, layers.Multiply()([y, gate])]))


def test_a_fork_inside_a_branch_and_names_that_are_not_ours():
    """Squeeze and excite, arXiv:1709.01507."""
    is_drawn(
        squeeze_and_excite,
        """
        sum
          x ───────────────────────────────┐
          3×3 conv 64                      │
          ┬ ────────────────────┐          │
          global average pool   │          identity
          dense 4 · ReLU        identity   │
          dense 64 · sigmoid    │          │
          × ────────────────────┘          │
          + ───────────────────────────────┘
          ReLU
        """,
    )


def test_three_paths_have_three_columns():
    """As in Inception. The convolution is first, though the other path is longer."""

    def function(x):
        y, z = layers.Conv2D(8, 1)(x), layers.ReLU()(layers.MaxPooling2D(1, 1)(x))
        return layers.Concatenate(name="all_three")([x, y, z])

    is_drawn(
        function,
        """
        all_three
          x ───────────┬─────────────────────┐
          1×1 conv 8   1×1 max pool · ReLU   identity
          concat ──────┴─────────────────────┘
        """,
    )


def test_what_is_neither_in_a_row_nor_side_by_side_is_counted():
    def function(x):
        a, b = layers.ReLU()(x), layers.Conv2D(64, 1)(x)
        ends = [layers.Multiply()([a, b]), layers.Subtract(name="less")([a, b])]
        return layers.Add(name="join")(ends)

    is_drawn(function, "join\n  5 layers in another pattern")


def test_a_long_web_is_not_searched_layer_by_layer():
    """As in NASNet, where each cell takes what the last two made."""

    def function(x):
        before = layers.ReLU()(x)
        for _ in range(400):
            x, before = layers.Add()([x, before]), x
        return layers.Add(name="last")([x, before])

    is_drawn(function, "last\n  402 layers in another pattern", shape=(1, 1, 1))


# Properties


def forks(body):
    for part in body:
        if isinstance(part, Fork):
            yield part
            for path in part.paths:
                yield from forks(path)


def kinds_in(model):
    """Of the layers of a model and of the models in it, by Keras alone."""
    for layer in model.layers:
        yield from kinds_in(layer) if isinstance(layer, keras.Model) else [type(layer).__name__]


def shallowest_of_each_kind():
    """Of networks that differ in their depth alone, the first in the table."""
    kinds = {}
    for spec in SPECS.values():
        kinds.setdefault(replace(spec, name="", source="", blocks=()), spec.name)
    return kinds.values()


@pytest.mark.parametrize("name", shallowest_of_each_kind())
def test_every_convolution_and_every_sum_of_a_network_is_in_its_drawing(name):
    model = without_values(lambda: build(name, 10))
    convolutions = sums = 0
    for stage in drawing(model).stages:
        for block in stage.blocks:
            times = len(block.names) or 1
            convolutions += times * len(re.findall(r"×\d conv ", str(block.body)))
            sums += times * [fork.join for fork in forks(block.body)].count("+")
    kinds = list(kinds_in(model))
    assert (convolutions, sums) == (kinds.count("Conv2D"), kinds.count("Add"))


@pytest.mark.parametrize("name", ["resnet50", "resnet20"])
def test_the_blocks_are_the_papers_and_the_first_of_a_stage_is_another_one(name):
    stages = drawing(name).stages[2:-1]
    blocks = [[len(block.names) for block in stage.blocks] for stage in stages]
    expected = [[1, n - 1] for n in SPECS[name].blocks]
    if name == "resnet20":  # the stem leaves as many channels as the first stage has
        expected[0] = [3]
    assert blocks == expected


@pytest.mark.parametrize("branch", ["basic", "bottleneck"])
def test_names_do_not_change_what_is_in_a_block(branch):
    def body(name):
        model = model_of(lambda x: conv_block(x, branch, filters=32, name=name))
        (stage,) = drawing(model).stages
        return stage.blocks[0].body

    assert body("conv2_block1") == body("mine")


def test_a_model_inside_a_model_is_drawn_as_if_it_were_flat():
    body = build("resnet20", 3, (16, 16, 3))
    outer = keras.Sequential([keras.Input((16, 16, 3)), body])
    assert drawing(outer).stages == drawing(body).stages


def test_a_drawing_is_json_and_begins_with_the_image():
    found = drawing("resnet20")
    content = found.as_json()
    assert json.loads(json.dumps(content)) == content
    assert list(content) == ["name", "input_shape", "stages"]
    assert list(content["stages"][2]) == ["name", "output_shape", "blocks"]
    (block,) = content["stages"][2]["blocks"]
    assert list(block) == ["names", "body"] and list(block["body"][0]) == ["paths", "join"]
    assert str(found).splitlines()[:6] == [
        "resnet20: 32x32x3",
        "",
        "input: 32x32x3",
        "    rescaling",
        "",
        "conv1: 32x32x16",
    ]


def test_several_outputs_are_an_input_error():
    x = keras.Input((4,))
    model = keras.Model(x, [layers.ReLU()(x), layers.Dense(2)(x)], name="two")
    with pytest.raises(InputError, match="two has 1 inputs and 2 outputs"):
        drawing(model)


# The picture


def picture_of(model, monkeypatch):
    """The figure that would be saved."""
    from keras_resnet.report import structure

    monkeypatch.setattr(structure, "save", lambda figure, path, **options: figure)
    return structure.structure(drawing(model), "unused.png")


@pytest.mark.parametrize("model", ["resnet50", "resnet18", "resnet20", "another"])
def test_no_two_texts_of_a_picture_overlap_and_none_leaves_it(model, monkeypatch):
    model = model_of(squeeze_and_excite) if model == "another" else model
    figure = picture_of(model, monkeypatch)
    texts = [t for t in figure.axes[0].texts if t.get_text()]
    boxes = [(t.get_text(), t.get_window_extent()) for t in texts]
    assert len(boxes) >= 10
    width, height = figure.get_size_inches() * figure.dpi
    for i, (words, box) in enumerate(boxes):
        assert 0 < box.x0 < box.x1 < width and 0 < box.y0 < box.y1 < height, words
        assert not [other for other, b in boxes[:i] if b.overlaps(box)], words


def test_the_picture_has_the_words_of_the_drawing(monkeypatch):
    texts = [t.get_text() for t in picture_of("resnet18", monkeypatch).axes[0].texts]
    assert (texts.count("+"), texts.count("identity")) == (7, 4)
    assert "conv2_block1 … block2  ×2" in texts
    assert {"3×3 conv 512 /2", "1×1 conv 512", "BN · ReLU", "7×7×512", "head"} <= set(texts)


def test_the_picture_is_written_and_another_network_has_another(tmp_path):
    import numpy as np
    from PIL import Image

    from keras_resnet.report.structure import structure

    def pixels(name):
        path = tmp_path / f"{name}.png"
        assert structure(drawing(name), path) == path
        with Image.open(path) as image:
            assert image.format == "PNG"
            return np.asarray(image.convert("L"))

    small, large = pixels("resnet20"), pixels("resnet50")
    assert small.shape[1] > 1000 and large.size > small.size
    for picture in (small, large):
        assert 0.02 < (picture < 128).mean() < 0.2  # lines and letters on white


def test_a_picture_too_large_for_matplotlib_is_an_input_error(monkeypatch, tmp_path):
    from keras_resnet.report import structure

    monkeypatch.setattr(structure, "MOST_PIXELS", 500)
    with pytest.raises(InputError, match=r"picture of resnet20 would have \d+×\d+ pixels"):
        structure.structure(drawing("resnet20"), tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
