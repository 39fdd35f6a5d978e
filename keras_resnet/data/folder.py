"""A folder of images, checked before training.

    CLASS/*.jpg      or      train/CLASS/*.jpg, val|validation/CLASS/*.jpg, test/CLASS/*.jpg

No file is ignored silently: files on disk = used + skipped, each with its reason. The content, read
by the decoder of the training, decides whether a file is an image, not its name. A class folder may
be a link to a folder elsewhere; links to folders inside it are not followed.
"""

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, NoReturn

import numpy as np
import tensorflow as tf

from keras_resnet.data.check_files import check_files
from keras_resnet.data.examples import Examples
from keras_resnet.data.names import require, show
from keras_resnet.data.photo import Photo, Reject
from keras_resnet.errors import InputError
from keras_resnet.files import StrPath
from keras_resnet.messages import log

# TensorFlow's errors for a file that cannot be read or decoded; they do not name the file.
READ_ERRORS = (
    tf.errors.InvalidArgumentError,
    tf.errors.NotFoundError,
    tf.errors.PermissionDeniedError,
    tf.errors.UnknownError,
)
SPLIT_NAMES = {"train": "train", "val": "val", "validation": "val", "valid": "val", "test": "test"}


@dataclass
class Scan:
    """Result of the check of every file."""

    root: str
    photos: dict[str, list[Photo]] = field(default_factory=dict)  # split -> photos
    images: Examples = field(init=False)  # all of the photos, in order, once they are checked
    classes: list[str] = field(default_factory=list)
    files: int = 0
    skipped: Counter[str] = field(default_factory=Counter)  # reason -> files that are no images
    bad: list[tuple[str, str]] = field(default_factory=list)  # (path, reason): meant as images

    @property
    def used(self) -> int:
        """The number of photos."""
        return sum(map(len, self.photos.values()))

    def report(self) -> dict[str, Any]:
        """The content of `data check --json`."""
        bad = Counter(reason for _, reason in self.bad)
        counts = Counter(photo.label for photos in self.photos.values() for photo in photos)
        return {
            "files": self.files,
            "used": self.used,
            "skipped": dict(self.skipped + bad),
            "classes": {label: counts[label] for label in self.classes},
            "splits": {split: len(photos) for split, photos in self.photos.items()},
            "bad": [{"file": show(path), "reason": reason} for path, reason in self.bad],
        }


def scan(
    root: StrPath, *, check: str = "full", in_memory: bool = False, fresh: bool = False
) -> Scan:
    """Checks every file under `root`; a broken file is recorded and raises no error.

    Args:
        root: the data folder.
        check: `"full"`: each image is decoded, unless it was found good before; `"headers"`: only
            the headers are read.
        in_memory: whether to keep small images decoded in memory.
        fresh: whether to ignore the cache and check every file.

    Raises:
        InputError: no such folder, no class folders, a folder that cannot be read.
    """
    require(root)
    found = Scan(os.path.normpath(root))
    candidates = []
    for split, folder in _split_folders(found).items():
        found.photos[split] = []
        candidates += _candidates(found, split, folder)
    visible = [file for file in candidates if not _is_hidden(file[2])]
    found.skipped["hidden file"] += len(candidates) - len(visible)
    files = [(path, name, label) for _, path, name, label in visible]
    results, found.images = check_files(
        found.root, files, check=check, in_memory=in_memory, fresh=fresh, is_whole=True
    )
    found.files += len(candidates)
    for (split, *_), result in zip(visible, results, strict=True):
        _note(found, split, result)
    return found


def load(
    root: StrPath, *, on_bad_image: str = "error", check: str = "full", in_memory: bool = False
) -> tuple[dict[str, Examples], list[str], Scan]:
    """A folder as examples by split, and its class names: `(splits, classes, scan)`.

    Args:
        root, check, in_memory: as in `scan`.
        on_bad_image: `"error"` or `"skip"`.

    Raises:
        InputError: as `scan`; a class without images, one class only; and, with
            `on_bad_image="error"`, a broken file.
    """
    found = scan(root, check=check, in_memory=in_memory)
    if found.bad and on_bad_image == "error":
        raise InputError(_describe_bad(found.bad))
    _check_classes(found)
    images, splits, first = _labelled(found, found.classes), {}, 0
    for split, photos in found.photos.items():
        splits[split] = images.take(range(first, first + len(photos)))
        first += len(photos)
    return splits, found.classes, found


