"""Compares exported files with the Keras model on images, with reasons to reject a file."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import filenames, manifest
from keras_resnet.data import preload
from keras_resnet.data.examples import Examples
from keras_resnet.data.stream import evaluation_stream, images_of
from keras_resnet.errors import CheckFailed, InputError
from keras_resnet.evaluation import binomial
from keras_resnet.evaluation.artefact import Artefact, open_artefact, predict_stream
from keras_resnet.evaluation.contract import Contract, Deviation, deviation
from keras_resnet.evaluation.lite import Lite
from keras_resnet.evaluation.metrics import confusion_of
from keras_resnet.evaluation.scores import BATCH
from keras_resnet.evaluation.trainable import Trainable
from keras_resnet.exporting import (
    evidence,
    golden,
    guard,
    rejection,
    teaching,
    trainable,
    weights_check,
)
from keras_resnet.exporting.plan import Limits
from keras_resnet.exporting.verification import ArtefactResult, FileComparison, KerasResult
from keras_resnet.geometry import Geometry
from keras_resnet.inspection import onnx_file, tflite_file
from keras_resnet.messages import log
from keras_resnet.run import Run
from keras_resnet.specs import CUSTOM


class Allowed(NamedTuple):
    """Limits for the difference of a correct file's outputs from the model's."""

    what: str  # the cause of such differences
    most: float = 1.0  # largest difference, relative to the largest expected value
    rms: float = 1.0  # as in `Deviation`
    slope: float = 1.0  # largest difference of the slope from 1


# float32 files do the same arithmetic in another order.
_FLOAT32 = Allowed("float32 rounding", most=1e-4)
_ALLOWED = {
    filenames.TFLITE["float16"]: Allowed("rounding of weights to float16", most=0.005),
    filenames.TFLITE["dynamic"]: Allowed("int8 weights", rms=0.1, slope=0.05),
    filenames.TFLITE["int16x8"]: Allowed("int8 weights", rms=0.1, slope=0.05),
    filenames.TFLITE["int8"]: Allowed("int8", rms=0.25, slope=0.15),
}
# Networks of other packages may have layers that quantize badly, such as swish and
# squeeze-and-excitation.
_QUANTIZED = tuple(filenames.TFLITE[name] for name in ("dynamic", "int8", "int16x8"))
TOO_COARSE = "the file has the kernels of the model: integers are too coarse for this network"
_CENSUS = {".tflite": tflite_file.census, ".onnx": onnx_file.census}
_TIMED_RUNS = 30
_SHIFTS = {"down": (1, 1), "up": (-1, 1), "right": (1, 2), "left": (-1, 2)}  # by, axis
_FEW_SHIFTED = 4  # too few images for a standard error
_SHIFTED = 250  # maximum number of images whose frames are shifted
_KNOWN_IMAGES = 200  # maximum number of images to test that a trainable file does not forget
_UNLIKELY = 3  # standard deviations of counts


class ExportedFile:
    """An exported artefact, read once for its fingerprint, operators and runtimes."""

    def __init__(self, path: Path, run: Run | None = None) -> None:
        self.path, self.name, self._run = path, path.name, run

    @cached_property
    def content(self) -> bytes | None:
        """The bytes of the file; None for a SavedModel, which is a folder."""
        return self.path.read_bytes() if self.path.is_file() else None

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """{bytes, sha256}"""
        return manifest.fingerprint(self.path, self.content)

    @property
    def ops(self) -> dict[str, int] | None:
        """Number of operators by name; None for a SavedModel."""
        count = _CENSUS.get(self.path.suffix)
        return count(self.path, self.content).ops if count else None

    @property
    def faults(self) -> list[str]:
        """The reasons why a `.tflite` file must not be published."""
        return tflite_file.faults(self.path, self.content) if self.path.suffix == ".tflite" else []

    @cached_property
    def opened(self) -> Artefact:
        return self.open()

    def open(self, threads: int | None = None) -> Artefact:
        return open_artefact(self.path, threads=threads, run=self._run, content=self.content)


class Judge:
    """The reference of the gate: logits of a run's Keras model on its validation images.

    Args:
        reference: the opened run.
        val: its validation images.
        contract: inputs and outputs of the files.
        limits: limits of the gate.
        logits: logits of the model for all of `val`, if they were computed already.
        unknown: images of no class, if there is a threshold.
    """

    def __init__(
        self,
        reference: Artefact,
        val: Examples,
        contract: Contract,
        limits: Limits,
        logits: np.ndarray | None = None,
        unknown: Examples | None = None,
    ) -> None:
        assert reference.run and reference.model  # the artefact of a run has both
        self._run, self._model = reference.run, reference.model
        self._reference, self._contract, self.limits = reference, contract, limits
        seed = self._run.config.seed
        chosen = _sample(len(val), limits.images, seed)
        self.held_out, self.examples = val, val.take(chosen)
        # The images that neither set the threshold for "none of these" nor selected its score.
        self._judged, self._unknown = np.zeros(len(chosen), bool), None
        if contract.reject:
            _, judged = rejection.halves(len(val), contract.reject.share, seed)
            self._judged = np.isin(chosen, judged)
            self._unknown = unknown and unknown.take(rejection.judged_unknown(len(unknown), seed))
        self._streams: dict[tuple[int, Geometry, float], tf.data.Dataset] = {}
        self._expected = self._logits(reference) if logits is None else logits[chosen]
        self.top1 = _top1(self._expected, self.examples.labels)
        self.keras = KerasResult(self.top1, **self._refused(reference, self._expected))
        self._exact = self._same_pixels() if contract.input_size else self._expected
        # By artefact: bool `(n,)`
        self._is_clear: dict[str, np.ndarray] = {}
        self._is_refused: dict[str, np.ndarray] = {}

    @cached_property
    def head(self) -> trainable.Head:
        """The `Head` of a trainable file."""
        return trainable.fit(self._run, self._model, self._contract.temperature)

    def file(self, path: Path) -> ExportedFile:
        return ExportedFile(path, self._run)

    @property
    def rejects(self) -> bool:
        """Whether there is a threshold for "none of these"."""
        return self._contract.reject is not None

    def is_clear(self) -> np.ndarray:
        """The examples with a clear prediction in every file so far, bool `(n,)`."""
        clear = np.ones(len(self.examples), bool)
        return np.logical_and.reduce([clear, *self._is_clear.values()])

    def is_refused(self) -> np.ndarray:
        """The examples that every file so far clearly rejects, bool `(n,)`."""
        none = np.zeros(len(self.examples), bool)
        return np.logical_and.reduce([*self._is_refused.values()]) if self._is_refused else none

    def require_order(self) -> None:
        """InputError if the labels are clearly a permutation of the model's classes."""
        classes = self._reference.classes
        counts = _counts(self._expected, self.examples.labels)
        best, most, own = counts.argmax(1), counts.max(1), counts.diagonal()
        is_moved = most - own > _UNLIKELY * np.sqrt(most + own)
        if not is_moved.any() or len(set(best)) < len(best):
            return
        k = int(np.argmax(most * is_moved))
        raise InputError(
            f"the labels are not in the order of the outputs of the model: output {k} is called "
            f"{classes[k]!r}, and {most[k]} of its {counts[k].sum()} images are of "
            f"{classes[best[k]]!r}; give --labels in the order of the outputs"
        )

    def doubt(self, is_imported: bool) -> str | None:
        """The warning if the model itself is hardly better than random guessing; else None.

        Args:
            is_imported: whether the model was imported with user-defined labels and preprocessing.
        """
        images, classes = self._expected.shape
        # The best guess is the largest class.
        chance = np.bincount(self.examples.labels).max() / images
        if not binomial.may_be_guesses(round(self.top1 * images), images, 1 / chance):
            return None
        found = (
            f"the model's own top-1 is {self.top1:.0%} of {images:,} images in {classes} classes, "
            f"where guessing gives {chance:.0%}; "
        )
        if not is_imported:
            return found + "train longer, or on more images"
        counts = _counts(self._expected, self.examples.labels)
        if counts.max(1).sum() / images > (1 + 1 / classes) / 2:
            return (
                found
                + "it separates the classes, but under other names: --labels is in a different "
                "order"
            )
        return found + "check --labels and --normalize"

    def row(self, file: ExportedFile, recorded: Mapping[str, Any] | None = None) -> ArtefactResult:
        """The result of one file.

        Args:
            file: the file.
            recorded: its row of the manifest, {} if it has none; None: the file is new.
        """
        is_classifier = file.name != filenames.FEATURES
        ops, found, answers = None, FileComparison(), golden.Replay()
        try:
            if recorded is not None:
                _require_recorded(file, recorded)
            ops = file.ops
            found, reasons = self._compare(file) if is_classifier else self._compare_features(file)
            reasons = [*file.faults, *reasons]
            if recorded is not None and is_classifier and self._contract.has_own_ends:
                answers = golden.replay(file)
                reasons += [answers.reason] if answers.reason else []
        except (InputError, CheckFailed) as error:
            reasons = [str(error)]
        return ArtefactResult(
            file=file.name,
            **file.fingerprint,
            images=len(self.examples),
            **vars(found),
            ops=ops,
            answers_sha256=answers.sha256,
            answers_repeat=answers.repeats,
            passed=not reasons,
            why="; ".join(reasons),
        )

    def _compare(self, file: ExportedFile) -> tuple[FileComparison, list[str]]:
        """The comparison, and the reasons why the file must not be used."""
        logits = self._logits(file.opened)
        if not np.isfinite(logits).all():
            raise CheckFailed("logits that are not finite")
        latency, labels = _latency(file), self.examples.labels
        best = np.sort(logits, -1)[:, -2:]
        tolerance = golden.tolerance(file.name, logits)
        is_clear = best[:, -1] - best[:, 0] > golden.LEAST_MARGIN * tolerance
        if self._contract.reject:
            is_decided = self._contract.reject.is_decided(logits, tolerance)
            is_clear &= is_decided
            self._is_refused[file.name] = is_decided & self._contract.rejects(logits)
        self._is_clear[file.name] = is_clear
        guesses, expected = logits.argmax(-1), self._expected.argmax(-1)
        lost = int(((expected == labels) & (guesses != labels)).sum())
        gained = int(((expected != labels) & (guesses == labels)).sum())
        deviation = self._contract.compare(logits, self._exact)
        found = FileComparison(
            top1=float((guesses == labels).mean()),
            drop_points=round(100 * (lost - gained) / len(labels), 4),
            drop_interval=list(evidence.drop_interval(lost, gained, len(labels))),
            agreement=float((guesses == expected).mean()),
            max_logit_diff=deviation.most,
            rms_error=deviation.rms,
            slope=deviation.slope,
            latency_ms=latency,
            **self._refused(file.opened, logits),
        )
        drop = Fraction(100 * (lost - gained), len(labels))
        reasons = [*self._class_reasons(found, drop), *_output_reasons(file.name, deviation)]
        if self._contract.input_size:
            reasons += self._shift_reasons(logits)
        reasons += self._rejection_reasons(logits)
        if file.opened.lite:
            constants = file.opened.lite.constants()
            others = list(weights_check.differences(self._weights, constants))
            if reasons and self._is_foreign and file.name in _QUANTIZED and not others:
                reasons.append(TOO_COARSE)
            reasons += others
        if file.name == filenames.TRAINABLE:
            taught = self._teach(file)
            found = replace(
                found, new_class_top1=taught.recognized, known_drop_points=taught.drop_points
            )
            reasons += taught.reasons
        return found, reasons

    def _teach(self, file: ExportedFile) -> teaching.Taught:
        """Teaches a trainable file a made-up class."""
        count = min(len(self.examples), _KNOWN_IMAGES)
        examples = self.examples.take(np.linspace(0, len(self.examples) - 1, count).astype(int))
        opened = self._reference
        known = images_of(examples, size=opened.geometry, crop=opened.center_crop)
        photos = teaching.mosaics(opened.geometry.shape)[: teaching.PHOTOS]
        expected = [
            self.head.features(*trainable.pooled_and_logits(self._model, images))
            for images in (photos, known)
        ]
        first, second = (Trainable(file.path, file.content) for _ in range(2))
        return teaching.teach(
            first, second, self.head, known, examples.labels, (expected[0], expected[1]),
            self.limits.max_drop,
        )  # fmt: skip

    @property
    def _is_foreign(self) -> bool:
        return self._run.config.model == CUSTOM.name

    @cached_property
    def _weights(self) -> list[weights_check.Weights]:
        if self._is_foreign:
            return weights_check.kernels(self._model)
        return weights_check.expected_weights(self._model, self._contract.temperature)

    def _class_reasons(self, found: FileComparison, drop: Fraction) -> Iterator[str]:
        """Reasons in the predicted classes of a file; `drop` is exact, in points."""
        assert found.drop_interval and found.agreement is not None  # a classifier has both
        limits = self.limits
        if drop > Fraction(str(limits.max_drop)):
            yield (
                f"top-1 is {float(drop):.4g} points lower (allowed: {limits.max_drop:g})"
                f"{self._cause() or evidence.of_one_image(len(self.examples), limits.max_drop)}"
            )
        elif limits.require_evidence and found.drop_interval[1] > limits.max_drop:
            yield evidence.too_few(len(self.examples), limits.max_drop)
        if limits.min_agreement is not None and found.agreement < limits.min_agreement:
            yield (
                f"predicts the class of the Keras model for {found.agreement:.2%} of the images "
                f"(minimum: {limits.min_agreement:.2%})"
            )

    def _refused(self, opened: Artefact, logits: np.ndarray) -> dict[str, float | None]:
        """The shares of images that an artefact rejects, as in `FileComparison`, from its logits
        for `self.examples`."""
        known = self._rejects(opened, logits)[self._judged]
        unknown = None
        if self._unknown is not None:
            unknown = self._rejects(opened, self._logits(opened, self._unknown)).mean()
        return {
            "known_refused": float(known.mean()) if known.size else None,
            "unknown_refused": None if unknown is None else float(unknown),
        }

    def _rejects(self, opened: Artefact, logits: np.ndarray) -> np.ndarray:
        """Whether images are rejected, from the output of a file or of the model."""
        is_model = opened is self._reference
        return self._contract.rejects(self._contract.expected(logits) if is_model else logits)

    def _rejection_reasons(self, logits: np.ndarray) -> Iterator[str]:
        """The reason if more images of known classes are rejected than chance explains."""
        reject = self._contract.reject
        if not reject:
            return
        judged = int(self._judged.sum())
        refused = int(self._contract.rejects(logits)[self._judged].sum())
        most = rejection.most_refused(judged, reject)
        if refused > most:
            yield (
                f'answers {refused} of {judged} images of known classes with "none of these" '
                f"({refused / judged:.1%}); allowed: {reject.share:.1%}, by chance up to {most}"
            )

    def _cause(self) -> str:
        """The message if the crop and resize inside the files cause the drop; else ""."""
        top1 = _top1(self._exact, self.examples.labels)
        lost, form = 100 * (self.top1 - top1), self._reference.geometry
        if lost <= self.limits.max_drop:
            return ""
        also = "shape of the frame and the " if form.fit == "pad" else ""
        return (
            f"; the cause is the {also}bilinear resize inside the file, with which the Keras model "
            f"loses {lost:.4g} points: leave --input-size out, or give one closer to "
            f"{form.image_size} pixels"
        )

    def _compare_features(self, file: ExportedFile) -> tuple[FileComparison, list[str]]:
        """`_compare` for `model_features.tflite`."""
        pooled = keras.Model(self._model.input, self._model.get_layer("avg_pool").output)
        lite, outputs, references = Lite(file.path, 1, file.content), [], []
        for images in self._frames():
            outputs.append(lite.predict(images))
            references.append(pooled(self._seen(images), training=False).numpy())
        found, expected = np.concatenate(outputs), np.concatenate(references)
        if not np.isfinite(found).all():
            raise CheckFailed("features that are not finite")
        differences = deviation(found, expected)
        comparison = FileComparison(
            max_logit_diff=differences.most,
            rms_error=differences.rms,
            slope=differences.slope,
            latency_ms=_median_ms(partial(lite.predict, images[:1])),
        )
        return comparison, list(_output_reasons(file.name, differences))

    def _same_pixels(self) -> np.ndarray:
        """The Keras model's logits `(n, k)` after the crop and resize that are inside the files.

        The reference for the arithmetic of the files. Compared with the logits for photos that are
        resized as in evaluation, it gives the cost of the resize in the files.
        """
        seen = map(self._seen, self._frames())
        return np.concatenate([self._model(x, training=False).numpy() for x in seen])

    def _shift_reasons(self, logits: np.ndarray) -> Iterator[str]:
        """The reason if a file crops its frames one pixel off the centre.

        int8 rounding may change the logits more than such a shift, but not in the same direction.
        """
        for direction, shifted in self._shifted.items():
            chosen = slice(None, None, self._every)
            outputs = self._contract.outputs(logits[chosen], self._exact[chosen], shifted)
            found, exact, moved = outputs
            if _is_moved(found - exact, moved - exact):
                yield (
                    "has the outputs of the Keras model for frames shifted by one pixel "
                    f"{direction}"
                )

    @cached_property
    def _shifted(self) -> dict[str, np.ndarray]:
        """The Keras model's logits for some frames shifted by one pixel, by direction."""
        logits: dict[str, list[np.ndarray]] = {direction: [] for direction in _SHIFTS}
        done, every = 0, self._every
        for frames in self._frames():
            chosen = frames[-done % every :: every]
            done += len(frames)
            for direction, (by, axis) in _SHIFTS.items() if len(chosen) else ():
                seen = self._seen(np.roll(chosen, by, axis))
                logits[direction].append(self._model(seen, training=False).numpy())
        return {direction: np.concatenate(parts) for direction, parts in logits.items()}

    @property
    def _every(self) -> int:
        """The stride over the images for shifted frames."""
        return math.ceil(len(self.examples) / _SHIFTED)

    def _seen(self, frames: np.ndarray) -> tf.Tensor:
        """The expected network input for frames: cropped and resized by Keras, not by the code that
        is in the files."""
        if not self._contract.input_size:
            return tf.cast(frames, tf.float32)
        form = self._reference.geometry
        _, _, *cut = form.window(*self._contract.input_size, self._reference.center_crop)
        part = keras.layers.CenterCrop(*cut, data_format="channels_last")(frames)
        height, width = form.resized(*cut)
        resized = keras.ops.image.resize(
            part, (height, width), interpolation="bilinear", data_format="channels_last"
        )
        # After the resize, as in the files; Keras' pad_to_aspect_ratio pads before it.
        return keras.ops.pad(resized, ((0, 0), *form.borders(height, width), (0, 0)))

    def _frames(self) -> Iterator[np.ndarray]:
        """Batches of input images for the files."""
        view = self._contract.view(self._reference.geometry, self._reference.center_crop)
        for squares, _ in self._stream(*view, self.examples).as_numpy_iterator():
            yield self._contract.frames(squares)

    def _logits(self, opened: Artefact, examples: Examples | None = None) -> np.ndarray:
        """Logits of an artefact for `examples`, by default the validation images."""
        stream = self._stream(opened.geometry, opened.center_crop, examples or self.examples)
        return predict_stream(opened, stream)

    def _stream(self, size: Geometry, crop: float, examples: Examples) -> tf.data.Dataset:
        """Batches of the images, decoded once for all files if they fit into memory."""
        key = (id(examples), size, crop)
        if key not in self._streams:
            stream = evaluation_stream(examples, size=size, crop=crop, batch_size=BATCH)
            fits = len(examples) * math.prod(size.shape) <= preload.budget()
            self._streams[key] = stream.cache() if fits else stream
        return self._streams[key]


