"""The training step, compared with Keras' layers and with a step written by hand."""

import time
from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet import build, models, recipes, specs
from keras_resnet.config import Config
from keras_resnet.data import sources
from keras_resnet.distributed.strategy import ONE
from keras_resnet.errors import InputError
from keras_resnet.models import layers_of
from keras_resnet.training import precision, step, train
from keras_resnet.training.layers import (
    FusedBatchNormalization,
    PointwiseConv2D,
    SlicedMaxPooling2D,
    for_training,
    freeze,
)
from keras_resnet.training.notices import ema_warning, few_images_warning
from keras_resnet.training.optimizer import make_optimizer
from keras_resnet.training.precision import Precision
from keras_resnet.training.step import Evaluator, TrainStep
from keras_resnet.training.train import make_step

RNG = np.random.default_rng(0)


def cross_entropy(targets, logits):
    return keras.losses.categorical_crossentropy(targets, logits, from_logits=True)


def _network(policy="float32", drop_path=0.0):
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    try:
        spec = replace(specs.SPECS["resnet8"], blocks=(1, 1), filters=(16, 32))
        return models.resnet(spec, 10, (None, None, 3), drop_path=drop_path)
    finally:
        keras.config.set_dtype_policy("float32")


def _batches(count=4, size=16, batch=8):
    images = RNG.integers(0, 256, (count, batch, size, size, 3)).astype(np.uint8)
    targets = np.eye(10, dtype="float32")[RNG.integers(0, 10, (count, batch))]
    return tf.data.Dataset.from_tensor_slices((images, targets))


def _step(model, *, rate=0.05, settings=(), **options):
    config = recipes.resolve(dict(settings))
    model.optimizer = make_optimizer(config, rate)
    return TrainStep(model, cross_entropy, **options)


# Batch norm


@pytest.mark.parametrize("xla", [False, True])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_the_fused_batch_norm_is_keras_own(policy, xla):
    """Forward, backward, the averages of mean and variance, and evaluation."""
    dtype = keras.DTypePolicy(policy)
    theirs = keras.layers.BatchNormalization(momentum=0.7, epsilon=1e-3, dtype=dtype)
    ours = FusedBatchNormalization.from_config(theirs.get_config())
    x = tf.constant(RNG.normal(2, 3, (3, 5, 4, 6)), dtype.compute_dtype)
    weight = tf.constant(RNG.normal(size=(3, 5, 4, 6)), dtype.compute_dtype)
    results = []
    for layer in (theirs, ours):
        layer.build(x.shape)
        layer.gamma.assign(np.linspace(0.5, 2, 6))
        layer.beta.assign(np.linspace(-1, 1, 6))

        @tf.function(jit_compile=xla)
        def run(x, layer=layer):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x, training=True)
                goal = tf.reduce_sum(tf.cast(y * weight, tf.float32))
            gradients = tape.gradient(goal, [x, layer.gamma.value, layer.beta.value])
            return y, *gradients

        learnt = run(x)
        assert learnt[0].dtype == x.dtype
        results.append([*learnt, layer.moving_mean, layer.moving_variance, layer(x)])
    near = {"float32": 2e-5, "mixed_bfloat16": 0.05, "mixed_float16": 0.01}[policy]
    for a, b in zip(*results, strict=True):
        a, b = (keras.ops.convert_to_numpy(keras.ops.cast(v, "float32")) for v in (a, b))
        np.testing.assert_allclose(b, a, rtol=near, atol=near * np.abs(a).max())


def test_a_frozen_batch_norm_keeps_its_statistics_and_passes_gradients():
    x = tf.constant(RNG.normal(2, 3, (3, 5, 4, 6)), tf.float32)
    results = []
    for kind in (keras.layers.BatchNormalization, FusedBatchNormalization):
        layer = kind(trainable=False)
        layer.build(x.shape)
        layer.moving_variance.assign(np.linspace(0.5, 2, 6))
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        results.append([y, tape.gradient(y, x), layer.moving_mean, layer.moving_variance])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("freezes", [False, True])
def test_freeze_bn_freezes_the_batch_norms_and_nothing_else(freezes):
    config, source = Config(freeze_bn=freezes), SimpleNamespace(classes=["a", "b"])
    network = train._network(config, source, Precision("float32", ""), None, ONE, _network())
    kinds = {(type(x).__name__, x.trainable) for x in network.layers if x.weights}
    assert kinds == {("Conv2D", True), ("Dense", True), ("BatchNormalization", not freezes)}


