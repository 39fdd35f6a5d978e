"""`train --folds`: each image is held out once, and wrong labels are found."""

import csv
import json
import shutil
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from keras_resnet.data import sources, splitting
from keras_resnet.data.examples import from_pixels
from keras_resnet.errors import InputError, Interrupted
from keras_resnet.evaluation import per_image
from keras_resnet.evaluation.per_image import ImageScore
from keras_resnet.run import kind_of, open_run
from keras_resnet.studies import folds, trainings
from keras_resnet.training import gallery

FAST = {"model": "resnet8", "image_size": 24, "epochs": 6, "batch_size": 8, "zero_gamma": True}


def examples(labels):
    pixels = np.arange(len(labels), dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3))
    return from_pixels(pixels.astype(np.uint8), labels, [f"{i:03d}" for i in range(len(labels))])


def test_weights_that_have_seen_the_images_are_refused(trained, tmp_path):
    with pytest.raises(InputError, match=r"--weights .* was trained on 48 of the 60 images"):
        folds.cross_validate(
            trained.config.data, folds=2, run_folder=tmp_path / "cv", weights=str(trained.path)
        )
    assert not (tmp_path / "cv").exists()


@pytest.mark.parametrize("count", [2, 3, 5])
def test_folds_are_even_in_each_class_and_keep_groups(count):
    labels = np.repeat([0, 1, 2], [50, 23, 11])
    alone = splitting.folds(examples(labels), np.arange(84), "abc", count, 0)
    for k, total in enumerate((50, 23, 11)):
        sizes = np.bincount(alone[labels == k], minlength=count)
        assert sizes.sum() == total and np.ptp(sizes) <= 1
    assert np.ptp(np.bincount(alone)) <= 1
    groups = np.random.default_rng(0).integers(0, 20, 84)
    fold = splitting.folds(examples(labels), groups, "abc", count, 0)
    assert all(len(set(fold[groups == g])) == 1 for g in set(groups))
    assert np.bincount(fold).min() > 84 / count / 2
    other = splitting.folds(examples(labels), np.arange(84), "abc", count, 1)
    assert (alone != other).any()


def test_a_large_group_is_made_up_for_by_small_ones():
    groups = np.array([*range(12), *[12] * 12])
    fold = splitting.folds(examples(np.arange(24) % 2), groups, "ab", 2, 0)
    assert np.bincount(fold).tolist() == [12, 12]


