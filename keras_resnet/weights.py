"""Weights trained elsewhere -> a network of ours, layer by layer, by name."""

import os
from pathlib import Path

from keras_resnet.errors import InputError, first_line
from keras_resnet.run import open_run

HEAD = "logits"


def require(config):
    """InputError if the settings ask for weights that are not there, or need some and name none."""
    if config.weights is not None and not os.path.exists(config.weights):
        raise InputError(
            f"--weights is {config.weights!r}; expected a run folder or a .keras file that is there"
        )
    if config.weights is None and (config.freeze or config.recipe == "finetune"):
        what = "--freeze" if config.freeze else "--recipe finetune"
        raise InputError(f"{what} keeps what was learnt before; name it with --weights")


def transfer(source, model):
    """Copies the weights of a trained network into `model`; strict in names and shapes.

    A head for another number of classes is left as it is, fresh; anything else that does not fit
    is refused, with `model` untouched.

    Args:
        source: path of a run folder, or of a `.keras` file with the same layers.
        model: a network built by `keras_resnet.models`.

    Returns:
        A line that says what was copied.

    Raises:
        InputError: a file that cannot be loaded, or layers or shapes that do not match.
    """
    given = {layer.name: layer for layer in _open(source).layers if layer.weights}
    wanted = {layer.name: layer for layer in model.layers if layer.weights}
    missing, left_over = sorted(wanted.keys() - given), sorted(given.keys() - wanted)
    if missing or left_over:
        what = f"it lacks {missing[0]}" if missing else f"it has {left_over[0]} too"
        raise InputError(
            f"--weights {source} are of another network than {model.name}: {what} "
            f"({len(missing)} layers missing, {len(left_over)} left over)"
        )
    misfits = [name for name in wanted if _shapes(wanted[name]) != _shapes(given[name])]
    for name in misfits:
        if name != HEAD:
            raise InputError(
                f"--weights {source}: layer {name} has shapes {_shapes(given[name])}, "
                f"{model.name} needs {_shapes(wanted[name])}"
            )
    for name in wanted.keys() - misfits:
        wanted[name].set_weights(given[name].get_weights())
    replaced = "; head replaced" if misfits else ""
    return f"weights from {source}: {len(wanted) - len(misfits)} layers{replaced}"


def _open(source):
    """The Keras model in a run folder or a `.keras` file."""
    import keras

    if Path(source).is_dir():
        return open_run(source).model()
    try:
        return keras.models.load_model(source, compile=False, safe_mode=True)
    except Exception as error:  # zip, json, h5 and Keras each have their own
        raise InputError(f"--weights {source} cannot be loaded ({first_line(error)})") from None


def _shapes(layer):
    return [tuple(weight.shape) for weight in layer.weights]
