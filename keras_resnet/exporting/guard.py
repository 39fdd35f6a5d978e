"""Checks the files that an app reads beside the artefacts: labels, preprocessing, golden set,
bundles.

Each such file has a row in the manifest of the export. The code in the bundles has none, because
users are expected to change it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from keras_resnet import filenames, manifest
from keras_resnet.choices import BUNDLES
from keras_resnet.errors import InputError
from keras_resnet.evaluation.contract import PLAIN, Contract, read_contract
from keras_resnet.exporting.plan import ExportPlan, make_plan
from keras_resnet.exporting.rejection import RejectionFit
from keras_resnet.exporting.temperature import TemperatureFit
from keras_resnet.files import read_json, read_lines, write_json
from keras_resnet.geometry import LUMA, Geometry
from keras_resnet.run import Run

NO_ROW = "has no row in manifest.json; export it again"
CHANGED = "changed since it was exported (another sha256); export it again"
_GOLDEN_INDEX = f"{filenames.GOLDEN}/{filenames.GOLDEN_INDEX}"
_BUNDLES = tuple(f"{filenames.BUNDLE}{kind}" for kind in BUNDLES)
_BUNDLED = (filenames.BUNDLED_MODEL, filenames.LABELS, filenames.PREPROCESS)
_OUTPUTS = {
    "logits": "logits; a softmax over the last axis gives probabilities",
    "softmax": "scores: probabilities of all classes",
    "top": "scores: the best probabilities; classes: their places in labels.txt",
}


# Whether, and how, the resize of a `Geometry` keeps the aspect ratio.
_RESIZED = {
    "crop": "",
    "pad": "; to fit inside, in the middle of black",
    "stretch": "; both sides independently",
}
_LUMA = "luma: ({} R + {} G + {} B + 32768) >> 16, of the resized RGB pixels".format(*LUMA)


@dataclass(frozen=True)
class FileResult:
    """The result of a file that an app reads beside the artefacts."""

    file: str  # its path in the export
    passed: bool  # whether it is unchanged since the export
    why: str  # the reason if it did not pass


def record(folder: Path, made: Mapping[str, Mapping[str, Any]]) -> None:
    """Adds rows, by name, to the manifest of an export, and removes those of missing files."""
    known = {name: row for name, row in manifest.read(folder).items() if (folder / name).exists()}
    write_json(folder / filenames.MANIFEST, known | dict(made))


def record_files(folder: Path) -> None:
    """Adds the rows of all files that an app reads beside the artefacts."""
    record(folder, {name: manifest.fingerprint(folder / name) for name in _guarded(folder)})


def check(run: Run, folder: Path) -> tuple[list[FileResult], Contract]:
    """Compares the files that an app reads beside the artefacts with their rows in the manifest,
    and their content with the run.

    Args:
        run: the run that was exported.
        folder: the export folder.

    Returns:
        A `FileResult` for each, and the contract in preprocess.json, or the default contract if
        that file did not pass.
    """
    rows = manifest.read(folder)
    others = [
        name for name in rows if name not in filenames.ARTEFACTS or not (folder / name).exists()
    ]
    names = dict.fromkeys([*_required(folder, rows), *others])
    reasons = {name: next(_reasons(run, folder, name, rows), "") for name in names}
    contract = PLAIN if reasons[filenames.PREPROCESS] else read_contract(folder)
    if contract.has_own_ends and _GOLDEN_INDEX not in names:
        reasons[_GOLDEN_INDEX] = "is missing; export it again"
    return [FileResult(name, not why, why) for name, why in reasons.items()], contract


def preprocessing(
    plan: ExportPlan,
    probabilities: TemperatureFit | None = None,
    rejection: RejectionFit | None = None,
) -> dict[str, Any]:
    """The content of preprocess.json: how a photo becomes the model's input, and the outputs."""
    contract, form = plan.contract, plan.geometry
    shown = _shown(form)
    content = {
        "image_size": form.image_size,
        "height": form.height,
        "width": form.width,
        "fit": form.fit,
        "crop": f"{shown} of the upright image",
        "center_crop": plan.center_crop,
        "resize": f"bilinear, antialiased{_RESIZED[form.fit]}",
        "channels": form.channels,
        "color_order": "RGB" if form.channels == 3 else _LUMA,
        "range": [0, 255],
        "layout": "NHWC",
        "normalization": "inside the model",
        "output": _OUTPUTS["top" if contract.top else contract.scores],
        "scores": contract.scores,
        "temperature": contract.temperature,
        "top": contract.top,
        "input_size": contract.input_size,
    }
    if contract.input_size:
        the = "the " if form.fit == "crop" else ""
        content |= {
            "crop": f"inside the model: {the}{shown} of the upright frame",
            "resize": f"inside the model: bilinear{_RESIZED[form.fit]}",
        }
    fitted = {"probabilities": probabilities, "reject": rejection}
    return content | {name: found.as_json() for name, found in fitted.items() if found}


