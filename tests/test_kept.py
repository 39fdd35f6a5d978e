"""A failed export keeps what it converted for the next try, and nothing else."""

import shutil
from dataclasses import replace

import pytest

from keras_resnet import filenames
from keras_resnet.errors import CheckFailed
from keras_resnet.exporting import tflite
from keras_resnet.exporting.exporter import export
from keras_resnet.exporting.kept import Kept
from keras_resnet.exporting.plan import ExportPlan
from keras_resnet.geometry import Geometry
from keras_resnet.inspection import metadata
from keras_resnet.run import open_run

embed = metadata.embed

OPTIONS = {"saved_model": False, "tflite": ["none", "float16"], "max_drop": 100}


@pytest.fixture
def copy(untouched, tmp_path):
    shutil.copytree(untouched, tmp_path / "copy")
    return open_run(tmp_path / "copy")


@pytest.fixture
def converted(exported, monkeypatch):
    """The variants that are converted, which here means copied from an export of the same network;
    and those whose conversion does not end well."""
    variants, variants_that_fail = [], []

    def watched(source, path, variant, **options):
        if variant in variants_that_fail:
            path.write_bytes(b"half a file")
            raise CheckFailed(f"conversion of {path.name} failed: killed")
        variants.append(variant)
        shutil.copy(exported[0].export_folder / filenames.TFLITE[variant], path)
        return {"seconds": 0.0, "peak_memory_bytes": 0}

    monkeypatch.setattr(tflite, "convert", watched)
    return variants, variants_that_fail


def test_the_next_try_converts_only_what_is_missing(copy, converted):
    variants, fails = converted
    fails.append("float16")
    with pytest.raises(CheckFailed, match="killed"):
        export(copy, **OPTIONS)
    assert not copy.export_folder.exists()
    fails.clear()
    result = export(copy, **OPTIONS)
    assert result.passed and variants == ["none", "float16"]
    assert not list(copy.path.glob(".export*"))
    fails.append("none")
    with pytest.raises(CheckFailed, match="killed"):
        export(copy, **OPTIONS)  # nothing of a published export is used again


def test_a_kept_file_that_is_gone_is_made_again(copy, converted):
    """As after a kill while kept files were removed."""
    variants, fails = converted
    fails.append("float16")
    with pytest.raises(CheckFailed, match="killed"):
        export(copy, **OPTIONS)
    (kept,) = copy.path.glob(".export-kept/*/model_float32.tflite")
    kept.unlink()
    fails.clear()
    assert export(copy, **OPTIONS).passed and variants == ["none", "none", "float16"]


def test_a_kept_file_is_of_the_same_model_options_and_calibration_images(tmp_path):
    plan = ExportPlan(
        geometry=Geometry(24, 24), classes=["a", "b"], tflite=["none", "int8"],
        target=tmp_path / "export",
    )  # fmt: skip
    model, images = tmp_path / "model.keras", tmp_path / "images.npy"
    model.write_bytes(b"a model")
    images.write_bytes(b"images")

    def is_converted(variant="int8", plan=plan):
        made = []

        def make(path):
            path.write_bytes(b"a file")
            made.append(path)
            return {}

        Kept(plan, model).or_made(variant, tmp_path / "file.tflite", images, make)
        return bool(made)

    assert is_converted() and is_converted("none")
    assert not is_converted() and not is_converted("none")
    changes = {"io": "uint8", "center_crop": 0.9, "geometry": Geometry(24, 24, "pad")}
    for name, value in changes.items():
        assert is_converted(plan=replace(plan, **{name: value})), name
    images.write_bytes(b"other images")
    assert is_converted() and not is_converted("none")
    model.write_bytes(b"another model")
    assert is_converted() and is_converted("none")


def test_other_options_and_a_file_that_failed_the_gate_are_converted_again(
    copy, converted, monkeypatch
):
    variants, fails = converted
    fails.append("float16")
    for scores in ("logits", "softmax"):
        with pytest.raises(CheckFailed, match="killed"):
            export(copy, scores=scores, **OPTIONS)
    assert variants == ["none", "none"]
    fails.clear()
    monkeypatch.setattr(metadata, "embed", _embed_and_damage)
    with pytest.raises(CheckFailed, match=r"model_float32\.tflite"):
        export(copy, **OPTIONS)
    assert variants == ["none", "none", "float16"]
    monkeypatch.undo()
    assert not list(copy.path.glob(".export-kept/*/model_float32.*"))
    assert list(copy.path.glob(".export-kept/*/model_float16.tflite"))
    assert export(copy, **OPTIONS).passed


def _embed_and_damage(path, *contents):
    embed(path, *contents)
    if path.name == "model_float32.tflite":
        content = bytearray(path.read_bytes())
        start = len(content) // 10  # in the middle of a convolution
        content[start : start + 4096] = bytes(4096)
        path.write_bytes(content)
