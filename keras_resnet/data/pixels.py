"""Decodes and resizes images without TensorFlow, with the same pixels as `decode` and `views`.

Importing TensorFlow takes seconds. Only for an image that Pillow may read differently, or not at
all, it is imported and used.
"""

import io
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from keras_resnet import geometry, runtime
from keras_resnet.data.examples import Examples
from keras_resnet.data.names import show
from keras_resnet.data.photo import DECODED
from keras_resnet.errors import InputError, first_line
from keras_resnet.files import StrPath
from keras_resnet.geometry import LUMA, Geometry

# An image of up to this many pixels is always decoded as a whole: cropping would save little, and
# it can be kept decoded in memory.
SMALL = 256 * 256

# A JPEG of more pixels is decoded at a fraction of its size for a check, or if it has to be turned.
LARGE = 24_000_000
CHECK_RATIO = 8

BATCH = 64

Pixels = npt.NDArray[np.uint8]  # (h, w, 3), or (h, w, 1)
# Images to classify: files, folders and patterns, or images in memory.
Images: TypeAlias = Iterable[StrPath] | StrPath | Iterable[Pixels | Image.Image] | Image.Image
_T = TypeVar("_T")

_JPEG_BEGIN, _JPEG_SCAN, _JPEG_END = b"\xff\xd8\xff", b"\xff\xda", b"\xff\xd9"
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # except markers within a scan
_GIF_END = b";"


class Undecodable(InputError):
    """An image cannot be read, or TensorFlow cannot decode it."""


class _Unsure(Exception):
    """Pillow cannot decode an image, or TensorFlow may decode it differently."""


def batches(examples: Examples, *, size: int | Geometry, crop: float) -> Iterator[Pixels]:
    """Yields batches of every image once, in order, as `stream.evaluation_stream` but without
    TensorFlow.

    Args:
        examples: the images.
        size, crop: as in `center_view`.

    Yields:
        uint8 `(b, h, w, c)`, b = `BATCH`, fewer in the last batch.

    Raises:
        Undecodable: an image changed since it was checked.
    """
    if examples.needs_tensorflow:
        from keras_resnet.data.stream import evaluation_stream

        stream = evaluation_stream(examples, size=size, crop=crop, batch_size=BATCH)
        yield from (images for images, _ in stream.as_numpy_iterator())
        return

    def view(i: int) -> Pixels:
        turn = int(examples.orientations[i])
        try:
            return center_view(_content(examples, i), turn, size=size, crop=crop)
        except Undecodable as error:
            raise Undecodable(f"{show(examples.names[i])} changed: {error}; restore it") from None

    for views in _in_threads(view, len(examples)):
        yield np.stack(list(views))


def decoded(examples: Examples, look: Callable[[Pixels], _T]) -> Iterator[tuple[int, _T]]:
    """Yields the number of each image that can be decoded, and `look` of its upright pixels."""

    def one(i: int) -> tuple[int, _T] | None:
        try:
            stored = decode_complete(_content(examples, i))
            return i, look(_turn(stored, int(examples.orientations[i])))
        except Undecodable:
            return None

    for results in _in_threads(one, len(examples)):
        yield from filter(None, results)


def _in_threads(function: Callable[[int], _T], count: int) -> Iterator[Iterator[_T]]:
    """Yields batches of the results for 0 to `count` - 1; the next batch is computed meanwhile."""
    with ThreadPoolExecutor(runtime.cores()) as pool:
        parts = (
            pool.map(function, range(first, min(first + BATCH, count)))
            for first in range(0, count, BATCH)
        )
        current = next(parts, None)
        while current is not None:
            following = next(parts, None)
            yield current
            current = following


def _content(examples: Examples, index: int) -> bytes | Pixels:
    try:
        return examples.content(index)
    except OSError as error:
        raise Undecodable(error.strerror or str(error)) from None