def test_folds_that_cannot_be_made_are_one_line():
    labels = np.repeat([0, 1], 4)
    with pytest.raises(InputError, match="--folds 5 is more than the 4 groups"):
        splitting.folds(examples(labels), np.arange(8) // 2, "ab", 5, 0)
    with pytest.raises(InputError, match="class a has 4 images in 1 group"):
        splitting.folds(examples(labels), np.array([0, 0, 0, 0, 1, 2, 3, 4]), "ab", 2, 0)
    with pytest.raises(InputError, match="--folds is 1; expected a whole number of at least 2"):
        folds.cross_validate("digits", 1)
    with pytest.raises(InputError, match="leave out --test-split"):
        folds.cross_validate("digits", test_split=0.1)
    with pytest.raises(InputError, match="leave out --split-file"):
        folds.cross_validate("digits", split_file="split.json")
    with pytest.raises(InputError, match="--folds creates the splits; leave out --val-split"):
        folds.cross_validate("digits", val_split=0.3)


def test_answers_have_the_names_of_files_and_classes_that_look_like_formulas(tmp_path):
    scores = [
        ImageScore(f"{label}/1.png", label, "b", score=0.9, label_score=0.1, suspect=False)
        for label in ("=a", "b")
    ]
    path = tmp_path / "predictions.csv"
    path.write_text(
        per_image.to_csv(scores, "val") + per_image.to_csv(scores[:1], "test", header=False)
    )
    saved = [sources.SavedImage(row.file, row.label) for row in scores]
    split = {"train": saved, "val": saved, "test": saved[:1]}
    run = SimpleNamespace(
        path=tmp_path, file=tmp_path.joinpath, intact=lambda *_: path, classes=["=a", "b"],
        splits=split,
    )  # fmt: skip
    assert per_image.answers_of(run) == {"val": scores, "test": scores[:1]}
    split["test"] = saved
    with pytest.raises(InputError, match=r"has 3 rows, split.json 4 such images"):
        per_image.answers_of(run)


@pytest.fixture(scope="module")
def mislabelled(tmp_path_factory, photos):
    """The photos, of which 00.jpg, a bright one, is among the dark ones."""
    folder = tmp_path_factory.mktemp("folds") / "photos"
    shutil.copytree(photos, folder)
    shutil.move(folder / "bright" / "00.jpg", folder / "dark" / "00.jpg")
    return folder


@pytest.fixture(scope="module")
def shown():
    """(file, caption) of each image on the contact sheet."""
    return []


@pytest.fixture(scope="module")
def done(mislabelled, undrawn, shown, tmp_path_factory):
    """A cross-validation that was interrupted after its first fold: (result, folder)."""
    folder = tmp_path_factory.mktemp("runs") / "folds"
    draw = gallery.contact_sheet

    def noted(pool, numbers, captions, *others):
        shown.extend(zip([pool.names[i] for i in numbers], captions, strict=True))
        draw(pool, numbers, captions, *others)

    with pytest.MonkeyPatch.context() as patch, undrawn():
        patch.setattr(gallery, "contact_sheet", noted)
        from keras_resnet.training import train as training

        real = training.train

        def interrupted(*arguments, run_folder, **options):
            if run_folder.name == "fold-2":
                raise Interrupted("interrupted; `keras-resnet train --resume …`", 130)
            return real(*arguments, run_folder=run_folder, **options)

        patch.setattr(training, "train", interrupted)
        # The command gives all settings, those that nobody chose as None.
        with pytest.raises(Interrupted, match="the same command resumes it"):
            folds.cross_validate(mislabelled, 2, run_folder=folder, split_file=None, **FAST)
        patch.setattr(training, "train", real)
        first = (folder / "fold-1" / "manifest.json").stat().st_mtime_ns
        result = folds.cross_validate(mislabelled, 2, run_folder=folder, **FAST)
        assert (folder / "fold-1" / "manifest.json").stat().st_mtime_ns == first
        return result, folder


def test_each_image_is_held_out_once_and_the_summary_is_that_of_the_rows(done):
    result, folder = done
    for fold in result.folds:  # the epoch was not chosen on the images that it is scored on
        run = open_run(fold.run)
        assert run.config.best_by == "last" and run.metrics["best_epoch_chosen_on"] is None
        assert run.metrics["best_epoch"] == run.config.epochs
    rows = list(csv.DictReader((folder / "predictions.csv").read_text().splitlines()))
    assert Counter(row["file"] for row in rows) == Counter(
        name for e in sources.load(result_data(folder)).splits.values() for name in e.names
    )
    assert Counter(row["split"] for row in rows) == {f"fold-{k}": 30 for k in (1, 2)}
    assert [row["file"] for row in rows if row["suspect"]] != []
    assert {row["file"] for row in rows if row["suspect"]} == {s.file for s in result.suspects}
    right = [row["label"] == row["prediction"] for row in rows]
    assert result.top1 == np.mean(right) and result.images == 60
    assert result.low < result.top1 < result.high
    top1 = [fold.top1 for fold in result.folds]
    assert (result.mean, result.spread) == pytest.approx((np.mean(top1), np.std(top1, ddof=1)))
    assert json.loads((folder / "metrics.json").read_text())["top1"] == result.top1
    for k in (1, 2):
        split = sources.read_split(folder / f"fold-{k}" / "split.json")
        names = [{image.name for image in images} for images in split.values()]
        assert len(names[0] | names[1]) == 60 and not names[0] & names[1]


def result_data(folder):
    return json.loads((folder / "fold-1" / "config.json").read_text())["data"]


def test_a_wrong_label_is_the_first_suspect(done, shown):
    result, folder = done
    assert result.suspects[0].file == "dark/00.jpg"
    assert (result.suspects[0].label, result.suspects[0].prediction) == ("dark", "bright")
    assert len(result.suspects) < 6
    assert (folder / "suspects.png").stat().st_size > 5000
    assert [file for file, _ in shown] == [row.file for row in result.suspects]
    assert all(lines[0].name == file and lines[1].before == "label" for file, lines in shown)


def test_the_seed_divides_the_images(mislabelled, tmp_path, monkeypatch):
    divided = []

    def stop(folder, source, parts, config_file):
        divided.append([part.splits["val"].names for part in parts])
        raise Interrupted("before the first training", 130)

    monkeypatch.setattr(trainings, "train_parts", stop)
    for number, seed in enumerate((0, 0, 1)):
        with pytest.raises(Interrupted):
            folds.cross_validate(mislabelled, 2, run_folder=tmp_path / str(number), seed=seed)
    assert divided[0] == divided[1] != divided[2]


def test_other_options_or_images_in_the_same_folder_are_one_line(done, mislabelled, tmp_path):
    _, folder = done
    with pytest.raises(InputError, match="was started with folds 2, not 4"):
        folds.cross_validate(mislabelled, 4, run_folder=folder, **FAST)
    other = shutil.copytree(mislabelled, tmp_path / "photos")
    (other / "dark" / "00.jpg").unlink()
    with pytest.raises(InputError, match="was started with other images"):
        folds.cross_validate(other, 2, run_folder=folder, **FAST)
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({**FAST, "weight_decay": 0.1}))
    with pytest.raises(InputError, match=r"was started with weight-decay 0\.\d+, not 0\.1;"):
        folds.cross_validate(mislabelled, 2, config_file=settings, run_folder=folder)
    settings.write_text(json.dumps(FAST))
    again = folds.cross_validate(mislabelled, 2, config_file=settings, run_folder=folder)
    assert again == done[0]
    (tmp_path / "photos" / "x").touch()
    with pytest.raises(InputError, match="already holds other files"):
        trainings.begin(tmp_path / "photos", "x", {}, sources.load("digits"))


