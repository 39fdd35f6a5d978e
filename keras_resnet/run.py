"""A run folder: the output of a training. `filenames` has the names of its files."""

import csv
import io
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_resnet import filenames, manifest, recipes, specs
from keras_resnet.data import names
from keras_resnet.errors import InputError
from keras_resnet.files import (
    StrPath,
    atomic,
    lock,
    read_json,
    read_lines,
    require_path,
    write_json,
    write_text,
)
from keras_resnet.messages import log, some_of
from keras_resnet.state import isolated

if TYPE_CHECKING:
    import keras

    from keras_resnet.data.examples import Examples
    from keras_resnet.data.sources import SavedImage, Source

RUNS = Path("runs")
_OF_A_RUN = (filenames.CONFIG, filenames.LABELS, filenames.MODEL)
_LOGS = "log*.txt"  # log.txt, and log-worker-1.txt of another worker
# A run that was killed at its start has only these files, and can start again.
_BEFORE_CONFIG = (
    f"{filenames.NETWORK}*",
    _LOGS,
    filenames.LABELS,
    f"{filenames.LABELS}.part",
    f"{filenames.CONFIG}.part",
)
_CHECKPOINT = re.compile(r"step-(\d+)\.index")


class Run:
    """A run folder `runs/NAME/`; docs/reference/run-folder.md lists its files.

    Each small file is read and checked once, on first access; later writes through this object are
    visible at once. Open the run again to see changes by another process.
    """

    def __init__(self, path: StrPath) -> None:
        self.path = Path(path)

    def __fspath__(self) -> str:
        return str(self.path)

    __str__ = __fspath__

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def file(self, name: str) -> Path:
        return self.path / name

    @property
    def export_folder(self) -> Path:
        return self.path / filenames.EXPORT

    def exported(self) -> list[Path]:
        """The paths of the exported artefacts: the SavedModel, then files sorted by name."""
        folder = self.export_folder
        files = sorted(p for p in folder.glob("*") if p.suffix in (".tflite", ".onnx"))
        files = [path for path in files if path.name != filenames.FEATURES]
        return [*folder.glob(filenames.SAVED_MODEL), *files]

    def checkpoint_steps(self) -> list[int]:
        """The steps of the checkpoints in the run's folder, ascending."""
        files = self.file(filenames.CHECKPOINTS).glob("*")
        matches = (_CHECKPOINT.fullmatch(path.name) for path in files)
        return sorted(int(match[1]) for match in matches if match)

    @cached_property
    def config(self) -> recipes.Config:
        return recipes.resolve(
            config_file=self.file(filenames.CONFIG), content=self._read(filenames.CONFIG)
        )

    @cached_property
    def classes(self) -> list[str]:
        return read_lines(self.file(filenames.LABELS), self._read(filenames.LABELS))

    @cached_property
    def metrics(self) -> dict[str, Any]:
        return read_json(self.file(filenames.METRICS), self._read(filenames.METRICS))

    @property
    def history(self) -> list[dict[str, Any]]:
        """The rows of history.csv, one per epoch: loss, top1, val_loss, val_top1 and others."""
        rows = csv.DictReader(io.StringIO(self._read(filenames.HISTORY).decode()))
        return [{k: v if k == "weights" else float(v) for k, v in row.items()} for row in rows]

    @cached_property
    def splits(self) -> "dict[str, list[SavedImage]]":
        """The images of each split, by its name."""
        from keras_resnet.data import sources

        return sources.read_split(self.file(filenames.SPLIT), self._read(filenames.SPLIT))

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Size and sha256 of each file, by its name; {} for an unfinished run."""
        return manifest.read(self.path)

    def _read(self, name: str) -> bytes:
        """The content of a file of the run; InputError if it is missing or was changed."""
        path = self.file(name)
        if not path.exists():
            return self.intact(name).read_bytes()  # raises the error
        content = path.read_bytes()
        self.intact(name, content)
        return content

    def intact(self, name: str, content: bytes | None = None) -> Path:
        """The path of a file of the run; InputError if it is missing or was changed.

        A file whose entry was deleted from the manifest may have been changed, except the model.

        Args:
            name: name of the file.
            content: the bytes of the file, if already read.
        """
        path, row = self.file(name), self.manifest.get(name)
        if name == filenames.METRICS and not path.exists() and not self.manifest:
            raise InputError(f"{self.path} is not finished; {resume_command(self.path)}")
        if not path.exists():
            raise InputError(
                f"{path} is missing; restore it from a copy of the run, or train again"
            )
        if row is None and (name != filenames.MODEL or not self.manifest):
            return path
        if row is None or not manifest.is_of(manifest.fingerprint(path, content), row):
            accept = f"; if you changed it on purpose, delete the entry of {name} in manifest.json"
            raise InputError(
                f"{path} is damaged or was changed: its sha256 is not the one in manifest.json; "
                "restore it from a copy of the run, or train again"
                + ("" if name == filenames.MODEL else accept)
            )
        return path

    def examples(self, split: str) -> "Examples":
        """The run's images of a split ("train", "val" or "test").

        Training has checked them: only images that changed since then are checked again.

        Raises:
            InputError: no such split, no images, or missing or damaged images.
        """
        from keras_resnet.data import sources

        self.require_images()
        config, saved = self.config, self.splits
        return sources.load_split(
            saved,
            split,
            data=config.data,
            classes=self.classes,
            data_dir=config.data_dir,
            check=config.check,
            checked_until=self.file(filenames.SPLIT).stat().st_mtime_ns,
        )

    def naming_broken_images(self) -> AbstractContextManager[None]:
        """A context that turns errors of an unreadable image of the run into an InputError."""
        from keras_resnet.data import folder

        return folder.naming_broken(
            self.config.data,
            lambda: [image.name for images in self.splits.values() for image in images],
            lambda path, reason: InputError(
                f"{path}, an image of the run {self.path}: {reason}; restore it"
            ),
        )

    def require_images(self) -> None:
        """Raises InputError for an imported run, which has no images."""
        if self.config.data == names.NONE:
            raise InputError(
                f"{self.path} was imported without images; add them once with `keras-resnet export "
                f"{shlex.quote(str(self.path))} --data DATA`"
            )

    def attach(self, data: StrPath, data_dir: str | None = None, *, keep: bool = True) -> None:
        """Adds images to an imported run, for the calibration and the gate; for any other run, sets
        the new folder of its images.

        Args:
            data: as in `train`; a val split is made if there is none.
            data_dir: folder of tensorflow-datasets.
            keep: whether to save the new folder in the run.

        Raises:
            InputError: the data have classes unknown to the run, or are not the run's images.
        """
        from keras_resnet.data import sources

        config, classes = self.config, self.classes
        if config.data != names.NONE:
            self.require_own(data)
            if keep:
                self.save_data(data, config.data_dir)
            else:
                self.config = absolute(replace(config, data=os.fspath(data)))
            return
        source = sources.load(data, seed=config.seed, data_dir=data_dir)
        unknown = [name for name in source.classes if name not in classes]
        if unknown:
            raise InputError(
                f"{data} has a class {unknown[0]!r} that {self.path} does not have; remove or "
                f"rename it: the classes are {some_of(classes)}"
            )
        with self.rewriting(filenames.SPLIT):
            self.save_split(source)
        self.save_data(data, data_dir)

    def require_own(self, data: StrPath) -> None:
        """Raises InputError if a folder does not hold the run's images."""
        from keras_resnet.data import sources

        if not (names.is_folder(self.config.data) and names.is_folder(data)):
            raise InputError(
                f"--data {data}: {self.path} has its own images, {self.config.data}; leave it out"
            )
        sources.require_moved(self.splits, data, self.classes)

    def save_data(self, data: StrPath, data_dir: str | None) -> None:
        """Saves the location of the run's images in its settings."""
        config = absolute(replace(self.config, data=os.fspath(data), data_dir=data_dir))
        if not self.manifest:  # of an unfinished run
            self._save_config(config)
            return
        with self.rewriting(filenames.CONFIG):
            self._save_config(config)

    def begin(
        self,
        config: recipes.Config,
        classes: Sequence[str],
        network: "keras.Model | None" = None,
    ) -> None:
        """Writes settings, labels and the user's own network into a new folder; InputError if it is
        not empty."""
        _require_free(self.path)
        if config.model == specs.CUSTOM.name and network is not None:
            with atomic(self.file(filenames.NETWORK)) as path:
                save_keras(network, path)
        self.save_labels(classes)
        self._save_config(config)  # last: this file marks the folder as a run

    def save_labels(self, classes: Sequence[str]) -> None:
        write_text(self.file(filenames.LABELS), "".join(f"{name}\n" for name in classes))
        self.classes = list(classes)

    def _save_config(self, config: recipes.Config) -> None:
        with atomic(self.file(filenames.CONFIG)) as part:
            recipes.save(config, part)
        self.config = config

    @isolated(any_backend=True)
    def model(self) -> "keras.Model":
        """The best model: float32, fixed image size; built from the settings, with saved weights.

        Nothing in the saved file is executed, and a file that changed since training is rejected.
        The user's own network is built from its configuration in the file.
        """
        path = self.intact(filenames.MODEL)
        if self.config.model == specs.CUSTOM.name:
            from keras_resnet.weights import whole_model

            return whole_model.load(path)
        model = build(self.config, len(self.classes))
        load_weights(model, path)
        return model

    def network(self, config: recipes.Config, num_classes: int) -> "keras.Model":
        """A float32 network of this `config`, to receive weights from the run's training."""
        if config.model != specs.CUSTOM.name:
            return build(config, num_classes)
        from keras_resnet.weights import whole_model
        from keras_resnet.weights.classifier import classifier

        path = self.file(filenames.NETWORK)
        return classifier(whole_model.load(path), str(path)).model

    def save_split(self, source: "Source") -> None:
        """Saves the split of each image, so that a run is always evaluated on the same images."""
        from keras_resnet.data import sources

        sources.save_split(source, self.file(filenames.SPLIT))
        vars(self).pop("splits", None)

    def save_history(self, rows: Sequence[Mapping[str, Any]]) -> None:
        with atomic(self.file(filenames.HISTORY)) as path, open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)

    def save_metrics(self, metrics: dict[str, Any]) -> None:
        write_json(self.file(filenames.METRICS), metrics)
        self.metrics = metrics

    def save_model(self, model: "keras.Model") -> None:
        """Writes model.keras atomically, so that a kill leaves the earlier file intact."""
        with atomic(self.file(filenames.MODEL)) as path:
            save_keras(model, path)

    def save_manifest(self) -> None:
        """Writes size and sha256 of every file of the run except logs, checkpoints and exports."""
        files = [p for p in sorted(self.path.iterdir()) if p.is_file()]
        kept = [p for p in files if p.name != filenames.MANIFEST and not p.match(_LOGS)]
        self._write_manifest({p.name: manifest.fingerprint(p) for p in kept})

    @contextmanager
    def rewriting(self, *names: str) -> Iterator[None]:
        """Updates the rows of the manifest for files that are replaced or added in the context.

        Within the context the manifest has no rows for them, so it is correct even after a kill.
        """
        others = {name: row for name, row in self.manifest.items() if name not in names}
        self._write_manifest(others)
        try:
            yield
        finally:
            there = [path for path in map(self.file, names) if path.exists()]
            rows = {path.name: manifest.fingerprint(path) for path in there}
            self._write_manifest(others | rows)

    def _write_manifest(self, rows: dict[str, Any]) -> None:
        self.manifest = rows
        write_json(self.file(filenames.MANIFEST), rows)


