"""What `data check` and `data show` find out about a data set."""

import hashlib
from collections import defaultdict

import numpy as np

from keras_resnet.data import folder, sources
from keras_resnet.data.names import is_folder
from keras_resnet.data.stream import evaluation_stream
from keras_resnet.progress import track


def check(data, data_dir=None):
    """Counts a data set and names what is wrong with it; broken files are no error here.

    Every file is looked at, whatever an earlier check found.

    Returns:
        {data, files, used, skipped: {reason: n}, classes: {name: n}, splits: {name: n},
        bad: [{file, reason}], duplicates: [[file, file, …]], leaks: n}: `duplicates` are files of
        equal content; `leaks` counts those groups that lie in more than one split, so that a model
        is judged by an image it was trained on. For a folder `used + skipped = files`.

    Raises:
        InputError: as `keras_resnet.data.folder.scan`.
    """
    if is_folder(data):
        found = folder.scan(data, fresh=True)
        groups = _duplicates(found.photos)
        return {
            "data": data,
            **found.report(),
            "duplicates": [[folder.show(p.name) for _, p in group] for group in groups],
            "leaks": sum(len({split for split, _ in group}) > 1 for group in groups),
        }
    source = sources.load_all(data, data_dir=data_dir)
    labels = np.concatenate([examples.labels for examples in source.splits.values()])
    counts = np.bincount(labels, minlength=len(source.classes))
    return {
        "data": data,
        "files": len(labels),
        "used": len(labels),
        "skipped": {},
        "classes": dict(zip(source.classes, counts.tolist(), strict=True)),
        "splits": {split: len(examples) for split, examples in source.splits.items()},
        "bad": [],
        "duplicates": [],
        "leaks": 0,
    }


def sample(data, count, *, size, seed=0, data_dir=None):
    """`count` images of a data set, classes in turn, as evaluation shows them.

    Returns:
        uint8 `(n, size, size, 3)` and n class names.
    """
    source = sources.load_all(data, on_bad_image="skip", data_dir=data_dir)
    examples = next(iter(source.splits.values()))
    chosen = examples.take(classes_in_turn(examples.labels, count, seed))
    stream = evaluation_stream(chosen, size=size, crop=1.0, batch_size=64)
    images = np.concatenate([batch for batch, _ in stream.as_numpy_iterator()])
    return images, [source.classes[k] for k in chosen.labels]


def classes_in_turn(labels, count, seed):
    """Numbers of `count` examples in a seeded order, one of each class after the other."""
    order = np.random.default_rng(seed).permutation(len(labels))
    rank = np.empty(len(labels), int)  # how many of its class come before it
    for k in np.unique(labels):
        members = order[labels[order] == k]
        rank[members] = np.arange(len(members))
    return np.lexsort((labels, rank))[:count]


def _duplicates(photos):
    """Groups of (split, photo) whose files are equal, byte for byte."""
    everything = [(split, photo) for split, group in photos.items() for photo in group]
    same = defaultdict(list)
    for split, photo in track(everything, len(everything), "comparing images", "images"):
        with open(photo.path, "rb") as file:
            same[hashlib.file_digest(file, "sha256").digest()].append((split, photo))
    return [group for group in same.values() if len(group) > 1]
