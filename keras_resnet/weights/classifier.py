"""Converts any Keras image classifier to the form of this package's networks: raw pixels of a fixed
size in, RGB or grey, float32 logits out."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers, ops

from keras_resnet import geometry
from keras_resnet.errors import InputError, first_line
from keras_resnet.geometry import Geometry
from keras_resnet.models import freeze_as, layers_of, normalization, set_weights
from keras_resnet.specs import CUSTOM, Normalize, statistics

# Layers that may follow the softmax without changing its values.
_NEUTRAL = ("Dropout", "Flatten", "Reshape", "Identity")
_PROBES = 4  # random images that show whether the last layer outputs probabilities
_LARGE = 100  # the logits of pixels times this leave [0, 1], unlike sigmoids
_LEAST = 1e-7  # a probability of 0 has no logarithm
_MOST_APART = 0.1  # largest difference of scores; bfloat16 rounding is below it


class Classifier(NamedTuple):
    """A network from raw pixels `(b, h, w, c)` in [0, 255] to float32 logits `(b, k)`."""

    model: keras.Model
    notes: list[str]  # what was changed or assumed, one line each

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of a run of this network."""
        _, height, width, channels = self.model.input_shape
        form = Geometry(height, width, channels=channels)
        return {"model": CUSTOM.name, "image_size": form.image_size, "channels": channels}


def classifier(
    model: keras.Model,
    source: str,
    *,
    normalize: Normalize | None = None,
    image_size: int | str = 0,
    channels: int | None = None,
    keep_precision: bool = False,
) -> Classifier:
    """A copy of a Keras image classifier from raw pixels to float32 logits.

    A final softmax is removed; layers of the model that normalize pixels stay.

    Args:
        model: model from images `(b, h, w, c)`, c 3 (RGB) or 1 (grey), to scores `(b, k)`; it is
            not changed.
        source: name of the model in messages.
        normalize: preprocessing of the pixels that the model expects, as in `specs.statistics`;
            "caffe" converts RGB to BGR. None: none.
        image_size: side of the images in pixels, or "HxW", for a model with a dynamic size.
        channels: 3 or 1, for a model with a dynamic number of channels; None: 3.
        keep_precision: keep the dtype policies of the layers, for training.

    Raises:
        InputError: no image classifier of a fixed size, or one that cannot be copied.
    """
    if not model.built:
        raise InputError(
            f"{source} has no weights yet; call it once on images, or start it with keras.Input"
        )
    quantized = keras.dtype_policies.QuantizedDTypePolicy
    if any(isinstance(layer.dtype_policy, quantized) for layer in layers_of(model)):
        raise InputError(
            f"{source} was quantized by Keras, which LiteRT cannot convert; give the model before "
            "model.quantize(…): --quantize int8 quantizes it"
        )
    shape = _shape(model, source, image_size, channels)
    copy, notes = _copy(model, source, shape, keep_precision)
    if isinstance(copy, keras.Sequential) and _is_graph(copy):  # `output` may be undefined
        copy = keras.Model(copy.inputs[0], copy.outputs[0], name=copy.name)
    image = keras.Input(shape, name="image")
    pixels = image if normalize is None else _normalized(image, normalize, source)
    if normalize is None and not _normalizes(copy):
        is_grey = shape[2] == 1
        colors, others = ("grey", "") if is_grey else ("RGB", "imagenet, caffe (BGR) ")
        notes.append(
            f"{source} has no layer that normalizes pixels: assuming that it takes {colors} in [0, "
            f"255]; otherwise give --normalize tf ([-1, 1]), {others}or MEAN/STD"
        )
    if normalize is not None or not _is_graph(copy):
        copy = keras.Model(image, copy(pixels), name=copy.name)
    if copy.output.dtype != "float32":
        x = layers.Activation("linear", dtype="float32", name="float32_logits")(copy.output)
        copy = keras.Model(copy.input, x, name=copy.name)
    noise = _noise(shape)
    scores = copy.predict_on_batch(noise)
    if scores.ndim != 2 or scores.shape[1] < 2:
        raise InputError(
            f"{source} has outputs of shape {copy.output_shape}; a classifier has (b, k), a score "
            "for each of two or more classes"
        )
    if _are_probabilities(scores):
        x = copy.output
        copy = keras.Model(copy.input, ops.log(ops.maximum(x, _LEAST)), name=copy.name)
        scores = np.log(np.maximum(scores, _LEAST))
        notes.append(
            f"{source} outputs probabilities whose softmax cannot be removed: a logarithm was "
            "added; int8 may lose accuracy"
        )
    given = noise if normalize is None else _normalized(noise, normalize, source)
    expected = np.asarray(model(given, training=False), np.float32)
    has_softmax = _are_probabilities(expected, within=_MOST_APART)  # rounded, in bfloat16
    if (
        not has_softmax
        and _are_in_0_1(scores)
        and _are_in_0_1(copy.predict_on_batch(_LARGE * noise))
    ):
        raise InputError(
            f"{source} outputs scores in [0, 1] that do not add up to 1, as multi-label "
            "classifiers do; a classifier with a softmax or logits is needed"
        )
    _require_same(expected, has_softmax, scores, source)
    return Classifier(copy, notes)


