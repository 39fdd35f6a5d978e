"""A run -> files for phones and servers, checked before they are published."""

import shutil
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from keras_resnet import progress
from keras_resnet.errors import InputError
from keras_resnet.evaluation.artefact import open_artefact, predict_stream
from keras_resnet.evaluation.contract import FILE as CONTRACT_FILE
from keras_resnet.evaluation.contract import PLAIN, SCORES, Contract, read_contract
from keras_resnet.evaluation.reference import true_float32
from keras_resnet.evaluation.scores import stream_for
from keras_resnet.exporting import (
    bundling,
    card,
    gate,
    golden,
    metadata,
    onnx_file,
    publish,
    temperature,
)
from keras_resnet.exporting import calibration as calibration_room
from keras_resnet.exporting import saved_model as saved_model_room
from keras_resnet.exporting import tflite as tflite_room
from keras_resnet.exporting.convert import FILES, IO_TYPES, VARIANTS, convert
from keras_resnet.files import read_text, write_json, write_text
from keras_resnet.run import FEATURES, fingerprint, open_run

_OUTPUTS = {
    "logits": "logits; a softmax over the last axis gives probabilities",
    "softmax": "scores: probabilities of all classes",
    "top": "scores: the best probabilities; classes: their places in labels.txt",
}


@true_float32()
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
    explain_quantization=False,
    calibration=calibration_room.COUNT,
    max_drop=gate.MAX_DROP,
    images=gate.IMAGES,
    bundles=(),
    output=None,
    data=None,
    data_dir=None,
):
    """Exports a run, verifies the files, and only then publishes them.

    Args:
        run: a `Run` or its path; None is the newest run.
        saved_model: whether to write a SavedModel (see `write_for_serving` for its signatures).
        tflite: variants to write: "none" (float32), "float16", "dynamic", "int8", "int16x8"; or
            "auto" alone: the smallest that passes, see `keras_resnet.exporting.auto`.
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
        explain_quantization: measure what int8 costs each layer, and plot it.
        calibration: training images that set the ranges of int8, stratified by class.
        max_drop, images: the gate, as in `verify`.
        bundles: "android", "web", "python", "c": folders that are ready to run, see `bundling`.
        output: the folder to write; default `RUN/export/`. Other variants already in it stay, but
            for "auto".
        data, data_dir: images for a run that was imported without; see `Run.attach`.

    Returns:
        The result of `verify` on everything in the folder.

    Raises:
        InputError: a wrong argument. CheckFailed: a file did not pass; nothing is published.
    """
    run = open_run(run)
    _check(tflite, io, explain_quantization, calibration, saved_model or onnx or features)
    contract = Contract(scores, top=top, input_size=tuple(input_size) if input_size else None)
    _check_contract(contract, run, saved_model or onnx)
    if onnx:
        onnx_file.require()
    gate.require(max_drop, images)
    target = Path(output) if output else run.export_folder
    variants = VARIANTS if tflite_room.AUTO in tflite else tflite
    float_ended = [FILES[v] for v in variants if v != "int8" or io == "float"]
    bundling.require(bundles, float_ended, target, contract)
    if data is not None:
        run.attach(data, data_dir)
    run.require_images()
    publish.restore(target)
    publish.sweep(target)
    if target.exists() and any(target.iterdir()) and not (target / "verify.json").exists():
        raise InputError(f"--output {target} holds something else than an export; give another")
    others = [
        *(["saved_model"] if saved_model else []),
        *([onnx_file.FILE] if onnx else []),
        *([FEATURES] if features else []),
    ]
    probabilities = _calibrate(run) if calibrate_probabilities else None
    if probabilities:
        contract = replace(contract, temperature=probabilities["temperature"])
    replaced = [*others, *tflite_room.replaced(tflite)]
    _require_alike(target, replaced, contract)
    with publish.staged(target) as folder:
        for name in replaced:
            _remove(folder / name)  # a second name of the published file, which must not change
        write_text(folder / "labels.txt", "".join(f"{name}\n" for name in run.classes))
        write_json(folder / CONTRACT_FILE, preprocessing(run.config, contract, probabilities))
        judge = gate.Judge(run, max_drop=max_drop, images=images, contract=contract)
        model = run.model()
        _write_others(run, model, folder, others, contract)
        made = tflite_room.Made()
        if tflite:
            made = tflite_room.write(
                run,
                model,
                folder,
                tflite,
                io=io,
                count=calibration,
                explain=explain_quantization,
                judge=judge,
                contract=contract,
            )
            _embed(run, folder, made.names, contract)
        gate.record(folder, [*others, *made.names], made.notes)
        result = gate.check(folder, judge) | made.result
        gate.demand(result)
        write_json(folder / "verify.json", result)
        with _step("golden set, card and bundles"):
            golden.write(run, folder, [row["file"] for row in result["artefacts"]], contract)
            write_text(folder / "card.md", card.text(run, result))
            bundling.write(run, folder, bundles, contract)
    progress.say(f"published in {target}")
    return result


def _check(tflite, io, explain, calibration, other):
    if isinstance(tflite, str):
        raise InputError(f"tflite is {tflite!r}; expected a list of variants, such as ['int8']")
    for variant in tflite:
        if variant not in (*VARIANTS, tflite_room.AUTO):
            raise InputError(f"--quantize {variant}: use one of {', '.join(VARIANTS)}, auto")
    if tflite_room.AUTO in tflite and len(set(tflite)) > 1:
        raise InputError("--quantize auto chooses one file; leave the other variants out")
    has_int8 = bool({"int8", tflite_room.AUTO} & set(tflite))
    if io not in IO_TYPES:
        raise InputError(f"--io {io}: use one of {', '.join(IO_TYPES)}")
    if io != "float" and not has_int8:
        raise InputError(f"--io {io} is for int8 files; add --quantize int8")
    if explain and not has_int8:
        raise InputError("--explain-quantization is about int8 files; add --quantize int8")
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


def _write_others(run, model, folder, names, contract):
    """What is not a variant of the `.tflite` file."""
    crop = run.config.center_crop
    if "saved_model" in names:
        with _step("SavedModel"):
            saved_model_room.write_for_serving(
                model, run.classes, crop, folder / "saved_model", contract
            )
    if onnx_file.FILE in names:
        with _converted(model, contract, crop, batch=None) as source, _step(onnx_file.FILE):
            onnx_file.convert(source, folder / onnx_file.FILE)
    if FEATURES in names:
        with _converted(model, contract, crop, features=True) as source, _step(FEATURES):
            convert(source, folder / FEATURES, "none")


@contextmanager
def _converted(model, contract, center_crop, **options):
    """A SavedModel for a converter, for as long as it is needed."""
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "saved_model"
        saved_model_room.write_for_conversion(
            model, source, contract=contract, center_crop=center_crop, **options
        )
        yield source


def _embed(run, folder, names, contract):
    """Puts the contract into `.tflite` files. Readers of metadata expect a score for each class:
    files that name the best alone go without."""
    if contract.top:
        return
    described = metadata.describe(
        network=run.config.model,
        classes=len(run.classes),
        preprocess=preprocessing(run.config, contract),
        source_sha256=fingerprint(run.file("model.keras"))["sha256"],
        origin=card.origin(run),
    )
    contents = {file: read_text(folder / file) for file in (metadata.LABELS, metadata.PREPROCESS)}
    for name in names:
        metadata.embed(folder / name, described, contents)


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
