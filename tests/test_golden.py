"""The golden set: validation images, their exact pixels, and the logits of each file."""

import hashlib
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from keras_resnet.data import examples
from keras_resnet.evaluation.lite import Lite
from keras_resnet.exporting import golden
from keras_resnet.filenames import TFLITE
from keras_resnet.files import read_json

XNNPACK = "INFO: Created TensorFlow Lite XNNPACK delegate for CPU."


@pytest.fixture(scope="module")
def index(exported):
    return read_json(exported[0].export_folder / "golden" / "golden.json")


@pytest.fixture
def folder(exported, tmp_path):
    """A copy of the export that may be damaged."""
    import shutil

    target = tmp_path / "export"
    shutil.copytree(exported[0].export_folder, target)
    return target


def pixels_of(run, entry):
    return np.array(Image.open(run.export_folder / "golden" / entry["file"]))


def test_classes_come_in_turn_and_the_model_is_right(exported, index):
    run, _ = exported
    assert len(index["images"]) == golden.IMAGES
    assert [entry["label"] for entry in index["images"]] == run.classes * 4
    right = [entry["label"] == entry["predicted"] for entry in index["images"]]
    assert right == sorted(right, reverse=True)  # those first that the model gets right


def test_an_image_whose_best_class_is_in_doubt_is_not_taken_while_there_are_others(
    exported, monkeypatch
):
    from keras_resnet.evaluation.artefact import open_artefact

    run, _ = exported
    val = run.examples("val")
    monkeypatch.setattr(golden, "IMAGES", 11)
    for doubtful in (0, 5):
        is_clear = np.arange(len(val)) != doubtful
        judge = SimpleNamespace(
            examples=val,
            is_clear=lambda clear=is_clear: clear,
            is_refused=lambda: np.zeros(len(val), bool),
        )
        chosen, _, _ = golden._choose(open_artefact(run), judge, 0)
        assert {*val.names} - {*chosen.names} == {val.names[doubtful]}


def test_no_training_image_is_in_it(exported, index, photos):
    run, _ = exported
    split = json.loads(run.file("split.json").read_text())
    held_out = {(photos / name).read_bytes() for name, *_ in split["val"]}
    for entry in index["images"]:
        # The photo is the file as it was found.
        assert (run.export_folder / "golden" / entry["photo"]).read_bytes() in held_out


def test_the_pixels_have_the_noted_sha256_and_are_what_evaluation_shows(exported, index):
    from keras_resnet.evaluation.artefact import open_artefact
    from keras_resnet.evaluation.scores import stream_for

    run, _ = exported
    opened = open_artefact(run.path)
    stream = stream_for(opened, run.examples("val"))
    shown = {x.tobytes() for batch, _ in stream.as_numpy_iterator() for x in batch}
    for entry in index["images"]:
        pixels = pixels_of(run, entry)
        assert pixels.shape == (24, 24, 3) and pixels.dtype == np.uint8
        assert hashlib.sha256(pixels.tobytes()).hexdigest() == entry["sha256"]
        assert pixels.tobytes() in shown


@pytest.mark.parametrize("name", TFLITE.values())
def test_every_file_gives_the_noted_logits(exported, index, name):
    run, _ = exported
    images = np.stack([pixels_of(run, entry) for entry in index["images"]])
    noted = np.float32([entry["logits"][name] for entry in index["images"]])
    assert (Lite(run.export_folder / name).predict(images) == noted).all()
    share = 1e-3 if "float" in name else 0.05
    assert index["tolerance"][name] == pytest.approx(share * np.abs(noted).max())


def test_the_answers_of_the_int8_file_have_one_hash_however_many_threads_compute_them(
    exported, index
):
    run, result = exported
    images = np.stack([pixels_of(run, entry) for entry in index["images"]])
    assert list(index["answers_sha256"]) == [TFLITE["int8"]]
    for threads in (1, 2, 3):
        logits = Lite(run.export_folder / TFLITE["int8"], threads=threads).predict(images)
        found = hashlib.sha256(logits.astype("<f4").tobytes()).hexdigest()
        assert index["answers_sha256"][TFLITE["int8"]] == found
    assert all(row.answers_sha256 is None for row in result.artefacts)  # it was not there yet


