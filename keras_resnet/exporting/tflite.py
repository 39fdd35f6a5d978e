"""Writes the `.tflite` files of an export: calibration, conversion, selection of a variant."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet import filenames
from keras_resnet.evaluation.artefact import Artefact
from keras_resnet.exporting import (
    auto,
    calibration,
    child,
    headroom,
    layer_error,
    publish,
    saved_model,
)
from keras_resnet.exporting.convert import INT16X8_WARNING, convert
from keras_resnet.exporting.folding import shortcut_pools
from keras_resnet.exporting.judge import Judge
from keras_resnet.exporting.kept import Kept
from keras_resnet.exporting.plan import CALIBRATED, FLOAT, ExportPlan
from keras_resnet.exporting.verification import TriedFile
from keras_resnet.files import write_json
from keras_resnet.messages import log
from keras_resnet.report import quantization


@dataclass
class Written:
    """The written files."""

    names: list[str] = field(default_factory=list)  # of the artefacts
    notes: dict[str, dict[str, Any]] = field(default_factory=dict)  # entries for the manifest
    candidates: list[TriedFile] | None = None  # files tried by "auto"
    quantization: layer_error.Quantization | None = None  # with `explain_quantization`


def write(plan: ExportPlan, reference: Artefact, folder: Path, judge: Judge, kept: Kept) -> Written:
    """Writes the planned variants of a run's model into `folder`.

    Args:
        plan: the `ExportPlan`.
        reference: the opened run; its model is converted and calibrated with its training images.
        folder: folder for the files.
        judge: the `Judge` for "auto"; its images are excluded from the calibration.
        kept: files of earlier attempts.

    Raises:
        CheckFailed: a conversion failed, or "auto" found no file that passes.
    """
    written = Written()
    if not plan.variants:
        return written
    with publish.scratch(folder) as scratch:
        images = scratch / "calibration.npy"
        has_pools = plan.is_of_family and bool(shortcut_pools(reference.model))

        def source(variant: str) -> Path:
            pooled = has_pools and variant not in FLOAT
            path = scratch / f"saved_model{'_pooled' * pooled}"
            if not path.exists():
                saved_model.write_for_conversion(plan, reference.model, path, pooled=pooled)
            return path

        if plan.is_calibrated:
            _calibrate(plan, reference, judge, folder, images)

        @cache
        def layer_errors() -> layer_error.LayerErrors:
            counts = auto.COUNTS if plan.is_auto else ()
            errors = layer_error.measure(source("int8"), images, scratch, io=plan.io, counts=counts)
            for path in errors.files.values():
                _give_room(plan, path)
            return errors

        make = partial(_make, plan=plan, source=source, images=images, kept=kept)
        if plan.is_auto:
            tried, cost = auto.choose(folder, convert=make, layer_errors=layer_errors, judge=judge)
            taken = tried[-1]
            cost["max_drop"] = plan.max_drop  # with a larger one, a refused int8 file may pass
            _note(written, taken.variant, cost, plan.io, taken.float_layers)
            written.candidates = tried
            if taken.variant not in CALIBRATED:
                (folder / filenames.CALIBRATION).unlink()
        else:
            for variant in plan.variants:
                cost = make(variant, folder / filenames.TFLITE[variant])
                _note(written, variant, cost, plan.io)
        if plan.explain_quantization:
            rows = layer_errors().layers
            errors = layer_error.Quantization(rows, layer_error.by_block(rows))
            quantization.plot(errors.as_json()["layers"], folder / filenames.EXPLANATION)
            written.quantization = errors
    return written


def _calibrate(
    plan: ExportPlan, reference: Artefact, judge: Judge, folder: Path, images: Path
) -> None:
    """Writes the calibration images to the file `images`, and their manifest to `folder`."""
    assert reference.run  # the artefact of a run has it
    chosen = calibration.choose(
        reference.run,
        plan.calibration,
        model=reference.model,
        contract=plan.contract,
        held_out=judge.held_out,
    )
    np.save(images, chosen.images)
    write_json(folder / filenames.CALIBRATION, chosen.manifest)


def _make(
    variant: str,
    path: Path,
    *,
    plan: ExportPlan,
    source: Callable[[str], Path],
    images: Path,
    kept: Kept,
) -> dict[str, Any]:
    if variant == "int16x8":
        log.warning(INT16X8_WARNING)
    network = source(variant)

    def convert_to(output: Path) -> dict[str, Any]:
        log.info(f"writing {path.name} …")
        calibrated_by = images if variant in CALIBRATED else None
        cost = convert(network, output, variant, io=plan.io, calibration=calibrated_by)
        if calibrated_by:
            _give_room(plan, output)
        log.info(f"wrote {path.name}, {child.cost(cost)}")
        return cost

    return kept.or_made(variant, path, images, convert_to)


def _give_room(plan: ExportPlan, path: Path) -> None:
    """Gives a quantized file headroom for the limit of the energy, if the plan has one."""
    if plan.rejection and plan.rejection.most_energy is not None:
        headroom.give(path, plan.rejection.most_energy)


def _note(
    written: Written, variant: str, cost: dict[str, Any], io: str, float_layers: Sequence[str] = ()
) -> None:
    ends = {"io": io} if variant == "int8" else {}
    kept = {"float_layers": list(float_layers)} if float_layers else {}
    name = filenames.TFLITE[variant]
    written.names.append(name)
    written.notes[name] = {"conversion": {"variant": variant, **ends, **kept, **cost}}
