"""Any Keras image classifier goes through the gate."""

import json
import shutil
import warnings
from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_resnet as kr
from keras_resnet import models, shipping
from keras_resnet.config import Config
from keras_resnet.errors import InputError
from keras_resnet.evaluation.lite import Constant
from keras_resnet.exporting import weights_check
from keras_resnet.exporting.given import run_and_plan
from keras_resnet.exporting.judge import Judge
from keras_resnet.recipes import resolve
from keras_resnet.run import Run
from keras_resnet.state import isolated
from keras_resnet.training import custom
from keras_resnet.training.layers import for_training
from keras_resnet.training.precision import Precision
from keras_resnet.training.train import make_step
from keras_resnet.weights import settings as weights_settings
from keras_resnet.weights.classifier import classifier

SIDE, CLASSES = 24, ["bright", "dark", "striped"]
SQUARE, GREY = (SIDE, SIDE, 3), (16, 32, 1)


def foreign(end="softmax", *, shape=SQUARE, inside=True, policy="float32"):
    """A small net with the layers of MobileNetV3 and EfficientNet."""
    with isolated():
        keras.config.set_dtype_policy(policy)
        keras.utils.set_random_seed(0)
        image = keras.Input(shape, name="picture")
        x = layers.Rescaling(1 / 127.5, -1)(image) if inside else image
        x = layers.Conv2D(8, 3, 2, "same", use_bias=False)(x)
        x = y = layers.Activation("swish")(layers.BatchNormalization()(x))
        x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
        x = layers.Activation("hard_silu")(layers.BatchNormalization()(x))
        squeezed = layers.GlobalAveragePooling2D(keepdims=True)(x)
        squeezed = layers.Conv2D(8, 1, activation="sigmoid")(layers.Conv2D(4, 1)(squeezed))
        x = layers.Add()([layers.Multiply()([x, squeezed]), y])
        x = layers.Concatenate()([x, layers.SeparableConv2D(4, 3, padding="same")(y)])
        x = layers.Dropout(0.1)(layers.GlobalAveragePooling2D()(ops.relu(x)))
        if end in ("softmax", "sigmoid", "linear"):
            x = layers.Dense(3, activation=end, dtype="float32")(x)
        elif end == "flattened":
            x = layers.Dense(3)(x)
            x = layers.Dropout(0.1)(layers.Softmax(dtype="float32")(layers.Flatten()(x)))
        else:  # operations that are no layers
            x = ops.exp(layers.Dense(3, dtype="float32")(x))
            x = x / ops.sum(x, -1, keepdims=True)
        model = keras.Model(image, x, name="foreign")
        rng = np.random.default_rng(0)
        for weight in model.weights:  # batch norms that do something
            if "moving" in weight.name or "gamma" in weight.name:
                weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    return model


def noise(shape=SQUARE):
    return np.random.default_rng(1).uniform(0, 255, (4, *shape)).astype(np.float32)


def probabilities(model, images):
    return np.asarray(ops.softmax(model(images)))


@pytest.mark.parametrize("shape", [SQUARE, GREY, (32, 16, 3)])
@pytest.mark.parametrize("end", ["softmax", "flattened", "operations"])
def test_the_softmax_of_a_model_is_taken_off_and_its_answers_stay(end, shape):
    model, images = foreign(end, shape=shape), noise(shape)
    found = classifier(model, "FILE")
    assert found.model.input_shape == (None, *shape)
    logits = np.asarray(found.model(images))
    assert not np.allclose(logits.sum(-1), 1)
    np.testing.assert_allclose(probabilities(found.model, images), model(images), rtol=1e-4)
    (note,) = found.notes
    assert ("logarithm" in note) == (end == "operations"), note