@pytest.mark.parametrize("shift", [0.0, 1e-6])
def test_verify_says_whether_the_answers_are_those_of_the_export(folder, shift):
    path = folder / "golden" / "golden.json"
    index = read_json(path)
    index["images"][3]["logits"][TFLITE["int8"]][0] += shift
    path.write_text(json.dumps(index))
    file = SimpleNamespace(
        name=TFLITE["int8"], path=folder / TFLITE["int8"], opened=Lite(folder / TFLITE["int8"])
    )
    found = golden.replay(file)
    assert found.reason == "" and found.repeats is (shift == 0.0)
    assert found.sha256 == index["answers_sha256"][TFLITE["int8"]]


def test_a_golden_set_without_images_is_named(folder):
    path = folder / "golden" / "golden.json"
    path.write_text(json.dumps(read_json(path) | {"images": []}))
    file = SimpleNamespace(name=TFLITE["int8"], path=folder / TFLITE["int8"])
    assert golden.replay(file).reason == "has no images in golden/golden.json"


def test_the_saved_model_is_in_it_too(index):
    assert {*index["tolerance"]} == {*TFLITE.values(), "saved_model"}


@pytest.mark.parametrize("name", ["saved_model", "model.onnx", "model_trainable.tflite"])
def test_what_computes_in_float_may_differ_by_a_thousandth_alone(name):
    assert golden.tolerance(name, np.array([[-20.0, 3.0]])) == pytest.approx(0.02)


def run_check(folder):
    code = (
        "import runpy, sys; sys.modules['tensorflow'] = sys.modules['keras'] = None; "
        "runpy.run_path(sys.argv[1], run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-P", "-c", code, folder / "golden" / "check.py"],
        capture_output=True, text=True,
    )  # fmt: skip


def test_its_own_check_passes_without_tensorflow(folder):
    done = run_check(folder)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(TFLITE) + 1
    assert any("outputs have sha256" in line and "same as at export" in line for line in lines)


def test_its_own_check_allows_what_is_within_the_tolerance(folder):
    path = folder / "golden" / "golden.json"
    index = read_json(path)
    for entry in index["images"]:
        for name, logits in entry["logits"].items():
            entry["logits"][name] = [x + index["tolerance"][name] / 2 for x in logits]
    path.write_text(json.dumps(index))
    done = run_check(folder)
    assert done.returncode == 0 and done.stderr.strip() in ("", XNNPACK), done.stderr


def test_its_own_check_notices_another_model(exported, folder):
    kernel = exported[0].model().get_layer("logits").get_weights()[0].T  # as LiteRT stores it
    file = folder / TFLITE["none"]
    content = file.read_bytes()
    assert kernel.tobytes() in content
    file.write_bytes(content.replace(kernel.tobytes(), kernel[::-1].tobytes()))  # other classes
    done = run_check(folder)
    assert done.returncode == 1, done.stderr


def test_its_own_check_notices_other_pixels(folder):
    path = folder / "golden" / "00.png"
    pixels = np.array(Image.open(path))
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(path)
    done = run_check(folder)
    assert done.returncode == 1 and "00.png" in done.stderr


def test_images_without_files_become_png():
    images = np.random.default_rng(0).integers(0, 256, (2, 9, 7, 3), dtype=np.uint8)
    found = golden._photos(examples.from_pixels(images, [0, 1], ["a", "b"]))
    for encoded, pixels in zip(found, images, strict=True):
        import io

        assert (np.array(Image.open(io.BytesIO(encoded))) == pixels).all()


def test_photos_that_would_make_the_set_large_are_left_out(monkeypatch):
    monkeypatch.setattr(golden, "MOST_PHOTO_BYTES", 25)
    encoded = [b"\xff\xd8" + bytes(18), b"\xff\xd8" + bytes(18), b"\xff\xd8" + bytes(3)]
    found = golden._photos(examples.from_bytes(encoded, [0, 0, 0], ["a", "b", "c"], [1, 1, 1]))
    assert found == [encoded[0], None, encoded[2]]


def test_one_file_alone_under_another_name(exported):
    index = exported[0].export_folder / "golden" / "golden.json"
    whole, alone = read_json(index), golden.only(index, TFLITE["int8"], "model.tflite")
    assert alone["tolerance"] == {"model.tflite": whole["tolerance"][TFLITE["int8"]]}
    assert alone["answers_sha256"] == {"model.tflite": whole["answers_sha256"][TFLITE["int8"]]}
    for one, all_of_them in zip(alone["images"], whole["images"], strict=True):
        assert one["logits"] == {"model.tflite": all_of_them["logits"][TFLITE["int8"]]}
