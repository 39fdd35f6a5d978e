"""Atomic writes: a file is complete or missing."""

import errno
import fcntl
import json
import os

import numpy as np
import pytest

from keras_resnet import files, recipes
from keras_resnet.exporting import publish
from keras_resnet.run import Run, claim, open_run, short_name


def test_a_written_file_holds_the_content_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "labels.txt"
    files.write_text(path, "猫\nåkerbär\n")
    assert path.read_bytes() == "猫\nåkerbär\n".encode()
    assert os.listdir(tmp_path) == ["labels.txt"]


def test_the_old_content_is_there_until_the_new_is_whole(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with files.atomic(str(path)) as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".part"
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failing_write_leaves_the_old_content_and_no_leftovers(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), files.atomic(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_link_in_the_place_of_the_temporary_file_is_not_followed(tmp_path):
    """As in a run folder of someone else."""
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "a.txt.part").symlink_to("mine.txt")
    files.write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert (tmp_path / "a.txt").read_text() == "new" and not (tmp_path / "a.txt").is_symlink()


def test_a_writer_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), files.atomic(tmp_path / "a.txt"):
        pass
    assert os.listdir(tmp_path) == []


def test_content_that_is_not_json_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"epoch": 1})
    with pytest.raises(TypeError):
        files.write_json(path, {"epoch": object()})
    assert json.loads(path.read_text()) == {"epoch": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_json_is_for_people_too(tmp_path):
    files.write_json(tmp_path / "a.json", {"class": "猫", "n": [1]})
    expected = '{\n  "class": "猫",\n  "n": [\n    1\n  ]\n}\n'
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == expected


def test_a_file_name_that_is_not_utf8_survives_json(tmp_path):
    name = os.fsdecode(b"caf\xe9 \\ .jpg")
    files.write_json(tmp_path / "a.json", [name])
    content = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(content) in ([name], ["café \\ .jpg"])  # the latter where bytes are latin-1


def test_a_run_reads_a_file_once_and_knows_what_it_writes(tmp_path):
    classes = ["ant", "bee"]
    run = Run(tmp_path / "run")
    run.path.mkdir()
    run.begin(recipes.resolve({"data": "digits"}), classes)
    opened = Run(run.path)
    assert opened.config == run.config and opened.classes == run.classes == classes
    assert opened.config is opened.config and open_run_again(opened) is opened
    run.save_metrics({"model": "resnet20"})
    assert run.metrics == opened.metrics == {"model": "resnet20"}
    assert run.manifest == {}
    run.save_manifest()
    assert set(run.manifest) == {"config.json", "labels.txt", "metrics.json"}
    assert Run(run.path).manifest == run.manifest


def open_run_again(run):
    run.file("model.keras").touch()
    again = open_run(run)
    run.file("model.keras").unlink()
    return again


def test_a_folder_named_like_a_pattern_gets_a_plain_name_for_a_while(tmp_path, monkeypatch):
    with files.plainly_named(tmp_path) as same:
        assert same == tmp_path
    odd = tmp_path / "a [b] *"
    odd.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(odd))
    with files.plainly_named(odd.name) as plain:
        (plain / "x").write_text("y")
        assert not set(str(plain)) & set("[]*?")
    assert (odd / "x").read_text() == "y"
    assert not plain.exists() and [path.name for path in odd.iterdir()] == ["x"]


@pytest.mark.parametrize("reason", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks_is_told_and_used(tmp_path, monkeypatch, capsys, reason):
    """As Lustre, on many clusters."""

    def flock(*_):
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(fcntl, "flock", flock)
    with claim(tmp_path / "run", None) as run, publish.locked(tmp_path / "export") as is_locked:
        assert run.path == tmp_path / "run" and is_locked
    told = capsys.readouterr().err
    for folder in (tmp_path / "run", tmp_path):
        assert f"the file system of {folder} has no locks" in told


def test_numbers_of_numpy_are_numbers_in_json(tmp_path):
    files.write_json(
        tmp_path / "x.json", {"a": np.float32(0.5), "b": np.int64(3), "c": [np.float64(1)]}
    )
    assert files.read_json(tmp_path / "x.json") == {"a": 0.5, "b": 3, "c": [1.0]}


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("my photos/", "my-photos"),
        ("digits", "digits"),
        ("tfds:mnist:3.0.1", "tfds-mnist-3.0.1"),
        ("tfds:cifar10_corrupted/brightness_1", "tfds-cifar10_corrupted-brightness_1"),
    ],
)
def test_the_name_of_a_folder_has_that_of_the_data(data, name):
    assert short_name(data) == name