def absolute(config: recipes.Config) -> recipes.Config:
    """The settings with absolute paths, independent of the working directory."""
    teacher = config.teacher and config.teacher.removesuffix(f"/{filenames.MODEL}")
    paths = {
        "data_dir": config.data_dir,
        "teacher": teacher,
        "split_file": config.split_file,
    }
    if config.weights != "imagenet":
        paths["weights"] = config.weights
    if names.is_folder(config.data) and config.data != names.NONE:
        paths["data"] = config.data
    full: dict[str, Any] = {k: os.path.abspath(v) for k, v in paths.items() if v is not None}
    return replace(config, **full)


@contextmanager
def importing(
    path: StrPath | None, config: recipes.Config, classes: Sequence[str]
) -> Iterator[Run]:
    """Creates a run folder with its settings and labels, and yields its `Run`; after an exception
    the folder is removed.

    Raises:
        InputError: the folder is not empty, or cannot be made.
    """
    if path:
        _require_free(path)
    with claim(path, config) as run:
        run.begin(config, classes)
        try:
            yield run
            run.save_manifest()
        except BaseException:
            shutil.rmtree(run.path, ignore_errors=True)
            raise


def _require_free(path: StrPath) -> None:
    """Raises InputError unless a run can begin in this folder."""
    path = Path(path)
    if any("\ud800" <= letter <= "\udfff" for letter in str(path)):
        # Python's surrogates for such bytes; TensorFlow cannot write there.
        raise InputError(f"--run {names.show(path)} is not UTF-8; give another name")
    there_is = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    if not there_is.is_dir() or not os.access(there_is, os.W_OK):
        what = "cannot be written" if there_is.is_dir() else "is a file"
        raise InputError(
            f"cannot create the run folder {path}: {there_is} {what}; give another --run"
        )
    there = path.iterdir() if path.is_dir() else ()
    taken = [p.name for p in there if not any(map(p.match, _BEFORE_CONFIG))]
    if taken:
        raise InputError(
            f"--run {path} already holds {taken[0]}; give a new folder, or leave --run out"
        )


