"""Calibration images of int8 files: selection, and a test whether they are enough."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import compress
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.choices import CALIBRATION
from keras_resnet.data.examples import Examples, classes_in_turn, rank_in_class
from keras_resnet.data.stream import images_of
from keras_resnet.errors import InputError
from keras_resnet.evaluation.contract import PLAIN, Contract
from keras_resnet.inspection.network import through, walk
from keras_resnet.messages import log
from keras_resnet.run import Run

LEVELS = (0, 255)  # the darkest and the lightest raw pixels
# Largest ratio of the ranges of two halves, and so of the quantization steps. A ResNet-32 of half
# width on photos of 10 classes: worst layer 1.33 with 20 images, 1.24 with 40, 1.16 with 100, 1.22
# with 500.
MOST_DISAGREEMENT = 1.25
_BATCH = 32


@dataclass(frozen=True)
class Calibration:
    """uint8 images `(n + 1, h, w, c)`, the last one with both of `LEVELS`; and their manifest."""

    images: np.ndarray
    manifest: dict[str, Any]


def choose(
    run: Run,
    count: int = CALIBRATION,
    *,
    model: keras.Model | None = None,
    contract: Contract = PLAIN,
    held_out: Examples | None = None,
) -> Calibration:
    """Training images, preprocessed as in evaluation, plus one with the levels 0 and 255.

    No validation images, since the gate uses these. Taken round-robin from the classes, in a seeded
    order. The last image sets the range of the input to [0, 255], and so the scale of raw bytes to
    exactly 1.

    Args:
        run: the `Run`.
        count: maximum number of training images.
        model: the run's Keras model, to compare the ranges of two disjoint halves; None: skip the
            comparison.
        contract: the `Contract` of the files, which may take camera frames.
        held_out: the run's validation images, if they were read already.

    Returns:
        A `Calibration`. Its manifest: {images: names, levels, seed, count, per_class: {name: n},
        sha256 of the array, halves: {layer, disagreement, limit, agree} or None}.
    """
    config = run.config
    chosen = training_examples(run, count, held_out)
    size, crop = contract.view(config.geometry, config.center_crop)
    parts = images_of(chosen, size=size, crop=crop)
    images = _with_levels(contract.frames(parts))
    if contract.input_size and model:  # the model itself does not take frames
        parts = images_of(chosen, size=config.geometry, crop=config.center_crop)
    advice = (
        "raise --calibration of `keras-resnet export`"
        if len(chosen) == count
        else "these are all training images; if int8 loses accuracy, add photos"
    )
    manifest = {
        "images": list(chosen.names),
        "levels": list(LEVELS),
        "seed": config.seed,
        "count": len(chosen),
        "per_class": dict(
            zip(run.classes, np.bincount(chosen.labels, minlength=len(run.classes)).tolist(),
                strict=True)
        ),
        "sha256": hashlib.sha256(images.tobytes()).hexdigest(),
        "halves": compare_halves(model, parts, chosen.labels, advice) if model else None,
    }  # fmt: skip
    return Calibration(images, manifest)


def training_examples(run: Run, count: int, held_out: Examples | None = None) -> Examples:
    """At most `count` training images of a run, round-robin from the classes, in a seeded order,
    without those that are validation images too.

    Raises:
        InputError: every training image is a validation image too.
    """
    train, judged = run.examples("train"), held_out or run.examples("val")
    # Splits of the user may share images.
    train = train.take(np.flatnonzero(~np.isin(train.digests, judged.digests)))
    if not len(train):
        raise InputError(
            f"each training image of {run.path} is also a validation image; calibration needs "
            "others"
        )
    return train.take(classes_in_turn(train.labels, count, run.config.seed))


def compare_halves(
    model: keras.Model, images: np.ndarray, labels: np.ndarray, advice: str
) -> dict[str, Any] | None:
    """Whether two disjoint halves of the images, each with all classes, give the same int8 ranges.

    Costs one pass of the Keras model over the images; a second conversion would be slower.

    Args:
        model: Keras model from pixels to logits.
        images: uint8 `(n, h, w, c)`.
        labels: `(n,)`.
        advice: the next step if there are too few images.

    Returns:
        {layer, disagreement, limit, agree}: the layer with the largest ratio of ranges, the ratio,
        its limit, and whether it is within. None if there is only one image per class, and so no
        second half. Logs a warning unless the halves agree.
    """
    half = rank_in_class(labels) % 2
    if not half.any():
        log.warning(
            f"{len(images)} calibration images are too few to compare two halves of them; {advice}"
        )
        return None
    names, measure = _range_meter(model)
    ranges = [_ranges(measure, _with_levels(images[half == side])) for side in (0, 1)]
    apart = np.exp(np.abs(np.log(ranges[0] / ranges[1])))
    worst = int(apart.argmax())
    found = {
        "layer": names[worst],
        "disagreement": round(float(apart[worst]), 3),
        "limit": MOST_DISAGREEMENT,
        "agree": bool(apart[worst] <= MOST_DISAGREEMENT),
    }
    if not found["agree"]:
        log.warning(
            f"{len(images)} calibration images are too few: two halves of them give "
            f"{found['layer']} ranges that differ by a factor of {found['disagreement']:.2f}; "
            f"{advice}"
        )
    return found


def _with_levels(images: np.ndarray) -> np.ndarray:
    """Appends a copy of the image of highest contrast, its darkest value set to 0 and its lightest
    to 255.

    Black and white images would do the same for the input, but they are unlike photos: in a network
    with squeeze-and-excitation they widened the ranges of most layers, some of them more than a
    hundred times, and int8 had no steps left for photos.
    """
    spread = np.ptp(images.reshape(len(images), -1), axis=1)
    values = images[spread.argmax()].flatten()
    values[values.argmin()] = LEVELS[0]
    values[-1 - values[::-1].argmax()] = LEVELS[1]  # a different pixel, even if all are equal
    return np.concatenate([images, values.reshape(1, *images.shape[1:])])


def _range_meter(model: keras.Model) -> tuple[list[str], Callable[[np.ndarray], tf.Tensor]]:
    """Names of the operations whose output is quantized, and a function from a batch of images to
    the minimum and maximum of each output, `(2, operations)`."""
    *_, steps = walk(model)
    # The converter folds a batch norm, and a ReLU, into the preceding layer.
    folded = {
        id(step.given[0])
        for step in steps
        if isinstance(step.operation, keras.layers.BatchNormalization | keras.layers.ReLU)
    }
    quantized = [len(step.made) == 1 and id(step.made[0]) not in folded for step in steps]

    @tf.function(autograph=False, reduce_retracing=True)
    def measure(images: tf.Tensor) -> tf.Tensor:
        values = []

        def note(operation: keras.Operation, *args: Any, **kwargs: Any) -> Any:
            result = operation(*args, **kwargs)
            values.append(result)
            return result

        through(model, [tf.cast(images, tf.float32)], note)
        ends = [[tf.reduce_min(x), tf.reduce_max(x)] for x in compress(values, quantized)]
        return tf.transpose(tf.stack(ends))

    return [step.operation.name for step in compress(steps, quantized)], measure


def _ranges(measure: Callable[[np.ndarray], tf.Tensor], images: np.ndarray) -> np.ndarray:
    """Width of each layer's range over the images, `(layers,)`; every range includes 0."""
    ends = [measure(images[i : i + _BATCH]).numpy() for i in range(0, len(images), _BATCH)]
    low, high = np.min([e[0] for e in ends], 0), np.max([e[1] for e in ends], 0)
    return np.maximum(np.maximum(high, 0) - np.minimum(low, 0), 1e-9)
