"""A run -> files for phones and servers, checked before they are published."""

import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from keras_resnet import progress
from keras_resnet.data.check import classes_in_turn
from keras_resnet.data.stream import evaluation_stream
from keras_resnet.errors import InputError
from keras_resnet.evaluation.artefact import open_artefact, predict_stream
from keras_resnet.evaluation.contract import FILE as CONTRACT_FILE
from keras_resnet.evaluation.contract import SCORES, Contract, read_contract
from keras_resnet.evaluation.scores import stream_for
from keras_resnet.exporting import gate, onnx_file, publish, temperature
from keras_resnet.exporting import saved_model as saved_model_room
from keras_resnet.exporting.convert import FILES, IO_TYPES, VARIANTS, convert
from keras_resnet.exporting.saved_model import PLAIN
from keras_resnet.files import write_json, write_text
from keras_resnet.run import FEATURES, open_run

CALIBRATION = 500  # images; largest int8 logit error 2.6 with 200 samples, 0.43 with 1,297

_OUTPUTS = {
    "logits": "logits; a softmax over the last axis gives probabilities",
    "softmax": "scores: probabilities of all classes",
    "top": "scores: the best probabilities; classes: their places in labels.txt",
}


def export(
    run=None,
    *,
    saved_model=True,
    tflite=("none",),
    onnx=False,
    features=False,
    scores="logits",
    top=None,
    input_size=None,
    calibrate_probabilities=False,
    io="float",
    calibration=CALIBRATION,
    max_drop=gate.MAX_DROP,
    images=gate.IMAGES,
    output=None,
    data=None,
    data_dir=None,
):
    """Exports a run, verifies the files, and only then publishes them.

    Args:
        run: a `Run` or its path; None is the newest run.
        saved_model: whether to write a SavedModel (see `write_for_serving` for its signatures).
        tflite: variants to write: "none" (float32), "float16", "dynamic", "int8".
        onnx: whether to write `model.onnx`, float32, for any number of images; needs the extra
            `[onnx]`.
        features: whether to write `model_features.tflite`, float32: the pooled features `(1, c)`.
        scores: what the files give: "logits", or "softmax" for probabilities.
        top: give the best `top` probabilities and their classes only; for TFLite, with "softmax".
        input_size: (height, width) of a camera's frames, of which the files take the middle square
            and resize it themselves, bilinear; default: the model's own square.
        calibrate_probabilities: divide the logits by a temperature that is fitted on one half of
            the validation images and judged on the other; see `keras_resnet.exporting.temperature`.
        io: type of the input and output of the int8 file: "float", "uint8" or "int8".
        calibration: training images that set the ranges of int8, stratified by class.
        max_drop, images: the gate, as in `verify`.
        output: the folder to write; default `RUN/export/`. Other variants already in it stay.
        data, data_dir: images for a run that was imported without; see `Run.attach`.

    Returns:
        The result of `verify` on everything in the folder.

    Raises:
        InputError: a wrong argument. CheckFailed: a file did not pass; nothing is published.
    """
    run = open_run(run)
    _check(tflite, io, calibration, saved_model or onnx or features)
    contract = Contract(scores, top=top, input_size=tuple(input_size) if input_size else None)
    _check_contract(contract, run, saved_model or onnx)
    if onnx:
        onnx_file.require()
    gate.require(max_drop, images)
    if data is not None:
        run.attach(data, data_dir)
    run.require_images()
    target = Path(output) if output else run.export_folder
    publish.restore(target)
    publish.sweep(target)
    if target.exists() and any(target.iterdir()) and not (target / "verify.json").exists():
        raise InputError(f"--output {target} holds something else than an export; give another")
    names = [
        *(["saved_model"] if saved_model else []),
        *(FILES[v] for v in tflite),
        *([onnx_file.FILE] if onnx else []),
        *([FEATURES] if features else []),
    ]
    probabilities = _calibrate(run) if calibrate_probabilities else None
    if probabilities:
        contract = replace(contract, temperature=probabilities["temperature"])
    _require_alike(target, names, contract)
    with publish.staged(target) as folder:
        for name in names:
            _remove(folder / name)  # a second name of the published file, which must not change
        write_json(folder / CONTRACT_FILE, preprocessing(run.config, contract, probabilities))
        _write(run, folder, names, contract, tflite, io, calibration)
        gate.record(folder, names)
        result = gate.check(run, folder, max_drop=max_drop, images=images)
        gate.demand(result)
        write_json(folder / "verify.json", result)
    progress.say(f"published in {target}")
    return result


def _check(tflite, io, calibration, other):
    if isinstance(tflite, str):
        raise InputError(f"tflite is {tflite!r}; expected a list of variants, such as ['int8']")
    for variant in tflite:
        if variant not in VARIANTS:
            raise InputError(f"--quantize {variant}: use one of {', '.join(VARIANTS)}")
    if io not in IO_TYPES:
        raise InputError(f"--io {io}: use one of {', '.join(IO_TYPES)}")
    if io != "float" and "int8" not in tflite:
        raise InputError(f"--io {io} is for int8 files; add --quantize int8")
    if calibration < 1:
        raise InputError(f"--calibration is {calibration}; expected at least 1 image")
    if not other and not tflite:
        raise InputError("nothing to export; ask for a SavedModel, variants of TFLite, or ONNX")


