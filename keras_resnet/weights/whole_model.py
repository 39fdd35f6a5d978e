"""Loads a whole model, network and weights, from a `.keras` file of unknown origin."""

import math
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_resnet.errors import InputError, first_line
from keras_resnet.state import isolated, without_values
from keras_resnet.weights import readers

_LARGEST_OUTPUT = 1 << 28  # bytes of one layer for one image; ResNet-50 at 1024 pixels has 2**26
_SLACK = 1 << 20  # bytes of variables that are not in the file
# Words in Keras' message -> next step.
_NEXT_STEPS = {
    "Lambda": "replace that layer, for example by Rescaling or a custom layer class",
    "Could not locate": "in Python, import that class, which needs "
    "@keras.saving.register_keras_serializable(), and call the function, such as kr.evaluate",
}


@isolated(any_backend=True)
def load(path: Path) -> keras.Model:
    """The image classifier in a `.keras` file.

    The memory of the network is computed before anything is allocated: settings of a few bytes may
    require terabytes. Keras refuses code in a file (`safe_mode`).

    Raises:
        InputError: a damaged file, no image classifier, or one that needs far more memory than the
            file has bytes.
    """
    try:
        _require_modest(path)
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except InputError:
        raise
    except Exception as error:  # exceptions of zip, json, h5 and Keras
        # Keras may put the settings of the whole network before the reason.
        reason = first_line(str(error).rpartition("Exception encountered: ")[2].split(". ")[0])
        steps = (f"; {step}" for words, step in _NEXT_STEPS.items() if words in reason)
        raise InputError(
            f"{path} cannot be loaded as a Keras model ({reason}){next(steps, '')}"
        ) from None
    shapes = (model.input_shape, model.output_shape)
    if not all(isinstance(s, tuple) for s in shapes) or len(shapes[0]) != 4 or len(shapes[1]) != 2:
        raise InputError(f"{path} is not an image classifier: it maps {shapes[0]} to {shapes[1]}")
    for weight in model.weights:
        if not np.isfinite(weight.numpy()).all():
            raise InputError(f"{path}: {weight.path} contains NaN or infinity; give other weights")
    return model


def _require_modest(path: Path) -> None:
    """InputError if the network needs more memory than its weights in the file explain."""
    settings = readers.keras_settings(path)
    with zipfile.ZipFile(path) as archive:
        stored = archive.getinfo("model.weights.h5").file_size
    weights, output = _sizes(_uncompiled(settings))
    if weights > stored + _SLACK:
        raise InputError(
            f"{path} is damaged: its layers have {weights:,} bytes of weights, the file has "
            f"{stored:,}; copy it again"
        )
    if output > _LARGEST_OUTPUT:
        raise InputError(
            f"{path} takes too much memory: a layer gives {output:,} bytes for one image; expected "
            f"at most {_LARGEST_OUTPUT:,}"
        )


def _uncompiled(settings: Any) -> Any:
    """The settings without those of `compile`, of models inside too: an optimizer has variables."""
    if isinstance(settings, dict):
        rest = {name: part for name, part in settings.items() if name != "compile_config"}
        return {name: _uncompiled(part) for name, part in rest.items()}
    return [*map(_uncompiled, settings)] if isinstance(settings, list) else settings


def _sizes(settings: dict[str, Any]) -> tuple[int, int]:
    """(bytes of all weights, bytes of the largest output of a layer for one image)."""
    model = without_values(lambda: keras.saving.deserialize_keras_object(settings, safe_mode=True))
    return sum(map(_bytes, model.variables)), max(map(_bytes, _outputs(model)), default=0)


def _outputs(model: keras.Model) -> Iterator[keras.KerasTensor]:
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _outputs(layer)
        with suppress(AttributeError, ValueError):  # it has none, or several
            yield from keras.tree.flatten(layer.output)


def _bytes(x: keras.Variable | keras.KerasTensor) -> int:
    """Bytes of a variable, or of an output for a batch of one."""
    itemsize = np.dtype(keras.backend.standardize_dtype(x.dtype)).itemsize
    return itemsize * math.prod(side or 1 for side in x.shape)
