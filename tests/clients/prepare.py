"""An export with every variant and every bundle, and one of a trainable file, to try on clients."""

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

import keras_resnet as kr
from keras_resnet import runtime
from keras_resnet.choices import BUNDLES
from keras_resnet.exporting.teaching import mosaics

FLOAT_ENDED = ("none", "float16", "dynamic", "int8")
PER_SCENE = 40


def export(work, run=None):
    """The path of the export folder, `work/export`."""
    runtime.prepare()
    run = run or _train(work)
    # The page takes LiteRT.js from node_modules in the working folder.
    kr.export(
        run, saved_model=False, tflite=FLOAT_ENDED, bundles=BUNDLES, output=work / "export",
        max_drop=100, reject=0.25,
    )  # fmt: skip
    kr.export(
        run, saved_model=False, tflite=["int8"], io="uint8", output=work / "export-uint8",
        max_drop=100,
    )  # fmt: skip
    kr.export(
        run, saved_model=False, tflite=[], trainable="head", bundles=("android", "web", "python"),
        output=work / "export-trainable", max_drop=100,
    )  # fmt: skip
    _write_mosaics(work / "new")
    return work / "export"


def _write_mosaics(folder):
    """Images of a class that the network does not know."""
    folder.mkdir(exist_ok=True)
    for i, pixels in enumerate(mosaics((320, 400, 3))):
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")


def _train(work):
    run = work / "run"
    if not (run / "manifest.json").exists():
        _write_scenes(work / "scenes")
        kr.train(
            str(work / "scenes"), model="resnet8", run_folder=run, epochs=6, image_size=64,
            batch_size=16, seed=1, center_crop=0.875,
        )  # fmt: skip
    return run


def _write_scenes(folder):
    """Parts of two photographs, 300 to 427 pixels on the shorter side, in all EXIF orientations."""
    rng = np.random.default_rng(0)
    for name, pixels in zip(("china", "flower"), load_sample_images().images, strict=True):
        (folder / name).mkdir(parents=True, exist_ok=True)
        height, width, _ = pixels.shape
        for i in range(PER_SCENE):
            h, w = rng.integers(300, height + 1), rng.integers(300, width + 1)
            y, x = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
            exif = Image.Exif()
            exif[0x0112] = 1 + i % 8
            part = Image.fromarray(pixels[y : y + h, x : x + w])
            part.save(folder / name / f"{i:02d}.jpg", quality=92, exif=exif)
