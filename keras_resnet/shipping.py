"""From photos, or a run, to a folder for the phone, in one call that can be repeated to resume."""

import inspect
import itertools
import math
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from keras_resnet import choices, filenames, manifest, recipes, run
from keras_resnet.config import SETTINGS
from keras_resnet.data.names import show
from keras_resnet.errors import CheckFailed, InputError, Interrupted
from keras_resnet.files import StrPath, read_json, write_json
from keras_resnet.messages import log, plural, quietly, some_of
from keras_resnet.results import Result
from keras_resnet.studies import search

if TYPE_CHECKING:
    from keras_resnet.evaluation.contract import Contract
    from keras_resnet.exporting.plan import ExportOptions
    from keras_resnet.exporting.verification import Verification

# A page that opens without further tools on a computer and on a phone.
DEFAULT_BUNDLES = ("web",)
_TIMINGS = 3  # attempts to time the file, because other programs may slow one down


@dataclass(frozen=True, kw_only=True)
class Shipped(Result):
    """Result of `ship`."""

    run: str
    # Folder by kind of bundle: requested ones first, then others of an earlier export, which are
    # written again.
    apps: dict[str, str]
    model: str  # name of the bundled file in the export folder
    verification: "Verification"
    frontier: list[search.Candidate] = field(default_factory=list)  # with a budget: all candidates
    measured_on: str | None = None  # with a budget: the device of their latencies, in words

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {
            "verification": self.verification.as_json(),
            "frontier": [candidate.as_json() for candidate in self.frontier],
        }


def place(source: StrPath | None, run_folder: StrPath | None, options: Mapping[str, Any]) -> Path:
    """The run folder, for checks before TensorFlow is loaded.

    Args:
        source: a data set or a run; None: the newest run.
        run_folder: run folder for a data set; None: `runs/ship-DATA`, so that a repeated call finds
            it.
        options: settings of `train`.

    Raises:
        InputError: settings were given for an existing run.
    """
    if not is_data(source):
        given = {"run": run_folder, **options}
        also = [name.replace("_", "-") for name, value in given.items() if value is not None]
        if also:
            if source is None:
                raise InputError(
                    f"--{also[0]} is for a new run, but no DATA is given; give DATA, or the RUN to "
                    "ship without it"
                )
            raise InputError(f"the settings of {source} are fixed; leave out --{also[0]}")
        return run.open_run().path if source is None else Path(source)
    if run_folder is not None:
        return Path(run_folder)
    return run.RUNS / f"ship-{run.short_name(source)}"


