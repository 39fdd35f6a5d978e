"""A folder of images, checked before anything is trained on it.

    CLASS/*.jpg      or      train/CLASS/*.jpg, val|validation/CLASS/*.jpg, test/CLASS/*.jpg

Nothing is dropped in silence: files on disk = used + skipped, each with its reason. What decides
whether a file is an image is its content, read by the decoder that will train, not its name.
"""

import os
import stat
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_resnet.data import examples
from keras_resnet.data.decode import decode
from keras_resnet.errors import InputError
from keras_resnet.progress import track

SPLIT_NAMES = {"train": "train", "val": "val", "validation": "val", "valid": "val", "test": "test"}
DECODED = ("JPEG", "MPO", "PNG", "GIF", "BMP", "WEBP")  # Pillow's names; MPO is a phone's JPEG
# A 12000×12000 PNG of 420 kB takes 434 MB to decode; no photo needs this many.
MOST_PIXELS = 100_000_000
IMAGE_ENDINGS = frozenset(
    ".jpg .jpeg .jpe .jfif .png .gif .bmp .webp .tif .tiff .heic .heif .avif .jxl".split()
)


@dataclass
class Photo:
    """A file that is an image by its header."""

    path: str
    name: str  # relative to the folder, for reports and split.json
    label: str
    orientation: int = 1


@dataclass
class Scan:
    """What a look at every file found."""

    root: str
    photos: dict[str, list[Photo]] = field(default_factory=dict)  # split -> photos
    classes: list[str] = field(default_factory=list)
    files: int = 0
    skipped: Counter = field(default_factory=Counter)  # reason -> files that are no images
    bad: list[tuple[str, str]] = field(default_factory=list)  # (path, reason): meant as images

    @property
    def used(self):
        return sum(map(len, self.photos.values()))

    def report(self):
        """The contract of `data check --json`."""
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


def scan(root):
    """Looks at every file under `root`; a broken file is noted, not an error.

    Raises:
        InputError: no such folder, no class folders, a folder that cannot be read.
    """
    root = os.path.normpath(root)
    if not os.path.isdir(root):
        what = "is a file, not a folder" if os.path.exists(root) else "does not exist"
        raise InputError(
            f"data folder {show(root)} {what}; give a folder with one sub-folder a class, "
            "tfds:NAME, or digits"
        )
    found = Scan(root)
    for split, folder in _split_folders(found).items():
        _scan_split(found, split, folder)
    _check_decodable(found)
    return found


def load(root, *, on_bad_image="error"):
    """A folder as examples by split, and its class names: `(splits, classes, scan)`.

    Raises:
        InputError: as `scan`; a class without images, one class only; and, with
            `on_bad_image="error"`, a broken file.
    """
    found = scan(root)
    if found.bad and on_bad_image == "error":
        raise InputError(_describe_bad(found.bad))
    _check_classes(found)
    number = {label: i for i, label in enumerate(found.classes)}
    splits = {
        split: _as_examples(photos, number) for split, photos in found.photos.items() if photos
    }
    return splits, found.classes, found


def from_names(root, labelled_names, classes):
    """The files of a saved split, checked as `load` does: `(examples, bad)`.

    Args:
        root: the data folder.
        labelled_names: pairs of name, relative to `root`, and class.
        classes: the run's class names, in order.
    """
    found = Scan(root)
    found.photos["all"] = [
        photo
        for name, label in labelled_names
        if (photo := _look(found, os.path.join(root, name), name, label))
    ]
    _check_decodable(found)
    number = {label: i for i, label in enumerate(classes)}
    return _as_examples(found.photos["all"], number), found.bad


def from_paths(paths):
    """Files to predict on, as unlabelled examples and the broken ones: `(examples, bad)`."""
    found = Scan(root="")
    photos = [photo for path in paths if (photo := _look(found, path, path, ""))]
    found.photos["all"] = photos
    _check_decodable(found)
    return _as_examples(found.photos["all"], {"": 0}), found.bad


