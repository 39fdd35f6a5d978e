"""What an export is to write: settled and checked once, before anything heavy is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypedDict, Unpack

from keras_resnet import filenames
from keras_resnet.errors import InputError
from keras_resnet.evaluation.contract import SCORES, Contract
from keras_resnet.exporting import onnx_file
from keras_resnet.run import Run

VARIANTS = tuple(filenames.TFLITE)
CALIBRATED = ("int8", "int16x8")  # variants that take calibration images
AUTO = "auto"
IO_TYPES = ("float", "uint8", "int8")
BUNDLES = ("android", "web", "python", "c")
# Calibration images; largest int8 logit error 2.6 with 200 samples, 0.43 with 1,297.
CALIBRATION = 500
MAX_DROP = 1.0  # points of top-1
IMAGES = 1000  # more than this many held-out images are sampled
# What a bundle takes, the smallest first. Only files with float ends: Android's CompiledModel has
# no uint8 buffers, and LiteRT.js takes no int8 ones.
BUNDLED = tuple(filenames.TFLITE[variant] for variant in ("int8", "dynamic", "float16", "none"))
NO_MODEL_TO_BUNDLE = "needs a .tflite file with float32 ends; add --tflite --quantize none"


class ExportOptions(TypedDict, total=False):
    """What `export` can be asked for; see there."""

    saved_model: bool
    tflite: Sequence[str]
    onnx: bool
    features: bool
    scores: str
    top: int | None
    input_size: tuple[int, int] | None
    calibrate_probabilities: bool
    io: str
    explain_quantization: bool
    calibration: int
    max_drop: float
    images: int
    bundles: Sequence[str]
    output: str | Path | None


class End(NamedTuple):
    """An input or output of a file."""

    shape: tuple[int | None, ...]  # None is an open side, or one that the network decides
    dtype: str


@dataclass(frozen=True)
class PlannedFile:
    """A file that an export writes: its ends by name."""

    name: str
    inputs: dict[str, End]
    outputs: dict[str, End]

    @property
    def has_float_ends(self) -> bool:
        return all(e.dtype == "float32" for e in (*self.inputs.values(), *self.outputs.values()))


@dataclass(frozen=True, kw_only=True)
class ExportPlan:
    """An export, from the run and from the options of the same names; valid once it is made.

    Raises:
        InputError: options that cannot be meant, alone or together.
    """

    # Of the run
    side: int  # of the square that the network takes, in pixels
    classes: Sequence[str]
    center_crop: float = 1.0  # the middle square of an image, as a share of its shorter side
    network: str = ""
    target: Path = Path(filenames.EXPORT)  # the folder to write
    # As asked for
    saved_model: bool = True
    tflite: Sequence[str] = ("none",)
    onnx: bool = False
    features: bool = False
    scores: str = "logits"
    top: int | None = None
    input_size: tuple[int, int] | None = None
    calibrate_probabilities: bool = False
    io: str = "float"
    explain_quantization: bool = False
    calibration: int = CALIBRATION
    max_drop: float = MAX_DROP
    images: int = IMAGES
    bundles: Sequence[str] = ()
    # Fitted on the way, where `calibrate_probabilities` asks for it
    temperature: float = 1.0

    def __post_init__(self) -> None:
        _check_variants(self)
        _check_ends(self)
        if self.onnx:
            onnx_file.require()
        require_limits(self.max_drop, self.images)
        _check_bundles(self)

    @property
    def contract(self) -> Contract:
        size = tuple(self.input_size) if self.input_size else None
        return Contract(self.scores, self.temperature, self.top, size)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the images that the files take."""
        return self.contract.input_size or (self.side, self.side)

    @property
    def is_auto(self) -> bool:
        return AUTO in self.tflite

    @property
    def variants(self) -> tuple[str, ...]:
        """Of the `.tflite` file, each once; with "auto", those from which it chooses one."""
        return VARIANTS if self.is_auto else tuple(dict.fromkeys(self.tflite))

    @property
    def is_calibrated(self) -> bool:
        """Whether a file takes calibration images."""
        return bool({AUTO, *CALIBRATED} & set(self.tflite))

    @property
    def files(self) -> tuple[PlannedFile, ...]:
        """The artefacts that will be written; with "auto", one alone of the variants."""
        kinds = {filenames.SAVED_MODEL: self.saved_model, filenames.ONNX: self.onnx}
        found = [self._file(name, batch=None) for name, wanted in kinds.items() if wanted]
        if self.features:
            found.append(self._file(filenames.FEATURES, outputs={"features": (None,)}))
        for variant in self.variants:
            is_raw = variant == "int8" and self.io != "float"
            name = filenames.TFLITE[variant]
            found.append(self._file(name, dtype=self.io if is_raw else "float32"))
        return tuple(found)

    @property
    def replaced(self) -> list[str]:
        """Names in the target that this export writes anew, or makes untrue."""
        names = [file.name for file in self.files]
        if self.is_auto:  # it publishes one file alone
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
        kinds = {"classes": "int32"}  # all other ends have the type of the input
        return PlannedFile(
            name,
            {"image": End((batch, *self.image_size, 3), dtype)},
            {key: End((batch, *one), kinds.get(key, dtype)) for key, one in shapes.items()},
        )

    @property
    def _outputs(self) -> dict[str, tuple[int | None, ...]]:
        """Name -> shape of the answer to one image."""
        if self.top:
            return {"scores": (self.top,), "classes": (self.top,)}
        return {"logits" if self.scores == "logits" else "scores": (len(self.classes),)}


