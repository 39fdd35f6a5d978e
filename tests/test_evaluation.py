"""All kinds of artefacts are opened and evaluated alike, on every image."""

import csv
import io
import json
import shutil
import subprocess
import sys
import unicodedata
import zipfile
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from sklearn import metrics as peer

from keras_resnet.cli import tables
from keras_resnet.errors import InputError
from keras_resnet.evaluation import metrics
from keras_resnet.evaluation.artefact import Artefact, open_artefact
from keras_resnet.evaluation.contract import Contract
from keras_resnet.evaluation.metrics import is_imbalanced, log_softmax, summarize
from keras_resnet.evaluation.per_image import (
    ImageScore,
    image_scores,
    ranked_suspects,
    suspects,
    to_csv,
)
from keras_resnet.evaluation.scores import (
    ArtefactScores,
    Guess,
    Prediction,
    evaluate,
    examples_in,
    predict,
)
from keras_resnet.geometry import Geometry
from keras_resnet.inspection import metadata
from keras_resnet.run import open_run
from keras_resnet.training import gallery


def test_the_numbers_equal_scikit_learns():
    rng = np.random.default_rng(0)
    count = 2 * metrics._BLOCK + 1  # the last block has one image
    logits, labels = rng.normal(size=(count, 7)), rng.integers(0, 7, count)
    ours = summarize(logits, labels, [str(k) for k in range(7)])
    p, guesses = np.exp(log_softmax(logits)), logits.argmax(-1)
    assert ours.images == count
    assert ours.top1 == pytest.approx(peer.accuracy_score(labels, guesses))
    assert ours.top5 == pytest.approx(peer.top_k_accuracy_score(labels, p, k=5))
    assert ours.macro_top1 == pytest.approx(peer.balanced_accuracy_score(labels, guesses))
    assert ours.loss == pytest.approx(peer.log_loss(labels, p))
    assert ours.confusion == peer.confusion_matrix(labels, guesses).tolist()
    rows = ours.per_class.values()
    for name in ("precision", "recall", "f1"):
        theirs = getattr(peer, f"{name}_score")
        each = theirs(labels, guesses, average=None)
        assert [getattr(row, name) for row in rows] == pytest.approx(each.tolist())
        mean = theirs(labels, guesses, average="macro")
        assert getattr(ours, f"macro_{name}") == pytest.approx(mean)
    assert [row.top1 for row in rows] == [row.recall for row in rows]


def test_five_classes_have_no_top_5():
    assert summarize(np.eye(5), np.arange(5), list("abcde")).top5 is None


@pytest.mark.parametrize(("top", "has_top5"), [(None, True), (5, True), (2, False)])
def test_a_file_that_names_fewer_than_five_classes_has_no_top_5(top, has_top5):
    opened = Artefact(
        Path("model.tflite"), "tflite", Geometry(8, 8), 1.0, [*"0123456789"], None,
        lambda images: np.zeros((len(images), 10), np.float32),
        contract=Contract("softmax", top=top),
    )  # fmt: skip
    assert (evaluate(opened, "digits").top5 is not None) == has_top5


def test_a_class_without_images_has_no_accuracy():
    scores = summarize(np.eye(3), [0, 1, 1], list("abc"))
    assert scores.per_class["c"].top1 is None
    assert scores.macro_top1 == 0.75  # of a and b, not of c
    assert scores.per_class["c"].f1 is None
    assert scores.per_class["c"].precision == 0.0  # an image of b was predicted as it


def test_a_class_that_is_never_predicted_has_no_precision_and_counts_as_0():
    scores = summarize(np.eye(3)[[0, 0]], [0, 1], list("abc"))
    assert scores.per_class["b"].precision is None and scores.per_class["b"].f1 == 0.0
    assert (scores.macro_precision, scores.macro_f1) == pytest.approx((0.25, 1 / 3))


def test_the_json_of_scores_has_the_keys_that_scripts_rely_on():
    scores = summarize(np.eye(3), [0, 1, 1], list("abc"))
    rows = image_scores(np.eye(3), [0, 1, 1], list("abc"), ["1.jpg", "2.jpg", "3.jpg"])
    rows = [replace(rows[2], suspect=True), *rows[:2]]
    about = {"artefact": "a.tflite", "balance": None, "trained_on": 2}
    content = ArtefactScores(**vars(scores), **about, rows=rows).as_json()
    assert list(content) == ["artefact", "balance", "trained_on", "images", "loss", "top1",
                             "macro_top1", "macro_precision", "macro_recall", "macro_f1", "top5",
                             "per_class", "confusion", "suspects"]  # fmt: skip
    none = dict.fromkeys(["top1", "recall", "f1"])
    assert content["per_class"]["c"] == {"images": 0, "precision": 0.0, **none}
    assert [row["file"] for row in content["suspects"]] == ["3.jpg"]
    prediction = Prediction("a.jpg", [Guess("dark", 0.75)])
    assert prediction.as_json() == {
        "image": "a.jpg",
        "predictions": [{"label": "dark", "score": 0.75}],
    }


