"""Loads DATA as labelled examples by split: digits, a folder, or tfds:NAME."""

import hashlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import NamedTuple

import numpy as np

from keras_resnet import filenames
from keras_resnet.config import Config
from keras_resnet.data import folder, splitting
from keras_resnet.data.digits import load_digits
from keras_resnet.data.examples import Examples, from_pixels
from keras_resnet.data.names import is_folder, require, show
from keras_resnet.errors import CheckFailed, InputError, first_line
from keras_resnet.files import StrPath, read_json, write_text
from keras_resnet.messages import log, plural

# Next steps of a message.
_WHERE_NOW = (
    "give the current folder of the images: --data DIR (export, verify, explain lesion), "
    "--split val and DATA (evaluate), or DATA (explain gradients, train --resume)"
)


class SavedImage(NamedTuple):
    """An image of a saved split."""

    name: str
    label: str
    digest: int | None = None  # of its content, see `photo.digest`; None in an old run


Saved = Mapping[str, Sequence[SavedImage]]  # by split


@dataclass(frozen=True)
class Source:
    """A data set: examples by split ("train", "val" and, if it exists, "test")."""

    name: str
    classes: list[str]
    splits: dict[str, Examples]
    skipped: int = 0  # unused files of a folder
    obstacles: list[str] = field(default_factory=list)  # why training cannot use the data
    side: int | None = None  # of a folder: median of the shorter sides of its images, in pixels

    @property
    def mirrors(self) -> bool:
        """Whether a flipped image still shows its class."""
        return self.name != "digits"

    def fingerprint(self) -> str:
        """A sha256 of names, classes and contents of the images in each split."""
        content = hashlib.sha256()
        for split, examples in self.splits.items():
            content.update(f"{split}\0".encode())
            content.update("\0".join(examples.names).encode(errors="surrogateescape"))
            content.update(examples.labels.tobytes())
            content.update(examples.digests.tobytes())
        return content.hexdigest()


def load(
    data: StrPath,
    *,
    val_split: float = 0.2,
    test_split: float = 0.0,
    group_by: str | None = None,
    split_file: StrPath | None = None,
    seed: int = 0,
    on_bad_image: str | None = None,
    data_dir: StrPath | None = None,
    check: str = "full",
    in_memory: bool = False,
    weights: str | None = None,
) -> Source:
    """A data set with a train and a val split, for training.

    For data without a validation split, one is made: stratified, seeded, with at least one image of
    each class in either split. Equal images never get into different new splits.

    Args:
        data: `"digits"`, a folder of images, or `"tfds:NAME[/CONFIG]"`.
        val_split: share of each class in a new validation split.
        test_split: share of each class in a new test split, which is set aside first; 0: none.
        group_by: keep related images in one split, see `splitting.group`; for a folder.
        split_file: a file of `save_split`, whose splits are used instead.
        seed: seed of the new splits.
        on_bad_image: as in `folder.load`.
        data_dir: folder of tensorflow-datasets.
        check: `"full"` or `"headers"`; for a folder, see `folder.scan`.
        in_memory: whether to keep small images decoded in memory, if they fit.
        weights: as `--weights`. In a new split, images of this run stay in the split that they had
            there: scores on its training images would be too good.

    Raises:
        InputError: no usable data; the message names the data and the next step.
    """
    require_groupable(data, group_by)
    source = _open(
        data, on_bad_image, data_dir, check, in_memory, nested=bool(group_by or split_file)
    )
    if source.obstacles:
        more = len(source.obstacles) - 1
        listed = f" (and {more} more; `keras-resnet data check` lists them)" if more else ""
        raise InputError(source.obstacles[0] + listed)
    if group_by:
        log.info(splitting.grouped(source.splits, group_by))
    known = digests_of_weights(weights)
    splits = (
        _splits_of_file(split_file, source)
        if split_file
        else splitting.divide(
            source.splits, source.classes, val_split, test_split, group_by, seed, known
        )
    )
    is_divided = not split_file and "val" not in source.splits
    source = replace(source, splits=splits)
    _log_known(splits, known.get("train", ()), weights)
    few = val_split * sum(len(splits[split]) for split in ("train", "val"))
    if known and is_divided and 2 * len(splits["val"]) < few:
        log.warning(
            f"the val split has {plural(len(splits['val']), 'image')} instead of the "
            f"{round(few):,} of --val-split {val_split:g}: training images of {weights}, whose "
            "weights this run starts from, are not held out; add new images"
        )
    for warning in splitting.warnings(source.splits, source.classes, group_by):
        log.warning(f"{show(source.name)}: {warning}")
    _log_preloaded(source.splits, in_memory)
    return source


