"""The golden set: a few validation images with the outputs that an app must return.

Each image is stored twice: `NN.png`, the exact input pixels, tests the runtime; `NN_photo.*`, the
original photo, tests the app's own decoding, crop and resize.
"""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_resnet import filenames
from keras_resnet.data.check import classes_in_turn
from keras_resnet.data.examples import Examples
from keras_resnet.data.stream import evaluation_stream
from keras_resnet.evaluation.artefact import Artefact
from keras_resnet.exporting import templates
from keras_resnet.exporting.gate import ExportedFile
from keras_resnet.exporting.plan import ExportPlan
from keras_resnet.files import read_json, write_json

IMAGES = 12
_TRIED_PER_IMAGE = 8  # so many candidates, for as many images that the model gets right
# Of all photos together: the set travels in every bundle. Later photos are left out.
MOST_PHOTO_BYTES = 8_000_000

# How far a logit may be from ours, as a share of the largest one in the set. Another runtime adds
# in another order; in int8 its kernels may differ by a step of 1/255 of a tensor's range, in each
# layer: LiteRT's own reference kernels come to 0.03.
FLOAT_TOLERANCE, QUANTISED_TOLERANCE = 1e-3, 0.05
_FLOAT_FILES = (
    filenames.TFLITE["none"],
    filenames.TFLITE["float16"],
    filenames.SAVED_MODEL,
    filenames.ONNX,
)
# Mean difference of an app's own pixels from ours, in levels of 0 to 255. Measured on 80 photos of
# 300 to 427 pixels, resized to 64: 0.1 where we too decode the whole photo; up to 2.5 where
# we let libjpeg shrink an upright JPEG on the way; 4.7 and more for a resize without antialiasing.
PHOTO_TOLERANCE = 3.0

_ENDINGS = {b"\xff\xd8": "jpg", b"\x89P": "png", b"GI": "gif", b"BM": "bmp", b"RI": "webp"}


def write(
    plan: ExportPlan,
    reference: Artefact,
    val: Examples,
    folder: Path,
    files: Sequence[ExportedFile],
) -> None:
    """Writes `folder/golden/`, replacing it; nothing for files with other ends than the model's
    own: the set is of its square pixels and of logits.

    Args:
        plan: the `ExportPlan` of the files.
        reference: the run, opened; its own answers decide which images are taken.
        val: its validation images.
        folder: the export folder.
        files: the artefacts whose answers are noted; that of the features gives none.
    """
    target = folder / filenames.GOLDEN
    shutil.rmtree(target, ignore_errors=True)
    if not plan.contract.has_own_ends:
        return
    templates.copy("golden", target)
    classes = plan.classes
    examples, images, guesses = _choose(reference, val, plan.seed)
    photos = _photos(examples)
    logits = {
        file.name: file.opened.predict(images) for file in files if file.name != filenames.FEATURES
    }
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
            }
        )
        (target / entries[-1]["file"]).write_bytes(tf.io.encode_png(pixels).numpy())
        if photo:
            (target / entries[-1]["photo"]).write_bytes(photo)
    write_json(
        target / filenames.GOLDEN_INDEX,
        {
            "image_size": plan.side,
            "sha256": "of the decoded pixels: uint8, rows from the top, RGB, no padding",
            "tolerance": {name: _tolerance(name, found) for name, found in logits.items()},
            "photo_tolerance": PHOTO_TOLERANCE,
            "images": entries,
        },
    )


def only(index: Path, name: str, new_name: str) -> dict[str, Any]:
    """The content of a golden.json for one artefact alone, under another name.

    Args:
        index: path of golden.json.
    """
    content = read_json(index)
    content["tolerance"] = {new_name: content["tolerance"][name]}
    for entry in content["images"]:
        entry["logits"] = {new_name: entry["logits"][name]}
    return content


def _choose(
    reference: Artefact, val: Examples, seed: int
) -> tuple[Examples, np.ndarray, np.ndarray]:
    """Seeded, classes in turn, those first that the model gets right: (examples, pixels, guesses).

    pixels are uint8 `(n, s, s, 3)`; guesses are class numbers `(n,)`.
    """
    candidates = val.take(classes_in_turn(val.labels, _TRIED_PER_IMAGE * IMAGES, seed))
    stream = evaluation_stream(
        candidates, size=reference.image_size, crop=reference.center_crop, batch_size=IMAGES
    )
    pixels = np.concatenate([batch for batch, _ in stream.as_numpy_iterator()])
    guesses = reference.predict(pixels).argmax(-1)
    chosen = np.argsort(guesses != candidates.labels, kind="stable")[:IMAGES]
    return candidates.take(chosen), pixels[chosen], guesses[chosen]


def _photos(examples: Examples) -> list[bytes | None]:
    """The encoded image of each example, or None where the set would grow too large."""
    left, photos = MOST_PHOTO_BYTES, []
    for i in range(len(examples)):
        data = examples.image(i)
        encoded = (data if data.dtype == tf.string else tf.io.encode_png(data)).numpy()
        fits = len(encoded) <= left
        left -= len(encoded) if fits else 0
        photos.append(encoded if fits else None)
    return photos


def _tolerance(name: str, logits: np.ndarray) -> float:
    share = FLOAT_TOLERANCE if name in _FLOAT_FILES else QUANTISED_TOLERANCE
    return float(share * np.abs(logits).max())
