"""The gate: compares every artefact with the Keras model on validation images."""

import hashlib
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_resnet import filenames
from keras_resnet.data import preload
from keras_resnet.data.examples import Examples
from keras_resnet.data.stream import evaluation_stream
from keras_resnet.errors import CheckFailed, InputError
from keras_resnet.evaluation.artefact import Artefact, open_artefact, predict_stream
from keras_resnet.evaluation.contract import Contract, read_contract
from keras_resnet.evaluation.lite import Lite
from keras_resnet.evaluation.reference import true_float32
from keras_resnet.evaluation.scores import BATCH
from keras_resnet.exporting import publish, wrap
from keras_resnet.exporting.auto import Candidate
from keras_resnet.exporting.layer_error import Quantization
from keras_resnet.exporting.plan import IMAGES, MAX_DROP, ExportPlan, require_limits
from keras_resnet.exporting.temperature import TemperatureFit
from keras_resnet.files import read_json, write_json
from keras_resnet.inspection import onnx_file, tflite_file
from keras_resnet.messages import log
from keras_resnet.results import Result
from keras_resnet.run import Run, fingerprint, open_run
from keras_resnet.state import isolated

# float32 files do the same arithmetic in another order: rounding, relative to the largest logit.
FLOAT32_ERROR = 1e-4
_FLOAT32 = (filenames.TFLITE["none"], filenames.SAVED_MODEL, filenames.ONNX, filenames.FEATURES)
_CENSUS = {".tflite": tflite_file.census, ".onnx": onnx_file.census}
_TIMED_RUNS = 30


@dataclass(frozen=True)
class Comparison:
    """A file that ran, against the Keras model; None where it does not apply."""

    top1: float | None = None  # features have none
    drop_points: float | None = None  # from Keras' top-1, in percentage points
    agreement: float | None = None  # the share of images of the same class, in 0…1
    # From Keras' output for the same pixels, in units of the file's output: logits, probabilities
    # or features.
    max_logit_diff: float | None = None
    latency_ms: float | None = None  # median of one image, on one thread


@dataclass(frozen=True, kw_only=True)
class ArtefactResult:
    """The result of one exported file. It has no numbers if it could not be compared."""

    file: str
    bytes: int
    sha256: str
    images: int
    top1: float | None  # this and the next four as in `Comparison`
    drop_points: float | None
    agreement: float | None
    max_logit_diff: float | None
    latency_ms: float | None
    ops: dict[str, int] | None  # operators by name; None of a SavedModel
    passed: bool
    why: str  # the reasons if it did not pass


@dataclass(frozen=True)
class KerasResult:
    """The Keras model on the same images."""

    top1: float


@dataclass(frozen=True, kw_only=True)
class Verification(Result):
    """The result of the gate; `as_json()` leaves out the parts that are None."""

    passed: bool
    images: int
    max_drop: float  # the allowed drop in top-1, in percentage points
    keras: KerasResult
    artefacts: list[ArtefactResult]
    probabilities: TemperatureFit | None = None  # if they were calibrated
    candidates: list[Candidate] | None = None  # of an export that chose the variant
    quantization: Quantization | None = None  # of an export that explained it

    def as_json(self) -> dict[str, Any]:
        return {name: part for name, part in super().as_json().items() if part is not None}


@isolated()
@true_float32()
def verify(
    run: Run | str | Path | None = None, *, max_drop: float = MAX_DROP, images: int = IMAGES
) -> Verification:
    """Runs every exported file on validation images and compares it with the Keras model.

    Args:
        run: a `Run` or its path; None is the newest run.
        max_drop: how many points of top-1 a file may lose.
        images: at most this many images of the run's validation split.

    Returns:
        `Verification`, such as `verify(run).passed`; also written to `RUN/export/verify.json`.

    Raises:
        InputError: nothing has been exported.
    """
    require_limits(max_drop, images)
    run = open_run(run)
    folder = run.export_folder
    publish.restore(folder)
    if not artefacts(folder):
        quoted = shlex.quote(str(run.path))
        raise InputError(f"{run.path} has no exported files; `keras-resnet export {quoted}`")
    reference, contract = open_artefact(run), read_contract(folder)
    with run.naming_broken_images():
        judge = Judge(reference, run.examples("val"), contract, max_drop, images)
        files = (ExportedFile(path, run) for path in artefacts(folder))  # one at a time in memory
        result = check(folder, files, judge)
    write_json(folder / filenames.VERIFY, result.as_json())
    return result


def check(folder: Path, files: Iterable["ExportedFile"], judge: "Judge") -> Verification:
    """`verify` for the files in any folder; writes nothing."""
    recorded = _recorded(folder)
    rows = [judge.row(file, recorded.get(file.name)) for file in files]
    return Verification(
        passed=all(row.passed for row in rows),
        images=len(judge.examples),
        max_drop=judge.max_drop,
        keras=KerasResult(judge.top1),
        artefacts=rows,
        probabilities=_probabilities(folder),
    )


