"""Quiet TensorFlow, and the few things that cost seconds, made once for all tests."""

import os
import subprocess
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def command(tmp_path_factory):
    """Runs the installed console script in a folder of its own: `command("models", "--json")`."""
    home = tmp_path_factory.mktemp("home")
    script = Path(sys.executable).parent / "keras-resnet"

    def run(*arguments, cwd=home, **options):
        return subprocess.run(
            [script, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, **options
        )

    return run


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """60 JPEGs, 40×48 pixels, in three classes learnt in no time: bright, dark and striped."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(60):
        noise = rng.integers(0, 60, (40, 48, 3))
        stripes = 180 * (np.arange(48) // 6 % 2)[None, :, None]
        name, base = (("bright", 190), ("dark", 0), ("striped", stripes))[i % 3]
        (folder / name).mkdir(exist_ok=True)
        pixels = (noise + base).astype(np.uint8)
        Image.fromarray(pixels).save(folder / name / f"{i:02d}.jpg", quality=95)
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory, photos):
    """A finished run of a ResNet-20 on `photos`, 24 pixels, two epochs."""
    from keras_resnet.training.fit import train

    folder = tmp_path_factory.mktemp("runs") / "trained"
    return train(str(photos), run_folder=folder, epochs=3, image_size=24, batch_size=8, seed=3)


@pytest.fixture(scope="session")
def exported(trained):
    """The same run with all variants exported and explained: (run, result of the gate)."""
    from keras_resnet.exporting.convert import VARIANTS
    from keras_resnet.exporting.exporter import export

    result = export(
        trained, tflite=VARIANTS, calibration=20, max_drop=100, explain_quantization=True
    )
    return trained, result
