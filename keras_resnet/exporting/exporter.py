"""Exports a run to files for phones and servers, which are verified before they are published."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Unpack

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import filenames
from keras_resnet.data.examples import Examples
from keras_resnet.errors import CheckFailed, InputError, Interrupted
from keras_resnet.evaluation.artefact import Artefact, open_artefact, predict_stream
from keras_resnet.evaluation.contract import REJECTION_SCORES, read_contract, require_contract
from keras_resnet.evaluation.reference import true_float32
from keras_resnet.evaluation.scores import stream_for
from keras_resnet.evaluation.trainable import SPARE
from keras_resnet.exporting import (
    bundling,
    card,
    child,
    gate,
    golden,
    guard,
    onnx_file,
    publish,
    rejection,
    run_report,
    saved_model,
    temperature,
    tflite,
    trainable,
)
from keras_resnet.exporting.convert import convert
from keras_resnet.exporting.given import Options, is_model, run_and_plan
from keras_resnet.exporting.judge import ExportedFile, Judge
from keras_resnet.exporting.kept import Kept
from keras_resnet.exporting.plan import ExportPlan
from keras_resnet.exporting.verification import Verification
from keras_resnet.files import (
    StrPath,
    full_disk,
    read_json,
    read_text,
    write_json,
    write_text,
)
from keras_resnet.inspection import metadata
from keras_resnet.manifest import fingerprint
from keras_resnet.messages import log
from keras_resnet.run import Run
from keras_resnet.state import isolated


def export(
    run: Run | StrPath | keras.Model | None = None,
    *,
    data: StrPath | None = None,
    data_dir: str | None = None,
    **options: Unpack[Options],
) -> Verification:
    """Exports a run, verifies the files, and only then publishes them.

    Args:
        run: a `Run` or its path; None: the newest run. Or any Keras image classifier, or the path
            of a `.keras` file with one, which becomes a run: see `import_model`.
        data, data_dir: images for a run that was imported without, or for a Keras model; see
            `Run.attach`.
        labels, normalize, image_size, fit, channels, center_crop: for a Keras model, as in
            `import_model`. Without `labels`, its outputs are the classes of `data` in alphabetical
            order.
        saved_model: whether to write a SavedModel (see `write_for_serving` for its signatures);
            True by default.
        tflite: variants to write: "none" (float32, the default), "float16", "dynamic", "int8",
            "int16x8"; or only "auto": the first that passes, see `keras_resnet.exporting.auto`.
        onnx: whether to write `model.onnx`, float32, for any number of images; needs the extra
            `[onnx]`.
        features: whether to write `model_features.tflite`, float32: the pooled features `(1, c)`.
        trainable: "head" for `model_trainable.tflite`, float32, which learns new classes on the
            device; see `keras_resnet.exporting.trainable`.
        scores: output of the files: "logits", or "softmax" for probabilities.
        top: output only the best `top` probabilities and their classes; for TFLite, with "softmax".
        input_size: (height, width) of camera frames, which the files resize to the input of the
            network, bilinear; default: the size of that input.
        calibrate_probabilities: divide the logits by a temperature that is fitted on one half of
            the validation images and evaluated on the other; see
            `keras_resnet.exporting.temperature`.
        reject: share of the images of known classes, in 0…1, that may be rejected as "none of
            these"; a threshold is fitted; see `keras_resnet.exporting.rejection`.
        unknown: a folder of images of no class, to select the score of that threshold.
        io: type of the input and output of the int8 file: "float", "uint8" or "int8".
        explain_quantization: measure the int8 error of each layer, and plot it.
        calibration: number of training images for the int8 ranges, stratified by class.
        max_drop, images, min_agreement, require_evidence: the gate, as in `verify`.
        bundles: "android", "web", "python", "c": runnable folders, see
            `keras_resnet.exporting.bundling`.
        output: the folder to write; default `RUN/export/`. Other variants in it stay, except with
            "auto".

    Returns:
        The `Verification` of everything in the folder.

    Raises:
        InputError: an invalid argument.
        CheckFailed: a file did not pass; nothing is published.
    """
    ready = run_and_plan(run, options, data=data, data_dir=data_dir)
    with ready as (opened, plan), publish.locked(plan.target):
        return execute(plan, opened, None if is_model(run) else data, data_dir)


@isolated()
@true_float32()
def execute(
    plan: ExportPlan, run: Run, data: StrPath | None = None, data_dir: str | None = None
) -> Verification:
    """`export` with an existing plan; the caller holds `publish.locked(plan.target)`.

    Builds the network once. Decodes the validation images once for all files, and once more if a
    temperature or threshold is fitted on them.
    """
    if data is not None:
        run.attach(data, data_dir)
    run.require_images()
    _require_place(plan.target)
    if plan.tflite or plan.onnx or plan.features or plan.trainable:
        child.start()  # loads TensorFlow while this process reads the run
    try:
        with _naming_a_full_disk(plan, run), run.naming_broken_images():
            return _write(plan, run)
    except Interrupted as error:
        raise Interrupted(
            "interrupted; nothing was published. The same command exports again, and reuses the "
            "files that are already converted",
            error.status,
        ) from None


@contextmanager
def _naming_a_full_disk(plan: ExportPlan, run: Run) -> Iterator[None]:
    try:
        yield
    except (OSError, tf.errors.OpError) as error:  # TensorFlow writes SavedModels
        reason = full_disk(error)
        if not reason:
            raise
        # Each file may be as large as the model; bundles and TensorFlow copy it once more.
        size = run.file(filenames.MODEL).stat().st_size * 2 * (len(plan.files) + 1)
        raise CheckFailed(
            f"cannot write in {plan.target.parent} ({reason}); free some space (the export needs "
            f"up to {size / 1e6:,.1f} MB), then export again"
        ) from None


def _write(plan: ExportPlan, run: Run) -> Verification:
    """Writes, verifies and publishes."""
    reference, val = open_artefact(run), run.examples("val")
    unknown = gate.unknown_examples(plan.unknown)
    fitted = _fit(plan, reference, val, unknown)
    plan = fitted.plan
    _require_alike(plan)
    _warn_of_dropped(plan)
    had = [file.name for file in plan.files if (plan.target / file.name).exists()]
    with publish.staged(plan.target) as folder:
        # Hard links to published files, which must not change.
        for name in (*plan.replaced, filenames.LABELS, filenames.PREPROCESS, filenames.GOLDEN):
            _remove(folder / name)
        guard.record(folder, {})
        write_text(folder / filenames.LABELS, "".join(f"{name}\n" for name in plan.classes))
        described = guard.preprocessing(plan, fitted.probabilities, fitted.rejected)
        write_json(folder / filenames.PREPROCESS, described)
        judge = Judge(reference, val, plan.contract, plan, fitted.logits, unknown)
        if is_imported := "imported" in run.metrics:
            judge.require_order()
        if doubt := judge.doubt(is_imported):
            log.warning(doubt)
        others = _write_others(plan, reference.model, folder, judge)
        kept = Kept(plan, run.file(filenames.MODEL))
        written = tflite.write(plan, reference, folder, judge, kept)
        _embed(plan, run, folder, written.names)
        if plan.trainable:
            _embed(plan, run, folder, [filenames.TRAINABLE], spare=SPARE)
        files = [ExportedFile(path, run) for path in gate.artefacts(folder)]
        new = [file for file in files if file.name in (*others, *written.names)]
        guard.record(
            folder, {file.name: file.fingerprint | written.notes.get(file.name, {}) for file in new}
        )
        result = replace(
            gate.check(folder, files, judge),
            candidates=written.candidates,
            quantization=written.quantization,
        )
        kept.drop([row.file for row in result.artefacts if not row.passed])
        gate.demand(result)
        golden_set = "golden set, " if plan.contract.has_own_ends else ""
        with _step(f"{golden_set}card and bundles"):
            golden.write(plan, reference, judge, folder, files)
            write_text(folder / filenames.CARD, card.text(run, result))
            bundling.write(plan, folder, card.origin(run))
        guard.record_files(folder)
        beside, _ = guard.check(run, folder)
        result = replace(result, files=beside, passed=all(row.passed for row in beside))
        gate.demand(result)
        write_json(folder / filenames.VERIFY, result.as_json())
    kept.clear()
    run_report.update(run, plan.target)
    log.info(f"published in {plan.target}")
    if gone := [name for name in had if not (plan.target / name).exists()]:
        log.info(
            f"deleted {', '.join(gone)}: --quantize auto leaves one .tflite file in "
            f"{plan.target}; --output keeps both"
        )
    return result


def _require_place(target: Path) -> None:
    """InputError if the folder is not an export, or the current directory is inside of it."""
    if Path.cwd().is_relative_to(target.resolve()):
        raise InputError(
            f"an export replaces {target} entirely, but this command runs inside it; run it in "
            "another folder, or give another --output"
        )
    if os.path.ismount(target.resolve()):
        raise InputError(f"--output {target} is a mount point; give a folder inside it")
    if target.exists() and not target.is_dir():
        raise InputError(f"--output {target} is a file; give a folder")
    if target.exists() and any(target.iterdir()) and not (target / filenames.VERIFY).exists():
        raise InputError(f"--output {target} is not an export folder; give another")


# The option that sets a field of a `Contract`
_CONTRACT_OPTIONS = {
    "scores": "--scores", "top": "--top", "input_size": "--input-size",
    "temperature": "--calibrate-probabilities", "reject": "--reject",
}  # fmt: skip


def _require_alike(plan: ExportPlan) -> None:
    """InputError if existing files in the target have other inputs or outputs than this export."""
    target, replaced = plan.target, plan.replaced
    others = [path.name for path in gate.artefacts(target) if path.name not in replaced]
    if not others or (found := require_contract(target)) == plan.contract:
        return
    option = next(
        option
        for name, option in _CONTRACT_OPTIONS.items()
        if getattr(found, name) != getattr(plan.contract, name)
    )
    raise InputError(
        f"{target} contains {others[0]}, whose {option} differs from that of this command; delete "
        "it, export all files there in one command, or export to another folder with --output"
    )


def _warn_of_dropped(plan: ExportPlan) -> None:
    """Warns if the files get no threshold or temperature, unlike those in the target."""
    try:
        fitted = read_contract(plan.target).fitted
    except InputError:  # damaged; it will be written again
        return
    if dropped := [option for name, option in fitted.items() if not getattr(plan, name)]:
        log.warning(
            f"{plan.target} was exported with {' and '.join(dropped)}; this export is without it: "
            "give the option again to keep it"
        )


class _Fitted(NamedTuple):
    """Values that were fitted on the validation images."""

    plan: ExportPlan  # with these values
    logits: np.ndarray | None = None  # of the model for these images
    probabilities: temperature.TemperatureFit | None = None
    rejected: rejection.RejectionFit | None = None


def _fit(plan: ExportPlan, reference: Artefact, val: Examples, unknown: Examples | None) -> _Fitted:
    """Fits the requested ones of the temperature and the threshold for "none of these"."""
    if not plan.calibrate_probabilities and plan.reject is None:
        return _Fitted(plan)
    log.info("fitting on validation images …")
    logits = predict_stream(reference, stream_for(reference, val))
    probabilities = rejected = None
    if plan.calibrate_probabilities:
        probabilities = temperature.calibrate(logits, val.labels, plan.seed)
        plan = replace(plan, temperature=probabilities.temperature)
        if probabilities.is_harmful:
            log.warning(
                f"--calibrate-probabilities: {probabilities}; their cross-entropy grows from "
                f"{probabilities.loss_before:.3g} to {probabilities.loss_after:.3g}: calibration "
                "makes the probabilities worse; leave it out, or train with a larger --val-split"
            )
        if probabilities.is_at_a_bound:
            log.warning(
                f"--calibrate-probabilities: {probabilities.temperature:g} is the end of the "
                "searched range; the logits say little or nothing about the class; leave it out, "
                "or train longer"
            )
    if plan.reject is not None:
        known, of_no_class = plan.contract.expected(logits), None
        if unknown is not None:
            found = predict_stream(reference, stream_for(reference, unknown))
            of_no_class = plan.contract.expected(found)
        # Probabilities do not determine the energy.
        scores = ("probability",) if plan.scores == "softmax" else REJECTION_SCORES
        rejected = rejection.fit(known, of_no_class, plan.reject, plan.seed, scores)
        plan = replace(plan, rejection=rejected.rejection)
    return _Fitted(plan, logits, probabilities, rejected)


def _write_others(plan: ExportPlan, model: keras.Model, folder: Path, judge: Judge) -> list[str]:
    """Writes all files but the variants of the `.tflite` file; returns their names."""
    names = []
    if plan.saved_model:
        names.append(filenames.SAVED_MODEL)
        with _step("SavedModel"):
            saved_model.write_for_serving(plan, model, folder / names[-1])
    if plan.onnx:
        names.append(filenames.ONNX)
        with _converted(plan, model, folder, batch=None) as source, _step(names[-1]):
            onnx_file.convert(source, folder / names[-1])
    if plan.features:
        names.append(filenames.FEATURES)
        with _converted(plan, model, folder, features=True) as source, _step(names[-1]):
            convert(source, folder / names[-1], "none")
    if plan.trainable:
        names.append(filenames.TRAINABLE)
        with _step(names[-1]), publish.scratch(folder) as place:
            source = place / filenames.SAVED_MODEL
            trainable.write_for_conversion(plan, model, judge.head, source)
            convert(source, folder / names[-1], "none")
    return names


@contextmanager
def _converted(
    plan: ExportPlan, model: keras.Model, folder: Path, **options: Any
) -> Iterator[Path]:
    """A temporary SavedModel for a converter."""
    with publish.scratch(folder) as place:
        saved_model.write_for_conversion(plan, model, place / filenames.SAVED_MODEL, **options)
        yield place / filenames.SAVED_MODEL


def _embed(plan: ExportPlan, run: Run, folder: Path, names: list[str], spare: int = 0) -> None:
    """Puts the contract into `.tflite` files. Readers of metadata expect a score for each class, so
    files with the best classes only get none."""
    if plan.top or not names:
        return
    described = metadata.describe(
        network=plan.network,
        classes=len(plan.classes),
        spare=spare,
        preprocess=read_json(folder / filenames.PREPROCESS),
        source_sha256=fingerprint(run.file(filenames.MODEL))["sha256"],
        origin=card.origin(run),
    )
    contents = {file: read_text(folder / file) for file in (filenames.LABELS, filenames.PREPROCESS)}
    for name in names:
        metadata.embed(folder / name, described, contents)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _step(what: str) -> Iterator[None]:
    """Logs a step and its duration."""
    log.info(f"writing {what} …")
    began = time.monotonic()
    yield
    log.info(f"wrote {what}, {time.monotonic() - began:.0f} s")