class ExportedFile:
    """An exported artefact, read once for its fingerprint, census and runtimes."""

    def __init__(self, path: Path, run: Run | None = None) -> None:
        self.path, self.name, self._run = path, path.name, run

    @cached_property
    def content(self) -> bytes | None:
        """None of a SavedModel, which is a folder."""
        return self.path.read_bytes() if self.path.is_file() else None

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """{bytes, sha256}, as `run.fingerprint` gives it."""
        if self.content is None:
            return fingerprint(self.path)
        digest = hashlib.sha256(self.content).hexdigest()
        return {"bytes": len(self.content), "sha256": digest}

    @property
    def ops(self) -> dict[str, int] | None:
        """Operators by name; None of a SavedModel."""
        count = _CENSUS.get(self.path.suffix)
        return count(self.path, self.content).ops if count else None

    @property
    def faults(self) -> list[str]:
        """Why a `.tflite` file must not be shipped."""
        return tflite_file.faults(self.path, self.content) if self.path.suffix == ".tflite" else []

    @cached_property
    def opened(self) -> Artefact:
        return self.open()

    def open(self, threads: int | None = None) -> Artefact:
        return open_artefact(self.path, threads=threads, run=self._run, content=self.content)


class Judge:
    """The reference of the gate: logits of a run's Keras model on its validation images.

    Args:
        reference: the run, opened.
        val: its validation images.
        contract: inputs and outputs of the files.
        max_drop: how many points of top-1 a file may lose.
        images: at most this many of the images are used.
        logits: of the model for all of `val`, where they were computed already.
    """

    def __init__(
        self,
        reference: Artefact,
        val: Examples,
        contract: Contract,
        max_drop: float,
        images: int,
        logits: np.ndarray | None = None,
    ) -> None:
        assert reference.run  # it is one, opened
        self._reference, self._contract, self.max_drop = reference, contract, max_drop
        chosen = _sample(len(val), images, reference.run.config.seed)
        self.examples = val.take(chosen)
        self._streams: dict[tuple[int, float], tf.data.Dataset] = {}
        self._expected = self._logits(reference) if logits is None else logits[chosen]
        self.top1 = _top1(self._expected, self.examples.labels)
        self._exact = self._same_pixels() if contract.input_size else self._expected

    def file(self, path: Path) -> ExportedFile:
        return ExportedFile(path, self._reference.run)

    def row(self, file: ExportedFile, recorded: Mapping[str, Any] | None = None) -> ArtefactResult:
        """The result of one file; `recorded` is its row of the manifest."""
        compare = self._compare_features if file.name == filenames.FEATURES else self._compare
        ops, found = None, Comparison()
        try:
            _require_unchanged(file, recorded)
            ops = file.ops
            found, largest = compare(file)
            reasons = [*file.faults, *_reasons(file.name, found, largest, self.max_drop)]
        except (InputError, CheckFailed) as error:
            reasons = [str(error)]
        return ArtefactResult(
            file=file.name,
            **file.fingerprint,
            images=len(self.examples),
            **vars(found),
            ops=ops,
            passed=not reasons,
            why="; ".join(reasons),
        )

    def _compare(self, file: ExportedFile) -> tuple[Comparison, float]:
        """The comparison, and the largest value of the Keras model's output."""
        logits = self._logits(file.opened)
        if not np.isfinite(logits).all():
            raise CheckFailed("logits that are not finite")
        latency, top1 = _latency(file), _top1(logits, self.examples.labels)
        difference, largest = self._contract.difference(logits, self._exact)
        found = Comparison(
            top1=top1,
            drop_points=round(100 * (self.top1 - top1), 4),
            agreement=float((logits.argmax(-1) == self._expected.argmax(-1)).mean()),
            max_logit_diff=difference,
            latency_ms=latency,
        )
        return found, largest

    def _compare_features(self, file: ExportedFile) -> tuple[Comparison, float]:
        """The same for `model_features.tflite`."""
        expect = wrap.features(self._plain_plan(), self._reference.model)
        lite, outputs, references = Lite(file.path, 1, file.content), [], []
        for images in self._frames():
            outputs.append(lite.predict(images))
            references.append(expect(images.astype(np.float32))["features"].numpy())
        found, expected = np.concatenate(outputs), np.concatenate(references)
        latency = _median_ms(partial(lite.predict, images[:1]))
        difference = float(np.abs(found - expected).max())
        comparison = Comparison(max_logit_diff=difference, latency_ms=latency)
        return comparison, float(np.abs(expected).max())

    def _same_pixels(self) -> np.ndarray:
        """The Keras model's logits `(n, k)` behind the crop and resize that the files do
        themselves.

        Its top-1 on photos as evaluation resizes them says what the files' resize costs; this says
        whether they compute it right.
        """
        serve = wrap.around(self._plain_plan(), self._reference.model)
        answers = (serve(images.astype(np.float32)) for images in self._frames())
        return np.concatenate([answer["logits"].numpy() for answer in answers])

    def _plain_plan(self) -> ExportPlan:
        """Logits from what the files take."""
        return ExportPlan(
            side=self._reference.image_size,
            classes=self._reference.classes,
            center_crop=self._reference.center_crop,
            input_size=self._contract.input_size,
        )

    def _frames(self) -> Iterator[np.ndarray]:
        """Batches of images as the files take them."""
        view = self._contract.view(self._reference.image_size, self._reference.center_crop)
        for squares, _ in self._stream(*view).as_numpy_iterator():
            yield self._contract.frames(squares)

    def _logits(self, opened: Artefact) -> np.ndarray:
        return predict_stream(opened, self._stream(opened.image_size, opened.center_crop))

    def _stream(self, size: int, crop: float) -> tf.data.Dataset:
        """The images, decoded once for all files if they fit into memory."""
        if (size, crop) not in self._streams:
            stream = evaluation_stream(self.examples, size=size, crop=crop, batch_size=BATCH)
            fits = len(self.examples) * size * size * 3 <= preload.budget()
            self._streams[size, crop] = stream.cache() if fits else stream
        return self._streams[size, crop]


