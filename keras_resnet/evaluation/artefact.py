"""Opens any artefact as a function from images to logits.

A run folder, a `.keras` file, a SavedModel folder, a `.tflite` and an `.onnx` file have the same
interface: image size, class names and, if the file belongs to one, its run.
"""

import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_resnet import filenames, manifest
from keras_resnet.errors import InputError, first_line
from keras_resnet.evaluation.contract import PLAIN, Contract, contract_of, spread
from keras_resnet.evaluation.reference import true_float32
from keras_resnet.files import (
    LARGEST_TEXT,
    REPLACE,
    StrPath,
    plainly_named,
    read_json,
    read_lines,
)
from keras_resnet.geometry import FITS, LARGEST_SIDE, Geometry, from_size, is_size
from keras_resnet.messages import log
from keras_resnet.run import Run, kind_of, open_run, require_trusted, resume_command, run_of
from keras_resnet.state import isolated

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from keras_resnet.evaluation.lite import Lite
    from keras_resnet.evaluation.ort import Ort

_DESCRIPTION = (filenames.LABELS, filenames.PREPROCESS)  # of an exported file
Predict = Callable[[np.ndarray], np.ndarray]  # raw pixels (b, h, w, c) -> float32 scores (b, k)


@dataclass(frozen=True)
class Artefact:
    """An image classifier, opened from any kind of artefact."""

    path: Path
    kind: str  # "run", "keras", "saved_model", "tflite" or "onnx"
    geometry: Geometry  # of the images that `predict` takes
    center_crop: float  # share of the photo that is visible, as in `Geometry.window`
    classes: list[str]
    run: Run | None  # the run that the artefact belongs to
    predict: Predict  # uint8 or float32 (b, h, w, c) in [0, 255] -> float32 logits (b, k)
    model: "keras.Model | None" = None  # for kinds "run" and "keras"
    lite: "Lite | None" = None  # the runtime of a `.tflite` file
    contract: Contract = PLAIN  # outputs; an exported file may reject images

    @property
    def needs_tensorflow(self) -> bool:
        return self.kind not in _RUNTIMES


def open_artefact(
    path: StrPath | None = None,
    *,
    threads: int | None = None,
    run: Run | None = None,
    content: bytes | None = None,
    trust: bool = False,
) -> Artefact:
    """Opens an artefact.

    A file that differs from its entry in the manifest beside it is refused, and so are its
    labels.txt and preprocess.json.

    Args:
        path: path of a run folder, `.keras`, SavedModel, `.tflite` or `.onnx`; or a `Run`. None:
            the newest run.
        threads: threads of LiteRT or ONNX Runtime; None: one per core. TensorFlow's are fixed for
            the whole process.
        run: the run that the file belongs to; None: the run whose folder it is in, if any.
        content: the bytes of a `.tflite` or `.onnx`, if they were read already.
        trust: run a SavedModel that was not exported here.

    Returns:
        An `Artefact`; its `predict` maps pixels to logits, whatever its kind.

    Raises:
        InputError: no such path, not an image classifier, damaged, or not trusted.
    """
    if path is None or isinstance(path, Run):
        return _open_run(open_run(path))
    kind, path = kind_of(path), Path(path)
    if kind == "run":
        return _open_run(open_run(path))
    if run is None:  # a caller that gives the run has just exported or checked the file
        require_trusted(path, trust)
        run = run_of(path)
    if kind == "keras":
        return _open_keras(path, run)
    if path.name == filenames.FEATURES:
        raise InputError(f"{path} outputs features, not classes; give another file of the export")
    manifest.require_unchanged(path.resolve(), content, beside=_DESCRIPTION)
    if kind == "saved_model":
        return _open_saved_model(path, run)
    opened = _RUNTIMES[kind](path, threads, content)
    artefact = _open_file(path, run, opened)
    return replace(artefact, lite=opened) if kind == "tflite" else artefact


def isolated_for(artefact: StrPath | Artefact | None) -> AbstractContextManager[None]:
    """`state.isolated` for an argument or a result of `open_artefact`. A null context for files
    that need neither Keras nor TensorFlow, whose imports take seconds."""
    if isinstance(artefact, Artefact):
        kind = artefact.kind
    else:
        kind = "run" if artefact is None or isinstance(artefact, Run) else kind_of(artefact)
    return nullcontext() if kind in _RUNTIMES else isolated(any_backend=True)


def predict_stream(artefact: Artefact, stream: "tf.data.Dataset") -> npt.NDArray[np.float32]:
    """Logits `(n, k)` for a dataset of (images, labels) batches."""
    batches = (images for images, _ in stream.as_numpy_iterator())
    return predict_batches(artefact, batches, int(stream.cardinality()))


