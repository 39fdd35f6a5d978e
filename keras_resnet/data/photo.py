"""Reads the headers of files to find the images for training."""

import hashlib
import os
import stat
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from PIL import Image

DECODED = ("JPEG", "PNG", "GIF", "BMP", "WEBP")  # formats that TensorFlow reads (Pillow's names)
NAMED = ("TIFF", "JPEG2000", "ICO", "PPM", "PSD")  # unsupported formats that a report names
HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis")
# A 12000×12000 PNG of 420 kB takes 434 MB to decode; no photo needs this many.
MOST_PIXELS = 100_000_000
MOST_JPEG_PIXELS = 150_000_000  # decoded at a fraction of its size; phones have up to 108 million
IMAGE_ENDINGS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp"),
    *(".tif", ".tiff", ".heic", ".heif", ".avif", ".jxl"),
)
EXIF_ORIENTATION = 0x0112
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG"  # first bytes of such files
_DIGESTED = 1 << 16  # bytes at the beginning and at the end of a file
_THREADS = 16  # more than cores: threads mostly wait for a disk or a network


File = tuple[str, str, str]  # path, name, label


class Header(NamedTuple):
    """Properties of an image file."""

    size: int  # bytes
    mtime_ns: int
    orientation: int  # EXIF, 1 to 8
    width: int
    height: int
    bits: int  # per colour value, 8 or 16
    digest: int  # of the content, see `digest`
    is_decoded: bool  # whether the whole image has been decoded without an error


class Look(NamedTuple):
    """Properties of the pixels of an image."""

    peak: int  # the highest value, in 0…255
    hash: int  # 64 bits: whether an 8×9 thumbnail gets brighter from each pixel to the next right
    thumbnail: bytes  # this thumbnail, in grey from 0 to 255


@dataclass(slots=True)
class Photo:
    """A file that is an image by its header."""

    path: str
    name: str  # relative to the folder, for reports and split.json
    label: str
    header: Header
    look: Look | None = None  # if requested


@dataclass(slots=True)
class Reject:
    """A file that is not used."""

    path: str
    reason: str
    bad: bool = True  # whether it looks like a broken image rather than another kind of file


def read_headers(files: Sequence[File], known: Mapping[str, Header]) -> Iterator[Photo | Reject]:
    """A `Photo` or a `Reject` for each file, in order.

    Args:
        files: triples of path, name and label.
        known: the earlier `Header` of files by name; files with the same size and modification time
            are not opened.
    """

    def read(part: Sequence[File]) -> list[Photo | Reject]:
        return [_look(*file, known.get(file[1])) for file in part]

    parts = [files[i : i + 256] for i in range(0, len(files), 256)]
    # Pillow warns about malformed headers; warning filters are global to all threads.
    with warnings.catch_warnings(action="ignore"), _threads() as pool:
        for part in pool.map(read, parts):
            yield from part


@contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(_THREADS)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)  # so that Ctrl-C does not wait for pending files


def _look(path: str, name: str, label: str, known: Header | None) -> Photo | Reject:
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            return Reject(path, "link to a folder", bad=False)
        if not stat.S_ISREG(status.st_mode):  # opening a FIFO would block
            return Reject(path, "not a regular file", bad=False)
        if known and known[:2] == (status.st_size, status.st_mtime_ns):
            return Photo(path, name, label, known)
        with open(path, "rb") as file:
            image = _open_image(file)
            turn = orientation(image)
            bits = _bits(file) if image.format == "PNG" else 8
            content = _digest_of_file(file, status.st_size, is_compressed=image.format != "BMP")
        header = Header(
            status.st_size, status.st_mtime_ns, turn, *image.size, bits, content, is_decoded=False
        )
        return Photo(path, name, label, header)
    except _NoImage:
        named_as_image = os.path.splitext(path)[1].lower() in IMAGE_ENDINGS
        reason = "not an image" if status.st_size else "empty file"
        return Reject(path, reason, bad=named_as_image)
    except ValueError as error:
        return Reject(path, str(error))
    except OSError as error:
        return Reject(path, f"cannot be read ({error.strerror or error})")


def digest(content: bytes) -> int:
    """A 64-bit hash of content; two contents have the same one with a probability of 2^-64."""
    return _number(hashlib.blake2b(content, digest_size=8))


def _digest_of_file(file: BinaryIO, size: int, *, is_compressed: bool) -> int:
    """The digest of size and content; for a compressed image, of its beginning and end only, which
    identify it without reading a large photo completely."""
    file.seek(0)
    whole = hashlib.blake2b(str(size).encode() + file.read(_DIGESTED), digest_size=8)
    if is_compressed:
        file.seek(max(size - _DIGESTED, file.tell()))
    while part := file.read(_DIGESTED):
        whole.update(part)
    return _number(whole)


def _number(whole: hashlib.blake2b) -> int:
    return int.from_bytes(whole.digest(), "big", signed=True)


def _bits(file: BinaryIO) -> int:
    file.seek(24)  # the bit depth in a PNG's first chunk
    return 16 if file.read(1) == b"\x10" else 8


class _NoImage(Exception):
    pass


def _open_image(file: BinaryIO) -> Image.Image:
    """Opens an image with Pillow, if TensorFlow can decode its format; reads only the header."""
    begin = file.read(12)
    most = MOST_JPEG_PIXELS if begin.startswith(_JPEG) else MOST_PIXELS
    try:
        image = Image.open(file, formats=DECODED + NAMED)
    except Image.DecompressionBombError:  # above 179 million
        raise ValueError(_TOO_LARGE.format(most // 10**6)) from None
    except OSError as error:
        if error.errno:
            raise
        if begin.startswith((_JPEG, _PNG)):
            raise ValueError("damaged header") from None
        if begin[4:8] == b"ftyp" and begin[8:] in HEIF_BRANDS:
            raise ValueError(_WRONG_KIND.format("HEIC and AVIF")) from None
        raise _NoImage from None
    except Exception:  # Pillow raises many types for a damaged header
        raise ValueError("damaged header") from None
    if image.width * image.height > most:
        raise ValueError(_TOO_LARGE.format(most // 10**6))
    if image.format in NAMED:
        raise ValueError(_WRONG_KIND.format(image.format))
    if image.format == "BMP" and image.mode in ("1", "P"):  # TensorFlow reads indices as colours
        raise ValueError(_WRONG_KIND.format("palette BMP"))
    return image


_TOO_LARGE = "more than {} million pixels; make it smaller"
_WRONG_KIND = "{} images cannot be decoded; convert to JPEG or PNG"


def orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 if it is missing or invalid."""
    try:
        # Not image.getexif(): it decodes a whole PNG to look for EXIF after the pixels.
        value = Image.Image.getexif(image).get(EXIF_ORIENTATION, 1)
    except Exception:  # the pixels may still be good
        return 1
    return value if value in range(1, 9) else 1
