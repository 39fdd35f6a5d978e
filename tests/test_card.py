"""The model card: all of its numbers were measured."""

import json
import re
from dataclasses import replace

import pytest

from keras_resnet import open_run
from keras_resnet.exporting import card
from keras_resnet.filenames import TFLITE


@pytest.fixture(scope="module")
def shown(exported):
    return card.text(*exported)


def test_it_is_published_with_the_export(exported, shown):
    assert (exported[0].export_folder / "card.md").read_text(encoding="utf-8") == shown


@pytest.mark.parametrize("name", ["saved_model", *TFLITE.values()])
def test_each_file_has_its_own_measured_numbers(exported, name):
    run, result = exported
    (row,) = [row for row in result.artefacts if row.file == name]
    row = replace(row, top1=0.1234, drop_points=5.67, bytes=8910, latency_ms=11.12)
    changed = replace(result, artefacts=[row])
    (line,) = re.findall(rf"^\| `{name}` \|.*$", card.text(run, changed), flags=re.MULTILINE)
    for shown in ("12.34%", "5.67", "8,910 bytes", "11.12 ms", f"{row.agreement:.2%}"):
        assert shown in line
    assert row.sha256 in card.text(run, changed)


def test_every_number_of_the_recipe_is_the_runs(exported, shown):
    run, _ = exported
    metrics, config = run.metrics, run.config
    for text in (
        f"{metrics['parameters']:,} parameters", f"{config.epochs} epochs",
        f"batch {config.batch_size}", f"learning rate {config.peak_rate:.3g}",
        f"seed {config.seed}", f"epoch {metrics['best_epoch']} was exported",
        "12 evaluation images were held out from the same data, and chose the epoch",
        "48 train, 12 val images", "3 classes: `bright`, `dark`, `striped`", "24 × 24 pixels",
    ):  # fmt: skip
        assert text in shown


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("<script>", "`<script>`"),
        ("*a|b*", "`*a|b*`"),
        ("`a``", "``` `a`` ```"),
        ("a\nb", r"`a\nb`"),
    ],
)
def test_a_name_is_not_markup(name, code):
    assert card._code(name) == code


@pytest.mark.parametrize(
    ("weakest", "shown"), [(0.99999, "`a*`: 99.9%."), (1.0, "all classes 100.0%.")]
)
def test_the_weakest_classes_are_those_below_100_percent(exported, weakest, shown):
    run, result = exported
    rows = {"a*": weakest, "b": 1.0, "c": None}
    per_class = {name: {"images": top1 is not None, "top1": top1} for name, top1 in rows.items()}
    metrics = {**run.metrics, "val": {"per_class": per_class}}
    (line,) = [line for line in card._limits(run, metrics, result) if "Lowest" in line]
    assert line == f"- Lowest top-1 by class (Keras, all validation images): {shown}"


def test_it_has_no_rounded_100_percent_and_no_negative_zero(exported):
    _, result = exported
    row = replace(result.artefacts[0], top1=0.99999, agreement=0.99999, drop_points=-0.002)
    line = next(line for line in card._files(replace(result, artefacts=[row])) if row.file in line)
    assert "| 99.99% | 0.00 | 99.99% |" in line


def test_it_does_not_tell_where_the_photos_lie(photos, shown):
    assert f"on {photos.name}" in shown
    assert str(photos.parent) not in shown


def test_of_an_imported_run_it_says_that_it_does_not_know_the_training(exported, tmp_path, accept):
    import shutil

    run, result = exported
    shutil.copytree(run.path, tmp_path / "run")
    # What `import` writes.
    source = {"file": "/home/me/theirs.safetensors", "bytes": 1, "sha256": "ab" * 32}
    imported = {"model": "resnet8", "parameters": 75_642, "imported": source}
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(imported))
    config = json.loads((tmp_path / "run" / "config.json").read_text()) | {"width": 0.5}
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    accept(tmp_path / "run", "metrics.json", "config.json")
    shown = card.text(open_run(tmp_path / "run"), result)
    assert "resnet8 ×0.5, trained elsewhere, imported from theirs.safetensors\n" in shown
    assert "the model was trained on other data" in shown and "/home/me" not in shown
    for never_measured in ("epochs", "learning rate", "Lowest top-1"):
        assert never_measured not in shown
