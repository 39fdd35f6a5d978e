"""Grad-CAM: Selvaraju et al. 2017, arXiv:1610.02391, section 3."""

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_resnet.data.names import show
from keras_resnet.data.pixels import Images
from keras_resnet.errors import InputError
from keras_resnet.evaluation import scores
from keras_resnet.evaluation.artefact import Artefact, open_artefact
from keras_resnet.evaluation.reference import true_float32
from keras_resnet.explain.subject import layers_of
from keras_resnet.files import StrPath
from keras_resnet.inspection.network import through
from keras_resnet.messages import some_of
from keras_resnet.results import Result
from keras_resnet.state import isolated


@dataclass(frozen=True, eq=False)
class Cam(Result):
    """The regions of an image that support a class."""

    image: str
    label: str  # the class explained
    score: float  # its probability, in 0…1
    pixels: npt.NDArray[np.uint8] = field(repr=False)  # (h, w, c), the image as the network sees it
    # (h, w) in 0…1, 1 at the maximum; all 0 if nothing supports it
    map: npt.NDArray[np.float32] = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        return {"image": self.image, "label": self.label, "score": self.score}


@isolated()
@true_float32()
def cam(
    run: StrPath | Artefact,
    images: Images,
    *,
    label: str | None = None,
) -> list[Cam]:
    """Computes which regions of images support a class (Grad-CAM).

    The channels of the last feature map are weighted by the gradient of the class' logit, averaged
    over the map, and summed; negative values are set to 0. For a network that ends in global
    average pooling and one dense layer this is, up to a factor, the positive part of the class
    activation map of arXiv:1512.04150.

    Args:
        run: a run folder or a `.keras` file, or one opened by `open_artefact`.
        images: as in `predict`: paths of files, folders, or glob patterns, or images in memory.
            Broken files are skipped with a warning.
        label: the class to explain; None: the predicted class of each image.

    Returns:
        A `Cam` for each other image, in order.

    Raises:
        InputError: no such run or image, an unknown class, or a network without global pooling.
    """
    opened = run if isinstance(run, Artefact) else open_artefact(run)
    model = layers_of(opened)
    if label is not None and label not in opened.classes:
        raise InputError(
            f"--label is {label!r}; expected a class of {opened.path}: " + some_of(opened.classes)
        )
    cams: list[Cam] = []
    target = None if label is None else opened.classes.index(label)
    examples = scores.examples_in(images, "skip")
    for pixels in scores.batches_for(opened, examples):
        for row in zip(pixels, *_maps(model, pixels, target), strict=True):
            image, strength, number, score = row
            cams.append(
                Cam(
                    image=show(examples.names[len(cams)]),
                    label=opened.classes[number],
                    score=float(score),
                    pixels=image,
                    map=strength,
                )
            )
    return cams


def _maps(
    model: keras.Model, pixels: np.ndarray, target: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Maps `(b, s, s)` in 0…1, class numbers and probabilities `(b,)`."""
    features = []

    def note(operation: keras.Operation, *args: Any, **kwargs: Any) -> Any:
        if isinstance(operation, keras.layers.GlobalAveragePooling2D):
            features.append(args[0])
        return operation(*args, **kwargs)

    images = tf.cast(pixels, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(images)
        (logits,) = through(model, [images], note)
        numbers = tf.argmax(logits, -1) if target is None else tf.fill([len(pixels)], target)
        at_class = tf.gather(logits, tf.cast(numbers, tf.int32), batch_dims=1)
    if not features:
        raise InputError(f"{model.name} has no global average pooling, which Grad-CAM needs")
    values = features[-1]  # (b, h, w, c)
    weights = tf.reduce_mean(tape.gradient(at_class, values), (1, 2), keepdims=True)
    maps = tf.nn.relu(tf.reduce_sum(tf.cast(weights * values, tf.float32), -1, keepdims=True))
    maps = tf.image.resize(maps, pixels.shape[1:3])[..., 0].numpy()
    strongest = maps.max((1, 2), keepdims=True)
    maps = np.divide(maps, strongest, out=np.zeros_like(maps), where=strongest > 0)
    probabilities = tf.gather(tf.nn.softmax(logits), tf.cast(numbers, tf.int32), batch_dims=1)
    return maps, numbers.numpy(), probabilities.numpy()
