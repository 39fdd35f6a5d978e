"""Makes a run from weights trained elsewhere."""

import os
from dataclasses import replace

from keras_resnet import recipes
from keras_resnet import run as runs
from keras_resnet.data import names
from keras_resnet.errors import InputError
from keras_resnet.files import StrPath, read_lines
from keras_resnet.manifest import fingerprint
from keras_resnet.messages import log
from keras_resnet.specs import SPECS, Normalize
from keras_resnet.state import isolated
from keras_resnet.weights.layouts import classes_of
from keras_resnet.weights.load import load, normalization_of, open_weights
from keras_resnet.weights.settings import IMAGENET, require


def import_weights(
    path: StrPath,
    *,
    model: str,
    normalize: Normalize | None = None,
    labels: StrPath | None = None,
    image_size: int = 0,
    center_crop: float = 1.0,
    run_folder: StrPath | None = None,
) -> runs.Run:
    """Makes a run folder from weights that were trained elsewhere.

    The run takes raw pixels: the normalisation that the weights were trained with becomes its first
    layer. It has no images; `export` takes some with `data`.

    Args:
        path: as in `load_weights`; `"imagenet"` downloads what is published.
        model: the name of the network.
        normalize: as in `build`; None is that of the file, else the usual one of the network.
        labels: a text file with a class a line, in the order of the logits; None numbers them.
        image_size: side of the images in pixels; 0 is that of the network's paper.
        center_crop: the middle square of an image, as a share of its shorter side, for evaluation;
            0.875 for torchvision's crop of 224 from 256.
        run_folder: the folder to write; default `runs/MODEL-data-NNN`.

    Returns:
        The finished `Run`.

    Raises:
        InputError: weights that do not fit the network, or labels that do not fit the weights;
            nothing is written.
    """
    options = {"model": model, "normalize": normalize, "weights": os.fspath(path)}
    sizes = {"image_size": image_size, "center_crop": center_crop}
    config = recipes.resolve({**options, **sizes, "data": names.NONE})
    model = config.model  # as the table has it
    require(config)
    weights = open_weights(path, model)
    usual = normalization_of(weights) or SPECS[model].normalize
    config = runs.absolute(replace(config, normalize=config.normalize or usual))
    classes = _classes(labels, classes_of(weights), path)
    with isolated(any_backend=True):  # loads Keras: what can be wrong was found before
        network = runs.build(config, len(classes))
        loaded = load(network, weights)
    run = runs.create(run_folder, config, classes)
    log.info(loaded)
    run.save_model(network)
    imported = str(path) if path == IMAGENET else {"file": config.weights, **fingerprint(path)}
    parameters = network.count_params()
    run.save_metrics({"model": model, "parameters": parameters, "imported": imported})
    run.save_manifest()
    return run


def _classes(labels: StrPath | None, count: int | None, path: StrPath) -> list[str]:
    """The names of `count` classes."""
    if count is None:
        raise InputError(
            f"{path} has no classifier; train one on its features: keras-resnet train DATA "
            f"--weights {path}"
        )
    if labels is None:
        return [str(k) for k in range(count)]
    try:
        classes = read_lines(labels)
    except OSError as error:
        raise InputError(f"cannot read --labels {labels}: {error.strerror}") from None
    if len(classes) != count:
        raise InputError(
            f"--labels {labels} has {len(classes)} lines, but {path} has {count} classes"
        )
    twice = next((name for name in classes if classes.count(name) > 1), None)
    if "" in classes or twice:
        raise InputError(f"--labels {labels} has {f'{twice!r} twice' if twice else 'empty lines'}")
    return classes
