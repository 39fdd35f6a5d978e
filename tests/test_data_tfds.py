"""tensorflow-datasets in both file formats; damage is reported in one line with the folder."""

import shutil
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds

from keras_resnet.data.sources import load, load_split, read_split, save_split
from keras_resnet.data.stream import evaluation_stream
from keras_resnet.data.tfds import load as load_tfds
from keras_resnet.errors import InputError

FORMATS = ["tfrecord", "array_record"]


def _images(count):
    return np.random.default_rng(count).integers(0, 255, (count, 20, 24, 3), np.uint8)


class TinyForTests(tfds.core.GeneratorBasedBuilder):
    """Noise in two classes, in turn. Defining it registers it as tiny_for_tests."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.ClassLabel(names=["cat", "dog"]),
                "note": tfds.features.Text(),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, _):
        return {"train": self._generate_examples(24), "test": self._generate_examples(8)}

    def _generate_examples(self, count):
        for i, image in enumerate(_images(count)):
            yield i, {"image": image, "label": i % 2, "note": ""}


class TinyHidden(TinyForTests):
    """The same, with hidden labels in the test split."""

    def _generate_examples(self, count):
        for i, record in super()._generate_examples(count):
            yield i, record | ({"label": -1} if count == 8 else {})


class TinyTwice(TinyForTests):
    """With other classes and other pictures than those that are to be learned, as CIFAR-100."""

    def _info(self):
        pictures = {"after": tfds.features.Image(), "image": tfds.features.Image()}
        classes = {"coarse_label": tfds.features.ClassLabel(names=["pet"])}
        classes["label"] = tfds.features.ClassLabel(names=["cat", "dog"])
        features = tfds.features.FeaturesDict(pictures | classes)
        keys = ("image", "label")
        return tfds.core.DatasetInfo(builder=self, features=features, supervised_keys=keys)

    def _generate_examples(self, count):
        for i, image in enumerate(_images(count)):
            yield i, {"after": 0 * image, "image": image, "coarse_label": 0, "label": i % 2}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A data folder for each format, with the data set in three shards a split."""
    tfds.disable_progress_bar()
    folders = {}
    for file_format in FORMATS:
        folders[file_format] = tmp_path_factory.mktemp(file_format)
        builder = tfds.builder(
            "tiny_for_tests", data_dir=folders[file_format], file_format=file_format
        )
        config = tfds.download.DownloadConfig(num_shards=3)
        builder.download_and_prepare(download_config=config)
    return folders


@pytest.fixture
def copy(prepared, tmp_path):
    def copy(file_format):
        shutil.copytree(prepared[file_format], tmp_path / "data")
        return tmp_path / "data", tmp_path / "data" / "tiny_for_tests" / "1.0.0"

    return copy


def _shown(examples):
    stream = evaluation_stream(examples, size=20, crop=1.0, batch_size=5)
    images, labels = zip(*stream.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


@pytest.mark.parametrize("file_format", FORMATS)
def test_every_image_is_read(file_format, prepared, capsys):
    classes, splits = load_tfds("tiny_for_tests", prepared[file_format])
    assert classes == ["cat", "dog"]
    assert {split: len(examples) for split, examples in splits.items()} == {"train": 24, "test": 8}
    shown, labels = _shown(splits["train"])
    assert np.bincount(labels).tolist() == [12, 12]
    expected = {image[:, 2:22].tobytes(): i % 2 for i, image in enumerate(_images(24))}
    assert {image.tobytes(): k for image, k in zip(shown, labels, strict=True)} == expected
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_saved_split_gives_the_same_images_again(file_format, prepared, tmp_path):
    data, folder = "tfds:tiny_for_tests", prepared[file_format]
    source = load(data, data_dir=folder)
    assert {split: len(e) for split, e in source.splits.items()} == {
        "train": 20,
        "val": 4,
        "test": 8,
    }
    path = str(tmp_path / "split.json")
    save_split(source, path)
    for split, examples in source.splits.items():
        again = load_split(
            read_split(path), split, data=data, classes=source.classes, data_dir=folder
        )
        assert again.names == examples.names
    for expected, shown in zip(_shown(examples), _shown(again), strict=True):
        np.testing.assert_array_equal(expected, shown)


def test_a_data_set_is_prepared_where_it_is_not_there_yet(tmp_path, capsys):
    load_tfds("tiny_for_tests", tmp_path)
    assert (tmp_path / "tiny_for_tests" / "1.0.0" / "dataset_info.json").exists()
    assert capsys.readouterr().out == ""  # stdout is for results


def test_a_split_with_hidden_labels_is_left_out(tmp_path, capsys):
    source = load("tfds:tiny_hidden", data_dir=tmp_path)
    assert {split: len(e) for split, e in source.splits.items()} == {"train": 20, "val": 4}
    said = "the test split of tfds:tiny_hidden is left out: its labels are hidden\n"
    assert capsys.readouterr().err.endswith(said)


def test_of_several_labels_and_images_the_ones_to_learn_are_taken(tmp_path):
    classes, splits = load_tfds("tiny_twice", tmp_path)
    shown, labels = _shown(splits["test"])
    assert classes == ["cat", "dog"] and np.bincount(labels).tolist() == [4, 4]
    assert {x.tobytes() for x in shown} == {x[:, 2:22].tobytes() for x in _images(8)}


def _shard(folder):
    return next(path for path in sorted(folder.glob("*-train.*")) if "-00001-of-" in path.name)


def _cut(shard):
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])


