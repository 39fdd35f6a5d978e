"""The gate: which damage it sees, what its numbers can show, and what an app reads is guarded."""

import errno
import json
import os
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from keras_resnet import open_run
from keras_resnet.cli import tables
from keras_resnet.errors import CheckFailed, InputError
from keras_resnet.evaluation import binomial
from keras_resnet.evaluation.artefact import open_artefact
from keras_resnet.evaluation.contract import Contract, Rejection
from keras_resnet.evaluation.scores import predict
from keras_resnet.exporting import (
    calibration,
    evidence,
    guard,
    rejection,
    saved_model,
    wrap,
)
from keras_resnet.exporting.convert import convert
from keras_resnet.exporting.exporter import export
from keras_resnet.exporting.gate import _lost_refusals, verify
from keras_resnet.exporting.judge import Judge, _is_moved, _sample
from keras_resnet.exporting.plan import CALIBRATED, Limits, make_plan
from keras_resnet.exporting.verification import FileComparison, KerasResult
from keras_resnet.filenames import TFLITE
from keras_resnet.manifest import fingerprint

FLOATS = ("none", "float16")
VARIANTS = (*FLOATS, "dynamic", "int8")


@pytest.fixture
def copy(first_export, tmp_path):
    """An exported run that may be damaged."""
    return open_run(shutil.copytree(first_export / "run", tmp_path / "run"))


# Damage on the way into the converter


def layer(model, kind, number):
    return [one for one in model.layers if isinstance(one, kind)][number]


def change(kind, number, function):
    """Damage to the weights of a layer: `function` gets a copy of its kernel and bias."""

    def damage(model):
        found = layer(model, kind, number)
        found.set_weights(function(*(weights.copy() for weights in found.get_weights())))

    return damage


def zero_channel(kernel):
    kernel[..., 0] = 0
    return [kernel]


def shift_mean(model):
    normalize = model.get_layer("normalize")
    normalize.offset = [o + 10 * s for o, s in zip(normalize.offset, normalize.scale, strict=True)]


CONV, HEAD = keras.layers.Conv2D, keras.layers.Dense
DAMAGE = {
    "channels of the first kernel swapped": change(CONV, 0, lambda k: [k[:, :, ::-1]]),
    "two rows of the head swapped": change(HEAD, 0, lambda k, b: [k[:, [1, 0, 2]], b[[1, 0, 2]]]),
    "a convolution zeroed": change(CONV, 3, lambda k: [0 * k]),
    "one channel zeroed": change(CONV, 3, zero_channel),
    "mean off by 10 levels": shift_mean,
    "head x 0.5": change(HEAD, 0, lambda k, b: [0.5 * k, 0.5 * b]),
    "head x 1.02": change(HEAD, 0, lambda k, b: [1.02 * k, 1.02 * b]),
    "head x 1.5": change(HEAD, 0, lambda k, b: [1.5 * k, 1.5 * b]),
    "bias of the head lost": change(HEAD, 0, lambda k, b: [k, 0 * b]),
}


# int8, whose own error could hide it, with every damage; the others with one or two.
ALSO_IN = {
    "a convolution zeroed": "dynamic",
    "mean off by 10 levels": "none",
    "head x 1.02": "float16",
    "bias of the head lost": "dynamic",
}


# What is much like one of the others.
SLOW = {"one channel zeroed", "head x 0.5", "head x 1.5"}


def damage_and_variants():
    for name in DAMAGE:
        some = [v for v in VARIANTS if v in ("int8", ALSO_IN.get(name))]
        marks = [pytest.mark.slow] if name in SLOW else []
        yield pytest.param(name, some, id=f"{name}, in {' and '.join(some)}", marks=marks)
        rest = [v for v in VARIANTS if v not in some]
        yield pytest.param(name, rest, id=f"{name}, in the others", marks=pytest.mark.slow)


def spoilt(model, damage):
    other = keras.models.clone_model(model)
    other.set_weights(model.get_weights())
    DAMAGE[damage](other)
    return other


