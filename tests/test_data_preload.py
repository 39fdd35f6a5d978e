"""Images that are kept decoded give the same views, bit for bit."""

import os
import resource
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnet.config import Config
from keras_resnet.data import memory, preload, sources
from keras_resnet.data.decode import decode
from keras_resnet.data.examples import from_bytes, read_file
from keras_resnet.data.stream import evaluation_stream, training_stream
from keras_resnet.errors import InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photos with every colour sampling, turned by EXIF and not, two of them large, and PNGs."""
    folder = tmp_path_factory.mktemp("small")
    rng = np.random.default_rng(0)
    for i in range(16):
        height, width = rng.integers(20, 200, 2) + 300 * (i in (7, 10))
        coarse = rng.integers(0, 256, (height // 5, width // 5, 3), np.uint8)
        image = Image.fromarray(coarse).resize((int(width), int(height)), Image.Resampling.BICUBIC)
        home = folder / "ab"[i % 2]
        home.mkdir(exist_ok=True)
        if i < 4:
            image.save(home / f"{i}.png")
        else:
            exif = Image.Exif()
            exif[274] = (1, 1, 6, 8)[i % 4]
            image.save(home / f"{i}.jpg", quality=85, subsampling=i % 3, exif=exif)
    return folder


def _is_decoded(source):
    """Whether the images are in memory, not their paths."""
    return all(examples.read is not read_file for examples in source.splits.values())


@pytest.mark.parametrize(
    "size", [8, *(pytest.param(size, marks=pytest.mark.slow) for size in (32, 96))]
)
def test_the_views_are_the_same_bit_for_bit(folder, size):
    source = sources.load(folder)
    decoded = sources.load(folder, in_memory=True)
    assert _is_decoded(decoded) and not _is_decoded(source)
    config = Config(batch_size=4, seed=2, brightness=0.1)
    for name in ("train", "val"):
        for a, b in zip(
            evaluation_stream(source.splits[name], size=size, crop=0.9, batch_size=3),
            evaluation_stream(decoded.splits[name], size=size, crop=0.9, batch_size=3),
            strict=True,
        ):
            np.testing.assert_array_equal(a[0], b[0])
            np.testing.assert_array_equal(a[1], b[1])
    for a, b in zip(
        training_stream(source, config, size=size, first_step=0, last_step=20),
        training_stream(decoded, config, size=size, first_step=0, last_step=20),
        strict=True,
    ):
        np.testing.assert_array_equal(a[0], b[0])


def test_blocks_of_plain_images_and_what_is_not_plain_are_decoded_alike(tmp_path):
    """Each in its place: of every kind, turned or not, among them one that is broken."""
    rng = np.random.default_rng(1)
    for i in range(200):
        pixels = rng.integers(0, 256, (9, 12, 4), np.uint8)
        home = tmp_path / "ab"[i % 2]
        home.mkdir(exist_ok=True)
        exif = Image.Exif()
        exif[274] = 6 if i % 50 == 20 else 1
        image = Image.fromarray(pixels[..., :3])
        if i >= 140:  # a stretch of PNGs, in two blocks of them with alpha and palettes, too
            kinds = ("RGB", "L", "I;16") if i < 180 else ("RGB", "LA", "RGBA", "P")
            images = {"LA": Image.fromarray(pixels[..., 2:], "LA"), "RGBA": Image.fromarray(pixels)}
            images["I;16"] = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
            kind = kinds[i % len(kinds)]
            image = images.get(kind) or image.convert(kind)
            image.save(home / f"{i:03}.png", **{"transparency": 7} if kind in "LP" else {})
        elif i % 50 == 30:
            image.resize((300, 300)).save(home / f"{i:03}.jpg")
        else:
            image.convert("L" if i % 3 else "RGB").save(home / f"{i:03}.jpg", exif=exif)
    broken = tmp_path / "a" / "100.jpg"
    broken.write_bytes(broken.read_bytes()[:-200])
    source = sources.load(tmp_path, on_bad_image="skip")
    decoded = sources.load(tmp_path, on_bad_image="skip", in_memory=True)
    assert _is_decoded(decoded) and source.skipped == decoded.skipped == 1
    assert len(decoded.splits["train"].items) == 199
    for name, examples in source.splits.items():
        twin = decoded.splits[name]
        assert examples.names == twin.names
        np.testing.assert_array_equal(examples.labels, twin.labels)
        for i, turn in enumerate(examples.orientations):
            data = twin.image(i)
            if data.numpy()[:2] == b"\xff\xd8":  # kept as it is
                pixels = decode(data, twin.orientations[i])
            else:
                pixels = tf.io.parse_tensor(data, tf.uint8)
            np.testing.assert_array_equal(pixels, decode(examples.image(i), turn))


def test_what_is_kept_can_be_picked_from_and_named_like_before(folder):
    source = sources.load(folder)
    decoded = sources.load(folder, in_memory=True).splits["train"].take([3, 0, 3])
    plain = source.splits["train"].take([3, 0, 3])
    assert decoded.names == plain.names
    views = [
        next(iter(evaluation_stream(examples, size=24, crop=1.0, batch_size=3)))[0]
        for examples in (decoded, plain)
    ]
    np.testing.assert_array_equal(*views)


def test_large_images_and_too_many_are_left_where_they_are(folder, tmp_path, monkeypatch):
    for name in "ab":
        (tmp_path / name).mkdir()
        for i in range(15):
            Image.new("RGB", (400, 300), (i, 2, 3)).save(tmp_path / name / f"{i}.jpg")
    assert not _is_decoded(sources.load(tmp_path, in_memory=True))
    monkeypatch.setattr(preload, "MOST_BYTES", 500_000)
    assert not _is_decoded(sources.load(folder, in_memory=True))


def test_pixels_are_kept_already():
    digits = sources.load("digits", in_memory=True)
    assert digits.splits["train"].items.values.dtype == np.uint8


def test_all_streams_share_one_tensor(folder):
    source = sources.load(folder, in_memory=True)
    train, val = source.splits["train"], source.splits["val"]
    assert train.items is val.items is train.take([1, 0]).items
    assert all(a is b for a, b in zip(train.tensors, train.tensors, strict=True))
    assert len(train.items) == len(train) + len(val)


def test_a_stream_does_not_copy_the_images():
    """Nor its graph, which a captured tensor becomes part of."""
    big = from_bytes([b"x" * (1 << 28)], [0], ["x"], [1])
    before = _peak()
    for _ in range(2):
        items = big.all().map(lambda number, item, *_: (number, tf.strings.length(item)))
        assert [int(length) for _, length in items] == [1 << 28]
    assert _peak() - before < 2.5 * (1 << 28)  # the one that is looked up


def _peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_images_are_not_kept_where_memory_is_short(folder, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 4 * 300_000)
    assert not _is_decoded(sources.load(folder, in_memory=True))
    monkeypatch.setattr(memory, "available", lambda: 4 * 3_000_000)
    assert _is_decoded(sources.load(folder, in_memory=True))


def test_the_line_tells_what_is_taken(folder, capsys):
    source = sources.load(folder, in_memory=True)
    taken = sum(map(len, source.splits["train"].items.numpy()))
    assert f"16 images are kept decoded in memory: {taken / 1e6:,.0f} MB" in capsys.readouterr().err
    sources.load(folder)
    assert "kept" not in capsys.readouterr().err


def test_of_a_data_set_with_a_broken_image_none_is_left_out():
    """It stays as it is: the training stops at the image."""
    good = tf.io.encode_png(np.full((8, 8, 3), 9, np.uint8)).numpy()
    for encoded, is_kept in (([good] * 3, True), ([good, good[:40], good], False)):
        examples = from_bytes(encoded, [0, 1, 0], [*"abc"], [1, 1, 1])
        kept = preload.preload_splits({"train": examples})["train"]
        assert len(kept) == 3 and (kept is not examples) == is_kept


def test_records_are_not_read_further_than_to_see_that_they_do_not_fit(monkeypatch):
    large = tf.io.encode_png(np.zeros((300, 300, 3), np.uint8)).numpy()
    examples = from_bytes([large] * 100, [0] * 100, [str(i) for i in range(100)], [1] * 100)
    seen = []
    monkeypatch.setattr(
        preload, "_shapes", lambda examples: (seen.append(i) or (300, 300, 9) for i in range(100))
    )
    splits = {"train": examples, "val": examples}
    assert preload.preload_splits(splits) is splits
    assert len(seen) < 20


def test_an_image_that_cannot_be_kept_is_named(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    sources.load(copy)
    path = copy / "a" / "4.jpg"
    status = path.stat()
    path.write_bytes(path.read_bytes()[:300] + b"\0" * (status.st_size - 300))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # the cache says that it is good
    with pytest.raises(InputError, match=r"a/4\.jpg: cannot be decoded"):
        sources.load(copy, in_memory=True)
    names = sources.load(copy, in_memory=True, on_bad_image="skip").splits["train"].names
    assert "a/4.jpg" not in names