@pytest.mark.parametrize(("counts", "imbalanced"), [((10, 10), 0), ((10, 15, 0), 0), ((10, 16), 1)])
def test_classes_are_imbalanced_from_one_and_a_half_times_as_many_images(counts, imbalanced):
    assert is_imbalanced(counts) == bool(imbalanced)


def test_macro_top_1_is_printed_where_it_says_something_else(command, trained, photos, tmp_path):
    assert "macro top-1" not in command("evaluate", trained.path).stdout
    for name, count in (("bright", 20), ("dark", 4)):
        (tmp_path / name).mkdir()
        for photo in sorted((photos / name).iterdir())[:count]:
            (tmp_path / name / photo.name).symlink_to(photo)
    assert "macro top-1 100.00%" in command("evaluate", trained.path, tmp_path).stdout


def test_macro_top_1_is_printed_of_a_run_with_balanced_classes():
    scores = {"top1": 0.5, "macro_top1": 0.5, "images": 10,
              "per_class": {"a": {"images": 5}, "b": {"images": 5}}}  # fmt: skip
    for balance, shown in ((None, False), ("none", False), ("sample", True), ("loss", True)):
        text = tables.trained("runs/a", {"val": scores}, balance)
        assert ("  macro top-1 50.00% of 10 val images" in text) == shown


ARTEFACTS = ["", "model.keras", "export/saved_model", "export/model_float32.tflite",
             "export/model_int8.tflite"]  # fmt: skip


@pytest.mark.parametrize("name", ARTEFACTS)
def test_every_artefact_knows_its_run_and_scores_like_it(exported, name):
    run, _ = exported
    result = evaluate(run.path / name)
    assert result.images == 12  # the run's own validation split
    assert result.top1 == run.metrics["val"]["top1"]
    assert list(result.per_class) == ["bright", "dark", "striped"]


def test_a_plain_folder_is_scored_whole(trained, photos):
    assert evaluate(trained.path, str(photos)).images == 60


def test_training_images_can_be_scored_too(trained):
    result = evaluate(trained.path, split="train")
    assert result.images == result.trained_on == 48
    assert evaluate(trained.path).trained_on == 0


def test_a_split_is_that_of_the_runs_own_images_wherever_they_lie(
    trained, photos, tmp_path, capsys
):
    moved = shutil.copytree(photos, tmp_path / "moved")
    own = evaluate(trained.path)
    there = evaluate(trained.path, moved, split="val")
    assert (there.images, there.top1, there.confusion) == (12, own.top1, own.confusion)
    assert evaluate(trained.path, moved).images == 60
    assert "not in" not in capsys.readouterr().err
    for image in own.rows[:4]:
        (moved / image.file).unlink()
    assert evaluate(trained.path, moved, split="val").images == 8
    told = f"not in {moved}: 4 of 12 images of the run's val split; the scores are of the others"
    assert told in capsys.readouterr().err
    new = tmp_path / "new" / "dark"
    new.mkdir(parents=True)
    Image.new("RGB", (40, 40), "black").save(new / "a.png")
    with pytest.raises(InputError, match="none of its images is in the val split of a run; leave"):
        evaluate(trained.path, new.parent, split="val")


def test_an_empty_folder_is_no_class_of_the_images(trained, tmp_path):
    for name in ("bright", "dark", "striped", "zebra"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (40, 40), "white").save(tmp_path / "bright" / "a.png")
    assert evaluate(trained.path, tmp_path, on_bad_image="skip").images == 1


def test_a_split_that_the_run_lacks_is_named(trained):
    with pytest.raises(InputError, match="no test split; it has"):
        evaluate(trained.path, split="test")


def test_data_with_an_unknown_class_is_refused(trained):
    with pytest.raises(InputError, match=r"images of a class '0' that .* does not have; remove or"):
        evaluate(trained.path, "digits")


def test_a_class_in_another_unicode_form_is_shown_as_such(photos, tmp_path):
    (tmp_path / "cafe\u0301").symlink_to(photos / "dark")
    names = [unicodedata.normalize("NFC", "cafe\u0301"), "other"]
    opened = Artefact(Path("a.tflite"), "tflite", Geometry(8, 8), 1.0, names, None, np.asarray)
    with pytest.raises(
        InputError, match=r"class 'cafe\\u0301', and .* a class 'caf\\xe9'; give both"
    ):
        evaluate(opened, tmp_path)


def test_data_with_fewer_classes_are_matched_by_name(trained, photos, tmp_path):
    for name in ("striped", "dark"):
        (tmp_path / name).symlink_to(photos / name)
    result = evaluate(trained.path, str(tmp_path))
    assert result.images == 40 and result.top1 > 0.9
    assert result.per_class["bright"].images == 0


