"""The training stream depends on the sample's number only; the evaluation stream has all images."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.config import Config
from keras_resnet.data import stream as streams
from keras_resnet.data import views
from keras_resnet.data.decode import decode_window
from keras_resnet.data.examples import from_bytes, from_pixels
from keras_resnet.data.order import make_order
from keras_resnet.data.sources import Source
from keras_resnet.data.stream import evaluation_stream, training_stream
from keras_resnet.data.views import erase

PLAIN = Config(crop_area=(1.0, 1.0), crop_aspect=(1.0, 1.0), flip=False, brightness=0.0)
LIVELY = Config(brightness=0.2, flip=True, seed=3)


def _source(count=10, encoded=False, size=8):
    """Images whose every pixel is the image's number times 7; one class for each image."""
    images = np.repeat(np.arange(count), size * size * 3).reshape(count, size, size, 3)
    images = np.uint8(images * 7)
    names = [str(i) for i in range(count)]
    if encoded:
        data = [tf.io.encode_png(image).numpy() for image in images]
        examples = from_bytes(data, np.arange(count), names, np.ones(count, np.int32))
    else:
        examples = from_pixels(images, np.arange(count), names)
    return Source("numbers", names, {"train": examples, "val": examples})


def _batches(source, config, first, last, size=8):
    stream = training_stream(source, config, size=size, first_step=first, last_step=last)
    return list(stream.as_numpy_iterator())


def _noise_source(encoded):
    images = np.random.default_rng(0).integers(0, 255, (11, 12, 16, 3), np.uint8)
    source = _source(11, encoded)
    if not encoded:
        examples = replace(source.splits["train"], items=images)
    else:
        items = np.array([tf.io.encode_jpeg(image).numpy() for image in images], object)
        examples = replace(source.splits["train"], items=items)
    return replace(source, splits={"train": examples})


@pytest.mark.parametrize("encoded", [False, True])
def test_the_stream_from_a_step_is_the_tail_of_the_whole_stream(encoded):
    source, config = _noise_source(encoded), replace(LIVELY, batch_size=3)
    whole = _batches(source, config, 0, 12)
    for first in (1, 4, 9):
        tail = _batches(source, config, first, 12)
        assert len(tail) == 12 - first
        for (images, labels), (same_images, same_labels) in zip(whole[first:], tail, strict=True):
            np.testing.assert_array_equal(images, same_images)
            np.testing.assert_array_equal(labels, same_labels)


