"""A folder of images, checked before training; `layout` finds its splits and classes.

No file is ignored silently: files on disk = used + skipped, each with a reason. A file is an image
by its content, as decoded in training, not by its name. A class folder may be a link to a folder
elsewhere; links to folders inside a class folder are not followed.
"""

import os
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet.data import layout
from keras_resnet.data.check_files import check_files
from keras_resnet.data.examples import Examples
from keras_resnet.data.names import is_folder, require, show
from keras_resnet.data.photo import File, Photo, Reject
from keras_resnet.data.pixels import Undecodable, decode_stored
from keras_resnet.errors import InputError
from keras_resnet.files import StrPath
from keras_resnet.messages import log

# Minimum of the highest value (of 255) of an image that is not almost black, by bits of its file:
# 12-bit values in a 16-bit file give 15, a camera's 14-bit values 63.
_LEAST_PEAK = {8: 16, 16: 64}
_MOST_16_BIT = 16  # maximum number of 16-bit images whose range is checked before training


@dataclass
class Scan:
    """Result of the check of every file."""

    root: str
    photos: dict[str, list[Photo]] = field(default_factory=dict)  # split -> photos
    above: dict[str, str] = field(default_factory=dict)  # split -> folder of its class folders
    images: Examples = field(init=False)  # all photos, in order, after the check
    folders: list[str] = field(default_factory=list)  # class folders, of the train split if any
    classes: list[str] = field(default_factory=list)  # these, then others with images
    files: int = 0
    skipped: Counter[str] = field(default_factory=Counter)  # reason -> number of other files
    examples: dict[str, str] = field(default_factory=dict)  # reason -> path of one such file
    bad: list[tuple[str, str]] = field(default_factory=list)  # (path, reason) of broken images

    @property
    def used(self) -> int:
        """The number of photos."""
        return sum(map(len, self.photos.values()))

    @property
    def side(self) -> int | None:
        """The median of the shorter sides of the photos, in pixels."""
        headers = [photo.header for photos in self.photos.values() for photo in photos]
        sides = [min(header.width, header.height) for header in headers]
        return int(np.median(sides)) if sides else None

    def skip(self, path: str, reason: str) -> None:
        """Counts a file that is not an image."""
        self.skipped[reason] += 1
        self.examples.setdefault(reason, path)

    def report(self) -> dict[str, Any]:
        """The content of `data check --json`."""
        bad = Counter(reason for _, reason in self.bad)
        counts = Counter(photo.label for photos in self.photos.values() for photo in photos)
        return {
            "files": self.files,
            "used": self.used,
            "skipped": dict(self.skipped + bad),
            "skipped_examples": {reason: show(path) for reason, path in self.examples.items()},
            "classes": {label: counts[label] for label in self.classes},
            "splits": {split: len(photos) for split, photos in self.photos.items()},
            "bad": [{"file": show(path), "reason": reason} for path, reason in self.bad],
        }


def scan(
    root: StrPath,
    *,
    check: str = "full",
    in_memory: bool = False,
    look: bool = False,
    nested: bool = False,
    classes: Collection[str] = (),
) -> Scan:
    """Checks every file under `root`; a broken file is recorded and raises no error.

    Args:
        root: the data folder.
        check: `"full"`: decode each image, unless an earlier check found it good; `"headers"`: only
            read the headers.
        in_memory: whether to keep small images decoded in memory.
        look: whether to decode every file, regardless of earlier checks, and set the `Look` of each
            photo.
        nested, classes: as in `layout.find`.

    Raises:
        InputError: no such folder, an unreadable folder, or as in `layout.find`.
    """
    require(root)
    found = Scan(os.path.normpath(root))
    folders = layout.find(found.root, nested=nested, classes=classes)
    found.files += len(folders.strays)
    for stray in folders.strays:
        found.skip(*stray)
    candidates: list[tuple[str, File]] = []
    for split, entries in folders.classes.items():
        found.photos[split] = []
        found.above[split] = os.path.dirname(entries[0].path)
        candidates += [(split, file) for file in _files_of(found.root, entries)]
    first = "all" if "all" in folders.classes else "train"
    found.folders = [entry.name for entry in folders.classes[first]]
    looked_at = []
    for split, file in candidates:
        if reason := layout.reason_to_skip(file[1]):
            found.skip(file[0], reason)
        else:
            looked_at.append((split, file))
    results, found.images = check_files(
        found.root,
        [file for _, file in looked_at],
        check=check,
        in_memory=in_memory,
        fresh=look,
        look=look,
        is_whole=True,
    )
    found.files += len(candidates)
    for (split, _), result in zip(looked_at, results, strict=True):
        _note(found, split, result)
    labels = {photo.label for photos in found.photos.values() for photo in photos}
    found.classes = [*found.folders, *sorted(labels.difference(found.folders))]
    return found


