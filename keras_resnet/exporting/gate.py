"""The gate: compares every artefact with the Keras model on validation images."""

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Unpack

from keras_resnet import filenames, manifest
from keras_resnet.data import names
from keras_resnet.data.examples import Examples
from keras_resnet.errors import InputError, NetworkFailed
from keras_resnet.evaluation.artefact import open_artefact
from keras_resnet.evaluation.reference import true_float32
from keras_resnet.evaluation.scores import examples_in
from keras_resnet.exporting import evidence, guard, publish, run_report
from keras_resnet.exporting.guard import FileResult
from keras_resnet.exporting.judge import TOO_COARSE, ExportedFile, Judge
from keras_resnet.exporting.plan import LimitOptions, Limits, require_unknown
from keras_resnet.exporting.rejection import RejectionFit
from keras_resnet.exporting.temperature import TemperatureFit
from keras_resnet.exporting.verification import ArtefactResult, KerasResult, Verification
from keras_resnet.files import StrPath, read_json, write_json
from keras_resnet.messages import log
from keras_resnet.run import Run, open_run
from keras_resnet.state import isolated

_FINER = (
    "; export --quantize auto tries int8 with the most sensitive layers in float, then dynamic and "
    "float16; training longer may help too, and --max-drop allows more"
)
_MUCH = 0.1  # share of the images of no class: warn if a file rejects so many fewer


@isolated()
@true_float32()
def verify(
    run: Run | StrPath | None = None,
    *,
    unknown: StrPath | None = None,
    output: StrPath | None = None,
    data: StrPath | None = None,
    data_dir: str | None = None,
    **options: Unpack[LimitOptions],
) -> Verification:
    """Runs every exported file on validation images and compares it with the Keras model.

    Labels, preprocessing, calibration manifest, golden set and bundles are compared with the
    manifest of the export, the labels also with the run; each file must reproduce the golden set.

    Args:
        run: a `Run` or its path; None: the newest run.
        unknown: a folder of images of no class, to measure the share that each file rejects.
        output: the folder that `export` wrote; default `RUN/export/`.
        data, data_dir: the present location of the run's images; see `Run.attach`.
        max_drop: allowed drop in top-1, in points; default 1.
        images: maximum number of images of the run's validation split; default 1,000.
        min_agreement: least share of images, in 0…1, to which a file must give the same class.
        require_evidence: fail if there are too few images to rule out a drop above `max_drop`.

    Returns:
        `Verification`, such as `verify(run).passed`; also written to verify.json in the
        export folder, if that is writable.

    Raises:
        InputError: nothing has been exported, or another process is exporting.
    """
    limits = Limits(**options)
    require_unknown(unknown)
    run = open_run(run)
    folder = run.export_folder if output is None else Path(output)
    with publish.locked(folder, or_reading=True) as is_writable:
        if not artefacts(folder):
            command = ["keras-resnet", "export", str(run.path)]
            if run.config.data == names.NONE:
                command += ["--data", "DATA"]
            if output is not None:
                command += ["--output", str(output)]
            raise InputError(f"{folder} has no exported files; `{shlex.join(command)}` writes some")
        if data is not None:
            run.attach(data, data_dir, keep=is_writable)
        reference = open_artefact(run)
        others, contract = guard.check(run, folder)
        if unknown is not None and not contract.reject and all(row.passed for row in others):
            raise InputError(
                "--unknown needs a threshold, but the exported files have none; export them with "
                "--reject 0.05"
            )
        with run.naming_broken_images():
            unlike = unknown_examples(unknown if contract.reject else None)
            judge = Judge(reference, run.examples("val"), contract, limits, unknown=unlike)
            files = (ExportedFile(path, run) for path in artefacts(folder))  # one at a time
            result = check(folder, files, judge, others)
        if is_writable:
            write_json(folder / filenames.VERIFY, result.as_json())
            run_report.update(run, folder)
        else:
            log.warning(f"{folder} cannot be written: the result is not saved")
    return result


def check(
    folder: Path,
    files: Iterable[ExportedFile],
    judge: Judge,
    others: Sequence[FileResult] = (),
) -> Verification:
    """`verify` for the artefacts in any folder; `others` are the results of the other files."""
    recorded = manifest.read(folder)
    rows = [judge.row(file, recorded.get(file.name, {})) for file in files]
    for row in rows:
        if lost := _lost_refusals(row, judge.keras):
            log.warning(lost)
    limits, images = judge.limits, len(judge.examples)
    failed = {row.file for row in others if not row.passed}
    fitted = {} if filenames.PREPROCESS in failed else _fitted(folder)
    probabilities = fitted.get("probabilities")
    # If preprocess.json did not pass, the judge has no threshold.
    rejected = RejectionFit.from_json(fitted["reject"]) if judge.rejects else None
    open_to_doubt = any(
        row.drop_interval and row.drop_interval[1] > limits.max_drop for row in rows
    )
    return Verification(
        passed=all(row.passed for row in rows) and all(row.passed for row in others),
        images=images,
        max_drop=limits.max_drop,
        min_agreement=limits.min_agreement,
        evidence=evidence.too_few(images, limits.max_drop) if open_to_doubt else None,
        keras=judge.keras,
        artefacts=rows,
        files=list(others),
        probabilities=TemperatureFit(**probabilities) if probabilities else None,
        rejection=rejected,
    )


def _lost_refusals(row: ArtefactResult, model: KerasResult) -> str | None:
    """The warning for a file that rejects far fewer images of no class than the model."""
    found, expected = row.unknown_refused, model.unknown_refused
    if found is None or expected is None or expected - found <= _MUCH:
        return None
    return (
        f'{row.file} answers {found:.1%} of the images of no class with "none of these", the Keras '
        f"model {expected:.1%}; a file with float activations, such as of --quantize dynamic, may "
        "keep more"
    )


def unknown_examples(folder: StrPath | None) -> Examples | None:
    """The images of no class in a folder."""
    return None if folder is None else examples_in([folder], "skip")


def demand(result: Verification) -> None:
    """Raises `NetworkFailed` with all reasons unless everything passed."""
    if not result.passed:
        rows: list[ArtefactResult | FileResult] = [*result.artefacts, *result.files]
        reasons = [f"{row.file}: {row.why}" for row in rows if not row.passed]
        is_coarse = any(
            TOO_COARSE in row.why or (row.drop_points or 0) > result.max_drop
            for row in result.artefacts
        )
        next_step = _FINER if is_coarse else ""
        raise NetworkFailed("verification failed: " + "; ".join(reasons) + next_step, result)


def _fitted(folder: Path) -> dict[str, Any]:
    """preprocess.json, which has the values that were fitted at the export."""
    file = folder / filenames.PREPROCESS
    return read_json(file) if file.exists() else {}


def artefacts(folder: Path) -> list[Path]:
    """The exported artefacts in `folder`, in a fixed order."""
    found = [folder / name for name in filenames.ARTEFACTS]
    return [path for path in found if path.exists()]