def from_names(
    root: StrPath,
    labelled_names: Iterable[tuple[str, str]],
    classes: Sequence[str],
    *,
    check: str = "full",
    in_memory: bool = False,
    fresh: bool = False,
    checked_until: int = 0,
) -> tuple[Examples, Scan]:
    """The files of a saved split, checked as `load` does: `(examples, scan)`.

    Args:
        root: the data folder.
        labelled_names: pairs of name, relative to `root`, and class.
        classes: the run's class names, in order.
        check, in_memory, fresh: as in `scan`.
        checked_until: as in `check_files`.
    """
    root = os.fspath(root)
    found = Scan(root, photos={"all": []})
    files = [(os.path.join(root, name), name, label) for name, label in labelled_names]
    results, found.images = check_files(
        root, files, check=check, in_memory=in_memory, fresh=fresh, checked_until=checked_until
    )
    for result in results:
        if isinstance(result, Photo):
            found.photos["all"].append(result)
        else:
            found.bad.append((result.path, result.reason))
    return _labelled(found, classes), found


def from_paths(paths: Iterable[str]) -> tuple[Examples, list[tuple[str, str]]]:
    """Files to predict on, as unlabelled examples and the broken ones: `(examples, bad)`.

    Files that are not images, such as a README, are skipped with a message.
    """
    found, paths = Scan(root="", photos={"all": []}), list(paths)
    visible = [path for path in paths if not os.path.basename(path).startswith(".")]
    found.skipped["hidden file"] += len(paths) - len(visible)
    results, images = check_files("", [(path, path, "") for path in visible])
    for result in results:
        _note(found, "all", result)
    for reason, count in (+found.skipped).items():
        log.info(f"skipped: {reason} ({count})")
    return images, found.bad


def find_broken(root: StrPath, names: Iterable[str]) -> tuple[str, str] | None:
    """(path, reason) of a file of a data folder that cannot be read or decoded; None if all can."""
    labelled = [(name, "") for name in names]
    for fresh in (False, True):  # first those that changed since they were checked
        _, found = from_names(root, labelled, [""], fresh=fresh)
        if found.bad:
            return found.bad[0]
    return None


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or os.sep + "." in name


def _note(found: Scan, split: str, result: Photo | Reject) -> None:
    """Counts a file as a photo, as skipped or as bad."""
    if isinstance(result, Photo):
        found.photos[split].append(result)
    elif result.bad:
        found.bad.append((result.path, result.reason))
    else:
        found.skipped[result.reason] += 1


def _labelled(found: Scan, classes: Sequence[str]) -> Examples:
    number = {label: i for i, label in enumerate(classes)}
    photos = chain.from_iterable(found.photos.values())
    labels = np.array([number[photo.label] for photo in photos], np.int32)
    return replace(found.images, labels=labels)


def _split_folders(found: Scan) -> dict[str, str]:
    """{"train": folder, …} where the folder has splits, else {"all": root}."""
    folders = _folders(found, found.root)
    splits: dict[str, os.DirEntry[str]] = {}
    for entry in folders:
        split = SPLIT_NAMES.get(entry.name.lower())
        if split and _folders(found, entry.path):  # a class may well be called "train"
            if split in splits:
                raise InputError(
                    f"{show(found.root)} has two folders for the {split} split: "
                    f"{show(splits[split].name)} and {show(entry.name)}; keep one"
                )
            splits[split] = entry
    if not splits:
        return {"all": found.root}
    if "train" not in splits and len(splits) == len(folders):
        raise InputError(
            f"{show(found.root)} has {' and '.join(splits)} but no train folder; add "
            "train/CLASS/…, or give the folder that holds the class folders"
        )
    if "train" not in splits or (len(splits) == 1 and len(folders) > 1):
        (entry, *_), others = splits.values(), [e for e in folders if e not in splits.values()]
        name, other = show(entry.name), show(others[0].name)
        raise InputError(
            f"cannot tell whether {name} in {show(found.root)} is a split or a class: it has "
            f"sub-folders, and {other} is beside it; move {other} elsewhere, or the images of "
            f"{name} out of their sub-folders"
        )
    paths = {split: entry.path for split, entry in splits.items()}
    _count_strays(found, found.root, set(paths.values()))
    return paths