def show(path):
    """A path as text that any terminal and JSON can hold, whatever its bytes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _split_folders(found):
    """{"train": folder, …} where the folder has splits, else {"all": root}."""
    folders = [entry for entry in _list(found.root) if entry.is_dir() and entry.name[0] != "."]
    splits = {}
    for entry in folders:
        split = SPLIT_NAMES.get(entry.name.lower())
        if split and any(inner.is_dir() for inner in _list(entry.path)):
            if split in splits:
                raise InputError(
                    f"{show(found.root)} has two folders for the {split} split: "
                    f"{show(os.path.basename(splits[split]))} and {show(entry.name)}; keep one"
                )
            splits[split] = entry.path
    if len(splits) == len(folders) and splits and "train" not in splits:
        raise InputError(
            f"{show(found.root)} has {' and '.join(splits)} but no train folder; add "
            "train/CLASS/…, or give the folder that holds the class folders"
        )
    if "train" not in splits or (len(splits) == 1 and len(folders) > 1):
        splits = {"all": found.root}  # a class may well be called "train"
    else:
        _count_strays(found, found.root, set(splits.values()))
    return splits


def _scan_split(found, split, folder):
    classes = [entry for entry in _list(folder) if entry.is_dir() and entry.name[0] != "."]
    if not classes:
        raise InputError(
            f"no class folders in {show(folder)}; put the images of each class into a sub-folder "
            "with the name of the class"
        )
    found.photos[split] = []
    for entry in classes:
        if "\n" in entry.name:
            raise InputError(f"class folder {entry.name!r} has a line break in its name; rename it")
        if split in ("all", "train"):
            found.classes.append(entry.name)
        for path in _walk(entry.path):
            name = os.path.relpath(path, found.root)
            if photo := _look(found, path, name, entry.name):
                found.photos[split].append(photo)
    _count_strays(found, folder, {entry.path for entry in classes})


def _walk(folder):
    """Every path below `folder` that is no folder, in order; a folder is entered once, by links too."""
    seen = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=_unreadable):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        yield from (os.path.join(parent, name) for name in sorted(files))


def _look(found, path, name, label):
    """A `Photo` if the file is one by its header; else notes why not."""
    found.files += 1
    base = os.path.basename(path)
    if base.startswith("."):
        found.skipped["hidden file"] += 1
        return None
    named_as_image = os.path.splitext(base)[1].lower() in IMAGE_ENDINGS
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # opening a FIFO would wait for ever
            found.skipped["not a regular file"] += 1
            return None
        if status.st_size == 0:
            raise ValueError("empty file")
        kind, (width, height), orientation = _header(path)
        if kind not in DECODED:
            raise ValueError(f"{kind} images cannot be decoded; convert to JPEG or PNG")
        if width * height > MOST_PIXELS:
            raise ValueError(f"more than {MOST_PIXELS // 10**6} million pixels")
    except OSError as error:
        found.bad.append((path, f"cannot be read ({error.strerror or error})"))
        return None
    except ValueError as error:
        if named_as_image or str(error) != "not an image":
            found.bad.append((path, str(error)))
        else:
            found.skipped["not an image"] += 1
        return None
    return Photo(path, name, label, orientation)


def _header(path):
    """(format, (width, height), EXIF orientation), from the first bytes."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # our own limit has a better line
    try:
        with open(path, "rb") as file:
            try:
                image = Image.open(file)
                orientation = image.getexif().get(0x0112, 1)
            except OSError as error:
                raise error if error.errno else ValueError("not an image") from None
            except Exception:  # a rotten header fails in many ways inside Pillow
                raise ValueError("damaged header") from None
            good = isinstance(orientation, int) and 1 <= orientation <= 8
            return image.format, image.size, orientation if good else 1
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _check_decodable(found):
    """Decodes every image once, without Python in the loop; moves those that fail to `bad`."""
    photos = [photo for group in found.photos.values() for photo in group]
    if not photos:
        return
    paths = tf.constant([os.fsencode(photo.path) for photo in photos])

    def probe(i):
        shape = tf.shape(decode(tf.io.read_file(tf.gather(paths, i))))
        with tf.control_dependencies([tf.debugging.assert_positive(shape)]):
            return tf.identity(i)

    stream = tf.data.Dataset.range(len(photos)).map(probe, num_parallel_calls=tf.data.AUTOTUNE)
    good = set()
    for i in track(
        stream.ignore_errors().as_numpy_iterator(), len(photos), "checking images", "images"
    ):
        good.add(int(i))
    broken = {id(photo) for i, photo in enumerate(photos) if i not in good}
    for split, group in found.photos.items():
        found.photos[split] = [photo for photo in group if id(photo) not in broken]
        found.bad += [(p.path, "damaged: it cannot be decoded") for p in group if id(p) in broken]


def _count_strays(found, folder, taken):
    """Counts the files below `folder` that lie in none of the folders `taken`."""
    for entry in _list(folder):
        if entry.path not in taken:
            strays = sum(1 for _ in _walk(entry.path)) if entry.is_dir() else 1
            found.files += strays
            if strays:
                found.skipped["outside a class folder"] += strays


def _check_classes(found):
    """Two or more classes, each with training images; the other splits know no further class."""
    if len(found.classes) < 2:
        raise InputError(
            f"only one class ({show(found.classes[0])}) in {show(found.root)}; a classifier needs "
            "a folder for each of two or more classes"
        )
    trained = {photo.label for photo in found.photos.get("train", found.photos.get("all"))}
    for label in found.classes:
        if label not in trained:
            raise InputError(
                f"class {show(label)} of {show(found.root)} has no usable images; add some or "
                "remove its folder"
            )
    for split, photos in found.photos.items():
        unknown = sorted({photo.label for photo in photos} - trained)
        if unknown:
            raise InputError(
                f"class {show(unknown[0])} is in the {split} folder of {show(found.root)} but not "
                "in train; add training images for it or remove it"
            )


def _as_examples(photos, number):
    return examples.from_files(
        [os.fsencode(photo.path) for photo in photos],
        [number[photo.label] for photo in photos],
        [photo.name for photo in photos],
        np.array([photo.orientation for photo in photos], np.int32),
    )


def _describe_bad(bad):
    path, reason = bad[0]
    more = f" (and {len(bad) - 1} more; `keras-resnet data check` lists them)" if bad[1:] else ""
    return f"{show(path)}: {reason}{more}; repair or remove it, or use --on-bad-image skip"


def _list(folder):
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        _unreadable(error)


def _unreadable(error):
    raise InputError(f"cannot read folder {show(error.filename)}: {error.strerror}") from None