def decode(data: bytes, orientation: int = 1) -> Pixels:
    """The whole image, upright, as `decode.decode`.

    Raises:
        Undecodable: the image is damaged or has an unsupported format.
    """
    return _turn(decode_stored(data), orientation)


def decode_stored(data: bytes) -> Pixels:
    """The whole image, ignoring EXIF orientation, as `decode.decode_stored`.

    Raises:
        Undecodable: as in `decode`.
    """
    try:
        return _by_pillow(data)
    except _Unsure:
        return _by_tensorflow(data)


def of_image(image: Any, name: str) -> Pixels:
    """The RGB pixels of an image in memory.

    Args:
        image: uint8 `(h, w, 3)`, RGB, or `(h, w)` or `(h, w, 1)`, grey; or an image of Pillow,
            which is turned upright and composited on white like a PNG file of it.
        name: for messages.

    Raises:
        InputError: another object, array or mode, or Pillow cannot read its file.
    """
    if isinstance(image, Image.Image):
        return _of_pillow(image, name)
    if not hasattr(image, "__array__"):
        raise InputError(
            f"{type(image).__name__} is not an image; give files, folders, patterns like '*.jpg', "
            "Pillow's images, or arrays of uint8 pixels (h, w, 3), RGB"
        )
    array = np.asarray(image)
    is_image = array.ndim in (2, 3) and array.shape[2:] in ((), (1,), (3,)) and array.size
    if array.dtype != np.uint8 or not is_image:
        floats = "; convert floats in [0, 1] by (255 * x).round().astype('uint8')"
        raise InputError(
            f"{name} is an array of {array.dtype} {array.shape}; expected uint8 pixels (h, w, 3), "
            f"RGB in 0 to 255, or (h, w), grey{floats if array.dtype.kind == 'f' else ''}"
        )
    return array if array.shape[2:] == (3,) else _repeated(array.reshape(array.shape[:2]))


def _of_pillow(image: Image.Image, name: str) -> Pixels:
    if image.mode in ("I", "F"):
        raise InputError(
            f"{name} has Pillow's mode {image.mode!r}, of unknown range; convert it to RGB"
        )
    try:
        return _of_png(ImageOps.exif_transpose(image))
    except Exception as error:  # Pillow reads the file now, and raises many types
        raise InputError(f"{name}: {first_line(error)}") from None


def decode_complete(data: bytes | Pixels) -> Pixels:
    """`decode_stored` with a check that no pixels are missing; a JPEG of more than `LARGE` pixels
    is decoded at 1/`CHECK_RATIO` of its size.

    Raises:
        Undecodable: as in `decode`, or pixels are missing.
    """
    if not isinstance(data, bytes):
        return data
    pixels = _decode_to_check(data)
    if not pixels.size or not _is_complete(data, pixels):
        raise Undecodable("pixels are missing")
    return pixels