def test_the_last_epoch_is_taken_unless_the_user_chose_otherwise(trained, tmp_path):
    """The settings of a run name all values, of which defaults are no choice."""
    last = {"epochs": 3, "best_by": "last"}
    of_run = trained.file("config.json")
    assert '"best_by": "top1"' in of_run.read_text()
    assert trainings.by_last_epoch({"epochs": 3}) == last
    assert trainings.by_last_epoch({"epochs": 3}, of_run) == last
    for chosen in ({"best_by": "top1"}, {"best_by": "macro_top1"}, {"patience": 2}):
        assert trainings.by_last_epoch(chosen) == trainings.by_last_epoch(chosen, of_run) == chosen
    settings = tmp_path / "settings.json"
    for chosen in ({"best_by": "macro_top1"}, {"patience": 2}):
        settings.write_text(json.dumps(chosen))
        assert trainings.by_last_epoch({"epochs": 3}, settings) == {"epochs": 3}


def test_the_folder_is_no_run_and_says_which_are(done, monkeypatch, tmp_path):
    _, folder = done
    of_depth = tmp_path / "fold-1"
    of_depth.mkdir()
    (of_depth / "config.json").write_text("{}")
    for refuse in (open_run, kind_of):
        with pytest.raises(InputError, match=r"contains several runs; .* such as .*/fold-1$"):
            refuse(tmp_path)
        with pytest.raises(InputError, match=r"contains several runs; .* such as .*/fold-1$"):
            refuse(folder)
    assert kind_of(folder / "fold-2") == "run"
    monkeypatch.setattr("keras_resnet.run.RUNS", folder.parent)
    with pytest.raises(InputError, match="no finished run under"):
        open_run()


def test_the_command_prints_what_is_done(command, done, mislabelled):
    _, folder = done
    options = [f"--{name.replace('_', '-')}={value}" for name, value in FAST.items()
               if name != "zero_gamma"]  # fmt: skip
    line = ("train", mislabelled, "--folds", 2, "--run", folder, *options, "--zero-gamma")
    printed = command(*line)
    assert printed.returncode == 0, printed.stderr
    assert "2 of 2 trainings" in printed.stderr
    assert "dark/00.jpg: dark" in printed.stdout and "standard deviation" in printed.stdout
    assert json.loads(command(*line, "--json").stdout)["images"] == 60
    assert command(*line, "--resume", folder).returncode == 2
