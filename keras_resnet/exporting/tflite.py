"""The `.tflite` files of an export, with what belongs to them: calibration, choice, explanation."""

import tempfile
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import numpy as np

from keras_resnet import progress
from keras_resnet.exporting import auto, calibration, child, layer_error, saved_model
from keras_resnet.exporting.convert import CALIBRATED, FILES, INT16X8_WARNING, convert
from keras_resnet.files import write_json
from keras_resnet.report import quantization

AUTO = "auto"
CALIBRATION = "calibration.json"
EXPLANATION = "quantization.png"


@dataclass
class Made:
    """What was written: names of the artefacts, notes for their manifest, keys for the result."""

    names: list = field(default_factory=list)
    notes: dict = field(default_factory=dict)
    result: dict = field(default_factory=dict)


def replaced(variants):
    """Names in the export folder that writing these variants replaces, or makes untrue."""
    if AUTO in variants:  # it publishes one file alone
        return [*FILES.values(), CALIBRATION, EXPLANATION]
    beside_int8 = [EXPLANATION] if "int8" in variants else []
    return [*(FILES[variant] for variant in variants), *beside_int8]


def write(run, model, folder, variants, *, io, count, explain, judge, contract):
    """Writes the variants of a run's model into `folder`.

    Args:
        run, model: the `Run` and its Keras model.
        folder: where the files go.
        variants: keys of `FILES`, or "auto" alone.
        io: type of the ends of an int8 file.
        count: of calibration images.
        explain: whether to measure the error of int8 by layer, and to plot it.
        judge: the `gate.Judge`, for "auto".
        contract: the `Contract` of the files.

    Returns:
        A `Made`.

    Raises:
        CheckFailed: a conversion failed, or "auto" found no file that passes.
    """
    made = Made()
    # Beside the folder and named like it: what a kill leaves is cleared with it.
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}-", dir=folder.parent) as scratch:
        source, images = Path(scratch) / "saved_model", Path(scratch) / "calibration.npy"
        saved_model.write_for_conversion(
            model, source, contract=contract, center_crop=run.config.center_crop
        )
        if AUTO in variants or set(CALIBRATED) & set(variants):
            chosen = calibration.choose(run, count, model=model, contract=contract)
            np.save(images, chosen.images)
            write_json(folder / CALIBRATION, chosen.manifest)

        @cache
        def layer_errors():
            counts = auto.COUNTS if AUTO in variants else ()
            return layer_error.measure(source, images, scratch, io=io, counts=counts)

        make = partial(_make, source=source, images=images, io=io)
        if AUTO in variants:
            tried, cost = auto.choose(folder, convert=make, layer_errors=layer_errors, judge=judge)
            taken = tried[-1]
            _note(made, taken["variant"], cost, io, taken["float_layers"])
            made.result["candidates"] = tried
            if taken["variant"] not in CALIBRATED:
                (folder / CALIBRATION).unlink()
        else:
            for variant in dict.fromkeys(variants):
                _note(made, variant, make(variant, folder / FILES[variant]), io)
        if explain:
            rows = layer_errors()["layers"]
            made.result["quantization"] = {"layers": rows, "blocks": layer_error.by_block(rows)}
            quantization.plot(rows, folder / EXPLANATION)
    return made


def _make(variant, path, *, source, images, io):
    progress.say(f"writing {path.name} …")
    if variant == "int16x8":
        progress.say(f"warning: {INT16X8_WARNING}")
    cost = convert(
        source, path, variant, io=io, calibration=images if variant in CALIBRATED else None
    )
    progress.say(f"wrote {path.name}, {child.cost(cost)}")
    return cost


def _note(made, variant, cost, io, float_layers=()):
    ends = {"io": io} if variant == "int8" else {}
    kept = {"float_layers": list(float_layers)} if float_layers else {}
    made.names.append(FILES[variant])
    made.notes[FILES[variant]] = {"conversion": {"variant": variant, **ends, **kept, **cost}}
