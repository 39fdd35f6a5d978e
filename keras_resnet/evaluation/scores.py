"""Evaluates artefacts on labelled images, and classifies image files."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from keras_resnet import filenames, manifest
from keras_resnet.config import SETTINGS
from keras_resnet.data import folder, layout, pixels, sources
from keras_resnet.data.examples import Examples, from_pixels
from keras_resnet.data.names import show
from keras_resnet.errors import InputError, require_whole
from keras_resnet.evaluation import lite
from keras_resnet.evaluation.artefact import (
    Artefact,
    isolated_for,
    open_artefact,
    predict_batches,
)
from keras_resnet.evaluation.metrics import Scores, log_softmax, summarize
from keras_resnet.evaluation.per_image import ImageScore, image_scores
from keras_resnet.files import StrPath
from keras_resnet.messages import log, plural, some_of
from keras_resnet.results import Result
from keras_resnet.run import Run, kind_of

if TYPE_CHECKING:
    import tensorflow as tf

BATCH = pixels.BATCH
_FEW = 500  # up to so many images, decoding takes less time than building a TensorFlow graph


@dataclass(frozen=True)
class ArtefactScores(Scores):
    """The scores of an artefact. Its JSON has `suspects` too: the rows whose label may be wrong."""

    artefact: str  # its path
    balance: str | None  # how the training balanced the classes; None without a run
    trained_on: int | None  # number of these images that its run was trained on; None: unknown
    rows: list[ImageScore] = field(repr=False)  # one per image; not in the JSON
    # Images rejected as "none of these"; they count in the scores like the others. None if the
    # artefact has no threshold.
    rejected: int | None = None

    @property
    def suspects(self) -> list[ImageScore]:
        """The images whose label may be wrong, the least likely label first."""
        return sorted((r for r in self.rows if r.suspect), key=lambda row: row.label_score)

    def as_json(self) -> dict[str, Any]:
        """All fields but `rows`; "suspects" has the suspected ones among them."""
        about = {"artefact": self.artefact, "balance": self.balance, "trained_on": self.trained_on}
        suspects = [
            {name: value for name, value in vars(row).items() if name != "suspect"}
            for row in self.suspects
        ]
        content = super().as_json()
        del content["rows"]
        return _without_none({**about, **content, "suspects": suspects}, "rejected")


@dataclass(frozen=True)
class Guess:
    """A predicted class."""

    label: str
    score: float  # its probability, in 0…1


@dataclass(frozen=True)
class Prediction(Result):
    """The prediction for an image."""

    image: str
    predictions: list[Guess]  # best first
    rejected: bool | None = None  # whether it is "none of these"; None: there is no threshold

    def as_json(self) -> dict[str, Any]:
        return _without_none(super().as_json(), "rejected")


def _without_none(content: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key != name or value is not None}


def evaluate(
    artefact: StrPath | Artefact | None = None,
    data: StrPath | None = None,
    *,
    split: Literal["train", "val", "test"] | None = None,
    on_bad_image: Literal["error", "skip"] = "error",
    data_dir: StrPath | None = None,
    trust: bool = False,
) -> ArtefactScores:
    """Scores an artefact on every image of a data set, each exactly once.

    Args:
        artefact: path of a run folder, `.keras`, SavedModel, `.tflite` or `.onnx`; or an opened
            `Artefact`, which is not loaded again. None: the newest run.
        data: as in `train`. A folder of class folders without splits, and `digits`, are scored
            whole. None: the split of the run.
        split: split of the run, or of data with splits: "train", "val" (default) or "test". For a
            folder without splits: the images in it that are in this split of the run, found by
            their content.
        on_bad_image: for a folder: "error", or "skip" to leave broken files out with a warning.
        data_dir: folder of the files of tensorflow-datasets.
        trust: run a SavedModel that was not exported here.

    Returns:
        `ArtefactScores`, such as `evaluate(run).top1`.

    Raises:
        InputError: no such artefact, data or split; classes that the artefact does not have.
    """
    SETTINGS["on_bad_image"].require(on_bad_image)
    with isolated_for(artefact):
        opened = _open(artefact, trust)
        examples = examples_for(opened, data, split, on_bad_image, data_dir)
        own = opened.run.naming_broken_images() if opened.run and data is None else nullcontext()
        with own:
            logits = _logits(opened, examples)
    result = summarize(logits, examples.labels, opened.classes)
    balance, contract = opened.run.config.balance if opened.run else None, opened.contract
    if contract.top and contract.top < 5:  # the file outputs fewer than five classes
        result = replace(result, top5=None)
    rejected = contract.rejects(logits) if contract.reject else None
    return ArtefactScores(
        **vars(result),
        artefact=str(opened.path),
        balance=balance,
        trained_on=trained_on(opened.run, examples),
        rows=image_scores(logits, examples.labels, opened.classes, examples.names, rejected),
        rejected=None if rejected is None else int(rejected.sum()),
    )


def predict(
    artefact: StrPath | Artefact | None,
    images: pixels.Images,
    *,
    top: int = 3,
    on_bad_image: Literal["error", "skip"] = "skip",
    trust: bool = False,
) -> list[Prediction]:
    """Classifies images.

    Args:
        artefact: as in `evaluate`.
        images: path of a file or folder, glob pattern, or several of these. Or one or several
            images in memory, of any sizes, cropped and resized as those of a file: a
            `PIL.Image.Image`, or an array of uint8 `(h, w, 3)`, RGB, or `(h, w)`, grey, in
            [0, 255]; `(n, h, w, 3)` is n images.
        top: number of classes, best first; fewer if the artefact outputs fewer.
        on_bad_image: "skip" names broken files in a warning and classifies the others.
        trust: as in `evaluate`.

    Returns:
        A `Prediction` for each image, in order.

    Raises:
        InputError: no such file, no image, or an array of another type or shape.
    """
    require_whole("--top", top, 1)
    SETTINGS["on_bad_image"].require(on_bad_image)
    with isolated_for(artefact):
        opened = _open(artefact, trust)
        examples = examples_in(images, on_bad_image)
        logits = _logits(opened, examples)
    scores, contract = np.exp(log_softmax(logits)), opened.contract
    rejected = contract.rejects(logits).tolist() if contract.reject else [None] * len(logits)
    named = min(top, opened.contract.top or top)
    best = np.argsort(-scores, axis=-1, kind="stable")[:, :named]
    return [
        Prediction(show(name), [Guess(opened.classes[k], float(row[k])) for k in ks], none)
        for name, row, ks, none in zip(examples.names, scores, best, rejected, strict=True)
    ]


def _open(artefact: StrPath | Artefact | None, trust: bool) -> Artefact:
    """`open_artefact`, after a trial of a `.tflite` file that no manifest beside it describes."""
    if isinstance(artefact, Artefact):
        return artefact
    if artefact is None or isinstance(artefact, Run) or kind_of(artefact) != "tflite":
        return open_artefact(artefact, trust=trust)
    path, place = Path(artefact), Path(artefact).resolve()
    content = path.read_bytes()
    if place.name not in manifest.read(place.parent):
        lite.require_no_crash(path, content)
    return open_artefact(path, content=content)


def examples_in(images: pixels.Images, on_bad_image: str = "error") -> Examples:
    """Examples without labels from files, folders and patterns, or from images in memory.

    Args:
        images: as in `predict`.
        on_bad_image: "error", or "skip" to name broken files in a warning.

    Raises:
        InputError: no such file, a broken one, no image, or an array of another type or shape.
    """
    items = _items(images)
    if not items:
        raise InputError("no image is given; give files, folders or patterns like '*.jpg'")
    paths = [item for item in items if isinstance(item, str | os.PathLike)]
    if not paths:
        names = [f"images[{i}]" for i in range(len(items))]
        return from_pixels(list(map(pixels.of_image, items, names)), [0] * len(items), names)
    if len(paths) < len(items):
        raise InputError("images has paths and images in memory; give either")
    examples, bad = folder.from_paths(_expand(paths))
    for path, reason in bad:
        if on_bad_image == "error" or not len(examples):
            raise InputError(f"{show(path)}: {reason}; leave it out or repair it")
        log.warning(f"{show(path)}: {reason}; skipped")
    if not len(examples):
        raise InputError(
            f"no image among {', '.join(map(show, paths))}; give JPEG, PNG, GIF, BMP or WebP files"
        )
    return examples


def _items(images: object) -> list[Any]:
    """The images one by one: paths, and what `pixels.of_image` takes or refuses."""
    sides = np.ndim(images) if hasattr(images, "__array__") else 0
    if sides == 4:
        return list(np.asarray(images))
    is_one = isinstance(images, str | os.PathLike) or sides in (2, 3)  # 1: a Series of paths
    return [images] if is_one or not isinstance(images, Iterable) else list(images)


def examples_for(
    opened: Artefact,
    data: StrPath | None = None,
    split: str | None = None,
    on_bad_image: str | None = None,
    data_dir: StrPath | None = None,
    *,
    all_without_splits: bool = False,
) -> Examples:
    """The examples to evaluate an artefact on; labels are its class indices.

    Args:
        opened: the artefact.
        data, split, on_bad_image, data_dir: as in `evaluate`.
        all_without_splits: if neither `data` has splits nor the artefact has a run with them, take
            all images.

    Raises:
        InputError: no such data or split, or classes that the artefact does not have.
    """
    if data is None:
        if opened.run is None:
            raise InputError(f"{opened.path} does not belong to a run; give DATA to evaluate it on")
        if on_bad_image == "skip":
            raise InputError(
                "--on-bad-image skip is for DATA; a run is scored on all images of its split"
            )
        return opened.run.examples(split or "val")
    source = sources.load_all(
        data, on_bad_image=on_bad_image, data_dir=data_dir, classes=opened.classes
    )
    part = "all" if "all" in source.splits else split or "val"
    if part not in source.splits:
        raise InputError(f"{data} has no {part} split; it has {', '.join(source.splits)}")
    examples = _relabel(source.splits[part], source.classes, opened, data)
    if part == "all" and split and (opened.run or not all_without_splits):
        examples = _of_split(opened, examples, split, data)
    if part == "all" and opened.run is None:
        log.info(
            f"the run of {opened.path} is unknown: if it was trained on some of these images, the "
            "scores are too good"
        )
    elif split != "train":
        _warn_of_training_images(opened, examples)
    return examples


def _of_split(opened: Artefact, examples: Examples, split: str, data: StrPath) -> Examples:
    """The examples of a data set without splits that are in this split of the artefact's run."""
    known = _digests_of_split(opened.run, split)
    found = np.isin(examples.digests, known)
    if not found.any():
        raise InputError(
            f"{data} has no splits, and none of its images is in the {split} split of a run; leave "
            "--split out to score them all"
        )
    if missing := len(np.setdiff1d(known, examples.digests)):
        images = plural(len(np.unique(known)), "image")
        log.warning(
            f"not in {data}: {missing:,} of {images} of the run's {split} split; the scores are "
            "of the others"
        )
    return examples.take(np.flatnonzero(found))


