"""Labelled images addressed by number, wherever they are kept."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf


@dataclass(frozen=True)
class Examples:
    """n labelled images.

    `items` holds what `read` turns into an image: paths (bytes), encoded images (bytes), numbers
    of records, or uint8 pixels `(n, h, w, 3)`.
    """

    items: np.ndarray
    labels: np.ndarray  # int32 (n,)
    names: list[str]  # what a report calls each image; unique
    read: Callable  # one item, a tensor -> encoded string, or uint8 pixels
    orientations: np.ndarray  # EXIF, int32 (n,)

    def __len__(self):
        return len(self.labels)

    def take(self, indices):
        """The examples with these numbers, in this order."""
        indices = np.asarray(indices, dtype=np.int64)
        return replace(
            self,
            items=self.items[indices],
            labels=self.labels[indices],
            names=[self.names[i] for i in indices],
            orientations=self.orientations[indices],
        )

    def fetcher(self):
        """A function for tf.data: number -> (encoded image or pixels, orientation, label)."""
        items, labels = tf.constant(self.items), tf.constant(self.labels)
        orientations = tf.constant(self.orientations)

        def fetch(index):
            return (
                self.read(tf.gather(items, index)),
                tf.gather(orientations, index),
                tf.gather(labels, index),
            )

        return fetch


def from_files(paths, labels, names, orientations):
    """Images in files; `paths` are bytes, so that a name need not be UTF-8."""
    return Examples(_objects(paths), _int32(labels), names, tf.io.read_file, _int32(orientations))


def from_bytes(encoded, labels, names, orientations):
    """Encoded images in memory."""
    return Examples(_objects(encoded), _int32(labels), names, tf.identity, _int32(orientations))


def from_pixels(images, labels, names):
    """Decoded images in memory: uint8 `(n, h, w, 3)`."""
    return Examples(images, _int32(labels), names, tf.identity, np.ones(len(labels), np.int32))


def _objects(values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _int32(values):
    return np.asarray(values, dtype=np.int32).reshape(-1)
