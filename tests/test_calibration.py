"""The calibration images: which are chosen, and whether they are enough."""

import hashlib
import json

import keras
import numpy as np
import pytest

from keras_resnet.errors import InputError
from keras_resnet.evaluation.artefact import open_artefact
from keras_resnet.evaluation.scores import stream_for
from keras_resnet.exporting.calibration import (
    _range_meter,
    _ranges,
    _with_levels,
    choose,
    compare_halves,
    training_examples,
)


def judging_images(run):
    opened = open_artefact(run.path)
    stream = stream_for(opened, run.examples("val"))
    return np.concatenate([batch for batch, _ in stream.as_numpy_iterator()])


def test_they_are_training_images_of_every_class_and_one_with_all_levels(trained):
    found = choose(trained, 9).images
    assert found.shape == (10, 24, 24, 3) and found.dtype == np.uint8
    assert found[-1].min() == 0 and found[-1].max() == 255
    means = found[:9].reshape(9, -1).mean(-1)  # dark 30, striped 120, bright 220
    assert np.histogram(means, [0, 70, 170, 256])[0].tolist() == [3, 3, 3]


def test_the_image_with_all_levels_is_a_photo_so_that_no_layer_sees_what_is_none(trained):
    """All black widened the ranges of an EfficientNet up to 400 times."""
    *photos, added = choose(trained, 9).images
    assert min((photo != added).sum() for photo in photos) <= 2


def test_the_image_with_all_levels_of_images_of_one_colour():
    grey = np.full((2, 4, 4, 3), 7, np.uint8)
    *photos, added = _with_levels(grey)
    assert np.array_equal(photos, np.full_like(grey, 7))  # as they were
    assert sorted(set(added.ravel())) == [0, 7, 255] and (added == 7).sum() == added.size - 2


def test_none_of_them_judges_even_when_all_are_asked_for(trained):
    everything = choose(trained, 10**6)
    judged = {x.tobytes() for x in judging_images(trained)}
    assert not any(x.tobytes() in judged for x in everything.images)
    assert not set(everything.manifest["images"]) & set(trained.examples("val").names)
    assert everything.manifest["count"] == len(trained.examples("train"))


def test_training_images_that_are_also_held_out_are_left_out(trained):
    """In the splits of a user, an image may be on both sides."""
    train = trained.examples("train")
    shared = train.take([0, 5, 7])
    chosen = choose(trained, 10**6, held_out=shared).manifest["images"]
    assert set(train.names) - set(chosen) == set(shared.names)


def test_where_all_of_them_are_held_out_one_line_says_so(trained):
    with pytest.raises(InputError, match=r"each training image of .* is also a validation image"):
        training_examples(trained, 20, trained.examples("train"))


def test_the_manifest_says_which_they_were(exported):
    run, _ = exported
    manifest = json.loads((run.export_folder / "calibration.json").read_text())
    again = choose(run, 20)
    assert manifest | {"halves": None} == again.manifest
    assert manifest["sha256"] == hashlib.sha256(again.images.tobytes()).hexdigest()
    assert len(manifest["images"]) == manifest["count"] == 20
    assert sorted(manifest["per_class"].values()) == [6, 7, 7]
    assert manifest["seed"] == run.config.seed and manifest["levels"] == [0, 255]


def doubled():
    """A network whose `twice` layer has the range of its images' contrast."""
    image = keras.Input((4, 4, 3))
    contrast = keras.layers.Rescaling(2.0, -255.0, name="twice")(image)
    return keras.Model(image, keras.layers.GlobalAveragePooling2D(name="pool")(contrast))


def test_a_batch_norm_and_a_relu_are_folded_and_each_range_includes_0():
    """The layers on their own, for pixels of 100 and 200: one above and one below 0."""
    image = keras.Input((4, 4, 3))
    x = keras.layers.Conv2D(1, 1, kernel_initializer="ones", name="conv")(image)
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.Rescaling(-1.0, -10.0, name="below")(x)
    names, measure = _range_meter(keras.Model(image, x))
    assert names == ["relu", "below"]
    images = np.full((2, 4, 4, 3), 100, np.uint8)
    images[1] = 200
    above = 3 * 200 / np.sqrt(1.001)  # of a new batch norm: its epsilon is 0.001
    assert _ranges(measure, images) == pytest.approx([above, above + 10], rel=1e-5)


def test_halves_of_one_kind_agree_and_halves_that_differ_are_named_and_warned_about(capsys):
    images = np.full((8, 4, 4, 3), 128, np.uint8)
    labels = np.zeros(8, int)
    found = compare_halves(doubled(), images, labels, "raise it")
    assert found["agree"] and found["disagreement"] == 1.0
    assert capsys.readouterr().err == ""

    model = doubled()
    # Halves of which only one has images that are bright in the middle.
    focus = keras.layers.Conv2D(1, 3, use_bias=False, name="focus")
    logits = keras.layers.GlobalMaxPooling2D(name="logits")(focus(model.inputs[0]))
    kernel = -np.ones((3, 3, 3, 1), "float32") / 8
    kernel[1, 1] = 1
    focus.set_weights([kernel])
    images[1::2, 1:3, 1:3] = 255  # the second half, counted within the class
    focused = keras.Model(model.inputs, logits)
    image = keras.Input((4, 4, 3))
    for net in (focused, keras.Model(image, focused(keras.layers.Rescaling(1.0)(image)))):
        found = compare_halves(net, images, labels, "raise it")
        assert not found["agree"] and found["layer"] in ("focus", "logits")
        err = capsys.readouterr().err
        assert f"{found['layer']} ranges that differ by a factor of" in err and "; raise it" in err


def test_one_image_of_each_class_has_no_second_half(capsys):
    images = np.zeros((3, 4, 4, 3), np.uint8)
    assert compare_halves(doubled(), images, np.arange(3), "raise it") is None
    assert "too few to compare" in capsys.readouterr().err