def test_predict_names_labels_with_probabilities(trained, photos):
    rows = predict(trained.path, [photos / "dark" / "01.jpg", photos / "bright"], top=2)
    assert len(rows) == 21
    assert rows[0].image == str(photos / "dark" / "01.jpg")
    assert rows[0].predictions[0].label == "dark"
    for row in rows:
        scores = [p.score for p in row.predictions]
        assert scores == sorted(scores, reverse=True) and 0 <= sum(scores) <= 1 + 1e-6


def test_what_a_notebook_shows_of_scores_and_runs_is_short(trained):
    scores = evaluate(trained)
    assert "top1=" in repr(scores) and "ImageScore" not in repr(scores)
    assert str(trained) == str(trained.path) and repr(trained) == f"Run({str(trained)!r})"
    assert [row["epoch"] for row in trained.history] == [1 + i for i in range(len(trained.history))]
    best = trained.history[trained.metrics["best_epoch"] - 1]
    assert best["val_top1"] == pytest.approx(scores.top1) and best["weights"] == "raw"


@pytest.mark.parametrize("name", ["", "export/model_int8.tflite"])
def test_pixels_in_memory_are_classified_as_their_file_by_an_opened_artefact(
    exported, tmp_path, name
):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 40, 30, 3), np.uint8)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    opened = open_artefact(exported[0].path / name)
    rows = predict(opened, pixels)
    assert [row.image for row in rows] == ["images[0]", "images[1]", "images[2]"]
    assert [r.predictions for r in rows] == [
        r.predictions for r in predict(exported[0].path / name, tmp_path)
    ]
    assert predict(opened, pixels[0])[0].predictions[0].label == rows[0].predictions[0].label


def test_predict_takes_images_of_pillow_and_arrays_of_any_sizes(exported, tmp_path):
    random = np.random.default_rng(0)
    rgb = Image.fromarray(random.integers(0, 256, (40, 30, 3), np.uint8))
    grey = Image.fromarray(random.integers(0, 256, (50, 60), np.uint8))
    clear = Image.fromarray(random.integers(0, 256, (33, 44, 4), np.uint8))
    palette = rgb.quantize(16)
    images = [
        rgb,
        grey,
        clear,
        palette,
        np.asarray(rgb),
        np.asarray(grey),
        np.asarray(grey)[..., None],
    ]
    turned = Image.Exif()
    turned[0x0112] = 6
    for i, image in enumerate((rgb, grey, clear, palette, rgb, grey, grey)):
        image.save(tmp_path / f"{i}.png")
    rgb.save(tmp_path / "7.png", exif=turned)
    images.append(Image.open(tmp_path / "7.png"))
    path = exported[0].path / "export" / "model_int8.tflite"
    opened = open_artefact(path)
    rows = predict(opened, images)
    assert [row.image for row in rows] == [f"images[{i}]" for i in range(8)]
    assert [r.predictions for r in rows] == [r.predictions for r in predict(path, tmp_path)]
    assert rows[7].predictions != rows[0].predictions
    assert predict(opened, grey)[0].predictions == rows[1].predictions


def test_a_damaged_image_of_pillow_is_refused(trained, photos, tmp_path):
    file = tmp_path / "half.jpg"
    content = (photos / "dark" / "01.jpg").read_bytes()
    file.write_bytes(content[: len(content) - 20])
    with Image.open(file) as image, pytest.raises(InputError, match=r"images\[1\]: .*truncated"):
        predict(trained.path, [np.zeros((4, 4, 3), np.uint8), image])


def test_paths_may_be_a_series_or_an_array(trained, photos):
    class Series:  # as of pandas
        def __init__(self, values):
            self._values = values

        def __iter__(self):
            return iter(self._values)

        def __array__(self, dtype=None, copy=None):
            return np.array(self._values, object)

    files = [str(path) for path in sorted(photos.glob("dark/*.jpg"))[:2]]
    expected = predict(trained.path, files)
    assert predict(trained.path, Series(files)) == expected
    assert predict(trained.path, np.array(files)) == expected


def test_many_images_in_memory_of_different_sizes(trained):
    many = [np.full((4 + i % 3, 5, 3), i % 256, np.uint8) for i in range(600)]
    rows = predict(trained.path, many, top=1)
    assert rows[256:258] == [replace(rows[i], image=f"images[{256 + i}]") for i in (0, 1)]


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (np.zeros((4, 4, 3), np.float32), r"float32 \(4, 4, 3\); expected uint8 pixels"),
        (np.zeros(4, np.uint8), r"images\[0\] is an array of uint8 \(\)"),
        (np.zeros((2, 4, 4, 4), np.uint8), r"images\[0\] is an array of uint8 \(4, 4, 4\)"),
        (np.zeros((0, 4, 4, 3), np.uint8), "no image is given"),
        ([np.zeros((4, 4, 3), np.uint8), np.zeros((0, 4, 3), np.uint8)], r"images\[1\] .* \(0, 4"),
        ([np.zeros((4, 4, 3), np.uint8), "a.jpg"], "paths and images in memory; give either"),
        ([5], "int is not an image; give files, .* Pillow's images, or arrays of uint8 pixels"),
        (5, "int is not an image"),
        (None, "NoneType is not an image"),
        ([b"x"], "bytes is not an image"),
        ([], "no image is given"),
        (Image.new("I", (4, 4)), r"images\[0\] has Pillow's mode 'I', .*; convert it to RGB"),
    ],
)
def test_other_images_in_memory_are_refused(trained, pixels, said):
    with pytest.raises(InputError, match=said):
        predict(trained.path, pixels)