def _require_same(expected: np.ndarray, has_softmax: bool, logits: np.ndarray, source: str) -> None:
    """InputError if the logits of a copy do not match the scores `(b, k)` of its model."""
    if not np.isfinite(expected).all():  # float16 overflows on random pixels
        return
    found = np.asarray(ops.softmax(logits)) if has_softmax else logits
    apart = np.abs(found - expected).max() / max(np.abs(expected).max(), 1)
    if not apart <= _MOST_APART:
        raise InputError(
            f"{source} cannot be copied: a copy with its weights gives different scores "
            f"({apart:.2g} apart); a custom layer may use values that are not weights"
        )


def _shape(
    model: keras.Model, source: str, image_size: int | str, channels: int | None
) -> tuple[int, int, int]:
    """(height, width, channels) of the images."""
    inputs, outputs = (len(getattr(model, ends, None) or "1") for ends in ("inputs", "outputs"))
    if (inputs, outputs) != (1, 1):
        raise InputError(
            f"{source} has {inputs} inputs and {outputs} outputs; an image classifier has one of "
            "each"
        )
    if isinstance(getattr(model, "output", None), dict):
        raise InputError(
            f"{source} gives a dict ({', '.join(model.output)}); an image classifier gives one "
            "tensor: select it with keras.Model(model.input, model.output[NAME])"
        )
    shape = _input_shape(model) or (None,) * 4  # a subclassed model that was not called yet
    if len(shape) != 4:
        raise InputError(f"{source} takes inputs of shape {shape}; expected images (b, h, w, c)")
    _, height, width, depth = shape
    if height in (1, 3) and depth not in (1, 3):
        raise InputError(
            f"{source} takes images of shape {shape[1:]}, channels first; put "
            "keras.layers.Permute((3, 1, 2)) before it"
        )
    if channels not in (None, depth or channels):
        raise InputError(
            f"--channels is {channels}, but {source} takes images of {depth}; leave it out"
        )
    depth = depth or channels or 3
    if depth not in (1, 3):
        raise InputError(
            f"{source} takes images of {depth} channels; 3 (RGB) or 1 (grey) are needed: retrain "
            "it on such images, or put a layer before it that converts them"
        )
    size = geometry.parse_size(image_size)
    if not geometry.is_size(size):
        raise InputError(
            f"--image-size is {size!r}; expected a number of pixels, or HEIGHTxWIDTH, such as "
            "64x128"
        )
    if size:
        asked = geometry.from_size(size, "crop", depth)
        if (height or asked.height, width or asked.width) != (asked.height, asked.width):
            raise InputError(
                f"--image-size is {size}, but {source} takes {height or 'any'}×{width or 'any'} "
                f"pixels; {'leave it out' if height and width else 'give one that fits'}"
            )
        return asked.shape
    if not (height and width):
        raise InputError(
            f"{source} takes images of any size; give it in pixels: --image-size 224, or 64x128 "
            "for height and width"
        )
    return height, width, depth


def _input_shape(model: keras.Model) -> tuple[int | None, ...] | None:
    try:
        shape = model.input_shape
    except (AttributeError, ValueError):
        return None
    if not isinstance(shape, tuple):
        raise InputError(f"the inputs of {model.name} are {shape}; expected images (b, h, w, c)")
    return shape


def _is_graph(model: keras.Model) -> bool:
    """Whether a model is a graph of layers, which can be edited, and not a subclass with code."""
    return type(model).__name__ in ("Functional", "Sequential") and bool(
        getattr(model, "inputs", None)
    )


