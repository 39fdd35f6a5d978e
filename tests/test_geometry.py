"""Inputs that are no squares of RGB pixels: `--image-size HxW`, `--fit`, `--channels`, from the
training to the bundles."""

import importlib.util
import json
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from keras_resnet import geometry, models
from keras_resnet.config import Config
from keras_resnet.data import pixels, views
from keras_resnet.data.examples import from_files
from keras_resnet.data.stream import evaluation_stream
from keras_resnet.errors import InputError
from keras_resnet.evaluation.artefact import open_artefact
from keras_resnet.evaluation.scores import evaluate
from keras_resnet.exporting.exporter import export
from keras_resnet.files import read_json
from keras_resnet.geometry import FITS, Geometry
from keras_resnet.recipes import resolve
from keras_resnet.run import open_run
from keras_resnet.training.train import train

CLASSES = ("bars", "discs")
SIZE = "32x64"
READER = Path(__file__).with_name("rgba.mjs").as_uri()  # of test images, in JavaScript


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """48 pictures twice as wide as high, grey bars and discs on noise: a folder."""
    folder, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for label, i in product(CLASSES, range(24)):
        height = int(random.integers(40, 70))
        noise = random.integers(0, 90, (height, 2 * height, 3), np.uint8)
        image = Image.fromarray(noise)
        draw, (x, y) = ImageDraw.Draw(image), random.integers(4, height - 24, 2)
        box = [0, y, 2 * height, y + 8] if label == "bars" else [2 * x, y, 2 * x + 20, y + 20]
        colour = tuple(map(int, random.integers(130, 255, 3)))
        (draw.rectangle if label == "bars" else draw.ellipse)(list(map(int, box)), fill=colour)
        (folder / label).mkdir(exist_ok=True)
        image.save(folder / label / f"{i:02}.png")
    return folder


@pytest.fixture(scope="module")
def wide(pictures, undrawn, tmp_path_factory):
    """A run on grey pictures of 32×64 pixels, with its export and bundles: its folder."""
    folder = tmp_path_factory.mktemp("wide") / "run"
    with undrawn():
        run = train(
            str(pictures), model="resnet8", epochs=2, image_size=SIZE, fit="pad", channels=1,
            batch_size=8, learning_rate=0.02, run_folder=folder,
        )  # fmt: skip
    bundles = ["python", "c", "web", "android"]
    export(run, saved_model=False, tflite=["none", "int8"], max_drop=100, bundles=bundles)
    return folder


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--image-size", "64x", "--image-size is '64x'; expected a number of pixels"),
        ("--image-size", "64x128x3", "--image-size is '64x128x3'; expected a number of pixels"),
        ("--image-size", "0x64", "--image-size is '0x64'; expected a number of pixels"),
        ("--image-size", "9" * 5000 + "x1", "expected a number of pixels"),
        ("--image-size", "9000x64", "--image-size is '9000x64'; expected a number of pixels"),
        ("--channels", "2", "--channels is 2; expected 3 (RGB) or 1 (grey)"),
        ("--fit", "squeeze", "'squeeze' is not one of 'crop', 'pad', 'stretch'"),
    ],
)
def test_a_bad_value_is_one_line(command, option, value, said):
    done = command("train", option, value)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


def test_a_size_is_read_as_it_is_typed_and_as_it_was_saved():
    assert resolve({"image_size": "64"}).image_size == 64 == resolve({"image_size": 64}).image_size
    assert resolve({"image_size": "64x64"}).geometry == Geometry(64, 64)
    assert resolve({"image_size": "64X128"}).geometry.shape == (64, 128, 3)
    assert resolve({"image_size": (64, 128)}).image_size == "64x128"
    assert resolve({"image_size": [np.int64(64), 64]}).image_size == 64
    for wrong in ((64,) * 3, (64, 2.5), True, -64):
        with pytest.raises(InputError, match=r"--image-size is .*; expected a number of pixels"):
            resolve({"image_size": wrong})
    assert Config(image_size="64x128").side == 64