@contextmanager
def claim(path: StrPath | None, config: recipes.Config) -> Iterator[Run]:
    """Makes and locks the folder `path`, by default one with a new name; yields its `Run`.

    Raises:
        InputError: the folder cannot be made, or another process has locked it.
    """
    try:
        path = Path(path) if path else _new_folder(config)
        path.mkdir(parents=True, exist_ok=True)
        log_file = open(path / filenames.LOG, "ab")  # noqa: SIM115
    except OSError as error:
        raise InputError(
            f"cannot create the run folder {path or RUNS}: {error.strerror}; give another --run"
        ) from None
    with log_file:
        try:
            lock(log_file)
        except BlockingIOError:
            raise InputError(
                f"another process is training in {path}; wait for it, or give another --run"
            ) from None
        yield Run(path)


def unfinished(
    resume: StrPath | None,
    run_folder: StrPath | None,
    config_file: StrPath | None,
    options: Mapping[str, Any],
) -> Run | None:
    """The unfinished `Run` that a training resumes; None if a new one begins.

    Args:
        resume: the folder of an unfinished run, which has all settings; only the number of devices
            and the folder of its images may be given.
        run_folder: a folder that may hold an unfinished run of the same settings.
        config_file, options: the settings, as in `recipes.resolve`.

    Raises:
        InputError: nothing to resume, or settings that differ from the run's.
    """
    if resume is not None:
        own = {"data": None, "devices": None}  # these may differ on resume
        given = {"run": run_folder, "config": config_file, **options, **own}
        also = [f"--{n.replace('_', '-')}" for n, value in given.items() if value is not None]
        if also:
            raise InputError(
                f"--resume takes all settings from {resume}; leave out {some_of(also)}"
            )
        if not Path(resume, filenames.CONFIG).exists():
            raise InputError(f"--resume {resume}: no run there; `ls {RUNS}` shows the runs")
        if Path(resume, filenames.MANIFEST).exists():
            raise InputError(
                f"--resume {resume}: the run is finished; see "
                f"`keras-resnet evaluate {shlex.quote(os.fspath(resume))}`"
            )
        return _with_its_images(Run(resume), options)
    if not run_folder:
        return None
    if not Path(run_folder, filenames.CONFIG).exists():
        _require_free(run_folder)
        return None
    if Path(run_folder, filenames.MANIFEST).exists():
        raise InputError(
            f"--run {run_folder} is finished; give a new folder, or leave --run out; --weights "
            f"{shlex.quote(os.fspath(run_folder))} starts from its weights"
        )
    _require_settings(run_folder, config_file, options)
    return _with_its_images(Run(run_folder), options)


