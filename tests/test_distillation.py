"""Knowledge distillation: `train --teacher RUN`."""

import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.config import Config
from keras_resnet.data import sources, stream
from keras_resnet.distributed.strategy import ONE
from keras_resnet.errors import InputError
from keras_resnet.files import read_json
from keras_resnet.run import Run
from keras_resnet.training.loop import Loop
from keras_resnet.training.losses import distillation, make_loss
from keras_resnet.training.teacher import (
    find_teacher,
    open_teacher,
    require_same_classes,
    views_for_both,
)
from keras_resnet.training.train import train
from keras_resnet.weights.importing import import_weights

RNG = np.random.default_rng(0)


def test_the_loss_is_keras_divergence_at_a_temperature():
    own, other = RNG.normal(0, 3, (2, 5, 4)).astype("float32")
    soft = [keras.ops.softmax(x / 3) for x in (other, own)]
    expected = 9 * keras.losses.kl_divergence(*soft)
    np.testing.assert_allclose(distillation(own, other, 3.0), expected, rtol=1e-4)
    np.testing.assert_allclose(distillation(other, other, 3.0), 0, atol=1e-6)


def test_hot_enough_its_gradient_is_that_of_the_squared_difference_of_logits():
    """As the paper derives, for logits of mean 0: the gradient is (z - v) / k."""
    own, other = RNG.normal(size=(2, 5, 4)).astype("float32")
    own, other = (x - x.mean(-1, keepdims=True) for x in (own, other))
    z = tf.constant(own)
    with tf.GradientTape() as tape:
        tape.watch(z)
        loss = distillation(z, other, 300.0)
    np.testing.assert_allclose(tape.gradient(loss, z), (own - other) / 4, atol=0.01)


def test_the_weight_shares_the_loss_between_teacher_and_labels():
    config = Config(distill_weight=0.25, distill_temperature=2.0, label_smoothing=0.1)
    own, other = RNG.normal(size=(2, 6, 3)).astype("float32")
    labels = np.array([0, 1, 2, 0, 1, 2], np.int32)
    targets = np.eye(3, dtype="float32")[labels]
    loss = make_loss(config, labels, 3)
    parts = 0.75 * loss(targets, own) + 0.25 * distillation(own, other, 2.0)
    np.testing.assert_allclose(loss(targets, own, other), parts, rtol=1e-6)


def test_the_teacher_answers_as_its_run_does(trained):
    answer = open_teacher(Config(teacher=str(trained.path)), "float32", ONE.strategy)
    images = RNG.integers(0, 256, (4, 24, 24, 3)).astype(np.uint8)
    np.testing.assert_allclose(answer(images), trained.model()(images), atol=1e-4)


@pytest.mark.parametrize("size", [12, 24, 40])
def test_network_and_teacher_see_the_same_crops_each_in_its_own_size(trained, photos, size):
    """The larger of the two sees what the stream alone would show."""
    config = replace(trained.config, teacher=str(trained.path), image_size=size, batch_size=4)
    source = sources.load(str(photos), seed=3)
    span = {"first_step": 5, "last_step": 7}
    batches = list(views_for_both(source, config, size=size, **span).as_numpy_iterator())
    alone = list(
        stream.training_stream(source, config, size=max(size, 24), **span).as_numpy_iterator()
    )
    assert len(batches) == len(alone) == 2
    for (own, targets, others), (images, labels) in zip(batches, alone, strict=True):
        assert own.shape == (4, size, size, 3) and others.shape == (4, 24, 24, 3)
        np.testing.assert_array_equal(targets, labels)
        np.testing.assert_array_equal(own if size >= 24 else others, images)
        small, large = (own, others) if size <= 24 else (others, own)
        again = tf.image.resize(large, small.shape[1:3], antialias=True)
        np.testing.assert_allclose(small, again, atol=0.51)


@pytest.mark.parametrize(("size", "pad"), [(12, 8), (24, 4), (40, 4)])
def test_the_padding_is_as_wide_relative_to_the_images_at_each_size(
    trained, monkeypatch, size, pad
):
    """It is added to the larger of the two images, here the teacher's of 24 pixels or the own."""
    seen = []

    def stream_of(source, config, *, size):
        seen.append((size, config.pad))
        images = tf.zeros((1, size, size, 3), tf.uint8)
        return tf.data.Dataset.from_tensors((images, tf.zeros((1, 3))))

    monkeypatch.setattr(stream, "training_stream", stream_of)
    config = Config(teacher=str(trained.path), image_size=size, pad=4)
    views_for_both(None, config, size=size)
    assert seen == [(max(size, 24), pad)]