def test_freezing_a_stage_freezes_all_layers_up_to_its_last():
    network = build("resnet8", 3, (16, 16, 3))
    freeze(network, "conv3")
    stages = {True: set(), False: set()}
    for layer in network.layers:
        if layer.weights:
            stages[layer.trainable].add(layer.name.split("_")[0])
    assert stages == {False: {"conv1", "conv2", "conv3"}, True: {"conv4", "logits"}}


def test_other_shapes_and_options_are_left_to_keras():
    for shape, options in (((4, 6), {}), ((4, 6, 5, 3), {"axis": 1}), ((4, 6), {"center": False})):
        x = RNG.normal(size=shape).astype("float32")
        expected = keras.layers.BatchNormalization(**options)(x, training=True)
        np.testing.assert_array_equal(
            FusedBatchNormalization(**options)(x, training=True), expected
        )


@pytest.mark.parametrize("xla", [False, True])
@pytest.mark.parametrize(
    ("pool", "shape"), [(3, (9, 11)), (3, (8, 8)), (1, (8, 7)), (2, (8, 7)), (2, (9, 9))]
)
def test_pooling_in_training_is_keras_max_pooling(pool, shape, xla):
    x = tf.constant(RNG.normal(size=(2, *shape, 4)), tf.float32)
    results = []
    image = keras.Input((None, None, 4))
    model = keras.Model(image, keras.layers.MaxPooling2D(pool, 2)(image))
    swapped = for_training(model, xla=xla)
    kind = SlicedMaxPooling2D if xla else {1: keras.layers.AveragePooling2D}.get(pool)
    assert isinstance(swapped.layers[-1], kind or keras.layers.MaxPooling2D)
    for layer in (model, swapped):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            goal = tf.reduce_sum(y * y)
        results.append((y, tape.gradient(goal, x)))
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("options", [{}, {"use_bias": False}, {"activation": "relu"}])
def test_a_pointwise_convolution_is_keras_own(options):
    rng = np.random.default_rng(1)
    x = tf.constant(rng.normal(size=(2, 5, 4, 6)), tf.bfloat16)
    weight = tf.constant(rng.normal(size=(2, 5, 4, 8)), tf.bfloat16)
    image = keras.Input((None, None, 6), dtype="bfloat16")
    layer = keras.layers.Conv2D(8, 1, dtype="mixed_bfloat16", **options)
    model = keras.Model(image, layer(image))
    for variable in model.weights:
        variable.assign(rng.normal(size=variable.shape))
    results = []
    for each in (model, for_training(model)):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = each(x)
        variables = [v.value for v in each.trainable_variables]
        results.append([y, *tape.gradient(y, [x, *variables], weight)])
    assert type(each.layers[-1]) is PointwiseConv2D
    names = ("y", "x", "kernel", "bias")[: len(results[0])]
    for name, a, b in zip(names, *results, strict=True):
        assert a.dtype == b.dtype
        if name != "kernel":
            np.testing.assert_array_equal(np.float32(b), np.float32(a), err_msg=name)
    # Keras' own sum over the pixels, of 8 bits, is further from the product in float64 than ours.
    dy = np.float64(weight) * (np.float64(y) > 0 if "activation" in options else 1)
    exact = np.einsum("bhwc,bhwf->cf", np.float64(x), dy)
    ours = np.float64(results[1][2])[0, 0]
    np.testing.assert_allclose(ours, exact, atol=2**-6 * np.abs(exact).max())


def test_other_convolutions_are_left_to_keras():
    image = keras.Input((8, 8, 6))
    for options in (
        {"kernel_size": 3}, {"strides": 2}, {"groups": 2}, {"dtype": "float32"},
    ):  # fmt: skip
        conv = {"filters": 8, "kernel_size": 1, "dtype": "mixed_bfloat16"} | options
        model = for_training(keras.Model(image, keras.layers.Conv2D(**conv)(image)))
        assert type(model.layers[-1]) is keras.layers.Conv2D