@pytest.fixture(scope="module")
def convert_and_judge(untouched, tmp_path_factory):
    """`convert_and_judge(variants, damage=None)`: the gate's rows of the files, by variant."""
    run = open_run(untouched)
    opened, plan = open_artefact(run), make_plan(run)
    judge = Judge(opened, run.examples("val"), plan.contract, Limits(max_drop=100))
    folder = tmp_path_factory.mktemp("judged")
    np.save(folder / "images.npy", calibration.choose(run, 20).images)

    def rows(variants, damage=None):
        model = spoilt(opened.model, damage) if damage else opened.model
        saved_model.write_for_conversion(plan, model, folder / "saved_model")
        for variant in variants:
            path = folder / TFLITE[variant]
            images = folder / "images.npy" if variant in CALIBRATED else None
            convert(folder / "saved_model", path, variant, calibration=images)
            yield judge.row(judge.file(path))
        shutil.rmtree(folder / "saved_model")

    return rows


@pytest.mark.parametrize(("damage", "variants"), damage_and_variants())
def test_damage_on_the_way_is_refused_in_every_variant(convert_and_judge, damage, variants):
    for row in convert_and_judge(variants, damage):
        assert not row.passed, row


def test_what_is_not_damaged_passes_the_same_way(convert_and_judge):
    for row in convert_and_judge(["none", "int8"]):
        assert row.passed, row.why


def test_of_a_damaged_export_nothing_is_published(untouched, tmp_path, monkeypatch):
    run = open_run(shutil.copytree(untouched, tmp_path / "run"))
    honest = saved_model.write_for_conversion

    def spoil(plan, model, folder, **options):
        honest(plan, spoilt(model, "one channel zeroed"), folder, **options)

    monkeypatch.setattr(saved_model, "write_for_conversion", spoil)
    with pytest.raises(CheckFailed) as caught:
        export(run, saved_model=False, tflite=["none", "int8"], calibration=20, max_drop=100)
    rows = caught.value.result.artefacts
    assert [row.passed for row in rows] == [False, False], rows
    assert not run.export_folder.exists()
    assert "verified: labels" not in tables.verification(caught.value.result)


def test_an_intact_file_has_small_errors_and_a_slope_of_one(exported):
    rows = {row.file: row for row in exported[1].artefacts}
    assert rows[TFLITE["none"]].rms_error < 1e-5 < rows[TFLITE["int8"]].rms_error < 0.25
    assert all(row.slope == pytest.approx(1, abs=0.1) for row in rows.values())


def test_a_resize_inside_the_file_that_costs_too_much_is_named_as_the_cause(untouched, tmp_path):
    run = open_run(shutil.copytree(untouched, tmp_path / "run"))
    options = {"saved_model": False, "tflite": ["none"], "max_drop": 0}
    with pytest.raises(CheckFailed, match="the cause is the bilinear resize inside the file"):
        export(run, input_size=(4, 4), **options)


@pytest.mark.parametrize(
    "variants", [["none", "int8"], pytest.param(["float16", "dynamic"], marks=pytest.mark.slow)]
)
def test_a_crop_inside_the_file_that_is_off_by_one_pixel_is_refused(
    untouched, tmp_path, monkeypatch, variants
):
    run = open_run(shutil.copytree(untouched, tmp_path / "run"))
    fitted = wrap._fitted
    monkeypatch.setattr(wrap, "_fitted", lambda image, plan: fitted(tf.roll(image, 1, 2), plan))
    options = {"saved_model": False, "tflite": variants, "calibration": 20, "max_drop": 100}
    with pytest.raises(CheckFailed) as caught:
        export(run, input_size=(24, 48), **options)
    assert len(caught.value.result.artefacts) == 2
    for row in caught.value.result.artefacts:
        assert not row.passed and "for frames shifted by one pixel right" in row.why, row


def test_rounding_is_no_shift_and_a_shift_that_it_hides_is_not_claimed():
    moved = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        shift, rounding = rng.normal(size=(20, 3)), rng.normal(size=(20, 3))
        for size in (0.1, 1.0, 10.0):
            moved += _is_moved(size * rounding, shift)
            # Outputs that int8 scales have a part along the shift.
            moved += _is_moved(size * rounding + 0.15 * shift, shift)
        assert _is_moved(shift + 0.3 * rounding, shift)
    assert moved == 0
    assert not _is_moved(rounding, 0 * shift)