@pytest.mark.parametrize("shared", [layers.Softmax(), layers.Dense(3, activation="softmax")])
def test_a_layer_that_is_the_softmax_and_is_used_elsewhere_too_stays_one(shared):
    image = keras.Input(SQUARE)
    x = layers.Dense(3)(layers.GlobalAveragePooling2D()(layers.Rescaling(1 / 255)(image)))
    model = keras.Model(image, shared(layers.Multiply()([x, shared(x)])))
    found = classifier(model, "FILE")
    np.testing.assert_allclose(probabilities(found.model, noise()), model(noise()), rtol=1e-4)
    assert "a logarithm was added" in found.notes[0]


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("side", [SIDE, SIDE + 1])
def test_a_strided_1x1_convolution_becomes_a_pooling_and_one_without(padding, side):
    """Two branches of one shape, whose order among the layers must not matter."""
    image = keras.Input((side, side, 3))
    x = layers.Conv2D(4, 3, 2, "same")(layers.Rescaling(1 / 255)(image))
    skip = layers.Conv2D(4, 1, 2, padding, name="skip")
    own = keras.Sequential([layers.Conv2D(4, 1, (1, 2), padding), layers.Conv2D(4, 1, (2, 1))])
    x = layers.Concatenate()([skip(x), own(x), skip(ops.relu(x))])
    x = layers.Conv2D(4, 1)(x)  # stays as it is
    model = keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    for weight in model.weights:
        weight.assign(np.random.default_rng(len(weight.path)).normal(size=weight.shape))
    found = classifier(model, "it").model
    strides = [x.strides for x in models.layers_of(found) if isinstance(x, layers.Conv2D)]
    assert sorted(strides) == [(1, 1)] * 4 + [(2, 2)]
    kinds = [type(layer) for layer in models.layers_of(found)]
    assert kinds.count(layers.MaxPooling2D) == 3
    images = noise((side, side, 3))
    np.testing.assert_array_equal(found(images), model(images))


def test_a_pooling_gets_a_name_that_is_free():
    image = keras.Input(SQUARE)
    x = layers.Conv2D(4, 1, strides=2, name="c")(image)
    x = layers.MaxPooling2D(2, name="c_pool")(x)
    model = keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    found = classifier(model, "it").model
    np.testing.assert_array_equal(found(noise()), model(noise()))


@pytest.mark.parametrize("end", ["linear", "softmax"])
def test_small_logits_are_not_taken_for_those_of_several_labels(end):
    """As of a network that is hardly trained."""
    model = foreign(end)
    kernel, _ = model.layers[-1].weights
    model.layers[-1].set_weights([kernel / 100, np.full(3, 0.5)])
    found = classifier(model, "FILE").model(noise())
    assert np.min(found) > 0 and np.max(found) < 1
    expected = model(noise())
    np.testing.assert_allclose(ops.softmax(found) if end == "softmax" else found, expected, 1e-5)


def test_logits_stay_as_they_are():
    model = foreign("linear")
    found = classifier(model, "FILE")
    np.testing.assert_array_equal(found.model(noise()), model(noise()))
    assert found.notes == []


@pytest.mark.parametrize("normalize", ["tf", "imagenet", "caffe", "120/60"])
def test_preprocessing_outside_of_a_model_becomes_its_first_layers(normalize):
    model = foreign("linear", inside=False)
    found = classifier(model, "FILE", normalize=normalize)
    if normalize == "120/60":
        pixels = (noise() - 120) / 60
    else:
        mode = {"tf": "tf", "imagenet": "torch", "caffe": "caffe"}[normalize]
        pixels = keras.applications.imagenet_utils.preprocess_input(noise(), mode=mode)
    np.testing.assert_allclose(found.model(noise()), model(pixels), rtol=1e-3, atol=1e-4)
    assert found.notes == []


def test_preprocessing_of_grey_pixels_becomes_the_first_layer():
    model = foreign("linear", shape=GREY, inside=False)
    found = classifier(model, "FILE", normalize="120/60")
    expected = model((noise(GREY) - 120) / 60)
    np.testing.assert_allclose(found.model(noise(GREY)), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("shape", "said"), [(SQUARE, "takes RGB in"), (GREY, "takes grey in")])
