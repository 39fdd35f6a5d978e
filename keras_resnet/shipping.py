"""From photos, or a run, to a folder for the phone, in one call that goes on where it was."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_resnet import filenames, run
from keras_resnet.errors import InputError, Interrupted
from keras_resnet.files import StrPath
from keras_resnet.messages import log
from keras_resnet.results import Result

# What a newcomer can open at once, on a computer and on a phone.
DEFAULT_BUNDLES = ("web",)


@dataclass(frozen=True, kw_only=True)
class Shipped(Result):
    """What was made."""

    run: str
    apps: dict[str, str]  # kind of bundle -> its folder
    model: str  # the file in them, of those in the export folder
    verification: dict[str, Any]  # as `verify --json`


def place(source: StrPath | None, run_folder: StrPath | None, options: Mapping[str, Any]) -> Path:
    """The run folder, for checks before TensorFlow is loaded.

    Args:
        source: a data set or a run; None is the newest run.
        run_folder: where the run of a data set goes; None is `runs/ship-DATA`, always the same, so
            that the same call finds it.
        options: settings of `train`.

    Raises:
        InputError: settings for a run that has its own.
    """
    if source is None or Path(source, filenames.CONFIG).exists():
        given = {"run": run_folder, **options}
        also = [name.replace("_", "-") for name, value in given.items() if value is not None]
        if also:
            what = source or "the newest run (no DATA is given)"
            raise InputError(f"{what} has its settings already; leave out --{also[0]}")
        return run.open_run().path if source is None else Path(source)
    if run_folder is not None:
        return Path(run_folder)
    return run.RUNS / f"ship-{run.short_name(source)}"


def ship(
    source: StrPath | None = None,
    *,
    run_folder: StrPath | None = None,
    bundles: Sequence[str] = DEFAULT_BUNDLES,
    max_drop: float = 1.0,
    **options: Any,
) -> Shipped:
    """Trains, exports the smallest file that keeps its accuracy, verifies it and bundles it.

    The same call resumes an interrupted one: training resumes, and an unchanged export is verified,
    not written again.

    Args:
        source: a data set, as in `train`; or a run, finished or not. None is the newest run.
        run_folder: where the run of a data set goes; default `runs/ship-DATA`.
        bundles: "android", "web", "python", "c".
        max_drop: how many points of top-1 the file may lose.
        **options: settings of `train`.

    Returns:
        `Shipped`: the run folder, the folders of the apps, their model file, and the result of
        the gate.

    Raises:
        InputError: a wrong argument, or a run of other settings.
        CheckFailed: the training diverged, or no file passed.
        Interrupted: Ctrl-C or SIGTERM; the same call resumes.
    """
    from keras_resnet.exporting import bundling

    path = place(source, run_folder, options)
    try:
        trained = _trained(path, source, options)
        verification = _exported(trained, bundles, max_drop)
    except Interrupted as error:
        raise Interrupted("interrupted; the same command goes on from here", error.status) from None
    folder = trained.export_folder
    apps = {kind: str(folder / f"bundle_{kind}") for kind in bundles}
    model = bundling.model_to_bundle(folder, next(iter(bundles), "web"))
    assert model  # a bundle holds it
    return Shipped(run=str(path), apps=apps, model=model.name, verification=verification)


def _trained(path: Path, source: StrPath | None, options: Mapping[str, Any]) -> run.Run:
    from keras_resnet.training.train import train

    is_data = source is not None and not Path(source, filenames.CONFIG).exists()
    if (path / filenames.MANIFEST).exists():
        if is_data:
            run.require_settings(path, None, {"data": source, **options})
        log.info(f"{path} is trained already" + ("; another --run trains anew" * is_data))
        return run.open_run(path)
    finished = train(source, run_folder=path, **options) if is_data else train(resume=path)
    if finished is None:
        raise InputError("ship is for one process; train with several workers, then ship the run")
    return finished


def _exported(trained: run.Run, bundles: Sequence[str], max_drop: float) -> dict[str, Any]:
    """The result of the gate, as JSON."""
    from keras_resnet.exporting import exporter, gate

    folder = trained.export_folder
    if all((folder / f"bundle_{kind}").is_dir() for kind in bundles):
        log.info(f"{folder} is there already; verifying it …")
        result = gate.verify(trained, max_drop=max_drop)
        if result.passed:
            log.info("unchanged since it was exported")
            return result.as_json()
        log.info("it does not pass; exporting again")
    return exporter.export(
        trained, saved_model=False, tflite=["auto"], bundles=bundles, max_drop=max_drop
    ).as_json()
