"""Defaults from the data: what nobody chose fits the number and the size of the images."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnet import cli
from keras_resnet.checkpoint_notes import files_of
from keras_resnet.config import Config
from keras_resnet.data.examples import from_pixels
from keras_resnet.data.sources import Source
from keras_resnet.errors import Interrupted
from keras_resnet.recipes import resolve, unset
from keras_resnet.training import defaults
from keras_resnet.training.checkpoint import Checkpoint
from keras_resnet.training.train import train
from keras_resnet.weights import published


def source_of(images, side, classes=2):
    labels = np.arange(images) % classes
    names = [f"{i}.jpg" for i in range(images)]
    examples = from_pixels(np.zeros((images, 1, 1, 3), np.uint8), labels, names)
    return Source("photos", [*"abcdefghij"[:classes]], {"train": examples}, side=side)


def fitted(images, side, classes=2, **options):
    return defaults.fit(resolve(options), source_of(images, side, classes), unset(options))


@pytest.mark.parametrize(
    ("images", "side", "classes", "expected"),  # network, pixels, batch size, epochs
    [
        (12, 480, 2, ("resnet20", 64, 4, 60)),  # 16 photos
        (160, 3000, 5, ("resnet20", 64, 16, 60)),
        (1651, 100, 10, ("resnet20", 64, 32, 20)),  # 2,062 photos of hands
        (4000, 480, 10, ("resnet18", 128, 32, 20)),
        (45_000, 32, 10, ("resnet20", 32, 32, 20)),  # CIFAR-10
        (5000, 28, 10, ("resnet20", 32, 32, 20)),
        (1437, None, 10, ("resnet20", 32, 32, 20)),  # the digits, which have no size to go by
        (2, 640, 2, ("resnet20", 64, 2, 60)),
    ],
)
def test_network_size_batch_and_length_fit_the_images(images, side, classes, expected):
    config = fitted(images, side, classes)
    assert (config.model, config.side, config.batch_size, config.epochs) == expected
    assert config.peak_rate == pytest.approx(0.1 * config.batch_size / 32)


def test_what_was_chosen_stays():
    chosen = {"model": "resnet34", "image_size": 96, "batch_size": 8, "epochs": 3}
    config = fitted(40, 480, **chosen)
    assert chosen.items() <= vars(config).items()
    assert fitted(40, 480, batch_size=8).peak_rate == 0.1
    assert fitted(12, 480, learning_rate=0.05).peak_rate == 0.05
    assert fitted(12, 480, recipe="paper-cifar") == resolve({"recipe": "paper-cifar"})


def test_weights_bring_the_recipe_for_finetuning_and_their_own_network():
    config = fitted(160, 480, 5, weights="imagenet")
    assert (config.model, config.side, config.recipe) == ("resnet18", 224, "finetune")
    assert (config.learning_rate, config.epochs, config.crop_area) == (0.01, 30, (0.5, 1.0))
    assert fitted(160, 480, 5, weights="imagenet", recipe="quick").recipe == "quick"
    assert fitted(160, 480, 5, weights="imagenet", crop_area=(0.9, 1.0)).crop_area == (0.9, 1.0)


def test_the_weights_of_a_run_bring_its_network_and_the_size_of_its_images(
    untouched, tmp_path, capsys
):
    for weights in (untouched, untouched / "model.keras"):
        config = fitted(160, 480, 3, weights=str(weights))
        assert (config.model, config.side, config.fit) == ("resnet8", 24, "crop")
        assert f"from the weights {weights}: --image-size 24" in capsys.readouterr().err
    assert fitted(160, 480, 3, weights=str(untouched), image_size=48).side == 48
    # Copied from its run, a file does not say it.
    shutil.copy(untouched / "model.keras", tmp_path)
    assert fitted(160, 480, 3, weights=str(tmp_path / "model.keras")).side == 64


def test_the_weights_of_a_run_bring_the_shape_and_the_colours_of_its_images(monkeypatch):
    theirs = Config(model="resnet20", image_size="48x64", fit="pad", channels=1)
    run = SimpleNamespace(config=theirs)
    monkeypatch.setattr(defaults.weights_settings, "run_of", lambda weights: run)
    monkeypatch.setattr(defaults, "network_of", lambda weights: "resnet20")
    monkeypatch.setattr(defaults.weights_settings, "require", lambda config: None)
    assert fitted(160, 480, weights="runs/a").geometry == theirs.geometry
    assert fitted(160, 480, weights="runs/a", fit="stretch").fit == "stretch"


def test_published_weights_on_the_disk_are_used_for_few_photos(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    hint = "--weights imagenet downloads some and starts from them"
    assert fitted(160, 480, 5).weights is None and hint in capsys.readouterr().err
    path = published.cached_path("resnet18")
    path.parent.mkdir()
    path.touch()
    config = fitted(160, 480, 5)
    assert (config.weights, config.model, config.recipe) == ("imagenet", "resnet18", "finetune")
    said = "they are on this disk and there are only 160 images (at most 200 per class)"
    assert said in capsys.readouterr().err
    assert fitted(1000, 480, 5).weights == "imagenet"
    capsys.readouterr()
    assert fitted(160, 32, 5).weights is None
    assert fitted(1001, 480, 5).weights is None
    assert fitted(160, 480, 5, width=0.5).weights is None
    assert fitted(160, 480, 5, recipe="quick").weights is None
    assert fitted(160, 480, 5, model="resnet20").weights is None
    assert hint not in capsys.readouterr().err


def test_devices_share_each_batch_and_take_no_weights_that_others_may_lack(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    path = published.cached_path("resnet18")
    path.parent.mkdir()
    path.touch()
    for images, devices, batch in ((12, 8, 8), (160, 3, 15), (160, 2, 16)):
        config = defaults.fit(resolve(), source_of(images, 480), unset(), devices)
        assert (config.batch_size, config.weights) == (batch, None)


@pytest.fixture(scope="module")
def sixteen(tmp_path_factory):
    """A folder with 16 photos in two classes."""
    folder = tmp_path_factory.mktemp("sixteen")
    rng = np.random.default_rng(0)
    for i in range(16):
        path = folder / "photos" / ("bright", "dark")[i % 2] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 60, (36, 40, 3)) + 190 * (i % 2 == 0)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    return folder


def test_sixteen_photos_train_without_an_option_and_the_same_call_resumes(
    sixteen, monkeypatch, capsys
):
    """`config.json` holds what was chosen: the same command resumes, and --config repeats it.

    The training itself is replaced by an interruption after its first step.
    """
    trainings = []

    def fit(prepared, folder, *_):
        trainings.append(prepared)
        notes = {"precision": prepared.precision, "files": files_of(folder, None)}
        Checkpoint(folder, {"model": [tf.Variable(0.0)]}).save(1, notes)
        raise Interrupted("interrupted", 143)

    monkeypatch.setattr("keras_resnet.training.train._fit", fit)
    monkeypatch.setattr("keras_resnet.cli.train.start", lambda quiet: None)
    monkeypatch.chdir(sixteen)
    assert cli.run(["train", "photos", "--run", "run"]) == 143
    said = capsys.readouterr().err
    assert "from the data: --batch-size 4, because there are 12 training images" in said
    run = sixteen / "run"
    config = Config(**json.loads((run / "config.json").read_text()))
    assert (config.batch_size, config.epochs, config.base_batch) == (4, 60, 32)
    assert resolve(config_file=run / "config.json").epochs == 60
    assert unset({}, run / "config.json") == frozenset()
    with pytest.raises(Interrupted):
        train("photos", run_folder="run")
    first, resumed = trainings
    assert first.notes is None and resumed.notes["precision"] == [*first.precision]
    assert resumed.config == first.config
    for split, examples in first.source.splits.items():
        assert resumed.source.splits[split].names == examples.names