def ship(
    source: StrPath | None = None,
    *,
    run_folder: StrPath | None = None,
    bundles: Sequence[str] = DEFAULT_BUNDLES,
    max_drop: float = choices.MAX_DROP,
    max_mb: float | None = None,
    max_ms: float | None = None,
    threads: int = 1,
    android: bool = False,
    calibrate_probabilities: bool = False,
    reject: float | None = None,
    unknown: StrPath | None = None,
    **options: Any,
) -> Shipped:
    """Trains, exports a file that keeps its accuracy, int8 if possible, verifies and bundles it.

    With a budget, `max_mb` or `max_ms`, it first searches for a network: see `studies.search`. The
    best candidate is then trained, with a larger one that is no worse as its teacher.

    The same call resumes an interrupted one: training resumes, and an unchanged export is verified
    instead of written again.

    Args:
        source: a data set, as in `train`; or a run, finished or not. None: the newest run.
        run_folder: run folder for a data set; default `runs/ship-DATA`.
        bundles: "android", "web", "python", "c".
        max_drop: allowed drop in top-1, in points.
        max_mb: maximum size of the file in millions of bytes.
        max_ms: maximum latency per image in milliseconds.
        threads: number of LiteRT threads for this latency.
        android: measure it on the phone connected with adb instead of this machine.
        calibrate_probabilities, reject, unknown: as in `export`.
        **options: settings of `train`.

    Returns:
        `Shipped`: the run folder, the folders of the apps, their model file, the result of the
        gate, and the candidates of the search.

    Raises:
        InputError: an invalid argument, or a run with other settings.
        CheckFailed: the training diverged, no file passed, or none is within the budget.
        Interrupted: Ctrl-C or SIGTERM; the same call resumes.
    """
    from keras_resnet.evaluation.scores import examples_in
    from keras_resnet.exporting import bundling, plan

    _require_known(options)
    if not bundles:
        raise InputError(f"bundles is empty; give at least one of {', '.join(choices.BUNDLES)}")
    plan.Limits(max_drop=max_drop)  # raises errors before a training of hours
    plan.require_rejection(reject, unknown)
    if unknown is not None:
        examples_in(unknown, "skip")  # the same
    path = place(source, run_folder, options)
    budget = search.Budget(max_mb, max_ms, threads, android)
    budget.require()
    candidates: list[search.Candidate] = []
    chosen: dict[str, Any] = {}
    try:
        if budget.is_set:
            if not is_data(source):
                raise InputError(
                    f"{path} is a run, whose network is already trained; a budget needs DATA to "
                    "train on"
                )
            # A finished run keeps its network, even if the photos have changed.
            candidates = _searched(path, budget)
            if not candidates:
                beside = _search_folder(path)
                chosen, candidates = search.choose(source, beside, budget, options, path)
        request: ExportOptions = {
            "bundles": bundles,
            "max_drop": max_drop,
            "calibrate_probabilities": calibrate_probabilities,
            "reject": reject,
            "unknown": unknown,
        }
        trained = _trained(path, source, {**options, **chosen}, request)
        if chosen:
            _save(trained, budget, candidates)
        verification = _exported(trained, request)
    except Interrupted as error:
        raise Interrupted("interrupted; the same command resumes it", error.status) from None
    folder = trained.export_folder
    homes = {kind: folder / f"{filenames.BUNDLE}{kind}" for kind in (*bundles, *choices.BUNDLES)}
    apps = {kind: str(home) for kind, home in homes.items() if home.is_dir()}
    model = bundling.model_to_bundle(folder, bundles[0])
    assert model  # it is in the bundle
    if candidates:
        _require_within(budget, model, candidates)
    return Shipped(
        run=str(path),
        apps=apps,
        model=model.name,
        verification=verification,
        frontier=candidates,
        measured_on=budget.measured_on if candidates else None,
    )


def _require_known(options: Mapping[str, Any]) -> None:
    """Raises InputError for a misspelt argument of `ship`; `train` checks its settings."""
    from difflib import get_close_matches

    own = inspect.signature(ship).parameters
    for name in options.keys() - SETTINGS.keys():
        if near := get_close_matches(name, own):
            raise InputError(f"unknown argument '{name}'; did you mean {near[0]}?")


def is_data(source: StrPath | None) -> TypeGuard[StrPath]:
    """Whether a source is a data set: not a run, and not None (the newest run)."""
    return source is not None and not Path(source, filenames.CONFIG).exists()


def _search_folder(path: Path) -> Path:
    """The folder of the search, beside the run; its runs are nested too deep to be found as the
    newest run."""
    path = _named(path)
    return path.with_name(f"{path.name}-search")


def _named(path: Path) -> Path:
    """The path with the name of its folder, which "." and ".." lack."""
    return path if path.name not in ("", "..") else path.resolve()


def _require_within(
    budget: search.Budget, model: Path, candidates: Sequence[search.Candidate]
) -> None:
    """Raises CheckFailed if the exported file exceeds the budget: the network is that of the
    search, but `--quantize auto` may have chosen a larger format."""
    for _ in range(_TIMINGS):
        latency = search.measure(model, budget)
        excess = budget.excess(model.stat().st_size, latency)
        if excess is None:
            return
    (chosen,) = (point for point in candidates if point.chosen)
    raise CheckFailed(
        f"{model} is over budget: {excess}; the int8 file of the short training of {chosen.name} "
        f"had {(chosen.bytes or 0) / 1e6:.3g} MB and {chosen.latency_ms:.3g} ms; give a larger "
        "--max-drop if int8 was refused, or a larger --max-mb or --max-ms with another --run"
    )


