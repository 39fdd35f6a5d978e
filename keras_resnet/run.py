"""A run folder: what training leaves, and the one place that knows the names in it."""

import csv
import fcntl
import hashlib
import os
import re
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path

from keras_resnet import recipes
from keras_resnet.config import SETTINGS
from keras_resnet.data import names
from keras_resnet.errors import InputError, first_line
from keras_resnet.files import atomic, read_json, read_lines, write_json, write_text

RUNS = Path("runs")
_LOGS = "log*.txt"  # log.txt, and of another worker log-worker-1.txt
# A run that was killed while it began has these at most, and begins anew.
_BEFORE_IT_BEGINS = (_LOGS, "labels.txt", "labels.txt.part", "config.json.part")
_SETTLED = ("normalize", "deterministic", "xla")
FEATURES = "model_features.tflite"  # an exported file that is no classifier


class Run:
    """A folder `runs/NAME/`; see "A run folder" in the README for what is in it."""

    def __init__(self, path):
        self.path = Path(path)

    def __fspath__(self):
        return str(self.path)

    def __repr__(self):
        return f"Run({str(self.path)!r})"

    def file(self, name):
        return self.path / name

    @property
    def export_folder(self):
        return self.path / "export"

    def exported(self):
        """The paths of the exported artefacts: SavedModel, then files by name."""
        folder = self.export_folder
        files = sorted(p for p in folder.glob("*") if p.suffix in (".tflite", ".onnx"))
        files = [path for path in files if path.name != FEATURES]
        return [*folder.glob("saved_model"), *files]

    @property
    def config(self):
        return recipes.resolve(config_file=self.file("config.json"))

    @property
    def classes(self):
        return read_lines(self.file("labels.txt"))

    @property
    def metrics(self):
        return read_json(self.file("metrics.json"))

    def examples(self, split):
        """The run's own images of a split ("train", "val" or "test")."""
        from keras_resnet.data import sources

        self.require_images()
        config = self.config
        return sources.load_split(
            self.file("split.json"),
            split,
            data=config.data,
            classes=self.classes,
            data_dir=config.data_dir,
            check=config.check,
        )

    def require_images(self):
        """InputError if the run has no images of its own: it was imported."""
        if self.config.data == names.NONE:
            raise InputError(
                f"{self.path} was imported and has no images of its own; name the DATA, in "
                f"`keras-resnet export {self.path} --data DATA` once for all"
            )

    def attach(self, data, data_dir=None):
        """Gives an imported run images of its own, for the calibration and the gate.

        Args:
            data: as in `train`; a val split is made where there is none.
            data_dir: where tensorflow-datasets keeps its files.

        Raises:
            InputError: the run has images already, or the data have classes it does not know.
        """
        from keras_resnet.data import sources

        config, classes = self.config, self.classes
        if config.data != names.NONE:
            raise InputError(f"--data {data}: {self.path} has images of its own, {config.data}")
        source = sources.load(data, seed=config.seed, data_dir=data_dir)
        unknown = [name for name in source.classes if name not in classes]
        if unknown:
            raise InputError(
                f"{data} has a class {unknown[0]!r} that {self.path} does not know; its labels.txt "
                f"begins with {', '.join(classes[:5])}"
            )
        sources.save_split(source, self.file("split.json"))
        self._save_config(absolute(replace(config, data=os.fspath(data), data_dir=data_dir)))
        self.save_manifest()

    def begin(self, config, classes):
        """Writes settings and labels into a new folder; InputError if there is something in it."""
        _require_free(self.path)
        write_text(self.file("labels.txt"), "".join(f"{name}\n" for name in classes))
        self._save_config(config)  # last: who finds it finds a run

    def _save_config(self, config):
        with atomic(self.file("config.json")) as part:
            recipes.save(config, part)

    def model(self):
        """The best model: float32, fixed image size, built from the settings, then given weights.

        Nothing that the saved file says is executed, and a file that is not the one that training
        wrote is refused.
        """
        model = build(self.config, len(self.classes))
        load_weights(model, self.model_file())
        return model

    def model_file(self):
        """The path of model.keras; InputError if it is not the one that was written."""
        path = self.file("model.keras")
        manifest = self.file("manifest.json")
        if manifest.exists() and fingerprint(path) != read_json(manifest).get(path.name):
            raise InputError(
                f"{path} is damaged: its sha256 is not the one in manifest.json; take it from a "
                "copy of the run, or train again"
            )
        return path

    def save_history(self, rows):
        with atomic(self.file("history.csv")) as path, open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)

    def save_model(self, model):
        """Writes model.keras beside and renames, so that a kill leaves the earlier one whole."""
        with atomic(self.file("model.keras")) as path:
            save_keras(model, path)

    def save_manifest(self):
        """Size and sha256 of every file of the run but logs, checkpoints and exports."""
        files = [p for p in sorted(self.path.iterdir()) if p.is_file()]
        kept = [p for p in files if p.name != "manifest.json" and not p.match(_LOGS)]
        write_json(self.file("manifest.json"), {p.name: fingerprint(p) for p in kept})