def _with_its_images(unfinished: Run, options: Mapping[str, Any]) -> Run:
    """Returns the run; InputError if its folder of images is gone and no other is given."""
    data = unfinished.config.data
    if data == names.NONE:
        raise InputError(f"{unfinished.path} is an unfinished import; delete it, and import again")
    if options.get("data") is None and names.is_folder(data) and not os.path.isdir(data):
        raise InputError(
            f"{names.show(data)}, the data folder of the run, no longer exists; if it was moved: "
            f"`keras-resnet train NEWFOLDER --resume {shlex.quote(str(unfinished.path))}`"
        )
    return unfinished


def finished(run_folder: StrPath, options: Mapping[str, Any]) -> Run | None:
    """The finished `Run` in a folder; None if there is none and it has to be trained.

    Args:
        run_folder: the folder.
        options: the required settings, as in `recipes.resolve`; {} accepts any.

    Raises:
        InputError: settings that differ from the run's.
    """
    if not Path(run_folder, filenames.MANIFEST).exists():
        return None
    run = open_run(run_folder)
    _require_settings(run_folder, None, options)
    again = "; give another --run to train again" if options else ""
    log.info(f"{run_folder} is already trained{again}")
    return run


def _require_settings(
    run_folder: StrPath, config_file: StrPath | None, options: Mapping[str, Any]
) -> None:
    """Raises InputError if a run was started with other settings than those given explicitly.

    Args:
        run_folder: folder of the run.
        config_file, options: the settings, as in `recipes.resolve`.
    """
    found, wanted = Run(run_folder).config, absolute(recipes.resolve(options, config_file))
    ignored = {"devices", *recipes.unset(options, config_file)}
    for field in fields(found):
        old, new = getattr(found, field.name), getattr(wanted, field.name)
        if field.name in ignored:
            continue
        # None accepts the value that was resolved when the run began.
        if old != new and not (field.name in recipes.RESOLVED and new is None):
            began, given = (recipes.as_option(field.name, value) for value in (old, new))
            command = f"keras-resnet train --resume {shlex.quote(os.fspath(run_folder))}"
            resume = f", or `{command}`, which takes its settings"
            is_finished = Path(run_folder, filenames.MANIFEST).exists()
            raise InputError(
                f"--run {run_folder} was started with {began}, not {given}; give the same "
                f"value or another --run{'' if is_finished else resume}"
            )