def test_what_the_teacher_sees_at_a_small_size_of_the_network_is_what_it_knows(trained, photos):
    """Enlarged from 12 pixels, as the network sees it, a photo would mean little to it."""
    config = replace(trained.config, teacher=str(trained.path), image_size=24, batch_size=12)
    source = sources.load(str(photos), seed=trained.config.seed)
    answer = open_teacher(config, "float32", ONE.strategy)
    batches = views_for_both(source, config, size=12, first_step=0, last_step=4)
    right = [
        np.mean(np.argmax(answer(seen), -1) == np.argmax(targets, -1))
        for _, targets, seen in batches
    ]
    assert np.mean(right) > 0.9


@pytest.mark.slow
def test_two_devices_learn_from_a_teacher(command, untouched, photos, tmp_path):
    done = command("train", photos, "--model", "resnet8", "--image-size", 16, "--batch-size", 16,
                   "--epochs", 1, "--seed", 3, "--teacher", untouched, "--devices", 2, "--run",
                   tmp_path / "run")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"teacher {untouched}" in done.stderr


@pytest.mark.usefixtures("no_pictures")
def test_with_a_teacher_a_run_resumes_exactly_and_from_the_same_teacher_only(
    untouched, photos, tmp_path, monkeypatch
):
    teacher = shutil.copytree(untouched, tmp_path / "teacher")
    options = {
        "model": "resnet8", "epochs": 1, "image_size": 16, "batch_size": 12, "seed": 3,
        "teacher": teacher, "precision": "float32", "checkpoint_every": 2,
    }  # fmt: skip
    resumed, end_epoch = tmp_path / "resumed", Loop.end_epoch

    def copy_and_end(self, epoch):
        """What a kill before the end of the epoch would leave."""
        shutil.copytree(tmp_path / "whole", resumed)
        end_epoch(self, epoch)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "end_epoch", copy_and_end)
        whole = train(str(photos), run_folder=tmp_path / "whole", **options)
    assert read_json(tmp_path / "whole" / "config.json")["teacher"] == str(teacher)
    assert Run(resumed).checkpoint_steps() == [2]
    model = (teacher / "model.keras").rename(tmp_path / "away")
    with pytest.raises(InputError, match=r"teacher/model\.keras is missing, damaged"):
        train(resume=resumed)
    model.rename(teacher / "model.keras")
    again = train(resume=resumed)
    for one, other in zip(whole.model().get_weights(), again.model().get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def _other_order(run):
    (run / "labels.txt").write_text("striped\nbright\ndark\n")


def _unfinished(run):
    (run / "manifest.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "options", "message"),
    [
        (_other_order, {}, "must have the same classes in the same order"),
        (_unfinished, {}, "is not finished; `keras-resnet train --resume"),
        (None, {"channels": 1}, "train with --channels 3"),
        (None, {"image_size": "16x24"}, "24x24, --fit crop; this network takes 16x24, --fit crop"),
        (None, {"fit": "pad"}, "takes 16x16, --fit pad: it needs the same aspect ratio and --fit"),
        (shutil.rmtree, {}, "no run folder"),
    ],
)
def test_a_teacher_that_cannot_teach_is_one_line(
    untouched, photos, tmp_path, accept, monkeypatch, spoil, options, message
):
    if spoil is not _other_order:  # it is found before the images are read
        monkeypatch.delattr(sources, "load_for")
    teacher = shutil.copytree(untouched, tmp_path / "teacher")
    accept(teacher, "labels.txt")
    if spoil:
        spoil(teacher)
    with pytest.raises(InputError, match=message):
        options = {"image_size": 16, **options}
        train(str(photos), run_folder=tmp_path / "run", teacher=teacher, **options)
    assert not (tmp_path / "run").exists()


def test_a_teacher_of_another_split_is_warned_of(trained, photos, capsys):
    teacher = find_teacher(replace(trained.config, teacher=str(trained.path)))
    own = sources.load(str(photos), seed=trained.config.seed)
    require_same_classes(teacher, own)
    said = capsys.readouterr().err
    assert "validation images" not in said and "trained with --label-smoothing 0.1" in said
    require_same_classes(teacher, sources.load(str(photos), seed=trained.config.seed + 1))
    assert "the teacher was trained on" in capsys.readouterr().err


def test_an_imported_network_can_teach(trained, photos, tmp_path):
    config = trained.config
    teacher = import_weights(
        trained.file("model.keras"), model=config.model, labels=trained.file("labels.txt"),
        image_size=config.image_size, run_folder=tmp_path / "teacher",
    )  # fmt: skip
    found = find_teacher(replace(config, teacher=str(teacher.path)))
    require_same_classes(found, sources.load(str(photos)))