def test_fifty_steps_have_the_losses_that_they_have_with_keras_layer():
    batches = _batches(50)
    losses = [
        _step(model, rate=0.01)(iter(batches), 50).loss
        for model in (_network(), for_training(_network()))
    ]
    np.testing.assert_allclose(losses[0], losses[1], atol=1e-4)
    assert losses[0][-1] != losses[0][0]


def test_biases_that_a_batch_norm_subtracts_are_not_trained_and_nothing_changes():
    """Their gradient is 0 with Keras' layers too, up to rounding; other biases are trained."""
    spec = replace(specs.SPECS["resnet50_v1"], blocks=(1, 1), filters=(16, 32))
    theirs = models.resnet(spec, 10, (None, None, 3))
    ours = for_training(theirs)
    biases = [layer.bias for layer in theirs.layers if isinstance(layer, keras.layers.Conv2D)]
    left = [v for v in ours.trainable_variables if v.name == "bias"]
    assert len(biases) == 8 and [v.shape for v in left] == [(10,)]  # that of the head
    batches = _batches(6, size=32)
    images, targets = next(iter(batches))
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(cross_entropy(targets, theirs(images, training=True)))
    kernels = [layer.kernel for layer in theirs.layers if isinstance(layer, keras.layers.Conv2D)]
    of_kernels, of_biases = tape.gradient(
        loss, [[v.value for v in kernels], [v.value for v in biases]]
    )
    assert tf.linalg.global_norm(of_biases) < 1e-5 * tf.linalg.global_norm(of_kernels)
    losses = [_step(model, rate=0.01)(iter(batches), 6).loss for model in (theirs, ours)]
    np.testing.assert_allclose(losses[0], losses[1], atol=1e-4)
    assert losses[0][-1] != losses[0][0]


def _biased(after, **conv):
    """The bias, in training, of a convolution that `after` applies to an image."""
    image = keras.Input((8, 8, 3))
    layer = keras.layers.Conv2D(4, 3, name="conv", **conv)
    model = for_training(keras.Model(image, after(layer, image)))
    return model.get_layer("conv").bias


def test_a_bias_that_changes_the_result_is_trained():
    norm = keras.layers.BatchNormalization
    assert not _biased(lambda conv, x: norm()(conv(x))).trainable
    assert not _biased(lambda conv, x: norm()(conv(x)) + norm()(conv(2 * x))).trainable
    cases = {
        "nothing follows": lambda conv, x: conv(x),
        "frozen": lambda conv, x: norm(trainable=False)(conv(x)),
        "as in inference": lambda conv, x: norm()(conv(x), training=False),
        "of another axis": lambda conv, x: norm(axis=1)(conv(x)),
        "added elsewhere": lambda conv, x: norm()(y := conv(x)) + y,
        "called twice": lambda conv, x: norm()(conv(x)) + conv(2 * x),
        "a result too": lambda conv, x: [norm()(y := conv(x)), y],
        "something between": lambda conv, x: norm()(keras.layers.ReLU()(conv(x))),
    }
    for name, after in cases.items():
        assert _biased(after).trainable, name
    assert _biased(lambda conv, x: norm()(conv(x)), activation="relu").trainable
    line = [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3), keras.layers.Flatten()]
    assert for_training(keras.Sequential(line)).layers[0].bias.trainable


def test_the_network_in_training_is_the_same_network_of_other_layers(monkeypatch):
    """Also a network of more than a hundred blocks, which consists of parts."""
    for name, part in (("resnet8", 50), ("resnet18_v2", 50), ("resnet20", 2)):
        monkeypatch.setattr(models, "PART", part)
        model = build(name, 10, (32, 32, 3))
        assert any(isinstance(layer, keras.Model) for layer in model.layers) == (part == 2)
        layers_of(model)[2].trainable = False
        copy = for_training(model)
        assert [v.shape for v in copy.weights] == [v.shape for v in model.weights]
        assert not any(type(x) is keras.layers.BatchNormalization for x in layers_of(copy))
        assert not layers_of(copy)[2].trainable and layers_of(copy)[3].trainable
        for a, b in zip(model.weights[:20], copy.weights[:20], strict=True):
            np.testing.assert_array_equal(a, b)


# Steps


