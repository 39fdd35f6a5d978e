"""Checks files: finds the images for training, and the reason for each unused file.

Files in the cache are not decoded again. The others are decoded once, in the pass that also keeps
small images in memory.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from keras_resnet import progress
from keras_resnet.data import check_cache, examples, pixels
from keras_resnet.data.examples import Examples
from keras_resnet.data.photo import File, Header, Look, Photo, Reject, read_headers

_UNDECODABLE = "cannot be decoded: damaged, or an unsupported format"
_FEW = 2000  # up to this number, images are decoded faster than TensorFlow starts
_THUMBNAIL = (8, 9)  # height and width of the thumbnail for an image's hash


def check_files(
    root: str,
    files: Sequence[File],
    *,
    check: str = "full",
    in_memory: bool = False,
    fresh: bool = False,
    is_whole: bool = False,
    checked_until: int = 0,
    look: bool = False,
) -> tuple[list[Photo | Reject], Examples]:
    """Checks files: `(results, images)`.

    Args:
        root: the data folder whose cache is used; empty: no cache.
        files: triples of path, name and label.
        check: `"full"`: decode each image that is not in the cache; `"headers"`: only read the
            headers.
        in_memory: whether to keep small images decoded in memory.
        fresh: whether to ignore the cache and check every file.
        is_whole: whether these are all files of the folder.
        checked_until: a time in nanoseconds since 1970: files not modified since then are known to
            decode.
        look: whether to decode every image and set the `Look` of each photo.

    Returns:
        results: a `Photo` or a `Reject` for each file, in order.
        images: `Examples` of the photos, in order; all labels are 0.
    """
    cache = check_cache.load(root) if root else {}
    looks = read_headers(files, {} if fresh else cache)
    results = list(progress.track(looks, len(files), "reading headers", "files"))
    try:
        images = _decode(results, check, in_memory, checked_until, look)
    finally:  # even after an interruption, good files need not be decoded again
        if root:
            _remember(root, cache, files, results, is_whole)
    return results, images


def _decode(
    results: list[Photo | Reject], check: str, in_memory: bool, checked_until: int, look: bool
) -> Examples:
    """`Examples` of the photos; a photo that cannot be decoded becomes a `Reject` in `results`."""
    placed = [(i, result) for i, result in enumerate(results) if isinstance(result, Photo)]
    photos = [photo for _, photo in placed]
    images = _as_examples(photos)
    good: Iterable[int]
    shapes = [_shape(photo.header) for photo in photos]
    if look:
        found = pixels.decoded(images, look_at)
        for number, seen in progress.track(found, len(images), "checking images", "images"):
            photos[number].look = seen
        good = [i for i, photo in enumerate(photos) if photo.look]
        _mark(photos[i] for i in good)
        images = images.take(good)
    elif kept := in_memory and photos and _preload(images, shapes):
        images, good = kept
        _mark(photos[i] for i in good)
    elif check == "full":
        headers = [photo.header for photo in photos]
        known = [header.is_decoded or header.mtime_ns <= checked_until for header in headers]
        unknown = [i for i, is_known in enumerate(known) if not is_known]
        for numbers in decodable(images.take(unknown)):
            _mark(photos[unknown[number]] for number in numbers)
        good = [i for i, photo in enumerate(photos) if known[i] or photo.header.is_decoded]
        images = images.take(good)
    else:
        return images
    for i in set(range(len(photos))).difference(good):
        results[placed[i][0]] = Reject(photos[i].path, _UNDECODABLE)
    return images


def decodable(images: Examples) -> Iterator[list[int]]:
    """Decodes all images; yields lists of the numbers of the good ones."""
    if len(images) <= _FEW:
        found: Iterable[list[int]] = ([number] for number, _ in pixels.decoded(images, np.shape))
    else:
        from keras_resnet.data import preload  # imports TensorFlow

        found = preload.decodable(images)
    with progress.bar(len(images), "checking images", "images") as advance:
        for numbers in found:
            yield numbers
            advance(len(numbers))


def look_at(decoded: pixels.Pixels) -> Look:
    """The `Look` of an image."""
    step = max(min(decoded.shape[:2]) // 64, 1)  # about 64 pixels suffice for the thumbnail
    grey = decoded[::step, ::step].sum(-1, dtype=np.float64)
    rows, columns = (_areas(*sides) for sides in zip(grey.shape, _THUMBNAIL, strict=True))
    thumbnail = rows @ grey @ columns.T
    brighter = thumbnail[:, 1:] > thumbnail[:, :-1] + 1e-3  # above the rounding error
    (number,) = np.packbits(brighter, bitorder="little").view("<i8")
    thumbnail -= thumbnail.min()
    grey = np.rint(thumbnail * (255 / max(thumbnail.max(), 1e-3)))
    return Look(int(decoded.max()), int(number), grey.astype(np.uint8).tobytes())


def _areas(length: int, count: int) -> npt.NDArray[np.float64]:
    """The share of each pixel in each of `count` equal parts of a line: `(count, length)`."""
    edges, pixel = np.arange(count + 1)[:, None] * length / count, np.arange(length)
    return np.maximum(np.minimum(edges[1:], pixel + 1) - np.maximum(edges[:-1], pixel), 0)


def _preload(
    images: Examples, shapes: Sequence[tuple[int, int, int]]
) -> tuple[Examples, npt.NDArray[np.int64]] | None:
    from keras_resnet.data import preload  # imports TensorFlow

    return preload.preload(images, shapes) if preload.fits(shapes) else None


def _mark(photos: Iterable[Photo]) -> None:
    for photo in photos:
        if not photo.header.is_decoded:
            photo.header = photo.header._replace(is_decoded=True)


def _remember(
    root: str,
    cache: Mapping[str, Header],
    files: Sequence[File],
    results: list[Photo | Reject],
    is_whole: bool,
) -> None:
    headers = {} if is_whole else dict(cache)
    for (_, name, _), result in zip(files, results, strict=True):
        if isinstance(result, Photo):
            headers[name] = result.header
        else:
            headers.pop(name, None)
    if headers != cache:
        check_cache.save(root, headers)


def _as_examples(photos: Sequence[Photo]) -> Examples:
    return examples.from_files(
        [os.fsencode(photo.path) for photo in photos],
        [0] * len(photos),
        [photo.name for photo in photos],
        [photo.header.orientation for photo in photos],
        [photo.header.digest for photo in photos],
    )


def _shape(header: Header) -> tuple[int, int, int]:
    return header.width, header.height, header.size