def absolute(config):
    """The settings with whole paths, so that the run finds its images from anywhere."""
    paths = {"data_dir": config.data_dir}
    if config.weights != "imagenet":
        paths["weights"] = config.weights
    if names.is_folder(config.data) and config.data != names.NONE:
        paths["data"] = config.data
    return replace(config, **{k: os.path.abspath(v) for k, v in paths.items() if v is not None})


def create(path, config, classes):
    """A new run folder with its settings and labels.

    Raises:
        InputError: the folder already holds something, or cannot be made.
    """
    if path:
        _require_free(path)
    with claim(path, config) as run:
        run.begin(config, classes)
    return run


def _require_free(path):
    path = Path(path)
    there = path.iterdir() if path.is_dir() else ()
    taken = [p.name for p in there if not any(map(p.match, _BEFORE_IT_BEGINS))]
    if taken:
        raise InputError(
            f"--run {path} already holds {taken[0]}; give a new folder, or leave --run out"
        )


@contextmanager
def claim(path, config):
    """The `Run` in the folder `path`, by default one with a new name, for one writer at a time.

    Raises:
        InputError: it cannot be made, or another process writes there.
    """
    path = Path(path) if path else _next_name(config)
    try:
        path.mkdir(parents=True, exist_ok=True)
        # Open for writing: NFS locks nothing else. The lock ends with its process.
        lock = open(path / "log.txt", "ab")  # noqa: SIM115
    except OSError as error:
        raise InputError(f"cannot make the run folder {path}: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"another process is training in {path}; wait for it, or give another --run"
            ) from None
        yield Run(path)


def begun(resume, run_folder, config_file, options):
    """The unfinished `Run` that a training goes on with; None where a new one begins.

    Args:
        resume: the folder of such a run, which brings all settings but the number of devices.
        run_folder: a folder that may hold one of the same settings.
        config_file, options: the settings, as `recipes.resolve` takes them.

    Raises:
        InputError: nothing to go on with, or other settings than the run has.
    """
    if resume is not None:
        given = {"run": run_folder, "config": config_file, **options, "devices": None}
        also = [name.replace("_", "-") for name, value in given.items() if value is not None]
        if also:
            raise InputError(f"--resume takes all settings from {resume}; leave out {also[0]}")
        if not Path(resume, "config.json").exists():
            raise InputError(f"--resume {resume}: no run there; `ls {RUNS}` shows the runs")
        if Path(resume, "manifest.json").exists():
            raise InputError(f"--resume {resume}: this run is finished; `keras-resnet evaluate`")
        return Run(resume)
    if not run_folder:
        return None
    if not Path(run_folder, "config.json").exists():
        _require_free(run_folder)
        return None
    if Path(run_folder, "manifest.json").exists():
        raise InputError(f"--run {run_folder} is finished; give a new folder, or leave --run out")
    found, wanted = Run(run_folder).config, absolute(recipes.resolve(options, config_file))
    for field in fields(found):
        old, new = getattr(found, field.name), getattr(wanted, field.name)
        if field.name == "devices":
            continue  # those of this machine
        # None is what the run has settled when it began.
        if old != new and not (field.name in _SETTLED and new is None):
            option = SETTINGS[field.name].flag
            raise InputError(
                f"--run {run_folder} was begun with {option} {old}, not {new}; give the same, "
                "another folder, or --resume for its own settings"
            )
    return Run(run_folder)


