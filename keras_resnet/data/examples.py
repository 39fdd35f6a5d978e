"""Labelled images, addressed by number: in files, memory or records.

TensorFlow is imported only when a stream needs it.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from keras_resnet.data.photo import digest

if TYPE_CHECKING:
    import tensorflow as tf

# Examples are looked up in blocks of this many bytes: passing `items` to each look-up takes time
# proportional to the number of its strings, 25 µs per thousand.
_BLOCK_BYTES, _LEAST, _MOST = 1 << 22, 32, 1024


# A function of an item to an encoded string or uint8 pixels.
Read = Callable[["tf.Tensor"], "tf.Tensor"]
Numbers = Sequence[int] | npt.NDArray[np.integer]


class Items:
    """Paths (bytes) or pixels, converted to a tensor on first use (pixels of one size only)."""

    def __init__(self, values: npt.NDArray[Any] | Sequence[npt.NDArray[np.uint8]]) -> None:
        self.values = values

    @cached_property
    def tensor(self) -> "tf.Tensor":
        import tensorflow as tf

        with tf.device("CPU:0"):
            return tf.convert_to_tensor(self.values)


@dataclass(frozen=True)
class Examples:
    """n labelled images.

    `items` are converted to images by `read`: paths, encoded images, numbers of records, or uint8
    pixels `(m, h, w, 3)`. Subsets of the same images share them.
    """

    items: "Items | tf.Tensor"  # m ≥ n items
    rows: npt.NDArray[np.int64]  # index in `items` of each example, (n,)
    labels: npt.NDArray[np.int32]  # (n,)
    names: list[str]  # name of each image in reports; unique
    read: Read
    orientations: npt.NDArray[np.int32]  # EXIF, (n,)
    digests: npt.NDArray[np.int64]  # of the content, (n,); see `photo.digest`
    folders: list[str] | None = None  # of each file, relative to its class folder

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: npt.ArrayLike) -> "Examples":
        """The examples with these numbers, in this order."""
        indices = np.asarray(indices, dtype=np.int64)
        return replace(
            self,
            rows=self.rows[indices],
            labels=self.labels[indices],
            names=[self.names[i] for i in indices],
            orientations=self.orientations[indices],
            digests=self.digests[indices],
            folders=None if self.folders is None else [self.folders[i] for i in indices],
        )

    @property
    def item_tensor(self) -> "tf.Tensor":
        """`items` as a tensor."""
        return self.items.tensor if isinstance(self.items, Items) else self.items

    @cached_property
    def tensors(self) -> tuple["tf.Tensor", ...]:
        """Items, rows, orientations and labels; the same tensors for every stream."""
        import tensorflow as tf

        with tf.device("CPU:0"):
            return self.item_tensor, *map(tf.constant, (self.rows, self.orientations, self.labels))

    @cached_property
    def block(self) -> int:
        """Number of examples that are looked up at once."""
        import tensorflow as tf

        items = self.item_tensor
        if items.dtype == tf.string:
            size = float(tf.reduce_mean(tf.cast(tf.strings.length(items), tf.float32)))
        else:
            size = tf.dtypes.as_dtype(items.dtype).size * np.prod(items.shape[1:])
        return int(np.clip(_BLOCK_BYTES / max(size, 1), _LEAST, _MOST))

    def look_up(self, numbers: "tf.data.Dataset") -> "tf.data.Dataset":
        """The example for each number in a tf.data.Dataset of pairs (anything, number).

        Returns:
            tf.data.Dataset of (anything, item, orientation, label), with items for `read`.
        """
        return self.look_up_blocks(numbers.batch(self.block)).unbatch()

    def look_up_blocks(self, numbers: "tf.data.Dataset") -> "tf.data.Dataset":
        """`look_up` for batches of pairs; returns a dataset of batches."""
        import tensorflow as tf

        # The tensors are elements of a dataset, passed by reference: tensors captured by a tf.data
        # function are copied into the graph of each stream. Passing takes 0.1 ms, hence blocks.
        tensors = tf.data.Dataset.from_tensors(self.tensors).repeat()

        @tf.autograph.experimental.do_not_convert
        def look_up(
            pairs: tuple["tf.Tensor", "tf.Tensor"], tensors: tuple["tf.Tensor", ...]
        ) -> tuple["tf.Tensor", ...]:
            about, index = pairs
            items, rows, orientations, labels = tensors
            return (
                about,
                tf.gather(items, tf.gather(rows, index)),
                tf.gather(orientations, index),
                tf.gather(labels, index),
            )

        return tf.data.Dataset.zip(numbers, tensors).map(look_up)

    def all(self) -> "tf.data.Dataset":
        """`look_up` of all examples, in order, with their numbers."""
        import tensorflow as tf

        numbers = tf.data.Dataset.range(len(self))
        return self.look_up(tf.data.Dataset.zip(numbers, numbers))

    def image(self, index: int) -> "tf.Tensor":
        """The encoded image, or the pixels, of one example."""
        return self.read(self.item_tensor[self.rows[index]])

    @property
    def needs_tensorflow(self) -> bool:
        """Whether only TensorFlow can read the images; otherwise `content` can."""
        return not isinstance(self.items, Items)

    @property
    def are_decoded(self) -> bool:
        """Whether the images are pixels in memory."""
        return isinstance(self.items, Items) and self.read is as_it_is

    def content(self, index: int) -> bytes | npt.NDArray[np.uint8]:
        """The content of the file, or the pixels, of one example; without TensorFlow.

        Raises:
            OSError: the file cannot be read.
        """
        assert isinstance(self.items, Items)
        item = self.items.values[self.rows[index]]
        return Path(os.fsdecode(item)).read_bytes() if isinstance(item, bytes) else item


def from_files(
    paths: Sequence[bytes],
    labels: Numbers,
    names: list[str],
    orientations: npt.ArrayLike,
    digests: Sequence[int],
) -> Examples:
    """Images in files; `paths` are bytes, because a name may not be UTF-8."""
    items = Items(np.array(paths, object))
    return _examples(items, labels, names, read_file, orientations, digests)


def from_bytes(
    encoded: Sequence[bytes], labels: Numbers, names: list[str], orientations: npt.ArrayLike
) -> Examples:
    """Encoded images in memory."""
    import tensorflow as tf

    items = tf.convert_to_tensor(encoded, tf.string)  # always in the memory of the CPU
    digests = [digest(content) for content in encoded]
    return _examples(items, labels, names, as_it_is, orientations, digests)


def from_pixels(
    images: Sequence[npt.NDArray[np.uint8]] | npt.NDArray[np.uint8],
    labels: Numbers,
    names: list[str],
) -> Examples:
    """Decoded images in memory: uint8 `(h, w, 3)` each. A TensorFlow stream needs one size."""
    digests = [digest(image.tobytes()) for image in images]
    return _examples(Items(images), labels, names, as_it_is, np.ones(len(labels)), digests)


def from_records(labels: Numbers, names: list[str], read: Read, digests: Sequence[int]) -> Examples:
    """Images that `read` looks up by number."""
    import tensorflow as tf

    with tf.device("CPU:0"):
        items = tf.range(len(labels), dtype=tf.int64)
    return _examples(items, labels, names, read, np.ones(len(labels)), digests)


def classes_in_turn(labels: Numbers, count: int, seed: int) -> npt.NDArray[np.int64]:
    """Numbers of `count` examples in a seeded order, alternating between classes."""
    labels = np.asarray(labels)
    order = np.random.default_rng(seed).permutation(len(labels))
    rank = np.empty(len(labels), int)
    rank[order] = rank_in_class(labels[order])
    return np.lexsort((labels, rank))[:count]


def rank_in_class(labels: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """For each label, the number of equal labels before it."""
    rank = np.empty(len(labels), int)
    for k in np.unique(labels):
        members = np.flatnonzero(labels == k)
        rank[members] = np.arange(len(members))
    return rank


def read_file(path: "tf.Tensor") -> "tf.Tensor":
    """`Examples.read` for paths: returns the content of the file."""
    import tensorflow as tf

    return tf.io.read_file(path)


def as_it_is(item: "tf.Tensor") -> "tf.Tensor":
    """`Examples.read` for encoded images or pixels: returns them unchanged."""
    return item


def _examples(
    items: "Items | tf.Tensor",
    labels: Numbers,
    names: list[str],
    read: Read,
    orientations: npt.ArrayLike,
    digests: Sequence[int],
) -> Examples:
    rows, known = np.arange(len(labels)), np.array(digests, np.int64)
    return Examples(items, rows, _int32(labels), names, read, _int32(orientations), known)


def _int32(values: npt.ArrayLike) -> npt.NDArray[np.int32]:
    return np.asarray(values, dtype=np.int32).reshape(-1)