@pytest.mark.parametrize(("count", "batch"), [(10, 5), (10, 4), (7, 7), (1, 3), (2, 5), (3, 1)])
def test_each_pass_shows_each_image_once(count, batch):
    source, config = _source(count), replace(PLAIN, batch_size=batch)
    steps = -(-4 * count // batch)
    batches = _batches(source, config, 0, steps)
    seen = np.concatenate([labels.argmax(-1) for _, labels in batches])[: 4 * count]
    assert (np.sort(seen.reshape(4, count)) == np.arange(count)).all()
    shown = np.concatenate([images[:, 0, 0, 0] for images, _ in batches])[: 4 * count]
    np.testing.assert_array_equal(shown, seen * 7)


def test_each_pass_and_each_seed_has_its_own_order():
    config = replace(PLAIN, batch_size=30)

    def orders(seed):
        batches = _batches(_source(30), replace(config, seed=seed), 0, 6)
        return {tuple(labels.argmax(-1)) for _, labels in batches}

    assert len(orders(0)) == 6
    assert not orders(0) & orders(1)
    assert orders(0) == orders(0)


def test_an_image_looks_different_in_each_pass():
    config = replace(LIVELY, batch_size=11)
    looks = [
        images[labels.argmax(-1) == 4].tobytes()
        for images, labels in _batches(_noise_source(False), config, 0, 8)
    ]
    assert len(set(looks)) == 8


@pytest.mark.parametrize("seed", [2**31 - 1, 2**31, 2**63 - 1])
def test_any_seed_will_do(seed):
    (batch,) = _batches(_source(), replace(LIVELY, seed=seed, batch_size=10), 0, 1)
    assert sorted(batch[1].argmax(-1)) == list(range(10))


@pytest.mark.parametrize("encoded", [False, True])
def test_training_batches_have_these_shapes(encoded):
    config = replace(LIVELY, batch_size=4)
    stream = training_stream(_source(10, encoded), config, size=6, first_step=0, last_step=3)
    images, labels = stream.element_spec
    assert images.shape.as_list() == [4, 6, 6, 3] and images.dtype == tf.uint8
    assert labels.shape.as_list() == [4, 10] and labels.dtype == tf.float32
    for images, labels in stream:
        assert images.shape == (4, 6, 6, 3) and (labels.numpy().sum(-1) == 1).all()


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("batch", [1, 3, 5, 10, 64])
def test_evaluation_counts_every_image_once_and_the_last_partial_batch_too(encoded, batch):
    examples = _source(10, encoded).splits["val"]
    stream = evaluation_stream(examples, size=6, crop=1.0, batch_size=batch)
    batches = list(stream.as_numpy_iterator())
    assert [len(labels) for _, labels in batches] == [
        min(batch, 10 - start) for start in range(0, 10, batch)
    ]
    assert int(stream.cardinality()) == len(batches)  # for progress bars
    labels = np.concatenate([labels for _, labels in batches])
    images = np.concatenate([images for images, _ in batches])
    np.testing.assert_array_equal(labels, np.arange(10))
    assert labels.dtype == np.int32 and images.dtype == np.uint8
    assert images.shape == (10, 6, 6, 3)
    np.testing.assert_array_equal(images[:, 3, 3, 1], np.arange(10) * 7)


def test_a_chosen_order_is_kept():
    examples = _source(10).splits["val"].take([7, 1, 1, 4])
    assert examples.names == ["7", "1", "1", "4"] and len(examples) == 4
    ((_, labels),) = evaluation_stream(examples, size=6, crop=1.0, batch_size=9)
    assert labels.numpy().tolist() == [7, 1, 1, 4]


EVERYTHING = replace(
    LIVELY, randaugment=(2, 9.0), erasing=0.5, mixup=0.2, cutmix=1.0, repeats=2, balance="sample"
)


def test_with_every_augmentation_a_stream_from_a_step_is_the_tail_too():
    source, config, first = _noise_source(True), replace(EVERYTHING, batch_size=4), 5
    whole, tail = _batches(source, config, 0, 8), _batches(source, config, first, 8)
    assert len({images.tobytes() for images, _ in whole}) == 8
    for (images, targets), (same_images, same_targets) in zip(whole[first:], tail, strict=True):
        np.testing.assert_array_equal(images, same_images)
        np.testing.assert_array_equal(targets, same_targets)
        np.testing.assert_allclose(targets.sum(-1), 1, atol=1e-6)


AUGMENTATIONS = [
    ("randaugment", {"randaugment": (2, 9.0)}),
    ("trivialaugment", {"trivialaugment": True}),
    ("erase", {"erasing": 1.0}),
    ("make_mixer", {"mixup": 0.2}),
]


def _recorded(monkeypatch, seeds, module, name):
    """Has every seed that this function receives, its last argument, appended to `seeds`."""
    function = getattr(module, name)

    def record(*arguments, **settings):
        tf.numpy_function(lambda seed: seeds.append(tuple(seed.tolist())), [arguments[-1]], [])
        return function(*arguments, **settings)

    monkeypatch.setattr(module, name, record)


@pytest.mark.parametrize(("name", "setting"), AUGMENTATIONS[:2])
def test_each_kind_of_random_number_of_each_sample_has_its_own_seed(name, setting, monkeypatch):
    seeds, make_mixer, nth = [], streams.make_mixer, views._nth
    for function in ("random_view", name, "erase"):
        _recorded(monkeypatch, seeds, streams, function)

    def recording_mixer(*alphas):
        mixer = SimpleNamespace(mix=make_mixer(*alphas))
        _recorded(monkeypatch, seeds, mixer, "mix")
        return mixer.mix

    def recording_nth(seed, n):
        tf.numpy_function(lambda seed: seeds.append(tuple(seed.tolist())), [nth(seed, n)], [])
        return nth(seed, n)

    monkeypatch.setattr(streams, "make_mixer", recording_mixer)
    monkeypatch.setattr(views, "_nth", recording_nth)
    config = replace(LIVELY, batch_size=4, erasing=0.5, mixup=0.2, **setting)
    options = {"size": 8, "first_step": 0, "last_step": 3}
    list(training_stream(_source(), config, **options))
    samples = 3 * 4
    # Of a sample: crop, flip, brightness, augmentation and erasing; of a batch: MixUp.
    assert len(seeds) == 5 * samples + 3
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize(("name", "setting"), AUGMENTATIONS)
def test_an_augmentation_leaves_the_random_views_as_they_were(name, setting, monkeypatch):
    """An augmentation that does nothing: the images and targets are those without it."""
    source, config = _noise_source(False), replace(LIVELY, batch_size=11)
    ((plain, targets),) = _batches(source, config, 0, 1)
    ((changed, _),) = _batches(source, replace(config, **setting), 0, 1)
    assert plain.shape == changed.shape and not np.array_equal(plain, changed)
    nothing = (
        (lambda *_: lambda *batch: batch[:2]) if name == "make_mixer" else lambda x, *_, **__: x
    )
    monkeypatch.setattr(streams, name, nothing)
    ((same, same_targets),) = _batches(source, replace(config, **setting), 0, 1)
    np.testing.assert_array_equal(same, plain)
    np.testing.assert_array_equal(same_targets, targets)


def test_erasing_changes_a_box_of_the_view_and_no_other_pixel():
    source, config = _noise_source(False), replace(LIVELY, batch_size=11)
    ((plain, _),) = _batches(source, config, 0, 1, size=32)
    ((changed, _),) = _batches(source, replace(config, erasing=1.0), 0, 1, size=32)
    for mask in (plain != changed).any(-1):
        rows, columns = np.nonzero(mask)
        # Noise has the color of the pixel with a probability of 1 / 256 ** 3.
        assert 0 < mask.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1) < 0.45 * mask.size


