"""The README's commands work as shown, in the order shown, and print what it says they print."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
    """A folder with photos/ to train on and new/ to predict on, as the README's reader has."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "photos").symlink_to(photos)
    (folder / "new").mkdir()
    for i in range(5):
        pixels = np.full((50, 70, 3), 50 * i, np.uint8)
        Image.fromarray(pixels).save(folder / "new" / f"{i}.jpg")
    return folder


def test_every_command_of_the_readme_works(command, home):
    ran = [line for line, _ in shown()]
    assert len(ran) >= 10
    for line in ran:
        done = command(*shlex.split(line)[1:], cwd=home)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize(
    "name", ["models", "recipes", "inspect resnet50", "inspect resnet50 --drawing"]
)
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
    section = README.split("## A run folder")[1].split("\n## ")[0]
    promised = set(re.findall(r"^\| `([^`]+)` \|", section, flags=re.MULTILINE))
    optional = {"log.txt"}  # written by the command, not by the library
    assert promised - optional == {
        path.name + "/" * path.is_dir() for path in run.path.iterdir()
    } | {f"export/{path.name}" + "/" * path.is_dir() for path in run.export_folder.iterdir()}
