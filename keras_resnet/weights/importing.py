"""Makes a run from weights trained elsewhere."""

import os
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_resnet import recipes
from keras_resnet import run as runs
from keras_resnet.data import names
from keras_resnet.errors import InputError, first_line
from keras_resnet.files import StrPath, read_lines
from keras_resnet.manifest import fingerprint
from keras_resnet.messages import log, plural, some_of
from keras_resnet.specs import SPECS, Normalize
from keras_resnet.state import isolated
from keras_resnet.weights.layouts import classes_of
from keras_resnet.weights.load import load, normalization_of, open_weights
from keras_resnet.weights.settings import IMAGENET, require

if TYPE_CHECKING:
    import keras

# The first lemma of each class in WordNet 3.0, in the order of the WordNet identifiers. "crane" and
# "maillot" occur twice; one of each has a second word.
_IMAGENET_CLASSES = Path(__file__).with_name("imagenet_classes.txt")


def import_weights(
    path: StrPath,
    *,
    model: str | None = None,
    width: float | None = None,
    normalize: Normalize | None = None,
    labels: StrPath | None = None,
    image_size: int | str | None = None,
    fit: str | None = None,
    channels: int | None = None,
    center_crop: float | None = None,
    run_folder: StrPath | None = None,
) -> runs.Run:
    """Makes a run folder from weights that were trained elsewhere.

    The run takes raw pixels: the normalization that the weights were trained with becomes its first
    layer. It has no images; `export` takes some with `data`. For the `.keras` file of a run,
    arguments that are not given default to the settings of that run.

    Args:
        path: a file, as in `load_weights`; `"imagenet"` downloads the published weights.
        model: name of the network; None: the one whose arrays are in the file.
        width: number of channels of all layers, relative to the original network.
        normalize: as in `build`; None: the file's, else the usual one of the network.
        labels: a text file with one class per line, in the order of the logits, or "imagenet" for
            the names of ImageNet's 1,000 classes; None: those of the run that the file belongs to,
            ImageNet's for its published weights, else numbers.
        image_size: side of the images in pixels, or "HxW"; 0 or None: that of the network's paper.
        fit: how images of another aspect ratio are fitted: "crop" (default), "pad" or "stretch".
        channels: 3 for RGB (default), or 1 for luma; a first kernel for RGB is summed for it.
        center_crop: the middle square of an image, as a share of its shorter side, for evaluation;
            0.875 for torchvision's crop of 224 from 256; default 1.
        run_folder: the folder to write; default `runs/MODEL-data-NNN`.

    Returns:
        The finished `Run`.

    Raises:
        InputError: weights that do not fit the network, or labels that do not fit the weights;
            nothing is written.
    """
    if path != IMAGENET and os.path.isdir(path):
        raise InputError(
            f"{path} is a folder; import takes files. A run needs no import: keras-resnet export "
            f"{shlex.quote(os.fspath(path))}"
        )
    owner = _owner(path)
    if model is None and owner and owner.config.model in SPECS:
        model = owner.config.model  # a network and its plain counterpart may have the same arrays
    elif model is None and os.path.isfile(path):
        model = _network_of(path)
    form = {"width": width, "image_size": image_size, "fit": fit, "channels": channels}
    form["center_crop"] = center_crop
    if owner:
        form = {k: getattr(owner.config, k) if v is None else v for k, v in form.items()}
    options = {"model": model, "normalize": normalize, "weights": os.fspath(path), **form}
    config = recipes.resolve({**options, "data": names.NONE})
    require(config)
    model = config.model  # its canonical name
    weights = open_weights(path, model)
    usual = normalization_of(weights) or SPECS[model].normalize
    config = runs.absolute(replace(config, normalize=config.normalize or usual))
    classes = _classes(labels, classes_of(weights), path)
    with isolated(any_backend=True):  # loads Keras, after all checks that do not need it
        network = runs.build(config, len(classes))
        loaded = load(network, weights)
    with runs.importing(run_folder, config, classes) as run:
        log.info(loaded)
        _log_labels(classes, labels)
        run.save_model(network)
        imported = str(path) if path == IMAGENET else {"file": config.weights, **fingerprint(path)}
        parameters = network.count_params()
        run.save_metrics({"model": model, "parameters": parameters, "imported": imported})
    return run


@isolated(any_backend=True)
def _network_of(path: StrPath) -> str:
    from keras_resnet.weights.fitting import network_of

    name = network_of(path)
    log.info(f"network identified from the arrays of {path}: {name}")
    return name


def require_model(what: Any) -> None:
    """InputError unless the argument is a path or a Keras model."""
    if isinstance(what, str | os.PathLike):
        return
    import keras

    if not isinstance(what, keras.Model):
        raise InputError(f"{first_line(repr(what))} is neither a path nor a Keras model")