def make_plan(run: Run, **options: Unpack[ExportOptions]) -> ExportPlan:
    """The plan of an export of a run.

    Args:
        run: the finished `Run`.
        options: as in `export`; `output` is where to write, None is `RUN/export/`.

    Raises:
        InputError: options that cannot be meant. TypeError: an option that there is not.
    """
    unknown = options.keys() - ExportOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"export() got an unexpected keyword argument {min(unknown)!r}")
    asked = dict(options)
    output = asked.pop("output", None)
    return ExportPlan(
        side=run.config.side,
        classes=run.classes,
        center_crop=run.config.center_crop,
        network=run.config.model,
        target=Path(output) if output else run.export_folder,
        **asked,
    )


def require_limits(max_drop: float, images: int) -> None:
    """InputError for limits of the gate that cannot be meant."""
    if not 0 <= max_drop <= 100:
        raise InputError(f"--max-drop is {max_drop}; expected points of top-1, 0 to 100")
    if images < 1:
        raise InputError(f"--images is {images}; expected at least 1")


def _check_variants(plan: ExportPlan) -> None:
    if isinstance(plan.tflite, str):
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
        raise InputError("--explain-quantization is about int8 files; add --quantize int8")
    if plan.calibration < 1:
        raise InputError(f"--calibration is {plan.calibration}; expected at least 1 image")
    if not (plan.saved_model or plan.onnx or plan.features or plan.tflite):
        raise InputError("nothing to export; ask for a SavedModel, variants of TFLite, or ONNX")


def _check_ends(plan: ExportPlan) -> None:
    """InputError for ends that no file can have."""
    if plan.scores not in SCORES:
        raise InputError(f"--scores {plan.scores}: use one of {', '.join(SCORES)}")
    top, count = plan.top, len(plan.classes)
    if top is not None and not 1 <= top <= count:
        raise InputError(f"--top is {top}; expected 1 to {count}, the number of classes")
    if top is not None and plan.scores != "softmax":
        raise InputError(f"--top {top} gives probabilities; add --scores softmax")
    if top is not None and (plan.saved_model or plan.onnx):
        raise InputError(f"--top {top} is for TFLite files; give --tflite alone")
    if not plan.input_size:
        return
    (height, width), side = plan.input_size, plan.side
    if min(height, width) < 1 or (height, width) == (side, side):
        raise InputError(
            f"--input-size is {height}x{width}; expected the size of a camera's frames, such as "
            f"480x640; the model's own size, {side}x{side}, is the default"
        )


def _check_bundles(plan: ExportPlan) -> None:
    """InputError for bundles that there are not, or that would have no model."""
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
            f"--bundle {plan.bundles[0]} does by itself what --scores, --top and --input-size do "
            "inside the file; leave them out"
        )
    made = [file.name for file in plan.files if file.has_float_ends]
    if not any(name in made or (plan.target / name).exists() for name in BUNDLED):
        raise InputError(f"--bundle {plan.bundles[0]} {NO_MODEL_TO_BUNDLE}")