def resume_command(folder: StrPath) -> str:
    """The command that resumes a run, as a clause for messages."""
    return f"`keras-resnet train --resume {shlex.quote(str(folder))}` resumes it"


def open_run(path: "StrPath | Run | None" = None) -> Run:
    """Opens a finished run.

    Args:
        path: a run folder; None: the newest finished one under `runs/`.

    Returns:
        The `Run`; a `Run` is returned unchanged.

    Raises:
        InputError: there is no finished run.
    """
    if path is None:
        finished = [p.parent for p in RUNS.glob(f"*/{filenames.MANIFEST}")]  # written last
        if not finished:
            raise InputError(
                f"no finished run under {RUNS}/; give a run folder, or train one with "
                "`keras-resnet train`"
            )
        return Run(max(finished, key=lambda p: (p / filenames.MANIFEST).stat().st_mtime))
    run = path if isinstance(path, Run) else Run(require_path(path))
    if run.path.suffix == ".keras" and run.path.is_file():
        if run.path.name == filenames.MODEL and run.path.with_name(filenames.CONFIG).exists():
            return open_run(run.path.parent)
        raise InputError(
            f"{path} is a Keras model, not a run; `keras-resnet export {shlex.quote(str(path))} "
            "--data DATA` creates a run from it"
        )
    if not run.path.exists():
        raise InputError(f"no run folder {path}; `ls {RUNS}` shows the runs")
    if not run.file(filenames.CONFIG).exists() and (owner := run_of(run.path)):
        raise InputError(f"{path} is a part of a run; give the run, {owner.path}")
    if run.path.is_file():
        raise InputError(f"{path} is a file, not a run folder; `ls {RUNS}` shows the runs")
    _require_one_run(run.path)
    for name in _OF_A_RUN:
        if not run.file(name).exists():
            if (run.path / filenames.VERIFY).exists():
                raise InputError(
                    f"{path} is an export, not a run; give its run; to check the files: "
                    f"`keras-resnet verify RUN --output {shlex.quote(str(path))}`"
                )
            what = (
                "is not a finished run" if run.file(filenames.CONFIG).exists() else "is not a run"
            )
            raise InputError(f"{path} {what}: it has no {name}; `ls {RUNS}` shows the runs")
    return run


def run_of(path: StrPath) -> Run | None:
    """The run whose folder, or whose export folder, holds `path`."""
    for folder in Path(path).resolve().parents[:2]:
        if all((folder / name).exists() for name in _OF_A_RUN):
            return Run(os.path.relpath(folder) if folder.is_relative_to(Path.cwd()) else folder)
    return None