def _searched(path: Path, budget: search.Budget) -> list[search.Candidate]:
    """The saved candidates of a finished run; [] without a search for this budget."""
    file = path / filenames.FRONTIER
    content = read_json(file) if file.exists() else {}
    if content.get("budget") != asdict(budget):
        return []
    return [
        search.Candidate(**{key: value for key, value in point.items() if key != "name"})
        for point in content["networks"]
    ]


def _save(trained: run.Run, budget: search.Budget, candidates: Sequence[search.Candidate]) -> None:
    """Writes the candidates of a search into the run, with a plot."""
    from keras_resnet.report import frontier_plot

    points = [candidate.as_json() for candidate in candidates]
    with trained.rewriting(filenames.FRONTIER, filenames.FRONTIER_PLOT):
        content = {"budget": asdict(budget), "networks": points}
        write_json(trained.file(filenames.FRONTIER), content)
        title = f"Networks for {run.short_name(trained.config.data)}, from {len(points)} short runs"
        png = trained.file(filenames.FRONTIER_PLOT)
        frontier_plot.plot(points, asdict(budget), budget.measured_on, title, png)


def _trained(
    path: Path, source: StrPath | None, options: Mapping[str, Any], request: "ExportOptions"
) -> run.Run:
    from keras_resnet.training.custom import settings_and_network
    from keras_resnet.training.train import train

    given = {"data": source, **options} if is_data(source) else {}
    with quietly():  # `train` logs the same
        settings, _ = settings_and_network(given)  # `model` may be a Keras model
    if finished := run.finished(path, settings):
        if is_data(source):
            _require_same_photos(finished, source, options, request)
        return finished
    if is_data(source):
        unfinished = run.unfinished(None, path, None, settings)
        if unfinished and unfinished.checkpoint_steps():  # else it starts with the current photos
            _require_same_photos(unfinished, source, options, request)
    trained = train(run_folder=path, **given) if given else train(resume=path)
    if trained is None:
        raise InputError("ship is for one process; train with several workers, then ship the run")
    return trained


def _require_same_photos(
    trained: run.Run, data: StrPath, options: Mapping[str, Any], request: "ExportOptions"
) -> None:
    """Raises InputError if the photos of a run have new classes or lack validation images; warns
    about other changes."""
    from keras_resnet.data import sources

    saved = {(image.name, image.label) for split in trained.splits.values() for image in split}
    source = sources.load_for(replace(trained.config, weights=None))
    now = {
        (name, source.classes[label])
        for examples in source.splits.values()
        for name, label in zip(examples.names, examples.labels, strict=True)
    }
    if now == saved:
        return
    path = trained.path
    if trained.manifest:
        command = shlex.join(_again(trained, data, options, request))
        again = f"to train again from its weights: `keras-resnet {command}`"
    else:
        again = f"to start again, delete {path}"
    if added := sorted({label for _, label in now} - {*trained.classes}):
        new = f"class{'es' if added[1:] else ''} {some_of([show(name) for name in added])}"
        raise InputError(f"{path} was not trained on the {new} of {data}; {again}")
    changes = []
    if came := len(now - saved):
        changes.append(f"has {plural(came, 'image')} that {path} does not have")
    if went := saved - now:
        changes.append(f"lacks {plural(len(went), 'image')} of {path}")
    if lost := sorted({name for name, _ in went} & {image.name for image in trained.splits["val"]}):
        raise InputError(
            f"{data} {' and '.join(changes)}, {len(lost):,} of them validation images, which are "
            f"needed to check each file: {some_of([show(name) for name in lost], 3)}; restore "
            f"them, or, {again}"
        )
    log.warning(f"{data} {' and '.join(changes)}; {again}")


def _again(
    trained: run.Run, data: StrPath, options: Mapping[str, Any], request: "ExportOptions"
) -> list[str]:
    """The arguments of the command that trains again from the weights of a run, with the current
    options."""
    names = (f"{_named(trained.path)}-{i}" for i in itertools.count(2))
    free = next(name for name in names if not os.path.exists(name))
    command = ["ship", os.fspath(data), "--weights", str(trained.path), "--run", free]
    for name in ("epochs", "batch_size", "seed", "on_bad_image"):
        command += recipes.option(name, options.get(name))
    for kind in request["bundles"] if tuple(request["bundles"]) != DEFAULT_BUNDLES else ():
        command += ["--bundle", kind]
    if request["max_drop"] != choices.MAX_DROP:
        command += ["--max-drop", f"{request['max_drop']:g}"]
    if request["calibrate_probabilities"]:
        command.append("--calibrate-probabilities")
    if request["reject"] is not None:
        command += ["--reject", f"{request['reject']:g}"]
    if request["unknown"] is not None:
        command += ["--unknown", str(request["unknown"])]
    return command


