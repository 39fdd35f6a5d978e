"""The golden set: a few validation images with the outputs that an app must return.

Each image is stored twice: `NN.png`, the exact input pixels, tests the runtime; `NN_photo.*`, the
original photo, tests the app's own decoding, crop and resize.
"""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_resnet import filenames
from keras_resnet.data.examples import Examples, classes_in_turn
from keras_resnet.data.stream import images_of
from keras_resnet.evaluation.artefact import Artefact
from keras_resnet.evaluation.contract import Rejection
from keras_resnet.exporting import templates
from keras_resnet.exporting.plan import ExportPlan
from keras_resnet.files import read_json, write_json

if TYPE_CHECKING:  # judge imports this module
    from keras_resnet.exporting.judge import ExportedFile, Judge

IMAGES = 12
_REFUSED = 2  # maximum number of rejected images, if there is a threshold for "none of these"
_TRIED_PER_IMAGE = 8  # candidates per image, to find images that the model classifies correctly
# Two logits with an error of one tolerance each can swap if they are closer than this many
# tolerances. If the two largest are, clients do not compare the best class.
LEAST_MARGIN = 2.0
# Total size of the photos, since every bundle has a copy. Further photos are left out.
MOST_PHOTO_BYTES = 8_000_000

# Largest difference of a logit, relative to the largest logit in the set. Another runtime sums in
# another order; its int8 kernels may differ by one step, 1/255 of a tensor's range, in each layer:
# LiteRT's reference kernels differ by 0.03.
FLOAT_TOLERANCE, QUANTIZED_TOLERANCE = 1e-3, 0.05
# Computed in integers, whose sums do not depend on the order: with XNNPACK, LiteRT's default, the
# results are bit-identical on x86-64, 64-bit Arm and WebAssembly.
_EXACT_FILES = (filenames.TFLITE["int8"],)
_FLOAT_FILES = (
    filenames.TFLITE["none"],
    filenames.TRAINABLE,
    filenames.TFLITE["float16"],
    filenames.SAVED_MODEL,
    filenames.ONNX,
)
# Mean difference of the app's pixels from ours, in levels of 0 to 255. Measured on 80 photos of
# 300 to 427 pixels, resized to 64: 0.1 if we decode at full size too; up to 2.5 if libjpeg
# downscales an upright JPEG while decoding here; 4.7 and more for a resize without antialiasing.
PHOTO_TOLERANCE = 3.0

_ENDINGS = {b"\xff\xd8": "jpg", b"\x89P": "png", b"GI": "gif", b"BM": "bmp", b"RI": "webp"}


def write(
    plan: ExportPlan,
    reference: Artefact,
    judge: "Judge",
    folder: Path,
    files: Sequence["ExportedFile"],
) -> None:
    """Writes `folder/golden/`, replacing it. Not for files whose inputs or outputs differ from the
    model's: the set has pixels of the model's input size, and logits.

    Args:
        plan: the `ExportPlan` of the files.
        reference: the opened run; its predictions decide which images are selected.
        judge: the `Judge` of the files.
        folder: the export folder.
        files: the artefacts whose logits are stored; a file of features has none.
    """
    target = folder / filenames.GOLDEN
    shutil.rmtree(target, ignore_errors=True)
    if not plan.contract.has_own_ends:
        return
    templates.copy("golden", target)
    classes = plan.classes
    examples, images, guesses = _choose(reference, judge, plan.seed)
    photos = _photos(examples)
    logits = {
        file.name: file.opened.predict(images) for file in files if file.name != filenames.FEATURES
    }
    rejected = {name: _rejected(plan.rejection, name, found) for name, found in logits.items()}
    entries = []
    for i, (pixels, photo) in enumerate(zip(images, photos, strict=True)):
        entries.append(
            {
                "file": f"{i:02d}.png",
                "sha256": hashlib.sha256(pixels.tobytes()).hexdigest(),
                "photo": f"{i:02d}_photo.{_ENDINGS[photo[:2]]}" if photo else None,
                "label": classes[examples.labels[i]],
                "predicted": classes[guesses[i]],
                "logits": {name: [float(x) for x in found[i]] for name, found in logits.items()},
                "rejected": {name: found[i] for name, found in rejected.items()},
            }
        )
        (target / entries[-1]["file"]).write_bytes(tf.io.encode_png(pixels).numpy())
        if photo:
            (target / entries[-1]["photo"]).write_bytes(photo)
    write_json(
        target / filenames.GOLDEN_INDEX,
        {
            "image_size": plan.geometry.image_size,
            "channels": plan.geometry.channels,
            "sha256": "of the decoded pixels: uint8, rows from the top, RGB or grey, no padding",
            "tolerance": {name: tolerance(name, found) for name, found in logits.items()},
            "answers_sha256": {n: digest(logits[n]) for n in _EXACT_FILES if n in logits},
            "least_margin": "compare the best class where the two best logits are more than two "
            "tolerances apart",
            "rejected": "whether the answer is none of the classes; null: in doubt, within the "
            "tolerance",
            "photo_tolerance": PHOTO_TOLERANCE,
            "images": entries,
        },
    )