def kind_of(path: StrPath) -> str:
    """The kind of an artefact: "run", "saved_model", "keras", "tflite" or "onnx".

    Raises:
        InputError: no such path, or not an image classifier.
    """
    path = require_path(path)
    if not path.exists():
        raise InputError(
            f"no artefact {path}; give a run folder, .keras, SavedModel, .tflite or .onnx"
        )
    if path.is_dir():
        if (path / filenames.CONFIG).exists():
            return "run"
        if (path / "saved_model.pb").exists():
            return "saved_model"
        _require_one_run(path)
        raise InputError(
            f"{path} is neither a run folder (no config.json) nor a SavedModel (no "
            "saved_model.pb); give one, or a model file, before a folder of images"
        )
    if path.suffix in (".keras", ".tflite", ".onnx"):
        return path.suffix[1:]
    raise InputError(
        f"{path} is not an artefact; give a run folder, a .keras file, a SavedModel folder, a "
        ".tflite or an .onnx file"
    )


def _require_one_run(path: Path) -> None:
    """Raises InputError for a folder of several runs, such as that of a study."""
    runs = sorted(config.parent for config in path.glob(f"*/{filenames.CONFIG}"))
    if (path / filenames.STUDY).exists() or (runs and not (path / filenames.CONFIG).exists()):
        such = f", such as {runs[0]}" if runs else ""
        raise InputError(f"{path} contains several runs; give one of them{such}")


def require_trusted(path: StrPath, trust: bool) -> None:
    """Raises InputError for a SavedModel from elsewhere, unless its source is trusted.

    It may hold any TensorFlow operation, and loading it already executes some.
    """
    path = Path(path)
    if trust or kind_of(path) != "saved_model":
        return
    if path.resolve().name not in manifest.read(path.resolve().parent):
        raise InputError(
            f"{path} is a SavedModel that this package did not export; it can run any TensorFlow "
            "operation, such as writing a file; add --trust if you trust its source"
        )


def build(config: recipes.Config, num_classes: int, *, open_size: bool = False) -> "keras.Model":
    """The network of a `Config`, under the current dtype policy."""
    from keras_resnet import models

    height, width, channels = config.geometry.shape
    return models.build(
        config.model,
        num_classes,
        (None, None, channels) if open_size else (height, width, channels),
        normalize=config.normalize,
        zero_gamma=config.zero_gamma,
        drop_path=config.drop_path,
        width=config.width,
    )


def load_weights(model: "keras.Model", path: StrPath) -> None:
    """Loads the weights of a `.keras` file into a model of this package, without reading the
    configuration in the file.

    Raises:
        InputError: names or shapes in the file differ from the model's.
    """
    from keras_resnet.weights import readers

    arrays, wanted = readers.read(path).arrays, readers.variables(model)
    odd = [name for name in arrays.keys() | wanted.keys() if not _fits(name, arrays, wanted)]
    if odd:
        raise InputError(
            f"{path} is damaged or belongs to another model ({min(odd)} does not fit); restore it "
            "from a copy of the run, or train again"
        )
    for name, variable in wanted.items():
        variable.assign(arrays[name].read())


def _fits(name: str, arrays: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    both = name in arrays and name in wanted
    return both and arrays[name].shape == tuple(wanted[name].shape)


def save_keras(model: "keras.Model", path: StrPath) -> None:
    """`model.save` to a path that need not end in .keras."""
    named = Path(f"{path}.keras")
    try:
        model.save(named)
        os.replace(named, path)
    finally:
        named.unlink(missing_ok=True)


def _next_folder_of(config: recipes.Config) -> Path:
    return next_folder(f"{config.model}-{short_name(config.data).removeprefix('tfds-')}")


def short_name(data: StrPath) -> str:
    """A short name of a data set for folder names: the end of its path, or tfds-NAME-CONFIG."""
    # The absolute path, because "." has no name.
    name = os.path.basename(os.path.abspath(data)) if names.is_folder(data) else os.fspath(data)
    return re.sub(r"[^\w.-]+", "-", name).strip("-") or "data"


def _new_folder(config: recipes.Config) -> Path:
    """Makes a run folder with a new name."""
    while True:
        path = _next_folder_of(config)
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:  # another training made it at the same time
            continue


def next_folder(stem: str) -> Path:
    """The first folder `runs/STEM-NNN` that does not exist yet; InputError if all do."""
    for number in range(1, 100_000):
        path = RUNS / f"{stem}-{number:03d}"
        if not os.path.lexists(path):  # a broken link, as to an unmounted disk, also counts
            return path
    raise InputError(f"{RUNS}/ contains 99,999 runs called {stem}; give --run")
