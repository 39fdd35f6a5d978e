"""`data plan`: what more photos would bring, and what cannot be said."""

import json
import shutil
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from keras_resnet import recipes
from keras_resnet.cli import tables
from keras_resnet.data import sources
from keras_resnet.errors import InputError, Interrupted
from keras_resnet.evaluation.per_image import ImageScore
from keras_resnet.studies.data_plan import GroupScore, _with_defaults, plan_data

GROUP = r"(\d)\.jpg"  # the last digit of a photo's number: ten groups


def answer(label, right):
    return ImageScore("x", label, label if right else "other", 0.9, 0.9 if right else 0.05, False)


@pytest.fixture
def trainings(monkeypatch):
    """Instead of trainings, answers: `wrong(name, part)` says of which images of the val split, and
    `unseen` of which of the test split, they are wrong. Gives the parts that were asked for."""

    def use(wrong, unseen=None):
        asked = []

        def train_parts(folder, source, parts):
            asked.extend(parts)
            config = SimpleNamespace(model="resnet8", width=1.0, image_size=32)
            return [
                SimpleNamespace(part=p, classes=source.classes, config=config, splits=p.splits)
                for p in parts
            ]

        def answers_of(run):
            found = {}
            for split in run.part.splits.keys() - {"train"}:
                labels = [run.classes[k] for k in run.part.splits[split].labels]
                errors = (wrong if split == "val" else unseen)(run.part.name, run.part)
                found[split] = [
                    answer(label, not bad) for label, bad in zip(labels, errors, strict=True)
                ]
            return found

        monkeypatch.setattr("keras_resnet.studies.trainings.train_parts", train_parts)
        monkeypatch.setattr("keras_resnet.studies.data_plan.answers_of", answers_of)
        return asked

    return use


def first(share):
    """The first images of the val split are wrong: a share of them, by the size of the part."""

    def wrong(name, part):
        count = len(part.splits["val"])
        return np.arange(count) < round(share(len(part.splits["train"])) * count)

    return wrong


def test_parts_are_nested_and_stratified_and_get_as_many_updates(trainings, tmp_path):
    asked = trainings(first(lambda n: 0.1))
    result = plan_data("digits", run_folder=tmp_path / "plan")
    assert [p.images for p in result.curve] == sorted(p.images for p in result.curve)
    assert len(asked) == 12 and len({part.name for part in asked}) == 12
    for seed in range(3):
        mine = {p.name.split("-")[0]: p for p in asked if p.name.endswith(f"-{seed}")}
        inside = [set(mine[w].splits["train"].names) for w in ("eighth", "quarter", "half", "all")]
        assert all(small < large for small, large in pairwise(inside))
        counts = np.bincount(mine["half"].splits["train"].labels) * 2
        assert abs(counts - np.bincount(mine["all"].splits["train"].labels)).max() <= 4
        assert len({tuple(p.splits["val"].names) for p in mine.values()}) == 1
    assert len({p.splits["train"].names[0] for p in asked if p.name.startswith("eighth")}) > 1
    assert {p.settings["batch_size"] for p in asked} == {16}
    for part in asked:
        steps = round(len(part.splits["train"]) / 16)
        assert abs(part.settings["epochs"] * steps / result.updates - 1) < 0.05
        assert part.settings["warmup_epochs"] == 0.1 * part.settings["epochs"]


def test_a_power_law_is_predicted_and_checked_by_the_smaller_parts(trainings, tmp_path):
    trainings(first(lambda n: 3 * n**-0.5))
    result = plan_data("digits", run_folder=tmp_path / "plan")
    now = result.curve[-1]
    assert abs(now.error - 3 * now.images**-0.5) < 0.005 and now.low < now.error < now.high
    for predicted, times in zip(result.predictions, (2, 4), strict=True):
        assert predicted.images == times * now.images
        assert predicted.low < 3 * predicted.images**-0.5 < predicted.high
    assert result.check.low < now.error < result.check.high
    assert result.exponent[1] < 0.5 < result.exponent[2] and result.notes == []
    assert json.loads((tmp_path / "plan" / "plan.json").read_text())["updates"] == result.updates
    assert (tmp_path / "plan" / "learning-curve.png").stat().st_size > 10_000


