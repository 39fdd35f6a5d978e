"""Images are read without TensorFlow as training and evaluation read them, to the bit."""

import random
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_resnet.data import pixels
from keras_resnet.data.decode import decode
from keras_resnet.data.examples import from_files
from keras_resnet.data.pixels import Undecodable
from keras_resnet.data.preload import decodable
from keras_resnet.data.stream import evaluation_stream

SAMPLES = runpy.run_path(Path(__file__).with_name("test_data_decode.py"))
encode = SAMPLES["_encode"]
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 4), np.uint8), "RGBA")
COLOURS = NOISE.convert("RGB")
DEEP = Image.fromarray(np.asarray(COLOURS.convert("L")).astype(np.uint16) * 256 + 77)
FILES = SAMPLES["FILES"] | {
    "a 16-bit PNG": encode(DEEP, "PNG"),
    "a PNG with a transparent colour": encode(
        COLOURS, "PNG", transparency=COLOURS.getpixel((3, 3))
    ),
    "a grey PNG with a transparent grey": encode(COLOURS.convert("L"), "PNG", transparency=17),
    "noise in a JPEG, 4:4:4": encode(COLOURS, "JPEG", subsampling=0),
    "noise in a JPEG, 4:2:2": encode(COLOURS, "JPEG", subsampling=1),
    "noise in a JPEG, 4:2:0": encode(COLOURS, "JPEG", subsampling=2),
    "noise in a CMYK JPEG": encode(COLOURS.convert("CMYK"), "JPEG"),
    "a GIF with transparent pixels": encode(
        COLOURS.convert("P", palette=Image.Palette.ADAPTIVE), "GIF", transparency=7
    ),
    "a BMP with alpha": encode(NOISE, "BMP"),
    "noise in a lossy WebP": encode(COLOURS, "WEBP", quality=50),
    "noise in a WebP with alpha": encode(NOISE, "WEBP", lossless=True),
}
# What Pillow may read otherwise is left to TensorFlow.
LEFT = ("an animated GIF", "an animated WebP with alpha")


@pytest.fixture
def by_pillow(monkeypatch):
    """Nothing is left to TensorFlow."""

    def refuse(data):
        raise Undecodable("left to TensorFlow")

    monkeypatch.setattr(pixels, "_by_tensorflow", refuse)


@pytest.mark.parametrize("name", [name for name in FILES if name not in LEFT])
def test_decoding_without_tensorflow_gives_the_same_pixels_of(name, by_pillow):
    np.testing.assert_array_equal(pixels.decode(FILES[name]), decode(FILES[name]))


@pytest.mark.parametrize("name", LEFT)
def test_tensorflow_is_asked_for_the_pixels_of(name):
    np.testing.assert_array_equal(pixels.decode(FILES[name]), decode(FILES[name]))


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_orientation_is_honoured_alike(turn, by_pillow):
    data = FILES["an RGB JPEG"]
    np.testing.assert_array_equal(pixels.decode(data, turn), decode(data, turn))


def _as_examples(folder, contents, turns=None):
    for i, content in enumerate(contents):
        (folder / f"{i:03}").write_bytes(content)
    paths, count = sorted(folder.iterdir()), len(contents)
    names = [path.name for path in paths]
    return from_files(list(map(bytes, paths)), [0] * count, names, turns or [1] * count, [0])


def _photo(width, height, **options):
    small = np.random.default_rng(width).integers(0, 256, (height // 20, width // 20, 3), np.uint8)
    return encode(Image.fromarray(small).resize((width, height), 3), "JPEG", **options)


def test_the_views_of_evaluation_are_the_same_at_any_size_and_crop(tmp_path, by_pillow):
    """Of large photos, which are decoded at a part of their size, too."""
    sizes = [(1001, 700), (640, 483), (400, 1299), (300, 220)]
    contents = [
        *(FILES[name] for name in FILES if name not in LEFT),
        *(_photo(*size, subsampling=i % 3) for i, size in enumerate(sizes)),
        _photo(900, 800, progressive=True), encode(Image.effect_noise((600, 500), 90), "JPEG"),
        _photo(700, 600),
    ]  # fmt: skip
    turns = [1] * (len(contents) - 1) + [6]
    examples = _as_examples(tmp_path, contents, turns)
    for size, crop in ((64, 0.875), (97, 1.0), (224, 0.77)):
        stream = evaluation_stream(examples, size=size, crop=crop, batch_size=99)
        ((expected, _),) = stream.as_numpy_iterator()
        found = np.concatenate(list(pixels.batches(examples, size=size, crop=crop)))
        np.testing.assert_array_equal(found, expected)


def test_damaged_images_are_refused_alike(tmp_path):
    """All kinds, cut, with bits flipped, and with parts that are 0 or random."""
    rng, contents = random.Random(0), []
    for data in FILES.values():
        for _ in range(3):
            at, length = rng.randrange(len(data)), rng.randrange(1, 200)
            flipped = bytearray(data)
            flipped[at] ^= 1 << rng.randrange(8)
            after = data[at + length :]
            contents += [
                data[:at], bytes(flipped), data[:at] + bytes(len(data) - at), data[:at] + after,
                data[:at] + rng.randbytes(length) + after,
            ]  # fmt: skip
    contents = [c for c in contents if not (c[:4] == b"RIFF" and b"ANIM" in c)]  # these may abort
    examples = _as_examples(tmp_path, [c for c in contents if _is_small(c)])
    found = [number for number, _ in pixels.decoded(examples, np.shape)]
    expected = [number for numbers in decodable(examples) for number in numbers]
    assert sorted(found) == sorted(expected)
    assert 100 < len(found) < len(examples) - 100


def _is_small(content):
    """Whether its header does not say a size that it does not have."""
    try:
        width, height = pixels._open(content).size
    except pixels._Unsure:
        return True
    return width * height < 10**6


def test_a_file_that_is_gone_is_named(tmp_path):
    examples = _as_examples(tmp_path, [FILES["an RGB PNG"]] * 2)
    (tmp_path / "001").unlink()
    with pytest.raises(Undecodable, match=r"^001 changed: No such file or directory; restore it$"):
        list(pixels.batches(examples, size=8, crop=1.0))