def test_repeated_augmentation_shows_an_image_several_times_differently():
    source, config = _noise_source(False), replace(LIVELY, batch_size=6, repeats=3)
    for images, labels in _batches(source, config, 0, 5):
        numbers = labels.argmax(-1).reshape(2, 3)
        assert (numbers == numbers[:, :1]).all() and numbers[0, 0] != numbers[1, 0]
        assert len({image.tobytes() for image in images}) == 6


def test_balanced_sampling_shows_each_class_as_often_and_all_images_of_each():
    labels = np.array([0] * 12 + [2] * 3 + [3] * 1)  # no image of class 1
    place = make_order(labels, 5, balanced=True)
    shown = place(tf.range(3 * 12, dtype=tf.int64)).numpy()
    assert (np.bincount(labels[shown]) == [12, 0, 12, 12]).all()
    assert (np.sort(labels[shown].reshape(12, 3)) == [0, 2, 3]).all()
    assert sorted(shown[labels[shown] == 0]) == list(range(12))
    assert (np.bincount(shown[labels[shown] == 2])[12:] == 4).all()


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_erasing_puts_noise_in_a_box_of_that_share_of_the_images(share):
    image, sizes = np.full((40, 48, 3), 7, np.uint8), []
    wipe = tf.function(lambda n: erase(tf.constant(image), tf.stack([1, n]), share))
    for n in range(60):
        changed = (wipe(tf.constant(n, tf.int64)).numpy() != 7).any(-1)
        if changed.any():
            rows, columns = np.nonzero(changed)
            height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
            assert changed.sum() == height * width
            assert 0.015 < height * width / (40 * 48) < 0.45 and 0.25 < width / height < 4
            sizes.append((height, width))
    assert abs(len(sizes) - 60 * share) <= 15 * (0 < share < 1)
    assert len(set(sizes)) >= 0.7 * len(sizes)


def test_the_streams_of_later_epochs_share_the_graph_of_the_first(monkeypatch):
    """To trace the decoder takes longer than an epoch of a small data set."""
    traced = []

    def counted(*arguments):
        traced.append(arguments)
        return decode_window(*arguments)

    monkeypatch.setattr(views, "decode_window", counted)
    source, config = _source(encoded=True), replace(LIVELY, batch_size=3, brightness=0.17)
    for epoch in range(3):
        _batches(source, config, 3 * epoch, 3 * epoch + 3)
        list(evaluation_stream(source.splits["val"], size=8, crop=0.77, batch_size=3))
    assert len(traced) == 2  # a random view and a central one
