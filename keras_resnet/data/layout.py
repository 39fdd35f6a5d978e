"""Finds the folders that are splits and those that are classes.

    CLASS/*.jpg      or      train/CLASS/*.jpg, val/CLASS/*.jpg, test/CLASS/*.jpg

An ambiguous layout is an error: a split that is learned as a class does not show in any score.
"""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import NoReturn

from keras_resnet.data.names import show
from keras_resnet.data.photo import IMAGE_ENDINGS
from keras_resnet.errors import InputError
from keras_resnet.filenames import CONFIG, LABELS, STUDY
from keras_resnet.messages import log

_SPLIT_WORDS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "validate": "val", "dev": "val",
    "test": "test", "testing": "test", "tests": "test",
}  # fmt: skip
# Such as "Training", "test_set", "seg_train".
_SPLIT_NAME = re.compile(
    rf"(?:[^\W_]+[ _-])?({'|'.join(_SPLIT_WORDS)})(?:[ _-]?(?:set|data|dataset|images|split))?"
)
# Common names of a folder between the data folder and the class folders, as in many archives.
_WRAPPERS = ("images", "image", "imgs", "img", "data", "dataset", "photos", "pictures")
# Folders that operating systems, archives and network drives add.
_SYSTEM = (
    "__macosx", "lost+found", "@eadir", "#recycle", "@recycle", "$recycle.bin", "__pycache__",
    "system volume information",
)  # fmt: skip
OUTSIDE, HIDDEN, SYSTEM = "outside a class folder", "hidden file", "in a system folder"
RUN = "in a folder of runs"
EXPECTED = "expected: CLASS/*.jpg, or train/CLASS/*.jpg, val/CLASS/*.jpg and test/CLASS/*.jpg"


@dataclass
class Layout:
    """The class folders of a data folder."""

    # "train", "val", "test", or "all" -> class folders
    classes: dict[str, list[os.DirEntry[str]]]
    # (path, reason) of the files outside of class folders
    strays: list[tuple[str, str]] = field(default_factory=list)


def find(root: str, *, nested: bool = False, classes: Collection[str] = ()) -> Layout:
    """Returns the layout of a data folder.

    Args:
        root: the data folder.
        nested: whether class folders may consist of folders with the same names in each class, such
            as one per person.
        classes: known class names, if any.

    Raises:
        InputError: no class folders, an ambiguous layout, names of classes that differ only in
            case, spaces or Unicode form, a run folder, or a folder that cannot be read.
    """
    if _is_run(root):
        raise InputError(f"{show(root)} is a run folder; give the folder of the photos")
    inner = _inside(root, root, classes)
    splits = _split_folders(root, inner)
    layout = Layout({})
    for split, folder in splits.items():
        layout.classes[split] = _class_folders(root, folder)
    if "all" in splits and not nested:
        _require_classes(root, layout.classes["all"], classes)
    layout.strays += _strays(root, {e.path for group in layout.classes.values() for e in group})
    return layout


def reason_to_skip(name: str) -> str | None:
    """Why a file of this relative name is skipped without opening it; None if it is not skipped."""
    parts = name.split(os.sep)
    if any(part.startswith(".") for part in parts):
        return HIDDEN
    return SYSTEM if any(part.lower() in _SYSTEM for part in parts[:-1]) else None


def same_name(one: str, other: str) -> bool:
    """Whether two class names are equal except for case, outer spaces or Unicode form."""
    return _key(one) == _key(other)


def walk(folder: str, on_error: Callable[[OSError], object] | None = None) -> Iterator[str]:
    """Yields every file below `folder`, in order; a link to a folder counts as a file."""
    for parent, folders, files in os.walk(folder, onerror=on_error):
        folders.sort()
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        yield from (os.path.join(parent, name) for name in sorted(files + links))


def unreadable(error: OSError) -> NoReturn:
    """Raises the `InputError` for a folder that cannot be read."""
    raise InputError(f"cannot read folder {show(error.filename)}: {error.strerror}") from None


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip().casefold()


def _split_of(name: str) -> str | None:
    match = _SPLIT_NAME.fullmatch(name.lower())
    return _SPLIT_WORDS[match[1]] if match else None


def _inside(root: str, folder: str, classes: Collection[str]) -> str:
    """The folder with the splits or classes: `folder`, or its only sub-folder if that is a wrapper,
    such as an archive's unpacked into a folder of the same name."""
    entries = _folders(root, folder)
    if len(entries) != 1 or entries[0].name in classes or _has_images(entries[0].path):
        return folder
    (entry,) = entries
    below = _folders(root, entry.path)
    is_twice = _key(entry.name) == _key(os.path.basename(os.path.abspath(folder)))
    if not below or (_split_of(entry.name) and not is_twice):
        return folder
    has_splits = all(_split_of(b.name) and _folders(root, b.path) for b in below)
    if is_twice or has_splits or _key(entry.name) in _WRAPPERS:
        log.info(f"the class folders of {show(folder)} are in {show(entry.path)}")
        return _inside(root, entry.path, classes)
    if len(below) > 1 and folder == root:
        raise InputError(
            f"{show(root)} has only one folder, {show(entry.name)}, with {len(below)} folders in "
            f"it; if they are the classes, give {show(entry.path)}; {EXPECTED}"
        )
    return folder


