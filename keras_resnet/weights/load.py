"""Loads weights into a network: either all of them fit, or nothing is changed."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from keras_resnet import filenames
from keras_resnet.errors import InputError
from keras_resnet.files import StrPath, require_path
from keras_resnet.messages import some_of
from keras_resnet.run import open_run
from keras_resnet.specs import NORMALIZATIONS, Normalize, statistics
from keras_resnet.weights import published, readers
from keras_resnet.weights.layouts import (
    HEAD_NAMES,
    classes_of,
    in_file,
    is_foreign,
    stem_kernel,
    to_ours,
    with_grey_stem,
)
from keras_resnet.weights.readers import Stored, Weights
from keras_resnet.weights.settings import IMAGENET

if TYPE_CHECKING:
    import keras


def load_weights(model: "keras.Model", path: StrPath, *, replace_head: bool = False) -> str:
    """Loads weights trained here or elsewhere into a network of this package.

    Args:
        model: a network from `build`.
        path: a run folder; a `.keras`, `.weights.h5` or `.h5` file of this package or of
            keras.applications; a state dict of torchvision, timm or a PyTorch network for CIFAR, as
            `.safetensors` or `.pth`; or `"imagenet"`, to download the published weights.
        replace_head: keep the new classifier if the file's has other classes or is missing, and
            ignore the file's if the model outputs features.

    Returns:
        A line that describes what was loaded.

    Raises:
        InputError: a damaged file, or one whose names or shapes do not match the network: the
            message lists the differences, and `model` is unchanged.
    """
    return load(model, open_weights(path, model.name), replace_head=replace_head)


def load(model: "keras.Model", weights: Weights, *, replace_head: bool = False) -> str:
    """`load_weights` for an opened `Weights`; raises the same errors."""
    wanted = readers.variables(model)
    takes_bgr = is_foreign(weights) and _is_normalized(model, "caffe")
    arrays = to_ours(weights, list(wanted), takes_bgr)
    if model.input_shape[-1] == 1:
        arrays = with_grey_stem(arrays, list(wanted))
    fresh = _other_head(weights, wanted) if replace_head else []
    for name in fresh:
        arrays.pop(name, None)
    _compare(weights, arrays, {n: v for n, v in wanted.items() if n not in fresh}, model)
    _check_normalization(weights, model)
    values = {name: array.read() for name, array in arrays.items()}
    for name, value in values.items():
        if not np.isfinite(value).all():
            raise InputError(
                f"{weights.source}: {in_file(name, weights)} contains NaN or infinity; give other "
                "weights"
            )
    for name, value in values.items():
        wanted[name].assign(value)
    layers = len({name.split("/")[0] for name in arrays})
    return f"weights from {weights.source}: {layers} layers" + ("; head replaced" if fresh else "")


def open_weights(path: StrPath, name: str) -> Weights:
    """The `Weights` at `path`: a run folder, a file, or "imagenet" for the network `name`.

    Raises:
        InputError: no such file, or one that cannot be read.
    """
    if path == IMAGENET:
        return published.fetch(name)
    if require_path(path).is_dir():
        return replace(readers.read(open_run(path).intact(filenames.MODEL)), source=str(path))
    return readers.read(os.fspath(path))


def normalization_of(weights: Weights) -> str | None:
    """The normalization of the pixels that the weights were trained with, as for `build`; None if
    the file does not have it.
    """
    if weights.layout != readers.KERAS:
        return None
    if is_foreign(weights):
        # In keras.applications, pre-activation networks take [-1, 1], the others BGR.
        return "tf" if "post_bn/gamma" in weights.arrays else "caffe"
    if weights.normalization is None:
        return None
    found = _statistics(*weights.normalization)
    known = (name for name, value in NORMALIZATIONS.items() if np.allclose(value, found))
    return next(known, "/".join(",".join(f"{x:.9g}" for x in part) for part in found))


def _check_normalization(weights: Weights, model: "keras.Model") -> None:
    """InputError if the weights are known to expect another normalization than the model's."""
    trained_with = normalization_of(weights)
    if trained_with and not _is_normalized(model, trained_with):
        raise InputError(
            f"{weights.source} was trained with a different normalization than {model.name}; give "
            f"--normalize {trained_with}"
        )


def _is_normalized(model: "keras.Model", normalize: Normalize) -> bool:
    layer = model.get_layer("normalize")
    expected = statistics(normalize, model.input_shape[-1])
    return np.allclose(_statistics(layer.scale, layer.offset), expected, rtol=1e-5)


def _statistics(scale: npt.ArrayLike, offset: npt.ArrayLike) -> tuple[list[float], list[float]]:
    """(mean, standard deviation) of a Rescaling layer."""
    scale, offset = np.atleast_1d(scale, offset)
    deviation = [1 / s for s in scale]
    return [-o * d for o, d in zip(offset, deviation, strict=True)], deviation


def _other_head(weights: Weights, wanted: Mapping[str, "keras.Variable"]) -> Sequence[str]:
    """The names of the head's variables if they do not match the file's; else empty."""
    kernel = wanted.get(HEAD_NAMES[0])
    return [] if kernel is not None and classes_of(weights) == kernel.shape[-1] else HEAD_NAMES


def _compare(
    weights: Weights,
    arrays: Mapping[str, Stored],
    wanted: Mapping[str, "keras.Variable"],
    model: "keras.Model",
) -> None:
    """InputError that lists missing and unused variables, and those of another shape."""
    missing = [in_file(name, weights) for name in wanted if name not in arrays]
    left_over = [in_file(name, weights) for name in arrays if name not in wanted]
    misfits = [
        f"{in_file(name, weights)} is {arrays[name].shape} in Keras' layout, {model.name} needs "
        f"{tuple(variable.shape)}"
        for name, variable in wanted.items()
        if name in arrays and arrays[name].shape != tuple(variable.shape)
    ]
    kinds = (("missing", missing, 3), ("left over", left_over, 3), ("of another shape", misfits, 1))
    found = [f"{len(names)} {kind} ({some_of(names, n)})" for kind, names, n in kinds if names]
    if found:
        raise InputError(
            f"{weights.source} does not fit {model.name}: {'; '.join(found)}"
            + _hint(weights, arrays, wanted)
        )


def _hint(
    weights: Weights, arrays: Mapping[str, Stored], wanted: Mapping[str, "keras.Variable"]
) -> str:
    odd = arrays.keys() ^ wanted.keys()
    odd |= {n for n in arrays.keys() & wanted.keys() if arrays[n].shape != tuple(wanted[n].shape)}
    if odd <= set(HEAD_NAMES):
        return f"; the file has {classes_of(weights) or 'no'} classes"
    stem = stem_kernel(list(wanted))
    if stem and odd == {stem} and arrays[stem].shape[2:3] == (1,):
        return "; they are for grey images: give --channels 1"
    if weights.layout == readers.KERAS and is_foreign(weights):
        return "; the networks of keras.applications are called resnet50_v1, resnet50_v2, …"
    return ""
