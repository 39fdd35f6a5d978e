"""Splits: stratified, seeded, complete, and restored from split.json."""

import json
import os
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_resnet.data.digits import load_digits
from keras_resnet.data.sources import load, load_all, load_split, read_split, save_split
from keras_resnet.data.stream import evaluation_stream
from keras_resnet.errors import InputError

COUNTS = {"ant": 2, "bee": 5, "cow": 11}


@pytest.fixture
def photos(tmp_path):
    """A folder of small images, every one different, with names that are not all UTF-8."""
    colours = np.random.default_rng(0).integers(0, 255, (100, 3))
    for label, count in COUNTS.items():
        folder = tmp_path / "photos" / label
        folder.mkdir(parents=True)
        for i in range(count):
            name = os.path.join(os.fsencode(folder), b"caf\xe9\n%d.png" % i)
            colour = tuple(map(int, colours[len(label) * 7 + i + count * 3]))
            with open(name, "wb") as file:
                Image.new("RGB", (6, 5), colour).save(file, "PNG")
    return str(tmp_path / "photos")


def _names(source, split):
    return set(source.splits[split].names)


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.99])
@pytest.mark.parametrize("data", ["photos", "digits"])
def test_a_split_is_stratified_disjoint_and_complete(data, share, photos):
    data = photos if data == "photos" else data
    everything = load_all(data).splits["all"]
    source = load(data, val_split=share)
    train, val = source.splits["train"], source.splits["val"]
    assert set(source.splits) == {"train", "val"}
    assert len(train) + len(val) == len(everything)
    assert _names(source, "train") | _names(source, "val") == set(everything.names)
    assert not _names(source, "train") & _names(source, "val")
    counts = np.bincount(everything.labels)
    held = np.bincount(val.labels, minlength=len(counts))
    assert (held >= 1).all() and (held <= counts - 1).all()
    wanted = np.clip(share * counts, 1, counts - 1)
    assert np.abs(held - wanted).max() <= 0.5


def test_the_seed_decides_the_split(photos):
    def held_out(seed):
        return _names(load(photos, seed=seed), "val")

    assert held_out(1) == held_out(1)
    assert len({frozenset(held_out(seed)) for seed in range(6)}) > 3


def test_a_path_will_do(photos):
    assert load(Path(photos)).classes == list(COUNTS)


def test_the_size_of_photos_is_that_of_their_shorter_sides(photos):
    assert load_all(photos).side == 5
    for i in range(40):  # most are now upright, and larger
        Image.new("RGB", (7, 9), (i, 0, 0)).save(os.path.join(photos, "cow", f"{i}.png"))
    assert load_all(photos).side == 7


def test_the_digits_are_complete():
    source = load_all("digits")
    digits = source.splits["all"]
    assert len(digits) == 1797 and source.classes == list("0123456789") and not source.mirrors
    assert digits.items.values.shape == (1797, 8, 8, 3) and digits.items.values.dtype == np.uint8
    assert digits.items.values.max() == 255 and len(set(digits.names)) == 1797


def test_the_digits_are_those_of_scikit_learn_in_the_same_order():
    theirs = pytest.importorskip("sklearn.datasets").load_digits()
    images, labels = load_digits()
    np.testing.assert_array_equal(images, theirs.images)
    np.testing.assert_array_equal(labels, theirs.target)
    digits = load_all("digits").splits["all"]
    pixels = np.round(theirs.images * (255 / 16)).astype(np.uint8)
    np.testing.assert_array_equal(digits.items.values, np.stack([pixels] * 3, axis=-1))
    np.testing.assert_array_equal(digits.labels, theirs.target)


def test_the_source_and_the_licence_of_the_digits_are_installed_with_them():
    note = (files("keras_resnet.data") / "digits.txt").read_text(encoding="utf-8")
    assert "10.24432/C50P49" in note and "CC BY 4.0" in note and "Alpaydin" in note


def _shown(examples):
    stream = evaluation_stream(examples, size=6, crop=1.0, batch_size=64)
    images, labels = zip(*stream.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


@pytest.mark.parametrize("data", ["photos", "digits"])
def test_a_saved_split_gives_the_same_images_again(data, photos, tmp_path):
    data = photos if data == "photos" else data
    source = load(data, seed=3)
    path = str(tmp_path / "split.json")
    save_split(source, path)
    for split, examples in source.splits.items():
        again = load_split(read_split(path), split, data=data, classes=source.classes)
        assert again.names == examples.names
    for expected, shown in zip(_shown(examples), _shown(again), strict=True):
        np.testing.assert_array_equal(expected, shown)


def test_images_that_came_later_are_not_in_a_saved_split(photos, tmp_path):
    source = load(photos)
    path = str(tmp_path / "split.json")
    save_split(source, path)
    Image.new("RGB", (6, 5)).save(os.path.join(photos, "ant", "a new one.png"))
    again = load_split(read_split(path), "train", data=photos, classes=source.classes)
    assert again.names == source.splits["train"].names


def _line(error):
    text = str(error.value)
    assert text.isprintable() and 20 < len(text) < 400
    return text


def test_an_image_that_vanished_is_one_line(photos, tmp_path):
    source = load(photos)
    path = str(tmp_path / "split.json")
    save_split(source, path)
    os.remove(os.path.join(photos, source.splits["val"].names[0]))
    with pytest.raises(InputError) as error:
        load_split(read_split(path), "val", data=photos, classes=source.classes)
    line = _line(error)
    assert "ant/caf\\xe9\\n" in line and "No such file" in line and "restore it" in line


def test_a_split_that_is_not_there_is_one_line(photos, tmp_path):
    path = tmp_path / "split.json"
    with pytest.raises(InputError, match=r"split\.json cannot be read"):
        load_split(read_split(path), "val", data=photos, classes=list(COUNTS))
    path.write_text("{")
    with pytest.raises(InputError, match=r"split\.json is damaged"):
        load_split(read_split(path), "val", data=photos, classes=list(COUNTS))
    path.write_text(json.dumps({"train": [], "val": []}))
    with pytest.raises(InputError, match="the run has no test split; it has train, val"):
        load_split(read_split(path), "test", data=photos, classes=list(COUNTS))


@pytest.mark.parametrize("typo", ["digit", "digts", "Digits", "digitss"])
def test_a_misspelt_digits_is_understood(typo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"no folder '{typo}'; did you mean digits"):
        load(typo)


def test_a_folder_that_is_called_digits_is_told(photos, tmp_path, monkeypatch, capsys):
    (tmp_path / "digits").symlink_to(photos)
    monkeypatch.chdir(tmp_path)
    assert len(load_all("digits").splits["all"]) == 1797
    assert "digits is the built-in data set; the folder of this name is ./digits" in (
        capsys.readouterr().err
    )
    assert load_all("./digits").splits["all"].names == load_all(photos).splits["all"].names
    assert capsys.readouterr().err == ""


def test_tfds_without_a_name_is_answered():
    with pytest.raises(InputError, match="tfds: has no name; give tfds:NAME"):
        load("tfds:")