# What a number of images can show


@pytest.mark.parametrize(("count", "total"), [(0, 300), (5, 100), (100, 100), (3, 1000)])
def test_the_bounds_are_those_of_clopper_and_pearson(count, total):
    exact = stats.binomtest(count, total).proportion_ci(0.95, "exact")
    assert binomial.upper(count, total, 0.025) == pytest.approx(exact.high, abs=1e-9)
    assert binomial.lower(count, total, 0.025) == pytest.approx(exact.low, abs=1e-9)


def test_the_interval_holds_the_true_drop_as_often_as_it_says():
    """Each end fails in at most 5 % of samples, whatever the images lost and gained."""
    rng = np.random.default_rng(0)
    for lost, gained in ((0.0, 0.0), (0.02, 0.01), (0.1, 0.1)):
        counts = rng.multinomial(200, [lost, gained, 1 - lost - gained], 400)
        ends = np.array([evidence.drop_interval(*map(int, row[:2]), 200) for row in counts])
        drop = 100 * (lost - gained)
        assert (ends[:, 1] < drop - 1e-9).mean() <= 0.05 + 0.02
        assert (ends[:, 0] > drop + 1e-9).mean() <= 0.05 + 0.02


def test_enough_images_that_changed_are_not_said_to_be_too_few():
    assert "point; 309 without a change could" in evidence.too_few(308, 1.0)
    assert evidence.too_few(411, 1.0).endswith("1 point: too many of them change class")


def test_few_images_are_said_to_be_few_and_can_be_refused(copy):
    usual = verify(copy)
    assert "cannot rule out a drop of 1 point; 309 without a change" in usual.evidence
    assert usual.passed
    strict = verify(copy, require_evidence=True)
    assert not strict.passed
    assert "12 images cannot rule out a drop of 1 point" in strict.artefacts[0].why
    with pytest.raises(InputError, match="--require-evidence with --max-drop 0"):
        verify(copy, max_drop=0, require_evidence=True)


def test_where_one_image_is_more_than_allowed_the_next_step_is_told():
    said = evidence.of_one_image(76, 1.0)
    assert said == (
        "; one of 76 images is 1.316 points: check with more validation images, or allow it with "
        "--max-drop 1.4"
    )
    assert evidence.of_one_image(100, 1.0) == evidence.of_one_image(76, 0) == ""
    judge = SimpleNamespace(limits=Limits(), examples=range(76), _cause=lambda: "")
    row = FileComparison(drop_interval=[0.0, 5.0], agreement=1.0)
    (reason,) = Judge._class_reasons(judge, row, Fraction(100, 76))
    assert reason == f"top-1 is 1.316 points lower (allowed: 1){said}"


def test_files_in_another_folder_can_be_verified(copy, tmp_path, capsys):
    elsewhere = copy.export_folder.rename(tmp_path / "my files")
    result = verify(copy, output=elsewhere)
    assert result.passed and json.loads((elsewhere / "verify.json").read_text())["passed"]
    said = f"`keras-resnet export {copy.path} --output '{elsewhere}-2'` writes some"
    with pytest.raises(InputError, match=re.escape(said)):
        verify(copy, output=f"{elsewhere}-2")
    with pytest.raises(
        InputError, match=f"not a run; .*`keras-resnet verify RUN --output '{elsewhere}'"
    ):
        verify(elsewhere)
    (elsewhere / "labels.txt").write_text("x\n")
    assert not verify(copy, output=elsewhere).passed