def _check_contract(contract, run, not_lite):
    """InputError for ends that no file can have."""
    if contract.scores not in SCORES:
        raise InputError(f"--scores {contract.scores}: use one of {', '.join(SCORES)}")
    top, count, side = contract.top, len(run.classes), run.config.side
    if top is not None and not 1 <= top <= count:
        raise InputError(f"--top is {top}; expected 1 to {count}, the number of classes")
    if top is not None and contract.scores != "softmax":
        raise InputError(f"--top {top} gives probabilities; add --scores softmax")
    if top is not None and not_lite:
        raise InputError(f"--top {top} is for TFLite files; give --tflite alone")
    if contract.input_size is None:
        return
    height, width = contract.input_size
    if min(height, width) < 1 or (height, width) == (side, side):
        raise InputError(
            f"--input-size is {height}x{width}; expected the size of a camera's frames, such as "
            f"480x640; the model's own size, {side}x{side}, is the default"
        )


def _calibrate(run):
    progress.say("fitting a temperature on validation images …")
    opened, examples = open_artefact(run.path), run.examples("val")
    logits = predict_stream(opened, stream_for(opened, examples))
    return temperature.calibrate(logits, examples.labels, run.config.seed)


def _require_alike(target, names, contract):
    """InputError if other files in `target` have other ends: one preprocess.json speaks for all."""
    others = [path.name for path in gate.artefacts(target) if path.name not in names]
    if others and read_contract(target) != contract:
        raise InputError(
            f"{target} holds {others[0]}, whose input or output differs from what is asked for; "
            "export it again in the same command, or give another --output"
        )


def _write(run, folder, names, contract, tflite, io, calibration):
    model, config, classes = run.model(), run.config, run.classes
    ends = {"contract": contract, "center_crop": config.center_crop}
    write_text(folder / "labels.txt", "".join(f"{name}\n" for name in classes))
    if "saved_model" in names:
        with _step("SavedModel"):
            saved_model_room.write_for_serving(
                model, classes, config.center_crop, folder / "saved_model", contract
            )
    if onnx_file.FILE in names:
        with _step(onnx_file.FILE), tempfile.TemporaryDirectory() as scratch:
            source = Path(scratch) / "saved_model"
            saved_model_room.write_for_conversion(model, source, batch=None, **ends)
            onnx_file.convert(source, folder / onnx_file.FILE)
    if FEATURES in names:
        with _step(FEATURES), tempfile.TemporaryDirectory() as scratch:
            source = Path(scratch) / "saved_model"
            saved_model_room.write_for_conversion(model, source, features=True, **ends)
            convert(source, folder / FEATURES, "none")
    if not tflite:
        return
    with tempfile.TemporaryDirectory() as scratch:
        source, images = Path(scratch) / "saved_model", Path(scratch) / "calibration.npy"
        saved_model_room.write_for_conversion(model, source, **ends)
        if "int8" in tflite:
            np.save(images, calibration_images(run, calibration, contract))
        for variant in dict.fromkeys(tflite):
            with _step(FILES[variant]):
                convert(
                    source,
                    folder / FILES[variant],
                    variant,
                    io=io,
                    calibration=images if variant == "int8" else None,
                )


def preprocessing(config, contract=PLAIN, probabilities=None):
    """The contract of preprocess.json: from a photo to what the model takes, and what it gives."""
    output = _OUTPUTS["top" if contract.top else contract.scores]
    said = {
        "image_size": config.side,
        "crop": "middle square of the upright image",
        "center_crop": config.center_crop,
        "resize": "bilinear, antialiased",
        "color_order": "RGB",
        "range": [0, 255],
        "layout": "NHWC",
        "normalization": "inside the model",
        "output": output,
        "scores": contract.scores,
        "temperature": contract.temperature,
        "top": contract.top,
        "input_size": contract.input_size,
    }
    if contract.input_size:
        said |= {
            "crop": "inside the model: the middle square of the upright frame",
            "resize": "inside the model: bilinear",
        }
    return said | ({"probabilities": probabilities} if probabilities else {})


def calibration_images(run, count, contract=PLAIN):
    """uint8 `(n, h, w, 3)`: training images as evaluation shows them, plus all black and all white.

    Never the images that judge. Taken class by class in turn, in a seeded order. The two plain
    images pin the input's range to [0, 255], and with it the scale of raw bytes to exactly 1.
    """
    train, config = run.examples("train"), run.config
    size, crop = contract.view(config.side, config.center_crop)
    stream = evaluation_stream(
        train.take(classes_in_turn(train.labels, count, config.seed)),
        size=size,
        crop=crop,
        batch_size=64,
    )
    images = np.concatenate([contract.frames(batch) for batch, _ in stream.as_numpy_iterator()])
    plain = np.stack([np.full_like(images[0], value) for value in (0, 255)])
    return np.concatenate([images, plain])


def _remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class _step:
    """Says what is being made, and how long it took."""

    def __init__(self, what):
        self._what = what

    def __enter__(self):
        progress.say(f"writing {self._what} …")
        self._began = time.monotonic()

    def __exit__(self, *failure):
        if failure[0] is None:
            progress.say(f"wrote {self._what}, {time.monotonic() - self._began:.0f} s")