def _candidates(found: Scan, split: str, folder: str) -> list[tuple[str, str, str, str]]:
    """(split, path, name, class) of every file in the class folders of `folder`; notes the
    classes."""
    classes = _folders(found, folder)
    if not classes:
        raise InputError(
            f"no class folders in {show(folder)}; put the images of each class into a sub-folder "
            "with the name of the class"
        )
    _count_strays(found, folder, {entry.path for entry in classes})
    for entry in classes:
        if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in entry.name):
            raise InputError(
                f"the name of class folder {show(entry.path)} has a line break, or bytes that are "
                "not UTF-8; rename it"
            )
        if split in ("all", "train"):
            found.classes.append(entry.name)
    inside = os.path.join(found.root, "")
    return [
        (split, path, path.removeprefix(inside), entry.name)
        for entry in classes
        for path in _walk(entry.path, on_error=_unreadable)
    ]


def _folders(found: Scan, folder: str) -> list[os.DirEntry[str]]:
    """The folders in `folder`, without hidden ones and links that lead back into the data."""
    return [
        entry
        for entry in _list(folder)
        if entry.name[0] != "." and os.path.isdir(entry.path) and not _leads_back(found, entry)
    ]


def _leads_back(found: Scan, entry: os.DirEntry[str]) -> bool:
    # Such a link would show the same images once more, under another class.
    if not entry.is_symlink():
        return False
    root, target = os.path.realpath(found.root), os.path.realpath(entry.path)
    return os.path.commonpath([root, target]) in (root, target)


def _walk(folder: str, on_error: Callable[[OSError], object] | None = None) -> Iterator[str]:
    """Every path below `folder` that is not a folder, in order; a link to a folder is one path."""
    for parent, folders, files in os.walk(folder, onerror=on_error):
        folders.sort()
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        yield from (os.path.join(parent, name) for name in sorted(files + links))


def _count_strays(found: Scan, folder: str, taken: Collection[str]) -> None:
    """Counts the files below `folder` that lie in none of the folders `taken`."""
    for entry in _list(folder):
        if entry.path not in taken:
            is_folder = entry.is_dir(follow_symlinks=False)
            strays = sum(1 for _ in _walk(entry.path)) if is_folder else 1
            found.files += strays
            found.skipped += Counter({"outside a class folder": strays})


def _check_classes(found: Scan) -> None:
    """Requires two or more classes with training images, and no others in the other splits."""
    if len(found.classes) < 2:
        raise InputError(
            f"only one class ({show(found.classes[0])}) in {show(found.root)}; a classifier needs "
            "a folder for each of two or more classes"
        )
    trained = {photo.label for photo in found.photos["train" if "train" in found.photos else "all"]}
    for label in found.classes:
        if label not in trained:
            raise InputError(
                f"class {show(label)} of {show(found.root)} has no usable images; add some or "
                "remove its folder"
            )
    for split, photos in found.photos.items():
        if not photos:
            raise InputError(
                f"the {split} folder of {show(found.root)} has no usable images; add some or "
                "remove it"
            )
        unknown = sorted({photo.label for photo in photos} - trained)
        if unknown:
            raise InputError(
                f"class {show(unknown[0])} is in the {split} folder of {show(found.root)} but not "
                "in train; add training images for it or remove it"
            )


def _describe_bad(bad: list[tuple[str, str]]) -> str:
    path, reason = bad[0]
    more = f" (and {len(bad) - 1} more; `keras-resnet data check` lists them)" if bad[1:] else ""
    return f"{show(path)}: {reason}{more}; repair or remove it, or use --on-bad-image skip"


def _list(folder: str) -> list[os.DirEntry[str]]:
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        _unreadable(error)


def _unreadable(error: OSError) -> NoReturn:
    raise InputError(f"cannot read folder {show(error.filename)}: {error.strerror}") from None