@pytest.mark.parametrize(
    ("lost", "agreement", "said"),
    [
        (3, 0.99, []),
        (4, 0.99, ["top-1 is 0.4 points lower (allowed: 0.3)"]),
        (
            0,
            0.98,
            ["predicts the class of the Keras model for 98.00% of the images (minimum: 99.00%)"],
        ),
    ],
)
def test_what_is_exactly_allowed_passes_and_no_more(lost, agreement, said):
    limits = Limits(max_drop=0.3, min_agreement=0.99)
    judge = SimpleNamespace(limits=limits, examples=range(1000), _cause=lambda: "")
    row = FileComparison(drop_interval=[0.0, 1.0], agreement=agreement)
    assert [*Judge._class_reasons(judge, row, Fraction(100 * lost, 1000))] == said


def test_lost_and_gained_images_are_counted_each_on_its_side(monkeypatch):
    """Of ten images the file loses three and gains one; of the other six, both mistake three."""
    monkeypatch.setattr("keras_resnet.exporting.judge._latency", lambda file: 1.0)
    labels = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 2])
    of_model = np.array([0, 0, 0, 1, 1, 1, 0, 0, 1, 1])
    of_file = np.array([1, 1, 2, 1, 1, 1, 2, 0, 1, 1])
    part = object.__new__(Judge)
    part.limits, part.examples = Limits(max_drop=20), SimpleNamespace(labels=labels)
    part._contract, part._is_clear = Contract(), {}
    part._expected = part._exact = np.eye(3, dtype=np.float32)[of_model]
    part._logits = lambda opened: np.eye(3, dtype=np.float32)[of_file]
    part._refused = lambda *_: {}
    file = SimpleNamespace(name="model.onnx", opened=SimpleNamespace(lite=None))
    found, _ = part._compare(file)
    assert (found.top1, found.agreement, found.drop_points) == (0.4, 0.6, 20.0)
    assert found.drop_interval == [*evidence.drop_interval(3, 1, 10)]


def test_some_images_are_any_of_all_and_have_their_own_logits(exported):
    """Validation images are in the order of their classes: the first ones are of one class."""
    run, _ = exported
    reference, val = open_artefact(run), run.examples("val")
    chosen = _sample(len(val), 5, seed=0).tolist()
    assert len(set(chosen)) == 5 and chosen == _sample(len(val), 5, seed=0).tolist()
    assert len({tuple(_sample(len(val), 5, seed).tolist()) for seed in range(9)}) > 5
    whole = Judge(reference, val, Contract(), Limits())._expected
    given = Judge(reference, val, Contract(), Limits(images=5), logits=whole)
    own = Judge(reference, val, Contract(), Limits(images=5))
    np.testing.assert_allclose(given._expected, own._expected, rtol=1e-4, atol=1e-4)
    # The threshold of a file is judged by those of the images that did not set it.
    rule = Rejection("margin", 0.0, None, 0.25, 6)
    some = Judge(reference, val, Contract(reject=rule), Limits(images=5), logits=whole)
    _, others = rejection.halves(len(val), 0.25, run.config.seed)
    assert np.flatnonzero(some._judged).tolist() == [
        i for i, name in enumerate(some.examples.names) if name in val.take(others).names
    ]


def test_logits_that_are_no_numbers_are_refused():
    judge = SimpleNamespace(_logits=lambda opened: np.array([[0.0, 1.0], [np.nan, 0.0]]))
    with pytest.raises(CheckFailed, match="logits that are not finite"):
        Judge._compare(judge, SimpleNamespace(opened=None))


def test_of_many_frames_every_nth_is_moved_across_batches():
    frames = np.arange(70.0).reshape(70, 1, 1, 1)
    judge = SimpleNamespace(
        _every=3, _frames=lambda: np.split(frames, [32, 64]), _seen=lambda frames: frames,
        _model=lambda frames, training: tf.constant(frames[:, 0, 0]),
    )  # fmt: skip
    for logits in Judge._shifted.func(judge).values():
        assert logits[:, 0].tolist() == [*range(0, 70, 3)]


@pytest.mark.parametrize(("found", "is_warned"), [(0.5, False), (0.41, False), (0.39, True)])
def test_a_file_that_refuses_a_little_less_is_not_warned_of(found, is_warned):
    row = SimpleNamespace(file="model_int8.tflite", unknown_refused=found)
    model = KerasResult(0.9, known_refused=0.05, unknown_refused=0.5)
    assert (_lost_refusals(row, model) is not None) == is_warned


