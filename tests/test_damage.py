"""Damaged files are noticed in one line, or the damage is harmless: never wrong without a word."""

import json
import runpy
import shutil
from pathlib import Path

import pytest

from keras_resnet.data import sources
from keras_resnet.errors import InputError
from keras_resnet.run import Run

DAMAGE = runpy.run_path(Path(__file__).with_name("damage.py"))
KINDS, EXPORTED = DAMAGE["KINDS"], DAMAGE["EXPORTED"]
flips, truncations = DAMAGE["flips"], DAMAGE["truncations"]


def check(kind, count, run, tmp_path):
    path, read = kind(run, tmp_path)
    for damage in (flips, truncations):
        counts, bad = DAMAGE["outcomes"](path, damage(path, count), read)
        assert not bad and set(counts) <= {"detected", "harmless"}, (counts, bad[:3])


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_damage_is_noticed_or_harmless(kind, untouched, tmp_path):
    check(kind, 100, untouched, tmp_path)


@pytest.mark.parametrize("kind", EXPORTED.values(), ids=EXPORTED.keys())
def test_so_is_damage_to_an_export(kind, first_export, tmp_path):
    check(kind, 100, first_export / "run", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*KINDS.values(), *EXPORTED.values()], ids=[*KINDS, *EXPORTED])
def test_so_are_a_thousand_cases(kind, first_export, tmp_path):
    check(kind, 1000, first_export / "run", tmp_path)


def test_a_file_changed_on_purpose_is_used_without_its_entry(untouched, tmp_path):
    copy = shutil.copytree(untouched, tmp_path / "run")
    labels = copy / "labels.txt"
    labels.write_text(labels.read_text().replace("bright", "light"))
    with pytest.raises(InputError, match=r"labels.txt is damaged or was changed: .* delete the en"):
        _ = Run(copy).classes
    manifest = json.loads((copy / "manifest.json").read_text())
    for name in ("labels.txt", "model.keras"):
        del manifest[name]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert Run(copy).classes == ["light", "dark", "striped"]
    with pytest.raises(InputError, match=r"model.keras is damaged or was changed: .* again$"):
        Run(copy).model()


@pytest.mark.parametrize("name", ["/etc/passwd", "../secret.jpg", "a/../../secret.jpg"])
def test_a_split_names_nothing_outside_of_the_data_folder(name, tmp_path):
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"val": [["cat/1.jpg", "cat"], [name, "cat"]]}))
    with pytest.raises(InputError, match=f"names {name}, which is outside the data folder"):
        sources.read_split(path)


@pytest.mark.parametrize(
    "content",
    ["[]", "{", '{"a.jpg": "train"}', '{"val": 1}', '{"val": [["a"]]}', '{"val": [[1, 2]]}',
     '{"val": [["\\u0000", "a"]]}', "[" * 100_000, "1" * 10_000],
)  # fmt: skip
def test_a_split_with_other_content_is_one_line(content, tmp_path):
    (tmp_path / "split.json").write_text(content)
    with pytest.raises(InputError, match=r"split.json is damaged") as error:
        sources.read_split(tmp_path / "split.json")
    assert "\n" not in str(error.value) and "missing 1 required" not in str(error.value)


def test_a_class_that_the_run_does_not_have_is_one_line(untouched, tmp_path):
    run = Run(shutil.copytree(untouched, tmp_path / "run"))
    run.manifest = {}
    text = run.file("split.json").read_text().replace('"dark"', '"bark"')
    run.file("split.json").write_text(text)
    with pytest.raises(InputError, match=r"has the class 'bark', which is not in labels.txt"):
        run.examples("val")


def test_a_folder_of_images_that_was_moved_is_told_once(untouched, photos, command, tmp_path):
    run = Run(shutil.copytree(untouched, tmp_path / "run"))
    config = json.loads(run.file("config.json").read_text())
    run.file("config.json").write_text(json.dumps({**config, "data": str(tmp_path / "gone")}))
    run.save_manifest()
    run = Run(run.path)
    with pytest.raises(InputError, match="give the current folder of the images: --data DIR"):
        run.examples("val")
    run.file("manifest.json").unlink()  # as of an unfinished run
    done = command("train", "--resume", run.path)
    assert done.returncode == 2
    assert f"if it was moved: `keras-resnet train NEWFOLDER --resume {run.path}`" in done.stderr
    run.save_manifest()
    (tmp_path / "other").mkdir()
    with pytest.raises(
        InputError, match=r"other has no .*jpg \(60 of 60 images of the run are missing\)"
    ):
        run.attach(tmp_path / "other")
    run.attach(photos)
    assert len(Run(run.path).examples("val")) == 12
