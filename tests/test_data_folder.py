"""Image folders: each file is used, or skipped with a reason, or reported in one line."""

import io
import os
import struct
import zlib
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from keras_resnet.cli.tables import data_check
from keras_resnet.data import folder
from keras_resnet.data.check import check, sample
from keras_resnet.data.decode import decode
from keras_resnet.data.names import show
from keras_resnet.data.sources import load, load_all
from keras_resnet.errors import InputError


def _picture(seed=0, width=40, height=30):
    y, x = np.mgrid[0 : 3 : height * 1j, 0 : 3 : width * 1j]
    waves = [np.sin(x + y + seed), np.cos(y - x * seed), np.sin(x * y + seed)]
    return Image.fromarray(np.uint8(np.stack(waves, -1) * 110 + 128))


PHOTO = _picture()
CLEAR = PHOTO.convert("RGBA")
CLEAR.putalpha(Image.linear_gradient("L").resize(PHOTO.size))
PALETTE = PHOTO.convert("P", palette=Image.Palette.ADAPTIVE, colors=16)
NOISE = Image.effect_noise((90, 70), 80).convert("RGB")


def _encode(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _chunk(kind, data, crc=None):
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", crc or zlib.crc32(body))


def _png(width, height, pixels=b""):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(pixels)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def _interlaced_png():
    """3×3 red, in the seven passes of Adam7."""
    red = b"\xff\x00\x00"
    rows = b"".join(
        b"\0" + red * columns
        for height, columns in [(1, 1), (0, 0), (0, 0), (1, 1), (1, 2), (2, 1), (1, 3)]
        for _ in range(height)
    )
    header = struct.pack(">IIBBBBB", 3, 3, 8, 2, 0, 0, 1)
    data = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def _flip(data, place):
    return data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :]


def _resized(data, height, width):
    """A JPEG whose header says another size."""
    place = data.index(b"\xff\xc0") + 5
    return data[:place] + struct.pack(">HH", height, width) + data[place + 4 :]


def _with_exif(body):
    exif = b"Exif\0\0" + body
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    return JPEG[:2] + segment + JPEG[2:]


JPEG = _encode(PHOTO, "JPEG")
NOISY = _encode(NOISE, "JPEG")
PNG = _encode(NOISE, "PNG")
FRAMED = NOISE.copy()
FRAMED.paste("white", (0, 50, 90, 70))
USED, SKIPPED, BAD = "used", "skipped", "bad"
NARROW = "used, but almost black"
TOO_LARGE = "more than 100 million pixels; make it smaller"
UNDECODABLE = "cannot be decoded: damaged, or an unsupported format"