def test_predict_takes_patterns_and_counts_an_image_once(trained, photos):
    pattern, file = f"{photos}/dark/*.jpg", photos / "dark" / "01.jpg"
    assert len(predict(trained.path, [pattern, file])) == 20


def test_a_pattern_in_a_folder_with_brackets_in_its_name_matches(trained, photos, tmp_path):
    folder = tmp_path / "photos [2]"
    folder.symlink_to(photos, target_is_directory=True)
    found = predict(trained.path, [f"{folder}/d*/0[14].jpg"])
    assert [row.image for row in found] == [f"{folder}/dark/0{n}.jpg" for n in (1, 4)]


def test_probabilities_of_a_file_from_elsewhere_may_be_rounded_to_bytes():
    from keras_resnet.evaluation import artefact

    rng = np.random.default_rng(0)
    scores = np.round(rng.dirichlet(np.ones(20), 64) * 256) / 256
    assert (np.abs(scores.sum(-1) - 1) > 0.01).any()
    logits = artefact._to_logits(lambda images: scores)(None)
    np.testing.assert_allclose(np.exp(logits), np.maximum(scores, 1e-12))
    plain = rng.normal(0, 3, (64, 10))
    assert artefact._to_logits(lambda images: plain)(None) is plain


def test_a_file_of_features_is_no_classifier(tmp_path):
    (tmp_path / "model_features.tflite").touch()
    with pytest.raises(InputError, match="outputs features, not classes; give another file"):
        open_artefact(tmp_path / "model_features.tflite")


def test_one_path_needs_no_list(trained, photos):
    path = photos / "dark" / "01.jpg"
    assert predict(trained.path, path) == predict(trained.path, str(path))
    assert predict(trained.path, path) == predict(trained.path, [path])


@pytest.mark.parametrize("what", ["no/such.jpg", "no/*.jpg", ""])
def test_predicting_on_nothing_is_an_error(trained, what):
    with pytest.raises(InputError, match="does not exist; give images, folders or patterns"):
        predict(trained.path, [what])


