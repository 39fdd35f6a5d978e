"""The records of the gate: what verify.json holds."""

from dataclasses import dataclass
from typing import Any

from keras_resnet import filenames
from keras_resnet.exporting.guard import FileResult
from keras_resnet.exporting.layer_error import Quantization
from keras_resnet.exporting.rejection import RejectionFit
from keras_resnet.exporting.temperature import TemperatureFit
from keras_resnet.results import Result


@dataclass(frozen=True)
class FileComparison:
    """A file that ran, against the Keras model; None where it does not apply."""

    top1: float | None = None  # accuracy in 0…1; features have none
    drop_points: float | None = None  # Keras' top-1 less that of the file, in percentage points
    # The least and the largest drop that such a result is likely for, each at 95 %: see `evidence`.
    drop_interval: list[float] | None = None
    agreement: float | None = None  # the share of images of the same class, in 0…1
    # From Keras' output for the same pixels, in units of the file's output: logits, probabilities
    # or features.
    max_logit_diff: float | None = None
    rms_error: float | None = None  # root mean square of that, as a share of Keras' outputs'
    slope: float | None = None  # of the file's outputs against Keras'; 1 if none is scaled
    # Answered with "none of these": of the images that did not set the threshold, in 0…1; None
    # without a threshold, or without images.
    known_refused: float | None = None
    unknown_refused: float | None = None  # the same of images of no class
    # Of a trainable file that was taught a made-up class with 20 images: the share of 20 others
    # that it recognizes, in 0…1.
    new_class_top1: float | None = None
    known_drop_points: float | None = None  # points of top-1 that the known classes lose by that
    latency_ms: float | None = None  # median of one image, on one thread


@dataclass(frozen=True, kw_only=True)
class ArtefactResult:
    """The result of one exported file. It has no numbers if it could not be compared."""

    file: str  # its path in the export
    bytes: int  # of the file, or of all files of a SavedModel
    sha256: str  # of the same, as in manifest.json
    images: int  # that it classified
    top1: float | None  # this and the next eleven as in `FileComparison`
    drop_points: float | None
    drop_interval: list[float] | None
    agreement: float | None
    max_logit_diff: float | None
    rms_error: float | None
    slope: float | None
    known_refused: float | None
    unknown_refused: float | None
    new_class_top1: float | None
    known_drop_points: float | None
    latency_ms: float | None
    ops: dict[str, int] | None  # operators by name; None of a SavedModel
    # Of the int8 file's logits for the golden set; None of others, and before the set is there.
    answers_sha256: str | None
    answers_repeat: bool | None  # whether that is the sha256 of the export
    passed: bool  # whether all checks of the gate passed
    why: str  # the reasons if it did not pass


@dataclass(frozen=True)
class KerasResult:
    """The Keras model on the same images."""

    top1: float
    known_refused: float | None  # as in `FileComparison`
    unknown_refused: float | None  # as in `FileComparison`


@dataclass(frozen=True)
class TriedFile:
    """A file that was tried."""

    variant: str  # of --quantize
    file: str  # its name
    float_layers: list[str]  # the layers that were left in float
    bytes: int  # of the file
    drop_points: float | None  # None if it did not run
    taken: bool  # whether it was published
    why: str  # the reason

    def __str__(self) -> str:
        layers = f" with {', '.join(self.float_layers)} in float" if self.float_layers else ""
        return f"{self.variant}{layers}: {'taken' if self.taken else 'not taken'}, {self.why}"


@dataclass(frozen=True, kw_only=True)
class Verification(Result):
    """The result of the gate; `as_json()` leaves out the parts that are None."""

    passed: bool  # whether all files passed
    images: int  # validation images that each file classified
    max_drop: float  # the allowed drop in top-1, in percentage points
    keras: KerasResult  # the Keras model, the reference
    artefacts: list[ArtefactResult]  # the exported files
    files: list[FileResult]  # what an app reads beside them
    min_agreement: float | None = None  # the least `agreement`, if there is a limit
    evidence: str | None = None  # why the images are too few to rule out a larger drop
    probabilities: TemperatureFit | None = None  # their temperature, if they were calibrated
    rejection: RejectionFit | None = None  # the threshold for "none of these", if there is one
    candidates: list[TriedFile] | None = None  # what --quantize auto tried
    quantization: Quantization | None = None  # the int8 error by layer, of --explain-quantization

    @property
    def refused(self) -> list[tuple[str, str, str]]:
        """Of each artefact, its name and the shares of the images of known classes and of no class
        that it answers with "none of these", in words; empty without a threshold."""
        rows = {filenames.MODEL: self.keras} | {row.file: row for row in self.artefacts}
        return [
            (
                name,
                f"{row.known_refused:.1%}",
                "" if row.unknown_refused is None else f"{row.unknown_refused:.1%}",
            )
            for name, row in rows.items()
            if self.rejection and row.known_refused is not None
        ]

    def as_json(self) -> dict[str, Any]:
        return {name: part for name, part in super().as_json().items() if part is not None}
