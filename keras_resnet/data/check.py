"""Implementation of `data check` and `data show`."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from keras_resnet.data import folder, sources
from keras_resnet.data.names import is_folder
from keras_resnet.data.photo import Photo
from keras_resnet.data.stream import evaluation_stream
from keras_resnet.files import StrPath
from keras_resnet.progress import track
from keras_resnet.results import Result


@dataclass(frozen=True)
class BadFile:
    """A file that was meant as an image."""

    file: str
    reason: str


@dataclass(frozen=True)
class DataCheck(Result):
    """Result of the check of a data set. For a folder, used + skipped = files."""

    data: str
    files: int
    used: int
    skipped: dict[str, int]  # files by reason
    classes: dict[str, int]  # images by class
    splits: dict[str, int]  # images by split
    bad: list[BadFile]
    duplicates: list[list[str]]  # groups of files of equal content
    leaks: int  # groups in more than one split: training images would be used for evaluation


def check(data: StrPath, data_dir: StrPath | None = None) -> DataCheck:
    """Counts the images of a data set and lists its problems; broken files raise no error here.

    Every file is checked, also if an earlier check found it good.

    Args:
        data: `"digits"`, a folder of images, or `"tfds:NAME[/CONFIG]"`.
        data_dir: where tensorflow-datasets keeps its files.

    Returns:
        `DataCheck`.

    Raises:
        InputError: as `keras_resnet.data.folder.scan`.
    """
    data = os.fspath(data)
    if is_folder(data):
        found = folder.scan(data, fresh=True)
        groups, report = _duplicates(found.photos), found.report()
        return DataCheck(
            data=data,
            **{**report, "bad": [BadFile(**row) for row in report["bad"]]},
            duplicates=[[folder.show(p.name) for _, p in group] for group in groups],
            leaks=sum(len({split for split, _ in group}) > 1 for group in groups),
        )
    source = sources.load_all(data, data_dir=data_dir)
    labels = np.concatenate([examples.labels for examples in source.splits.values()])
    counts = np.bincount(labels, minlength=len(source.classes))
    return DataCheck(
        data=data,
        files=len(labels),
        used=len(labels),
        skipped={},
        classes=dict(zip(source.classes, counts.tolist(), strict=True)),
        splits={split: len(examples) for split, examples in source.splits.items()},
        bad=[],
        duplicates=[],
        leaks=0,
    )


def sample(
    data: StrPath, count: int, *, size: int, seed: int = 0, data_dir: StrPath | None = None
) -> tuple[npt.NDArray[np.uint8], list[str]]:
    """`count` images of a data set, classes in turn, preprocessed as in evaluation.

    Args:
        data, data_dir: as in `check`.
        count: how many.
        size: side in pixels.
        seed: of the random choice.

    Returns:
        uint8 `(n, size, size, 3)` and n class names.
    """
    source = sources.load_all(data, on_bad_image="skip", data_dir=data_dir)
    examples = next(iter(source.splits.values()))
    chosen = examples.take(classes_in_turn(examples.labels, count, seed))
    stream = evaluation_stream(chosen, size=size, crop=1.0, batch_size=64)
    images = np.concatenate([batch for batch, _ in stream.as_numpy_iterator()])
    return images, [source.classes[k] for k in chosen.labels]


def classes_in_turn(labels: npt.NDArray[np.int32], count: int, seed: int) -> npt.NDArray[np.int64]:
    """Numbers of `count` examples in a seeded order, one of each class after the other."""
    order = np.random.default_rng(seed).permutation(len(labels))
    rank = np.empty(len(labels), int)  # how many of its class come before it
    for k in np.unique(labels):
        members = order[labels[order] == k]
        rank[members] = np.arange(len(members))
    return np.lexsort((labels, rank))[:count]


def _duplicates(photos: Mapping[str, Sequence[Photo]]) -> list[list[tuple[str, Photo]]]:
    """Groups of (split, photo) whose files are equal, byte for byte."""
    everything = [(split, photo) for split, group in photos.items() for photo in group]
    same = defaultdict(list)
    for split, photo in track(everything, len(everything), "comparing images", "images"):
        with open(photo.path, "rb") as file:
            same[hashlib.file_digest(file, "sha256").digest()].append((split, photo))
    return [group for group in same.values() if len(group) > 1]
