"""A run -> files for phones and servers, checked before they are published."""

import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from keras_resnet import progress
from keras_resnet.data.check import classes_in_turn
from keras_resnet.data.stream import evaluation_stream
from keras_resnet.errors import InputError
from keras_resnet.exporting import bundling, card, gate, golden, metadata, publish
from keras_resnet.exporting import saved_model as saved_model_room
from keras_resnet.exporting.convert import FILES, IO_TYPES, VARIANTS, convert
from keras_resnet.files import read_text, write_json, write_text
from keras_resnet.run import fingerprint, open_run

CALIBRATION = 500  # images; largest int8 logit error 2.6 with 200 samples, 0.43 with 1,297


def export(
    run=None,
    *,
    saved_model=True,
    tflite=("none",),
    io="float",
    calibration=CALIBRATION,
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
        tflite: variants to write: "none" (float32), "float16", "dynamic", "int8".
        io: type of the input and output of the int8 file: "float", "uint8" or "int8".
        calibration: training images that set the ranges of int8, stratified by class.
        max_drop, images: the gate, as in `verify`.
        bundles: "android", "web", "python", "c": folders that are ready to run, see `bundling`.
        output: the folder to write; default `RUN/export/`. Other variants already in it stay.
        data, data_dir: images for a run that was imported without; see `Run.attach`.

    Returns:
        The result of `verify` on everything in the folder.

    Raises:
        InputError: a wrong argument. CheckFailed: a file did not pass; nothing is published.
    """
    run = open_run(run)
    _check(tflite, io, calibration, saved_model)
    gate.require(max_drop, images)
    target = Path(output) if output else run.export_folder
    float_ended = [FILES[v] for v in tflite if v != "int8" or io == "float"]
    bundling.require(bundles, float_ended, target)
    if data is not None:
        run.attach(data, data_dir)
    run.require_images()
    publish.restore(target)
    publish.sweep(target)
    if target.exists() and any(target.iterdir()) and not (target / "verify.json").exists():
        raise InputError(f"--output {target} holds something else than an export; give another")
    with publish.staged(target) as folder:
        names = [*(["saved_model"] if saved_model else []), *(FILES[v] for v in tflite)]
        for name in names:
            _remove(folder / name)  # a second name of the published file, which must not change
        _write(run, folder, saved_model, tflite, io, calibration)
        gate.record(folder, names)
        result = gate.check(run, folder, max_drop=max_drop, images=images)
        gate.demand(result)
        write_json(folder / "verify.json", result)
        with _step("golden set, card and bundles"):
            golden.write(run, folder, [row["file"] for row in result["artefacts"]])
            write_text(folder / "card.md", card.text(run, result))
            bundling.write(run, folder, bundles)
    progress.say(f"published in {target}")
    return result


def _check(tflite, io, calibration, saved):
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
    if not saved and not tflite:
        raise InputError("nothing to export; ask for a SavedModel, or for variants of TFLite")


def _write(run, folder, saved, tflite, io, calibration):
    model, config, classes = run.model(), run.config, run.classes
    write_text(folder / "labels.txt", "".join(f"{name}\n" for name in classes))
    preprocess = preprocessing(config)
    write_json(folder / "preprocess.json", preprocess)
    if saved:
        with _step("SavedModel"):
            saved_model_room.write_for_serving(
                model, classes, config.center_crop, folder / "saved_model"
            )
    if not tflite:
        return
    with tempfile.TemporaryDirectory() as scratch:
        source, images = Path(scratch) / "saved_model", Path(scratch) / "calibration.npy"
        saved_model_room.write_for_conversion(model, source)
        if "int8" in tflite:
            np.save(images, calibration_images(run, calibration))
        for variant in dict.fromkeys(tflite):
            with _step(FILES[variant]):
                convert(
                    source,
                    folder / FILES[variant],
                    variant,
                    io=io,
                    calibration=images if variant == "int8" else None,
                )
                _embed(run, folder, FILES[variant], preprocess)


def _embed(run, folder, name, preprocess):
    """Puts the contract into a `.tflite` file."""
    described = metadata.describe(
        network=run.config.model,
        classes=len(run.classes),
        preprocess=preprocess,
        source_sha256=fingerprint(run.file("model.keras"))["sha256"],
        origin=card.origin(run),
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


def calibration_images(run, count):
    """uint8 `(n, s, s, 3)`: training images as evaluation shows them, plus all black and all white.

    Never the images that judge. Taken class by class in turn, in a seeded order. The two plain
    images pin the input's range to [0, 255], and with it the scale of raw bytes to exactly 1.
    """
    train, config = run.examples("train"), run.config
    stream = evaluation_stream(
        train.take(classes_in_turn(train.labels, count, config.seed)),
        size=config.side,
        crop=config.center_crop,
        batch_size=64,
    )
    images = np.concatenate([batch for batch, _ in stream.as_numpy_iterator()])
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
