"""Training writes a complete run folder, learns, and is reproducible."""

import csv
import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest

from keras_resnet import open_run, recipes, specs
from keras_resnet.config import size_plan
from keras_resnet.data import sources
from keras_resnet.errors import CheckFailed, InputError
from keras_resnet.training import schedule
from keras_resnet.training.train import train
from keras_resnet.weights.load import load_weights

pytestmark = pytest.mark.usefixtures("no_pictures")
FILES = {
    "config.json", "labels.txt", "split.json", "history.csv", "metrics.json", "model.keras",
    "manifest.json", "report.html", "curves.png", "confusion.png", "batch.png", "mistakes.png",
    "predictions.csv", "examples.json", "tensorboard",
}  # fmt: skip


def test_a_run_folder_holds_what_the_readme_promises(trained):
    assert {path.name for path in trained.path.iterdir()} >= FILES
    assert not list(trained.path.glob("*.part*"))


def test_it_learns_to_tell_bright_dark_and_striped_apart(trained):
    assert trained.metrics["val"]["top1"] == 1.0


def test_history_has_a_row_for_every_epoch(trained):
    with open(trained.file("history.csv"), newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    assert all(float(row["images_per_second"]) > 0 for row in rows)
    assert int(rows[-1]["image_size"]) == 24


def test_the_manifest_knows_every_file(trained):
    manifest = json.loads(trained.file("manifest.json").read_text())
    content = trained.file("model.keras").read_bytes()
    assert manifest["model.keras"] == {
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    assert FILES - {"manifest.json", "tensorboard"} <= manifest.keys()


def test_validation_and_training_images_are_disjoint(trained):
    split = json.loads(trained.file("split.json").read_text())
    names = {part: {name for name, *_ in rows} for part, rows in split.items()}
    assert len(names["train"]) == 48 and len(names["val"]) == 12
    assert not names["train"] & names["val"]


def test_a_damaged_model_is_refused_with_one_line(trained, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(trained.path, copy)
    content = bytearray((copy / "model.keras").read_bytes())
    content[len(content) // 2] ^= 1
    (copy / "model.keras").write_bytes(content)
    with pytest.raises(InputError, match=r"model\.keras is damaged"):
        open_run(copy).model()


def _digest(run):
    weights = run.model().get_weights()
    return hashlib.sha256(b"".join(w.tobytes() for w in weights)).hexdigest()


@pytest.mark.slow  # test_state.py compares the same, with a process of other settings
def test_the_same_command_twice_gives_the_same_weights_bit_for_bit(photos, untouched, tmp_path):
    first = open_run(untouched)
    given = ("model", "epochs", "image_size", "batch_size", "seed", "zero_gamma", "precision")
    settings = {name: getattr(first.config, name) for name in given}
    second = train(str(photos), run_folder=tmp_path / "second", **settings)
    assert second.config == first.config
    assert _digest(second) == _digest(first)


@pytest.mark.slow
def test_another_seed_gives_other_weights(photos, tmp_path):
    settings = dict(model="resnet8", epochs=1, image_size=16, batch_size=16)
    first, other = (
        _digest(train(str(photos), run_folder=tmp_path / f"{seed}", seed=seed, **settings))
        for seed in (5, 6)
    )
    assert first != other


def test_a_config_file_does_a_run_again(trained):
    config = recipes.resolve(config_file=trained.file("config.json"))
    assert (config.epochs, config.image_size, config.batch_size, config.seed) == (3, 24, 8, 3)


def test_finetuning_starts_from_a_run_which_it_outlives_and_leaves_the_frozen_layers_alone(
    trained, tmp_path, capsys
):
    import shutil

    from keras_resnet.evaluation.scores import evaluate

    shutil.copytree(trained.path, tmp_path / "first", ignore=shutil.ignore_patterns("export"))
    run = train(
        trained.config.data,
        run_folder=tmp_path / "fine",
        recipe="finetune",
        model="resnet8",
        weights=str(tmp_path / "first"),
        freeze="body",
        epochs=1,
        image_size=24,
        batch_size=16,
    )
    # With another seed, which would have held out images that the weights have seen.
    assert run.splits["val"] == trained.splits["val"]
    said = capsys.readouterr().err
    assert f"48 of 48 train images are training images of {tmp_path}/first, whose weights" in said
    shutil.rmtree(tmp_path / "first")
    assert evaluate(run).images == 12
    before, after = trained.model(), run.model()
    for layer in before.layers:
        same = all(
            np.array_equal(a, b)
            for a, b in zip(
                layer.get_weights(), after.get_layer(layer.name).get_weights(), strict=True
            )
        )
        assert same == (layer.name != "logits"), layer.name


def test_a_file_of_a_run_has_seen_its_images_too(trained, tmp_path, capsys, monkeypatch):
    known = trained.splits["val"]
    data = trained.config.data
    for weights in (trained.path, trained.file("model.keras")):
        source = sources.load(data, seed=77, weights=str(weights))
        assert sorted(source.splits["val"].names) == sorted(image.name for image in known)
    assert "val images are" not in capsys.readouterr().err
    # "imagenet" is no file, whatever lies in the working directory.
    monkeypatch.chdir(trained.path)
    assert sources.digests_of_weights("imagenet") == {} != sources.digests_of_weights("model.keras")


def test_a_validation_split_that_is_smaller_than_asked_for_is_told(trained, capsys):
    sources.load(trained.config.data, val_split=0.5, weights=str(trained.path))
    said = capsys.readouterr().err
    assert "the val split has 12 images instead of the 30 of --val-split 0.5: training" in said


def test_validation_images_that_the_weights_have_seen_are_told(trained, tmp_path, capsys):
    import shutil

    photos = shutil.copytree(trained.config.data, tmp_path / "photos" / "train")
    shutil.copytree(photos, tmp_path / "photos" / "val")
    source = sources.load(tmp_path / "photos", weights=str(trained.path))
    assert len(source.splits["val"]) == 60
    said = capsys.readouterr().err
    assert f"48 of 60 val images are training images of {trained.path}, whose weights" in said
    assert "held out" not in said


def test_weights_of_another_network_are_refused_and_the_model_is_untouched(trained):
    from keras_resnet import build

    model = build("resnet32", 3, (24, 24, 3))
    before = model.get_weights()
    with pytest.raises(
        InputError, match=r"does not fit resnet32: 120 missing \(conv2_block2_1_conv"
    ):
        load_weights(model, trained.path)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_a_head_for_other_classes_is_replaced_and_said(trained):
    from keras_resnet import build

    model = build("resnet8", 7, (24, 24, 3))
    with pytest.raises(InputError, match="the file has 3 classes"):
        load_weights(model, trained.path)
    assert "head replaced" in load_weights(model, trained.path, replace_head=True)
    stem = model.get_layer("conv1_conv").get_weights()[0]
    assert np.array_equal(stem, trained.model().get_layer("conv1_conv").get_weights()[0])


def test_a_batch_larger_than_the_data_is_refused(photos, tmp_path):
    with pytest.raises(
        InputError, match=r"--batch-size 64 is larger than the training set .48 images"
    ):
        train(str(photos), run_folder=tmp_path / "run", batch_size=64)
    assert not (tmp_path / "run").exists()


def test_a_folder_with_something_else_is_refused(photos, tmp_path):
    (tmp_path / "letter.txt").write_text("keep me")
    with pytest.raises(InputError, match=r"already holds letter\.txt"):
        train(str(photos), run_folder=tmp_path, image_size=24, batch_size=8)


def test_the_rate_rises_to_its_peak_then_falls_to_zero():
    config = recipes.resolve({"epochs": 10, "learning_rate": 0.4, "warmup_epochs": 2.0})
    rate = schedule.learning_rate(config, steps_per_epoch=10)
    values = [float(rate(step)) for step in range(101)]
    assert values[0] == pytest.approx(0.4 / 20)  # not 0: that would be a step for nothing
    assert values[99] > 0 and values[100] == pytest.approx(0, abs=1e-7)
    assert max(values) == values[20] == pytest.approx(0.4)
    assert values[:21] == sorted(values[:21])
    assert values[20:] == sorted(values[20:], reverse=True)


@pytest.mark.parametrize("drops", [(), (0.5, 0.75)])
@pytest.mark.parametrize("warmup", [0.0, 2.0])
def test_no_step_has_a_rate_of_0(drops, warmup):
    config = recipes.resolve(
        {"epochs": 10, "learning_rate": 0.4, "warmup_epochs": warmup, "rate_drops": drops}
    )
    rate = schedule.learning_rate(config, steps_per_epoch=10)
    values = np.array([float(rate(step)) for step in range(100)])
    first = round(10 * warmup)
    rise = 0.4 * np.arange(1, first + 1) / max(first, 1)
    np.testing.assert_allclose(values[:first], rise, rtol=1e-5)
    if drops:
        fall = np.repeat([0.4, 0.04, 0.004], [50 - first, 25, 25])
    else:
        fall = 0.2 * (1 + np.cos(np.pi * np.arange(100 - first) / (100 - first)))
    np.testing.assert_allclose(values[first:], fall, rtol=1e-3, atol=1e-6)
    assert values.min() > 0 and values.max() == pytest.approx(0.4)
    again = type(rate).from_config(rate.get_config())
    assert [float(again(step)) for step in range(0, 100, 9)] == values[::9].tolist()


def test_a_short_run_warms_up_for_a_quarter_of_it():
    config = recipes.resolve({"recipe": "rsb-a3", "epochs": 1})
    assert config.warmup_epochs == 5
    rate = schedule.learning_rate(config, steps_per_epoch=8)
    assert float(rate(2)) == pytest.approx(config.learning_rate)


def test_the_papers_rate_falls_to_a_tenth_at_half_and_three_quarters_of_64_000_steps():
    config = recipes.resolve({"recipe": "paper-cifar"})
    per_epoch = round(45_000 / config.batch_size)
    rate = schedule.learning_rate(config, per_epoch)
    assert config.epochs * per_epoch == pytest.approx(64_000, rel=2e-3)
    points = {per_epoch // 2: 0.05, 31_900: 0.1, 32_100: 0.01, 47_900: 0.01, 48_100: 0.001}
    for step, expected in points.items():
        assert float(rate(step)) == pytest.approx(expected, rel=0.01)
    again = type(rate).from_config(rate.get_config())
    assert [float(again(step)) for step in points] == [float(rate(step)) for step in points]


@pytest.mark.parametrize("epochs", [1, 2, 3, 7, 20, 100])
def test_image_sizes_only_grow_and_end_at_the_full_size(epochs):
    config = recipes.resolve({"epochs": epochs, "image_size": 64})
    sizes = schedule.epoch_sizes(config)
    assert len(sizes) == epochs
    assert sizes == sorted(sizes) and sizes[-1] == 64
    assert all(size % 4 == 0 for size in sizes)


@pytest.mark.parametrize(
    ("settings", "plan"),
    [
        ({}, [(16, 11), (24, 6), (32, 3)]),
        ({"epochs": 14}, [(16, 8), (24, 3), (32, 3)]),  # 15 % would be two epochs at 32
        ({"epochs": 14, "image_size": 16}, [(16, 14)]),  # 8 pixels are 2 cells of the last map
        ({"epochs": 3}, [(32, 3)]),
        ({"model": "resnet50"}, [(128, 11), (160, 6), (224, 3)]),
        ({"model": "resnet18", "image_size": 64}, [(64, 20)]),
        *(
            (
                {"model": "resnet50", "recipe": "finetune", "epochs": 90, "image_size": side},
                [(side, 90)],
            )
            for side in (112, 176, 240, 300)
        ),
        ({"model": "resnet50", "image_size": 300}, [(160, 11), (224, 6), (300, 3)]),
        ({"size_steps": ((0.5, 1.0), (0.5, 0.5))}, [(32, 10), (16, 7), (32, 3)]),
    ],
    ids=str,
)
def test_small_images_come_first_where_they_help(settings, plan):
    config = recipes.resolve(settings)
    stride = specs.SPECS[config.model].total_stride
    assert size_plan(config, stride) == plan
    assert schedule.epoch_sizes(config) == [size for size, epochs in plan for _ in range(epochs)]
    lines = [line for line in recipes.effective(config) if line.startswith("image sizes")]
    assert len(lines) == (len(plan) != len(config.size_steps))
    if lines:
        assert f"{plan[0][1]} epochs at {plan[0][0]}" in lines[0]


@pytest.mark.parametrize(
    ("size", "steps", "said"),
    [
        (16, ((1.0, 0.01),), "4 epochs at 16; --size-steps are multiples of 4"),
        (32, ((0.5, 0.01), (0.5, 1.0)), "1 epoch at 16, then 3 epochs at 32;"),
        (32, ((0.5, 0.5), (0.5, 1.0)), "and the last 3 epochs use the full size"),
        (32, ((0.5, 2.0), (0.5, 1.0)), "1 epoch at 64, then 3 epochs at 32;"),
        (32, ((0.25, 0.5), (0.75, 1.0)), None),
        (32, ((1.0, 1.0),), None),
    ],
    ids=str,
)
def test_other_sizes_than_those_asked_for_are_said(size, steps, said):
    settings = {"model": "resnet8", "epochs": 4, "image_size": size, "size_steps": steps}
    lines = recipes.effective(recipes.resolve(settings))
    found = [line for line in lines if line.startswith("image sizes in pixels")]
    assert (said in found[0]) if said else not found
    smaller = any(line.startswith("training images are smaller at first") for line in lines)
    assert smaller == (size == 32 and steps[0][1] < 1)


def test_as_many_batches_as_the_run_has_can_be_accumulated():
    config = recipes.resolve({"epochs": 2, "batch_size": 10, "accumulate": 17})
    with pytest.raises(InputError, match=r"the 16 batches of the run; .* use 16 or less"):
        schedule.require_steps(config, 80)
    schedule.require_steps(replace(config, accumulate=16), 80)


def test_freezing_random_weights_is_refused(photos, tmp_path):
    with pytest.raises(InputError, match="--freeze needs pre-trained weights"):
        train(str(photos), run_folder=tmp_path / "run", freeze="body")


def test_a_diverged_run_fails_and_publishes_no_nan(photos, tmp_path):
    with pytest.raises(CheckFailed, match="training diverged at step"):
        train(
            str(photos), run_folder=tmp_path / "run", model="resnet8", learning_rate=1e30,
            warmup_epochs=0.0, epochs=2, image_size=16, batch_size=8,
        )  # fmt: skip
    assert not (tmp_path / "run" / "model.keras").exists()


@pytest.mark.parametrize("name", ["manifest.json", "labels.txt"])
def test_a_damaged_note_in_the_run_is_one_line(trained, tmp_path, name):
    import shutil

    shutil.copytree(trained.path, tmp_path / "copy", ignore=shutil.ignore_patterns("export"))
    (tmp_path / "copy" / name).write_bytes(b'{"\xff')
    with pytest.raises(InputError, match=f"{name} is damaged"):
        open_run(tmp_path / "copy").model()
