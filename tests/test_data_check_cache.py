"""The cache of the check: unchanged good files are not decoded again, changed files are."""

import os
import shutil

import pytest

from keras_resnet.config import Config
from keras_resnet.data import check_cache, check_files, folder, preload, sources
from keras_resnet.errors import CheckFailed, InputError
from keras_resnet.training.train import train


@pytest.fixture
def data(photos, tmp_path, monkeypatch):
    """A folder of its own, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return str(shutil.copytree(photos, tmp_path / "photos"))


@pytest.fixture
def decoded(monkeypatch):
    """The names of the images that were decoded to be checked."""
    names, check = [], check_files.decodable

    def counted(examples):
        names.extend(examples.names)
        return check(examples)

    monkeypatch.setattr(check_files, "decodable", counted)
    return names


def _break(path, stat=None):
    """Cuts an image in its pixels; as long as it was, and as old, if `stat` is given."""
    size = os.path.getsize(path)
    with open(path, "r+b") as file:
        file.truncate(size // 2)
        if stat:
            file.truncate(size)
    if stat:
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_what_was_found_good_is_not_decoded_again(data, decoded, monkeypatch, tmp_path):
    source = sources.load(data)
    assert len(decoded) == 60
    decoded.clear()
    monkeypatch.setattr(check_cache, "save", None)  # nor is anything written
    sources.load(data)
    sources.save_split(source, tmp_path / "split.json")
    sources.load_saved(tmp_path / "split.json", data=data, classes=source.classes)
    assert decoded == []


def test_a_file_that_changed_is_decoded_again(data, decoded):
    sources.load(data)
    decoded.clear()
    os.utime(os.path.join(data, "dark", "01.jpg"), (1, 1))
    _break(os.path.join(data, "bright", "00.jpg"))
    with pytest.raises(InputError, match=r"bright/00\.jpg: cannot be decoded"):
        sources.load(data)
    assert sorted(decoded) == ["bright/00.jpg", "dark/01.jpg"]


def test_a_file_of_another_size_is_another_file_however_old_it_is(data, decoded):
    sources.load(data)
    decoded.clear()
    path = os.path.join(data, "bright", "00.jpg")
    before = os.stat(path)
    shutil.copy(os.path.join(data, "dark", "01.jpg"), path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert os.path.getsize(path) != before.st_size
    sources.load(data)
    assert decoded == ["bright/00.jpg"]


def test_broken_files_are_named_again_and_again(data):
    _break(os.path.join(data, "bright", "00.jpg"))
    for _ in range(2):
        with pytest.raises(InputError, match=r"bright/00\.jpg: cannot be decoded"):
            sources.load(data)
        assert folder.scan(data).report()["used"] == 59


def test_a_look_at_everything_takes_no_word_of_the_cache(data):
    sources.load(data)
    path = os.path.join(data, "bright", "00.jpg")
    _break(path, os.stat(path))
    assert folder.scan(data).bad == []  # as long and as old as it was
    assert folder.scan(data, look=True).bad == [(path, check_files._UNDECODABLE)]
    assert folder.scan(data).bad == [
        (path, check_files._UNDECODABLE)
    ]  # and it is known from now on


def test_a_link_to_the_folder_shares_its_cache(data, decoded, tmp_path):
    sources.load(data)
    decoded.clear()
    (tmp_path / "link").symlink_to(data)
    sources.load(tmp_path / "link")
    assert decoded == []


@pytest.mark.parametrize("damage", ["cut", "flipped", "method", "text", "other version"])
def test_a_damaged_cache_is_made_anew(damage, data, decoded, monkeypatch):
    sources.load(data)
    decoded.clear()
    path = check_cache._path(data)
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[content.index(b"bright/00.jpg")] ^= 1
        path.write_bytes(content)
    elif damage == "method":  # of the compression, in the list of files
        content[content.rindex(b"PK\x01\x02") + 10] = 99
        path.write_bytes(content)
    elif damage == "text":
        path.write_text("nothing")
    else:
        monkeypatch.setattr(check_cache, "_CHECKER", "2")
    sources.load(data)
    assert len(decoded) == 60
    decoded.clear()
    sources.load(data)
    assert decoded == []


def test_a_cache_that_cannot_be_written_is_one_line_of_the_log(data, monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("a file, where a folder should be")
    lines = []
    monkeypatch.setattr(check_cache.log, "debug", lines.append)
    assert len(sources.load(data).splits["train"]) == 48
    assert len([line for line in lines if "cannot be written" in line]) == 1


def test_nothing_is_written_among_the_photos(data, tmp_path):
    before = sorted(os.listdir(data))
    sources.load(data)
    assert sorted(os.listdir(data)) == before
    assert [p.suffix for p in (tmp_path / "cache" / "keras-resnet" / "checked").iterdir()] == [
        ".npz"
    ]


def test_headers_alone_are_read_if_asked(data, decoded):
    _break(os.path.join(data, "bright", "00.jpg"))
    assert len(sources.load(data, check="headers").splits["train"]) == 48
    assert len(sources.load_for(Config(data=data, check="headers")).splits["train"]) == 48
    assert decoded == []
    with pytest.raises(InputError, match=r"bright/00\.jpg: cannot be decoded"):
        sources.load(data)
    assert len(decoded) == 60


def test_an_image_that_breaks_while_it_is_trained_on_is_named(data, tmp_path, monkeypatch):
    monkeypatch.setattr(preload, "MOST_BYTES", 0)  # none is kept decoded
    sources.load(data)
    path = os.path.join(data, "bright", "00.jpg")
    _break(path, os.stat(path))  # the cache says that it is good
    options = {"model": "resnet8", "image_size": 16, "batch_size": 12, "epochs": 1}
    with pytest.raises(CheckFailed, match=r"bright/00\.jpg: cannot be decoded.*--resume"):
        train(data, run_folder=tmp_path / "run", **options)
    with pytest.raises(InputError, match=r"bright/00\.jpg.*cannot be decoded"):
        sources.load(data)
