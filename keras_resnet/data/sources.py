"""Loads DATA as labelled examples by split: digits, a folder, or tfds:NAME."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_resnet import files
from keras_resnet.data import folder, preload
from keras_resnet.data.digits import load_digits
from keras_resnet.data.examples import Examples, from_pixels
from keras_resnet.data.names import is_folder, require
from keras_resnet.errors import CheckFailed, InputError
from keras_resnet.files import StrPath, write_text
from keras_resnet.messages import log

Saved = Mapping[str, Sequence[tuple[str, str]]]  # name and class of each image, by split


@dataclass(frozen=True)
class Source:
    """A data set: examples by split ("train", "val" and, where there is one, "test")."""

    name: str
    classes: list[str]
    splits: dict[str, Examples]
    mirrors: bool = True  # whether a flipped image still shows its class
    check: dict[str, Any] = field(default_factory=dict)  # results of the check of a folder


def load(
    data: StrPath,
    *,
    val_split: float = 0.2,
    seed: int = 0,
    on_bad_image: str = "error",
    data_dir: StrPath | None = None,
    check: str = "full",
    in_memory: bool = False,
) -> Source:
    """A data set with a train and a val split.

    For data without a validation split, one is made: stratified, seeded, with at least one image of
    each class in either split.

    Args:
        data: `"digits"`, a folder of images, or `"tfds:NAME[/CONFIG]"`.
        val_split: share of each class in the validation split, if one is made.
        seed: of this split.
        on_bad_image: `"error"` or `"skip"`; for a folder.
        data_dir: where tensorflow-datasets keeps its files.
        check: `"full"` or `"headers"`; for a folder, see `folder.scan`.
        in_memory: whether to keep small images decoded in memory, if they fit.

    Raises:
        InputError: no usable data; the line names it and the next step.
    """
    source = _open(data, on_bad_image, data_dir, check, in_memory)
    splits = dict(source.splits)
    if "val" not in splits:
        pool = splits.pop("all", None) or splits.pop("train")
        held_out = _stratified(pool.labels, source.classes, val_split, seed)
        splits["train"] = pool.take(np.flatnonzero(~held_out))
        splits["val"] = pool.take(np.flatnonzero(held_out))
    preload.log_preloaded(splits)
    return Source(source.name, source.classes, splits, source.mirrors, source.check)


def load_all(
    data: StrPath, *, on_bad_image: str = "error", data_dir: StrPath | None = None
) -> Source:
    """A data set as it is stored, under "all" or by the splits that it has.

    Args:
        data, on_bad_image, data_dir: as in `load`.

    Raises:
        InputError: as `load`.
    """
    return _open(data, on_bad_image, data_dir)


def save_split(source: Source, path: StrPath) -> None:
    """Saves the split of each image, so that a run is always evaluated on the same images.

    Args:
        source: the data set.
        path: of the JSON file.
    """
    content = {
        split: [
            [name, source.classes[label]]
            for name, label in zip(examples.names, examples.labels, strict=True)
        ]
        for split, examples in source.splits.items()
    }
    # ASCII: a name may hold any bytes
    write_text(path, json.dumps(content, ensure_ascii=True, indent=0))


def load_saved(
    path: StrPath,
    *,
    data: StrPath,
    classes: Sequence[str],
    data_dir: StrPath | None = None,
    check: str = "full",
    in_memory: bool = False,
) -> Source:
    """A data set in the splits that `save_split` saved, to resume a run.

    Files that changed since are named: results will differ from an uninterrupted run.

    Args:
        path: the file of `save_split`.
        data, data_dir, check, in_memory: as in `load`.
        classes: the run's class names, in order.

    Raises:
        InputError: images that are gone.
    """
    saved = read_split(path)
    _require_classes(saved, classes)
    splits = _load_splits(
        saved,
        data,
        classes,
        data_dir,
        check=check,
        in_memory=in_memory,
        since=os.stat(path).st_mtime_ns,
    )
    preload.log_preloaded(splits)
    return Source(os.fspath(data), list(classes), splits, mirrors=data != "digits")


def read_split(path: StrPath) -> dict[str, list[tuple[str, str]]]:
    """The content of a saved split file: split -> name and class of each of its images.

    Args:
        path: the file of `save_split`.

    Raises:
        InputError: the file is gone or damaged.
    """
    try:
        content = files.read_json(path)
    except OSError as error:
        raise InputError(
            f"{folder.show(path)} cannot be read ({error.strerror}); take it from a copy of the run"
        ) from None
    try:
        saved = {split: [(name, label) for name, label in content[split]] for split in content}
        outside = [
            name for pairs in saved.values() for name, label in pairs if _leads_out(name, label)
        ]
    except (ValueError, TypeError) as error:
        raise InputError(f"{folder.show(path)} is damaged ({error}); give a data folder") from None
    if outside:
        raise InputError(
            f"{folder.show(path)} names {folder.show(outside[0])}, which is outside of the data "
            "folder; give a data folder, or take the file from a copy of the run"
        )
    return saved


def _leads_out(name: str, label: str) -> bool:
    """Whether the name leads out of the data folder; TypeError if they are no names."""
    if not (isinstance(name, str) and isinstance(label, str)) or "\0" in name:
        raise TypeError(f"{name!r} is no name")
    return os.path.isabs(name) or ".." in name.split("/")


def _require_classes(saved: Saved, classes: Sequence[str]) -> None:
    """InputError if a saved split names a class that the run does not have."""
    known = set(classes)
    for split, pairs in saved.items():
        for name, label in pairs:
            if label not in known:
                raise InputError(
                    f"{folder.show(name)}, of the run's {split} split, has the class "
                    f"{folder.show(label)!r}, which is not in labels.txt; take split.json and "
                    "labels.txt from a copy of the run"
                )


def load_split(
    saved: Saved,
    split: str,
    *,
    data: StrPath,
    classes: Sequence[str],
    data_dir: StrPath | None = None,
    check: str = "full",
    checked_until: int = 0,
) -> Examples:
    """The examples of one split.

    Args:
        saved: as `read_split` gives it.
        split: "train", "val" or "test".
        data, data_dir, check: as in `load`.
        classes: the run's class names, in order.
        checked_until: a time in nanoseconds; images not changed since are known to decode.

    Raises:
        InputError: no such split, or images that are gone.
    """
    if split not in saved:
        raise InputError(f"the run has no {split} split; it has {', '.join(saved)}")
    wanted = {split: saved[split]}
    _require_classes(wanted, classes)
    if is_folder(data):
        return _splits_of_folder(wanted, data, classes, check=check, checked_until=checked_until)[
            split
        ]
    return _load_splits(wanted, data, classes, data_dir, check=check)[split]


def _load_splits(
    saved: Saved,
    data: StrPath,
    classes: Sequence[str],
    data_dir: StrPath | None,
    *,
    check: str,
    in_memory: bool = False,
    since: int | None = None,
) -> dict[str, Examples]:
    """Examples by split, from pairs of name and class by split."""
    if is_folder(data):
        return _splits_of_folder(
            saved, data, classes, check=check, in_memory=in_memory, since=since
        )
    source = _open(data, "error", data_dir, check, in_memory)
    place = {
        name: (examples, i)
        for examples in source.splits.values()
        for i, name in enumerate(examples.names)
    }
    splits = {}
    for split, wanted in saved.items():
        lost = [name for name, _ in wanted if name not in place]
        if lost:
            raise InputError(f"{data} no longer has {lost[0]}, of the run's {split} split")
        pools = {id(place[name][0]): place[name][0] for name, _ in wanted}
        (pool,) = pools.values()  # a saved split comes from one split of the data set
        taken = pool.take([place[name][1] for name, _ in wanted])
        # A run that was imported may number the classes otherwise than the data set.
        labels = np.array([classes.index(name) for _, name in wanted], np.int32)
        splits[split] = replace(taken, labels=labels)
    return splits


def _splits_of_folder(
    saved: Saved,
    data: StrPath,
    classes: Sequence[str],
    *,
    check: str,
    in_memory: bool = False,
    since: int | None = None,
    checked_until: int = 0,
) -> dict[str, Examples]:
    wanted = [pair for pairs in saved.values() for pair in pairs]
    images, found = folder.from_names(
        data, wanted, classes, check=check, in_memory=in_memory, checked_until=checked_until
    )
    if found.bad:
        lost, reason = found.bad[0]
        moved = (
            'set "data" in the run\'s config.json to the new folder'
            if since
            else "give the new folder, once, with `keras-resnet export RUN --data DATA`"
        )
        names = {s: {os.path.join(data, name) for name, _ in saved[s]} for s in saved}
        split = next(s for s in saved if lost in names[s])
        raise InputError(
            f"{folder.show(lost)}, of the run's {split} split: {reason} ({len(found.bad)} in all); "
            f"restore it, or {moved}"
        )
    changed = [p.name for p in found.photos["all"] if since and p.header.mtime_ns > since]
    if changed:
        log.info(
            f"{folder.show(changed[0])} changed after the run started ({len(changed)} in all): "
            "results will differ from an uninterrupted run"
        )
    splits, first = {}, 0
    for split, pairs in saved.items():
        splits[split] = images.take(range(first, first + len(pairs)))
        first += len(pairs)
    return splits


@contextmanager
def naming_broken_files(source: Source, next_step: str) -> Iterator[None]:
    """Turns the error of an unreadable image into one line that names it, within the context.

    A file may have changed since it was checked, or have been checked by its header alone.

    Raises:
        CheckFailed: the line, which ends with `next_step`.
    """
    try:
        yield
    except folder.READ_ERRORS:
        broken = is_folder(source.name) and folder.find_broken(
            source.name, [name for examples in source.splits.values() for name in examples.names]
        )
        if not broken:
            raise
        path, reason = broken
        raise CheckFailed(
            f"training stopped: {folder.show(path)}: {reason}; repair it, then {next_step}"
        ) from None


def _open(
    data: StrPath,
    on_bad_image: str,
    data_dir: StrPath | None,
    check: str = "full",
    in_memory: bool = False,
) -> Source:
    data = os.fspath(data)
    if data == "digits":
        return _digits()
    if data.startswith("tfds:"):
        from keras_resnet.data import tfds

        classes, splits = tfds.load(data.removeprefix("tfds:"), data_dir)
        return Source(data, classes, preload.preload_splits(splits) if in_memory else splits)
    require(data)
    splits, classes, found = folder.load(
        data, on_bad_image=on_bad_image, check=check, in_memory=in_memory
    )
    return Source(data, classes, splits, check=found.report())


def _digits() -> Source:
    """The built-in handwritten digits, as RGB in 0…255."""
    pixels, labels = load_digits()
    grey = np.round(pixels * (255 / 16)).astype(np.uint8)
    images = np.repeat(grey[..., None], 3, axis=-1)
    names = [f"digits/{i:04d}" for i in range(len(images))]
    pool = from_pixels(images, labels, names)
    return Source("digits", [str(k) for k in range(10)], {"all": pool}, mirrors=False)


def _stratified(
    labels: npt.NDArray[np.int32], classes: Sequence[str], share: float, seed: int
) -> npt.NDArray[np.bool_]:
    """Boolean `(n,)`: which examples are held out."""
    held_out = np.zeros(len(labels), bool)
    for k, name in enumerate(classes):
        members = np.flatnonzero(labels == k)
        if len(members) < 2:
            raise InputError(
                f"class {folder.show(name)} has {len(members)} image; at least 2 are needed, one "
                "to train on and one to hold out"
            )
        order = np.random.default_rng([seed, k]).permutation(members)
        count = min(max(round(share * len(members)), 1), len(members) - 1)
        held_out[order[:count]] = True
    return held_out