def _require_recorded(file: ExportedFile, recorded: Mapping[str, Any]) -> None:
    if not recorded:
        raise CheckFailed(guard.NO_ROW)
    if not manifest.is_of(file.fingerprint, recorded):
        raise CheckFailed(guard.CHANGED)


def _output_reasons(name: str, found: Deviation) -> Iterator[str]:
    """Reasons in the deviation of a file's outputs."""
    allowed = _ALLOWED.get(name, _FLOAT32)
    output = "features" if name == filenames.FEATURES else "logits"
    most = allowed.most * found.largest
    if found.most > most:
        yield f"{output} differ by {found.most:.2g}; {allowed.what} allows {most:.2g}"
    if found.rms > allowed.rms:
        yield (
            f"{output} differ by {found.rms:.1%} of their size (root mean square); {allowed.what} "
            f"allows {allowed.rms:.1%}"
        )
    if abs(found.slope - 1) > allowed.slope:
        yield (
            f"{output} are scaled by {found.slope:.3f}; {allowed.what} allows "
            f"{1 - allowed.slope:g} to {1 + allowed.slope:g}"
        )


def _is_moved(difference: np.ndarray, shift: np.ndarray) -> bool:
    """Whether the difference `(n, k)` of outputs is clearly explained by a shift `(n, k)`: its
    regression coefficient on the shift, 0 for a correct file, is closer to 1 by three standard
    errors (of a ratio over images)."""
    power = float(np.square(shift, dtype=np.float64).sum())
    if not power or len(shift) < _FEW_SHIFTED:
        return False
    along = np.multiply(difference, shift, dtype=np.float64).sum(-1)
    share = along.sum() / power
    rest = along - share * np.square(shift, dtype=np.float64).sum(-1)
    error = float(np.sqrt(np.square(rest).sum())) / power
    return 0.5 + 3 * error < share < 1.5


def _latency(file: ExportedFile) -> float:
    """Median milliseconds for one image; one thread for a `.tflite` and an `.onnx`."""
    opened = file.opened if file.content is None else file.open(threads=1)
    image = np.random.default_rng(0).integers(0, 256, (1, *opened.geometry.shape), dtype=np.uint8)
    return _median_ms(partial(opened.predict, image))


def _median_ms(run: Callable[[], object]) -> float:
    run()  # warms up
    times = []
    for _ in range(_TIMED_RUNS):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return round(1000 * float(np.median(times)), 3)


def _sample(total: int, count: int, seed: int) -> np.ndarray:
    """Indices of at most `count` of `total` images."""
    if total <= count:
        return np.arange(total)
    log.info(
        f"judging by {count:,} of {total:,} validation images; --images of export and "
        "verify changes that"
    )
    return np.sort(np.random.default_rng(seed).permutation(total)[:count])


def _top1(logits: np.ndarray, labels: np.ndarray) -> float:
    return float((logits.argmax(-1) == labels).mean())


def _counts(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Number of images by predicted class (rows) and true class, int `(k, k)`."""
    return confusion_of(labels, logits.argmax(-1), logits.shape[-1]).T
