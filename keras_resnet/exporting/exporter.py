"""A run -> files for phones and servers, checked before they are published."""

import shutil
import time
from pathlib import Path

from keras_resnet import progress
from keras_resnet.errors import InputError
from keras_resnet.exporting import bundling, card, gate, golden, metadata, publish
from keras_resnet.exporting import calibration as calibration_room
from keras_resnet.exporting import saved_model as saved_model_room
from keras_resnet.exporting import tflite as tflite_room
from keras_resnet.exporting.convert import FILES, IO_TYPES, VARIANTS
from keras_resnet.files import read_text, write_json, write_text
from keras_resnet.run import fingerprint, open_run


def export(
    run=None,
    *,
    saved_model=True,
    tflite=("none",),
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
        io: type of the input and output of the int8 file: "float", "uint8" or "int8".
        explain_quantization: measure what int8 costs each layer, and plot it.
        calibration: training images that set the ranges of int8, stratified by class.
        max_drop, images: the gate, as in `verify`.
        bundles: "android", "web", "python", "c": folders that are ready to run, see `bundling`.
        output: the folder to write; default `RUN/export/`. Other variants already in it stay, but
            for "auto".
        data, data_dir: images for a run that was imported without; see `Run.attach`.

    Returns:
        The result of `verify` on everything in the folder; with "auto" also `candidates`, see
        `auto.choose`, and when it is explained `quantization`: {layers, blocks}, see
        `keras_resnet.exporting.layer_error`.

    Raises:
        InputError: a wrong argument. CheckFailed: a file did not pass; nothing is published.
    """
    run = open_run(run)
    _check(tflite, io, explain_quantization, calibration, saved_model)
    gate.require(max_drop, images)
    target = Path(output) if output else run.export_folder
    variants = VARIANTS if tflite_room.AUTO in tflite else tflite
    float_ended = [FILES[v] for v in variants if v != "int8" or io == "float"]
    bundling.require(bundles, float_ended, target)
    if data is not None:
        run.attach(data, data_dir)
    run.require_images()
    publish.restore(target)
    publish.sweep(target)
    if target.exists() and any(target.iterdir()) and not (target / "verify.json").exists():
        raise InputError(f"--output {target} holds something else than an export; give another")
    with publish.staged(target) as folder:
        saved = ["saved_model"] if saved_model else []
        for name in [*saved, *tflite_room.replaced(tflite)]:
            _remove(folder / name)  # a second name of the published file, which must not change
        judge = gate.Judge(run, max_drop=max_drop, images=images)
        model = run.model()
        _write(run, model, folder, saved_model)
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
            )
        for name in made.names:
            _embed(run, folder, name)
        gate.record(folder, [*saved, *made.names], made.notes)
        result = gate.check(folder, judge) | made.result
        gate.demand(result)
        write_json(folder / "verify.json", result)
        with _step("golden set, card and bundles"):
            golden.write(run, folder, [row["file"] for row in result["artefacts"]])
            write_text(folder / "card.md", card.text(run, result))
            bundling.write(run, folder, bundles)
    progress.say(f"published in {target}")
    return result


def _check(tflite, io, explain, calibration, saved):
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
    if not saved and not tflite:
        raise InputError("nothing to export; ask for a SavedModel, or for variants of TFLite")


def _write(run, model, folder, saved):
    config, classes = run.config, run.classes
    write_text(folder / "labels.txt", "".join(f"{name}\n" for name in classes))
    write_json(folder / "preprocess.json", preprocessing(config))
    if saved:
        with _step("SavedModel"):
            saved_model_room.write_for_serving(
                model, classes, config.center_crop, folder / "saved_model"
            )


def _embed(run, folder, name):
    """Puts the contract into a `.tflite` file."""
    described = metadata.describe(
        network=run.config.model,
        classes=len(run.classes),
        preprocess=preprocessing(run.config),
        source_sha256=fingerprint(run.file("model.keras"))["sha256"],
        data=card.data_name(run.config),
    )
    contents = {file: read_text(folder / file) for file in (metadata.LABELS, metadata.PREPROCESS)}
    metadata.embed(folder / name, described, contents)


def preprocessing(config):
    """The contract of preprocess.json: from a photo to what the model takes."""
    return {
        "image_size": config.side,
        "crop": "middle square of the upright image",
        "center_crop": config.center_crop,
        "resize": "bilinear, antialiased",
        "color_order": "RGB",
        "range": [0, 255],
        "layout": "NHWC",
        "normalization": "inside the model",
        "output": "logits; a softmax over the last axis gives probabilities",
    }


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
