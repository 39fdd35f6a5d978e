"""The results of the gate, the content of verify.json."""

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
    """Comparison of a file with the Keras model; a value that does not apply is None."""

    top1: float | None = None  # accuracy in 0…1; None for features
    drop_points: float | None = None  # top-1 of Keras minus that of the file, in percentage points
    # Confidence interval of the drop, each end at 95 %; see `evidence`.
    drop_interval: list[float] | None = None
    agreement: float | None = None  # share of images with the same class, in 0…1
    # Largest difference from Keras' output for the same pixels, in units of the file's output:
    # logits, probabilities or features.
    max_logit_diff: float | None = None
    rms_error: float | None = None  # RMS of the difference, relative to the RMS of Keras' output
    slope: float | None = None  # of the file's output against Keras'; 1 if it is not scaled
    # Share of the images that did not set the threshold that are rejected as "none of these", in
    # 0…1; None without a threshold, or without images.
    known_refused: float | None = None
    unknown_refused: float | None = None  # the same for images of no class
    # A trainable file is taught an artificial class with 20 images; this is the share of 20 others
    # that it recognizes, in 0…1.
    new_class_top1: float | None = None
    known_drop_points: float | None = None  # the drop in top-1 of the known classes by this
    latency_ms: float | None = None  # median of one image, on one thread


@dataclass(frozen=True, kw_only=True)
class ArtefactResult:
    """The result for one exported file. Numbers are None if it could not be compared."""

    file: str  # its path in the export
    bytes: int  # size of the file, or of all files of a SavedModel
    sha256: str  # as in manifest.json
    images: int  # number of classified images
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
    ops: dict[str, int] | None  # number of operators by name; None for a SavedModel
    # sha256 of the int8 file's logits for the golden set; None for others, or without the set.
    answers_sha256: str | None
    answers_repeat: bool | None  # whether it equals that of the export
    passed: bool  # whether all checks of the gate passed
    why: str  # the reasons if it did not pass


@dataclass(frozen=True)
class KerasResult:
    """The result of the Keras model on the same images."""

    top1: float
    known_refused: float | None  # as in `FileComparison`
    unknown_refused: float | None  # as in `FileComparison`


@dataclass(frozen=True)
class TriedFile:
    """A file that `--quantize auto` tried."""

    variant: str  # of --quantize
    file: str  # its name
    float_layers: list[str]  # the layers in float
    bytes: int  # of the file
    drop_points: float | None  # None if it did not run
    taken: bool  # whether it was published
    why: str  # the reason

    def __str__(self) -> str:
        layers = f" with {', '.join(self.float_layers)} in float" if self.float_layers else ""
        return f"{self.variant}{layers}: {'taken' if self.taken else 'not taken'}, {self.why}"


@dataclass(frozen=True, kw_only=True)
class Verification(Result):
    """The result of the gate; `as_json()` omits the parts that are None."""

    passed: bool  # whether all files passed
    images: int  # number of validation images that each file classified
    max_drop: float  # the allowed drop in top-1, in percentage points
    keras: KerasResult  # the Keras model, the reference
    artefacts: list[ArtefactResult]  # the exported files
    files: list[FileResult]  # the other files that an app reads
    min_agreement: float | None = None  # the least allowed `agreement`, if there is a limit
    evidence: str | None = None  # message if there are too few images to rule out a larger drop
    probabilities: TemperatureFit | None = None  # with --calibrate-probabilities
    rejection: RejectionFit | None = None  # the threshold for "none of these", if there is one
    candidates: list[TriedFile] | None = None  # files that --quantize auto tried
    quantization: Quantization | None = None  # with --explain-quantization

    @property
    def refused(self) -> list[tuple[str, str, str]]:
        """For each artefact, its name and, as text, the shares of the images of known classes and
        of no class that it rejects as "none of these"; empty without a threshold."""
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
