"""DATA, the word of every command -> labelled examples by split: digits, a folder, tfds:NAME."""

import json
import os
from dataclasses import dataclass, field, replace

import numpy as np

from keras_resnet import files, progress
from keras_resnet.data import folder
from keras_resnet.data.examples import Examples, from_pixels
from keras_resnet.data.names import is_folder, require
from keras_resnet.errors import InputError
from keras_resnet.files import write_text


@dataclass(frozen=True)
class Source:
    """A data set: examples by split ("train", "val" and, where there is one, "test")."""

    name: str
    classes: list[str]
    splits: dict[str, Examples]
    mirrors: bool = True  # whether a mirrored image still shows its class
    check: dict = field(default_factory=dict)  # what the check of a folder found


def load(data, *, val_split=0.2, seed=0, on_bad_image="error", data_dir=None):
    """A data set with a train and a val split.

    Where the data come without a val split, one is made: stratified, seeded, at least one image of
    each class on either side.

    Args:
        data: `"digits"`, a folder of images, or `"tfds:NAME[/CONFIG]"`.
        val_split: share of each class that is held out, if a split must be made.
        seed: decides which images those are.
        on_bad_image: `"error"` or `"skip"`; for a folder.
        data_dir: where tensorflow-datasets keeps its files.

    Raises:
        InputError: nothing usable there; the line names it and the next step.
    """
    source = _open(data, on_bad_image, data_dir)
    splits = dict(source.splits)
    if "val" not in splits:
        pool = splits.pop("all", None) or splits.pop("train")
        held_out = _stratified(pool.labels, source.classes, val_split, seed)
        splits["train"] = pool.take(np.flatnonzero(~held_out))
        splits["val"] = pool.take(np.flatnonzero(held_out))
    return Source(source.name, source.classes, splits, source.mirrors, source.check)


def load_all(data, *, on_bad_image="error", data_dir=None):
    """A data set as it lies there, under "all" or by the splits it has, and nothing made up."""
    return _open(data, on_bad_image, data_dir)


def save_split(source, path):
    """Notes which image is in which split, so that a run is judged on the same images for ever."""
    content = {
        split: [
            [name, source.classes[label]]
            for name, label in zip(examples.names, examples.labels, strict=True)
        ]
        for split, examples in source.splits.items()
    }
    # ASCII: a name may hold any bytes
    write_text(path, json.dumps(content, ensure_ascii=True, indent=0))


def load_saved(path, *, data, classes, data_dir=None):
    """A data set in the splits that `save_split` noted, to go on with a run.

    Files that were written since are named: the run will not be the one that was begun.

    Raises:
        InputError: images that are gone.
    """
    splits = {
        split: load_split(path, split, data=data, classes=classes, data_dir=data_dir)
        for split in files.read_json(path)
    }
    if is_folder(data):
        _say_what_changed(data, splits, os.stat(path).st_mtime)
    return Source(data, classes, splits, mirrors=data != "digits")


def _say_what_changed(root, splits, since):
    names = [name for examples in splits.values() for name in examples.names]
    changed = [n for n in names if os.stat(os.path.join(root, n)).st_mtime > since]
    if changed:
        progress.say(
            f"{folder.show(changed[0])} changed after the run had begun ({len(changed)} such): it "
            "will not be the run that it would have been"
        )


def load_split(path, split, *, data, classes, data_dir=None):
    """The examples of one split as `save_split` noted them.

    Raises:
        InputError: no such split, or images that are gone.
    """
    try:
        with open(path, encoding="utf-8") as file:
            saved = json.load(file)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder.show(path)} cannot be read ({error}); name a data folder to use instead"
        ) from None
    if split not in saved:
        raise InputError(f"the run has no {split} split; it has {', '.join(saved)}")
    wanted = saved[split]
    if is_folder(data):
        found, bad = folder.from_names(data, wanted, classes)
        if bad:
            lost, reason = bad[0]
            raise InputError(
                f"{folder.show(lost)}, of the run's {split} split: {reason} ({len(bad)} such); put "
                'it back, or name the folder they are in now as "data" in the run\'s config.json'
            )
        return found
    source = _open(data, "error", data_dir)
    place = {
        name: (examples, i)
        for examples in source.splits.values()
        for i, name in enumerate(examples.names)
    }
    lost = [name for name, _ in wanted if name not in place]
    if lost:
        raise InputError(f"{data} no longer has {lost[0]}, of the run's {split} split")
    pools = {id(place[name][0]): place[name][0] for name, _ in wanted}
    (pool,) = pools.values()  # a saved split comes from one split of the data set
    taken = pool.take([place[name][1] for name, _ in wanted])
    # A run that was imported may number the classes otherwise than the data set.
    labels = np.array([classes.index(name) for _, name in wanted], np.int32)
    return replace(taken, labels=labels)


def _open(data, on_bad_image, data_dir):
    data = os.fspath(data)
    if data == "digits":
        return _digits()
    if data.startswith("tfds:"):
        from keras_resnet.data import catalog

        return Source(data, *catalog.load(data.removeprefix("tfds:"), data_dir))
    require(data)
    splits, classes, found = folder.load(data, on_bad_image=on_bad_image)
    return Source(data, classes, splits, check=found.report())


def _digits():
    """1,797 handwritten digits, 8×8 grey, that come with scikit-learn (UCI, Alpaydin 1998)."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = np.round(digits.images * (255 / 16)).astype(np.uint8)  # (n, 8, 8) in [0, 16]
    images = np.repeat(grey[..., None], 3, axis=-1)
    names = [f"digits/{i:04d}" for i in range(len(images))]
    pool = from_pixels(images, digits.target, names)
    return Source("digits", [str(k) for k in range(10)], {"all": pool}, mirrors=False)


def _stratified(labels, classes, share, seed):
    """Boolean `(n,)`: which examples are held out."""
    held_out = np.zeros(len(labels), bool)
    for k, name in enumerate(classes):
        members = np.flatnonzero(labels == k)
        if len(members) < 2:
            raise InputError(
                f"class {folder.show(name)} has {len(members)} image; at least 2 are needed, one "
                "to train on and one to hold out"
            )
        order = np.random.default_rng([seed, k]).permutation(members)
        count = min(max(round(share * len(members)), 1), len(members) - 1)
        held_out[order[:count]] = True
    return held_out