def load(
    root: StrPath,
    *,
    on_bad_image: str | None = None,
    check: str = "full",
    in_memory: bool = False,
    nested: bool = False,
    classes: Collection[str] = (),
) -> Scan:
    """`scan` of a folder for training or evaluation, with errors for unusable data.

    Args:
        root, check, in_memory, nested, classes: as in `scan`.
        on_bad_image: `"error"` or `"skip"`; None: an error of a command without this option.

    Raises:
        InputError: as in `scan`; no usable images; or a broken file that is not to be skipped.
    """
    found = scan(root, check=check, in_memory=in_memory, nested=nested, classes=classes)
    if found.bad and on_bad_image != "skip":
        raise InputError(describe_bad(found.bad, can_skip=on_bad_image is not None))
    for path, reason in found.bad[:1]:
        log.warning(f"{show(path)}: {reason}{_and_more(found.bad)}; skipped")
    if not found.used:
        raise InputError(
            f"{show(found.root)} has no usable images; `keras-resnet data check` says why each "
            "file is skipped"
        )
    _warn_of_narrow_images(found)
    return found


def by_split(found: Scan) -> dict[str, Examples]:
    """The photos of each split, as `Examples`."""
    images, splits, first = _labelled(found, found.classes), {}, 0
    for split, photos in found.photos.items():
        taken = images.take(range(first, first + len(photos)))
        splits[split] = replace(taken, folders=list(_below(photos, found.above[split])))
        first += len(photos)
    return splits


def _below(photos: Iterable[Photo], above: str) -> Iterator[str]:
    """The folder of each photo, relative to its class folder in `above`."""
    for photo in photos:
        class_folder = os.path.join(above, photo.label, "")
        yield os.path.dirname(photo.path.removeprefix(class_folder))


