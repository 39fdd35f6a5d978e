"""Inputs and outputs of exported files, compared with Keras and NumPy."""

import json
import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest
from scipy import special

from keras_resnet import open_run
from keras_resnet.cli import tables
from keras_resnet.errors import CheckFailed, InputError
from keras_resnet.evaluation.artefact import open_artefact
from keras_resnet.evaluation.contract import read_contract
from keras_resnet.evaluation.scores import evaluate, predict
from keras_resnet.exporting import exporter, gate, guard
from keras_resnet.exporting.exporter import export
from keras_resnet.inspection import tflite_file
from keras_resnet.manifest import fingerprint

RNG = np.random.default_rng(0)


def copy(run, folder):
    shutil.copytree(run.path, folder, ignore=shutil.ignore_patterns("export"))
    return open_run(folder)


def answer(path, image):
    """What LiteRT gives for one image, by the names in the file's only signature."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    assert list(interpreter.get_signature_list()) == ["serving_default"]
    return interpreter.get_signature_runner()(image=image[None])


@pytest.fixture(scope="module")
def calibrated(trained, tmp_path_factory, mislabel):
    """Probabilities and features of a run that takes three images for others: (run, result)."""
    run = copy(trained, tmp_path_factory.mktemp("calibrated") / "run")
    mislabel(run)
    run = open_run(run.path)
    options = {"scores": "softmax", "calibrate_probabilities": True, "features": True}
    options |= {"io": "uint8", "reject": 0.25}
    return run, export(run, tflite=["none", "int8"], calibration=20, **options)


@pytest.fixture(scope="module")
def framed(trained, tmp_path_factory):
    """Files that take frames of 40×72 and name the best two: (run, result)."""
    run = copy(trained, tmp_path_factory.mktemp("framed") / "run")
    return run, export(
        run, saved_model=False, tflite=["none", "int8"], features=True, scores="softmax", top=2,
        input_size=(40, 72), io="uint8", calibration=20, max_drop=50, reject=0.25,
    )  # fmt: skip


def test_probabilities_are_those_of_the_logits_over_the_temperature(calibrated):
    run, result = calibrated
    divisor = result.probabilities.temperature
    assert divisor > 1  # it was too certain of three images
    image = RNG.integers(0, 256, (24, 24, 3)).astype(np.float32)
    logits = run.model().predict(image[None], verbose=0)
    found = answer(run.export_folder / "model_float32.tflite", image)
    assert found.keys() == {"scores"}
    assert found["scores"] == pytest.approx(special.softmax(logits / divisor, -1), abs=1e-5)


def test_the_saved_model_gives_the_same_probabilities_for_pixels_and_for_files(calibrated, photos):
    import tensorflow as tf

    run, _ = calibrated
    loaded = tf.saved_model.load(str(run.export_folder / "saved_model"))
    file = photos / "dark" / "01.jpg"
    (ours,) = predict(run.export_folder / "model_float32.tflite", [file], top=3)
    ours = {p.label: p.score for p in ours.predictions}
    found = loaded.signatures["serving_bytes"](image_bytes=tf.constant([file.read_bytes()]))
    by_name = dict(zip(run.classes, found["scores"].numpy()[0], strict=True))
    assert by_name == pytest.approx(ours, abs=1e-4)
    pixels = tf.zeros((1, 24, 24, 3))
    assert float(tf.reduce_sum(loaded.signatures["serving_default"](image=pixels)["scores"])) == (
        pytest.approx(1, abs=1e-5)
    )


@pytest.mark.parametrize("name", ["calibrated", "framed"])
def test_probabilities_have_a_threshold_for_none_of_these(name, request, photos):
    run, result = request.getfixturevalue(name)
    said = json.loads((run.export_folder / "preprocess.json").read_text())["reject"]
    assert said["score"] == "probability" and list(said["compared"]) == ["probability"]
    assert result.keras.known_refused == said["known_refused"]
    assert [row.known_refused is None for row in result.artefacts if row.top1] == (
        [False] * sum(row.top1 is not None for row in result.artefacts)
    )
    files = [*photos.rglob("*.jpg")]
    for row in predict(run.export_folder / "model_float32.tflite", files):
        assert row.rejected == (row.predictions[0].score < said["threshold"])


def test_the_calibration_is_in_every_report(calibrated):
    run, result = calibrated
    for name in ("verify.json", "preprocess.json"):
        said = json.loads((run.export_folder / name).read_text())["probabilities"]
        assert said == result.probabilities.as_json()
    assert {"temperature", "ece_before", "ece_after"} <= said.keys()
    assert "expected calibration error" in tables.verification(result)


def test_probabilities_that_get_worse_are_warned_of(calibrated, tmp_path, monkeypatch, capsys):
    run, result = calibrated
    options = {"saved_model": False, "output": tmp_path / "out"}
    for after in (0.0, 1.0):
        fit = replace(result.probabilities, loss_before=0.5, loss_after=after)
        monkeypatch.setattr(exporter.temperature, "calibrate", lambda *_, fit=fit: fit)
        capsys.readouterr()
        export(run, calibrate_probabilities=True, **options)
        assert ("grows from 0.5 to 1: calibration makes" in capsys.readouterr().err) == (after == 1)
    # So is a temperature at the end of the searched range, as for a model that only guesses.
    fit = replace(result.probabilities, temperature=100.0)
    monkeypatch.setattr(exporter.temperature, "calibrate", lambda *_: fit)
    export(run, calibrate_probabilities=True, **options)
    assert "100 is the end of the searched range" in capsys.readouterr().err
    # And so is an export that drops the temperature of the one before it.
    export(run, **options)
    err = capsys.readouterr().err
    assert f"{options['output']} was exported with --calibrate-probabilities; " in err
    export(run, **options)
    assert "was exported with" not in capsys.readouterr().err


def test_an_artefact_with_probabilities_is_judged_like_any_other(calibrated):
    run, result = calibrated
    rows = {row.file: row for row in result.artefacts}
    assert all(row.passed for row in rows.values())
    assert rows["model_float32.tflite"].agreement == 1.0
    assert rows["model_float32.tflite"].max_logit_diff < 1e-4
    assert gate.verify(run).passed
    scores = evaluate(run.export_folder / "model_float32.tflite")
    assert scores.top1 == result.keras.top1
    # Keras knows nothing of the temperature, which makes the loss smaller.
    assert scores.loss < evaluate(run.path).loss


def test_features_are_the_pooled_ones(calibrated):
    run, result = calibrated
    image = RNG.integers(0, 256, (24, 24, 3)).astype(np.float32)
    model = run.model()
    pooled = keras.Model(model.input, model.get_layer("avg_pool").output)
    expected = pooled.predict(image[None], verbose=0)
    found = answer(run.export_folder / "model_features.tflite", image)["features"]
    assert found.shape == (1, 64)
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
    (row,) = [row for row in result.artefacts if row.file == "model_features.tflite"]
    assert row.passed and row.top1 is None and row.max_logit_diff < 1e-3
    assert "model_features.tflite" in tables.verification(result)
    assert run.export_folder / "model_features.tflite" not in run.exported()


def damaged(run, folder, name):
    """A copy whose file has other weights, and is recorded as if it had been exported so."""
    shutil.copytree(run.path, folder)
    path = folder / "export" / name
    numbers = np.fromfile(path, np.float32)  # the weights lie at multiples of 4 bytes
    middle = numbers[int(0.4 * len(numbers)) : int(0.5 * len(numbers))]
    middle[(np.abs(middle) > 1e-4) & (np.abs(middle) < 10)] *= 1.5  # no offsets, which are integers
    numbers.tofile(path)
    guard.record(path.parent, {name: fingerprint(path)})
    return folder


def test_features_of_other_weights_do_not_pass(calibrated, tmp_path):
    name = "model_features.tflite"
    result = gate.verify(damaged(calibrated[0], tmp_path / "run", name))
    (row,) = [row for row in result.artefacts if not row.passed]
    assert row.file == name and "features differ by" in row.why


def test_a_contract_that_the_files_do_not_keep_is_noticed(calibrated, tmp_path):
    shutil.copytree(calibrated[0].path, tmp_path / "run")
    run = open_run(tmp_path / "run")
    file = run.export_folder / "preprocess.json"
    said = json.loads(file.read_text())
    file.write_text(json.dumps(said | {"temperature": 1.0}))
    guard.record(run.export_folder, {file.name: fingerprint(file)})
    result = gate.verify(run)
    assert not result.passed
    with pytest.raises(CheckFailed, match=r"model_float32\.tflite: .* differ by"):
        gate.demand(result)


def test_files_of_another_contract_do_not_lie_side_by_side(calibrated, monkeypatch):
    monkeypatch.setattr("keras_resnet.exporting.publish.staged", None)
    with pytest.raises(InputError, match=r"contains .*, whose --scores differs from that"):
        export(calibrated[0], saved_model=False, tflite=["dynamic"])


def shrink(square, side):
    """Bilinear, as OpenCV and Android do it: pixel centres at halves, no antialiasing."""
    at = (np.arange(side) + 0.5) * len(square) / side - 0.5
    low = np.clip(np.floor(at).astype(int), 0, len(square) - 1)
    high, share = np.minimum(low + 1, len(square) - 1), np.maximum(at - low, 0)
    rows = square[low] * (1 - share)[:, None, None] + square[high] * share[:, None, None]
    share = share[None, :, None]
    return rows[:, low] * (1 - share) + rows[:, high] * share


def test_a_frame_is_cropped_and_resized_inside_and_the_best_two_named(framed):
    run, _ = framed
    frame = RNG.integers(0, 256, (40, 72, 3)).astype(np.float32)
    square = shrink(frame[:, 16:56], 24).astype(np.float32)
    p = special.softmax(run.model().predict(square[None], verbose=0), -1)[0]
    best = np.argsort(-p)[:2]
    found = answer(run.export_folder / "model_float32.tflite", frame)
    assert found.keys() == {"scores", "classes"}
    assert found["classes"][0].tolist() == best.tolist() and found["classes"].dtype == np.int32
    assert found["scores"][0] == pytest.approx(p[best], abs=1e-4)


def test_a_frames_file_is_judged_with_its_own_resize(framed):
    run, result = framed
    for row in result.artefacts:
        assert row.passed, row.why
        assert row.ops["RESIZE_BILINEAR"] == 1
        assert tflite_file.faults(run.export_folder / row.file) == []
    first = result.artefacts[0]
    assert first.file == "model_float32.tflite" and first.max_logit_diff < 1e-4
    assert first.ops["TOPK_V2"] == 1 and first.top1 > 0.9
    assert read_contract(run.export_folder).input_size == (40, 72)


def test_a_frames_file_is_evaluated_on_photos_of_any_shape(framed, photos):
    run, _ = framed
    for name in ("float32", "int8"):
        path = run.export_folder / f"model_{name}.tflite"
        assert open_artefact(path).geometry.side == 40
        assert evaluate(path).top1 > 0.9
        rows = predict(path, [photos / "dark"], top=3)
        assert sum(row.predictions[0].label == "dark" for row in rows) >= 18
        assert {len(row.predictions) for row in rows} == {2}  # it says nothing of the third


def test_raw_bytes_of_a_frame_go_in_as_they_are(framed):
    (tensor,) = tflite_file.census(framed[0].export_folder / "model_int8.tflite").inputs
    assert (tensor.dtype, tensor.scale, tensor.zero_point) == ("uint8", 1.0, 0)
    assert tensor.shape == [1, 40, 72, 3]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scores": "odds"}, "--scores odds: use one of logits, softmax"),
        ({"top": 2}, "add --scores softmax"),
        ({"top": 4, "scores": "softmax"}, "--top is 4; expected 1 to 3"),
        ({"top": 2, "scores": "softmax", "saved_model": True}, "for TFLite files"),
        ({"input_size": (24, 24)}, "the model's own size, 24x24"),
        ({"input_size": (0, 24)}, "--input-size is 0x24"),
        ({"input_size": (99_999, 24)}, "--input-size is 99999x24; .* at most 8,192 pixels"),
        ({"input_size": "32x48"}, "--input-size is '32x48'; expected height and width"),
        ({"input_size": (32.0, 48.0)}, r"--input-size is \(32.0, 48.0\); expected"),
        ({"input_size": 32}, "--input-size is 32; expected"),
        ({"tflite": None}, "tflite is None; expected a list"),
        ({"reject": "0.1"}, "--reject is '0.1'; expected a number"),
        ({"calibration": 50.0}, "--calibration is 50.0; expected a whole number"),
        ({"images": 10.5}, "--images is 10.5; expected a whole number"),
        ({"max_drop": "1"}, "--max-drop is '1'; expected a number"),
        ({"calibrate_probabilities": True}, "all 12 validation images"),
    ],
)
def test_ends_that_no_file_can_have_are_refused(trained, options, said, monkeypatch):
    monkeypatch.setattr("keras_resnet.exporting.publish.staged", None)
    with pytest.raises(InputError, match=said):
        export(trained, **({"saved_model": False} | options))


def test_a_file_that_names_the_best_needs_its_labels_beside_it(framed, tmp_path):
    alone = shutil.copy(framed[0].export_folder / "model_int8.tflite", tmp_path)
    refusal = r"outputs class numbers; copy labels\.txt and preprocess\.json"
    with pytest.raises(InputError, match=refusal):
        open_artefact(alone)


@pytest.mark.parametrize("size", ["big", "²x5"])
def test_a_size_that_is_none_is_answered_in_one_line(command, size):
    done = command("export", "--input-size", size)
    assert done.returncode == 2 and f"'{size}'; expected HEIGHTxWIDTH" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("size", ["24x24", "24X24", "24×24"])
def test_a_size_is_typed_as_an_image_size_is(command, trained, size):
    done = command("export", trained.path, "--input-size", size)
    assert done.returncode == 2 and "the model's own size, 24x24" in done.stderr