def _split_folders(root: str, inner: str) -> dict[str, str]:
    """{"train": folder, …} if `inner` has splits, else {"all": inner}."""
    folders = _folders(root, inner)
    splits: dict[str, os.DirEntry[str]] = {}
    for entry in folders:
        split = _split_of(entry.name)
        if split and _folders(root, entry.path):  # otherwise a class called "train"
            if split in splits:
                raise InputError(
                    f"{show(inner)} has two folders for the {split} split: "
                    f"{show(splits[split].name)} and {show(entry.name)}; keep one"
                )
            splits[split] = entry
    if not splits:
        return {"all": inner}
    if "train" not in splits and len(splits) == len(folders):
        raise InputError(
            f"{show(inner)} has {' and '.join(splits)} but no train folder; add "
            "train/CLASS/…, or give the folder that holds the class folders"
        )
    if "train" not in splits or (len(splits) == 1 and len(folders) > 1):
        (entry, *_), others = splits.values(), [e for e in folders if e not in splits.values()]
        name, other = show(entry.name), show(others[0].name)
        raise InputError(
            f"cannot tell whether {name} in {show(inner)} is a split or a class: it has "
            f"sub-folders, and {other} is next to it; move {other} elsewhere, or the images of "
            f"{name} out of their sub-folders"
        )
    order = [split for split in ("train", "val", "test") if split in splits]
    return {split: _inside(root, splits[split].path, ()) for split in order}


def _class_folders(root: str, folder: str) -> list[os.DirEntry[str]]:
    entries = _folders(root, folder)
    if not entries:
        raise InputError(
            f"no class folders in {show(folder)}; put the images of each class into a sub-folder "
            f"with the name of the class; {EXPECTED}"
        )
    alike = defaultdict(list)
    for entry in entries:
        if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in entry.name):
            raise InputError(
                f"the name of class folder {show(entry.path)} has a control character, a line "
                "break, or bytes that are not UTF-8; rename it"
            )
        alike[_key(entry.name)].append(entry.name)
    for names in alike.values():
        if len(names) > 1:
            first, second = map(ascii, names[:2])  # they may look the same
            raise InputError(
                f"class folders {first} and {second} in {show(folder)} differ only in case, spaces "
                "or Unicode form; merge them, or rename one"
            )
    return entries


def _require_classes(root: str, entries: list[os.DirEntry[str]], classes: Collection[str]) -> None:
    """Raises InputError if these folders may be splits with unknown names: they contain the same
    folders, and no images."""
    if len(entries) < 2 or all(entry.name in classes for entry in entries):
        return
    if any(_has_images(entry.path) for entry in entries):
        return
    below = [{e.name for e in _folders(root, entry.path)} for entry in entries]
    common = sorted(set.intersection(*below))
    if len(common) < 2:
        return
    first, second = (show(entry.name) for entry in entries[:2])
    raise InputError(
        f"cannot tell whether {first} and {second} in {show(root)} are splits or classes: both "
        f"have folders {show(common[0])} and {show(common[1])}, and no images outside them; name "
        "splits train, val and test; if they are classes, give --group-by parent, which keeps the "
        "images of a sub-folder in one split"
    )


def _has_images(folder: str) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(
                entry.name[0] != "." and os.path.splitext(entry.name)[1].lower() in IMAGE_ENDINGS
                for entry in entries
            )
    except OSError as error:
        unreadable(error)


def _folders(root: str, folder: str) -> list[os.DirEntry[str]]:
    """The folders in `folder`, except system and hidden ones, runs, and links into the data."""
    return [
        entry
        for entry in _list(folder)
        if entry.name[0] != "."
        and entry.name.lower() not in _SYSTEM
        and (entry.is_dir(follow_symlinks=False) or _is_link_to_folder(entry))
        and not _leads_back(root, entry)
        and not _holds_runs(entry.path)
    ]


def _is_run(folder: str) -> bool:
    return all(os.path.isfile(os.path.join(folder, name)) for name in (CONFIG, LABELS))


def _holds_runs(folder: str) -> bool:
    """Whether a folder is a run or, like `runs/`, contains runs: `train` was called there."""
    if _is_run(folder):
        return True
    if _has_images(folder):
        return False
    # Before its first training, a study has no run.
    return os.path.isfile(os.path.join(folder, STUDY)) or any(
        entry.is_dir(follow_symlinks=False) and _holds_runs(entry.path) for entry in _list(folder)
    )


def _is_link_to_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and os.path.isdir(entry.path)  # entry.is_dir() fails on a loop


def _leads_back(root: str, entry: os.DirEntry[str]) -> bool:
    # Such a link would add the same images to another class.
    if not entry.is_symlink():
        return False
    root, target = os.path.realpath(root), os.path.realpath(entry.path)
    return os.path.commonpath([root, target]) in (root, target)


def _strays(folder: str, classes: Collection[str]) -> Iterator[tuple[str, str]]:
    """(path, reason) of the files below `folder` that are outside of the class folders."""
    for entry in _list(folder):
        if entry.path in classes:
            continue
        if any(path.startswith(os.path.join(entry.path, "")) for path in classes):
            yield from _strays(entry.path, classes)
            continue
        is_folder = entry.is_dir(follow_symlinks=False)
        if not is_folder:
            yield entry.path, OUTSIDE
            continue
        reason = reason_to_skip(os.path.join(entry.name, ""))
        reason = reason or (RUN if _holds_runs(entry.path) else OUTSIDE)
        yield from ((path, reason) for path in walk(entry.path))


def _list(folder: str) -> list[os.DirEntry[str]]:
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        unreadable(error)
