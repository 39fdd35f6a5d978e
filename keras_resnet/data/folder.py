"""A folder of images, checked before anything is trained on it.

    CLASS/*.jpg      or      train/CLASS/*.jpg, val|validation/CLASS/*.jpg, test/CLASS/*.jpg

Nothing is dropped in silence: files on disk = used + skipped, each with its reason. What decides
whether a file is an image is its content, read by the decoder that will train, not its name.
A class folder may be a link to a folder elsewhere; links to folders inside it are not followed.
"""

import os
import stat
import unicodedata
import warnings
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_resnet import progress
from keras_resnet.data import examples
from keras_resnet.data.decode import decode_stored
from keras_resnet.data.names import require, show
from keras_resnet.errors import InputError

SPLIT_NAMES = {"train": "train", "val": "val", "validation": "val", "valid": "val", "test": "test"}
DECODED = ("JPEG", "PNG", "GIF", "BMP", "WEBP")  # what TensorFlow reads; Pillow's names
NAMED = ("TIFF", "JPEG2000", "ICO", "PPM", "PSD")  # what a report can call by its name
HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis")
# A 12000×12000 PNG of 420 kB takes 434 MB to decode; no photo needs this many.
MOST_PIXELS = 100_000_000
IMAGE_ENDINGS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp"),
    *(".tif", ".tiff", ".heic", ".heif", ".avif", ".jxl"),
)
EXIF_ORIENTATION = 0x0112


@dataclass
class Photo:
    """A file that is an image by its header."""

    path: str
    name: str  # relative to the folder, for reports and split.json
    label: str
    orientation: int = 1


@dataclass
class Reject:
    """A file that is not used."""

    path: str
    reason: str
    bad: bool = True  # whether it looks like an image that somebody wanted used


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
    require(root)
    found = Scan(os.path.normpath(root))
    candidates = []
    for split, folder in _split_folders(found).items():
        found.photos[split] = []
        candidates += _candidates(found, split, folder)
    for split, path, label in progress.track(
        candidates, len(candidates), "reading headers", "files"
    ):
        _note(found, split, path, label)
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
    looks = [_look(os.path.join(root, name), name, label) for name, label in labelled_names]
    found = Scan(root, photos={"all": [look for look in looks if isinstance(look, Photo)]})
    found.bad = [(look.path, look.reason) for look in looks if isinstance(look, Reject)]
    _check_decodable(found)
    number = {label: i for i, label in enumerate(classes)}
    return _as_examples(found.photos["all"], number), found.bad


def from_paths(paths):
    """Files to predict on, as unlabelled examples and the broken ones: `(examples, bad)`.

    Files that are no images, such as a README, are left out with a note.
    """
    found = Scan(root="", photos={"all": []})
    for path in paths:
        _note(found, "all", path, "")
    for reason, count in found.skipped.items():
        progress.say(f"left out: {reason} ({count})")
    _check_decodable(found)
    return _as_examples(found.photos["all"], {"": 0}), found.bad


def _split_folders(found):
    """{"train": folder, …} where the folder has splits, else {"all": root}."""
    folders = _folders(found, found.root)
    splits = {}
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
            f"sub-folders, and {other} stands beside it; move {other} elsewhere, or the images of "
            f"{name} out of their sub-folders"
        )
    paths = {split: entry.path for split, entry in splits.items()}
    _count_strays(found, found.root, set(paths.values()))
    return paths


def _candidates(found, split, folder):
    """(split, path, class) of every file in the class folders of `folder`; notes the classes."""
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
    return [
        (split, path, entry.name)
        for entry in classes
        for path in _walk(entry.path, on_error=_unreadable)
    ]


def _folders(found, folder):
    """The folders in `folder`, without hidden ones and links that lead back into the data."""
    return [
        entry
        for entry in _list(folder)
        if entry.name[0] != "." and os.path.isdir(entry.path) and not _leads_back(found, entry)
    ]


def _leads_back(found, entry):
    # Such a link would show the same images once more, under another class.
    if not entry.is_symlink():
        return False
    root, target = os.path.realpath(found.root), os.path.realpath(entry.path)
    return os.path.commonpath([root, target]) in (root, target)


def _walk(folder, on_error=None):
    """Every path below `folder` that is no folder, in order; a link to a folder is one path."""
    for parent, folders, files in os.walk(folder, onerror=on_error):
        folders.sort()
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        yield from (os.path.join(parent, name) for name in sorted(files + links))


