"""The plan of an export: its options, validated once, before TensorFlow is loaded."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, Unpack

from keras_resnet import filenames
from keras_resnet.choices import (
    AUTO,
    BUNDLES,
    CALIBRATION,
    IMAGES,
    IO_TYPES,
    MAX_DROP,
    SCORES,
    TRAINABLE,
    VARIANTS,
)
from keras_resnet.errors import InputError
from keras_resnet.evaluation.contract import Contract, Rejection
from keras_resnet.evaluation.trainable import SPARE
from keras_resnet.exporting import onnx_file
from keras_resnet.files import StrPath
from keras_resnet.geometry import LARGEST_SIDE, Geometry
from keras_resnet.run import Run
from keras_resnet.specs import CUSTOM

CALIBRATED = ("int8", "int16x8")  # variants that need calibration images
FLOAT = ("none", "float16")  # variants with float arithmetic
MOST_REJECTED = 0.5  # largest share of the images of known classes
# Files for bundles, the smallest first. Inputs and outputs must be float: Android's CompiledModel
# has no uint8 buffers, and LiteRT.js takes no int8 ones. A trainable file is preferred, except for
# the C bundle, which does not train.
_SMALLEST = tuple(filenames.TFLITE[variant] for variant in ("int8", "dynamic", "float16", "none"))
BUNDLED = {kind: (*[filenames.TRAINABLE] * (kind != "c"), *_SMALLEST) for kind in BUNDLES}
NO_MODEL_TO_BUNDLE = (
    "needs a .tflite file with float32 inputs and outputs; add --tflite --quantize none"
)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of the gate.

    Raises:
        InputError: a value is out of range.
    """

    max_drop: float = MAX_DROP  # of top-1, in percentage points
    images: int = IMAGES
    min_agreement: float | None = None  # least share of images with the same class, in 0…1
    require_evidence: bool = False  # whether there must be enough images to rule out a larger drop

    def __post_init__(self) -> None:
        _require_numbers(self, images=Integral, max_drop=Real, min_agreement=Real)
        drop, agreement = self.max_drop, self.min_agreement
        if not 0 <= drop <= 100:
            raise InputError(f"--max-drop is {drop}; expected points of top-1, 0 to 100")
        if self.images < 1:
            raise InputError(f"--images is {self.images}; expected at least 1")
        if agreement is not None and not 0 <= agreement <= 1:
            raise InputError(
                f"--min-agreement is {agreement}; expected a share of the images, 0 to 1"
            )
        if self.require_evidence and not drop:
            raise InputError(
                "--require-evidence with --max-drop 0: no number of images rules out every drop; "
                "allow one, such as --max-drop 0.5"
            )


def _require_numbers(given: object, **kinds: type) -> None:
    """InputError for a field not of its type in `kinds`, or None where that is not the default."""
    for name, kind in kinds.items():
        value = getattr(given, name)
        if value is None and getattr(type(given), name) is None:
            continue
        if isinstance(value, bool) or not isinstance(value, kind):
            what = "a whole number" if kind is Integral else "a number"
            raise InputError(f"--{name.replace('_', '-')} is {value!r}; expected {what}")


class LimitOptions(TypedDict, total=False):
    """The fields of `Limits`."""

    max_drop: float
    images: int
    min_agreement: float | None
    require_evidence: bool


class ExportOptions(LimitOptions, total=False):
    """The options of `export`."""

    saved_model: bool
    tflite: Sequence[str]
    onnx: bool
    features: bool
    trainable: str | None
    scores: str
    top: int | None
    input_size: tuple[int, int] | None
    calibrate_probabilities: bool
    reject: float | None
    unknown: StrPath | None
    io: str
    explain_quantization: bool
    calibration: int
    bundles: Sequence[str]
    output: StrPath | None


class PlannedTensor(NamedTuple):
    """An input or output tensor of a file."""

    shape: tuple[int | None, ...]  # None: any size, or set by the network
    dtype: str


@dataclass(frozen=True)
class PlannedFile:
    """A file that an export writes: its input and output tensors by name."""

    name: str
    inputs: dict[str, PlannedTensor]
    outputs: dict[str, PlannedTensor]

    @property
    def has_float_io(self) -> bool:
        return all(t.dtype == "float32" for t in (*self.inputs.values(), *self.outputs.values()))


