"""The user's own network and callbacks: `train(model=keras_model, callbacks=[…])`."""

from collections.abc import Mapping
from typing import Any

import keras

from keras_resnet import filenames
from keras_resnet.config import PRECISIONS, SETTINGS, Config, show
from keras_resnet.errors import InputError
from keras_resnet.messages import log
from keras_resnet.models import layers_of
from keras_resnet.run import Run
from keras_resnet.specs import CUSTOM
from keras_resnet.weights import whole_model
from keras_resnet.weights.classifier import classifier

_MIXED = PRECISIONS[2:]
_SET_THE_RATE = (keras.callbacks.LearningRateScheduler, keras.callbacks.ReduceLROnPlateau)
# Settings that only networks of this package, or networks for images of any size, can change.
_FIXED: dict[str, Any] = {
    "weights": None,
    "freeze": None,
    "size_steps": ((1.0, 1.0),),
    "train_size": 1.0,
    "zero_gamma": False,
    "drop_path": 0.0,
    "width": 1.0,
}


def settings_and_network(options: Mapping[str, Any]) -> tuple[dict[str, Any], keras.Model | None]:
    """Returns the settings of a training, and the network if `model` is a Keras model.

    Raises:
        InputError: the network cannot be trained, or a setting does not apply to it.
    """
    model = options.get("model")
    if not isinstance(model, keras.Model):
        return dict(options), None
    for name, fixed in _FIXED.items():
        value = options.get(name)
        if value is not None and SETTINGS[name].parse(value) != fixed:
            raise InputError(
                f"--{name.replace('_', '-')} {show(value)} is for networks of this package; "
                "`model` is trained unchanged: on images of its own size, with its own weights "
                "and regularization, its layers frozen by layer.trainable"
            )
    own = next((p for p in map(_policy, layers_of(model)) if p in _MIXED), "float32")
    precision = options.get("precision") or "auto"
    if precision not in ("auto", "float32", own):
        raise InputError(
            f"--precision {precision}: build the model under keras.config.set_dtype_policy("
            f"{precision!r}), or leave it out; its own is {own}"
        )
    given = classifier(
        model,
        f"the model {model.name!r}",
        normalize=options.get("normalize"),
        image_size=options.get("image_size") or 0,
        channels=options.get("channels"),
        keep_precision=precision != "float32",
    )
    if len(given.model.trainable_weights) != len(model.trainable_weights):
        raise InputError(
            f"layers inside a layer of the model {model.name!r} are frozen; freeze whole layers of "
            "the model"
        )
    for note in given.notes:
        log.info(note)
    of_model = {**given.settings, "precision": own if precision == "auto" else precision}
    return {**options, **_FIXED, **of_model}, given.model


def callbacks_in(given: Any) -> list[keras.callbacks.Callback]:
    """The callbacks in the argument of `train`: one, several or None.

    Raises:
        InputError: no callback, or one that cannot work.
    """
    callbacks = keras.tree.flatten(given or ())
    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.Callback):
            raise InputError(f"callbacks has {callback!r}; expected objects of keras.callbacks")
        if isinstance(callback, _SET_THE_RATE):
            raise InputError(
                f"callbacks has a {type(callback).__name__}, but the learning rate follows the "
                "settings; leave it out, and set learning_rate, warmup_epochs or rate_drops"
            )
    return callbacks


def load_network(run: Run | None) -> keras.Model | None:
    """Loads the user's network that an unfinished run was started with; None for a network of this
    package."""
    if run is None or run.config.model != CUSTOM.name:
        return None
    return whole_model.load(run.file(filenames.NETWORK))


def require_head(network: keras.Model | None, config: Config, classes: int) -> None:
    """Raises InputError if a custom network is missing or does not have one output per class."""
    if config.model != CUSTOM.name:
        return
    if network is None:
        raise InputError(
            f"--model {CUSTOM.name} is a custom network; train it from Python: "
            "kr.train(model=keras_model, data=…)"
        )
    outputs = network.output_shape[-1]
    if outputs != classes:
        raise InputError(
            f"the model has {outputs} outputs, the data {classes} classes; build its last layer "
            f"with {classes} units"
        )


def _policy(layer: keras.layers.Layer) -> str:
    return layer.dtype_policy.name