def test_an_empty_folder_and_a_text_are_told_as_what_they_are(trained, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.md").write_text("none")
    with pytest.raises(InputError, match="empty is empty; give images"):
        predict(trained.path, [tmp_path / "empty"])
    with pytest.raises(InputError, match=r"no image among .*notes\.md; give JPEG"):
        predict(trained.path, [tmp_path / "notes.md"])


def test_a_broken_image_among_others_is_named_and_the_others_are_classified(
    command, trained, photos, tmp_path
):
    shutil.copy(photos / "dark" / "01.jpg", tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes((photos / "dark" / "01.jpg").read_bytes()[:600])
    done = command("predict", trained.path, tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert row["image"].endswith("a.jpg") and row["predictions"][0]["label"] == "dark"
    (line,) = [line for line in done.stderr.splitlines() if "b.jpg" in line]
    assert line.startswith("warning: ") and line.endswith("; skipped")
    done = command("predict", trained.path, tmp_path, "--on-bad-image", "error")
    assert done.returncode == 2 and "b.jpg" in done.stderr and not done.stdout


def test_another_word_for_broken_images_is_refused(trained, photos):
    told = "--on-bad-image is 'ignore'; expected one of error, skip"
    with pytest.raises(InputError, match=told):
        evaluate(trained, photos, on_bad_image="ignore")
    with pytest.raises(InputError, match=told):
        predict(trained, photos, on_bad_image="ignore")


def test_the_images_of_a_run_are_not_skipped(trained):
    with pytest.raises(InputError, match="--on-bad-image skip is for DATA; a run is scored on all"):
        evaluate(trained, on_bad_image="skip")


def test_evaluate_names_a_broken_image_that_it_skips(trained, photos, tmp_path, capsys):
    shutil.copytree(photos / "dark", tmp_path / "dark")
    broken, other = sorted((tmp_path / "dark").iterdir())[:2]
    for path in (broken, other):
        path.write_bytes(b"GIF89a")
    assert evaluate(trained.path, tmp_path, on_bad_image="skip").images == 18
    (line,) = [line for line in capsys.readouterr().err.splitlines() if broken.name in line]
    assert line.startswith("warning: ")
    assert line.endswith(" (and 1 more; `keras-resnet data check` lists them); skipped")


def test_predicting_on_text_names_the_file(trained, tmp_path):
    (tmp_path / "text.jpg").write_text("no image at all")
    with pytest.raises(InputError, match=r"text\.jpg: not an image"):
        predict(trained.path, [tmp_path / "text.jpg"])


@pytest.mark.parametrize("name", ["model.tflite", "model.keras", "model.bin"])
@pytest.mark.parametrize("content", [b"", b"rubbish" * 100, b"\x1c\x00\x00\x00TFL3" + b"\xff" * 99])
def test_a_random_file_is_no_artefact(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name) as error:
        open_artefact(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_nothing_is_no_artefact(tmp_path):
    with pytest.raises(InputError, match="neither a run folder"):
        open_artefact(tmp_path)


def test_a_model_from_elsewhere_is_scored_with_numbered_classes(tmp_path):
    import keras

    image = keras.Input((8, 8, 3))
    scores = keras.layers.Dense(10)(keras.layers.Flatten()(image))
    keras.Model(image, scores).save(tmp_path / "other.keras")
    result = evaluate(tmp_path / "other.keras", "digits")
    assert result.images == 1797 and list(result.per_class)[:2] == ["0", "1"]
    assert result.trained_on is None


def test_predictions_as_csv_are_csv(command, trained, photos):
    done = command("predict", trained.path, photos / "dark", "--top", 1, "--csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(rows) == 20 and rows[0]["rank"] == "1"
    assert sum(row["label"] == "dark" for row in rows) >= 18


def test_evaluate_writes_a_row_for_each_image(command, trained, tmp_path):
    done = command("evaluate", trained.path, "--csv", tmp_path / "a.csv")
    assert done.stdout.rstrip().endswith(f"wrote {tmp_path / 'a.csv'}")
    with open(tmp_path / "a.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:4] == ["file", "label", "prediction", "score"]
    names = [image.name for image in trained.splits["val"]]
    assert [row["file"] for row in rows] == names
    assert all(row["file"].startswith(row["label"]) for row in rows)
    assert all(row["label"] == row["prediction"] and 0 < float(row["score"]) <= 1 for row in rows)


def test_a_file_of_the_run_is_not_overwritten_by_the_rows(command, trained):
    path = trained.path / "predictions.csv"
    before = path.read_bytes()
    done = command("evaluate", trained.path, "--csv", path)
    assert done.returncode == 2 and "which belongs to the run or export in" in done.stderr
    assert path.read_bytes() == before


def test_a_csv_that_cannot_be_written_is_refused_before_the_work(command, trained, tmp_path):
    done = command("evaluate", trained.path, "--csv", tmp_path / "no" / "a.csv")
    assert done.returncode == 2 and "in a folder that exists" in done.stderr


def test_a_run_holds_the_answer_for_each_validation_image(trained):
    with open(trained.file("predictions.csv"), newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["split"] for row in rows} == {"val"}
    evaluated = {row.file: row for row in evaluate(trained.path).rows}
    assert [row["file"] for row in rows] == list(evaluated)
    for row in rows:
        other = evaluated[row["file"]]
        assert (row["label"], row["prediction"]) == (other.label, other.prediction)
        assert float(row["score"]) == pytest.approx(other.score, abs=1e-4)


def test_the_report_shows_whole_images_sorted_by_what_their_captions_say(trained, tmp_path):
    content = json.loads(trained.file("examples.json").read_text())
    assert content["mistakes"] == [] and len(content["correct"]) == 8
    rows = [
        replace(row, prediction="nothing", score=i / 12)
        for i, row in enumerate(evaluate(trained.path).rows)
    ]
    folder = type(trained)(tmp_path)
    gallery.write(folder, trained.examples("val"), rows)
    mistakes = json.loads(folder.file("examples.json").read_text())["mistakes"]
    assert [row["score"] for row in mistakes] == [i / 12 for i in range(11, -1, -1)]
    assert mistakes[0]["file"] == rows[-1].file
    image = Image.open(io.BytesIO(b64decode(mistakes[0]["image"].partition(",")[2])))
    assert image.size == (48, 40)  # the network sees 24 by 24
    file, true, _ = gallery._caption(rows[-1])
    assert file.name == rows[-1].file and true.before == "true"
    with Image.open(folder.file("mistakes.png")) as sheet:
        assert sheet.width > 6 * gallery._TILE


def test_a_large_photo_is_shrunk_for_the_report():
    noise = Image.effect_noise((1200, 900), 50).convert("RGB")
    assert gallery._shrunk(noise).size == (400, 300)
    assert gallery._data_uri(noise).startswith("data:image/jpeg;base64,")
    assert gallery._tile(noise).shape == (240, 240, 3)


def test_no_cell_of_a_csv_is_a_formula_to_a_spreadsheet():
    row = ImageScore("=1+1.jpg", "@a", "-b", 0.5, 0.25, suspect=False)
    assert to_csv([row], "val").splitlines() == [
        "file,label,prediction,score,label_score,suspect,split",
        "'=1+1.jpg,'@a,'-b,0.500000,0.250000,,val",
    ]
    guesses = [Prediction("+a.jpg", [Guess("＝b", 0.5)])]
    assert tables.predictions_csv(guesses).splitlines()[1] == "'+a.jpg,1,'＝b,0.500000"


def test_a_label_is_suspect_if_another_class_is_as_certain_as_usual_and_it_is_unlikely():
    certain, weak, unsure = [0.02, 0.98], [0.04, 0.85], [0.3, 0.7]
    right, other = [[0.9, 0.1]] * 20, [[0.05, 0.95]] * 20
    p = np.array([*right, *other, certain, [0.08, 0.92], unsure])
    # Class 1 usually gets 0.95: what the last two give it is no more than that, or not certain.
    labels = np.array([*[0] * 20, *[1] * 20, 0, 0, 0])
    assert np.flatnonzero(doubtful(p, labels)).tolist() == [40]
    assert not doubtful(np.array([*right, *other, weak]), labels[:41]).any()
    # One that is mostly wrong speaks for no label.
    assert not doubtful(p[39:], labels[39:]).any()


def test_one_that_always_gives_the_largest_class_suspects_no_label():
    p = np.tile([0.98, 0.02], (200, 1))
    labels = np.array([0] * 190 + [1] * 10)
    assert not doubtful(p, labels).any()
    p[190:196] = [0.02, 0.98]  # one that recognizes six of the ten does
    assert np.flatnonzero(doubtful(p, labels)).tolist() == [196, 197, 198, 199]


def doubtful(p, labels):
    each, guesses = np.arange(len(p)), p.argmax(-1)
    return suspects(labels, guesses, p[each, guesses], p[each, labels], p.shape[1])


def test_networks_that_may_be_guessing_suspect_no_label():
    wrong = [ImageScore(f"{i}.jpg", "a", "b", 0.9, 0.1, suspect=False) for i in range(4)]
    right = [ImageScore(f"{i}.jpg", c, c, 0.9, 0.9, suspect=False) for i in range(10) for c in "ab"]
    assert ranked_suspects([*wrong, *right], ["a", "b"]) == [0, 1, 2, 3]
    assert ranked_suspects([*wrong, *right[:7]], ["a", "b"]) == []
    # Better than guessing of ten, and still more often wrong than right
    rows = [*wrong * 6, *right]
    assert ranked_suspects(rows, list("abcdefghij")) == []
    assert ranked_suspects([*rows, *right], list("abcdefghij")) != []


@pytest.mark.parametrize(
    ("usual", "scores", "expected"),
    [
        (0.6, [(0.61, 0.3), (0.55, 0.4), (0.7, 0.1)], [2, 0]),
        (0.99, [(0.85, 0.15), (0.75, 0.25)], [0]),  # of one that is sure of all, 0.8 will do
    ],
)
def test_a_network_speaks_for_another_label_where_it_is_as_certain_as_usual(
    usual, scores, expected
):
    wrong = [ImageScore("x.jpg", "a", "b", *score, suspect=False) for score in scores]
    right = [ImageScore("y.jpg", c, c, usual, usual, suspect=False) for c in "ab" * 20]
    assert ranked_suspects([*wrong, *right], ["a", "b"]) == expected


def test_suspects_are_listed_the_least_likely_label_first(trained):
    rows = [
        ImageScore(f"{i}.jpg", "a", "b", 0.97, label_score, suspect=i > 0)
        for i, label_score in enumerate((0.0, 0.02, 0.01))
    ]
    result = replace(evaluate(trained.path), rows=rows)
    lines = [line for line in tables.evaluation(result).splitlines() if "suspect" in line]
    assert lines == [
        "suspect label: 2.jpg is labelled a (1.0%), predicted b (97.0%)",
        "suspect label: 1.jpg is labelled a (2.0%), predicted b (97.0%)",
    ]


def test_images_that_were_trained_on_are_counted_wherever_they_lie_and_one_class_will_do(
    trained, photos, tmp_path, capsys
):
    (tmp_path / "new").mkdir()
    shutil.copytree(photos / "dark", tmp_path / "new" / "dark")
    result = evaluate(trained, tmp_path / "new")
    assert (result.images, result.trained_on) == (20, 16)
    assert "was trained on 16 of these 20 images" in capsys.readouterr().err
    elsewhere = shutil.copyfile(trained.file("model.keras"), tmp_path / "model.keras")
    shutil.copyfile(trained.file("labels.txt"), tmp_path / "labels.txt")
    assert evaluate(elsewhere, tmp_path / "new").trained_on is None
    assert f"the run of {elsewhere} is unknown: if it was trained" in capsys.readouterr().err


def test_it_is_unknown_what_imported_weights_were_trained_on(untouched, tmp_path, accept):
    """The train split of their run is of images that came later."""
    copy = shutil.copytree(untouched, tmp_path / "run")
    metrics = json.loads((copy / "metrics.json").read_text())
    (copy / "metrics.json").write_text(json.dumps(metrics | {"imported": {"file": "net.pth"}}))
    accept(copy, "metrics.json")
    assert evaluate(open_run(copy), split="train").trained_on is None


def test_the_end_of_a_training_says_which_images_chose_the_epoch(trained):
    assert trained.metrics["best_epoch_chosen_on"] == "val"
    scores = {"top1": 0.5, "macro_top1": 0.5, "images": 10, "per_class": {"a": {"images": 10}}}
    metrics = {"val": scores, "test": scores, "best_epoch_chosen_on": "val"}
    text = tables.trained("runs/a", metrics, None)
    assert "of 10 val images, used to choose the best epoch" in text
    by_last = tables.trained("runs/a", metrics | {"best_epoch_chosen_on": None}, None)
    assert "of 10 val images, not used before" in by_last
    assert "of 10 test images, not used before" in text


def without_tensorflow(*commands, cwd):
    """The output of commands in a new process, which must not import TensorFlow or Keras."""
    code = (
        "import json, sys; from keras_resnet.cli import run\n"
        f"for command in {[list(map(str, command)) for command in commands]}:\n"
        "    assert run(command) == 0, command\n"
        "    assert not {'tensorflow', 'keras'} & sys.modules.keys(), command\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=cwd, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_tflite_file_and_a_check_of_a_folder_need_no_tensorflow(exported, photos, tmp_path):
    run, _ = exported
    model, image = run.export_folder / "model_int8.tflite", photos / "dark" / "01.jpg"
    alone = shutil.copy(model, tmp_path / "alone.tflite")
    output = without_tensorflow(
        ["predict", model, image, "--top", 1],
        ["evaluate", model],
        ["evaluate", model, photos],
        ["evaluate", model, photos, "--split", "val"],
        ["predict", alone, image],
        ["data", "check", photos],
        ["data", "check"],
        cwd=tmp_path,
    )
    assert output.startswith(f"{image}  dark ")
    assert output.count(f"{image}  dark ") == 2  # alone, it has its labels inside
    assert "on 12 images" in output and "on 60 images" in output
    assert "60 files, 60 used" in output and "1,797" in output


def test_a_file_is_scored_on_the_same_pixels_with_and_without_tensorflow(exported, monkeypatch):
    from keras_resnet.evaluation import scores

    run, _ = exported
    opened = open_artefact(run.export_folder / "model_float32.tflite")
    examples = run.examples("train")
    (found,) = scores.batches_for(opened, examples)
    ((expected, _),) = scores.stream_for(opened, examples).as_numpy_iterator()
    np.testing.assert_array_equal(found, expected)
    many = open_artefact(run.path)
    monkeypatch.setattr(scores, "_FEW", 10)
    (found,) = scores.batches_for(many, examples)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("preprocess", "said"),
    [
        ({"input_size": [24, 24]}, "image_size is missing"),
        ({"input_size": [24, 24], "image_size": "24"}, "image_size is '24'"),
        ({"fit": "squeeze"}, "fit is 'squeeze'"),
        ({"center_crop": "half"}, "center_crop is 'half'"),
        ({"center_crop": 0}, "center_crop is 0"),
    ],
)
def test_a_damaged_description_beside_a_file_is_one_line(exported, tmp_path, preprocess, said):
    model = exported[0].export_folder / "model_float32.tflite"
    shutil.copy(model, tmp_path)
    (tmp_path / "preprocess.json").write_text(json.dumps(preprocess))
    with pytest.raises(InputError) as error:
        open_artefact(tmp_path / model.name)
    line = f"{tmp_path / 'preprocess.json'} is damaged: {said}; export it again"
    assert str(error.value) == line


def without_scales(model, path):
    """A copy of an int8 file that LiteRT opens, and crashes on: its quantization steps are 0."""
    from ai_edge_litert.tools import flatbuffer_utils

    content = flatbuffer_utils.read_model(str(model))
    for tensor in content.subgraphs[0].tensors:
        if tensor.quantization is not None and tensor.quantization.scale is not None:
            tensor.quantization.scale = np.zeros_like(tensor.quantization.scale)
    flatbuffer_utils.write_model(content, str(path))
    return path


def test_a_file_on_which_the_runtime_crashes_is_one_line(command, exported, photos, tmp_path):
    model = without_scales(exported[0].export_folder / "model_int8.tflite", tmp_path / "a.tflite")
    for arguments in (["predict", model, photos / "dark"], ["evaluate", model, photos]):
        done = command(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        line = f"keras-resnet: {model} is damaged: LiteRT crashes when it runs it (killed by SIG"
        assert done.stderr.startswith(line) and done.stderr.count("\n") == 1


def test_only_a_file_without_a_row_in_a_manifest_is_tried_first(
    exported, photos, tmp_path, monkeypatch
):
    from keras_resnet.evaluation import lite

    tried = []
    monkeypatch.setattr(lite, "require_no_crash", lambda path, _: tried.append(path))
    model = exported[0].export_folder / "model_int8.tflite"
    predict(model, [photos / "dark"])
    assert tried == []
    alone = shutil.copy(model, tmp_path / "alone.tflite")
    predict(alone, [photos / "dark"])
    assert tried == [alone]


def test_of_a_folder_it_takes_the_files_that_training_would(photos, tmp_path, capsys):
    image = next((photos / "dark").iterdir())
    names = ("a.jpg", "sub/b.jpg", ".trash/c.jpg", "__MACOSX/d.jpg", "@eaDir/e/THUMB_M.jpg")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, tmp_path / name)
    assert list(examples_in(tmp_path).names) == [f"{tmp_path}/a.jpg", f"{tmp_path}/sub/b.jpg"]
    told = capsys.readouterr().err
    assert "skipped: hidden file (1)" in told and "skipped: in a system folder (2)" in told
    # What is given by its name is taken, wherever it is.
    assert len(examples_in(tmp_path / "__MACOSX" / "d.jpg")) == 1


def test_a_file_for_eight_images_at_a_time_is_refused(photos, tmp_path):
    eight = tf.TensorSpec((8, 8, 8, 3), tf.float32)
    network = tf.function(lambda image: tf.reduce_mean(image, (1, 2)), input_signature=[eight])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([network.get_concrete_function()])
    (tmp_path / "labels.txt").write_text("red\ngreen\nblue\n")
    (tmp_path / "model.tflite").write_bytes(converter.convert())
    with pytest.raises(InputError, match="takes 8 images at a time; export it for one"):
        predict(tmp_path / "model.tflite", [photos / "dark"])


def test_only_of_a_keras_model_it_is_advised_to_save_it():
    with pytest.raises(InputError, match=r"^42 is not a path; give that of a file or folder$"):
        predict(42, "a.jpg")
    with pytest.raises(InputError, match=r"is not a path; save a Keras model first"):
        predict(keras.Sequential(), "a.jpg")


def test_one_output_is_no_classifier(photos, tmp_path):
    model = keras.Sequential([
        keras.Input((8, 8, 3)),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(1, "sigmoid"),
    ])  # fmt: skip
    model.save(tmp_path / "model.keras")
    with pytest.raises(InputError, match=r"model\.keras has 1 output; an image classifier has one"):
        predict(tmp_path / "model.keras", [photos / "dark"])


def test_an_opened_file_answers_several_threads(exported, photos):
    run, _ = exported
    opened = open_artefact(run.export_folder / "model_float32.tflite")
    images = sorted(photos.rglob("*.jpg"))[::3]
    alone = predict(opened, images)
    with ThreadPoolExecutor(4) as threads:
        rows = threads.map(lambda _: predict(opened, images), range(8))
        assert all(row == alone for row in rows)


def _with_description(source, target, labels):
    """A copy of a `.tflite` file with another archive behind the model, compressed."""
    with zipfile.ZipFile(source) as archive:
        preprocess = archive.read("preprocess.json")
        size = min(entry.header_offset for entry in archive.infolist())
    target.write_bytes(source.read_bytes()[:size])
    with zipfile.ZipFile(target, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.txt", labels)
        archive.writestr("preprocess.json", preprocess)
    return target


@pytest.mark.parametrize(
    ("labels", "said"),
    [("a\nb\nb\n", "has 'b' twice"), (b"\n" * (9 << 20), "labels.txt has 9,437,184 bytes")],
    ids=["twice", "a bomb"],
)
def test_labels_inside_of_a_file_are_not_believed(exported, tmp_path, labels, said):
    run, _ = exported
    source = run.export_folder / "model_float32.tflite"
    path = _with_description(source, tmp_path / "model.tflite", labels)
    with pytest.raises(InputError, match=said):
        open_artefact(path)
    assert (metadata.read(path)["files"].keys() >= {"labels.txt"}) == ("twice" in said)


def test_the_logits_of_an_exported_file_are_never_taken_for_probabilities(
    exported, tmp_path, monkeypatch
):
    """Not even if they add up to 1."""
    run, _ = exported
    shutil.copy(run.export_folder / "model_float32.tflite", tmp_path)
    logits = np.array([[0.1, 0.2, 0.7]], np.float32)
    monkeypatch.setattr("keras_resnet.evaluation.lite.Lite.predict", lambda *_: logits)
    opened = open_artefact(tmp_path / "model_float32.tflite")
    assert (opened.predict(np.zeros((1, 24, 24, 3))) == logits).all()