def test_no_errors_are_no_proof(trainings, tmp_path):
    trainings(first(lambda n: 0.3 if n < 500 else 0.0))
    result = plan_data("digits", run_folder=tmp_path / "plan", seeds=1)
    assert result.curve[-1].error == 0 and 0.005 < result.curve[-1].high < 0.02
    text = " ".join(result.notes)
    assert "0.0 of 359 validation images are wrong: the error is at most 1.0%" in text
    assert "one seed" in text and "guessing" not in text


def test_networks_that_may_be_guessing_say_nothing_about_more_photos(trainings, tmp_path):
    trainings(first(lambda n: 0.9))
    result = plan_data("digits", run_folder=tmp_path / "plan")
    assert "guessing has 89.7%: this says nothing" in " ".join(result.notes)


def test_a_measured_error_beside_the_interval_is_not_called_inside(trainings, tmp_path):
    trainings(first(lambda n: 3 * n**-0.5))
    result = plan_data("digits", run_folder=tmp_path / "plan")
    check, last = result.check, result.curve[-1]
    half = 0.5 / result.validation_images
    for high, word in ((last.error, "inside"), (last.error - 0.9 * half, "half an image from"),
                       (last.error - 1.1 * half, "outside")):  # fmt: skip
        shown = tables.data_plan(replace(result, check=replace(check, low=0.0, high=high)))
        assert f"measured {last.error:.1%}, {word} the interval" in shown


def test_noise_is_not_called_a_gain(trainings, tmp_path):
    """Class 3 gains; of the others each image is wrong by chance, with half as with all."""
    rng = np.random.default_rng(0)

    def wrong(name, part):
        labels = part.splits["val"].labels
        chance = np.where(labels == 3, 0.05 if name.startswith("all") else 0.6, 0.3)
        return rng.random(len(labels)) < chance

    trainings(wrong)
    result = plan_data("digits", run_folder=tmp_path / "plan")
    assert [row.name for row in result.classes if row.is_gain] == ["3"]
    assert result.classes[0].name == "3" and 0.4 < result.classes[0].gain < 0.7
    assert max(abs(row.gain) for row in result.classes[1:]) > 0.05


def test_groups_that_were_not_seen_are_left_out_once(trainings, photos, tmp_path):
    def unseen(name, part):
        return [name_.endswith("7.jpg") for name_ in part.splits["test"].names]

    asked = trainings(first(lambda n: 0.2), unseen)
    result = plan_data(photos, group_by=GROUP, run_folder=tmp_path / "plan", seeds=1)
    assert {part.settings["best_by"] for part in asked} == {"last"}
    left_out = [part for part in asked if part.name.startswith("groups")]
    assert sum(len(part.splits["test"]) for part in left_out) == 60
    for part in left_out:
        held = {name[-5] for name in part.splits["test"].names}
        assert not held & {n[-5] for s in ("train", "val") for n in part.splits[s].names}
        assert {n[-5] for n in part.splits["train"].names} | held == set("0123456789")
    groups = result.groups
    assert (groups.groups, groups.folds) == (10, 5)
    assert groups.by_group[0] == GroupScore("7", 6, 0.0)
    assert groups.unseen_top1 == pytest.approx(0.9) and groups.known_top1 < 0.9
    for part in asked:
        if not part.name.startswith("groups"):
            related = [{n[-5] for n in e.names} for e in part.splits.values()]
            assert not related[0] & related[1]


def test_an_image_of_no_group_is_not_one_of_an_unseen_group(trainings, photos, tmp_path):
    """Photos without a 7 belong to none."""
    trainings(first(lambda n: 0.0), lambda _, part: ["7" in n for n in part.splits["test"].names])
    groups = plan_data(
        photos, group_by=r"(\d?7)\.jpg", run_folder=tmp_path / "plan", seeds=1
    ).groups
    assert groups.groups == 6 == groups.unseen_images and groups.unseen_top1 == 0
    assert groups.drop == 1