def _count_strays(found, folder, taken):
    """Counts the files below `folder` that lie in none of the folders `taken`."""
    for entry in _list(folder):
        if entry.path not in taken:
            is_folder = entry.is_dir(follow_symlinks=False)
            strays = sum(1 for _ in _walk(entry.path)) if is_folder else 1
            found.files += strays
            found.skipped += Counter({"outside a class folder": strays})


def _note(found, split, path, label):
    """Counts a file as a photo, as skipped or as bad."""
    found.files += 1
    name = path.removeprefix(os.path.join(found.root, "")) if found.root else path
    inside = name if found.root else os.path.basename(path)
    if inside.startswith(".") or os.sep + "." in inside:
        found.skipped["hidden file"] += 1
        return
    look = _look(path, name, label)
    if isinstance(look, Photo):
        found.photos[split].append(look)
    elif look.bad:
        found.bad.append((look.path, look.reason))
    else:
        found.skipped[look.reason] += 1


def _look(path, name, label):
    """A `Photo` if the file is one by its header, else a `Reject`."""
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            return Reject(path, "link to a folder", bad=False)
        if not stat.S_ISREG(status.st_mode):  # opening a FIFO would wait for ever
            return Reject(path, "not a regular file", bad=False)
        with open(path, "rb") as file:
            return Photo(path, name, label, _orientation(_open_image(file)))
    except _NoImage:
        named_as_image = os.path.splitext(path)[1].lower() in IMAGE_ENDINGS
        reason = "not an image" if status.st_size else "empty file"
        return Reject(path, reason, bad=named_as_image)
    except ValueError as error:
        return Reject(path, str(error))
    except OSError as error:
        return Reject(path, f"cannot be read ({error.strerror or error})")


class _NoImage(Exception):
    pass


def _open_image(file):
    """Pillow's view of an image's header, if TensorFlow can decode the kind."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of malformed headers
            image = Image.open(file, formats=DECODED + NAMED)
    except Image.DecompressionBombError:
        raise ValueError(_TOO_LARGE) from None
    except OSError as error:
        if error.errno:
            raise
        file.seek(4)
        if file.read(4) == b"ftyp" and file.read(4) in HEIF_BRANDS:
            raise ValueError(_WRONG_KIND.format("HEIC and AVIF")) from None
        raise _NoImage from None
    except Exception:  # a rotten header fails in many ways inside Pillow
        raise ValueError("damaged header") from None
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(_TOO_LARGE)
    if image.format in NAMED:
        raise ValueError(_WRONG_KIND.format(image.format))
    if image.format == "BMP" and image.mode in ("1", "P"):  # TensorFlow takes indices for colours
        raise ValueError(_WRONG_KIND.format("palette BMP"))
    return image


_TOO_LARGE = f"more than {MOST_PIXELS // 10**6} million pixels; make it smaller"
_WRONG_KIND = "{} images cannot be decoded; convert to JPEG or PNG"


def _orientation(image):
    """EXIF orientation, 1 to 8; 1 where there is none, or rubbish."""
    try:
        with warnings.catch_warnings(action="ignore"):
            # Not image.getexif(): for a PNG that decodes all of it, to look behind the pixels.
            orientation = Image.Image.getexif(image).get(EXIF_ORIENTATION, 1)
    except Exception:  # as above; the pixels may be good all the same
        return 1
    return orientation if orientation in range(1, 9) else 1


def _check_decodable(found):
    """Decodes every image once, without Python in the loop; moves those that fail to `bad`."""
    photos = [photo for group in found.photos.values() for photo in group]
    if not photos:
        return
    paths = [os.fsencode(photo.path) for photo in photos]
    good = np.zeros(len(photos), bool)
    stream = tf.data.Dataset.from_tensor_slices((np.arange(len(photos)), paths))
    stream = stream.map(_after_decoding, num_parallel_calls=tf.data.AUTOTUNE)
    with progress.bar(len(photos), "checking images", "images") as advance:
        for batch in stream.ignore_errors().batch(64).as_numpy_iterator():
            good[batch] = True
            advance(len(batch))
    broken = {id(photo) for photo, is_good in zip(photos, good, strict=True) if not is_good}
    reason = "cannot be decoded: damaged, or a rare kind"
    for split, group in found.photos.items():
        found.photos[split] = [photo for photo in group if id(photo) not in broken]
        found.bad += [(photo.path, reason) for photo in group if id(photo) in broken]


@tf.function(autograph=False)  # traced once, however many folders are checked
def _after_decoding(number, path):
    pixels = decode_stored(tf.io.read_file(path))
    with tf.control_dependencies([tf.debugging.assert_positive(tf.shape(pixels))]):
        return tf.identity(number)


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
