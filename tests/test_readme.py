"""The README's commands work as shown, in the order shown, and print what it says they print."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from keras_resnet import specs
from keras_resnet.explain.describe import describe
from keras_resnet.models import build
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
def home(tmp_path_factory, photos, trained):
    """What the README's reader has: photos/ to train on, new/ to predict on, and theirs.*, weights
    in PyTorch's layout."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "photos").symlink_to(photos)
    (folder / "new").mkdir()
    for i in range(5):
        pixels = np.full((50, 70, 3), 50 * i, np.uint8)
        Image.fromarray(pixels).save(folder / "new" / f"{i}.jpg")
    (folder / "theirs.txt").write_text("".join(f"{name}\n" for name in trained.classes))
    save_file(state_dict(trained.model()), folder / "theirs.safetensors")
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


@pytest.fixture
def fork():
    """Runs a command as `command` does, seconds sooner; see forks.py."""
    process = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("forks.py")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip

    def run(*arguments, cwd):
        process.stdin.write(json.dumps({"arguments": arguments, "cwd": str(cwd)}) + "\n")
        process.stdin.flush()
        return SimpleNamespace(**json.loads(process.stdout.readline()))

    yield run
    process.communicate()


def test_every_command_of_the_readme_works(fork, home):
    # What takes a minute whatever the data, and is run by test_cli.py.
    ran = [line for line, _ in shown() if line != "keras-resnet doctor"]
    assert len(ran) >= 10
    for line in ran:
        done = fork(*shlex.split(line)[1:], cwd=home)
        assert done.status == 0, f"{line}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize(
    "name", ["models", "recipes", "inspect resnet50", "inspect resnet50 --drawing"]
)
def test_what_does_not_depend_on_data_is_shown_word_for_word(command, name):
    (output,) = [output for line, output in shown() if line == f"keras-resnet {name}"]
    printed = command(*name.split()).stdout.splitlines()
    parts = [part.strip("\n").splitlines() for part in output.split("…\n")]
    assert printed[: len(parts[0])] == parts[0]
    assert printed[-len(parts[-1]) :] == parts[-1]


def family():
    """The README's table: a row for the networks of one source and one kind of shortcut."""
    rows = {}
    for spec in specs.SPECS.values():
        with keras.StatelessScope(initialize_variables=False):
            found = describe(build(spec.name, 10 if spec.stem == "cifar" else 1000))
        rows.setdefault((spec.source, spec.shortcut), []).append(
            (spec.name, found["trainable_parameters"] / 1e6, found["multiply_adds"] / 1e9)
        )
    for (source, shortcut), networks in rows.items():
        names, parameters, multiply_adds = zip(*networks, strict=True)
        yield (
            f"| {', '.join(f'`{name}`' for name in names)} | {shortcut} | "
            f"{', '.join(f'{n:.2f}' for n in parameters)} | "
            f"{', '.join(f'{n:.3f}' for n in multiply_adds)} | {source} |"
        )


def test_the_table_of_the_family_is_generated_from_it():
    head = "| networks | shortcut | parameters, M | multiply-adds, G | source |"
    assert "\n".join([head, "|---|---|---|---|---|", *family()]) in README


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
