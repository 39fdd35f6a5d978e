"""The commands of the README work in the order shown, with the output shown."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from keras_resnet.training.train import train
from keras_resnet.weights import layouts
from keras_resnet.weights.readers import TORCH, Weights

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```console\n(.*?)```", README, flags=re.DOTALL)


def shown():
    """(command, output) of every `$ keras-resnet …` in the README's console blocks."""
    for block in BLOCKS:
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, output = part.partition("\n")
            if line.startswith("keras-resnet "):
                yield line, output


@pytest.fixture(scope="module")
def home(tmp_path_factory, photos):
    """What the README's reader has: photos/ to train on, new/ to predict on, and theirs.*, weights
    in PyTorch's layout."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "photos").symlink_to(photos)
    (folder / "new").mkdir()
    for i in range(5):
        pixels = np.full((50, 70, 3), 50 * i, np.uint8)
        Image.fromarray(pixels).save(folder / "new" / f"{i}.jpg")
    theirs = train(
        str(photos), run_folder=folder / "theirs", epochs=3, image_size=24, batch_size=8, seed=3,
        zero_gamma=True,
    )  # fmt: skip
    (folder / "theirs.txt").write_text("".join(f"{name}\n" for name in theirs.classes))
    save_file(state_dict(theirs.model()), folder / "theirs.safetensors")
    return folder


def state_dict(model):
    """The weights of a network for CIFAR as PyTorch names and lays them out."""
    axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
    return {
        layouts.in_file(f"{layer.name}/{v.name}", Weights("", TORCH, {})): np.ascontiguousarray(
            np.asarray(v).transpose(axes[len(v.shape)])
        )
        for layer in model.layers
        for v in layer.weights
    }


def test_every_command_of_the_readme_works(command, home):
    # What takes ten seconds whatever the data, and is run by test_cli.py.
    ran = [line for line, _ in shown() if line != "keras-resnet doctor"]
    assert len(ran) >= 10
    for line in ran:
        # Half a minute as it stands, too: 400 steps.
        fewer = ["--steps", 60] if line.startswith("keras-resnet find-lr") else []
        done = command(*shlex.split(line)[1:], *fewer, cwd=home)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize(
    "name", ["models", "recipes", "inspect resnet50", "inspect resnet50 --drawing"]
)
def test_what_does_not_depend_on_data_is_shown_word_for_word(script, name):
    (output,) = [output for line, output in shown() if line == f"keras-resnet {name}"]
    printed = script(*name.split()).stdout.splitlines()
    parts = [part.strip("\n").splitlines() for part in output.split("…\n")]
    assert printed[: len(parts[0])] == parts[0]
    assert printed[-len(parts[-1]) :] == parts[-1]


def test_no_command_of_the_table_is_left_out():
    from keras_resnet.cli import COMMANDS

    lines = " ".join(line for line, _ in shown())
    assert [name for name in COMMANDS if f"keras-resnet {name}" not in lines] == []


def test_the_files_it_promises_are_the_files_a_run_has(exported):
    run, _ = exported
    section = README.split("## A run folder")[1].split("\n## ")[0]
    promised = set(re.findall(r"^\| `([^`]+)` \|", section, flags=re.MULTILINE))
    # written by the command, not by the library; on request
    optional = {"log.txt", "export/model.onnx", "export/model_features.tflite"}
    there = {
        *(path.name + "/" * path.is_dir() for path in run.path.iterdir()),
        *(f"export/{path.name}" + "/" * path.is_dir() for path in run.export_folder.iterdir()),
    }
    assert promised - optional == there - optional