def test_agreement_can_be_asked_for(copy, monkeypatch):
    assert verify(copy, min_agreement=1.0).passed
    with pytest.raises(InputError, match=r"--min-agreement is 99.*0 to 1"):
        verify(copy, min_agreement=99)


# What an app reads beside the files


def edit(name, function):
    def damage(folder):
        path = folder / name
        path.write_bytes(function(path.read_bytes()))

    return damage


def zero_golden(folder):
    path = folder / "golden" / "golden.json"
    index = json.loads(path.read_text())
    for entry in index["images"]:
        entry["logits"] = {name: [0.0] * len(v) for name, v in entry["logits"].items()}
    path.write_text(json.dumps(index))


SPOILED = {
    "labels.txt": edit("labels.txt", lambda text: b"\n".join(text.split()[::-1]) + b"\n"),
    "preprocess.json": edit("preprocess.json", lambda text: text.replace(b"RGB", b"BGR")),
    "calibration.json": edit("calibration.json", lambda text: text[:-3]),
    "golden/golden.json": zero_golden,
    "golden/00.png": edit("golden/00.png", lambda png: png[:-8]),
}


def test_a_changed_file_fails(copy):
    for spoil in SPOILED.values():
        spoil(copy.export_folder)
    rows = {row.file: row for row in verify(copy).files}
    for name in SPOILED:
        assert not rows[name].passed and "changed since it was exported" in rows[name].why


@pytest.mark.parametrize("change", [{"probabilities": {"x": 1}}, {"reject": 0.1}, None])
def test_a_preprocess_json_that_says_anything_else_is_a_row_that_fails(copy, change):
    path = copy.export_folder / "preprocess.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change) if change else "{")
    result = verify(copy)
    assert [row.file for row in result.files if not row.passed] == ["preprocess.json"]
    assert (copy.export_folder / "verify.json").exists()


def test_a_wrong_file_fails_even_if_the_manifest_knows_it(copy):
    path = copy.export_folder / "manifest.json"
    rows = json.loads(path.read_text())
    expected = {
        "labels.txt": "line 1 is 'striped', 'bright' in labels.txt of the run",
        "preprocess.json": "color_order is 'BGR', 'RGB' for this run",
        "golden/golden.json": "gives logits for golden/00.png that differ by",
    }
    for name in expected:
        SPOILED[name](copy.export_folder)
        rows[name] = fingerprint(copy.export_folder / name)
    path.write_text(json.dumps(rows))
    result = verify(copy)
    assert not result.passed
    said = "; ".join(row.why for row in (*result.files, *result.artefacts) if not row.passed)
    assert [line for line in expected.values() if line not in said] == []


def test_labels_without_the_last_and_models_of_no_export_fail(copy):
    folder = copy.export_folder
    (folder / "labels.txt").write_text("bright\ndark\n")
    guard.record(folder, {"labels.txt": fingerprint(folder / "labels.txt")})
    for name in ("mine.tflite", "mine.onnx"):
        shutil.copy(folder / TFLITE["int8"], folder / name)
    failed = {row.file: row.why for row in guard.check(copy, folder)[0] if not row.passed}
    none = "has no row in manifest.json; export it again"
    assert failed == {
        "labels.txt": "has 2 lines, labels.txt of the run 3",
        "mine.tflite": none,
        "mine.onnx": none,
    }


def test_without_a_manifest_nothing_passes(copy):
    (copy.export_folder / "manifest.json").unlink()
    result = verify(copy)
    rows = [*result.artefacts, *result.files]
    assert not any(row.passed for row in rows)
    assert all("has no row in manifest.json" in row.why for row in rows)


@pytest.mark.parametrize("name", ["labels.txt", "preprocess.json", "model_float32.tflite"])
def test_no_damaged_file_is_used(copy, photos, name):
    path = copy.export_folder / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"{name} is damaged: its sha256 is not the one in"):
        predict(copy.export_folder / "model_float32.tflite", [photos / "dark" / "01.jpg"])


# One writer