def _digests_of_split(run: Run | None, split: str) -> npt.NDArray[np.int64]:
    """The known digests of the images in a split of a run."""
    saved = run and run.file(filenames.SPLIT).exists() and run.splits
    images = saved.get(split, ()) if saved else ()
    return np.array([image.digest for image in images if image.digest], np.int64)


def trained_on(run: Run | None, examples: Examples) -> int | None:
    """Number of the images that a run was trained on, by their content; None: unknown."""
    if run is None or not run.file(filenames.METRICS).exists():
        return None
    if "imported" in run.metrics:  # its train split is not what the weights were trained on
        return None
    trained = _digests_of_split(run, "train")
    return int(np.isin(examples.digests, trained).sum()) if len(trained) else None


def _warn_of_training_images(opened: Artefact, examples: Examples) -> None:
    """Logs a warning if the artefact's run was trained on some of the images, by their content."""
    count = trained_on(opened.run, examples)
    if count:
        assert opened.run  # it has such a split
        log.warning(
            f"{opened.run.path} was trained on {count:,} of these {len(examples):,} images: the "
            "scores are too good"
        )


def stream_for(opened: Artefact, examples: Examples) -> "tf.data.Dataset":
    """A dataset of (images, labels) batches for an artefact."""
    from keras_resnet.data.stream import evaluation_stream

    return evaluation_stream(
        examples, size=opened.geometry, crop=opened.center_crop, batch_size=BATCH
    )