def obstacles(found: Scan) -> list[str]:
    """Messages why training cannot use the folder: it needs two or more classes with training
    images, and no further classes in other splits."""
    root, lines = show(found.root), []
    trained = {photo.label for photo in found.photos["train" if "train" in found.photos else "all"]}
    if len(found.folders) < 2:
        lines.append(
            f"only one class ({show(found.folders[0])}) in {root}; a classifier needs two or more "
            f"classes, with a folder for each; {layout.EXPECTED}"
        )
    lines += [
        f"class {show(label)} of {root} has no usable images; add some or remove its folder"
        for label in found.folders
        if label not in trained
    ]
    for split, photos in found.photos.items():
        if not photos and split != "all":
            lines.append(
                f"the {split} folder of {root} has no usable images; add some or remove it"
            )
        for label in sorted({photo.label for photo in photos} - trained):
            place = f"is in the {split} folder of {root}"
            for name in found.folders:
                if layout.same_name(name, label):
                    lines.append(
                        f"class {label!a} {place}, and {name!a} in train; give both the same name"
                    )
                    break
            else:
                lines.append(
                    f"class {show(label)} {place} but not in train; add training images for it or "
                    "remove it"
                )
    return lines


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
    """The files of a saved split, checked as in `load`: `(examples, scan)`.

    Args:
        root: the data folder.
        labelled_names: pairs of name, relative to `root`, and class.
        classes: the run's class names, in order.
        check, in_memory: as in `scan`.
        fresh, checked_until: as in `check_files`.
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


def from_paths(paths: Mapping[str, str]) -> tuple[Examples, list[tuple[str, str]]]:
    """Files for prediction: `(examples, bad)`, unlabelled images and (path, reason) of broken ones.

    Hidden files, and files that are not images, such as a README, are skipped with a message.

    Args:
        paths: path -> name, relative to the given folder, if any.
    """
    found, files = Scan(root="", photos={"all": []}), []
    for path, name in paths.items():
        if reason := layout.reason_to_skip(name):
            found.skip(path, reason)
        else:
            files.append((path, path, ""))
    results, images = check_files("", files)
    for result in results:
        _note(found, "all", result)
    for reason, count in (+found.skipped).items():
        log.info(f"skipped: {reason} ({count})")
    return images, found.bad


def read_errors() -> tuple[type[Exception], ...]:
    """Exception types for a file that cannot be read or decoded; they do not name the file."""
    if "tensorflow" not in sys.modules:
        return (Undecodable,)
    from tensorflow import errors

    return (
        Undecodable,
        errors.InvalidArgumentError,
        errors.NotFoundError,
        errors.PermissionDeniedError,
        errors.UnknownError,
    )


def find_broken(root: StrPath, names: Iterable[str]) -> tuple[str, str] | None:
    """(path, reason) of the first unreadable file of a data folder; None if all can be decoded."""
    labelled = [(name, "") for name in names]
    for fresh in (False, True):  # files that changed since their check come first
        _, found = from_names(root, labelled, [""], fresh=fresh)
        if found.bad:
            return found.bad[0]
    return None


@contextmanager
def naming_broken(
    data: StrPath, images: Callable[[], Iterable[str]], error: Callable[[str, str], Exception]
) -> Iterator[None]:
    """Replaces the error of an unreadable image by one that names the file.

    A file may have changed since its check, or only its header may have been checked.

    Args:
        data: a folder; errors for other sources are not replaced.
        images: returns the names of the images.
        error: makes the exception from path and reason.
    """
    try:
        yield
    except read_errors():
        broken = is_folder(data) and find_broken(data, images())
        if not broken:
            raise
        path, reason = broken
        raise error(show(path), reason) from None


def _note(found: Scan, split: str, result: Photo | Reject) -> None:
    """Records the result of a check as a photo, a skipped or a bad file."""
    if isinstance(result, Photo):
        found.photos[split].append(result)
    elif result.bad:
        found.bad.append((result.path, result.reason))
    else:
        found.skip(result.path, result.reason)


def _warn_of_narrow_images(found: Scan) -> None:
    """Logs a warning if one of the first 16-bit images uses only a small part of its range."""
    photos = [p for group in found.photos.values() for p in group if p.header.bits == 16]
    for photo in photos[:_MOST_16_BIT]:
        peak = int(decode_stored(Path(photo.path).read_bytes()).max())
        if reason := narrow_range(peak, 16):
            log.warning(f"{show(photo.path)} {reason}; `keras-resnet data check` lists all")
            return


def narrow_range(peak: int, bits: int) -> str:
    """The reason, for a message, why an image is almost black; "" if it is not.

    Args:
        peak: highest value of the decoded pixels, of 255.
        bits: bits per value in the file, 8 or 16.
    """
    if peak >= _LEAST_PEAK[bits]:
        return ""
    if bits == 16:
        return f"uses 0 to {peak} of 255: fewer than 16 bits in a 16-bit file; scale its values up"
    return f"uses 0 to {peak} of 255: almost black; scale its values up, or remove it"


def _labelled(found: Scan, classes: Sequence[str]) -> Examples:
    number = {label: i for i, label in enumerate(classes)}
    photos = chain.from_iterable(found.photos.values())
    labels = np.array([number[photo.label] for photo in photos], np.int32)
    return replace(found.images, labels=labels)


def _files_of(root: str, entries: Iterable[os.DirEntry[str]]) -> list[File]:
    """Path, name and class of every file in these class folders."""
    inside = os.path.join(root, "")
    return [
        (path, path.removeprefix(inside), entry.name)
        for entry in entries
        for path in layout.walk(entry.path, on_error=layout.unreadable)
    ]


def describe_bad(bad: list[tuple[str, str]], *, can_skip: bool = True) -> str:
    """The error message for broken files, given (path, reason) of each."""
    path, reason = bad[0]
    skip = ", or use --on-bad-image skip" if can_skip else ""
    return f"{show(path)}: {reason}{_and_more(bad)}; repair or remove it{skip}"


def _and_more(bad: list[tuple[str, str]]) -> str:
    return f" (and {len(bad) - 1} more; `keras-resnet data check` lists them)" if bad[1:] else ""
