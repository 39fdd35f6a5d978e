"""The commands of the README work in the order shown, with the output shown."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from keras_resnet.run import open_run
from keras_resnet.weights import layouts
from keras_resnet.weights.readers import TORCH, Weights

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
# The commands are run on smaller networks and images, for fewer epochs and steps.
SMALLER = {"resnet20": "resnet8", "--image-size 64": "--image-size 24", "--epochs 20": "--epochs 3",
           "--reject 0.05": "--reject 0.5"}  # of 12 images  # fmt: skip
MORE = {  # 18 steps of a net whose branches start at 0 tell the photos apart
    "train photos --model": "--batch-size 8 --zero-gamma",
    "--recipe finetune": "--model resnet8",
    "train few": "--model resnet8 --epochs 1",
    "find-lr": "--steps 60",
    "ship photos": "--model resnet8 --epochs 2 --batch-size 8",
    "benchmark": "--runs 10",
}
BLOCKS = re.findall(r"```console\n(.*?)```", README, flags=re.DOTALL)


def shown():
    """(command, output) of every `$ keras-resnet …` in the README's console blocks."""
    for block in BLOCKS:
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, output = part.partition("\n")
            if line.startswith("keras-resnet "):
                yield line, output


@pytest.fixture(scope="module")
def home(tmp_path_factory, photos, untouched):
    """What the README's reader has: photos/ to train on, new/ to predict on, others/ of no class,
    runs/signs, and theirs.*, weights in PyTorch's layout."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "photos").symlink_to(photos)
    for name in ("bright", "dark"):
        shutil.copytree(photos / name, folder / "few" / name)
    (folder / "new").mkdir()
    for i in range(5):
        pixels = np.full((50, 70, 3), 50 * i, np.uint8)
        Image.fromarray(pixels).save(folder / "new" / f"{i}.jpg")
    shutil.copytree(folder / "new", folder / "others")
    shutil.copytree(untouched, folder / "runs" / "signs")
    theirs = open_run(untouched)
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


# Their output is the same on all machines.
WORD_FOR_WORD = ["models", "recipes", "inspect resnet50", "inspect resnet50 --drawing"]


def test_every_command_of_the_readme_works(command, home):
    # `doctor` takes ten seconds whatever the data, and is run by test_cli.py; the others below.
    apart = [f"keras-resnet {name}" for name in ("doctor", *WORD_FOR_WORD)]
    ran = [line for line, _ in shown() if line not in apart]
    assert len(ran) >= 10
    for line in ran:
        for written, smaller in SMALLER.items():
            line = line.replace(written, smaller)
        line += "".join(f" {more}" for part, more in MORE.items() if part in line)
        done = command(*shlex.split(line)[1:], cwd=home)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("name", WORD_FOR_WORD)
def test_what_does_not_depend_on_data_is_shown_word_for_word(command, name):
    (output,) = [output for line, output in shown() if line == f"keras-resnet {name}"]
    printed = command(*name.split()).stdout.splitlines()
    parts = [part.strip("\n").splitlines() for part in output.split("…\n")]
    assert printed[: len(parts[0])] == parts[0]
    assert printed[-len(parts[-1]) :] == parts[-1]


def test_no_command_of_the_table_is_left_out():
    from keras_resnet.cli import COMMANDS

    lines = " ".join(line for line, _ in shown())
    assert [name for name in COMMANDS if f"keras-resnet {name}" not in lines] == []


def test_the_files_it_promises_are_the_files_a_run_has(exported):
    run, _ = exported
    section = README.split("## A run folder")[1].split("\n##")[0]
    promised = set(re.findall(r"^\| `([^`]+)` \|", section, flags=re.MULTILINE))
    # written by the command, not by the library; on request
    optional = {"log.txt", "network.keras", "export/model.onnx", "export/model_features.tflite"}
    there = {
        *(path.name + "/" * path.is_dir() for path in run.path.iterdir()),
        *(f"export/{path.name}" + "/" * path.is_dir() for path in run.export_folder.iterdir()),
    }
    assert promised - optional == there - optional