def test_of_two_exports_at_once_the_second_is_refused_and_nothing_is_lost(copy, command):
    before = {path.name for path in copy.export_folder.iterdir()}
    with ThreadPoolExecutor() as threads:
        first = threads.submit(command, "export", copy.path, "--tflite", "--max-drop", 100)
        while not (copy.path / ".export-lock").exists():
            assert not first.done(), first.result().stderr
            time.sleep(0.02)
        with pytest.raises(InputError, match="another process is writing or verifying"):
            export(copy, saved_model=False, tflite=["float16"])
        with pytest.raises(InputError, match="another process is writing or verifying"):
            verify(copy)
        assert first.result().returncode == 0, first.result().stderr
    assert {path.name for path in copy.export_folder.iterdir()} == before
    assert verify(copy).passed and not list(copy.path.glob(".export*"))


def test_the_command_sees_another_writer_before_it_loads_tensorflow(copy, monkeypatch, capsys):
    from keras_resnet import cli
    from keras_resnet.cli import export as export_command
    from keras_resnet.exporting import publish

    monkeypatch.setattr(export_command, "start", lambda quiet: pytest.fail("TensorFlow is loaded"))
    with publish.locked(copy.export_folder):
        assert cli.run(["export", str(copy.path)]) == 2
    assert "another process is writing or verifying" in capsys.readouterr().err


def test_a_run_that_cannot_be_written_is_verified_and_not_changed(
    copy, monkeypatch, capsys, tmp_path
):
    from keras_resnet.exporting import publish

    def refuse(path):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(publish, "_take", refuse)
    (copy.export_folder / "verify.json").unlink()
    before = {path: path.stat().st_mtime_ns for path in copy.path.rglob("*")}
    assert verify(copy).passed
    assert "cannot be written: the result is not saved" in capsys.readouterr().err
    moved = shutil.copytree(copy.config.data, tmp_path / "moved")
    assert verify(copy, data=moved).passed
    assert {path: path.stat().st_mtime_ns for path in copy.path.rglob("*")} == before
    with pytest.raises(InputError, match=r"cannot write in .*: Read-only file system"):
        export(copy, tflite=["none"])


def test_an_exported_model_that_is_gone_is_missed_until_the_next_export(copy):
    gone = copy.export_folder / TFLITE["int8"]
    gone.unlink()
    result = verify(copy)
    (row,) = (row for row in result.files if not row.passed)
    assert not result.passed and row.file == gone.name and "is missing; export it" in row.why
    assert export(copy, saved_model=False, tflite=["none"]).passed
    assert verify(copy).passed


def test_a_folder_that_is_a_link_is_written_where_it_leads(tmp_path):
    from keras_resnet.exporting import publish

    (tmp_path / "disk").mkdir()
    link = tmp_path / "export"
    link.symlink_to(tmp_path / "disk" / "files", target_is_directory=True)
    for content in "ab":
        with publish.locked(link), publish.staged(link) as folder:
            (folder / "file").unlink(missing_ok=True)
            (folder / "file").write_text(content)
        assert (tmp_path / "disk" / "files" / "file").read_text() == content
    assert link.is_symlink() and {p.name for p in tmp_path.iterdir()} == {"disk", "export"}
    assert [p.name for p in (tmp_path / "disk").iterdir()] == ["files"]
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(InputError, match="is a link to itself"), publish.locked(loop):
        pass


def test_a_failure_between_the_two_renames_is_mended_at_once(copy, monkeypatch):
    from keras_resnet.exporting import publish

    rename = publish.os.rename

    def fail_on_the_new(source, target):
        if "-new-" in str(source):
            raise OSError(28, "No space left on device")
        rename(source, target)

    before = {path.name for path in copy.export_folder.iterdir()}
    with monkeypatch.context() as patched:
        patched.setattr(publish.os, "rename", fail_on_the_new)
        target = copy.export_folder
        with (
            pytest.raises(OSError, match="No space left"),
            publish.locked(target),
            publish.staged(target),
        ):
            pass
    assert {path.name for path in copy.export_folder.iterdir()} == before
    assert not list(copy.path.glob(".export*"))