def demand(result: Verification) -> None:
    """Raises `CheckFailed`, with every reason, unless the gate let all artefacts through."""
    if not result.passed:
        reasons = [f"{row.file}: {row.why}" for row in result.artefacts if not row.passed]
        raise CheckFailed("verify failed: " + "; ".join(reasons), result)


def _require_unchanged(file: ExportedFile, recorded: Mapping[str, Any] | None) -> None:
    if recorded and any(recorded[key] != value for key, value in file.fingerprint.items()):
        raise CheckFailed("changed since it was exported (another sha256); export it again")


def _reasons(name: str, found: Comparison, largest: float, max_drop: float) -> Iterator[str]:
    """Why the file must not be used."""
    if found.drop_points is not None and found.drop_points > max_drop:
        yield f"top-1 is {found.drop_points:.2f} points lower (allowed: {max_drop:g})"
    limit = FLOAT32_ERROR * largest
    if name in _FLOAT32 and found.max_logit_diff is not None and found.max_logit_diff > limit:
        output = "features" if name == filenames.FEATURES else "logits"
        yield (
            f"{output} differ by {found.max_logit_diff:.2g}, float32 rounding explains {limit:.2g}"
        )


def _probabilities(folder: Path) -> TemperatureFit | None:
    """What a calibration of the probabilities found when the files were exported, or None."""
    file = folder / filenames.PREPROCESS
    found = read_json(file).get("probabilities") if file.exists() else None
    return TemperatureFit(**found) if found else None


def _latency(file: ExportedFile) -> float:
    """Median milliseconds for one image; on one thread for a `.tflite` and an `.onnx`."""
    opened = file.opened if file.content is None else file.open(threads=1)
    image = np.random.default_rng(0).integers(
        0, 256, (1, opened.image_size, opened.image_size, 3), dtype=np.uint8
    )
    return _median_ms(partial(opened.predict, image))


def _median_ms(run: Callable[[], object]) -> float:
    run()  # warms up
    times = []
    for _ in range(_TIMED_RUNS):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return round(1000 * float(np.median(times)), 3)


def artefacts(folder: Path) -> list[Path]:
    """The exported artefacts in `folder`, in a fixed order."""
    found = [folder / name for name in filenames.ARTEFACTS]
    return [path for path in found if path.exists()]


def record(
    folder: Path, files: Iterable[ExportedFile], notes: Mapping[str, dict[str, Any]]
) -> None:
    """Saves the fingerprints of new artefacts, so that a later `verify` detects changes.

    `notes` are added to them: {name: {conversion: how it was made}}.
    """
    known = {k: v for k, v in _recorded(folder).items() if (folder / k).exists()}
    made = {file.name: file.fingerprint | notes.get(file.name, {}) for file in files}
    write_json(folder / filenames.MANIFEST, known | made)


def _recorded(folder: Path) -> dict[str, Any]:
    file = folder / filenames.MANIFEST
    return read_json(file) if file.exists() else {}


def _sample(total: int, count: int, seed: int) -> np.ndarray:
    """The numbers of at most `count` of `total` images."""
    if total <= count:
        return np.arange(total)
    log.info(f"judging by {count:,} of {total:,} validation images (--images)")
    return np.sort(np.random.default_rng(seed).permutation(total)[:count])


def _top1(logits: np.ndarray, labels: np.ndarray) -> float:
    return float((logits.argmax(-1) == labels).mean())
