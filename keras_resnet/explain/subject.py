"""The subject of an analysis: a new or trained network, and images for it."""

import random
from dataclasses import dataclass

import keras
import numpy as np

from keras_resnet import models, specs
from keras_resnet.data import sources
from keras_resnet.data.examples import classes_in_turn
from keras_resnet.data.stream import images_of
from keras_resnet.errors import InputError, require_whole
from keras_resnet.evaluation.artefact import Artefact, open_artefact
from keras_resnet.evaluation.scores import examples_for
from keras_resnet.files import StrPath, require_path
from keras_resnet.geometry import Geometry
from keras_resnet.run import kind_of
from keras_resnet.state import isolated

_MLP_SIDE = 8  # pixels


@dataclass(frozen=True)
class Subject:
    """A Keras model and images for it, uint8 `(n, h, w, c)`, with labels, int `(n,)`."""

    model: keras.Model
    images: np.ndarray
    labels: np.ndarray
    classes: list[str]
    is_fresh: bool  # untrained, with initial moving averages


@isolated()
def open_subject(
    what: StrPath,
    data: StrPath | None = None,
    *,
    images: int = 32,
    seed: int = 0,
    split: str = "train",
    image_size: int = 0,
    zero_gamma: bool = True,
    data_dir: StrPath | None = None,
) -> Subject:
    """Opens or builds the network to analyse.

    Args:
        what: the name of a network, `"residual_mlp"` or `"plain_mlp"`, built with new weights for
            the classes of `data`; or a run folder or `.keras` file.
        data: as in `train`; None: the run's own `split`, or `digits` for a name.
        images: number of images, alternating between classes, in a seeded order.
        seed: seed of the choice of images, and of the weights of a new network.
        split: split of the run, or of data with splits.
        image_size: side in pixels, for a name; 0: the network's own.
        zero_gamma: initialize the branches of a new network with 0.
        data_dir: folder of tensorflow-datasets.

    Returns:
        A `Subject`.

    Raises:
        InputError: an unknown name, no such artefact or data, or an artefact without Keras layers.
    """
    require_whole("--images", images, 1)
    require_whole("--image-size", image_size, 0)
    require_whole("--seed", seed, 0)
    what = str(require_path(what))
    is_fresh = what in specs.SPECS or what in specs.MLPS
    if is_fresh:
        source = sources.load(data or "digits", seed=seed, data_dir=data_dir)
        classes, examples = source.classes, source.splits["train"]
        side = image_size or (_MLP_SIDE if what in specs.MLPS else specs.SPECS[what].image_size)
        model = fresh(what, len(classes), side, zero_gamma, seed)
        size, crop = Geometry(side, side), 1.0
    else:
        if image_size:
            raise InputError(f"--image-size is for the name of a network; leave it out for {what}")
        opened = _open(what)
        model = layers_of(opened)
        examples = examples_for(opened, data, split, data_dir=data_dir, all_without_splits=True)
        classes, size, crop = opened.classes, opened.geometry, opened.center_crop
    chosen = examples.take(classes_in_turn(examples.labels, images, seed))
    pixels = images_of(chosen, size=size, crop=crop)
    return Subject(model, pixels, chosen.labels, classes, is_fresh)


def _open(path: str) -> Artefact:
    if kind_of(path) == "saved_model":  # not opened, because it can run any operation
        raise InputError(f"{path} is a SavedModel; give its run folder or its .keras file")
    return open_artefact(path)


@isolated()
def fresh(name: str, num_classes: int, side: int, zero_gamma: bool, seed: int) -> keras.Model:
    """A new network for images `(side, side, 3)`, with initial weights from `seed`."""
    random.seed(seed)
    shape = (side, side, 3)
    if name in specs.MLPS:
        residual = name == "residual_mlp"
        return models.residual_mlp(shape, num_classes, shortcut=residual, zero_last=zero_gamma)
    return models.build(name, num_classes, shape, zero_gamma=zero_gamma)


def layers_of(opened: Artefact) -> keras.Model:
    """The Keras model of an opened artefact, from pixels to logits; InputError if it has none."""
    if opened.model is None:
        raise InputError(
            f"{opened.path} has no Keras layers; give its run folder or its .keras file"
        )
    if getattr(opened.model.layers[-1], "activation", None) is keras.activations.softmax:
        raise InputError(
            f"{opened.path} ends in a softmax; give a model that ends in logits "
            "(classifier_activation=None)"
        )
    return opened.model