def predict_batches(
    artefact: Artefact, batches: Iterable[np.ndarray], count: int
) -> npt.NDArray[np.float32]:
    """Logits `(n, k)` for `count` batches of images."""
    from keras_resnet.progress import bar

    logits = []
    with bar(count, f"predicting with {artefact.path.name}", "batches") as advance:
        for images in batches:
            logits.append(artefact.predict(images))
            advance()
    return np.concatenate(logits)


def _model_of(run: Run) -> "keras.Model":
    """The model of a run; InputError if the run is unfinished and one of its files changed."""
    if not run.manifest and run.checkpoint_steps():
        from keras_resnet import checkpoint_notes

        checkpoint_notes.require_same_files(run, checkpoint_notes.peek(run) or {})
        log.warning(
            f"{run.path} is not finished: this is its best model so far; {resume_command(run.path)}"
        )
    return run.model()


def _open_run(run: Run) -> Artefact:
    model = _model_of(run)
    config = run.config
    return Artefact(
        run.path,
        "run",
        config.geometry,
        config.center_crop,
        run.classes,
        run,
        _keras_predictor(model),
        model,
    )


def _open_keras(path: Path, run: Run | None) -> Artefact:
    if run and path.resolve() == run.file(filenames.MODEL).resolve():
        model = _model_of(run)
    else:
        from keras_resnet.weights import whole_model

        model = whole_model.load(path)
    shape, count = model.input_shape[1:], model.output_shape[-1]
    return _artefact(path, run, shape, count, _keras_predictor(model), model)


def _open_saved_model(path: Path, run: Run | None) -> Artefact:
    import tensorflow as tf

    try:
        with plainly_named(path) as folder:
            loaded = tf.saved_model.load(str(folder))
        serve = loaded.signatures["serving_default"]
    except Exception as error:  # protobuf, tables and KeyError
        raise InputError(
            f"{path} is not a SavedModel with a serving_default signature ({first_line(error)})"
        ) from None
    (name, spec), *others = serve.structured_input_signature[1].items()
    (output, shape), *more = serve.structured_outputs.items()
    if others or more or spec.shape.rank != 4 or shape.shape.rank != 2:
        raise InputError(f"{path}: serving_default is not a function from images to scores")

    @true_float32()
    def predict(images: np.ndarray, _keep_alive: object = loaded) -> npt.NDArray[np.float32]:
        return serve(**{name: tf.cast(images, spec.dtype)})[output].numpy()

    return _artefact(path, run, tuple(spec.shape[1:]), shape.shape[-1], predict)


def _open_file(path: Path, run: Run | None, opened: Any) -> Artefact:
    shape, count, predict = opened.input_shape[1:], opened.output_shape[-1], opened.predict
    if opened.names_best:
        labels = _describe(path).labels
        if labels is None:
            raise InputError(
                f"{path} outputs class numbers; copy labels.txt and preprocess.json of its export "
                "next to it"
            )
        count = len(labels)

        def predict(images: np.ndarray) -> np.ndarray:
            scores, classes = opened.best(images)
            return spread(scores, classes, count)

    return _artefact(path, run, shape, count, predict)


# Loaded on demand: neither needs TensorFlow, nor the other.
def _litert(path: Path, threads: int | None, content: bytes | None) -> "Lite":
    from keras_resnet.evaluation.lite import Lite

    return Lite(path, threads, content)


def _onnx_runtime(path: Path, threads: int | None, content: bytes | None) -> "Ort":
    from keras_resnet.evaluation.ort import Ort

    return Ort(path, threads, content)


def _artefact(
    path: Path,
    run: Run | None,
    shape: tuple[int | None, ...],
    count: int | None,
    predict: Predict,
    model: "keras.Model | None" = None,
) -> Artefact:
    """Completes an artefact with its run, or with its own description."""
    description = _describe(path)
    contract = contract_of(description.preprocess, description.source)
    if run:
        size, fit, crop = run.config.geometry.image_size, run.config.fit, run.config.center_crop
    else:
        size, fit, crop = _preprocessing(description, needs_size=bool(contract.input_size))
    height, width, channels = shape
    if height is None or width is None or channels not in (1, 3):
        sides = "×".join("?" if side is None else str(side) for side in shape)
        raise InputError(
            f"{path} takes images of {sides}; a fixed size and 3 channels, or 1, are needed"
        )
    if max(height, width) > LARGEST_SIDE:
        raise InputError(
            f"{path} takes images of {max(height, width):,} pixels; at most {LARGEST_SIDE:,} fit"
        )
    geometry = Geometry(height, width, fit, channels)
    if contract.input_size and (height, width) == contract.input_size:
        geometry, crop = contract.view(from_size(size, fit, channels), crop)  # it crops by itself
        predict = _framed(predict, contract)
    if count is None:
        raise InputError(f"{path} has no fixed number of classes; an image classifier needs one")
    if count < 2:
        raise InputError(
            f"{path} has {count} output; an image classifier has one per class, two or more"
        )
    if contract.scores == "softmax":
        predict = _unscaled(predict, contract)
    elif run is None and "scores" not in description.preprocess:
        predict = _to_logits(predict)
    classes = run.classes if run else description.labels or _numbers(count)
    if twice := next((name for name, count in Counter(classes).items() if count > 1), None):
        raise InputError(f"labels.txt of {path} has {twice!r} twice; give each class its own name")
    if len(classes) != count:
        raise InputError(
            f"{path} has {count} outputs, its labels.txt {len(classes)} names; give it one "
            "name per line, in the order of the outputs"
        )
    return Artefact(
        path, kind_of(path), geometry, crop, classes, run, predict, model, contract=contract
    )


