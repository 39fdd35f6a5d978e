"""Implementation of `data check` and `data show`."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_resnet.config import Config
from keras_resnet.data import folder, pixels, sources, splitting
from keras_resnet.data.examples import Examples, classes_in_turn
from keras_resnet.data.names import is_folder, show
from keras_resnet.data.photo import Photo
from keras_resnet.errors import InputError
from keras_resnet.files import StrPath
from keras_resnet.geometry import Geometry
from keras_resnet.progress import track
from keras_resnet.results import Result

_NEAR = 4  # maximum number of different bits of 64
_ALIKE = 0.98  # minimum correlation of thumbnails; different photos of one scene have up to 0.977
_CONTRAST = 6  # minimum number of set, and of unset, bits
_MOST_COMPARED = 20_000  # images that are compared with all others
_MOST_PAIRS = 20


@dataclass(frozen=True)
class BadFile:
    """A file that is probably meant as an image, with its problem."""

    file: str
    reason: str


@dataclass(frozen=True)
class DataCheck(Result):
    """Result of the check of a data set. For a folder, used + skipped = files."""

    data: str
    passed: bool  # whether there are no bad or narrow files, leaks, obstacles or warnings
    files: int
    used: int
    skipped: dict[str, int]  # files by reason
    skipped_examples: dict[str, str]  # one of these files, by reason
    classes: dict[str, int]  # images by class
    splits: dict[str, int]  # images by split
    bad: list[BadFile]
    narrow: list[BadFile]  # almost black images, which are used
    duplicates: list[list[str]]  # groups of files with equal content
    leaks: int  # of these, groups in more than one split
    near_duplicates: int  # images that look like another one, in another split if there are any
    near_pairs: list[list[str]]  # up to 20 of these, with the other image
    obstacles: list[str]  # why `train` rejects the data
    warnings: list[str]  # why scores would be biased


def check(
    data: StrPath, data_dir: StrPath | None = None, *, group_by: str | None = None
) -> DataCheck:
    """Counts the images of a data set and lists its problems; broken files raise no error here.

    Every file is checked, regardless of earlier checks.

    Args:
        data: `"digits"`, a folder of images, or `"tfds:NAME[/CONFIG]"`.
        data_dir: folder of tensorflow-datasets.
        group_by: as in `sources.load`.

    Returns:
        `DataCheck`.

    Raises:
        InputError: as in `keras_resnet.data.folder.scan`.
    """
    data = sources.as_data(data)
    sources.require_groupable(data, group_by)
    if not is_folder(data):
        source = sources.load_all(data, data_dir=data_dir)
        return _result(data, source.splits, source.classes, [], None, _counts(source))
    found = folder.scan(data, look=True, nested=group_by is not None)
    report, near = found.report(), _near(found.photos)
    groups = _duplicates(found.photos)
    findings = {
        **report,
        "bad": [BadFile(**row) for row in report["bad"]],
        "narrow": _narrow(chain.from_iterable(found.photos.values())),
        "duplicates": [[show(p.name) for _, p in group] for group in groups],
        "leaks": sum(len({split for split, _ in group}) > 1 for group in groups),
        "near_duplicates": len(near),
        "near_pairs": [[show(a.name), show(b.name)] for a, b in near[:_MOST_PAIRS]],
    }
    splits = folder.by_split(found)
    return _result(data, splits, found.classes, folder.obstacles(found), group_by, findings)


def _result(
    data: str,
    splits: Mapping[str, Examples],
    classes: Sequence[str],
    obstacles: list[str],
    group_by: str | None,
    findings: dict[str, Any],
) -> DataCheck:
    warnings = splitting.warnings(splits, classes, group_by)
    if not obstacles:
        try:
            if group_by:
                splitting.grouped(splits, group_by)
            splitting.divide(splits, classes, Config.val_split, 0.0, group_by, seed=0)
        except InputError as error:
            obstacles = [str(error)]
    problems = (findings["bad"], findings["narrow"], findings["leaks"], obstacles, warnings)
    return DataCheck(
        data=data, passed=not any(problems), **findings, obstacles=obstacles, warnings=warnings
    )


def _counts(source: sources.Source) -> dict[str, Any]:
    """The counts of a data set that is not a folder, as findings of `DataCheck`."""
    labels = np.concatenate([examples.labels for examples in source.splits.values()])
    counts = np.bincount(labels, minlength=len(source.classes))
    return {
        "files": len(labels),
        "used": len(labels),
        "skipped": {},
        "skipped_examples": {},
        "classes": dict(zip(source.classes, counts.tolist(), strict=True)),
        "splits": {split: len(examples) for split, examples in source.splits.items()},
        "bad": [],
        "narrow": [],
        "duplicates": [],
        "leaks": 0,
        "near_duplicates": 0,
        "near_pairs": [],
    }


def sample(
    data: StrPath,
    count: int,
    *,
    size: int | Geometry,
    seed: int = 0,
    data_dir: StrPath | None = None,
) -> tuple[npt.NDArray[np.uint8], list[str]]:
    """`count` images of a data set, alternating between classes, preprocessed as in evaluation.

    Args:
        data, data_dir: as in `check`.
        count: number of images.
        size: `Geometry` of the images, or the side of a square, in pixels.
        seed: seed of the random choice.

    Returns:
        uint8 `(n, h, w, c)` and n class names.
    """
    source = sources.load_all(data, on_bad_image="skip", data_dir=data_dir)
    examples = next(iter(source.splits.values()))
    chosen = examples.take(classes_in_turn(examples.labels, count, seed))
    images = np.concatenate(list(pixels.batches(chosen, size=size, crop=1.0)))
    return images, [source.classes[k] for k in chosen.labels]


def _duplicates(photos: Mapping[str, Sequence[Photo]]) -> list[list[tuple[str, Photo]]]:
    """Groups of (split, photo) whose files are equal, byte for byte."""
    alike, same = defaultdict(list), defaultdict(list)
    for split, group in photos.items():
        for photo in group:
            alike[photo.header.digest].append((split, photo))
    candidates = [item for group in alike.values() if len(group) > 1 for item in group]
    for split, photo in track(candidates, len(candidates), "comparing images", "images"):
        with open(photo.path, "rb") as file:
            same[hashlib.file_digest(file, "sha256").digest()].append((split, photo))
    return [group for group in same.values() if len(group) > 1]


def _narrow(photos: Iterable[Photo]) -> list[BadFile]:
    """The photos that use only a small part of their value range, and so are almost black."""
    peaks = ((photo, photo.look.peak) for photo in photos if photo.look)
    reasons = ((p, folder.narrow_range(peak, p.header.bits)) for p, peak in peaks)
    return [BadFile(show(photo.path), reason) for photo, reason in reasons if reason]


def _near(photos: Mapping[str, Sequence[Photo]]) -> list[tuple[Photo, Photo]]:
    """Pairs of photos that look alike but are not equal: each photo with a similar one in an
    earlier split or, without splits, a similar earlier one.

    Similar images have 64-bit hashes (see `photo.Look`) that differ in at most 4 bits, and
    thumbnails that differ only in brightness and contrast. Images without contrast, whose hash is
    nearly all 0 or 1, are ignored.
    """
    everything = [(split, p) for split, group in photos.items() for p in group if p.look]
    if not everything:
        return []
    hashes = np.array([p.look.hash for _, p in everything if p.look], np.int64).astype(np.uint64)
    thumbnails = _standardized([p.look.thumbnail for _, p in everything if p.look])
    digests = np.array([p.header.digest for _, p in everything], np.int64)
    split_of = np.array([list(photos).index(split) for split, _ in everything], np.int64)
    bits = np.bitwise_count(hashes)
    usable = np.flatnonzero((bits >= _CONTRAST) & (bits <= 64 - _CONTRAST))
    later = usable[split_of[usable] > 0] if len(photos) > 1 else usable
    later = later[np.sort(np.random.default_rng(0).permutation(len(later))[:_MOST_COMPARED])]
    pairs = []
    for i in track(later.tolist(), len(later), "comparing images", "images"):
        others = usable[split_of[usable] < split_of[i]] if len(photos) > 1 else usable[usable < i]
        apart = np.bitwise_count(hashes[others] ^ hashes[i])
        hits = others[(apart <= _NEAR) & (digests[others] != digests[i])]
        hits = hits[thumbnails[hits] @ thumbnails[i] > _ALIKE]
        if len(hits):
            pairs.append((everything[i][1], everything[hits[0]][1]))
    return pairs


def _standardized(thumbnails: Sequence[bytes]) -> npt.NDArray[np.float32]:
    """Thumbnails as rows `(n, pixels)` of mean 0 and length 1, so that the product of two is their
    correlation."""
    pixels = np.frombuffer(b"".join(thumbnails), np.uint8).reshape(len(thumbnails), -1)
    rows = pixels - pixels.mean(-1, keepdims=True, dtype=np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-6)