def as_data(data: object) -> str:
    """The name of a data set as text; raises InputError for another object, such as an array."""
    if isinstance(data, str | os.PathLike):
        return os.fspath(data)
    raise InputError(
        f"DATA is {first_line(repr(data))}; expected a folder of images, tfds:NAME[/CONFIG] or "
        "digits (`kr.predict` takes images in memory)"
    )


def require_groupable(data: StrPath, group_by: str | None) -> None:
    """Raises InputError for `group_by` with data whose images have no folders."""
    if group_by and not is_folder(data):
        raise InputError(
            f"--group-by {group_by} is for a folder of images, not {data}; leave it out"
        )


def load_for(config: Config, *, in_memory: bool = False) -> Source:
    """`load` with the settings of a training."""
    return load(
        config.data,
        val_split=config.val_split,
        test_split=config.test_split,
        group_by=config.group_by,
        split_file=config.split_file,
        seed=config.seed,
        on_bad_image=config.on_bad_image,
        data_dir=config.data_dir,
        check=config.check,
        in_memory=in_memory,
        weights=config.weights,
    )


def _log_known(
    splits: Mapping[str, Examples], learned: Collection[int], weights: str | None
) -> None:
    """Logs the number of images in each split that the initial weights were trained on."""
    for split, examples in splits.items():
        if count := np.count_nonzero(splitting.are(examples, learned)):
            line = (
                f"{count:,} of {plural(len(examples), f'{split} image')} are training images of "
                f"{weights}, whose weights this run starts from"
            )
            if split == "train":
                log.info(line)
            else:
                log.warning(f"{line}: scores on {split} will be too good")


def digests_of_weights(weights: str | None) -> dict[str, list[int]]:
    """The digests of the images of the run of these weights, by split; {} for other weights.

    Args:
        weights: as `--weights`: a run folder, or the path of a file in it.
    """
    folder = weights if weights and os.path.isdir(weights) else os.path.dirname(weights or "")
    saved = os.path.join(folder, filenames.SPLIT)
    if not weights or not os.path.exists(weights) or not os.path.isfile(saved):
        return {}
    return {
        split: [image.digest for image in images if image.digest is not None]
        for split, images in read_split(saved).items()
    }


def load_all(
    data: StrPath,
    *,
    on_bad_image: str | None = None,
    data_dir: StrPath | None = None,
    classes: Sequence[str] = (),
) -> Source:
    """A data set as stored, without new splits: with its own splits or "all"; one class suffices.

    Args:
        data, on_bad_image, data_dir: as in `load`.
        classes: known class names, such as an artefact's.

    Raises:
        InputError: as in `load`.
    """
    return _open(data, on_bad_image, data_dir, nested=True, classes=classes)


def save_split(source: Source, path: StrPath) -> None:
    """Saves the split of each image, so that a run is always evaluated on the same images.

    Args:
        source: the data set.
        path: path of the JSON file.
    """
    content = {split: _rows(examples, source.classes) for split, examples in source.splits.items()}
    # ASCII, because a name may contain any bytes.
    write_text(path, json.dumps(content, ensure_ascii=True, indent=0))


def _rows(examples: Examples, classes: Sequence[str]) -> list[list[str]]:
    """Rows of name, class and digest of each image."""
    digests = examples.digests.view(np.uint64).tolist()
    images = zip(examples.names, examples.labels, digests, strict=True)
    return [[name, classes[label], f"{digest:016x}"] for name, label, digest in images]