def open_run(path=None):
    """The run in the folder `path`; None is the newest under `runs/` that was finished.

    Raises:
        InputError: there is no finished run.
    """
    if path is None:
        finished = [p.parent for p in RUNS.glob("*/manifest.json")]  # written last
        if not finished:
            raise InputError(f"no finished run under {RUNS}/; name one, or `keras-resnet train`")
        return Run(max(finished, key=lambda p: (p / "config.json").stat().st_mtime))
    run = Run(path)
    if not run.path.is_dir():
        raise InputError(f"no run folder {path}; `ls {RUNS}` shows the runs")
    for name in ("config.json", "labels.txt", "model.keras"):
        if not run.file(name).exists():
            raise InputError(f"{path} is no finished run: it has no {name}")
    return run


def kind_of(path):
    """What an artefact is, by a glance: "run", "saved_model", "keras", "tflite" or "onnx".

    Raises:
        InputError: nothing there, or nothing that could classify images.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(
            f"no artefact {path}; give a run folder, .keras, SavedModel, .tflite or .onnx"
        )
    if path.is_dir():
        if (path / "config.json").exists():
            return "run"
        if (path / "saved_model.pb").exists():
            return "saved_model"
        raise InputError(
            f"{path} is neither a run folder (no config.json) nor a SavedModel (no saved_model.pb)"
        )
    if path.suffix in (".keras", ".tflite", ".onnx"):
        return path.suffix[1:]
    raise InputError(
        f"{path} is no artefact; give a run folder, a .keras file, a SavedModel folder, a .tflite "
        "or an .onnx file"
    )


def build(config, num_classes, *, open_size=False):
    """The network of a `Config`, under the current dtype policy."""
    from keras_resnet import models

    side = None if open_size else config.side
    return models.build(
        config.model,
        num_classes,
        (side, side, 3),
        normalize=config.normalize,
        zero_gamma=config.zero_gamma,
        drop_path=config.drop_path,
    )


def load_weights(model, path):
    """Weights of a `.keras` file into a model built by us; the file's own settings are not read."""
    try:
        model.load_weights(str(path))
    except Exception as error:  # zip, h5 and Keras each have their own
        raise InputError(f"{path} is damaged or of another model ({first_line(error)})") from None


def save_keras(model, path):
    """`model.save` to a path that need not end in .keras."""
    named = Path(f"{path}.keras")
    try:
        model.save(named)
        os.replace(named, path)
    finally:
        named.unlink(missing_ok=True)


def fingerprint(path):
    """{"bytes": …, "sha256": …} of a file; of a folder, of all its files by name."""
    path = Path(path)
    if path.is_file():
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": path.stat().st_size, "sha256": digest}
    whole, total = hashlib.sha256(), 0
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        one = fingerprint(file)
        whole.update(f"{file.relative_to(path).as_posix()} {one['sha256']}\n".encode())
        total += one["bytes"]
    return {"bytes": total, "sha256": whole.hexdigest()}


def _next_name(config):
    data = re.sub(r"[^\w.-]+", "-", Path(config.data.rstrip("/")).name or "data").strip("-")
    stem = f"{config.model}-{data.removeprefix('tfds-')}"
    for number in range(1, 100_000):
        path = RUNS / f"{stem}-{number:03d}"
        if not path.exists():
            return path
    raise InputError(f"{RUNS}/ holds 99,999 runs called {stem}; give --run")