def import_model(
    model: "StrPath | keras.Model",
    *,
    labels: StrPath | Sequence[str] | None = None,
    normalize: Normalize | None = None,
    image_size: int | str = 0,
    fit: str = "crop",
    channels: int | None = None,
    center_crop: float = 1.0,
    run_folder: StrPath | None = None,
) -> runs.Run:
    """Makes a run folder from any Keras image classifier.

    The run has the whole network, from raw pixels to float32 logits: see `weights.classifier`. It
    has no images; `export` takes some with `data`.

    Args:
        model: a Keras model from images `(b, h, w, c)`, c 3 (RGB) or 1 (grey), to scores `(b, k)`,
            probabilities or logits; or the path of a `.keras` file with one.
        labels: the class of each output, in order: a list, a text file with one class per line, or
            "imagenet" for the names of ImageNet's 1,000 classes; None: those of the run that the
            file belongs to, else numbers.
        normalize: preprocessing of the pixels that the model expects: "imagenet", "tf", "caffe"
            (BGR), "cifar10", or another value of `specs.statistics`. It becomes the first layers of
            the run's network. None: the model takes pixels in [0, 255].
        image_size: side of the images in pixels, or "HxW", for a model with a dynamic size.
        fit: how images of another aspect ratio are fitted: "crop", "pad", or "stretch" as in Keras'
            `image_dataset_from_directory`.
        channels: 3 for RGB or 1 for luma, for a model with a dynamic number; None: 3.
        center_crop: the middle square of an image, as a share of its shorter side.
        run_folder: the folder to write; default `runs/MODEL-data-NNN`.

    Returns:
        The finished `Run`.

    Raises:
        InputError: no image classifier, one that cannot be copied, or labels that do not fit;
            nothing is written.
    """
    require_model(model)
    is_file = isinstance(model, str | os.PathLike)
    with isolated(any_backend=True):
        from keras_resnet.weights import whole_model
        from keras_resnet.weights.classifier import classifier

        opened: Any = whole_model.load(Path(model)) if is_file else model
        source = str(model) if is_file else f"the model {opened.name!r}"
        given = classifier(
            opened, source, normalize=normalize, image_size=image_size, channels=channels
        )
    network = given.model
    classes = _classes(labels, network.output_shape[-1], source)
    form = {"fit": fit, "center_crop": center_crop}
    own = {**given.settings, **form, "normalize": normalize, "data": names.NONE}
    config = recipes.resolve(own)
    name = Path(model).stem if is_file else opened.name
    folder = run_folder or runs.next_folder(f"{name}-data")
    with runs.importing(folder, config, classes) as run:
        for note in given.notes:
            log.info(note)
        _log_labels(classes, labels)
        run.save_model(network)
        file = {"file": os.path.abspath(model), **fingerprint(model)} if is_file else {"file": name}
        parameters = network.count_params()
        run.save_metrics({"model": name, "parameters": parameters, "imported": file})
    return run


def _log_labels(classes: Sequence[str], given: StrPath | Sequence[str] | None) -> None:
    """Logs the classes of a run if none were given."""
    if given is None:
        of_imagenet = imagenet_classes()
        may_be_imagenet = len(classes) == len(of_imagenet) and classes != of_imagenet
        or_names = " or imagenet" if may_be_imagenet else ""
        log.info(f"labels: {some_of(classes, 5)}; --labels FILE{or_names} sets others")


def imagenet_classes() -> list[str]:
    """The names of the 1,000 classes of ImageNet (ILSVRC 2012), in the order of the outputs of
    published networks."""
    return read_lines(_IMAGENET_CLASSES)


def _owner(path: StrPath) -> runs.Run | None:
    """The run that a file belongs to."""
    return runs.run_of(path) if os.path.isfile(path) else None


def _classes(labels: StrPath | Sequence[str] | None, count: int | None, path: StrPath) -> list[str]:
    """The names of `count` classes."""
    if count is None:
        raise InputError(
            f"{path} has no classifier; train one on its features: keras-resnet train DATA "
            f"--weights {path}"
        )
    if labels is None and path == IMAGENET:
        labels = IMAGENET
    if labels is None:
        owner = _owner(path)
        if owner and len(owner.classes) == count:
            return owner.classes
        return [str(k) for k in range(count)]
    if isinstance(labels, str) and labels == IMAGENET:  # an array has no single truth value
        given, classes = f"--labels {IMAGENET}", imagenet_classes()
        has, place = plural(len(classes), "name"), "for each output"
    elif isinstance(labels, str | os.PathLike):
        given = f"--labels {labels}"
        try:
            classes = read_lines(labels)
        except OSError as error:
            raise InputError(f"cannot read {given}: {error.strerror}; give a text file") from None
        has, place = plural(len(classes), "line"), "on each line"
    else:
        given, classes = "labels", list(labels)
        if odd := [
            name for name in classes if not isinstance(name, str) or set("\r\n") & set(name)
        ]:
            raise InputError(f"labels has {odd[0]!r}; expected names without line breaks")
        has, place = f"{plural(len(classes), 'name')} ({some_of(classes, 3)})", "for each output"
    if len(classes) != count:
        raise InputError(
            f"{given} has {has}, but {path} has {count} classes; give one name {place}, in the "
            "order of the outputs"
        )
    twice = next((name for name, count in Counter(classes).items() if count > 1), None)
    if "" in classes or twice:
        raise InputError(
            f"{given} has {f'{twice!r} twice' if twice else 'empty lines'}; give each class a "
            "unique name"
        )
    return classes
