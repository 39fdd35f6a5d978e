"""Residual blocks: the two equations H(x) = F(x) + x and H(x) = F(x) + W x."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.blocks import BN_EPSILON, conv_block, identity_block

BRANCHES = {"basic": 16, "bottleneck": 4}  # filters with which F(x) has 16 channels


def ramp(*shape):
    """Different numbers from 0 to 1."""
    return np.linspace(0, 1, np.prod(shape), dtype="float32").reshape(shape)


def model_of(block, shape, *arguments, **keywords):
    x = keras.Input(shape)
    return keras.Model(x, block(x, *arguments, **keywords))


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_a_fresh_identity_block_is_the_identity_on_x_above_0(branch, training):
    block = model_of(identity_block, (5, 6, 16), branch, filters=BRANCHES[branch], name="b")
    x = ramp(2, 5, 6, 16)
    np.testing.assert_array_equal(block(x, training=training), x)


@pytest.mark.parametrize("branch", BRANCHES)
def test_a_fresh_identity_block_hands_the_gradient_back_unchanged(branch):
    block = model_of(identity_block, (5, 6, 16), branch, filters=BRANCHES[branch], name="b")
    x = tf.constant(ramp(2, 5, 6, 16) + 0.1)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = block(x)
    arriving = ramp(2, 5, 6, 16)
    np.testing.assert_array_equal(tape.gradient(y, x, arriving), arriving)


@pytest.mark.parametrize("branch", BRANCHES)
def test_with_gamma_at_one_a_fresh_identity_block_is_not_the_identity(branch):
    keras.utils.set_random_seed(0)
    block = model_of(
        identity_block, (5, 6, 16), branch, filters=BRANCHES[branch], name="b", zero_gamma=False
    )
    x = ramp(2, 5, 6, 16)
    assert np.abs(block(x) - x).max() > 0.01


@pytest.mark.parametrize("shortcut", ["projection", "pad"])
@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize(
    ("strides", "side", "halved"), [(1, 8, 8), (1, 9, 9), (2, 8, 4), (2, 9, 5), (2, 1, 1)]
)
def test_a_conv_block_divides_the_sides_by_its_stride_rounding_up(
    branch, shortcut, strides, side, halved
):
    x = keras.Input((side, 8, 3))
    y = conv_block(
        x, branch, filters=BRANCHES[branch], strides=strides, name="b", shortcut=shortcut
    )
    assert y.shape == (None, halved, 8 // strides, 16)


def test_option_a_takes_every_other_pixel_and_fills_new_channels_with_zeros():
    block = model_of(conv_block, (5, 6, 4), "basic", filters=8, name="b", shortcut="pad")
    x = ramp(2, 5, 6, 4)
    y = np.asarray(block(x))  # the branch is 0 in a fresh block
    np.testing.assert_array_equal(y[..., 2:6], x[:, ::2, ::2])
    np.testing.assert_array_equal(y[..., [0, 1, 6, 7]], 0)


def test_option_a_has_no_parameters():
    block = model_of(conv_block, (6, 6, 4), "basic", filters=8, name="b", shortcut="pad")
    branch = 3 * 3 * 4 * 8 + 3 * 3 * 8 * 8 + 2 * 4 * 8  # two convolutions, two batch norms
    assert block.count_params() == branch


@pytest.mark.parametrize("side", [6, 7])
def test_the_projection_is_a_1x1_convolution_with_stride_2(side):
    block = model_of(conv_block, (side, side, 4), "basic", filters=8, name="b")
    kernel = ramp(1, 1, 4, 8) - 0.5
    block.get_layer("b_0_conv").set_weights([kernel])
    x = ramp(2, side, side, 4)
    expected = x[:, ::2, ::2] @ kernel[0, 0] / np.sqrt(1 + BN_EPSILON)
    np.testing.assert_allclose(block(x), np.maximum(expected, 0), rtol=1e-5, atol=1e-6)


def test_no_1x1_convolution_has_a_stride_which_gpus_get_wrong_with_int8_weights():
    block = model_of(conv_block, (8, 8, 4), filters=2, name="b")
    strides = {
        layer.name: layer.strides
        for layer in block.layers
        if isinstance(layer, keras.layers.Conv2D) and layer.kernel_size == (1, 1)
    }
    assert strides == {"b_0_conv": (1, 1), "b_1_conv": (1, 1), "b_3_conv": (1, 1)}


def test_an_identity_block_on_the_wrong_channels_names_the_block_and_both_numbers():
    with pytest.raises(ValueError, match=r"'conv2_block1'.* 3 channels.* 8;.*conv_block"):
        identity_block(keras.Input((8, 8, 3)), "basic", filters=8, name="conv2_block1")


@pytest.mark.parametrize("block", [identity_block, conv_block])
def test_an_unknown_branch_lists_the_known_ones(block):
    with pytest.raises(ValueError, match=r"'wide'.*basic, bottleneck"):
        block(keras.Input((8, 8, 8)), "wide", filters=8, name="b")


def test_an_unknown_shortcut_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'crop'.*projection, pad"):
        conv_block(keras.Input((8, 8, 8)), "basic", filters=8, name="b", shortcut="crop")


def test_the_same_block_built_twice_has_the_same_names():
    blocks = [
        model_of(conv_block, (8, 8, 4), "basic", filters=8, name="b", shortcut=shortcut)
        for shortcut in ("projection", "projection", "pad", "pad")
    ]
    names = [[op.name for op in block.operations[1:]] for block in blocks]
    assert names[0] == names[1]
    assert names[2] == names[3]