def _cut_a_little(shard):
    shard.write_bytes(shard.read_bytes()[:-5])


def _empty(shard):
    shard.write_bytes(b"")


def _flip(shard, place=6000):
    content = bytearray(shard.read_bytes())
    content[place] ^= 0x10
    shard.write_bytes(content)


def _lose(shard):
    shard.unlink()


def _cut_the_description(shard):
    (shard.parent / "dataset_info.json").write_text('{"na')


def _lose_the_description(shard):
    (shard.parent / "dataset_info.json").unlink()


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize(
    "damage",
    [_cut, _cut_a_little, _empty, _flip, _lose, _cut_the_description, _lose_the_description],
    ids=lambda damage: damage.__name__.strip("_"),
)
def test_damage_is_one_line_that_names_the_folder(damage, file_format, copy):
    data_dir, folder = copy(file_format)
    damage(_shard(folder))
    with pytest.raises(InputError) as error:
        load_tfds("tiny_for_tests", str(data_dir))
    line = str(error.value)
    assert line.isprintable() and len(line) < 700
    assert str(data_dir) in line and "prepare" in line
    assert "{{" not in line and "[Op:" not in line


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_flipped_byte_is_found_or_harmless(file_format, copy, prepared):
    data_dir, folder = copy(file_format)
    expected = _shown(load_tfds("tiny_for_tests", str(data_dir))[1]["train"])[0]
    shard = _shard(folder)
    whole, found = shard.read_bytes(), 0
    places = [6000, *np.random.default_rng(0).integers(0, len(whole), 5)]
    for place in map(int, places):
        _flip(shard, place)
        try:
            shown = _shown(load_tfds("tiny_for_tests", str(data_dir))[1]["train"])[0]
            np.testing.assert_array_equal(shown, expected)
        except InputError:
            found += 1
        shard.write_bytes(whole)
    assert found >= 1


@pytest.mark.parametrize(
    "name", ["no_such_set", "a b", "../up", "mnist/no_such_config", "mnist:99.0.0", "other:set"]
)
def test_an_unknown_name_is_one_line_at_once(name, tmp_path, capsys):
    start = time.monotonic()
    with pytest.raises(InputError) as error:
        load(f"tfds:{name}", data_dir=str(tmp_path))
    assert time.monotonic() - start < 10  # no waiting for a network
    line = str(error.value)
    assert line.isprintable() and len(line) < 500 and name in line and "check" in line
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "file_format",
    [FORMATS[0], *(pytest.param(name, marks=pytest.mark.slow) for name in FORMATS[1:])],
)
def test_an_epoch_is_trained_and_judged_on_it(file_format, prepared, tmp_path, no_pictures):
    from keras_resnet.evaluation.scores import evaluate
    from keras_resnet.training.train import train

    run = train(
        "tfds:tiny_for_tests",
        data_dir=str(prepared[file_format]),
        run_folder=tmp_path / "run",
        model="resnet8",
        epochs=1,
        image_size=16,
        batch_size=8,
    )
    assert run.classes == ["cat", "dog"]
    images = {split: evaluate(run, split=split).images for split in ("train", "val", "test")}
    assert images == {"train": 20, "val": 4, "test": 8}


def test_without_a_network_it_is_one_line_and_no_waiting(tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nobody listens
    prepare = tfds.core.DatasetBuilder.download_and_prepare
    monkeypatch.setattr(
        tfds.core.DatasetBuilder,
        "download_and_prepare",
        lambda builder: prepare(builder) if builder.is_prepared() else pytest.fail("it waits"),
    )
    with pytest.raises(InputError) as error:
        load_tfds("mnist", tmp_path)
    assert "no connection to storage.googleapis.com" in str(error.value)
    assert "copy that folder here" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_folder_of_data_sets_may_have_any_name(file_format, prepared, tmp_path):
    folder = shutil.copytree(prepared[file_format], tmp_path / "data [2]")
    found = load("tfds:tiny_for_tests", data_dir=str(folder))
    assert len(found.splits["train"]) > 0