FILES = {
    # what it is: (its name, its content or how to make it, what becomes of it, the reason)
    "an RGB JPEG": ("x.jpg", JPEG, USED, ""),
    "a grey JPEG": ("x.jpg", _encode(PHOTO.convert("L"), "JPEG"), USED, ""),
    "a CMYK JPEG": ("x.jpg", _encode(PHOTO.convert("CMYK"), "JPEG"), USED, ""),
    "a progressive JPEG": ("x.jpg", _encode(PHOTO, "JPEG", progressive=True), USED, ""),
    "a phone's JPEG of several pictures": (
        "x.jpg",
        _encode(PHOTO, "MPO", save_all=True, append_images=[NOISE]),
        USED,
        "",
    ),
    "a JPEG with rubbish behind it": ("x.jpg", JPEG + b"rubbish" * 99, USED, ""),
    "a JPEG cut in its pixels": ("x.jpg", NOISY[: len(NOISY) // 2], BAD, UNDECODABLE),
    "a JPEG cut near its end": ("x.jpg", NOISY[: len(NOISY) * 9 // 10], BAD, UNDECODABLE),
    "a JPEG cut in its header": ("x.jpg", JPEG[:300], BAD, None),
    "a JPEG cut in its Exif": ("x.jpg", _with_exif(bytes(2000))[:600], BAD, "damaged header"),
    "a PNG cut in its first chunk": ("x.png", PNG[:20], BAD, "damaged header"),
    "a JPEG cut after two bytes": ("x.jpg", JPEG[:2], BAD, "not an image"),
    "a JPEG of nothing but a header": ("x.jpg", JPEG[: JPEG.index(b"\xff\xda")], BAD, None),
    "a JPEG whose header says more rows than there are": (
        "x.jpg",
        _resized(NOISY, 140, 90),
        BAD,
        UNDECODABLE,
    ),
    "a JPEG whose header says more columns than there are": (
        "x.jpg",
        _resized(NOISY, 70, 180),
        BAD,
        UNDECODABLE,
    ),
    "a small JPEG that says it has 81 million pixels": (
        "x.jpg",
        _resized(NOISY, 9000, 9000),
        BAD,
        UNDECODABLE,
    ),
    "a small JPEG that says it has 108 million pixels, as a phone's": (
        "x.jpg",
        _resized(NOISY, 9000, 12000),
        BAD,
        UNDECODABLE,
    ),
    "a JPEG that says it has 160 million pixels": (
        "x.jpg",
        _resized(NOISY, 10000, 16000),
        BAD,
        "more than 150 million pixels; make it smaller",
    ),
    "a JPEG that says it has 4 billion pixels": (
        "x.jpg",
        _resized(NOISY, 65500, 65500),
        BAD,
        "more than 150 million pixels; make it smaller",
    ),
    "a JPEG of no height": ("x.jpg", _resized(NOISY, 0, 90), BAD, None),
    "a JPEG with a plain corner": ("x.jpg", _encode(FRAMED, "JPEG"), USED, ""),
    "a progressive JPEG with a plain corner": (
        "x.jpg",
        _encode(FRAMED, "JPEG", progressive=True, quality=30),
        USED,
        "",
    ),
    "a JPEG named .heic": ("x.heic", JPEG, USED, ""),
    "a JPEG named .png": ("x.png", JPEG, USED, ""),
    "a JPEG without an ending": ("x", JPEG, USED, ""),
    "a JPEG named .JPG": ("x.JPG", JPEG, USED, ""),
    "a JPEG named .jfif": ("x.jfif", JPEG, USED, ""),
    "a JPEG named .txt": ("x.txt", JPEG, USED, ""),
    "a JPEG with rubbish for EXIF": ("x.jpg", _with_exif(b"rubbish" * 9), USED, ""),
    "a JPEG with cut EXIF": ("x.jpg", _with_exif(b"MM\0*\0\0\0\x08\0\x09"), USED, ""),
    "a JPEG turned by an impossible angle": (
        "x.jpg",
        _with_exif(b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0\0\0\0\0"),
        USED,
        "",
    ),
    "an RGB PNG": ("x.png", PNG, USED, ""),
    "a PNG with alpha": ("x.png", _encode(CLEAR, "PNG"), USED, ""),
    "a PNG with a palette and transparency": (
        "x.png",
        _encode(PALETTE, "PNG", transparency=3),
        USED,
        "",
    ),
    "a 16-bit PNG": ("x.png", _encode(Image.new("I;16", (9, 9), 40000), "PNG"), USED, ""),
    "a grey PNG": ("x.png", _encode(PHOTO.convert("L"), "PNG"), USED, ""),
    "a 16-bit PNG of 12-bit values": (
        "x.png",
        _encode(Image.new("I;16", (9, 9), 4095), "PNG"),
        NARROW,
        "uses 0 to 15 of 255: fewer than 16 bits in a 16-bit file; scale its values up",
    ),
    "a PNG of class numbers": (
        "x.png",
        _encode(Image.new("L", (9, 9), 3), "PNG"),
        NARROW,
        "uses 0 to 3 of 255: almost black; scale its values up, or remove it",
    ),
    "an interlaced PNG": ("x.png", _interlaced_png(), USED, ""),
    "a PNG with a flipped bit in its pixels": ("x.png", _flip(PNG, 2000), BAD, UNDECODABLE),
    "a PNG with a wrong checksum": ("x.png", _flip(PNG, len(PNG) - 14), BAD, UNDECODABLE),
    "a PNG with a flipped bit in its header": ("x.png", _flip(PNG, 18), BAD, None),
    "a PNG cut in its pixels": ("x.png", PNG[:3000], BAD, UNDECODABLE),
    "a PNG of no width": ("x.png", _png(0, 5), BAD, None),
    "a PNG of no height": ("x.png", _png(5, 0), BAD, None),
    "a PNG without pixels": ("x.png", _png(5, 5), BAD, UNDECODABLE),
    "a PNG of 144 million pixels": (
        "x.png",
        _encode(Image.new("1", (12000, 12000)), "PNG"),
        BAD,
        TOO_LARGE,
    ),
    "a PNG that says it has 10^18 pixels": (
        "x.png",
        _png(10**9, 10**9),
        BAD,
        TOO_LARGE,
    ),
    "a GIF": ("x.gif", _encode(PALETTE, "GIF"), USED, ""),
    "an animated GIF": (
        "x.gif",
        _encode(PALETTE, "GIF", save_all=True, append_images=[PALETTE.rotate(180)]),
        USED,
        "",
    ),
    "a 24-bit BMP": ("x.bmp", _encode(PHOTO, "BMP"), USED, ""),
    "a 32-bit BMP": ("x.bmp", _encode(PHOTO.convert("RGBA"), "BMP"), USED, ""),
    "a BMP with a palette": (
        "x.bmp",
        _encode(PALETTE, "BMP"),
        BAD,
        "palette BMP images cannot be decoded; convert to JPEG or PNG",
    ),
    "a WebP": ("x.webp", _encode(PHOTO, "WEBP"), USED, ""),
    "a WebP with alpha": ("x.webp", _encode(CLEAR, "WEBP"), USED, ""),
    "an animated WebP": (
        "x.webp",
        _encode(PHOTO, "WEBP", save_all=True, append_images=[PHOTO.rotate(180)]),
        BAD,
        UNDECODABLE,
    ),
    "a WebP cut short": ("x.webp", _encode(PHOTO, "WEBP")[:-60], BAD, None),
    "a TIFF": (
        "x.tif",
        _encode(PHOTO, "TIFF"),
        BAD,
        "TIFF images cannot be decoded; convert to JPEG or PNG",
    ),
    "a HEIC from a phone": (
        "x.heic",
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 99,
        BAD,
        "HEIC and AVIF images cannot be decoded; convert to JPEG or PNG",
    ),
    "an AVIF": (
        "x.avif",
        b"\0\0\0\x1cftypavif\0\0\0\0avifmif1" + b"\0" * 99,
        BAD,
        "HEIC and AVIF images cannot be decoded; convert to JPEG or PNG",
    ),
    "a JPEG XL": ("x.jxl", b"\xff\x0a" + b"\0" * 99, BAD, "not an image"),
    "a raw file of a camera": (
        "x.cr2",
        _encode(PHOTO, "TIFF"),
        BAD,
        "TIFF images cannot be decoded; convert to JPEG or PNG",
    ),
    "an icon": (
        "x.ico",
        _encode(PHOTO, "ICO"),
        BAD,
        "ICO images cannot be decoded; convert to JPEG or PNG",
    ),
    "a film named .jpg": ("x.jpg", b"\0\0\0\x14ftypqt  " + b"\0" * 99, BAD, "not an image"),
    "a web page named .png": ("x.png", b"<!DOCTYPE html>", BAD, "not an image"),
    "an SVG": ("x.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", SKIPPED, "not an image"),
    "a PDF": ("x.pdf", b"%PDF-1.7 ", SKIPPED, "not an image"),
    "a zip archive": ("x.zip", b"PK\3\4", SKIPPED, "not an image"),
    "a film beside the photos": (
        "x.mov",
        b"\0\0\0\x14ftypqt  " + b"\0" * 99,
        SKIPPED,
        "not an image",
    ),
    "an empty file named .jpg": ("x.jpg", b"", BAD, "empty file"),
    "an empty file": ("x", b"", SKIPPED, "empty file"),
    "text named .jpg": ("x.jpg", b"no image", BAD, "not an image"),
    "a README": ("README.txt", b"no image", SKIPPED, "not an image"),
    "a hidden twin that a Mac leaves": ("._x.jpg", b"\0\x05\x16\x07", SKIPPED, "hidden file"),
    "a .DS_Store": (".DS_Store", b"\0\0\0\x01Bud1", SKIPPED, "hidden file"),
    "a Thumbs.db": ("Thumbs.db", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", SKIPPED, "not an image"),
    "a thumbnail of a network drive": ("@eaDir/x.jpg", JPEG, SKIPPED, "in a system folder"),
    "a photo that a Mac's archive doubles": ("__MACOSX/x.jpg", JPEG, SKIPPED, "in a system folder"),
    "a photo in a recycle bin": ("$RECYCLE.BIN/x.jpg", JPEG, SKIPPED, "in a system folder"),
    "a photo of a notebook's checkpoints": (
        ".ipynb_checkpoints/x.jpg",
        JPEG,
        SKIPPED,
        "hidden file",
    ),
    "a photo in a folder named as one": ("x.jpg/y.jpg", JPEG, USED, ""),
    "a photo in a hidden folder": (".checkpoints/x.jpg", JPEG, SKIPPED, "hidden file"),
    "a photo in a folder in the class": ("more/deep/x.jpg", JPEG, USED, ""),
    "a queue named .jpg": ("x.jpg", os.mkfifo, SKIPPED, "not a regular file"),
    "a link to nothing": (
        "x.jpg",
        lambda path: os.symlink("nowhere", path),
        BAD,
        "cannot be read (No such file or directory)",
    ),
    "a link to itself": ("x.jpg", lambda path: os.symlink("x.jpg", path), BAD, None),
    "a link to a photo": ("y.jpg", lambda path: os.symlink("good.jpg", path), USED, ""),
    "a link back to its folder": (
        "x",
        lambda path: os.symlink(".", path),
        SKIPPED,
        "link to a folder",
    ),
    "a link to the whole data": (
        "x",
        lambda path: os.symlink("..", path),
        SKIPPED,
        "link to a folder",
    ),
    "a name with a line break": ("x\ny.jpg", JPEG, USED, ""),
    "a broken file with a line break in its name": ("x\ny.jpg", b"", BAD, "empty file"),
    "a name that is not UTF-8": (b"caf\xe9.jpg", JPEG, USED, ""),
    "a broken file whose name is not UTF-8": (b"caf\xe9.jpg", b"", BAD, "empty file"),
    "a name in another script": ("猫 ß.jpg", JPEG, USED, ""),
}


def _make(path, content=JPEG):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if callable(content):
        content(path)
    else:
        with open(path, "wb") as file:
            file.write(content)


def _on_disk(root):
    """How many files and links there are, without the folders."""
    return sum(
        len(files) + sum(os.path.islink(os.path.join(parent, name)) for name in folders)
        for parent, folders, files in os.walk(root)
    )


def _line(error):
    text = str(error.value)
    assert "\n" not in text and text.isprintable() and 20 < len(text) < 600
    return text


def _used_plus_skipped(report):
    return report["used"] + sum(report["skipped"].values())


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """All kinds of file, each in a class of its own with another photo; and what both the loader
    of training and `data check` find there: (folder, scan, check)."""
    root = tmp_path_factory.mktemp("kinds")
    for label, (name, content, *_) in zip(_labels(), FILES.values(), strict=True):
        _make(str(root / label / "good.jpg"))
        _make(os.path.join(os.fsencode(root / label), os.fsencode(name)), content)
    found = folder.load(str(root), on_bad_image="skip")
    return root, found, check(str(root))


def _labels():
    return [f"{number:03d}" for number in range(len(FILES))]


@pytest.mark.parametrize(("what", "label"), zip(FILES, _labels(), strict=True))
def test_what_becomes_of(what, label, kinds):
    root, found, checked = kinds
    name, _, fate, reason = FILES[what]
    path = os.path.join(str(root / label), os.fsdecode(name))
    used = [photo.path for photo in found.photos["all"] if photo.label == label]
    assert (path in used) == (fate in (USED, NARROW)) and str(root / label / "good.jpg") in used
    assert checked.classes[label] == found.report()["classes"][label] == len(used)

    bad = dict(found.bad)
    assert (path in bad) == (fate == BAD)
    assert [row.reason for row in checked.bad if row.file == show(path)] == (
        [bad[path]] if fate == BAD else []
    )
    assert [row.reason for row in checked.narrow if row.file == show(path)] == (
        [reason] if fate == NARROW else []
    )
    if fate == BAD:
        assert reason in (None, bad[path])
        line = folder.describe_bad([(path, bad[path])])
        assert show(path) in line and "--on-bad-image skip" in line
        assert line.isprintable() and 20 < len(line) < 600
        # `export --data` and `explain` have no such option.
        with pytest.raises(InputError) as refused:
            load_all(root)
        assert str(refused.value).endswith("; repair or remove it")


def test_all_kinds_of_file_are_counted(kinds):
    root, found, checked = kinds
    report = found.report()
    assert report["files"] == _used_plus_skipped(report) == _on_disk(root)
    assert report["used"] == sum(report["classes"].values())
    assert (checked.files, checked.used, checked.skipped) == (
        report["files"], report["used"], report["skipped"]
    )  # fmt: skip
    expected = Counter(reason for *_, fate, reason in FILES.values() if fate == SKIPPED)
    assert +found.skipped == expected
    assert checked.skipped_examples == report["skipped_examples"]
    assert report["skipped_examples"].keys() == expected.keys()
    for reason, path in report["skipped_examples"].items():
        assert path in data_check(checked) and os.path.lexists(path)
        assert f"skipped: {reason}  " in data_check(checked)
    assert len(checked.bad) == sum(fate == BAD for *_, fate, _ in FILES.values())
    assert not checked.passed
    with pytest.raises(InputError, match=r"and \d+ more; `keras-resnet data check` lists them"):
        load(str(root))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_a_photo_is_read_as_its_exif_says(kind, turn, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = turn
    data = _encode(PHOTO, kind, exif=exif)
    _make(str(tmp_path / "x"), data)
    examples, bad = folder.from_paths({str(tmp_path / "x"): "x"})
    assert not bad and examples.orientations.tolist() == [turn]
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    np.testing.assert_array_equal(decode(data, turn), np.asarray(expected))


def test_a_photo_cut_anywhere_is_an_error_or_whole(tmp_path):
    for place in range(0, len(NOISY), 97):
        _make(str(tmp_path / f"{place:05d}.jpg"), NOISY[:place])
    examples, bad = folder.from_paths({str(p): p.name for p in sorted(tmp_path.iterdir())})
    count = len(range(0, len(NOISY), 97))
    assert len(examples) + len(bad) == count and len(bad) >= count - 1
    for index in range(len(examples)):
        assert decode(tf.io.read_file(examples.items.values[index])).shape == (70, 90, 3)


# --- shapes of folder -------------------------------------------------------------------------


@dataclass
class Good:
    """What a folder gives: images by split, and classes."""

    splits: dict
    classes: tuple = ("cat", "dog")
    used: int = 0
    skipped: int = 0
    inside: bool = True  # whether all files are found below the folder itself


def _photos(*patterns):
    """Makes each `CLASS/NAME` or `CLASS/*N` (N photos)."""

    def build(root):
        for pattern in patterns:
            stem, star, count = pattern.partition("*")
            for i in range(int(count or 1)):
                name = stem + (f"{i}.jpg" if star else "")
                if name.endswith("/"):
                    os.makedirs(os.path.join(root, name))
                else:
                    _make(os.path.join(root, name), JPEG + os.fsencode(name))  # no two equal

    return build


def _then(build, *more):
    def both(root):
        build(root)
        for step in more:
            step(root)

    return both


def _link(target, name):
    def build(root):
        os.makedirs(os.path.dirname(os.path.join(root, name)), exist_ok=True)
        os.symlink(target.replace("ROOT", root), os.path.join(root, name))

    return build


def _run(name):
    def build(root):
        for file in ("config.json", "labels.txt", "mistakes.png"):
            _make(os.path.join(root, name, file), JPEG)

    return build


def _file(name):
    return lambda root: _make(os.path.join(root, name), b"{}")


def _outside(root):
    _photos("cat/*3", "dog/*3")(root + "_elsewhere")


def _broken_class(root):
    _photos("cat/*2", "dog/*2")(root)
    _make(os.path.join(root, "emu", "x.jpg"), b"")


FLAT = _photos("cat/*3", "dog/*2")
SPLIT = _photos("train/cat/*3", "train/dog/*3", "val/cat/*2", "val/dog/*1")

TRAINING = _photos("Training/cat/*3", "Training/dog/*3", "Testing/cat/*2", "Testing/dog/*1")

GOOD = {
    "class folders": (FLAT, Good({"all": 5})),
    "train and val": (SPLIT, Good({"train": 6, "val": 3})),
    "train, validation and test": (
        _photos("train/cat/*2", "train/dog/*2", "validation/cat/*1", "test/dog/*1"),
        Good({"train": 4, "val": 1, "test": 1}),
    ),
    "Train and VAL": (
        _photos("Train/cat/*2", "Train/dog/*2", "VAL/cat/*1"),
        Good({"train": 4, "val": 1}),
    ),
    "train and valid": (
        _photos("train/cat/*2", "train/dog/*2", "valid/cat/*1"),
        Good({"train": 4, "val": 1}),
    ),
    "Training and Testing": (TRAINING, Good({"train": 6, "test": 3})),
    "train, dev and test": (
        _photos("train/cat/*2", "train/dog/*2", "dev/cat/*1", "dev/dog/*1", "test/dog/*1"),
        Good({"train": 4, "val": 1 + 1, "test": 1}),
    ),
    "training_set and test_set, each in itself": (
        _photos(
            "training_set/training_set/cat/*2",
            "training_set/training_set/dog/*2",
            "test_set/test_set/cat/*1",
            "test_set/test_set/dog/*1",
        ),
        Good({"train": 4, "test": 2}),
    ),
    "seg_train and seg_test": (
        _photos("seg_train/cat/*2", "seg_train/dog/*2", "seg_test/cat/*1", "seg_test/dog/*1"),
        Good({"train": 4, "test": 2}),
    ),
    "class folders in a folder of the same name": (
        _photos("photos/cat/*3", "photos/dog/*2"),
        Good({"all": 5}),
    ),
    "class folders in images, beside a table": (
        _then(
            _photos("images/cat/*3", "images/dog/*2"),
            lambda root: _make(os.path.join(root, "labels.csv"), b"a,b"),
        ),
        Good({"all": 5}, skipped=1),
    ),
    "splits in a folder of any name": (
        _then(lambda root: SPLIT(os.path.join(root, "archive-2")), _photos("__MACOSX/._x.jpg")),
        Good({"train": 6, "val": 3}, skipped=1),
    ),
    "folders of the system beside the classes": (
        _then(
            FLAT,
            _photos(
                "__MACOSX/cat/*2",
                "lost+found/",
                "@eaDir/cat/*1",
                "$RECYCLE.BIN/*1",
                ".ipynb_checkpoints/*1",
            ),
        ),
        Good({"all": 5}, skipped=5),
    ),
    "folders of the system beside the splits": (
        _then(SPLIT, _photos("__MACOSX/train/cat/*1", "train/@eaDir/*1")),
        Good({"train": 6, "val": 3}, skipped=2),
    ),
    "classes that contain the words of splits": (
        _photos("test tube/*2", "train/*2"),
        Good({"all": 4}, classes=("test tube", "train")),
    ),
    "train alone": (_photos("train/cat/*2", "train/dog/*2"), Good({"train": 4})),
    "train, val and a folder of other things": (
        _then(SPLIT, _photos("sketches/*4", "sketches/deep/*2")),
        Good({"train": 6, "val": 3}, skipped=6),
    ),
    "a class called train": (
        _photos("train/*2", "bus/*2"),
        Good({"all": 4}, classes=("bus", "train")),
    ),
    "classes called train, val and test": (
        _photos("train/*2", "val/*2", "test/*2"),
        Good({"all": 6}, classes=("test", "train", "val")),
    ),
    "loose images beside the classes": (
        _then(FLAT, _photos("loose.jpg", "more.jpg")),
        Good({"all": 5}, skipped=2),
    ),
    "loose images beside the splits and their classes": (
        _then(SPLIT, _photos("loose.jpg", "train/loose.jpg", "val/loose.jpg")),
        Good({"train": 6, "val": 3}, skipped=3),
    ),
    "folders inside the classes": (
        _photos("cat/*1", "cat/black/*2", "cat/black/old/*1", "dog/*2"),
        Good({"all": 6}),
    ),
    "hidden folders everywhere": (
        _then(FLAT, _photos(".git/*2", ".git/deep/*1", "cat/.thumbs/*2")),
        Good({"all": 5}, skipped=5),
    ),
    "a run, and a folder of runs, beside the classes": (
        _then(FLAT, _run("own"), _run("runs/photos-search/ab/resnet8"), _photos("runs/a/x.jpg")),
        Good({"all": 5}, skipped=7),
    ),
    "a study before its first training": (
        _then(FLAT, _file("runs/folds-photos/study.json"), _file("runs/folds-photos/fold-1.json")),
        Good({"all": 5}, skipped=2),
    ),
    "a study.json of another program in a class": (
        _then(FLAT, _file("cat/study.json")),
        Good({"all": 5}, skipped=1),
    ),
    "classes that are links to elsewhere": (
        _then(_outside, _link("ROOT_elsewhere/cat", "cat"), _link("ROOT_elsewhere/dog", "dog")),
        Good({"all": 6}, inside=False),
    ),
    "splits that are links to elsewhere": (
        _then(_outside, _link("ROOT_elsewhere", "train")),
        Good({"train": 6}, inside=False),
    ),
    "a class that is a link to another class": (
        _then(FLAT, _link("cat", "kitten")),
        Good({"all": 5}, skipped=1),
    ),
    "a class that is a link to the data themselves": (
        _then(FLAT, _link(".", "again"), _link("..", "above")),
        Good({"all": 5}, skipped=2),
    ),
    "a link to itself beside the classes": (
        _then(FLAT, _link("loop", "loop")),
        Good({"all": 5}, skipped=1),
    ),
    "class names with spaces and other scripts": (
        _photos("big cat/*2", "猫/*2", "ß é/*2"),
        Good({"all": 6}, classes=("big cat", "ß é", "猫")),
    ),
    "another class in val, but without images": (
        _then(SPLIT, _photos("val/emu/")),
        Good({"train": 6, "val": 3}),
    ),
}

ERRORS = {
    # what it is: (how to make it, what the line says)
    "an empty class": (_then(FLAT, _photos("emu/")), "class emu of ROOT has no usable images"),
    "a class of nothing but text": (
        _then(FLAT, lambda root: _make(os.path.join(root, "emu", "a.txt"), b"text")),
        "class emu of ROOT has no usable images",
    ),
    "a single class": (_photos("cat/*3"), "only one class (cat) in ROOT"),
    "an empty folder": (os.makedirs, "no class folders in ROOT"),
    "nothing but loose images": (_photos("*3"), "no class folders in ROOT"),
    "no such folder": (lambda root: None, "data folder ROOT does not exist"),
    "a file": (_make, "data folder ROOT is a file, not a folder"),
    "a run": (_run(""), "ROOT is a run folder; give the folder of the photos"),
    "val alone": (_photos("val/cat/*1", "val/dog/*1"), "ROOT has val but no train folder"),
    "val and test alone": (
        _photos("val/cat/*1", "test/dog/*1"),
        "ROOT has test and val but no train folder",
    ),
    "both val and validation": (
        _then(SPLIT, _photos("validation/cat/*1")),
        "ROOT has two folders for the val split: val and validation; keep one",
    ),
    "train and a folder of other things": (
        _photos("train/cat/*2", "train/dog/*2", "sketches/*2"),
        "cannot tell whether train in ROOT is a split or a class",
    ),
    "train and test images without classes": (
        _photos("train/cat/*2", "train/dog/*2", "test/*2"),
        "cannot tell whether train in ROOT is a split or a class",
    ),
    "a val class that train lacks": (
        _then(SPLIT, _photos("val/emu/*1")),
        "class emu is in the val folder of ROOT but not in train",
    ),
    "a train class without images": (
        _then(SPLIT, _photos("train/emu/")),
        "class emu of ROOT has no usable images",
    ),
    "an empty val": (
        _photos("train/cat/*1", "train/dog/*1", "val/cat/"),
        "the val folder of ROOT has no usable images",
    ),
    "a class with nothing but broken files": (_broken_class, "emu/x.jpg: empty file; repair"),
    "a class name with a line break": (
        _photos("cat/*1", "do\ng/*1"),
        "the name of class folder ROOT/do\\ng has a control character, a line break, or bytes",
    ),
    "a class name that is not UTF-8": (
        _photos("cat/*1", os.fsdecode(b"caf\xe9/") + "*1"),
        "the name of class folder ROOT/caf\\xe9 has a control character, a line break, or bytes",
    ),
    "splits of unknown names": (
        _photos("fold1/cat/*2", "fold1/dog/*2", "fold2/cat/*2", "fold2/dog/*2"),
        "cannot tell whether fold1 and fold2 in ROOT are splits or classes: both have folders cat "
        "and dog, and no images outside them; name splits train, val and test",
    ),
    "train of a prefix and another folder": (
        _photos("seg_train/cat/*2", "seg_train/dog/*2", "seg_pred/*2"),
        "cannot tell whether seg_train in ROOT is a split or a class",
    ),
    "class folders in a folder of any name": (
        _photos("animals/cat/*2", "animals/dog/*2"),
        "ROOT has only one folder, animals, with 2 folders in it; if they are the classes, give "
        "ROOT/animals",
    ),
    "classes that differ in case": (
        _photos("cat/*2", "Cat/*2", "dog/*2"),
        "class folders 'Cat' and 'cat' in ROOT differ only in case, spaces or Unicode form",
    ),
    "classes that differ in a space": (
        _photos("cat/*2", "cat /*2"),
        "class folders 'cat' and 'cat ' in ROOT differ only in case",
    ),
    "classes that differ in the Unicode form": (
        _photos("caf\xe9/*2", "cafe\u0301/*2"),
        r"class folders 'cafe\u0301' and 'caf\xe9' in ROOT differ only in case",
    ),
    "a val class that train has in another case": (
        _then(SPLIT, _photos("val/Cat/*1")),
        "class folders 'Cat' and 'cat' in ROOT/val differ",
    ),
    "val classes that train has in another case": (
        _photos("train/cat/*2", "train/dog/*2", "val/Cat/*1", "val/dog/*1"),
        "class 'Cat' is in the val folder of ROOT, and 'cat' in train; give both the same name",
    ),
    "equal images alone in a class": (
        _then(
            _photos("cat/*3"),
            lambda root: [_make(os.path.join(root, "dog", f"{i}.jpg"), JPEG) for i in range(3)],
        ),
        "class dog has 3 images in 1 group of identical or related images; at least 2 are needed",
    ),
    "one image in a class": (
        _photos("cat/*3", "dog/*1"),
        "class dog has 1 image; at least 2 are needed",
    ),
}


@pytest.mark.parametrize("what", GOOD)
def test_a_folder_is_understood_with(what, tmp_path):
    build, good = GOOD[what]
    root = str(tmp_path / "photos")
    build(root)
    found = folder.load(root)
    report = found.report()
    assert report["files"] == _used_plus_skipped(report)
    if good.inside:
        assert report["files"] == _on_disk(root)
    assert report["used"] == sum(good.splits.values()) and report["bad"] == []
    assert sum(report["skipped"].values()) == good.skipped
    assert list(report["classes"]) == list(good.classes)
    splits = folder.by_split(found)
    assert {split: len(examples) for split, examples in splits.items()} == good.splits
    checked = check(root)
    assert (checked.files, checked.used) == (report["files"], report["used"])
    assert checked.obstacles == [] and sum(checked.classes.values()) == checked.used
    for examples in splits.values():  # the label is the class folder's
        for name, label in zip(examples.names, examples.labels, strict=True):
            assert found.classes[label] in name.split(os.sep)


def test_class_folders_of_one_folder_for_each_person_are_told_by_an_option(tmp_path):
    """The same folders in all classes, and nothing else, might as well be classes of splits."""
    _photos("hi/ann/*2", "hi/ben/*2", "yo/ann/*2", "yo/ben/*2")(str(tmp_path))
    with pytest.raises(InputError, match=r"cannot tell whether hi and yo .* --group-by parent"):
        load(str(tmp_path))
    source = load(str(tmp_path), group_by="parent")
    assert source.classes == ["hi", "yo"]
    assert check(str(tmp_path), group_by="parent").passed


def test_a_class_that_no_score_covers_is_named(tmp_path, capsys):
    _photos("train/cat/*2", "train/dog/*2", "val/cat/*1")(str(tmp_path))
    assert load(str(tmp_path)).classes == ["cat", "dog"]
    said = "the val split has no image of class dog (1 of 2 classes): no score covers it"
    assert said in capsys.readouterr().err
    checked = check(str(tmp_path))
    assert checked.warnings == [said] and not checked.passed


@pytest.mark.parametrize("what", ERRORS)
def test_one_line_says_what_to_do_about(what, tmp_path):
    build, expected = ERRORS[what]
    root = str(tmp_path / "photos")
    build(root)
    with pytest.raises(InputError) as error:
        load(root)
    line = _line(error)
    assert expected.replace("ROOT", root) in line
    try:
        checked = check(root)
    except InputError as same:
        assert str(same) == line
    else:
        assert not checked.passed and (checked.bad or checked.obstacles[0] in line)
        assert checked.files == checked.used + sum(checked.skipped.values()) == _on_disk(root)
        assert sum(checked.classes.values()) == checked.used


def test_a_class_whose_files_are_all_broken_is_named_when_they_are_skipped(tmp_path):
    _broken_class(str(tmp_path))
    with pytest.raises(InputError, match=r"class emu of .* has no usable images; add some or"):
        load(str(tmp_path), on_bad_image="skip")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_cannot_be_read_is_named(tmp_path):
    FLAT(str(tmp_path))
    os.chmod(tmp_path / "cat" / "0.jpg", 0)
    with pytest.raises(InputError, match=r"cat/0\.jpg: cannot be read \(Permission denied\)"):
        load(str(tmp_path))
    os.chmod(tmp_path / "dog", 0)
    try:
        with pytest.raises(InputError, match=r"cannot read folder .*dog: Permission denied"):
            load(str(tmp_path))
    finally:
        os.chmod(tmp_path / "dog", 0o755)


def test_an_empty_name_is_not_the_current_folder(tmp_path, monkeypatch):
    FLAT(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        load("")
    assert load(".").classes == ["cat", "dog"]
    assert sorted(load_all(".").splits["all"].names)[0] == "cat/0.jpg"


def test_files_to_predict_on_may_lie_anywhere(tmp_path, capsys):
    _make(str(tmp_path / ".cache" / "x.jpg"))
    _make(str(tmp_path / "README.md"), b"text")
    _make(str(tmp_path / "y.jpg"), b"")
    paths = [str(tmp_path / name) for name in (".cache/x.jpg", "README.md", "y.jpg", "z.jpg")]
    examples, bad = folder.from_paths({path: os.path.basename(path) for path in paths})
    assert examples.names == paths[:1]
    assert bad == [
        (paths[2], "empty file"),
        (paths[3], "cannot be read (No such file or directory)"),
    ]
    assert "skipped: not an image (1)" in capsys.readouterr().err


def test_a_saved_name_that_is_no_image_any_more_is_bad_whatever_it_is(tmp_path):
    _make(str(tmp_path / "cat" / "a"))
    _make(str(tmp_path / "cat" / "b"), b"text")
    os.mkfifo(tmp_path / "cat" / "c")
    wanted = [("cat/a", "cat"), ("cat/b", "cat"), ("cat/c", "cat"), ("cat/d", "cat")]
    examples, found = folder.from_names(str(tmp_path), wanted, ["cat"])
    assert examples.names == ["cat/a"] and len(found.bad) == 3


def test_the_order_in_which_the_system_lists_files_does_not_matter(tmp_path, monkeypatch):
    FLAT(str(tmp_path))
    _photos("cat/deep/*3", "cat/deeper/*2")(str(tmp_path))
    names = folder.load(str(tmp_path)).images.names
    listing = os.scandir

    class Backwards:
        def __init__(self, path="."):
            with listing(path) as entries:
                self.entries = iter(sorted(entries, key=lambda entry: entry.name, reverse=True))

        def __iter__(self):
            return self.entries

        def __next__(self):
            return next(self.entries)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def close(self):
            pass

    monkeypatch.setattr(os, "scandir", Backwards)
    assert folder.load(str(tmp_path)).images.names == names


def test_a_hidden_folder_beside_the_classes_is_told_as_such(tmp_path):
    for name in (".old", "cat", "dog", "__MACOSX"):
        (tmp_path / name).mkdir()
        PHOTO.save(tmp_path / name / "x.jpg")
    skipped = check(tmp_path).skipped
    assert skipped == {"hidden file": 1, "in a system folder": 1}


def test_a_folder_without_a_good_photo_is_checked_too(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.jpg").write_bytes(b"no image")
    checked = check(tmp_path)
    assert not checked.passed and checked.used == checked.near_duplicates == 0
    assert len(checked.bad) == 2


def test_images_that_are_almost_black_do_not_pass(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for i in range(2):
            dark = np.random.default_rng(ord(name) + i).integers(0, 12 + 200 * i, (9, 9, 3))
            Image.fromarray(np.uint8(dark)).save(tmp_path / name / f"{i}.png")
    checked = check(tmp_path)
    assert not checked.passed and [len(checked.narrow), len(checked.bad)] == [2, 0]
    assert checked.obstacles == checked.warnings == []


def test_images_that_are_shown_have_their_own_classes(photos):
    images, labels = sample(photos, 7, size=24)
    assert images.shape == (7, 24, 24, 3) and sorted(Counter(labels).values()) == [2, 2, 3]
    names = np.array(["dark", "striped", "bright"])
    assert labels == names[np.digitize(images.mean((1, 2, 3)), [70, 170])].tolist()