def test_too_few_images_for_a_curve_are_said(trainings, photos, tmp_path):
    for label in ("dark", "bright"):
        (tmp_path / "few" / label).mkdir(parents=True)
        for path in sorted((photos / label).glob("*"))[:3]:
            shutil.copy(path, tmp_path / "few" / label)
    trainings(first(lambda n: 0.5))
    result = plan_data(tmp_path / "few", run_folder=tmp_path / "plan")
    assert len(result.curve) == 2 and result.predictions == [] and result.check is None
    assert "too few images for a curve" in " ".join(result.notes)
    with pytest.raises(InputError, match="--seeds is 0"):
        plan_data(tmp_path / "few", seeds=0)


@pytest.mark.parametrize("option", [{"test_split": 0.1}, {"split_file": "split.json"}])
def test_splits_of_the_user_are_refused_before_the_folder_is_made(option, tmp_path):
    said = f"data plan creates the splits; leave out --{next(iter(option)).replace('_', '-')}"
    with pytest.raises(InputError, match=said):
        plan_data("digits", run_folder=tmp_path / "plan", **option)
    assert not (tmp_path / "plan").exists()


def test_the_val_split_is_that_of_the_study(monkeypatch, tmp_path):
    def train(data, *, config_file, run_folder, **options):
        assert recipes.resolve({"data": data, **options}, config_file).split_file
        raise Interrupted("enough", 130)

    monkeypatch.setattr("keras_resnet.training.train.train", train)
    with pytest.raises(Interrupted):
        plan_data("digits", run_folder=tmp_path / "plan", val_split=0.3)
    (split,) = (tmp_path / "plan").glob("*-seed-0.json")
    images = json.loads(split.read_text())
    assert len(images["val"]) == pytest.approx(0.3 * 1797, abs=15)


@pytest.mark.parametrize(
    ("given", "rate"),
    [
        ({}, 0.1 * 8 / 32),  # 0.1 is for 32 images
        ({"learning_rate": 0.05}, 0.05),
        ({"learning_rate": 0.05, "base_batch": 256}, 0.05 * 8 / 256),
        ({"recipe": "paper-cifar"}, 0.1 * 8 / 128),
    ],
)
def test_the_rate_is_that_of_a_training_with_so_many_images(given, rate):
    assert recipes.resolve(_with_defaults(given, 64)).peak_rate == pytest.approx(rate)


def test_a_study_keeps_the_images_of_its_split_files(photos):
    source = sources.load(str(photos))
    other = sources.load(str(photos), seed=1)
    assert source.fingerprint() != other.fingerprint()
    train = source.splits["train"]
    for change in ({"digests": train.digests + 1}, {"labels": train.labels[::-1].copy()}):
        splits = source.splits | {"train": replace(train, **change)}
        assert source.fingerprint() != replace(source, splits=splits).fingerprint()


@pytest.mark.slow
def test_the_command_measures_and_does_not_train_again(command, photos, tmp_path):
    """Of three groups, one is the validation split and two are trained on."""
    for i, path in enumerate(sorted(photos.glob("*/*.jpg"))):
        place = tmp_path / "photos" / path.parent.name / "abc"[i % 3]
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    line = ("data", "plan", tmp_path / "photos", "--seeds", 1, "--image-size", 16, "--epochs", 2,
            "--group-by", "parent", "--run", tmp_path / "plan")  # fmt: skip
    done = command(*line)
    assert done.returncode == 0, done.stderr
    assert "the 4 other trainings will take about" in done.stderr
    for words in ("too few images for a curve", "unseen groups", "may be chance", "plan.json"):
        assert words in done.stdout, done.stdout
    again = command(*line, "--json")
    assert "5 of 5 trainings" in again.stderr
    assert json.loads(again.stdout) == json.loads((tmp_path / "plan/plan.json").read_text())