def test_a_model_without_preprocessing_is_said_to_take_raw_pixels(shape, said):
    (note,) = classifier(foreign("linear", shape=shape, inside=False), "FILE").notes
    assert f"assuming that it {said} [0, 255]" in note and "--normalize" in note
    assert ("BGR" in note) == (shape == SQUARE)


@pytest.mark.parametrize("scale", [1 / 255, 1e6])
@pytest.mark.parametrize("policy", ["float16", "bfloat16"])
def test_a_softmax_that_is_rounded_or_no_number_is_not_called_another(policy, scale):
    with isolated():
        keras.utils.set_random_seed(0)  # other weights may round the two largest logits to one
        keras.config.set_dtype_policy(policy)
        parts = [layers.Rescaling(scale), layers.Flatten(), layers.Dense(40, "softmax")]
        model = keras.Sequential([keras.Input(SQUARE), *parts])
    assert "float32" in classifier(model, "FILE").notes[0]


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_becomes_the_same_weights_in_float32(policy):
    model, reference = foreign("linear", policy=policy), foreign("linear")
    reference.set_weights(model.get_weights())
    found = classifier(model, "FILE")
    assert {layer.compute_dtype for layer in found.model.layers} == {"float32"}
    np.testing.assert_array_equal(found.model(noise()), reference(noise()))
    assert "float32" in found.notes[0]


def normalizing(images):
    """A model whose first layer has adapted its mean and variance."""
    normalization = layers.Normalization()
    normalization.adapt(images)
    image = keras.Input(SQUARE)
    x = layers.Conv2D(4, 1, strides=2)(normalization(image))
    return keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


def test_an_adapted_normalization_stays_adapted_in_the_copy_and_in_training():
    model = normalizing(noise() / 3)
    found = classifier(model, "FILE").model
    np.testing.assert_allclose(found(noise()), model(noise()), rtol=1e-5)
    np.testing.assert_allclose(for_training(found)(noise()), model(noise()), rtol=1e-5)


@keras.saving.register_keras_serializable("tests")
class Pair(layers.Layer):
    """Two layers; `offset` is neither a weight nor in the settings."""

    offset = 0.0

    def __init__(self, **options):
        super().__init__(**options)
        self.first, self.second = layers.Conv2D(4, 3, 2), layers.Conv2D(4, 3, 2)

    def build(self, shape):
        self.first.build(shape)
        self.second.build(self.first.compute_output_shape(shape))

    def call(self, images):
        return self.second(self.first(images)) + self.offset


def test_a_copy_that_gives_other_scores_is_refused():
    model = keras.Sequential([keras.Input(SQUARE), Pair(), layers.Flatten(), layers.Dense(3)])
    classifier(model, "FILE")
    model.layers[0].offset = 1e4
    refusal = "cannot be copied: a copy with its weights gives different"
    with pytest.raises(InputError, match=refusal):
        classifier(model, "FILE")


def ending(end, named=False):
    image = keras.Input((SIDE, SIDE, 3))
    output = end(layers.Conv2D(3, 3, name="end")(image))
    return keras.Model(image, {"end": output} if named else output)


def quantized():
    model = foreign()
    with warnings.catch_warnings():  # for each layer that it cannot quantize
        warnings.simplefilter("ignore")
        model.quantize("int8")
    return model