def digest(logits: np.ndarray) -> str:
    """The sha256 of the logits `(n, k)` of the images in order, float32, little-endian."""
    return hashlib.sha256(logits.astype("<f4").tobytes()).hexdigest()


class Replay(NamedTuple):
    """The result of a file on the golden set in its folder."""

    reason: str = ""  # why its logits differ from the stored ones; "" if they do not
    sha256: str | None = None  # `digest` of the logits of a file that is computed in integers
    repeats: bool | None = None  # whether it equals the stored digest


def replay(file: "ExportedFile") -> Replay:
    """Runs a file on the golden set in its folder and compares the logits with the stored ones."""
    folder = file.path.parent / filenames.GOLDEN
    index = folder / filenames.GOLDEN_INDEX
    if not index.exists():
        return Replay()  # `guard` reports it
    content = read_json(index)
    try:
        allowed = content["tolerance"][file.name]
        noted, found = [], []
        for entry in content["images"]:
            pixels = tf.io.decode_png((folder / entry["file"]).read_bytes()).numpy()
            noted.append(np.array(entry["logits"][file.name], np.float32))
            found.append(file.opened.predict(pixels[None])[0])
            difference = float(np.abs(found[-1] - noted[-1]).max())
            if not difference <= allowed:
                return Replay(
                    f"gives logits for {filenames.GOLDEN}/{entry['file']} that differ by "
                    f"{difference:.2g} from the recorded ones ({allowed:.2g} allowed)"
                )
    except (KeyError, TypeError, ValueError, OSError, tf.errors.InvalidArgumentError):
        return Replay(f"has no valid outputs in {filenames.GOLDEN}/{filenames.GOLDEN_INDEX}")
    if not found:
        return Replay(f"has no images in {filenames.GOLDEN}/{filenames.GOLDEN_INDEX}")
    if file.name not in _EXACT_FILES:
        return Replay()
    sha256 = digest(np.stack(found))
    return Replay(sha256=sha256, repeats=sha256 == digest(np.stack(noted)))


def only(index: Path, name: str, new_name: str) -> dict[str, Any]:
    """The content of a golden.json for one artefact only, under another name.

    Args:
        index: path of golden.json.
    """
    content = read_json(index)
    content["tolerance"] = {new_name: content["tolerance"][name]}
    hashes = content["answers_sha256"]
    content["answers_sha256"] = {new_name: hashes[name]} if name in hashes else {}
    for entry in content["images"]:
        for of_files in ("logits", "rejected"):
            entry[of_files] = {new_name: entry[of_files][name]}
    return content


def _choose(
    reference: Artefact, judge: "Judge", seed: int
) -> tuple[Examples, np.ndarray, np.ndarray]:
    """Selects images, seeded and round-robin from the classes: first those with a clear prediction
    in every file that the model classifies correctly, then a few that are clearly rejected.

    Returns:
        (examples, pixels, predictions): uint8 `(n, h, w, c)`, class indices `(n,)`.
    """
    turn = classes_in_turn(judge.examples.labels, _TRIED_PER_IMAGE * IMAGES, seed)
    candidates, is_clear = judge.examples.take(turn), judge.is_clear()[turn]
    is_refused = judge.is_refused()[turn]
    is_clear &= ~is_refused
    pixels = images_of(candidates, size=reference.geometry, crop=reference.center_crop)
    guesses = reference.predict(pixels).argmax(-1)
    order = np.lexsort((guesses != candidates.labels, ~is_clear))  # stable
    refused = np.flatnonzero(is_refused)[:_REFUSED]
    chosen = np.concatenate([order[: IMAGES - len(refused)], refused])
    return candidates.take(chosen), pixels[chosen], guesses[chosen]


def _rejected(rejection: Rejection | None, name: str, logits: np.ndarray) -> list[bool | None]:
    """Whether the artefact `name` rejects each image; None if that is uncertain."""
    if not rejection:
        return [False] * len(logits)
    refused = rejection.rejects(logits)
    decided = rejection.is_decided(logits, tolerance(name, logits))
    return [bool(r) if sure else None for r, sure in zip(refused, decided, strict=True)]


def _photos(examples: Examples) -> list[bytes | None]:
    """The encoded image of each example; None if the set would grow too large."""
    left, photos = MOST_PHOTO_BYTES, []
    for i in range(len(examples)):
        data = examples.image(i)
        encoded = (data if data.dtype == tf.string else tf.io.encode_png(data)).numpy()
        fits = len(encoded) <= left
        left -= len(encoded) if fits else 0
        photos.append(encoded if fits else None)
    return photos


def tolerance(name: str, logits: np.ndarray) -> float:
    """Largest difference of a logit of the artefact `name` from the stored `logits`."""
    share = FLOAT_TOLERANCE if name in _FLOAT_FILES else QUANTIZED_TOLERANCE
    return float(share * np.abs(logits).max())
