"""Residual blocks: the two equations H(x) = F(x) + x and H(x) = F(x) + W x."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.blocks import (
    BN_EPSILON,
    batch_norm,
    conv_block,
    dense_identity_block,
    dense_plain_block,
    dense_projection_block,
    identity_block,
    plain_block,
    squeeze_excite,
)

# Filters with which F(x) has 16 channels.
BRANCHES = {"basic": 16, "bottleneck": 4, "preact_basic": 16, "preact_bottleneck": 4}


def ramp(*shape):
    """Different numbers from 0 to 1."""
    return np.linspace(0, 1, np.prod(shape), dtype="float32").reshape(shape)


def model_of(block, shape, *arguments, **keywords):
    x = keras.Input(shape)
    return keras.Model(x, block(x, *arguments, **keywords))


def test_a_batch_norm_has_torchvisions_numbers():
    """A momentum of 0.1 there is one of 0.9 in Keras."""
    model, x = model_of(batch_norm, (5, 6, 4), name="b"), ramp(2, 5, 6, 4)
    norm = model.get_layer("b_bn")
    model(x, training=True)
    np.testing.assert_allclose(norm.moving_mean, 0.1 * x.mean((0, 1, 2)), rtol=1e-5)
    norm.set_weights([np.ones(4), np.zeros(4), np.zeros(4), np.zeros(4)])
    np.testing.assert_allclose(model(x), x / np.sqrt(1e-5), rtol=1e-5)


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


@pytest.mark.parametrize("shortcut", ["projection", "pool", "pad"])
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
    with pytest.raises(ValueError, match=r"'wide'.*basic, bottleneck, preact_basic"):
        block(keras.Input((8, 8, 8)), "wide", filters=8, name="b")


def test_an_unknown_shortcut_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'crop'.*projection, pool, pad"):
        conv_block(keras.Input((8, 8, 8)), "basic", filters=8, name="b", shortcut="crop")


def test_the_same_block_built_twice_has_the_same_names():
    blocks = [
        model_of(conv_block, (8, 8, 4), "basic", filters=8, name="b", shortcut=shortcut)
        for shortcut in ("projection", "projection", "pad", "pad")
    ]
    names = [[op.name for op in block.operations[1:]] for block in blocks]
    assert names[0] == names[1]
    assert names[2] == names[3]


def named(model, *names):
    """Values of the layers with these names, for one input."""
    outputs = [model.get_layer(name).output for name in names]
    return keras.Model(model.input, outputs)


def test_a_preactivation_block_adds_its_untouched_input():
    block = model_of(
        identity_block, (5, 6, 16), "preact_basic", filters=16, name="b", zero_gamma=False
    )
    x = ramp(2, 5, 6, 16) - 0.5  # negative values too: no ReLU stands behind the sum
    branch, h = named(block, "b_2_conv", "b_add")(x)
    assert np.abs(branch).max() > 0.01
    np.testing.assert_allclose(h, x + branch, rtol=1e-6)


def test_a_preactivation_projection_starts_from_the_activated_input_without_batch_norm():
    block = model_of(conv_block, (5, 6, 4), "preact_basic", filters=8, strides=1, name="b")
    x = ramp(2, 5, 6, 4) - 0.5
    activated = np.maximum(x, 0) / np.sqrt(1 + BN_EPSILON)
    kernel = np.asarray(block.get_layer("b_0_conv").kernel)
    np.testing.assert_allclose(block(x), activated @ kernel[0, 0], rtol=1e-5, atol=1e-6)
    assert "b_0_bn" not in [layer.name for layer in block.layers]


@pytest.mark.parametrize("side", [6, 7])
def test_the_pool_shortcut_averages_the_pixels_of_each_window(side):
    block = model_of(conv_block, (side, side, 4), "basic", filters=8, name="b", shortcut="pool")
    x = ramp(2, side, side, 4)
    half = (side + 1) // 2
    mean = [[x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean((1, 2)) for j in range(half)]
            for i in range(half)]  # fmt: skip
    expected = np.moveaxis(np.array(mean), 2, 0)
    averaged = named(block, "b_0_avg_pool")(x)
    np.testing.assert_allclose(averaged, expected, rtol=1e-6)


def test_squeeze_and_excitation_scales_each_channel_by_a_sigmoid_of_the_means_of_all():
    keras.utils.set_random_seed(0)
    model = model_of(squeeze_excite, (5, 6, 64), 1 / 4, name="b")
    model.set_weights([w + 0.1 for w in model.get_weights()])  # biases too
    first, b1, second, b2 = model.get_weights()
    assert first.shape == (1, 1, 64, 16)
    x = ramp(2, 5, 6, 64)
    hidden = np.maximum(x.mean((1, 2)) @ first[0, 0] + b1, 0)
    scale = 1 / (1 + np.exp(-(hidden @ second[0, 0] + b2)))
    np.testing.assert_allclose(model(x), x * scale[:, None, None], rtol=1e-5)


@pytest.mark.parametrize("branch", BRANCHES)
def test_squeeze_and_excitation_is_the_end_of_the_branch(branch):
    options = {"filters": BRANCHES[branch], "name": "b", "se_ratio": 1 / 16}
    x = ramp(2, 5, 6, 16) - 0.5
    block = model_of(identity_block, (5, 6, 16), branch, zero_gamma=False, **options)
    scaled, h = named(block, "b_se_scale", "b_add")(x)
    assert np.abs(scaled).max() > 0.01
    np.testing.assert_allclose(h, x + scaled, rtol=1e-6)
    fresh = model_of(identity_block, (5, 6, 16), branch, **options)
    np.testing.assert_array_equal(fresh(x + 0.5), x + 0.5)


@pytest.mark.parametrize(
    ("channels", "squeezed"), [(64, 8), (192, 16), (256, 16), (320, 24), (2048, 128)]
)
def test_the_squeezed_channels_are_the_nearest_multiple_of_8_as_in_timm(channels, squeezed):
    model = model_of(squeeze_excite, (2, 2, channels), 1 / 16, name="b")
    assert model.get_layer("b_se_1_conv").filters == squeezed


@pytest.mark.parametrize("ratio", [16, -0.25])
def test_a_reduction_ratio_for_a_share_is_refused(ratio):
    with pytest.raises(ValueError, match=rf"se_ratio is {ratio};.*such as 1/16"):
        identity_block(keras.Input((8, 8, 8)), "basic", filters=8, name="b", se_ratio=ratio)


def test_groups_see_their_own_channels_alone():
    block = model_of(
        identity_block, (5, 5, 16), filters=8, expansion=2, groups=4, name="b", zero_gamma=False
    )
    assert block.get_layer("b_2_conv").kernel.shape == (3, 3, 2, 8)
    assert block.get_layer("b_1_conv").groups == block.get_layer("b_3_conv").groups == 1


@pytest.mark.parametrize(("strided_conv", "strides"), [(1, (1, 1)), (2, (2, 2))])
def test_the_stride_is_in_the_convolution_asked_for(strided_conv, strides):
    block = model_of(conv_block, (8, 8, 4), filters=2, strided_conv=strided_conv, name="b")
    assert block.get_layer("b_2_conv").strides == strides
    assert block.get_layer("b_2_conv").output.shape[1:3] == (4, 4)
    assert block.get_layer("b_1_conv").output.shape[1:3] == ((4, 4), (8, 8))[strided_conv - 1]


def test_stochastic_depth_leaves_out_whole_branches_and_scales_up_the_others():
    keras.utils.set_random_seed(0)
    options = {"filters": 4, "name": "b", "zero_gamma": False}
    block = model_of(identity_block, (3, 3, 4), "preact_basic", drop_path=0.25, **options)
    without = model_of(identity_block, (3, 3, 4), "preact_basic", **options)
    without.set_weights(block.get_weights())
    x = np.repeat(ramp(1, 3, 3, 4), 400, axis=0)
    np.testing.assert_array_equal(block(x), without(x))  # at inference it is always there
    branch = np.asarray(without(x, training=True) - x)
    dropped = np.asarray(block(x, training=True) - x)
    kept = np.abs(dropped).reshape(400, -1).max(-1) > 1e-6
    assert 0.65 < kept.mean() < 0.85
    np.testing.assert_allclose(dropped[kept] * 0.75, branch[kept], atol=1e-5)


def test_a_plain_block_is_the_branch_alone():
    plain = model_of(plain_block, (5, 6, 16), "basic", filters=16, name="b")
    residual = model_of(identity_block, (5, 6, 16), "basic", filters=16, name="b", zero_gamma=False)
    residual.set_weights(plain.get_weights())
    x = ramp(2, 5, 6, 16)
    branch = named(residual, "b_2_bn")(x)
    np.testing.assert_allclose(plain(x), np.maximum(branch, 0), rtol=1e-6)
    assert np.abs(plain(x)).max() > 0.01  # no gamma of 0: nothing else would come through


def test_an_option_that_no_block_has_is_named():
    with pytest.raises(TypeError, match="dropout"):
        identity_block(keras.Input((8, 8, 8)), "basic", filters=8, name="b", dropout=0.1)


def test_a_fresh_dense_block_is_the_identity_on_a_above_0():
    block = model_of(dense_identity_block, (16,), name="b")
    a = ramp(3, 16)
    np.testing.assert_array_equal(block(a), a)


def test_a_dense_block_computes_z_plus_a():
    block = model_of(dense_identity_block, (6,), name="b", zero_last=False)
    a = ramp(3, 6) - 0.3
    w1, b1, w2, b2 = (np.asarray(w) for w in block.get_weights())
    z = np.maximum(a @ w1 + b1, 0) @ w2 + b2
    np.testing.assert_allclose(block(a), np.maximum(z + a, 0), rtol=1e-5, atol=1e-6)


def test_a_dense_projection_block_computes_z_plus_w0_a():
    block = model_of(dense_projection_block, (6,), units=4, name="b")
    a = ramp(3, 6)
    w0 = np.asarray(block.get_layer("b_0_dense").kernel)
    np.testing.assert_allclose(block(a), np.maximum(a @ w0, 0), rtol=1e-5)  # Z is 0 when fresh


def test_a_dense_plain_block_has_no_sum():
    block = model_of(dense_plain_block, (6,), units=6, name="b")
    assert not [layer for layer in block.layers if isinstance(layer, keras.layers.Add)]
    assert np.abs(block(ramp(3, 6))).max() > 0