def _copy(
    model: keras.Model, source: str, shape: tuple[int, int, int], keep_precision: bool
) -> tuple[keras.Model, list[str]]:
    """The model without its softmax, in float32, for images of this shape; and notes."""
    notes: list[str] = []
    try:
        settings = keras.saving.serialize_keras_object(model)
        settings["compile_config"] = None
        if not keep_precision and _set_float32(settings):
            notes.append(f"{source} uses mixed precision: its weights are used in float32")
        if _is_graph(model):
            _set_shape(settings, shape)
            if _set_linear(settings["config"], source):
                notes.append(f"the softmax at the end of {source} was removed: it outputs logits")
        copy = keras.saving.deserialize_keras_object(settings, safe_mode=True)
        if not _is_graph(model):
            copy(keras.Input(shape))
        weights = model.get_weights()
        set_weights(copy, weights)
        freeze_as(layers_of(copy), layers_of(model))
        if _is_graph(model):
            copy = _pooled_first(copy)
    except InputError:
        raise
    except Exception as error:  # Keras and the code of the model may raise any exception
        raise InputError(
            f"{source} cannot be copied from its settings ({first_line(error)}); a custom layer or "
            "model needs __init__(…, **kwargs), get_config() and "
            "@keras.saving.register_keras_serializable(), and a Lambda layer must be replaced by "
            "one"
        ) from None
    return copy, notes


def _pooled_first(model: keras.Model) -> keras.Model:
    """The model with each strided 1×1 convolution replaced by a pooling and one without stride.

    The results are equal. LiteRT 2.3's GPU accelerator computes a strided 1×1 convolution with int8
    weights wrongly.
    """
    settings = keras.saving.serialize_keras_object(model)
    graphs = [x for x in _settings(settings) if x.get("class_name") in ("Functional", "Sequential")]
    if not sum([_pool_first(graph["config"]) for graph in graphs]):
        return model
    pooled = keras.saving.deserialize_keras_object(settings, safe_mode=True)
    _give_weights(model, pooled)
    return pooled


def _pool_first(graph: dict[str, Any]) -> int:
    """Adds a pooling before each strided 1×1 convolution of a graph; returns their number."""
    rows: list[dict[str, Any]] = []
    names = {row["config"].get("name") for row in graph["layers"]}
    for row in graph["layers"]:
        settings = row["config"]
        if row["class_name"] == "Conv2D" and _skips_pixels(settings):
            name = f"{settings['name']}_pool"
            while name in names:
                name += "_"
            names.add(name)
            kept = {key: settings[key] for key in ("dtype", "data_format")}
            pool = layers.MaxPooling2D(1, settings["strides"], name=name, **kept)
            rows.append(keras.saving.serialize_keras_object(pool) | {"name": name})
            settings["strides"] = [1, 1]
            if "inbound_nodes" in row:  # not in a Sequential
                rows[-1]["inbound_nodes"] = deepcopy(row["inbound_nodes"])
                for turn, call in enumerate(row["inbound_nodes"]):
                    for tensor in _tensors(call):
                        tensor["keras_history"] = [name, turn, 0]
        rows.append(row)
    added = len(rows) - len(graph["layers"])
    graph["layers"] = rows
    return added


def _skips_pixels(convolution: dict[str, Any]) -> bool:
    kernel, strides = (tuple(convolution[key]) for key in ("kernel_size", "strides"))
    return kernel == (1, 1) != strides


def _give_weights(model: keras.Model, other: keras.Model) -> None:
    """Copies weights by the names of the layers, because their order may differ."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            _give_weights(layer, other.get_layer(layer.name))
        else:
            same = other.get_layer(layer.name)
            set_weights(same, layer.get_weights())
            freeze_as([same], [layer])


def _settings(node: Any) -> Iterator[dict[str, Any]]:
    """All dicts in the settings of a model."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list | tuple):
        for child in node:
            yield from _settings(child)


def _set_float32(settings: dict[str, Any]) -> bool:
    """Sets all dtype policies to float32; returns whether one has changed."""
    changed = False
    for node in _settings(settings):
        if node.get("class_name") == "DTypePolicy" and node["config"]["name"] != "float32":
            node["config"]["name"] = "float32"
            changed = True
    return changed