def _decode_to_check(data: bytes) -> Pixels:
    """As `decode.decode_to_check`."""
    if _is_whole_jpeg(data):
        with suppress(_Unsure):
            image = _open(data)
            if image.width * image.height > LARGE:
                image.draft(None, (image.width // CHECK_RATIO, image.height // CHECK_RATIO))
                return _of_jpeg(image)
    return decode_stored(data)


def center_view(
    data: bytes | Pixels, orientation: int, *, size: int | Geometry, crop: float
) -> Pixels:
    """An image as the network sees it in evaluation, as `views.center_view`.

    Args:
        data: an encoded image, or pixels.
        orientation: EXIF orientation of an encoded image, 1 to 8.
        size: `Geometry` of the result, or the side of a square, in pixels.
        crop: as in `Geometry.window`.

    Returns:
        uint8 `(h, w, c)`.

    Raises:
        Undecodable: as in `decode`.
    """
    form = geometry.of(size)
    return with_channels(_view(data, orientation, form, crop), form.channels)


def with_channels(pixels: Pixels, channels: int) -> Pixels:
    """RGB unchanged, or converted to luma, as `views.with_channels`."""
    if channels == 3:
        return pixels
    luma = (pixels.astype(np.int32) @ np.array(LUMA, np.int32) + (1 << 15)) >> 16
    return luma.astype(np.uint8)[..., None]


def _view(data: bytes | Pixels, orientation: int, form: Geometry, crop: float) -> Pixels:
    if not isinstance(data, bytes):
        whole = data
    else:
        if _is_whole_jpeg(data):
            with suppress(_Unsure):
                return _view_of_jpeg(data, orientation, form, crop)
        whole = decode(data, orientation)
    y, x, h, w = form.window(whole.shape[0], whole.shape[1], crop)
    return _resize(whole[y : y + h, x : x + w], (0.0, 0.0, h, w), form)


def _view_of_jpeg(data: bytes, orientation: int, form: Geometry, crop: float) -> Pixels:
    """`_view` of a JPEG, decoded at 1/2, 1/4 or 1/8 of its size if it is large."""
    image = _open(data)
    flips = Flips(*(int(orientation in some) for some in FLIPPED))
    *_, height, width = flips.swapped((0, 0, image.height, image.width))
    window = form.window(height, width, crop)
    is_large = width * height > (SMALL if orientation <= 1 else LARGE)
    shrink = min(window[2] // form.height, window[3] // form.width)
    ratio = next(r for r in (8, 4, 2, 1) if shrink >= r or r == 1) if is_large else 1
    y, x, h, w = flips.stored(window, height, width)
    if ratio > 1:
        image.draft(None, (image.width // ratio, image.height // ratio))
    pixels = _of_jpeg(image)
    top, left = y // ratio, x // ratio
    bottom, right = -(-(y + h) // ratio), -(-(x + w) // ratio)
    box = (y / ratio - top, x / ratio - left, h / ratio, w / ratio)
    box = flips.displayed(box, bottom - top, right - left)
    return _resize(_turn(pixels[top:bottom, left:right], orientation), box, form)


# EXIF orientations, 1 to 8, for which stored pixels have to be transposed, then reversed from top
# to bottom, and reversed from left to right.
FLIPPED = ((5, 6, 7, 8), (3, 4, 7, 8), (2, 3, 6, 7))


class Flips(NamedTuple):
    """Converts boxes (y, x, height, width) between stored and upright pixels. The fields are 0 or
    1: numbers or tensors."""

    swap: Any
    rows: Any
    columns: Any

    def stored(self, box: tuple[Any, ...], height: Any, width: Any) -> tuple[Any, ...]:
        """The box in the stored image, given one in the upright image of this size."""
        return self.swapped(self._reversed(box, height, width))

    def displayed(self, box: tuple[Any, ...], height: Any, width: Any) -> tuple[Any, ...]:
        """The box in the upright image, given one in stored pixels of this size."""
        *_, height, width = self.swapped((0, 0, height, width))
        return self._reversed(self.swapped(box), height, width)

    def swapped(self, box: tuple[Any, ...]) -> tuple[Any, ...]:
        """The box, transposed if the orientation swaps the axes."""
        y, x, h, w = box
        across, longer = self.swap * (x - y), self.swap * (w - h)
        return y + across, x - across, h + longer, w - longer

    def _reversed(self, box: tuple[Any, ...], height: Any, width: Any) -> tuple[Any, ...]:
        y, x, h, w = box
        return (
            y + self.rows * (height - 2 * y - h),
            x + self.columns * (width - 2 * x - w),
            h,
            w,
        )


def _turn(pixels: Pixels, orientation: int) -> Pixels:
    """Stored pixels, turned upright by their EXIF orientation, 1 to 8."""
    swap, rows, columns = (orientation in some for some in FLIPPED)
    if swap:
        pixels = pixels.transpose(1, 0, 2)
    if rows:
        pixels = pixels[::-1]
    if columns:
        pixels = pixels[:, ::-1]
    return pixels


def _by_tensorflow(data: bytes) -> Pixels:
    import tensorflow as tf

    from keras_resnet.data import decode as graph

    try:
        with tf.device("CPU:0"):
            return graph.decode_stored(tf.constant(data)).numpy()
    except (tf.errors.OpError, UnicodeDecodeError) as error:  # the latter in the error's message
        raise Undecodable(first_line(error)) from None


def _by_pillow(data: bytes) -> Pixels:
    image = _open(data)
    match image.format:
        case "JPEG" | "MPO" if _has_end(data):
            return _of_jpeg(image)
        case "PNG" if _is_whole_png(data):
            return _of_png(image)
        case "GIF" if data.endswith(_GIF_END) and _is_still(image):
            return _of_gif(image)
        case "BMP" if image.mode != "P" and _is_plain_bmp(data):
            return _rgb(_load(image))
        case "WEBP" if _is_still(image):
            return _on_white(_load(image))
    raise _Unsure


def _is_still(image: Image.Image) -> bool:
    try:
        return not getattr(image, "is_animated", False)
    except Exception:  # for a GIF, is_animated reads all frames
        raise _Unsure from None


def _open(data: bytes) -> Image.Image:
    try:
        if data.startswith(_JPEG_BEGIN):
            return JpegImageFile(io.BytesIO(data))  # `open` warns above 89 million pixels
        return Image.open(io.BytesIO(data), formats=DECODED)
    except Exception:  # Pillow raises many types for a damaged header
        raise _Unsure from None


def _load(image: Image.Image) -> Image.Image:
    try:
        image.load()
    except Exception:  # and for damaged pixels
        raise _Unsure from None
    return image


def _of_jpeg(image: Image.Image) -> Pixels:
    _load(image)
    if image.mode != "CMYK":
        return _rgb(image)
    if "adobe" not in image.info:  # the inks may be inverted
        raise _Unsure
    colour = 255 - np.asarray(image).astype(np.uint16)  # inks: 0 is white
    return (colour[..., :3] * colour[..., 3:] // 255).astype(np.uint8)


def _of_png(image: Image.Image) -> Pixels:
    if _load(image).mode.startswith("I"):  # 16 bits: "I;16"; "I" in Pillow 10.1
        return _repeated((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode != "P":
        image.info.pop("transparency", None)  # TensorFlow ignores a single transparent colour
    return _on_white(image)


def _of_gif(image: Image.Image) -> Pixels:
    """The pixels of a GIF; transparent ones are black."""
    tiles = getattr(image, "tile", ())
    if [tile[1] for tile in tiles] != [(0, 0, *image.size)]:  # only a part of the canvas
        raise _Unsure
    _load(image)
    if image.mode == "P" and np.asarray(image).max() >= len(image.getpalette() or ()) // 3:
        raise _Unsure
    rgba = np.asarray(image.convert("RGBA"))
    return np.where(rgba[..., 3:], rgba[..., :3], np.uint8(0))


def _rgb(image: Image.Image) -> Pixels:
    return np.asarray(image.convert("RGB"))


def _repeated(grey: npt.NDArray[np.uint8]) -> Pixels:
    return np.repeat(grey[..., None], 3, -1)


def _on_white(image: Image.Image) -> Pixels:
    """The pixels, composited on white with the rounding of `decode`."""
    if not image.has_transparency_data:
        return _rgb(image)
    rgba = np.asarray(image.convert("RGBA")).astype(np.uint16)
    colour, alpha = rgba[..., :3], rgba[..., 3:]
    return ((colour * alpha + (255 - alpha) * 255 + 127) // 255).astype(np.uint8)


def _is_whole_jpeg(data: bytes) -> bool:
    return data.startswith(_JPEG_BEGIN) and _has_end(data)


def _has_end(data: bytes) -> bool:
    """Whether the end marker directly follows the last scan of a JPEG."""
    marker = _JPEG_MARKER.search(data, data.rfind(_JPEG_SCAN) + 2)
    return marker is not None and marker[0] == _JPEG_END and marker.start() == data.rfind(_JPEG_END)


def _is_whole_png(data: bytes) -> bool:
    """Whether the checksums of all chunks up to the last are correct."""
    at = 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        end = at + 8 + length
        if data[end : end + 4] != struct.pack(">I", zlib.crc32(memoryview(data)[at + 4 : end])):
            return False
        if data[at + 4 : at + 8] == b"IEND":
            return True
        at = end + 4
    return False


def _is_plain_bmp(data: bytes) -> bool:
    """Whether a BMP is complete and uncompressed, with 8, 24 or 32 bits per pixel."""
    begin, width, height, _, bits, compression = struct.unpack_from(
        "<I4xiiHHI", data.ljust(34, b"\0"), 10
    )
    is_whole = begin + (bits * width + 31) // 32 * 4 * abs(height) <= len(data)
    return is_whole and compression == 0 and bits in (8, 24, 32)


def _is_complete(data: bytes, pixels: Pixels) -> bool:
    """Whether no pixels are missing, as `decode.is_complete`."""
    if not (data.startswith(_JPEG_BEGIN) and data.endswith(_JPEG_END)):
        return True
    if (pixels[-4:, -4:] != pixels[-1, -1]).any():
        return True
    longer = data[:-2] + b"\xa5\x5a" * 64 + _JPEG_END
    return np.array_equal(_decode_to_check(longer), pixels)


def _resize(pixels: Pixels, box: tuple[float, float, float, float], form: Geometry) -> Pixels:
    """Fits the part `box` (y, x, h, w, in pixels) into `(h, w, 3)`: bilinear, antialiased.

    Computes in float32 in the order of TensorFlow's ScaleAndTranslate, for the same rounding.
    """
    y, x, h, w = (np.float32(n) for n in box)
    height, width = form.resized(box[2], box[3])
    resized = _along_rows(pixels, *_spans(pixels.shape[0], height, np.float32(height) / h, y))
    across = _spans(pixels.shape[1], width, np.float32(width) / w, x)
    resized = _along_rows(resized.transpose(1, 0, 2), *across).transpose(1, 0, 2)
    shown = np.ascontiguousarray(np.clip(np.rint(resized), 0, 255).astype(np.uint8))
    if (height, width) == (form.height, form.width):
        return shown
    return np.pad(shown, (*form.borders(height, width), (0, 0)))


def _along_rows(
    pixels: np.ndarray, rows: npt.NDArray[np.int64], weights: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Weighted sums of rows: `(h, w, 3)` -> `(size, w, 3)`."""
    total = np.zeros((len(rows), *pixels.shape[1:]), np.float32)
    for row, weight in zip(rows.T, weights.T, strict=True):
        total += pixels[row] * weight[:, None, None]
    return total


def _spans(
    length: int, size: int, scale: np.float32, begin: np.float32
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Indices and weights, `(size, n)`, of the source pixels for each pixel of a resized row.

    The row begins at `begin`, in source pixels.
    """
    shift = -begin * scale
    half, one = np.float32(0.5), np.float32(1)
    step = one / scale
    reach = max(step, one)
    centers = (np.arange(size, dtype=np.float32) + half) * step + -step * shift
    first = np.clip(np.ceil(centers - reach - half), 0, length - 1).astype(np.int64)
    last = np.clip(np.floor(centers + reach - half), 0, length - 1).astype(np.int64)
    sources = first[:, None] + np.arange((last - first).max() + 1)
    distances = np.abs((sources.astype(np.float32) + half - centers[:, None]) * (one / reach))
    weights = np.where(sources <= last[:, None], np.maximum(one - distances, 0), np.float32(0))
    weights *= one / np.cumsum(weights, 1, dtype=np.float32)[:, -1:]  # cumsum adds in order
    return np.minimum(sources, length - 1), weights
