"""Bundles: a runnable folder for each kind of client, with the model, its labels, the golden set, a
README, LICENSE and NOTICE. Their source files are copies of those in `bundles/`.
"""

import io
import shutil
from pathlib import Path
from typing import Any

from PIL import Image

from keras_resnet import filenames
from keras_resnet.choices import BUNDLES
from keras_resnet.data import pixels
from keras_resnet.data.photo import orientation
from keras_resnet.errors import InputError
from keras_resnet.evaluation.trainable import PASSES, SIGNATURES, SPARE
from keras_resnet.exporting import golden, templates
from keras_resnet.exporting.plan import BUNDLED, NO_MODEL_TO_BUNDLE, ExportPlan
from keras_resnet.files import read_json, read_lines, write_json, write_text
from keras_resnet.inspection.tflite_file import census
from keras_resnet.manifest import fingerprint
from keras_resnet.messages import log

MODEL = filenames.BUNDLED_MODEL

# The version of LiteRT.js that the page needs; `npm install @litertjs/core` installs it.
LITERT_JS = "2.5.3"
_JS_PACKAGES = ("core", "wasm-utils")
# The builds of the WebAssembly file that the page loads: with and without relaxed SIMD.
_WASM = ("litert_wasm_internal", "litert_wasm_compat_internal")

_ANDROID_ASSETS = "app/src/main/assets"
_ANDROID_GOLDEN = "app/src/androidTest/assets/golden"  # on the phone
_ANDROID_PLAIN_GOLDEN = "app/src/test/resources/golden"  # on the computer

_ANY_ENERGY = 1e30  # no limit; infinity has no literal that is common to Kotlin and C

_PLAIN_PHOTOS = 3  # few, because PPM files are not compressed
_PLAIN_PHOTO_PIXELS = 2_000_000


def write(plan: ExportPlan, folder: Path, origin: str) -> None:
    """Writes `folder/bundle_KIND/` for each requested kind, and rewrites existing ones: a bundle
    must not hold an older model than the export beside it.

    Args:
        plan: the `ExportPlan`.
        folder: the export folder.
        origin: origin of the weights, for NOTICE.

    Raises:
        InputError: a bundle was requested, and no file in the folder has float inputs and outputs.
    """
    kinds = [kind for kind in BUNDLES if kind in plan.bundles or _home(folder, kind).exists()]
    preprocess = read_json(folder / filenames.PREPROCESS)
    values = {
        "network": plan.network,
        "origin": origin,
        "classes": len(read_lines(folder / filenames.LABELS)),
        "height": preprocess["height"],
        "width": preprocess["width"],
        "fit": preprocess["fit"],
        "fit_c": preprocess["fit"].upper(),
        "channels": preprocess["channels"],
        "center_crop": float(preprocess["center_crop"]),  # 1f is a number in Kotlin, not in C
        "litert_js": LITERT_JS,
        **_rejection_values(preprocess.get("reject")),
    }
    for kind in kinds:
        home = _home(folder, kind)
        source = model_to_bundle(folder, kind) if plan.contract.has_own_ends else None
        if source is None and kind in plan.bundles:
            raise InputError(f"a bundle {NO_MODEL_TO_BUNDLE}")
        shutil.rmtree(home, ignore_errors=True)
        if source is None:
            continue
        templates.copy("legal", home)
        _FILL[kind](folder, home, source)
        if kind == "web":
            _put_litert_js(home, plan.target / home.name / "litert")
        # For README.md; the templates themselves are small.
        size = f"{_bytes_in(home) / 1e6:.1f} MB"
        templates.copy(kind, home, {**values, **_model_values(source), "size": size})
        if kind == "android":
            _put_notices(home)
        log.info(f"wrote {home.name}, {size}, with {source.name}")


def _model_values(source: Path) -> dict[str, object]:
    """Placeholders for the model."""
    found = census(source)
    learns = {*SIGNATURES} <= {*found.signatures}
    dimensions = [tensor.shape[-1] for tensor in found.outputs]
    return {
        "file": source.name,
        "sha256": fingerprint(source)["sha256"],
        "spare": SPARE if learns else 0,
        "features": dimensions[1] if learns else 0,
        "passes": PASSES,
    }


def _rejection_values(reject: dict[str, Any] | None) -> dict[str, object]:
    """Placeholders for the threshold of "none of these"."""
    score, threshold, most = (
        (reject["score"], reject["threshold"], reject["most_energy"]) if reject else ("", 0, None)
    )
    return {
        "reject_score": score,
        "reject_score_c": score.upper() or "NO_SCORE",
        "reject_threshold": float(threshold),
        "reject_most_energy": _ANY_ENERGY if most is None else float(most),
    }


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _put_notices(home: Path) -> None:
    """Copies of LICENSE and NOTICE for the app's screen of licenses."""
    for name in ("LICENSE", "NOTICE"):
        shutil.copyfile(home / name, home / _ANDROID_ASSETS / name)


def _home(folder: Path, kind: str) -> Path:
    return folder / f"{filenames.BUNDLE}{kind}"