REFUSED = {
    "a dict": (lambda: ending(layers.Flatten(), named=True), {}, r"gives a dict \(end\)"),
    "a map": (lambda: ending(layers.ReLU()), {}, r"outputs of shape \(None, 22, 22, 3\)"),
    "one logit": (
        lambda: keras.Sequential([ending(layers.Flatten()), layers.Dense(1)]),
        {}, r"outputs of shape \(None, 1\)",
    ),
    "a sigmoid": (lambda: foreign("sigmoid"), {}, "ends in a sigmoid"),
    "a sigmoid that is no layer": (
        lambda: ending(lambda x: ops.sigmoid(layers.Dense(3)(layers.Flatten()(x)))), {},
        "that do not add up to 1, as multi-label",
    ),
    "a network quantized by Keras": (quantized, {}, r"give the model before model\.quantize"),
    "two channels": (
        lambda: foreign(shape=(24, 24, 2), inside=False), {}, "takes images of 2 channels; 3 .RGB.",
    ),
    "channels first": (
        lambda: keras.Sequential(
            [layers.Input((3, 24, 32)), layers.Flatten(), layers.Dense(3)]
        ),
        {}, r"shape \(3, 24, 32\), channels first; put keras.layers.Permute\(\(3, 1, 2\)\) before",
    ),
    "other channels": (
        lambda: foreign(), {"channels": 1}, "--channels is 1, but FILE takes images of 3; leave",
    ),
    "grey as BGR": (
        lambda: foreign(shape=GREY, inside=False), {"normalize": "caffe"},
        "--normalize caffe is for BGR, and FILE takes grey images; give MEAN/STD",
    ),
    "any size": (
        lambda: foreign(shape=(None, None, 3)), {}, "takes images of any size; give it in pixels",
    ),
    "no size": (
        lambda: foreign(shape=(None, None, 3)), {"image_size": "64*128"},
        r"--image-size is '64\*128'; expected a number of pixels, or HEIGHTxWIDTH",
    ),
    "another size": (
        lambda: foreign(), {"image_size": 32}, "--image-size is 32, but FILE takes 24×24 pixels",
    ),
    "another width": (
        lambda: foreign(shape=(None, 32, 3)), {"image_size": 16}, "FILE takes any×32 pixels; give",
    ),
    "two outputs": (
        lambda: keras.Model(
            (x := layers.Input((24, 24, 3))), [layers.Flatten()(x), layers.Flatten()(x)]
        ),
        {}, "has 1 inputs and 2 outputs",
    ),
    "a lambda": (
        lambda: keras.Sequential(
            [layers.Input((24, 24, 3)), layers.Lambda(lambda x: x[:, 0, 0] * 2)]
        ),
        {}, "a Lambda layer must be replaced by one",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "options", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_exported_is_one_line(make, options, said):
    keras.utils.set_random_seed(1)  # of three sigmoids, one alone may be near 1 for all images
    with pytest.raises(InputError, match=said) as error:
        classifier(make(), "FILE", **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("free", "size", "shape"),
    [
        ((None, None, 3), SIDE, SQUARE),
        ((None, None, 1), "16x32", GREY),
        ((None, 32, 3), "16X32", (16, 32, 3)),
    ],
)
def test_a_model_of_any_size_takes_the_size_that_is_given(free, size, shape):
    model = foreign("linear", shape=free)
    found = classifier(model, "FILE", image_size=size)
    assert found.model.input_shape == (None, *shape)
    np.testing.assert_array_equal(found.model(noise(shape)), model(noise(shape)))


def test_a_permutation_in_front_takes_in_a_model_with_channels_first():
    first = keras.Sequential([layers.Input((3, 16, 32)), layers.Flatten(), layers.Dense(3)])
    shape = 16, 32, 3
    model = keras.Sequential([layers.Input(shape), layers.Permute((3, 1, 2)), first])
    np.testing.assert_array_equal(
        classifier(model, "FILE").model(noise(shape)), first(noise(shape).transpose(0, 3, 1, 2))
    )


def test_a_file_becomes_a_run_whose_int8_and_float32_pass(command, photos, tmp_path):
    foreign(inside=False).save(tmp_path / "net.keras")
    done = command(
        "export", "net.keras", "--data", photos, "--normalize", "caffe", "--tflite", "--quantize",
        "none", "--quantize", "int8", "--max-drop", 100, "--json", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["artefacts"]
    assert [row["file"] for row in rows] == ["model_float32.tflite", "model_int8.tflite"]
    assert all(row["passed"] and row["top1"] is not None for row in rows)
    run = kr.open_run(tmp_path / "runs" / "net-data-001")
    assert run.classes == CLASSES and run.config.side == SIDE
    assert f"imported into {run.path.relative_to(tmp_path)}" in done.stderr
    assert kr.verify(run, max_drop=100).passed
    done = command("verify", "net.keras", cwd=tmp_path)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "`keras-resnet export net.keras --data DATA` creates a run" in done.stderr


def test_a_failed_import_leaves_nothing_behind(command, photos, tmp_path):
    foreign().save(tmp_path / "net.keras")
    (tmp_path / "labels.txt").write_text("light\ndark\nstriped\n")
    options = ["--data", photos, "--labels", "labels.txt"]
    done = command("export", "net.keras", *options, cwd=tmp_path)
    assert done.returncode == 2 and "has a class 'bright'" in done.stderr
    done = command("export", "net.keras", "--data", photos, "--io", "uint8", cwd=tmp_path)
    assert done.returncode == 2 and "add --quantize int8" in done.stderr
    assert not list((tmp_path / "runs").iterdir())
    done = command("export", "net.keras", cwd=tmp_path)
    assert done.returncode == 2 and "give --data DATA" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_labels_may_be_an_array(tmp_path):
    run = kr.import_model(foreign(), labels=np.array(CLASSES), run_folder=tmp_path / "run")
    assert run.classes == CLASSES


@pytest.mark.parametrize("name", ["a\nb", "a\rb", 7])
def test_names_are_lines_of_text(name):
    with pytest.raises(InputError, match="expected names without line breaks"):
        kr.import_model(foreign(), labels=[name, "dark", "striped"])


def test_names_that_are_too_few_are_listed(tmp_path):
    line = (
        r"labels has 2 names \(bright, dark\), but the model 'foreign' has 3 classes; give one name"
        " for each output"
    )
    with pytest.raises(InputError, match=line):
        kr.import_model(foreign(), labels=CLASSES[:2], run_folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_import_that_ctrl_c_ended_leaves_nothing_behind(photos, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Run, "attach", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kr.export(foreign(), data=str(photos), labels=CLASSES)
    assert not list((tmp_path / "runs").iterdir())


def test_the_model_of_a_run_brings_its_labels(untouched, tmp_path, capsys):
    again = kr.import_model(untouched / "model.keras", run_folder=tmp_path / "again")
    assert again.classes == kr.open_run(untouched).classes
    assert f"labels: {', '.join(again.classes)}; --labels FILE" in capsys.readouterr().err
    shutil.copy(untouched / "model.keras", tmp_path / "model.keras")
    alone = kr.import_model(tmp_path / "model.keras", run_folder=tmp_path / "alone")
    assert alone.classes == ["0", "1", "2"]
    assert "labels: 0, 1, 2; --labels FILE sets others" in capsys.readouterr().err


def test_labels_in_the_wrong_order_leave_nothing_behind(command, trained, photos, tmp_path):
    shutil.copy(trained.file("model.keras"), tmp_path / "net.keras")
    (tmp_path / "labels.txt").write_text("striped\nbright\ndark\n")
    for photo in photos.glob("*/*.jpg"):  # 12 of each class judge: enough to be sure
        split = "train" if int(photo.stem) < 24 else "val"
        folder = tmp_path / "data" / split / photo.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, folder)
    options = ["--data", "data", "--labels", "labels.txt", "--tflite"]
    done = command("export", "net.keras", *options, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "the labels are not in the order of the outputs" in done.stderr
    assert "removed runs/net-data-001" in done.stderr and not list((tmp_path / "runs").iterdir())


@pytest.fixture(scope="module")
def exported_model(photos, tmp_path_factory):
    """A run of a grey, oblong model in memory, exported to all that a phone may take."""
    folder = tmp_path_factory.mktemp("memory")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = kr.export(
            foreign("flattened", shape=GREY), data=str(photos), labels=CLASSES, fit="stretch",
            saved_model=False, tflite=["none", "float16", "dynamic", "int8"], max_drop=100,
        )  # fmt: skip
    return kr.open_run(folder / "runs" / "foreign-data-001"), result


def test_a_model_in_memory_becomes_a_run_whose_variants_pass(exported_model):
    run, result = exported_model
    assert result.passed and len(result.artefacts) == 4
    assert run.metrics["imported"] == {"file": "foreign"}
    assert (run.export_folder / "card.md").exists()
    content = json.loads((run.export_folder / "preprocess.json").read_text())
    form = {"height": 16, "width": 32, "channels": 1, "fit": "stretch"}
    assert {key: content[key] for key in form} == form


@pytest.mark.parametrize("layer", ["conv2d", "depthwise_conv2d", "dense"])
@pytest.mark.parametrize("name", ["model_float32.tflite", "model_int8.tflite"])
def test_the_gate_finds_each_kernel_of_a_foreign_model(exported_model, layer, name):
    """With one number changed, it is not found any more."""
    from keras_resnet.evaluation.lite import Lite

    run, _ = exported_model
    model = run.model()
    constants = list(Lite(run.export_folder / name).constants())
    assert not list(weights_check.differences(weights_check.kernels(model), constants))
    kernel = next(x for x in model.layers if type(x).__name__.lower() == layer.replace("_", ""))
    values = kernel.get_weights()
    values[0][(0,) * values[0].ndim] += 0.3
    kernel.set_weights(values)
    (line,) = weights_check.differences(weights_check.kernels(model), constants)
    assert kernel.name in line


@pytest.mark.parametrize(("scale", "lost"), [(1.0, 0), (1e-6, 0), (-1e-6, 0), (1e-6, 7e-7)])
def test_a_kernel_that_float16_stores_in_its_smallest_numbers_is_found(scale, lost):
    """As behind a batch norm of raw pixels, which divides by a large deviation."""
    kernel = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    stored = (kernel * scale).astype(np.float16).astype(np.float32)
    stored[1, 2] += lost
    wanted = weights_check.Weights("conv", kernel.ravel(), channels=3)
    found = Constant(stored, np.zeros((1, 1), np.float32), "float16")
    assert len(list(weights_check.differences([wanted], [found]))) == bool(lost)


def small(policy="float32", classes=3, shape=SQUARE):
    """A student's own network."""
    with isolated():
        keras.config.set_dtype_policy(policy)
        keras.utils.set_random_seed(0)
        image = keras.Input(shape)
        x = layers.Conv2D(8, 3, 2, padding="same")(layers.Rescaling(1 / 127.5, -1)(image))
        x = kr.identity_block(x, "basic", filters=8, name="one")
        x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
        return keras.Model(image, layers.Dense(classes, activation="softmax")(x), name="small")


OPTIONS = {"epochs": 2, "batch_size": 8, "seed": 3}


def test_a_network_of_ones_own_is_trained_and_resumed_exactly(photos, tmp_path, no_pictures):
    class Copy(keras.callbacks.Callback):
        """What a kill in the second epoch would leave."""

        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                shutil.copytree(tmp_path / "whole", tmp_path / "killed")

    whole = kr.train(
        str(photos), model=small(shape=GREY), run_folder=tmp_path / "whole", callbacks=[Copy()],
        **OPTIONS,
    )  # fmt: skip
    assert (whole.config.model, whole.metrics["precision"]) == ("custom", "float32")
    assert (whole.config.image_size, whole.config.channels) == ("16x32", 1)
    assert whole.metrics["val"]["top1"] > 0.6
    assert Run(tmp_path / "killed").checkpoint_steps() == [6]
    resumed = kr.train(resume=tmp_path / "killed")
    for a, b in zip(whole.model().get_weights(), resumed.model().get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert kr.evaluate(whole).top1 == whole.metrics["val"]["top1"]
    again = {"model": small(shape=GREY), **OPTIONS}
    assert shipping._trained(whole.path, str(photos), again, {}).path == whole.path


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        (lambda: small(classes=4), {}, "the model has 4 outputs, the data 3 classes"),
        (small, {"weights": "imagenet"}, "--weights imagenet is for networks of this package"),
        (small, {"channels": 1}, "--channels is 1, but the model 'small' takes images of 3"),
        (small, {"size_steps": ((0.5, 0.5), (0.5, 1))}, "--size-steps .* is for networks of this"),
        (small, {"precision": "mixed_float16"}, "its own is float32"),
        (lambda: "custom", {"image_size": 24}, "is a custom network; train it from Python"),
    ],
)
def test_a_network_that_cannot_be_trained_is_one_line(model, options, said, photos, tmp_path):
    with pytest.raises(InputError, match=said):
        kr.train(str(photos), model=model(), run_folder=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_network_with_layers_frozen_inside_of_a_layer_is_refused(photos, tmp_path):
    model = keras.Sequential([keras.Input(SQUARE), Pair(), layers.Flatten(), layers.Dense(3)])
    model.layers[0].first.trainable = False
    with pytest.raises(InputError, match=r"inside a layer of the model .* freeze whole layers"):
        kr.train(str(photos), model=model, run_folder=tmp_path / "run", **OPTIONS)
    model.layers[0].trainable = False
    _, network = custom.settings_and_network({"model": model})
    assert len(for_training(network).trainable_weights) == 2  # of the last layer


def test_a_trained_network_of_ones_own_is_fine_tuned_by_its_recipe():
    settings, _ = custom.settings_and_network(
        {"model": small(), "recipe": "finetune", "freeze_bn": True}
    )
    weights_settings.require(resolve(settings))


@pytest.mark.parametrize("end", ["softmax", "dropout"])
def test_the_head_of_a_network_behind_a_normalization_has_its_own_rate(end):
    model = foreign(inside=False)
    if end == "dropout":  # which has a random state
        model = keras.Model(model.input, layers.Dropout(0.1)(model.output))
    _, network = custom.settings_and_network({"model": model, "normalize": "imagenet"})
    config = replace(Config(), model="custom", image_size=SIDE, body_rate=0.1)
    source = SimpleNamespace(splits={"train": SimpleNamespace(labels=[0])}, classes=CLASSES)
    step = make_step(network, config, source, 0.1, Precision("float32", ""))
    head = {v.path for v in step.model.trainable_variables if id(v) in step.optimizer.head}
    assert len(head) == 2 and all("dense" in path for path in head)


def test_settings_that_are_what_a_network_of_ones_own_has_are_taken():
    own = {"channels": 3, "size_steps": "1 1", "train_size": 1, "zero_gamma": False, "drop_path": 0}
    settings, network = custom.settings_and_network({"model": small(), **own})
    assert network is not None
    assert resolve(settings).channels == 3 and resolve(settings).size_steps == ((1.0, 1.0),)


@keras.saving.register_keras_serializable("tests")
class Own(keras.Model):
    """A subclassed model: code, with a softmax that cannot be taken out."""

    def __init__(self, units=3, **options):
        super().__init__(**options)
        self.units = units
        self.conv, self.pool = layers.Conv2D(8, 3, 2), layers.GlobalAveragePooling2D()
        self.head = layers.Dense(units)

    def call(self, images):
        return ops.softmax(self.head(self.pool(ops.relu(self.conv(images / 255)))))

    def get_config(self):
        return super().get_config() | {"units": self.units}


def test_a_frozen_layer_of_a_subclassed_model_stays_frozen():
    model = Own()
    model(noise())
    model.conv.trainable = False
    _, network = custom.settings_and_network({"model": model, "image_size": SIDE})
    assert len(for_training(network).trainable_weights) == 2  # of the head


class Unregistered(Own):
    pass


def test_a_subclassed_model_becomes_a_run_that_can_be_opened_again(tmp_path):
    model = Own()
    expected = np.asarray(model(noise(GREY)))
    size = {"image_size": "16x32", "channels": 1}
    run = kr.import_model(model, labels=CLASSES, **size, run_folder=tmp_path / "run")
    np.testing.assert_allclose(
        probabilities(kr.open_run(run.path).model(), noise(GREY)), expected, rtol=1e-4, atol=1e-6
    )


def test_an_export_takes_what_an_import_takes(photos, tmp_path, monkeypatch, trained):
    monkeypatch.chdir(tmp_path)
    form = {"image_size": "16x32", "channels": 1, "center_crop": 0.75}
    model = Own()
    with (
        pytest.raises(InputError, match="has no weights yet; call it once on images"),
        run_and_plan(model, {"labels": CLASSES, **form}, data=photos),
    ):
        pass
    model(noise(GREY))
    with run_and_plan(model, {"labels": CLASSES, **form}, data=photos) as (run, plan):
        assert (plan.geometry.shape, run.config.center_crop) == (GREY, 0.75)
    with pytest.raises(InputError, match="--channels is for exporting a Keras model"):
        kr.export(trained, channels=1)


def test_weights_of_a_network_from_elsewhere_name_the_call_that_trains_it(tmp_path):
    (tmp_path / "config.json").write_text('{"model": "custom"}')
    with pytest.raises(InputError, match=r"kr.train\(model=kr.open_run\('.*'\).model\(\)"):
        resolve({"weights": tmp_path})


def test_an_unregistered_subclassed_model_is_one_line(tmp_path):
    model = Unregistered()
    model(noise())
    with pytest.raises(InputError, match=r"@keras.saving.register_keras_serializable\(\)") as error:
        kr.import_model(model, labels=CLASSES, image_size=SIDE, run_folder=tmp_path / "run")
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("guess", "said"),
    [
        (lambda labels, _: labels, None),
        (lambda labels, _: (labels + 1) % 4, "--labels is in a different order"),
        (lambda _, random: random, "check --labels and --normalize"),
        (lambda labels, _: 0 * labels, "check --labels and --normalize"),
    ],
    ids=["right", "different order", "by chance", "always the same"],
)
def test_a_model_that_is_hardly_better_than_guessing_is_told_the_likely_cause(guess, said):
    labels, random = np.random.default_rng(0).integers(0, 4, (2, 200))
    guesses = guess(labels, random)
    judge = SimpleNamespace(
        examples=SimpleNamespace(labels=labels),
        top1=float((guesses == labels).mean()),
        _expected=np.eye(4)[guesses],
    )
    imported, trained = (Judge.doubt(judge, is_imported) for is_imported in (True, False))
    if said is None:
        assert imported is trained is None
    else:
        assert said in imported and "200 images in 4 classes" in imported
        chance = np.bincount(labels).max() / 200
        assert trained.endswith(f"guessing gives {chance:.0%}; train longer, or on more images")


def test_always_the_largest_class_is_guessing():
    labels = np.repeat([0, 1], [90, 10])
    judge = SimpleNamespace(
        examples=SimpleNamespace(labels=labels), top1=0.9, _expected=np.eye(2)[0 * labels]
    )
    assert "where guessing gives 90%" in Judge.doubt(judge, False)


@pytest.mark.parametrize(
    ("guess", "said"),
    [
        (lambda labels, _: labels, None),
        (lambda _, random: random, None),
        (lambda labels, _: 3 - labels, "output 0 is called 'a', .* are of 'd'; give --labels in"),
        (lambda labels, _: np.array([0, 2, 1, 3])[labels], "output [12] is called '[bc]', "),
        (lambda labels, _: np.array([0, 0, 1, 1])[labels], None),  # a bad model, no other order
        # Two classes that it cannot tell apart: a few more images than expected are no proof.
        (lambda labels, _: np.where(labels < 2, 1 - np.arange(200) % 2, labels), None),
    ],
)
def test_labels_in_another_order_are_refused(guess, said):
    labels, random = np.random.default_rng(0).integers(0, 4, (2, 200))
    guesses = np.where(np.arange(200) % 5, guess(labels, random), random)  # 80 % of them
    judge = SimpleNamespace(
        examples=SimpleNamespace(labels=labels),
        _reference=SimpleNamespace(classes=[*"abcd"]),
        _expected=np.eye(4)[guesses],
    )
    if said is None:
        return Judge.require_order(judge)
    with pytest.raises(InputError, match=said):
        Judge.require_order(judge)