def _saved_image(name: str, label: str, digest: str | None = None) -> SavedImage:
    if digest is None:
        return SavedImage(name, label)
    number = int(digest, 16)
    return SavedImage(name, label, number - 2**64 if number >= 2**63 else number)


def load_saved(
    path: StrPath,
    *,
    data: StrPath,
    classes: Sequence[str],
    data_dir: StrPath | None = None,
    check: str = "full",
    in_memory: bool = False,
) -> Source:
    """A data set in the splits saved by `save_split`, to resume a run.

    Logs a warning about changed files: results will differ from an uninterrupted run.

    Args:
        path: the file of `save_split`.
        data, data_dir, check, in_memory: as in `load`.
        classes: the run's class names, in order.

    Raises:
        InputError: images are missing.
    """
    saved = read_split(path)
    _require_classes(saved, classes)
    splits = _load_splits(
        saved, data, classes, data_dir, check=check, in_memory=in_memory,
        otherwise="results will differ from an uninterrupted run",
    )  # fmt: skip
    _log_preloaded(splits, in_memory)
    return Source(os.fspath(data), list(classes), splits)


def read_split(path: StrPath, content: bytes | None = None) -> dict[str, list[SavedImage]]:
    """The content of a saved split file: the images of each split.

    Args:
        path: the file of `save_split`.
        content: the bytes of the file, if already read.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        rows_of = read_json(path, content)
    except OSError as error:
        raise InputError(
            f"{show(path)} cannot be read ({error.strerror}); restore it from a copy of the run"
        ) from None
    expected = 'expected {"train": [["CLASS/a.jpg", "CLASS"], …], "val": […]}, as in a run'
    if not all(
        isinstance(rows, list) and all(isinstance(row, list) and len(row) >= 2 for row in rows)
        for rows in rows_of.values()
    ):
        raise InputError(f"{show(path)} is damaged or not a split; {expected}")
    try:
        saved = {split: [_saved_image(*row) for row in rows] for split, rows in rows_of.items()}
        outside = [image.name for images in saved.values() for image in images if _leads_out(image)]
    except (ValueError, TypeError) as error:
        raise InputError(f"{show(path)} is damaged ({error}); give a data folder") from None
    if outside:
        raise InputError(
            f"{show(path)} names {show(outside[0])}, which is outside the data folder; give a data "
            "folder, or restore the file from a copy of the run"
        )
    return saved


def _leads_out(image: SavedImage) -> bool:
    """Whether the name points outside of the data folder; TypeError if it is not a name."""
    if not (isinstance(image.name, str) and isinstance(image.label, str)) or "\0" in image.name:
        raise TypeError(f"{image.name!r} is not a file name")
    return os.path.isabs(image.name) or ".." in image.name.split("/")


def _require_classes(saved: Saved, classes: Sequence[str]) -> None:
    """Raises InputError if a saved split has a class that the run does not have."""
    known = set(classes)
    for split, images in saved.items():
        for image in images:
            if image.label not in known:
                raise InputError(
                    f"{show(image.name)}, of the run's {split} split, has the class "
                    f"{show(image.label)!r}, which is not in labels.txt; restore split.json and "
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
    """The examples of one saved split.

    Args:
        saved: the result of `read_split`.
        split: "train", "val" or "test".
        data, data_dir, check: as in `load`.
        classes: the run's class names, in order.
        checked_until: as in `check_files`.

    Raises:
        InputError: no such split, or images are missing.
    """
    if split not in saved:
        raise InputError(f"the run has no {split} split; it has {', '.join(saved)}")
    wanted = {split: saved[split]}
    _require_classes(wanted, classes)
    return _load_splits(
        wanted, data, classes, data_dir, check=check, checked_until=checked_until,
        otherwise="the images differ from those in training",
    )[split]  # fmt: skip


def require_moved(saved: Saved, data: StrPath, classes: Sequence[str]) -> None:
    """Requires that a folder contains all images of saved splits.

    Args:
        saved: the result of `read_split`.
        data: the folder.
        classes: the run's class names, in order.

    Raises:
        InputError: images are missing or have changed.
    """
    require(data)
    total = sum(map(len, saved.values()))
    absent = [
        image.name
        for images in saved.values()
        for image in images
        if not os.path.exists(os.path.join(data, image.name))
    ]
    if absent:
        raise InputError(
            f"{show(data)} has no {show(absent[0])} ({len(absent):,} of {total:,} images of the "
            "run are missing); give the folder that contains them all, with the same names"
        )
    splits = _splits_of_folder(saved, data, classes, check="headers")
    changed = _changed(saved, splits)
    if changed:
        raise InputError(
            f"{show(changed[0])} in {show(data)} is not the image used in training "
            f"({len(changed):,} of {total:,} differ); give the folder with the images of the run"
        )


def _load_splits(
    saved: Saved,
    data: StrPath,
    classes: Sequence[str],
    data_dir: StrPath | None,
    *,
    check: str,
    otherwise: str,
    in_memory: bool = False,
    checked_until: int = 0,
) -> dict[str, Examples]:
    """Examples by split; a warning about changed images ends with `otherwise`."""
    if is_folder(data):
        splits = _splits_of_folder(
            saved, data, classes, check=check, in_memory=in_memory, checked_until=checked_until
        )
    else:
        source = _open(data, "error", data_dir, check, in_memory)
        splits = _splits_by_name(saved, source, classes)
    changed = _changed(saved, splits)
    if changed:
        log.warning(
            f"{show(changed[0])} changed since the run started ({len(changed):,} in all): "
            f"{otherwise}"
        )
    return splits


def _changed(saved: Saved, splits: Mapping[str, Examples]) -> list[str]:
    """Names of the images whose content differs from the saved splits, in order."""
    return [
        image.name
        for split, examples in splits.items()
        for image, digest in zip(saved[split], examples.digests.tolist(), strict=True)
        if image.digest not in (None, digest)
    ]


def _splits_of_file(path: StrPath, source: Source) -> dict[str, Examples]:
    """The images in the splits of a file of `save_split`; InputError if file and images differ."""
    if not os.path.isfile(path):
        raise InputError(f"--split-file {show(path)}: no such file; give a split.json")
    saved = {split: images for split, images in read_split(path).items() if images}
    for split in ("train", "val"):
        if split not in saved:
            raise InputError(
                f"--split-file {show(path)} has no {split} images; give one with train and val"
            )
    known, trained = set(source.classes), {image.label for image in saved["train"]}
    others = {image.label for images in saved.values() for image in images} - known
    if odd := (known ^ trained) | others:
        raise InputError(
            f"--split-file {show(path)} and {show(source.name)} do not have the same classes: "
            f"{show(min(odd))} is only in one; give the data that the file was made for"
        )
    splits = _splits_by_name(saved, source, source.classes)
    changed = _changed(saved, splits)
    if changed:
        raise InputError(
            f"{show(changed[0])} is not the image in --split-file {show(path)} ({len(changed):,} "
            "in all); give the data that the file was made for"
        )
    return splits


def pool(source: Source) -> Examples:
    """All images of a data set except a test split, as one `Examples`.

    Raises:
        InputError: the splits are stored separately, as in a `tfds:` data set.
    """
    parts = [examples for split, examples in source.splits.items() if split != "test"]
    return _joined(parts, source.name)


def _joined(parts: Sequence[Examples], data: str) -> Examples:
    first = parts[0]
    if any(part.items is not first.items for part in parts):
        raise InputError(f"the splits of {data} cannot be joined; give a folder of images")
    folders = [part.folders for part in parts if part.folders is not None]
    return replace(
        first,
        rows=np.concatenate([part.rows for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        names=[name for part in parts for name in part.names],
        orientations=np.concatenate([part.orientations for part in parts]),
        digests=np.concatenate([part.digests for part in parts]),
        folders=list(chain(*folders)) if len(folders) == len(parts) else None,
    )


def _splits_by_name(saved: Saved, source: Source, classes: Sequence[str]) -> dict[str, Examples]:
    place = {name: part for part in source.splits.values() for name in part.names}
    splits = {}
    label_of = {name: label for label, name in enumerate(classes)}
    for split, wanted in saved.items():
        lost = [image.name for image in wanted if image.name not in place]
        if lost:
            raise InputError(
                f"{show(source.name)} no longer has {show(lost[0])}, of the run's {split} split; "
                "restore it, or train again"
            )
        parts = {id(place[image.name]): place[image.name] for image in wanted}
        whole = _joined(list(parts.values()), source.name)
        number = {name: i for i, name in enumerate(whole.names)}
        taken = whole.take([number[image.name] for image in wanted])
        # An imported run may have another order of the classes than the data set.
        labels = np.array([label_of[image.label] for image in wanted], np.int32)
        splits[split] = replace(taken, labels=labels)
    return splits


def _splits_of_folder(
    saved: Saved,
    data: StrPath,
    classes: Sequence[str],
    *,
    check: str,
    in_memory: bool = False,
    checked_until: int = 0,
) -> dict[str, Examples]:
    if not os.path.isdir(data):
        raise InputError(
            f"{show(data)}, the data folder of the run, no longer exists; {_WHERE_NOW}"
        )
    wanted = [image[:2] for images in saved.values() for image in images]
    images, found = folder.from_names(
        data, wanted, classes, check=check, in_memory=in_memory, checked_until=checked_until
    )
    if found.bad:
        lost, reason = found.bad[0]
        names = {s: {os.path.join(data, image.name) for image in saved[s]} for s in saved}
        split = next(s for s in saved if lost in names[s])
        raise InputError(
            f"{show(lost)}, of the run's {split} split: {reason} ({len(found.bad):,} of "
            f"{len(wanted):,} images); restore it, or {_WHERE_NOW}"
        )
    splits, first = {}, 0
    for split, pairs in saved.items():
        splits[split] = images.take(range(first, first + len(pairs)))
        first += len(pairs)
    return splits


def naming_broken_images(source: Source, next_step: str) -> AbstractContextManager[None]:
    """A context that turns errors of an unreadable image into a CheckFailed that ends with
    `next_step`."""
    return folder.naming_broken(
        source.name,
        lambda: [name for examples in source.splits.values() for name in examples.names],
        lambda path, reason: CheckFailed(
            f"training stopped: {path}: {reason}; repair it, then {next_step}"
        ),
    )


def _open(
    data: StrPath,
    on_bad_image: str | None,
    data_dir: StrPath | None,
    check: str = "full",
    in_memory: bool = False,
    *,
    nested: bool = False,
    classes: Sequence[str] = (),
) -> Source:
    data = as_data(data)
    require(data)
    if data == "digits":
        if os.path.isdir(data):
            log.warning("digits is the built-in data set; the folder of this name is ./digits")
        return _digits()
    if data.startswith("tfds:"):
        from keras_resnet.data import tfds

        names, splits = tfds.load(data.removeprefix("tfds:"), data_dir)
        if in_memory:
            from keras_resnet.data import preload

            splits = preload.preload_splits(splits)
        return Source(data, names, splits)
    found = folder.load(
        data,
        on_bad_image=on_bad_image,
        check=check,
        in_memory=in_memory,
        nested=nested,
        classes=classes,
    )
    return Source(
        data, found.classes, folder.by_split(found),
        skipped=found.files - found.used, obstacles=folder.obstacles(found), side=found.side,
    )  # fmt: skip


def _log_preloaded(splits: dict[str, Examples], in_memory: bool) -> None:
    if in_memory:
        from keras_resnet.data import preload  # imports TensorFlow

        preload.log_preloaded(splits)


def _digits() -> Source:
    """The built-in handwritten digits, as RGB in 0…255."""
    pixels, labels = load_digits()
    grey = np.round(pixels * (255 / 16)).astype(np.uint8)
    images = np.repeat(grey[..., None], 3, axis=-1)
    names = [f"digits/{i:04d}" for i in range(len(images))]
    pool = from_pixels(images, labels, names)
    return Source("digits", [str(k) for k in range(10)], {"all": pool})