def test_what_shows_the_whole_picture_has_no_centre_crop():
    assert resolve({"fit": "pad", "recipe": "finetune"}).center_crop == 1
    with pytest.raises(InputError, match=r"--center-crop is 0\.9; expected 1 with --fit pad"):
        resolve({"fit": "pad", "center_crop": 0.9})


def test_a_smaller_size_keeps_the_aspect_ratio():
    assert Geometry(64, 128, "pad", 1).scaled(32) == Geometry(32, 64, "pad", 1)
    assert Geometry(30, 20).scaled(10) == Geometry(15, 10)


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (64, 129), (333, 500), (2000, 31), (4000, 3001)])
@pytest.mark.parametrize("form", [(64, 64), (64, 128), (97, 31), (224, 160)])
def test_a_window_has_the_aspect_ratio_of_the_input_and_the_padded_picture_its_own(size, form):
    height, width = size
    for crop in (0.875, 1.0):
        y, x, h, w = Geometry(*form).window(height, width, crop)
        assert y >= 0 and y + h <= height and x >= 0 and x + w <= width
        assert h == max(round(height * crop), 1) or w == max(round(width * crop), 1)
        assert abs(h * form[1] - w * form[0]) <= max(form) or 1 in (h, w)
    rows, columns = Geometry(*form, "pad").resized(height, width)
    assert rows == form[0] or columns == form[1]
    assert abs(rows * width - columns * height) <= max(size) or 1 in (rows, columns)


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("fit", FITS)
def test_training_and_predict_decode_the_same_pixels(tmp_path, fit, channels):
    random, paths = np.random.default_rng(1), []
    sizes = [
        (90, 200, "png"),
        (301, 77, "jpg"),
        (700, 900, "jpg"),
        (5, 9, "png"),
        (1111, 999, "jpg"),
    ]
    for height, width, ending in sizes:
        small = random.integers(0, 256, (height // 5 + 1, width // 5 + 1, 3), np.uint8)
        paths.append(tmp_path / f"{height}.{ending}")
        Image.fromarray(small).resize((width, height)).save(paths[-1])
    names, turns = [p.name for p in paths], [1, 6, 1, 1, 1]
    examples = from_files([bytes(p) for p in paths], [0] * 5, names, turns, [0] * 5)
    for height, width in ((64, 64), (48, 96), (101, 40)):
        form = Geometry(height, width, fit, channels)
        stream = evaluation_stream(examples, size=form, crop=0.9, batch_size=9)
        ((expected, _),) = stream.as_numpy_iterator()
        assert expected.shape == (5, height, width, channels)
        found = np.concatenate(list(pixels.batches(examples, size=form, crop=0.9)))
        np.testing.assert_array_equal(found, expected)


def test_luma_is_what_pillow_calls_l():
    colours = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    expected = np.array(Image.fromarray(colours).convert("L"))
    assert (pixels.with_channels(colours, 1)[..., 0] == expected).all()
    assert (views.with_channels(colours, 1).numpy()[..., 0] == expected).all()


@pytest.mark.parametrize("fit", FITS)
def test_a_random_view_shows_a_picture_as_evaluation_does_where_it_is_whole(fit):
    picture = np.random.default_rng(0).integers(0, 256, (64, 128, 3), np.uint8)
    form = Geometry(64, 128, fit)
    view = views.random_view(
        picture, 1, np.array([0, 1]), size=form, pad=0, area=(1, 1), aspect=(1, 1), flip=False,
        brightness=0,
    )  # fmt: skip
    np.testing.assert_array_equal(view, picture)


def test_a_random_view_of_a_padded_picture_keeps_its_aspect_ratio():
    picture = np.full((40, 160, 3), 255, np.uint8)
    view = views.random_view(
        picture, 1, np.array([0, 1]), size=Geometry(64, 64, "pad"), pad=0, area=(0.3, 0.3),
        aspect=(1, 1), flip=False, brightness=0,
    ).numpy()  # fmt: skip
    rows = np.flatnonzero(view.max((1, 2)))
    assert abs(len(rows) - 16) <= 1 and abs(rows.mean() - 31.5) <= 0.5


def test_weights_of_rgb_are_summed_for_a_network_of_luma(tmp_path):
    from keras_resnet.weights.load import load_weights

    colour, grey = (models.build("resnet8", 3, (32, 64, c), normalize="tf") for c in (3, 1))
    colour.save(tmp_path / "colour.keras")
    load_weights(grey, tmp_path / "colour.keras")
    image = np.random.default_rng(0).integers(0, 256, (2, 32, 64, 1)).astype(np.float32)
    expected = colour(np.repeat(image, 3, -1)).numpy()
    np.testing.assert_allclose(grey(image).numpy(), expected, atol=1e-5)


def test_the_export_says_what_the_network_takes(wide):
    said = read_json(wide / "export" / "preprocess.json")
    keys = ("image_size", "height", "width", "fit", "channels")
    assert [said[key] for key in keys] == [SIZE, 32, 64, "pad", 1]
    assert read_json(wide / "config.json")["image_size"] == SIZE
    for name in ("model_float32.tflite", "model_int8.tflite"):
        assert open_artefact(wide / "export" / name).geometry == Geometry(32, 64, "pad", 1)


def test_every_file_has_the_same_top1(wide):
    expected = evaluate(wide).top1
    for name in ("model_float32.tflite", "model_int8.tflite"):
        assert evaluate(wide / "export" / name).top1 == pytest.approx(expected, abs=0.005), name


def test_pictures_show_what_a_wide_network_sees(command, wide, pictures, tmp_path):
    cam = tmp_path / "cam.png"
    done = command("explain", "cam", wide, pictures / "bars" / "00.png", "--png", cam)
    assert done.returncode == 0 and cam.exists(), done.stderr
    sheet = tmp_path / "sheet.png"
    done = command(
        "data", "show", pictures, "--images", 4, "--size", SIZE, "--fit", "pad", "--channels", 1,
        "--output", sheet,
    )  # fmt: skip
    assert done.returncode == 0 and sheet.exists(), done.stderr


def views_of_bundles(wide, paths, work):
    """What the Python, C and web bundle show the network, by name: uint8 `(n, 32, 64, 1)`."""
    export = wide / "export"
    spec = importlib.util.spec_from_file_location(
        "wide_classify", export / "bundle_python" / "classify.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    classifier = module.Classifier()
    found = {"python": np.stack([classifier.pixels(Image.open(path)) for path in paths])}
    photos = [np.array(Image.open(path).convert("RGB")) for path in paths]
    if shutil.which("gcc"):
        for name in ("image.c", "image.h", "contract.h"):
            shutil.copy(export / "bundle_c" / name, work)
        (work / "main.c").write_text(C_PROGRAM)
        gcc = [
            "gcc",
            "-O1",
            "-Wall",
            "-Wextra",
            "-Werror",
            "main.c",
            "image.c",
            "-lm",
            "-o",
            "view",
        ]
        subprocess.run(gcc, cwd=work, check=True)
        for i, path in enumerate(paths):
            Image.open(path).save(work / f"{i}.ppm")
        files = [f"{i}.ppm" for i in range(len(paths))]
        done = subprocess.run(["./view", *files], cwd=work, check=True, capture_output=True)
        found["c"] = np.frombuffer(done.stdout, np.uint8).reshape(-1, 32, 64, 1)
    if shutil.which("node"):
        for i, photo in enumerate(photos):
            alpha = np.full(photo.shape[:2], 255, np.uint8)
            (work / f"{i}.rgba").write_bytes(np.dstack([photo, alpha]).tobytes())
        sizes = json.dumps([photo.shape[:2] for photo in photos])
        module = json.dumps((export / "bundle_web" / "preprocess.js").as_uri())
        contract = json.dumps(str(export / "bundle_web" / "preprocess.json"))
        (work / "run.mjs").write_text(PAGE % (module, json.dumps(READER), contract, sizes))
        subprocess.run(["node", "run.mjs"], cwd=work, check=True, capture_output=True)
        found["web"] = np.frombuffer((work / "views").read_bytes(), np.uint8)
        found["web"] = found["web"].reshape(-1, 32, 64, 1)
    return found


C_PROGRAM = """
#include <stdio.h>
#include "contract.h"
#include "image.h"
int main(int count, char **paths) {
  static uint8_t pixels[HEIGHT * WIDTH * CHANNELS];
  const Geometry input = {HEIGHT, WIDTH, CHANNELS, FIT};
  for (int i = 1; i < count; i++) {
    Image image;
    if (!read_ppm(paths[i], &image) || !center_view(&image, &input, CENTER_CROP, pixels)) return 1;
    fwrite(pixels, 1, sizeof pixels, stdout);
  }
  return 0;
}
"""
PAGE = """
import {readFileSync, writeFileSync} from 'node:fs';
const {centerView} = await import(%s);
const {picture} = await import(%s);
const contract = JSON.parse(readFileSync(%s));
const views = %s.map(([height, width], i) =>
    centerView(picture(`${i}.rgba`, width, height), contract, contract.center_crop));
writeFileSync('views', Buffer.concat(views));
"""


def test_every_bundle_has_the_same_top1(wide, tmp_path):
    """In each, the int8 file is bundled."""
    run = open_run(wide)
    examples = run.examples("val")
    paths = [run.config.data + "/" + name for name in examples.names]
    lite = open_artefact(wide / "export" / "model_int8.tflite")
    shown = np.concatenate(list(pixels.batches(examples, size=lite.geometry, crop=1.0)))
    expected = (lite.predict(shown).argmax(-1) == examples.labels).mean()
    found = views_of_bundles(wide, paths, tmp_path)
    for name, view in found.items():
        assert np.abs(view.astype(int) - shown).max() <= 1, name  # rounding
        top1 = (lite.predict(view).argmax(-1) == examples.labels).mean()
        assert top1 == pytest.approx(expected, abs=0.005), name


def test_the_python_bundle_of_a_wide_network_passes_its_golden_set(wide):
    script = wide / "export" / "bundle_python" / "classify.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0 and "as expected" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("fit", "size"), [("crop", (40, 100)), ("pad", (48, 48)), ("pad", (31, 40))]
)
def test_a_frame_is_fitted_inside_the_file_as_evaluation_fits_it(fit, size):
    import keras
    import tensorflow as tf

    from keras_resnet.exporting import wrap
    from keras_resnet.exporting.judge import Judge
    from keras_resnet.exporting.plan import ExportPlan

    form = Geometry(24, 48, fit)
    plan = ExportPlan(geometry=form, classes=["a", "b"], input_size=size)
    show = keras.Sequential([keras.Input(form.shape), keras.layers.Flatten()])
    frame = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    found = wrap.around(plan, show)(tf.cast(frame[None], tf.float32))["logits"]
    y, x, h, w = form.window(*size, 1.0)
    rows, columns = form.resized(h, w)
    part = tf.image.resize(frame[y : y + h, x : x + w], (rows, columns))
    expected = tf.image.pad_to_bounding_box(part, (24 - rows) // 2, (48 - columns) // 2, 24, 48)
    np.testing.assert_allclose(np.reshape(found, form.shape), expected, atol=1e-3)
    # What the gate compares the file with, by Keras.
    judge = SimpleNamespace(
        _contract=SimpleNamespace(input_size=size),
        _reference=SimpleNamespace(geometry=form, center_crop=1.0),
    )
    seen = Judge._seen(judge, frame[None])[0]
    np.testing.assert_allclose(seen, expected, atol=1e-3)


def test_a_given_geometry_stays_and_a_number_is_a_square():
    form = Geometry(3, 4, "pad", 1)
    assert geometry.of(form) is form and geometry.of(5) == Geometry(5, 5)