@dataclass(frozen=True, kw_only=True)
class ExportPlan(Limits):
    """A valid export: properties of the run, and the options of `export` with the same names.

    Raises:
        InputError: invalid options or combinations of options.
    """

    # Of the run
    geometry: Geometry  # of the network's input
    classes: Sequence[str]
    center_crop: float = 1.0  # visible share of an image, as in `Geometry.window`
    network: str = ""
    seed: int = 0
    target: Path = Path(filenames.EXPORT)  # the folder to write
    # Options
    saved_model: bool = True
    tflite: Sequence[str] = ("none",)
    onnx: bool = False
    features: bool = False
    trainable: str | None = None
    scores: str = "logits"
    top: int | None = None
    input_size: tuple[int, int] | None = None
    calibrate_probabilities: bool = False
    reject: float | None = None
    unknown: StrPath | None = None
    io: str = "float"
    explain_quantization: bool = False
    calibration: int = CALIBRATION
    bundles: Sequence[str] = ()
    # Fitted during the export if `calibrate_probabilities`
    temperature: float = 1.0
    # Fitted during the export if `reject`
    rejection: Rejection | None = None

    def __post_init__(self) -> None:
        _require_numbers(self, calibration=Integral, top=Integral, reject=Real)
        _check_variants(self)
        _check_contract(self)
        require_rejection(self.reject, self.unknown)
        _check_trainable(self)
        if self.onnx:
            onnx_file.require()
        super().__post_init__()
        _check_bundles(self)

    @property
    def contract(self) -> Contract:
        size = (self.input_size[0], self.input_size[1]) if self.input_size else None
        return Contract(self.scores, self.temperature, self.top, size, self.rejection)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the input images of the files."""
        height, width, channels = self.geometry.shape
        return (*(self.contract.input_size or (height, width)), channels)

    @property
    def is_of_family(self) -> bool:
        """Whether the network is one of this package."""
        return self.network != CUSTOM.name

    @property
    def is_auto(self) -> bool:
        return AUTO in self.tflite

    @property
    def variants(self) -> tuple[str, ...]:
        """Variants of the `.tflite` file without repetitions; for "auto", the candidates."""
        return VARIANTS if self.is_auto else tuple(dict.fromkeys(self.tflite))

    @property
    def is_calibrated(self) -> bool:
        """Whether a variant needs calibration images."""
        return bool({AUTO, *CALIBRATED} & set(self.tflite))

    @property
    def files(self) -> tuple[PlannedFile, ...]:
        """The artefacts to write; with "auto", only one of the variants is written."""
        requested = {filenames.SAVED_MODEL: self.saved_model, filenames.ONNX: self.onnx}
        files = [self._file(name, batch=None) for name, on in requested.items() if on]
        if self.features:
            files.append(self._file(filenames.FEATURES, outputs={"features": (None,)}))
        if self.trainable:
            files.append(
                self._file(
                    filenames.TRAINABLE,
                    outputs={"logits": (len(self.classes) + SPARE,), "features": (None,)},
                )
            )
        for variant in self.variants:
            is_raw = variant == "int8" and self.io != "float"
            name = filenames.TFLITE[variant]
            files.append(self._file(name, dtype=self.io if is_raw else "float32"))
        return tuple(files)

    @property
    def replaced(self) -> list[str]:
        """Names in the target folder that this export replaces or invalidates."""
        names = [file.name for file in self.files]
        if self.is_auto:  # it publishes only one file
            return [*names, filenames.CALIBRATION, filenames.EXPLANATION]
        return [*names, *([filenames.EXPLANATION] if "int8" in self.variants else [])]

    def _file(
        self,
        name: str,
        *,
        batch: int | None = 1,
        dtype: str = "float32",
        outputs: dict[str, tuple[int | None, ...]] | None = None,
    ) -> PlannedFile:
        shapes = outputs or self._outputs
        dtypes = {"classes": "int32"}  # other outputs have the type of the input
        return PlannedFile(
            name,
            {"image": PlannedTensor((batch, *self.input_shape), dtype)},
            {
                key: PlannedTensor((batch, *one), dtypes.get(key, dtype))
                for key, one in shapes.items()
            },
        )

    @property
    def _outputs(self) -> dict[str, tuple[int | None, ...]]:
        """Name -> shape of the output for one image."""
        if self.top:
            return {"scores": (self.top,), "classes": (self.top,)}
        return {"logits" if self.scores == "logits" else "scores": (len(self.classes),)}


def make_plan(run: Run, **options: Unpack[ExportOptions]) -> ExportPlan:
    """The plan of an export of a run.

    Args:
        run: the finished `Run`.
        options: as in `export`; `output` is the folder to write, None: `RUN/export/`.

    Raises:
        InputError: invalid options, or an unfinished run.
        TypeError: an unknown option.
    """
    unknown = options.keys() - ExportOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"export() got an unexpected keyword argument {min(unknown)!r}")
    run.metrics  # noqa: B018 - raises for an unfinished run
    fields: dict[str, Any] = {  # an iterator would be used up by the first check
        name: list(value) if isinstance(value, Iterator) else value
        for name, value in options.items()
    }
    output = fields.pop("output", None)
    if output is not None and not os.fspath(output):
        raise InputError("--output is empty; give a folder, or leave it out for RUN/export")
    return ExportPlan(
        geometry=run.config.geometry,
        classes=run.classes,
        center_crop=run.config.center_crop,
        network=run.config.network,
        seed=run.config.seed,
        target=Path(output) if output else run.export_folder,
        **fields,
    )


def _check_variants(plan: ExportPlan) -> None:
    if isinstance(plan.tflite, str) or not isinstance(plan.tflite, Iterable):
        raise InputError(
            f"tflite is {plan.tflite!r}; expected a list of variants, such as ['int8']"
        )
    for variant in plan.tflite:
        if variant not in (*VARIANTS, AUTO):
            raise InputError(f"--quantize {variant}: use one of {', '.join(VARIANTS)}, auto")
    if plan.is_auto and len(set(plan.tflite)) > 1:
        raise InputError("--quantize auto chooses one file; leave the other variants out")
    has_int8 = "int8" in plan.variants
    if plan.io not in IO_TYPES:
        raise InputError(f"--io {plan.io}: use one of {', '.join(IO_TYPES)}")
    if plan.io != "float" and not has_int8:
        raise InputError(f"--io {plan.io} is for int8 files; add --quantize int8")
    if plan.explain_quantization and not has_int8:
        raise InputError("--explain-quantization is for int8 files; add --quantize int8")
    if plan.calibration < 1:
        raise InputError(f"--calibration is {plan.calibration}; expected at least 1 image")
    if plan.features and not plan.is_of_family:
        raise InputError(
            "--features is for networks of this package, not for other models; leave it out"
        )
    if not (plan.saved_model or plan.onnx or plan.features or plan.trainable or plan.tflite):
        raise InputError("nothing to export; ask for a SavedModel, variants of TFLite, or ONNX")


def _check_contract(plan: ExportPlan) -> None:
    """InputError for impossible inputs and outputs."""
    if plan.scores not in SCORES:
        raise InputError(f"--scores {plan.scores}: use one of {', '.join(SCORES)}")
    top, count = plan.top, len(plan.classes)
    if top is not None and not 1 <= top <= count:
        raise InputError(f"--top is {top}; expected 1 to {count}, the number of classes")
    if top is not None and plan.scores != "softmax":
        raise InputError(f"--top {top} gives probabilities; add --scores softmax")
    if top is not None and (plan.saved_model or plan.onnx):
        raise InputError(f"--top {top} is for TFLite files; give --tflite alone")
    if plan.input_size is None:
        return
    size, own = plan.input_size, (plan.geometry.height, plan.geometry.width)
    is_pair = isinstance(size, Sequence) and len(size) == 2
    is_size = is_pair and all(isinstance(side, Integral) for side in size)
    if not is_size or not 1 <= min(size) <= max(size) <= LARGEST_SIDE or tuple(size) == own:
        shown = "x".join(map(str, size)) if is_size else repr(size)
        raise InputError(
            f"--input-size is {shown}; expected height and width of a camera's frames, such as "
            f"480x640 (in Python (480, 640)), at most {LARGEST_SIDE:,} pixels; the model's own "
            f"size, {own[0]}x{own[1]}, is the default"
        )


def require_rejection(reject: float | None, unknown: StrPath | None) -> None:
    """InputError for an impossible share, and for images of no class without a threshold."""
    if unknown is not None and reject is None:
        raise InputError(
            "--unknown needs a threshold; add --reject and the share of the images of known "
            "classes that may be rejected, such as --reject 0.05"
        )
    if reject is not None and not 0 < reject <= MOST_REJECTED:
        raise InputError(
            f"--reject is {reject:g}; expected the share of the images of known classes that may "
            f"be rejected, above 0 and at most {MOST_REJECTED:g}, such as 0.05"
        )
    require_unknown(unknown)


def _check_trainable(plan: ExportPlan) -> None:
    """InputError for a trainable file of another package's network, or with other inputs or
    outputs than the model's."""
    if plan.trainable is None:
        return
    if plan.trainable not in TRAINABLE:
        raise InputError(f"--trainable {plan.trainable}: use {', '.join(TRAINABLE)}")
    if not plan.is_of_family:
        raise InputError(
            "--trainable is for networks of this package, not for other models; leave it out"
        )
    if not plan.contract.has_own_ends:
        raise InputError(
            "--trainable head gives logits for images of the model's own size; leave --scores, "
            "--top and --input-size out"
        )


def require_unknown(folder: StrPath | None) -> None:
    """InputError if the folder of images of no class does not exist."""
    if folder is not None and not Path(folder).is_dir():
        raise InputError(f"--unknown {folder}: no such folder; give one with images of no class")


def _check_bundles(plan: ExportPlan) -> None:
    """InputError for unknown bundles, and for bundles without a usable model file."""
    if isinstance(plan.bundles, str):
        raise InputError(
            f"bundles is {plan.bundles!r}; expected a list of bundles, such as ['python']"
        )
    for kind in plan.bundles:
        if kind not in BUNDLES:
            raise InputError(f"--bundle {kind}: use one of {', '.join(BUNDLES)}")
    if not plan.bundles:
        return
    if not plan.contract.has_own_ends:
        raise InputError(
            f"--bundle {plan.bundles[0]} itself does what --scores, --top and --input-size do "
            "inside the file; leave them out"
        )
    usable = [file.name for file in plan.files if file.has_float_io]
    for kind in plan.bundles:
        if not any(name in usable or (plan.target / name).exists() for name in BUNDLED[kind]):
            raise InputError(f"--bundle {kind} {NO_MODEL_TO_BUNDLE}")