def model_to_bundle(folder: Path, kind: str) -> Path | None:
    """The model file for a kind of bundle; None if no file has float inputs and outputs."""
    there = [folder / name for name in BUNDLED[kind] if (folder / name).exists()]
    for path in there:
        found = census(path)
        if all(tensor.dtype == "float32" for tensor in found.inputs + found.outputs):
            return path
    return None


def _put_model(folder: Path, target: Path, source: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target / MODEL)
    for name in (filenames.LABELS, filenames.PREPROCESS):
        shutil.copyfile(folder / name, target / name)


def _put_golden(folder: Path, target: Path, source: Path) -> None:
    """Writes the golden set for this model only."""
    target.mkdir(parents=True, exist_ok=True)
    content = golden.only(folder / filenames.GOLDEN / filenames.GOLDEN_INDEX, source.name, MODEL)
    write_json(target / filenames.GOLDEN_INDEX, content)
    for entry in content["images"]:
        for name in filter(None, (entry["file"], entry["photo"])):
            shutil.copyfile(folder / filenames.GOLDEN / name, target / name)


def _fill_python(folder: Path, home: Path, source: Path) -> None:
    _put_model(folder, home, source)
    _put_golden(folder, home / filenames.GOLDEN, source)


def _fill_android(folder: Path, home: Path, source: Path) -> None:
    _put_model(folder, home / _ANDROID_ASSETS, source)
    _put_golden(folder, home / _ANDROID_GOLDEN, source)
    _put_plain_golden(folder, home / _ANDROID_PLAIN_GOLDEN, source)


def _put_litert_js(home: Path, installed: Path) -> None:
    """Copies the files of LiteRT.js that the page loads.

    Args:
        home: the bundle.
        installed: folder of `npm install` in the bundle that this one replaces.
    """
    packages = _local_litert_js(installed)
    if packages is None:
        log.info(
            f"bundle_web does not contain LiteRT.js {LITERT_JS}: run `npm install` in it; after "
            f"`npm install @litertjs/core@{LITERT_JS}` in {Path.cwd()}, later exports contain it"
        )
        return
    for name in _JS_PACKAGES:
        target = home / "litert" / name
        target.mkdir(parents=True)
        for file in ("package.json", "dist/index.js"):
            (target / file).parent.mkdir(exist_ok=True)
            shutil.copyfile(packages / name / file, target / file)
    wasm = home / "litert" / "core" / "wasm"
    wasm.mkdir()
    for name in (f"{build}.{ending}" for build in _WASM for ending in ("js", "wasm")):
        shutil.copyfile(packages / "core" / "wasm" / name, wasm / name)


def _local_litert_js(installed: Path) -> Path | None:
    """`installed`, or node_modules/@litertjs in this folder or one above, as Node resolves it; None
    if the required version is not there."""
    here = Path.cwd()
    modules = (parent / "node_modules" / "@litertjs" for parent in (here, *here.parents))
    for packages in (installed, *modules):
        manifest = packages / "core" / "package.json"
        if manifest.exists() and read_json(manifest).get("version") == LITERT_JS:
            return packages
    return None


def _fill_c(folder: Path, home: Path, source: Path) -> None:
    _put_model(folder, home, source)
    _put_plain_golden(folder, home / filenames.GOLDEN, source)


def _put_plain_golden(folder: Path, target: Path, source: Path) -> None:
    """Writes the golden set for programs without JSON and PNG: PPM images and one text file with
    the two tolerances and the hash of the logits, or "-"; then, for each image, its file, its photo
    or "-", whether it is rejected (1, 0, or -1 if uncertain), and the logits.
    """
    source_set = folder / filenames.GOLDEN
    target.mkdir(parents=True)
    content = golden.only(source_set / filenames.GOLDEN_INDEX, source.name, MODEL)
    answers = content["answers_sha256"].get(MODEL, "-")
    lines = [f"{content['tolerance'][MODEL]:.9g} {content['photo_tolerance']:g} {answers}"]
    photos = 0
    for entry in content["images"]:
        image, photo = f"{Path(entry['file']).stem}.ppm", "-"
        Image.open(source_set / entry["file"]).convert("RGB").save(target / image)
        if entry["photo"] and photos < _PLAIN_PHOTOS:
            encoded = (source_set / entry["photo"]).read_bytes()
            opened = Image.open(io.BytesIO(encoded))
            if opened.width * opened.height <= _PLAIN_PHOTO_PIXELS:
                photo = f"{Path(entry['photo']).stem}.ppm"
                # Not with Pillow's `convert`, which drops alpha and clips 16 bits.
                decoded = pixels.decode(encoded, orientation(opened))
                Image.fromarray(decoded).save(target / photo)
                photos += 1
        logits = " ".join(f"{x:.9g}" for x in entry["logits"][MODEL])
        rejected = entry["rejected"][MODEL]
        lines.append(f"{image} {photo} {-1 if rejected is None else int(rejected)} {logits}")
    write_text(target / "golden.txt", "".join(f"{line}\n" for line in lines))


_FILL = {"android": _fill_android, "web": _fill_python, "python": _fill_python, "c": _fill_c}
