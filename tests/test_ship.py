"""`ship`: one command from photos to an app, which resumes where it stopped."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from keras_resnet import filenames, shipping
from keras_resnet.cli import tables
from keras_resnet.errors import InputError
from keras_resnet.evaluation.contract import require_contract
from keras_resnet.exporting import exporter, gate
from keras_resnet.exporting.verification import TriedFile
from keras_resnet.run import open_run
from keras_resnet.studies import search


@pytest.fixture(scope="module")
def home(tmp_path_factory, photos, untouched):
    """A folder with `photos`, and `run`, that of `untouched`."""
    folder = tmp_path_factory.mktemp("ship")
    (folder / "photos").symlink_to(photos)
    shutil.copytree(untouched, folder / "run")
    return folder


def times(folder):
    return {path: os.stat(path).st_mtime_ns for path in folder.rglob("*.tflite")}


def test_a_run_becomes_an_app_and_the_same_command_only_verifies_it(
    command, home, monkeypatch, capsys
):
    done = command("ship", "run", "--bundle", "web", "--bundle", "python", "--json", cwd=home)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["apps"] == {
        "web": "run/export/bundle_web", "python": "run/export/bundle_python",
    }  # fmt: skip
    assert result["verification"]["passed"]
    assert (home / "run/export/bundle_python/classify.py").exists()
    assert (home / "run/export" / result["model"]).exists()
    page = re.sub("<[^>]*>", "", (home / "run/report.html").read_text())
    assert "http.server 8000Then open http://localhost:8000" in page
    assert "classify.py IMAGE" in page
    before = times(home / "run")
    again = command("ship", "run", cwd=home)
    assert again.returncode == 0, again.stderr
    assert "run is already trained" in again.stderr
    assert "unchanged since it was exported" in again.stderr
    assert "http://localhost:8000" in again.stdout
    assert times(home / "run") == before

    # Where a file changed, all are written again.
    (home / "run/export/bundle_web/labels.txt").write_text("x\n")
    again = []
    monkeypatch.setattr(exporter, "export", lambda *_, **options: again.append(options))
    shipping.ship(home / "run")
    assert len(again) == 1 and "it does not pass; exporting again" in capsys.readouterr().err


def test_an_app_says_none_of_these_where_it_is_asked_to(home, monkeypatch, accept, capsys):
    monkeypatch.chdir(home)
    run = shutil.copytree("run", "rejecting", ignore=shutil.ignore_patterns("export"))
    asked = {"bundles": ["python"], "reject": 0.25, "unknown": "photos"}
    written = []
    for _ in range(2):
        shipped = shipping.ship(run, **asked)
        bundled = json.loads((home / run / "export/bundle_python/preprocess.json").read_text())
        assert bundled["reject"]["share"] == 0.25
        assert shipped.verification.keras.unknown_refused is not None
        written.append(times(home / run))
    assert written[0] == written[1]
    refused = next(row.unknown_refused for row in shipped.verification.artefacts)
    line = f', {refused:.1%} of those of no class: "none of these"\n'
    assert line in tables.shipped(shipped)
    # An app that is added, or a file that changed, loses no threshold in silence.
    for bundle in ("c", "python"):
        (home / run / "export/bundle_python/labels.txt").write_text("x\n")
        with pytest.raises(
            InputError, match=r"exported with --reject 0\.25; give the option again"
        ):
            shipping.ship(run, bundles=[bundle])
    accept(home / run / "export", "bundle_python/labels.txt")
    path = home / run / "export" / "preprocess.json"
    whole = path.read_text()
    path.write_text(whole + " ")
    with pytest.raises(InputError, match=r"it does not pass, and .* was exported with --reject"):
        shipping.ship(run, bundles=["python"])
    path.write_text(whole[:50])
    with pytest.raises(InputError, match="to export everything again, delete "):
        shipping.ship(run, bundles=["python"])
    path.write_text(whole)
    os.rename(home / run / "export", home / run / ".export-old")  # as of a kill
    capsys.readouterr()
    assert shipping.ship(run, bundles=["python"]).verification.rejection.share == 0.25
    assert "unchanged since it was exported with --reject 0.25; delete " in capsys.readouterr().err
    again = []  # of another share, or with images of no class later, it is exported again
    monkeypatch.setattr(exporter, "export", lambda *_, **options: again.append(options))
    shipping.ship(run, bundles=["python"], reject=0.3)
    path = home / run / "export" / "preprocess.json"
    content = json.loads(path.read_text())
    content["reject"] |= {"unknown_judged_on": None, "unknown_refused": None}
    path.write_text(json.dumps(content))
    accept(home / run / "export", "preprocess.json")
    shipping.ship(run, **asked)
    assert [options["reject"] for options in again] == [0.3, 0.25]


def test_a_threshold_later_is_for_everything_that_was_exported(home, monkeypatch):
    """`export` writes a SavedModel too; all files of a folder have one threshold."""
    monkeypatch.chdir(home)
    run = shutil.copytree("run", "later", ignore=shutil.ignore_patterns("export"))
    exporter.export(run, tflite=["none"], bundles=["python"])
    shipped = shipping.ship(run, bundles=["python"], reject=0.25, unknown="photos")
    rows = {row.file: row for row in shipped.verification.artefacts}
    assert {"saved_model", shipped.model} == {*rows}
    assert all(row.unknown_refused is not None for row in rows.values())
    assert [*shipped.apps] == ["python"]
    again = shipping.ship(run, bundles=["web"], reject=0.25, unknown="photos")
    apps = {kind: f"later/export/bundle_{kind}" for kind in ("web", "python")}
    assert again.apps == apps and [*again.apps] == [*apps]

    # Files of other outputs would lose them: they are named, and stay.
    other = shutil.copytree("run", "softmax", ignore=shutil.ignore_patterns("export"))
    exporter.export(other, tflite=[], scores="softmax")
    with pytest.raises(
        InputError, match=r"contains saved_model, whose --scores differs.*delete it"
    ):
        shipping.ship(other, bundles=["python"])


def test_probabilities_are_calibrated_where_it_is_asked_for(home, monkeypatch, mislabel):
    monkeypatch.chdir(home)
    run = shutil.copytree("run", "calibrated", ignore=shutil.ignore_patterns("export"))
    mislabel(open_run(run))
    plain = shipping.ship(run, bundles=["python"])
    assert plain.verification.probabilities is None
    written = []
    for _ in range(2):
        shipped = shipping.ship(run, bundles=["python"], calibrate_probabilities=True)
        bundled = json.loads((home / run / "export/bundle_python/preprocess.json").read_text())
        assert bundled["temperature"] == shipped.verification.probabilities.temperature != 1
        written.append(times(home / run))
    assert written[0] == written[1]
    with pytest.raises(
        InputError, match="exported with --calibrate-probabilities; give the option"
    ):
        shipping.ship(run, bundles=["c"])


def test_layers_that_stayed_in_float_are_named():
    def tried(taken, layers):
        return TriedFile("int8", "model_int8.tflite", layers, 1, 0.0, taken, "")

    assert [*tables._float_layers([tried(False, ["stem"]), tried(True, ["stem", "head"])])] == [
        "in float     2 layers for which int8 loses too much: stem, head"
    ]
    assert not [*tables._float_layers([tried(True, [])])]


def test_photos_that_came_or_went_since_are_told(home, tmp_path, capsys):
    run = open_run(shutil.copytree(home / "run", tmp_path / "run"))
    photos = shutil.copytree(home / "photos", tmp_path / "my photos")
    run.attach(photos)
    asked = {
        "bundles": ("c",), "max_drop": 2.0, "calibrate_probabilities": False, "reject": 0.05,
        "unknown": "no class",
    }  # fmt: skip

    def check():
        shipping._require_same_photos(run, photos, {"epochs": 3, "seed": None}, asked)
        return capsys.readouterr().err

    (kept, *_), (held_out, *_) = (
        [photos / image.name for image in run.splits[split]] for split in ("train", "val")
    )
    assert "does not have" not in check()
    shutil.copy(kept, kept.with_name("new.jpg"))
    shutil.move(kept, photos / "moved.jpg")
    (tmp_path / "run-2").mkdir()
    said = check()
    again = f"keras-resnet ship '{photos}' --weights {tmp_path}/run --run {tmp_path}/run-3 "
    again += "--epochs 3 --bundle c --max-drop 2 --reject 0.05 --unknown 'no class'"
    assert f"{photos} has 1 image that {run.path} does not have and lacks 1 image of" in said
    assert f"to train again from its weights: `{again}`" in said
    kept.with_name("new.jpg").unlink()
    assert f"{photos} lacks 1 image of {run.path}; to train again" in check()
    held_out.rename(tmp_path / "away.jpg")
    lost = (
        r"lacks 2 images of .*, 1 of them validation images, .*: \w+/\d+.jpg; restore them, or, to"
    )
    with pytest.raises(InputError, match=lost):
        check()
    (tmp_path / "away.jpg").rename(held_out)
    shutil.copytree(photos / "dark", photos / "night")
    with pytest.raises(InputError, match=r"was not trained on the class night of .*; to train"):
        check()


def test_an_interrupted_training_does_not_resume_without_a_new_class(
    home, tmp_path, monkeypatch, capsys
):
    run = open_run(shutil.copytree(home / "run", tmp_path / "run"))
    photos = shutil.copytree(home / "photos", tmp_path / "photos")
    run.attach(photos)
    run.file("manifest.json").unlink()
    run.file("checkpoints").mkdir(exist_ok=True)
    (run.file("checkpoints") / "step-7.index").touch()
    resumed = []
    monkeypatch.setattr("keras_resnet.training.train.train", lambda **given: resumed.append(given))
    with pytest.raises(InputError, match="ship is for one process"):  # no run from the stub
        shipping.ship(photos, run_folder=run.path)
    assert len(resumed) == 1 and "does not have" not in capsys.readouterr().err
    held_out = photos / run.splits["val"][0].name
    shutil.copy(held_out, held_out.with_name("new.jpg"))
    with pytest.raises(InputError, match="ship is for one process"):
        shipping.ship(photos, run_folder=run.path)
    assert len(resumed) == 2
    told = f"{photos} has 1 image that {run.path} does not have; to start again, delete {run.path}"
    assert told in capsys.readouterr().err
    held_out.unlink()
    with pytest.raises(InputError, match=r"1 of them validation images.*; restore them, or, to st"):
        shipping.ship(photos, run_folder=run.path)
    shutil.copytree(photos / "dark", photos / "night")
    with pytest.raises(InputError, match=r"not trained on the class night .*; to start again, d"):
        shipping.ship(photos, run_folder=run.path)
    assert len(resumed) == 2


@pytest.mark.parametrize("taken", ["int8", "int8 with layers in float", "float16"])
def test_int8_is_tried_again_where_a_larger_drop_is_allowed(
    home, tmp_path, exported, monkeypatch, taken
):
    def choose(folder, convert, layer_errors, judge):
        variant, *layers = taken.split(" ", 1)
        name = filenames.TFLITE[variant]
        shutil.copy(exported[0].export_folder / name, folder / name)
        return [TriedFile(variant, name, layers, 1, 0.0, True, "")], {"seconds": 1.0}

    monkeypatch.setattr("keras_resnet.exporting.auto.choose", choose)
    run = open_run(shutil.copytree(home / "run", tmp_path / "run"))
    exporter.export(run, saved_model=False, tflite=["auto"], max_drop=10)
    gate.verify(run, max_drop=20)  # which writes verify.json
    folder = run.export_folder
    for max_drop, why in [(10, None), (30, f"{folder} was exported with --max-drop 10")]:
        asked = {
            "bundles": (), "max_drop": max_drop, "calibrate_probabilities": False, "reject": None,
        }  # fmt: skip
        lacks = shipping._lacks(folder, require_contract(folder), asked)
        assert lacks == (None if taken == "int8" else why)


@pytest.mark.parametrize("path", [".", ".."])
def test_a_search_for_this_folder_has_a_name(tmp_path, monkeypatch, path):
    home = tmp_path / "a" / "b"
    home.mkdir(parents=True)
    monkeypatch.chdir(home)
    there = tmp_path / "a" if path == ".." else home
    assert shipping._search_folder(Path(path)) == there.with_name(f"{there.name}-search")


def test_a_finished_run_keeps_the_network_of_its_budget_when_photos_changed(
    home, tmp_path, monkeypatch
):
    def choose(*_):
        raise AssertionError("it searches again")

    monkeypatch.setattr(search, "choose", choose)
    run = open_run(shutil.copytree(home / "run", tmp_path / "run"))
    photos = shutil.copytree(home / "photos", tmp_path / "photos")
    run.attach(photos)
    point = search.Candidate(
        "resnet8", 1.0, 24, 1, 1, "", 3, 12, 0.9, bytes=2, latency_ms=1.0, chosen=True
    )
    shipping._save(run, search.Budget(max_mb=5.0), [point])
    shutil.rmtree(photos / "dark")
    with pytest.raises(InputError, match=r"lacks .* of them validation images"):
        shipping.ship(photos, run_folder=run.path, max_mb=5.0)
    with pytest.raises(AssertionError, match="searches"):
        shipping.ship(photos, run_folder=run.path, max_mb=4.0)


def test_a_wrong_rejection_is_told_before_the_training(home, monkeypatch, tmp_path):
    monkeypatch.chdir(home)
    with pytest.raises(InputError, match=r"--reject is 0\.9; expected the share"):
        shipping.ship("photos", run_folder="none", reject=0.9)
    with pytest.raises(InputError, match="--unknown needs a threshold; add --reject"):
        shipping.ship("photos", run_folder="none", unknown="photos")
    with pytest.raises(InputError, match="is empty; give images"):
        shipping.ship("photos", run_folder="none", reject=0.1, unknown=tmp_path)
    with pytest.raises(InputError, match=r"--max-drop is -1; expected points of top-1, 0 to 100"):
        shipping.ship("photos", run_folder="none", max_drop=-1)
    assert not (home / "none").exists()


def test_a_wrong_argument_is_told_before_the_training(home, monkeypatch):
    monkeypatch.chdir(home)
    with pytest.raises(InputError, match="unknown argument 'bundle'; did you mean bundles"):
        shipping.ship("photos", run_folder="none", bundle=["python"])
    with pytest.raises(InputError, match="bundles is empty; give at least one of android, web"):
        shipping.ship("photos", run_folder="none", bundles=[])
    with pytest.raises(InputError, match="unknown setting 'epoch'; did you mean epochs"):
        shipping.ship("photos", run_folder="none", epoch=3)
    assert not (home / "none").exists()


def test_photos_become_an_app_and_an_interrupted_training_resumes(command, home):
    line = ("ship", "photos", "--model", "resnet8", "--epochs", 1, "--batch-size", 16)
    interrupted = command(*line, cwd=home, most_bytes=40_000)  # too few for the checkpoint
    assert interrupted.returncode == 1, interrupted.stderr
    said = [line for line in interrupted.stderr.splitlines() if line.startswith("keras-resnet: ")]
    assert len(said) == 1 and "runs/ship-photos" in said[0] and "resumes it" in said[0], said
    assert "Traceback" not in interrupted.stderr
    run = home / "runs" / "ship-photos"
    assert (run / "config.json").exists() and not (run / "manifest.json").exists()
    done = command(*line, cwd=home)
    assert done.returncode == 0, done.stderr
    assert f"web          runs/{run.name}/export/bundle_web" in done.stdout
    other = command("ship", "photos", "--model", "resnet8", "--epochs", 3, cwd=home)
    assert other.returncode == 2
    assert "was started with --epochs 1, not --epochs 3" in other.stderr


def test_a_run_has_its_settings_and_photos_have_their_place(home, monkeypatch):
    monkeypatch.chdir(home)
    with pytest.raises(InputError, match="the settings of run are fixed; leave out --image-size"):
        shipping.place("run", None, {"image_size": 32})
    with pytest.raises(
        InputError, match="--epochs is for a new run, but no DATA is given; give DATA"
    ):
        shipping.place(None, None, {"epochs": 3})
    assert str(shipping.place("photos", None, {})) == "runs/ship-photos"
    assert str(shipping.place("photos/", "there", {"epochs": 3})) == "there"
    monkeypatch.chdir(home / "photos")
    assert str(shipping.place(".", None, {})) == "runs/ship-photos"