def _set_shape(settings: dict[str, Any], shape: tuple[int, int, int]) -> None:
    """Sets the input of a graph to float32 images of this shape."""
    rows = settings["config"]["layers"]
    entrance = next(row for row in rows if row["class_name"] == "InputLayer")
    entrance["config"] |= {"batch_shape": [None, *shape], "dtype": "float32"}
    settings.pop("build_config", None)
    if "build_input_shape" in settings["config"]:
        settings["config"]["build_input_shape"] = [None, *shape]


def _set_linear(graph: dict[str, Any], source: str) -> bool:
    """Removes the softmax at the end of a graph; returns whether there was one."""
    rows = {_name(i, row): row for i, row in enumerate(graph["layers"])}
    (name, *_) = graph["output_layers"] if "output_layers" in graph else (list(rows)[-1],)
    while not isinstance(name, str):  # [[name, 0, 0]] in some versions
        name = name[0]
    while True:
        row = rows[name]
        if len(row.get("inbound_nodes", ())) > 1:  # a shared layer must not be changed
            return False
        kind, settings = row["class_name"], row["config"]
        if kind in ("Functional", "Sequential"):
            return _set_linear(settings, source)
        activation = settings.get("activation")
        if activation == "sigmoid":
            raise InputError(
                f"{source} ends in a sigmoid (multi-label or binary); a classifier with a softmax "
                "or logits, one for each class, is needed"
            )
        if activation == "softmax":
            settings["activation"] = "linear"
            return True
        if kind == "Softmax":
            row |= {"module": "keras.layers", "class_name": "Activation", "registered_name": None}
            row["config"] = {"name": name, "activation": "linear"}
            for call in row.get("inbound_nodes", []):
                call["kwargs"] = {}  # such as a mask
            return True
        if kind not in _NEUTRAL and not (kind == "Activation" and activation == "linear"):
            return False
        before = _before(row, name, list(rows))
        if before is None:
            return False
        name = before


def _name(place: int, row: dict[str, Any]) -> str:
    """Name of a layer; in a Sequential, a custom layer without `get_config` may have none."""
    return row.get("name") or row["config"].get("name") or f"layer {place}"


def _before(row: dict[str, Any], name: str, names: list[str]) -> str | None:
    """The name of the layer before a layer; None if there is not exactly one."""
    if "inbound_nodes" not in row:  # in a Sequential
        place = names.index(name)
        return names[place - 1] if place else None
    found = [tensor["keras_history"][0] for tensor in _tensors(row["inbound_nodes"])]
    return found[0] if len(found) == 1 else None


def _tensors(calls: Any) -> list[dict[str, Any]]:
    """The settings of the input tensors of a layer."""
    return [x["config"] for x in _settings(calls) if x.get("class_name") == "__keras_tensor__"]


def _normalized(image: Any, normalize: Normalize, source: str) -> Any:
    """Pixels, symbolic or not, preprocessed as in the training of the network."""
    mean, deviation = statistics(normalize, image.shape[-1])
    if normalize == "caffe":
        if len(mean) == 1:
            raise InputError(
                f"--normalize caffe is for BGR, and {source} takes grey images; give MEAN/STD, "
                "such as 127.5/127.5"
            )
        # An exact convolution, because some accelerators have no operator to reverse an axis.
        flip = layers.Conv2D(3, 1, use_bias=False, trainable=False, name="rgb_to_bgr")
        flip.build(image.shape)
        flip.set_weights([np.eye(3, dtype=np.float32)[::-1].reshape(1, 1, 3, 3)])
        image = flip(image)
        mean, deviation = mean[::-1], deviation[::-1]
    return normalization((mean, deviation))(image)


def _normalizes(model: keras.Model) -> bool:
    found = (layers.Rescaling, layers.Normalization)
    return any(isinstance(layer, found) for layer in layers_of(model))


def _noise(shape: tuple[int, int, int]) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (_PROBES, *shape)).astype(np.float32)


def _are_in_0_1(scores: np.ndarray) -> bool:
    return bool(scores.min() >= 0 and scores.max() <= 1 and np.ptp(scores) > 0)


def _are_probabilities(scores: np.ndarray, within: float = 1e-3) -> bool:
    return bool((scores >= 0).all() and np.allclose(scores.sum(-1), 1, atol=within))