class _Description(NamedTuple):
    """The metadata of a file."""

    labels: list[str] | None
    preprocess: dict[str, Any]  # content of preprocess.json; {} without one
    source: Path  # the file with that content


def _describe(path: Path) -> _Description:
    """Reads labels.txt and preprocess.json, each from beside the file or else inside a `.tflite`.

    Raises:
        InputError: one of them is damaged.
    """
    folder = path.resolve().parent
    beside = [name for name in _DESCRIPTION if (folder / name).exists()]
    inside = {} if len(beside) == len(_DESCRIPTION) else _embedded(path)

    def read(name: str, reader: Callable[..., Any], otherwise: Any) -> Any:
        if name in beside:
            return reader(folder / name)
        return reader(path, inside[name]) if inside else otherwise

    return _Description(
        labels=read(filenames.LABELS, read_lines, None),
        preprocess=read(filenames.PREPROCESS, read_json, {}),
        source=folder / filenames.PREPROCESS if filenames.PREPROCESS in beside else path,
    )


def _embedded(path: Path) -> dict[str, bytes]:
    """labels.txt and preprocess.json inside a `.tflite` file; {} unless it was exported here."""
    if path.suffix != ".tflite" or not zipfile.is_zipfile(path):
        return {}
    try:
        with zipfile.ZipFile(path) as archive:
            if not set(_DESCRIPTION) <= set(archive.namelist()):
                return {}
            for name in _DESCRIPTION:
                if (size := archive.getinfo(name).file_size) > LARGEST_TEXT:
                    raise zipfile.BadZipFile(f"{name} has {size:,} bytes")
            return {name: archive.read(name) for name in _DESCRIPTION}
    # RuntimeError: encrypted; NotImplementedError: an unknown compression method.
    except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, NotImplementedError) as error:
        raise InputError(f"the metadata of {path} are damaged ({error}); {REPLACE}") from None


def _numbers(count: int) -> list[str]:
    """Class names "0", "1", … for a model without labels."""
    return [str(i) for i in range(count)]


def _preprocessing(description: _Description, needs_size: bool) -> tuple[Any, str, float]:
    """Image size, fit and centre crop; the size is None if it is missing and not needed.

    Raises:
        InputError: preprocess.json is damaged.
    """
    content: dict[str, Any] = {"image_size": None, "fit": "crop", "center_crop": 1.0}
    content |= description.preprocess
    size, fit, crop = (content[name] for name in ("image_size", "fit", "center_crop"))
    sound = {
        "image_size": not needs_size if size is None else is_size(size) and size != 0,
        "fit": fit in FITS,
        "center_crop": isinstance(crop, int | float) and 0 < crop <= 1,
    }
    for name, good in sound.items():
        if not good:
            value = "missing" if content[name] is None else repr(content[name])
            raise InputError(f"{description.source} is damaged: {name} is {value}; export it again")
    return size, fit, crop


def _framed(predict: Predict, contract: Contract) -> Predict:
    return lambda squares: predict(contract.frames(squares))


def _unscaled(predict: Predict, contract: Contract) -> Predict:
    return lambda images: contract.to_logits(predict(images))


def _to_logits(predict: Predict) -> Predict:
    """Logits from a model of another tool, which may end in a softmax."""

    def logits(images: np.ndarray) -> np.ndarray:
        scores = predict(images)
        # int8 rounds each probability to 1/256.
        tolerance = 0.01 + scores.shape[-1] / 512
        if (scores >= 0).all() and (np.abs(scores.sum(-1) - 1) <= tolerance).all():
            return np.log(np.maximum(scores, 1e-12))
        return scores

    return logits


def _keras_predictor(model: "keras.Model") -> Predict:
    # On a GPU Keras compiles with XLA by default, again for each number of images.
    model.jit_compile = False

    @true_float32()
    def predict(images: np.ndarray) -> npt.NDArray[np.float32]:
        return np.asarray(model.predict_on_batch(images.astype(np.float32)), np.float32)

    return predict


_RUNTIMES: dict[str, Callable[[Path, int | None, bytes | None], Any]] = {
    "tflite": _litert,
    "onnx": _onnx_runtime,
}
