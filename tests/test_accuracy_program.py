"""benchmarks/accuracy.py: its splits and what it writes; nothing is trained."""

import importlib
import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def program(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("accuracy")


def photos_of(people, folder):
    """Each showed the digits in turn; the third left one out."""
    number = 100
    for person in range(people):
        for digit in range(10):
            if (person, digit) != (2, 4):
                (folder / str(digit)).mkdir(exist_ok=True)
                (folder / str(digit) / f"IMG_{number}.JPG").touch()
                number += 1


def test_no_person_is_in_two_splits_and_no_photo_is_lost(program, tmp_path):
    photos_of(10, tmp_path)
    found = json.loads(program.split_by_person(tmp_path, tmp_path, seed=1).read_text())
    assert {split: len(rows) // 9 for split, rows in found.items()} == {
        "train": 6,
        "val": 2,
        "test": 2,
    }
    person_of = {}
    for split, rows in found.items():
        for name, digit in rows:
            assert name.startswith(f"{digit}/")
            number = int(name[-7:-4])
            person = (number - 100 + (number >= 124)) // 10
            assert person_of.setdefault(person, split) == split
    assert len(person_of) == 10 and sum(map(len, found.values())) == 99
    other = json.loads(program.split_by_person(tmp_path, tmp_path, seed=2).read_text())
    assert other != found


def test_the_tables_have_mean_and_range_of_the_seeds(program, tmp_path):
    from run import about

    files = list(program.FILES)
    sizes = dict.fromkeys(files, 5000)
    seeds = [
        {"test_images": images, "top1": dict.fromkeys(["keras", *files], top1), "bytes": sizes}
        for images, top1 in ((410, 0.5), (400, 0.75), (405, 1.0))
    ]
    result = {"what": "signs", "seeds": seeds, "peers": [{"test_top1": 0.25}],
              "latency_ms": dict.fromkeys(files, 1.5)}  # fmt: skip
    text = program.write(tmp_path, about(), {"signs": result})
    assert "| signs | 400 to 410 | 75.00 (50.00 … 100.00) |" in text
    assert "| 25.00 (25.00 … 25.00) |" in text and "| signs | int8 | 5 | 1.50 |" in text
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".md", ".png"]