def _shown(form: Geometry) -> str:
    """The visible part of an image, as text."""
    if form.fit != "crop":
        return "all"
    if form.height == form.width:
        return "middle square"
    return f"middle part of {form.width}:{form.height}"


def _required(folder: Path, rows: Mapping[str, Any]) -> Iterator[str]:
    """Names that must have a row: files of every export, and files in the folder."""
    yield from (filenames.LABELS, filenames.PREPROCESS)
    for path in sorted(folder.iterdir()):
        is_model = path.suffix in (".tflite", ".onnx") and path.name not in filenames.ARTEFACTS
        if is_model or path.name == filenames.CALIBRATION:
            yield path.name
        elif path.name == filenames.GOLDEN:
            yield _GOLDEN_INDEX
        elif path.name in _BUNDLES and not any(_is_within(name, path.name) for name in rows):
            yield path.name


def _guarded(folder: Path) -> Iterator[str]:
    """Names of the files of a new export that get a row."""
    for name in (filenames.LABELS, filenames.PREPROCESS, filenames.CALIBRATION):
        if (folder / name).exists():
            yield name
    for home in (filenames.GOLDEN, *_BUNDLES):
        for path in sorted((folder / home).rglob("*")):
            inside = path.relative_to(folder)
            is_data = path.name in _BUNDLED or filenames.GOLDEN in inside.parts
            if path.is_file() and is_data:
                yield inside.as_posix()


def _is_within(name: str, folder: str) -> bool:
    return name.startswith(f"{folder}/")


def _reasons(
    run: Run, folder: Path, name: str, rows: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """The reasons why a file must not be used."""
    path = folder / name
    if not path.exists():
        yield "is missing; export it again"
    elif name not in rows:
        yield NO_ROW
    elif not manifest.is_of(manifest.fingerprint(path), rows[name]):
        yield CHANGED
    elif name == filenames.LABELS:
        yield from _other_labels(read_lines(path), run)
    elif name == filenames.PREPROCESS:
        yield from _other_preprocessing(folder, run)


def _other_labels(labels: Sequence[str], run: Run) -> Iterator[str]:
    if len(labels) != len(run.classes):
        yield f"has {len(labels)} lines, labels.txt of the run {len(run.classes)}"
    for number, (found, expected) in enumerate(zip(labels, run.classes, strict=False), 1):
        if found != expected:
            yield f"line {number} is {found!r}, {expected!r} in labels.txt of the run"


def _other_preprocessing(folder: Path, run: Run) -> Iterator[str]:
    try:
        found, contract = read_json(folder / filenames.PREPROCESS), read_contract(folder)
        if contract.reject:
            RejectionFit.from_json(found["reject"])
        plan = make_plan(
            run,
            saved_model=False,
            scores=contract.scores,
            top=contract.top,
            input_size=contract.input_size,
        )
    except InputError as error:
        yield str(error)
        return
    expected = preprocessing(replace(plan, temperature=contract.temperature))
    for key, value in expected.items():
        if found.get(key) != (list(value) if isinstance(value, tuple) else value):
            yield f"{key} is {found.get(key)!r}, {value!r} for this run"
