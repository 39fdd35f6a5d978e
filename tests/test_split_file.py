"""`--split-file`: a training on given splits."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from keras_resnet.data import sources
from keras_resnet.errors import InputError


def test_a_split_file_is_taken_instead_of_a_split_that_is_made(photos, tmp_path):
    """Of a run with other seeds, in part, and across the folders of stored splits."""
    first = sources.load(str(photos), seed=1, test_split=0.2)
    part = {s: e.take(np.arange(0, len(e), 2)) for s, e in first.splits.items()}
    sources.save_split(replace(first, splits=part), tmp_path / "split.json")
    again = sources.load(str(photos), seed=2, split_file=tmp_path / "split.json")
    assert {s: e.names for s, e in again.splits.items()} == {s: e.names for s, e in part.items()}
    pool, unseen = sources.pool(first), first.splits["test"]  # which no training may see
    assert len(pool) + len(unseen) == 60 and not {*pool.names} & {*unseen.names}
    for split, examples in again.splits.items():
        assert [again.classes[k] for k in examples.labels] == [
            name.split("/")[0] for name in part[split].names
        ]

    for split, parity in (("train", 0), ("val", 1)):
        for path in photos.glob("*/*.jpg"):
            if int(path.stem) % 2 == parity:
                (tmp_path / "s" / split / path.parent.name).mkdir(parents=True, exist_ok=True)
                shutil.copy(path, tmp_path / "s" / split / path.parent.name)
    stored = sources.load(str(tmp_path / "s"))
    whole = sources.pool(stored)
    assert len(whole) == 60 and len(set(whole.names)) == 60
    mixed = {"train": whole.take(np.arange(0, 60, 3)), "val": whole.take(np.arange(1, 60, 3))}
    mixed["train"] = whole.take(np.flatnonzero(np.arange(60) % 3))
    sources.save_split(replace(stored, splits=mixed), tmp_path / "mixed.json")
    loaded = sources.load(str(tmp_path / "s"), split_file=tmp_path / "mixed.json").splits
    assert loaded["train"].names == mixed["train"].names
    assert loaded["train"].digests.tolist() == mixed["train"].digests.tolist()


def test_a_split_file_of_other_data_is_one_line(photos, tmp_path):
    path = tmp_path / "split.json"
    with pytest.raises(InputError, match="no such file"):
        sources.load(str(photos), split_file=path)
    sources.save_split(sources.load("digits"), path)
    with pytest.raises(InputError, match="do not have the same classes: 0 is only in one"):
        sources.load(str(photos), split_file=path)
    shutil.copytree(photos, tmp_path / "photos")
    sources.save_split(sources.load(str(tmp_path / "photos")), path)
    (tmp_path / "photos" / "dark" / "01.jpg").unlink()
    with pytest.raises(InputError, match=r"no longer has dark/01\.jpg"):
        sources.load(str(tmp_path / "photos"), split_file=path)
    shutil.copy(photos / "dark" / "04.jpg", tmp_path / "photos" / "dark" / "01.jpg")
    with pytest.raises(InputError, match=r"dark/01\.jpg is not the image in --split-file"):
        sources.load(str(tmp_path / "photos"), split_file=path)


def test_an_empty_split_in_a_file_is_none(photos, tmp_path):
    source = sources.load(str(photos))
    sources.save_split(source, tmp_path / "split.json")
    content = json.loads((tmp_path / "split.json").read_text())
    (tmp_path / "split.json").write_text(json.dumps(content | {"test": []}))
    again = sources.load(str(photos), split_file=tmp_path / "split.json")
    assert {s: e.names for s, e in again.splits.items()} == {
        s: e.names for s, e in source.splits.items()
    }