def _exported(trained: run.Run, request: "ExportOptions") -> "Verification":
    """Exports the run unless an unchanged export exists; returns the result of the gate."""
    from keras_resnet.evaluation.contract import require_contract
    from keras_resnet.exporting import exporter, gate, publish

    folder = trained.export_folder
    wanted: ExportOptions = {**request, "saved_model": False, "tflite": ["auto"]}
    with publish.locked(folder, or_reading=True):  # also completes a killed export
        there = gate.artefacts(folder)
    if there:
        contract = require_contract(folder)
        why = _lacks(folder, contract, request)
        if not why:
            log.info(f"{folder} already exists; verifying it …")
            result = gate.verify(trained, max_drop=request["max_drop"], unknown=request["unknown"])
            has_seen_unknown = bool(result.rejection and result.rejection.unknown_judged_on)
            if not result.passed:
                why = "it does not pass"
            elif request["unknown"] is not None and not has_seen_unknown:
                why = "it was exported without --unknown"
            else:
                kept = _dropped(contract, request)
                with_them = (
                    f" with {' and '.join(kept)}; delete {folder} to export without it"
                    if kept
                    else ""
                )
                log.info(f"unchanged since it was exported{with_them}")
                return result
        _require_kept(folder, contract, request, why)
        log.info(f"{why}; exporting again")
        wanted = {**wanted, **_beside(folder, contract)}
    return exporter.export(trained, **wanted)


def _dropped(contract: "Contract", request: "ExportOptions") -> list[str]:
    """The options of an earlier export that are not given now."""
    given: dict[str, Any] = {**request}
    return [option for name, option in contract.fitted.items() if not given[name]]


def _require_kept(folder: Path, contract: "Contract", request: "ExportOptions", why: str) -> None:
    """Raises InputError if an app of this export would lose its threshold or temperature."""
    if dropped := _dropped(contract, request):
        raise InputError(
            f"{why}, and {folder} was exported with {' and '.join(dropped)}; give the option "
            "again, or delete that folder to export without it"
        )


def _lacks(folder: Path, contract: "Contract", request: "ExportOptions") -> str | None:
    """The first requested item that an export lacks, as a message; None if it is complete."""
    for kind in request["bundles"]:
        name = f"{filenames.BUNDLE}{kind}"
        if not (folder / name).is_dir():
            return f"{folder} has no {name}"
    if request["calibrate_probabilities"] and contract.temperature == 1:
        return f"the probabilities of {folder} are not calibrated"
    if request["reject"] is not None and not (
        contract.reject and contract.reject.share == request["reject"]
    ):
        has = f"--reject {contract.reject.share:g}" if contract.reject else "no --reject"
        return f"{folder} has {has}"
    for row in manifest.read(folder).values():
        made = row.get("conversion", {})
        is_full_int8 = made.get("variant") == "int8" and "float_layers" not in made
        if not is_full_int8 and request["max_drop"] > made.get("max_drop", math.inf):
            return f"{folder} was exported with --max-drop {made['max_drop']:g}"
    return None


def _beside(folder: Path, contract: "Contract") -> "ExportOptions":
    """The artefacts of an export besides `.tflite` variants, as options to export them again: all
    files of a folder share one threshold and one temperature. {} for exports with other inputs or
    outputs, which these options could not restore."""
    if not contract.has_own_ends:
        return {}
    return {
        "saved_model": (folder / filenames.SAVED_MODEL).exists(),
        "onnx": (folder / filenames.ONNX).exists(),
        "features": (folder / filenames.FEATURES).exists(),
        "trainable": "head" if (folder / filenames.TRAINABLE).exists() else None,
    }
