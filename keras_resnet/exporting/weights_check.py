"""Looks for the weights of a model in a `.tflite` file.

Logits of int8 differ from the model's by a few per cent, behind which a damaged kernel can hide.
Its weights are known to half a quantisation step.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import keras
import numpy as np
import numpy.typing as npt
from keras import layers

from keras_resnet.evaluation.lite import Constant
from keras_resnet.exporting.folding import fold

# Rounding as a share of the largest weight: of float16, and of batch norms folded in float32.
_FLOAT16, _FLOAT32 = 1e-3, 1e-5
_MOST_NAMED = 3


class Weights(NamedTuple):
    """A kernel or bias of a layer."""

    layer: str
    values: npt.NDArray[np.float32]  # as the converter stores them, in one row


def expected_weights(model: keras.Model, temperature: float) -> list[Weights]:
    """The kernels, biases and normalisation that the files of a model hold.

    Args:
        model: Keras model from raw pixels to logits.
        temperature: that the logits are divided by; the converter folds it into the last layer.
    """
    return list(_weights(fold(model), temperature))


def differences(expected: Iterable[Weights], constants: Iterable[Constant]) -> Iterator[str]:
    """The reason why a file must not be used, if it has other weights than its model.

    Args:
        expected: the `expected_weights` of the model.
        constants: of the file.
    """
    by_size: dict[int, list[Constant]] = {}
    for constant in constants:
        by_size.setdefault(constant.values.size, []).append(constant)
    lost = list(
        dict.fromkeys(
            layer
            for layer, values in expected
            if not any(_is_same(values, found) for found in by_size.get(values.size, []))
        )
    )
    if lost:
        more = f" and {len(lost) - _MOST_NAMED} more" if len(lost) > _MOST_NAMED else ""
        yield f"has other weights than the model in {', '.join(lost[:_MOST_NAMED])}{more}"


def _is_same(values: npt.NDArray[np.float32], found: Constant) -> bool:
    rounding = _FLOAT16 if found.dtype == "float16" else _FLOAT32
    allowed = 0.5 * found.step.ravel() + rounding * np.abs(values).max()
    return bool((np.abs(found.values.ravel() - values) <= allowed).all())


def _weights(model: keras.Model, temperature: float) -> Iterator[Weights]:
    norms = {
        id(layer.input): layer
        for layer in model.layers
        if isinstance(layer, layers.BatchNormalization)
    }
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D | layers.Dense):
            scale, shift = _affine(norms.get(id(layer.output)))
            scale = scale / (temperature if layer is model.layers[-1] else 1.0)
            bias = np.asarray(layer.bias if layer.use_bias else 0.0)
            kernel = np.moveaxis(np.asarray(layer.kernel) * scale, -1, 0)
            yield from _rows(layer.name, kernel, bias * scale + shift)
        elif layer.name == "normalize":
            yield from _rows(layer.name, np.asarray(layer.offset))


def _rows(layer: str, *parts: npt.ArrayLike) -> Iterator[Weights]:
    """The parts that are stored: an addition of 0 is not."""
    for part in parts:
        values = np.asarray(part, np.float32).ravel()
        if values.any() and values.size > 1:
            yield Weights(layer, values)


def _affine(norm: layers.BatchNormalization | None) -> tuple[np.ndarray, np.ndarray]:
    """(scale, shift) of each channel, of a batch norm that the converter folds."""
    if norm is None:
        return np.ones(1, np.float32), np.zeros(1, np.float32)
    gamma = np.asarray(norm.gamma if norm.scale else 1.0)
    beta = np.asarray(norm.beta if norm.center else 0.0)
    scale = gamma / np.sqrt(np.asarray(norm.moving_variance) + norm.epsilon)
    return scale, beta - np.asarray(norm.moving_mean) * scale
