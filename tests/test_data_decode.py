"""Decoding agrees with Pillow for each file format, for whole images and for crops."""

import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from keras_resnet.data import pixels as without_tensorflow
from keras_resnet.data import views
from keras_resnet.data.decode import decode, decode_to_check, decode_window, is_complete
from keras_resnet.errors import InputError
from keras_resnet.geometry import Geometry


def _picture(width=64, height=48):
    """Smooth, and different in every corner and channel."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    waves = [np.sin(5 * x + 2 * y), np.cos(3 * y - 4 * x), np.sin(6 * x * y + 1)]
    return Image.fromarray(np.uint8(np.stack(waves, -1) * 110 + 128))


PHOTO = _picture()
CLEAR = PHOTO.convert("RGBA")
CLEAR.putalpha(Image.linear_gradient("L").resize(PHOTO.size))
PALETTE = PHOTO.convert("P", palette=Image.Palette.ADAPTIVE, colors=16)
TURNED = PHOTO.rotate(180)


def _encode(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _displayed(data):
    """Pillow's opinion: turned upright, composited on white, uint8 (h, w, 3)."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image)
    return np.asarray(white.convert("RGB"))


PICTURES = {
    "an RGB PNG": _encode(PHOTO, "PNG"),
    "a grey PNG": _encode(PHOTO.convert("L"), "PNG"),
    "a black-and-white PNG": _encode(PHOTO.convert("1"), "PNG"),
    "a PNG with alpha": _encode(CLEAR, "PNG"),
    "a grey PNG with alpha": _encode(CLEAR.convert("LA"), "PNG"),
    "a PNG with an opaque palette": _encode(PALETTE, "PNG"),
    "a PNG with a transparent colour in its palette": _encode(PALETTE, "PNG", transparency=3),
    "a PNG with many transparent colours": _encode(
        PALETTE, "PNG", transparency=bytes(range(0, 256, 16))
    ),
    "an animated PNG": _encode(PHOTO, "PNG", save_all=True, append_images=[TURNED]),
    "a GIF": _encode(PALETTE, "GIF"),
    "an animated GIF": _encode(PALETTE, "GIF", save_all=True, append_images=[TURNED]),
    "a 24-bit BMP": _encode(PHOTO, "BMP"),
    "a 32-bit BMP": _encode(PHOTO.convert("RGBA"), "BMP"),
    "a grey BMP": _encode(PHOTO.convert("L"), "BMP"),
    "a lossy WebP": _encode(PHOTO, "WEBP", quality=80),
    "a lossless WebP": _encode(PHOTO, "WEBP", lossless=True),
    "a WebP with alpha": _encode(CLEAR, "WEBP", lossless=True),
    "a lossy WebP with alpha": _encode(CLEAR, "WEBP", quality=80),
    "an animated WebP with alpha": _encode(
        CLEAR, "WEBP", lossless=True, save_all=True, append_images=[CLEAR.rotate(180)]
    ),
}
JPEGS = {
    "an RGB JPEG": _encode(PHOTO, "JPEG", quality=90),
    "a JPEG of full colour resolution": _encode(PHOTO, "JPEG", subsampling=0),
    "a grey JPEG": _encode(PHOTO.convert("L"), "JPEG"),
    "a CMYK JPEG": _encode(PHOTO.convert("CMYK"), "JPEG"),
    "a progressive JPEG": _encode(PHOTO, "JPEG", progressive=True),
    "a phone's JPEG of several pictures": _encode(
        PHOTO, "MPO", save_all=True, append_images=[TURNED]
    ),
}
FILES = JPEGS | PICTURES


@pytest.mark.parametrize("name", FILES)
def test_decoding_equals_pillow_on(name):
    np.testing.assert_array_equal(decode(FILES[name]), _displayed(FILES[name]))


