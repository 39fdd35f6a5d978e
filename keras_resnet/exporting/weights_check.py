"""Checks that a `.tflite` file has the weights of its model.

int8 logits differ from the model's by a few per cent, which can hide a damaged kernel. Weights are
exact to half a quantization step.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import keras
import numpy as np
import numpy.typing as npt
from keras import layers

from keras_resnet.evaluation.lite import Constant
from keras_resnet.exporting.folding import fold

# Rounding relative to the largest weight: of float16, and of batch norms folded in float32.
_FLOAT16, _FLOAT32 = 1e-3, 1e-5
_FLOAT16_STEP = 2.0**-24  # spacing of subnormal float16 numbers
_MOST_NAMED = 3


class Weights(NamedTuple):
    """A kernel or bias of a layer."""

    layer: str
    values: npt.NDArray[np.float32]  # flat, in the order of the file
    channels: int = 0  # number of channels that the converter may scale separately; 0: none
    is_last: bool = False  # whether the channels are the last axis in the file; else the first


def expected_weights(model: keras.Model, temperature: float) -> list[Weights]:
    """The kernels, biases and normalization constants in the files of a model.

    Args:
        model: Keras model from raw pixels to logits.
        temperature: divides the logits; the converter folds it into the last layer.
    """
    return list(_weights(fold(model), temperature))


def kernels(model: keras.Model) -> list[Weights]:
    """The kernels in the files of another package's network, each channel up to a factor: the
    converter may or may not fold following layers, such as a batch norm, into a convolution.

    Kernels of subclassed models are left out, since it is unknown which layers they use.
    """
    return list(_kernels(model))


def differences(expected: Iterable[Weights], constants: Iterable[Constant]) -> Iterator[str]:
    """Yields a reason if weights of the model are not in the file.

    Args:
        expected: the `expected_weights` of the model.
        constants: the constants of the file.
    """
    by_size: dict[int, list[Constant]] = {}
    for constant in constants:
        by_size.setdefault(constant.values.size, []).append(constant)
    lost = list(
        dict.fromkeys(
            wanted.layer
            for wanted in expected
            if not any(_is_same(wanted, found) for found in by_size.get(wanted.values.size, []))
        )
    )
    if lost:
        more = f" and {len(lost) - _MOST_NAMED} more" if len(lost) > _MOST_NAMED else ""
        yield f"has weights that differ from the model's in {', '.join(lost[:_MOST_NAMED])}{more}"


def _is_same(wanted: Weights, found: Constant) -> bool:
    rounding = _FLOAT32
    if found.dtype == "float16":
        rounding, found = _FLOAT16, found._replace(step=np.full_like(found.step, _FLOAT16_STEP))
    if wanted.channels:
        return _is_scaled(wanted, found, rounding)
    allowed = 0.5 * found.step.ravel() + rounding * np.abs(wanted.values).max()
    return bool((np.abs(found.values.ravel() - wanted.values) <= allowed).all())


def _is_scaled(wanted: Weights, found: Constant, rounding: float) -> bool:
    """Whether each channel is the expected one times some factor."""

    def rows(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        x = np.broadcast_to(x, found.values.shape)
        by_channel = x.reshape(-1, wanted.channels).T if wanted.is_last else x
        return by_channel.reshape(wanted.channels, -1)

    # Both (channels, n).
    expected, stored = wanted.values.reshape(wanted.channels, -1), rows(found.values)
    largest = np.abs(stored).max(-1, keepdims=True)
    allowed = 0.5 * rows(found.step) + rounding * largest
    # Each value bounds the factor of its channel by an interval; 0 allows any factor.
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = np.stack([(stored - allowed) / expected, (stored + allowed) / expected])
    zero = np.abs(expected) <= _FLOAT32 * np.abs(expected).max(-1, keepdims=True)
    if (zero & (np.abs(stored) > allowed)).any():
        return False
    low = np.where(zero, -np.inf, ends.min(0)).max(-1)
    high = np.where(zero, np.inf, ends.max(0)).min(-1)
    return bool((low <= high).all())


def _kernels(model: keras.Model) -> Iterator[Weights]:
    if type(model).__name__ not in ("Functional", "Sequential"):
        return
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _kernels(layer)
        is_depthwise = isinstance(layer, layers.DepthwiseConv2D)
        if isinstance(layer, layers.Conv2D | layers.Dense) and getattr(layer, "groups", 1) == 1:
            kernel = np.moveaxis(np.asarray(layer.kernel), -1, 0)  # (c, …)
        elif is_depthwise and layer.depth_multiplier == 1:
            kernel = np.moveaxis(np.asarray(layer.kernel)[..., 0], -1, 0)
        else:
            continue
        if kernel.any():
            values = np.asarray(kernel, np.float32).ravel()
            yield Weights(layer.name, values, len(kernel), is_depthwise)


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
    """The stored parts; the converter removes an addition of 0."""
    for part in parts:
        values = np.asarray(part, np.float32).ravel()
        if values.any() and values.size > 1:
            yield Weights(layer, values)


def _affine(norm: layers.BatchNormalization | None) -> tuple[np.ndarray, np.ndarray]:
    """(scale, shift) of each channel for a batch norm that the converter folds."""
    if norm is None:
        return np.ones(1, np.float32), np.zeros(1, np.float32)
    gamma = np.asarray(norm.gamma if norm.scale else 1.0)
    beta = np.asarray(norm.beta if norm.center else 0.0)
    scale = gamma / np.sqrt(np.asarray(norm.moving_variance) + norm.epsilon)
    return scale, beta - np.asarray(norm.moving_mean) * scale