def test_the_seconds_of_input_are_those_of_the_wait_for_all_batches():
    """Not those of the step."""

    def batches():
        for i in range(3):
            time.sleep(0.1)
            yield float(i)

    def one(batch):
        row = tf.numpy_function(lambda x: time.sleep(0.4) or np.full(5, x), [batch], tf.float32)
        return tf.ensure_shape(row, (5,))

    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False  # else it reads during the steps
    stream = tf.data.Dataset.from_generator(batches, output_signature=tf.TensorSpec(()))
    rows, waited = tf.function(step._repeat(one))(
        iter(stream.with_options(options)), tf.constant(3)
    )
    assert rows.numpy()[:, 0].tolist() == [0, 1, 2]
    assert 0.3 <= waited < 1.2  # the steps take 1.2 s


def test_regularizers_and_constraints_of_a_network_act_as_in_keras():
    def network():
        keras.utils.set_random_seed(0)
        l2, most = keras.regularizers.L2, keras.constraints.MaxNorm(0.5)
        return keras.Sequential([
            keras.Input((16, 16, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(4, 3, kernel_regularizer=l2(0.1), activity_regularizer=l2(1e-4)),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(10, kernel_constraint=most),
        ])  # fmt: skip

    theirs, ours = network(), network()
    theirs.compile(keras.optimizers.SGD(0.05), keras.losses.CategoricalCrossentropy(True))
    plain = {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0}
    one, batches = _step(ours, settings=plain), _batches().repeat(2)
    losses = [float(theirs.train_on_batch(*batch)) for batch in batches.as_numpy_iterator()]
    found = [float(one(iter([batch])).loss[0]) for batch in batches]
    for a, b in zip(theirs.get_weights(), ours.get_weights(), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-6)
    assert found == pytest.approx(losses, rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({}, {}),
        ({"accumulate": 2}, {"ema": 0.9}),
        ({"optimizer": "lamb"}, {}),
        ({}, {"xla": True}),
        pytest.param({"accumulate": 2}, {"xla": True}, marks=pytest.mark.slow),
        pytest.param({"optimizer": "lamb"}, {"xla": True}, marks=pytest.mark.slow),
    ],
)
def test_steps_in_one_call_are_the_steps_of_many_calls(settings, options):
    """Bit for bit: how many fit into a call is the machine's affair."""
    batches = _batches(6)
    train = _step(for_training(_network(drop_path=0.2)), settings=settings, **options)
    variables = [v for group in train.state.values() for v in group]
    first = [v.numpy() for v in variables]
    states, losses = [], []
    for counts in ((1, 1, 1, 1, 1, 1), (4, 2), (6,)):
        for variable, value in zip(variables, first, strict=True):
            variable.assign(value)
        own = iter(batches)
        losses.append(np.concatenate([train(own, n).loss for n in counts]))
        states.append([v.numpy() for v in variables])
    assert any(not np.array_equal(a, b) for a, b in zip(first, states[0], strict=True))
    for other in (1, 2):
        np.testing.assert_array_equal(losses[0], losses[other])
        for a, b in zip(states[0], states[other], strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_step_tells_loss_accuracy_gradient_and_rate():
    model, batches = _network(), _batches(1)
    (images, targets) = next(iter(batches))
    with tf.GradientTape() as tape:
        logits = model(images, training=True)
        loss = tf.reduce_mean(cross_entropy(targets, logits))
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    told = _step(for_training(_network()))(iter(batches))
    assert told.loss[0] == pytest.approx(float(loss), rel=1e-5)
    assert told.cross_entropy[0] == pytest.approx(float(loss), rel=1e-5)
    assert told.gradient_norm[0] == pytest.approx(float(tf.linalg.global_norm(gradients)), rel=1e-4)
    assert told.top1[0] == np.mean(np.argmax(logits, -1) == np.argmax(targets, -1))
    assert told.learning_rate[0] == pytest.approx(0.05)
    assert told.seconds_of_input >= 0


@pytest.mark.parametrize(  # without and with a max-pool
    "name", ["resnet8", pytest.param("resnet18", marks=pytest.mark.slow)]
)
def test_xla_takes_the_same_steps(name):
    spec = replace(specs.SPECS[name], blocks=(1, 1), filters=(16, 32))
    model, batches = models.resnet(spec, 10, (None, None, 3)), _batches(3, size=32)
    plain, xla = (
        _step(for_training(model, xla=xla), rate=0.01, xla=xla)(iter(batches), 3)
        for xla in (False, True)
    )
    np.testing.assert_allclose(xla.loss, plain.loss, rtol=1e-3)


def test_a_step_whose_gradient_overflows_changes_nothing_but_the_loss_scale():
    train = _step(for_training(_network("mixed_float16")), loss_scale=True)
    batches = _batches(3)
    assert np.isfinite(train(iter(batches)).gradient_norm).all()
    before = [v.numpy() for v in train.model.trainable_variables]
    train.scale.assign(1e38)
    scale = train.scale.numpy()
    train(iter(batches))
    assert train.scale.numpy() == scale / 2
    for a, b in zip(before, train.model.trainable_variables, strict=True):
        np.testing.assert_array_equal(a, b)
    assert train.loss_scale_problem() is None
    train.scale.assign(0.5)
    assert "collapsed to 0.5" in train.loss_scale_problem()


def test_the_loss_scale_grows_after_so_many_good_steps(monkeypatch):
    monkeypatch.setattr(step, "_GROWTH_STEPS", 2)
    train = _step(for_training(_network("mixed_float16")), loss_scale=True)
    before = float(train.scale.numpy())
    train(iter(_batches(4)), 3)
    assert train.scale.numpy() == 2 * before
    train.scale.assign(1e38)
    train(iter(_batches(1)))  # it overflows: the good steps are counted anew
    train.scale.assign(before)
    train(iter(_batches(1)))
    assert train.scale.numpy() == before
    train(iter(_batches(1)))
    assert train.scale.numpy() == 2 * before


# Averages


def test_the_average_is_of_weights_and_statistics_and_its_momentum_rises():
    train = _step(for_training(_network()), ema=0.5)
    expected = [w.numpy() for w in train.model.weights]
    own = iter(_batches(8))
    for t in range(1, 9):
        train(own)
        momentum = min(0.5, (1 + t) / (10 + t))
        expected = [
            momentum * average + (1 - momentum) * w.numpy()
            for average, w in zip(expected, train.model.weights, strict=True)
        ]
    names = [w.name for w in train.model.weights]
    assert "moving_variance" in names
    for average, value in zip(train.average, expected, strict=True):
        np.testing.assert_allclose(average.numpy(), value, rtol=1e-4, atol=1e-6)


def test_weights_that_are_integers_are_not_averaged():
    """The count of an adapted `Normalization`."""
    normalization = keras.layers.Normalization()
    normalization.adapt(RNG.normal(size=(8, 16, 16, 3)))
    model = keras.Sequential([
        keras.Input((16, 16, 3)), normalization, keras.layers.Flatten(), keras.layers.Dense(10),
    ])  # fmt: skip
    train = _step(model, ema=0.9)
    train(iter(_batches(count=1)))
    for average, weight in zip(train.average, model.weights, strict=True):
        assert average.dtype.is_floating or np.array_equal(average, weight)
    assert not all(average.dtype.is_floating for average in train.average)


def test_the_momentum_of_the_average_is_that_of_an_update():
    """After as many updates the average is as near to weights that stay where they are."""
    left = []
    for accumulate in (1, 4):
        settings = {"accumulate": accumulate, "weight_decay": 0.0}
        train = _step(_network(), ema=0.9, settings=settings)
        train.optimizer.learning_rate = 0.0
        train.optimizer.iterations.assign(1000)  # the momentum has risen
        first = train.average[0]
        first.assign(first + 1)
        train(iter(_batches(3 * accumulate)), 3 * accumulate)
        left.append(np.mean(first.numpy() - train.model.weights[0].numpy()))
    np.testing.assert_allclose(left, 0.9**3, rtol=1e-3)


def test_an_average_longer_than_the_run_is_warned_of():
    config = recipes.resolve({"ema": 0.999, "epochs": 10, "batch_size": 32})
    assert "averages over 1,000 updates, but the run has only 450" in ema_warning(config, 1438)
    few = recipes.resolve({"ema": 0.9, "epochs": 1, "batch_size": 32})
    assert ema_warning(few, 160).endswith("the run has only 5; train longer, or without --ema")
    long = recipes.resolve({"ema": 0.99999, "epochs": 100, "batch_size": 32})
    assert ema_warning(long, 1600).endswith("5,000; try 0.998")
    assert ema_warning(recipes.resolve({"ema": 0.9}), 1438) is None
    assert ema_warning(recipes.resolve(), 1438) is None


def test_few_validation_images_are_warned_of():
    said = few_images_warning(6, recipes.resolve())
    assert said.startswith("few validation images: one of 6 is 16.7 points of top-1")
    assert few_images_warning(50, recipes.resolve()) is None
    assert few_images_warning(6, recipes.resolve({"split_file": "fold-1.json"})) is None


# Evaluation


def test_evaluation_counts_every_image_and_every_class_once():
    model = _network()
    images = RNG.integers(0, 256, (11, 16, 16, 3)).astype(np.uint8)
    labels = np.array([0] * 8 + [1] * 2 + [4])
    batches = tf.data.Dataset.from_tensor_slices((images, labels.astype("int32"))).batch(4)
    evaluator, weights = Evaluator(for_training(model), batches), [w.value for w in model.weights]
    found = evaluator(weights)
    assert evaluator(weights) == found
    logits = model.predict(images, verbose=0)
    correct = logits.argmax(-1) == labels
    expected = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits)
    assert found.loss == pytest.approx(float(expected), rel=1e-5)
    assert found.top1 == pytest.approx(correct.mean())
    assert found.macro_top1 == pytest.approx(
        np.mean([correct[labels == k].mean() for k in (0, 1, 4)])
    )


# What is settled before a run begins


def test_a_run_is_deterministic_and_without_xla_on_a_cpu():
    settled = precision.resolve_xla(recipes.resolve())
    assert settled.deterministic and not settled.xla
    assert "bit for bit" in precision.describe(settled)


def test_on_a_gpu_speed_comes_first_and_is_said(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["a GPU"])
    settled = precision.resolve_xla(recipes.resolve())
    assert settled.xla and not settled.deterministic
    assert "--deterministic makes runs bit-for-bit reproducible" in precision.describe(settled)
    exact = precision.resolve_xla(recipes.resolve({"deterministic": True}))
    assert exact.deterministic and not exact.xla
    assert not precision.resolve_xla(recipes.resolve(), devices=2).xla
    with pytest.raises(InputError, match="--xla is not deterministic on a GPU"):
        precision.resolve_xla(recipes.resolve({"deterministic": True, "xla": True}))
    with pytest.raises(InputError, match="--xla works on one device, not on 2"):
        precision.resolve_xla(recipes.resolve({"xla": True}), devices=2)


def test_a_layer_that_xla_cannot_compile_goes_without_it(monkeypatch):
    """Keras compiles no network with such a layer either."""
    layers = [keras.Input((8, 8, 3)), keras.layers.RandomRotation(0.1), keras.layers.Flatten()]
    inner = keras.Sequential(layers)
    plain, turning = keras.Sequential(layers[::2]), keras.Sequential([layers[0], inner])
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["a GPU"])
    assert precision.resolve_xla(recipes.resolve(), network=plain).xla
    assert not precision.resolve_xla(recipes.resolve(), network=turning).xla
    with pytest.raises(
        InputError, match=r"layer 'random_rotation\w*' \(RandomRotation\); use --no"
    ):
        precision.resolve_xla(recipes.resolve({"xla": True}), network=turning)


def test_no_state_of_a_step_is_int32():
    """TensorFlow keeps int32 in the CPU's memory, where a step that XLA compiled for a GPU cannot
    read it."""
    train = _step(_network(), settings={"accumulate": 2}, loss_scale=True, ema=0.9)
    kinds = {v.dtype for group in train.state.values() for v in group}
    assert tf.int64 in kinds and tf.int32 not in kinds


def test_the_step_of_a_run_is_made_of_its_settings():
    source = sources.load("digits")
    config = recipes.resolve({"model": "resnet8", "ema": 0.9, "accumulate": 2, "clip_norm": 1.0})
    train = make_step(
        _network("mixed_float16"), config, source, 0.1, Precision("mixed_float16", "")
    )
    assert train.scales_loss and train.ema == 0.9 and train.average
    assert (train.optimizer.accumulate, train.optimizer.clip_norm) == (2, 1.0)
    assert train.model.optimizer is train.optimizer