def test_a_16_bit_png_keeps_its_high_bytes():
    deep = np.asarray(PHOTO.convert("L")).astype(np.uint16) * 256 + 77
    pixels = decode(_encode(Image.fromarray(deep), "PNG")).numpy()
    np.testing.assert_array_equal(pixels, np.repeat((deep >> 8)[..., None], 3, -1))


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_orientation_is_honoured(turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    data = _encode(PHOTO, "JPEG", quality=95, exif=exif)
    np.testing.assert_array_equal(decode(data, turn), _displayed(data))


BROKEN = {
    "nothing": b"",
    "a PNG's first bytes": b"\x89PNG",
    "a WebP's first bytes": b"RIFF",
    "a WebP without flags": b"RIFF\x00\x00\x00\x00WEBPVP8X",
    "text": b"no image",
    "half a JPEG": JPEGS["an RGB JPEG"][:800],
    "half a PNG": PICTURES["an RGB PNG"][:800],
    # TensorFlow aborts the process on this one if it is asked for the image's own channels.
    "an animated WebP without alpha": _encode(
        PHOTO, "WEBP", lossless=True, save_all=True, append_images=[TURNED]
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_error_and_no_more_comes_of(name):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(tf.constant(BROKEN[name]))


def _window_of(data, orientation, window, size):
    pixels, box = decode_window(data, orientation, lambda h, w: window, size)
    return pixels.numpy(), box.numpy().tolist()


@pytest.mark.parametrize("name", [*JPEGS, "an RGB PNG", "a PNG with alpha", "an animated GIF"])
@pytest.mark.parametrize(
    "window", [(0, 0, 48, 64), (5, 9, 23, 31), (47, 63, 1, 1), (16, 16, 32, 48)]
)
def test_cropping_while_decoding_equals_cropping_afterwards(name, window, monkeypatch):
    monkeypatch.setattr("keras_resnet.data.decode.SMALL", 0)  # or these would be decoded whole
    y, x, h, w = window
    whole = decode(FILES[name]).numpy()[y : y + h, x : x + w]
    cropped, box = _window_of(FILES[name], 1, window, 64)
    assert box == [0, 0, h, w]
    np.testing.assert_array_equal(cropped, whole)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_a_window_of_a_photo_has_the_pixels_of_the_whole_to_the_last_bit(subsampling):
    """Its outermost columns too, whose colour is smoothed with that of their neighbours."""
    rng = np.random.default_rng(subsampling)
    coarse = Image.fromarray(rng.integers(0, 256, (60, 80, 3), np.uint8))
    data = _encode(coarse.resize((400, 300)), "JPEG", quality=90, subsampling=subsampling)
    whole = decode(tf.constant(data)).numpy()
    for _ in range(30):
        h, w = (int(n) for n in rng.integers(1, (300, 400)))
        y, x = int(rng.integers(0, 301 - h)), int(rng.integers(0, 401 - w))
        pixels, box = _window_of(data, 1, (y, x, h, w), 400)
        np.testing.assert_array_equal(pixels, whole[y : y + h, x : x + w])
        np.testing.assert_array_equal(box, (0, 0, h, w))


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_window_counts_in_the_image_as_displayed(turn):
    data = JPEGS["an RGB JPEG"]
    whole = decode(data, turn).numpy()
    window, _ = _window_of(data, turn, (3, 7, 20, 30), 20)
    np.testing.assert_array_equal(window, whole[3:23, 7:37])


@pytest.mark.parametrize("shrink", [1, 2, 3, 4, 7, 8, 9, 20])
def test_a_large_photo_is_decoded_small_and_knows_where_the_window_is(shrink):
    y, x, side = 43, 131, 725
    data = _encode(_picture(1000, 800), "JPEG", quality=95)
    small, box = _window_of(data, 1, (y, x, side, side), side // shrink)
    ratio = max(r for r in (1, 2, 4, 8) if r <= shrink)
    assert box == [(y % ratio) / ratio, (x % ratio) / ratio, side / ratio, side / ratio]
    assert max(small.shape[:2]) <= side / ratio + 2
    # A pixel is the mean of the square that it covers.
    top, left, rows, columns = y // ratio, x // ratio, *(n - 1 for n in small.shape[:2])
    area = decode(data).numpy()[top * ratio :, left * ratio :][: rows * ratio, : columns * ratio]
    means = area.reshape(rows, ratio, columns, ratio, 3).mean((1, 3))
    assert np.abs(small[:rows, :columns] - means).max() < 4


@pytest.fixture
def large(monkeypatch):
    """Photos of this file's size count as large."""
    for module in ("decode", "pixels"):
        monkeypatch.setattr(f"keras_resnet.data.{module}.LARGE", 100_000)


@pytest.mark.parametrize("fit", ["crop", "pad"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_a_large_turned_photo_is_decoded_small_and_shows_the_same_window(turn, fit, large):
    exif = Image.Exif()
    exif[0x0112] = turn
    data = _encode(_picture(1001, 803), "JPEG", quality=95, exif=exif)
    form = Geometry(60, 80, fit)
    small, _ = decode_window(data, turn, lambda h, w: (0, 0, h, w), (60, 80))
    assert max(small.shape[:2]) == 1 + 1000 // 8
    view = views.center_view(tf.constant(data), turn, size=form, crop=0.9).numpy()
    np.testing.assert_array_equal(
        without_tensorflow.center_view(data, turn, size=form, crop=0.9), view
    )
    expected = without_tensorflow.center_view(_displayed(data), 1, size=form, crop=0.9)
    assert np.abs(view.astype(int) - expected).max() <= 8
    assert np.abs(view.astype(int) - expected).mean() < 1


def test_a_jpeg_of_more_pixels_than_an_int32_counts_is_large():
    data = _encode(_picture(512, 512), "JPEG")
    size = data.index(b"\xff\xc0") + 5
    data = data[:size] + struct.pack(">HH", 50000, 50000) + data[size + 4 :]
    corner, _ = decode_window(data, 1, lambda h, w: (0, 0, 512, 512), 64)
    assert corner.shape == (64, 64, 3)


def test_a_large_photo_is_checked_at_a_fraction_of_its_size(large):
    whole = _encode(_picture(1000, 800), "JPEG", quality=95)
    size = whole.index(b"\xff\xc0") + 5  # of the picture, in its header: 800 rows
    longer = whole[:size] + (1200).to_bytes(2, "big") + whole[size + 2 :]
    for data, is_good in ((whole, True), (longer, False)):
        pixels = decode_to_check(tf.constant(data))
        assert pixels.shape[1] == 125
        assert bool(is_complete(tf.constant(data), pixels)) == is_good
    assert without_tensorflow.decode_complete(whole).shape == (100, 125, 3)
    with pytest.raises(InputError, match="pixels are missing"):
        without_tensorflow.decode_complete(longer)


def test_a_tf_data_graph_decodes_as_python_does():
    stream = tf.data.Dataset.from_tensor_slices(list(FILES.values())).map(decode)
    for name, pixels in zip(FILES, stream, strict=True):
        np.testing.assert_array_equal(pixels, decode(FILES[name]), err_msg=name)