def batches_for(opened: Artefact, examples: Examples) -> Iterator[npt.NDArray[np.uint8]]:
    """`stream_for` without labels and, for few images or decoded ones, without TensorFlow."""
    is_long = len(examples) > _FEW and not examples.are_decoded
    if opened.needs_tensorflow and is_long:  # tf.data decodes on all cores
        return (images for images, _ in stream_for(opened, examples).as_numpy_iterator())
    return pixels.batches(examples, size=opened.geometry, crop=opened.center_crop)


def _logits(opened: Artefact, examples: Examples) -> npt.NDArray[np.float32]:
    batches = batches_for(opened, examples)
    return predict_batches(opened, batches, -(-len(examples) // BATCH))


def _relabel(
    examples: Examples, classes: Sequence[str], opened: Artefact, data: StrPath
) -> Examples:
    """The examples with the artefact's class indices as labels."""
    number = {name: k for k, name in enumerate(opened.classes)}
    unknown = [classes[k] for k in np.unique(examples.labels) if classes[k] not in number]
    if unknown:
        for name in opened.classes:
            if layout.same_name(name, unknown[0]):
                raise InputError(
                    f"{data} has images of a class {unknown[0]!a}, and {opened.path} a class "
                    f"{name!a}; give both the same name"
                )
        raise InputError(
            f"{data} has images of a class {show(unknown[0])!r} that {opened.path} does not have; "
            f"remove or rename it: the classes are {some_of(opened.classes)}"
        )
    numbers = np.array([number.get(name, -1) for name in classes], np.int32)
    return replace(examples, labels=numbers[examples.labels])


def _matches(pattern: str) -> list[str]:
    """The paths that match. Existing parent folders are literal, since their names may contain
    brackets."""
    if not pattern:
        return []
    literal = next((p for p in Path(pattern).parents if p.is_dir()), Path())
    rest = os.path.relpath(pattern, literal)
    return sorted(str(literal / name) for name in glob.glob(rest, root_dir=literal, recursive=True))


def _expand(images: Iterable[StrPath]) -> dict[str, str]:
    """Files, files in folders, and matches of patterns, in order, each once: path -> name relative
    to the given item."""
    paths: dict[str, str] = {}
    for item in (os.fspath(image) for image in images):
        if os.path.isdir(item):
            walked = layout.walk(item, on_error=layout.unreadable)
            found = {path: os.path.relpath(path, item) for path in walked}
        else:
            matches = [item] if os.path.exists(item) else _matches(item)
            found = {path: os.path.basename(path) for path in matches}
        if not found:
            what = "is empty" if os.path.isdir(item) else "does not exist"
            named = show(item) or repr(item)
            raise InputError(f"{named} {what}; give images, folders or patterns like '*.jpg'")
        paths |= {path: name for path, name in found.items() if path not in paths}
    return paths
