"""Each bundle runs as it was written. Tests that need a browser, MediaPipe or another processor are
in tests/clients/; `make clients` runs them.
"""

import importlib.util
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from keras_resnet.choices import BUNDLES
from keras_resnet.data import folder as photo_folder
from keras_resnet.data.stream import evaluation_stream
from keras_resnet.errors import InputError
from keras_resnet.exporting import bundling, golden, guard
from keras_resnet.exporting.plan import make_plan
from keras_resnet.filenames import TFLITE
from keras_resnet.files import read_json
from keras_resnet.inspection import metadata
from keras_resnet.manifest import fingerprint

ROOT = Path(__file__).parents[1]
ORIGIN = "trained with keras-resnet-edge on photos"
LABELS = ["bright", "dark", "striped"]
READER = Path(__file__).with_name("rgba.mjs").as_uri()  # of test images, in JavaScript


@pytest.fixture(scope="module")
def bundled(exported, tmp_path_factory):
    """A copy of an export folder with all bundles; the working folder has no LiteRT.js."""
    run, _ = exported
    folder = tmp_path_factory.mktemp("bundled") / "export"
    shutil.copytree(run.export_folder, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        bundling.write(make_plan(run, bundles=BUNDLES), folder, ORIGIN)
    return folder


@pytest.fixture
def copy(bundled, tmp_path):
    """A copy that may be changed."""
    shutil.copytree(bundled, tmp_path / "export")
    return tmp_path / "export"


HOMES = {
    "android": "bundle_android/app/src/main/assets",
    "web": "bundle_web",
    "python": "bundle_python",
    "c": "bundle_c",
}


@pytest.mark.parametrize("kind", BUNDLES)
def test_a_bundle_holds_the_smallest_file_with_float_ends_and_its_labels(bundled, kind):
    home = bundled / HOMES[kind]
    assert fingerprint(home / "model.tflite") == fingerprint(bundled / TFLITE["int8"])
    assert (home / "labels.txt").read_text().splitlines() == LABELS
    assert read_json(home / "preprocess.json") == read_json(bundled / "preprocess.json")


@pytest.mark.parametrize("kind", BUNDLES)
def test_its_readme_says_which_model_it_is(bundled, kind):
    text = (bundled / f"bundle_{kind}" / "README.md").read_text()
    assert TFLITE["int8"] in text and fingerprint(bundled / TFLITE["int8"])["sha256"] in text


def test_programs_without_json_have_the_centre_crop_as_a_constant(copy, exported):
    path = copy / "preprocess.json"
    path.write_text(json.dumps(read_json(path) | {"center_crop": 0.875}))
    bundling.write(make_plan(exported[0], bundles=["android", "c"]), copy, ORIGIN)
    kotlin = next((copy / "bundle_android").rglob("Contract.kt")).read_text()
    assert "const val CENTER_CROP = 0.875f" in kotlin
    assert "#define CENTER_CROP 0.875f" in (copy / "bundle_c" / "contract.h").read_text()


def test_a_model_or_a_text_of_a_bundle_that_changed_is_noticed(copy, exported):
    def failed():
        return {row.file for row in guard.check(exported[0], copy)[0] if not row.passed}

    assert failed() == {f"bundle_{kind}" for kind in BUNDLES}  # no export has recorded them
    guard.record_files(copy)
    assert failed() == set()
    names = ("model.tflite", "labels.txt", "preprocess.json")
    changed = {f"{home}/{name}" for home in HOMES.values() for name in names}
    for name in changed:
        (copy / name).write_bytes((copy / name).read_bytes() + b" ")
    assert failed() == changed


@pytest.mark.parametrize("kind", BUNDLES)
def test_it_holds_the_license_and_a_notice_with_the_origin_of_the_weights(bundled, kind):
    home = bundled / f"bundle_{kind}"
    assert (home / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    notice = (home / "NOTICE").read_text()
    assert ORIGIN in notice and "LiteRT" in notice


def test_the_size_of_a_bundle_is_logged_and_in_the_readme_of_the_page(copy, exported, capsys):
    bundling.write(make_plan(exported[0], bundles=["web"]), copy, ORIGIN)
    logged = re.search(r"wrote bundle_web, (\S+ MB), with", capsys.readouterr().err)
    assert logged and f"{logged[1]} " in (copy / "bundle_web" / "README.md").read_text()
    size = sum(path.stat().st_size for path in (copy / "bundle_web").rglob("*") if path.is_file())
    assert abs(float(logged[1].split()[0]) - size / 1e6) < 0.1


@pytest.mark.parametrize("kind", BUNDLES)
def test_every_template_is_there_and_no_placeholder_is_left(bundled, kind):
    home = bundled / f"bundle_{kind}"
    templates = files("keras_resnet.exporting") / "bundles" / kind
    wanted = [p for p in templates.rglob("*") if p.is_file() and p.suffix != ".pyc"]
    assert len(wanted) >= 3
    for template in wanted:
        text = (home / template.relative_to(templates)).read_text(encoding="utf-8")
        assert not re.search(r"\{\{\w+\}\}", text), template


def test_the_python_bundle_compares_the_best_class_only_where_it_is_beyond_doubt(bundled):
    is_clear = runpy.run_path(str(bundled / "bundle_python" / "classify.py"))["is_clear"]
    logits = np.float32([0.0, 4.0, 1.0])
    assert is_clear(logits, 1.4) and not is_clear(logits, 1.5)


def test_the_python_bundle_passes_its_golden_set(classify, bundled):
    done = classify(bundled / "bundle_python", "--check")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "12 of 12 images as expected"
    assert re.search(r"outputs have sha256 [0-9a-f]{16}\S+, same as at export", done.stdout)


def test_the_python_bundle_says_how_to_install_what_it_needs(bundled):
    code = (
        "import runpy, sys; sys.modules['ai_edge_litert'] = None; "
        "runpy.run_path(sys.argv[1], run_name='__main__')"
    )
    file = bundled / "bundle_python" / "classify.py"
    done = subprocess.run([sys.executable, "-P", "-c", code, file], capture_output=True, text=True)
    assert done.returncode == 1 and "pip install -r requirements.txt" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_python_bundle_names_what_is_on_a_photo(classify, bundled, photos):
    done = classify(bundled / "bundle_python", photos / "dark" / "01.jpg", "--top", 1)
    assert re.fullmatch(r"\S+01\.jpg  dark \d+\.\d%\n", done.stdout), done.stderr


@pytest.mark.parametrize(
    ("path", "reason"),
    [("labels.txt", "not an image that Pillow can read"), ("no.jpg", "No such file or directory")],
)
def test_the_python_bundle_answers_a_bad_image_in_one_line(classify, bundled, path, reason):
    done = classify(bundled / "bundle_python", path)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == f"classify.py: {path}: {reason}\n"


def test_the_python_bundle_sees_an_image_of_16_bits_as_that_of_8(classify, bundled, tmp_path):
    grey = np.tile(np.arange(0, 250, 5, dtype=np.uint8), (50, 1))
    Image.fromarray(grey).save(tmp_path / "8.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "16.png")
    done = classify(bundled / "bundle_python", tmp_path / "8.png", tmp_path / "16.png")
    first, second = (line.split(".png")[1] for line in done.stdout.splitlines())
    assert first == second


@pytest.fixture(scope="module")
def transparent(tmp_path_factory):
    """Images whose transparent parts hold other colours, and one of 16 bits."""
    folder = tmp_path_factory.mktemp("transparent")
    rng = np.random.default_rng(0)
    grey, alpha = (rng.integers(0, 2, (6, 6), np.uint8).repeat(8, 0).repeat(8, 1) for _ in "ab")
    rgb = Image.fromarray(200 * grey).convert("RGB")
    rgba = rgb.copy()
    rgba.putalpha(Image.fromarray(255 * alpha))
    rgba.save(folder / "rgba.png")
    rgba.save(folder / "rgba.webp", lossless=True)
    rgba.save(folder / "clear.gif")
    rgb.save(folder / "one_colour.png", transparency=(200, 200, 200))
    rgb.convert("L").save(folder / "one_grey.png", transparency=200)
    palette = rgb.convert("P")
    palette.save(folder / "palette.png", transparency=palette.getpixel((0, 0)))
    rgba.convert("LA").save(folder / "grey.png")
    Image.fromarray(grey.astype(np.uint16) * 20_000).save(folder / "16.png")
    return sorted(folder.iterdir())


def test_the_python_bundle_sees_transparent_images_as_evaluation_does(bundled, transparent):
    classifier = python_classifier(bundled, 48, 1.0)
    for path, ours in zip(transparent, shown(transparent, 48, 1.0)[0], strict=True):
        theirs = classifier.pixels(path)
        assert np.abs(theirs.astype(int) - ours).max() <= 1, path.name


def test_the_plain_golden_set_holds_photos_as_evaluation_decodes_them(transparent, tmp_path):
    """For programs in C, and tests on a computer, that read PPM only."""
    source, names = tmp_path / "golden", ("rgba.png", "16.png", "clear.gif")
    source.mkdir()
    Image.new("RGB", (48, 48)).save(source / "00.png")
    entries = []
    for path in transparent:
        if path.name in names:
            shutil.copy(path, source)
            values = {"logits": {"m": [0.0, 1.0]}, "rejected": {"m": False}}
            entries.append({"file": "00.png", "photo": path.name, **values})
    limits = {"tolerance": {"m": 1.0}, "photo_tolerance": 3.0}
    index = {**limits, "answers_sha256": {}, "images": entries}
    (source / "golden.json").write_text(json.dumps(index))
    bundling._put_plain_golden(tmp_path, tmp_path / "plain", Path("m"))
    files = [path for path in transparent if path.name in names]
    for path, ours in zip(files, shown(files, 48, 1.0)[0], strict=True):
        plain = np.asarray(Image.open(tmp_path / "plain" / f"{path.stem}.ppm"))
        np.testing.assert_array_equal(plain, ours, err_msg=path.name)


def test_the_python_bundle_answers_with_at_least_one_class(classify, bundled, photos):
    done = classify(bundled / "bundle_python", photos / "dark" / "01.jpg", "--top", 0)
    assert done.returncode == 2 and "argument --top: invalid" in done.stderr


def test_the_python_bundle_ends_quietly_in_a_pipe(bundled, photos):
    program = [sys.executable, bundled / "bundle_python/classify.py", *[photos / "dark/01.jpg"] * 3]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(program, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert "Error" not in done.stderr and done.returncode == 0


def test_the_python_bundle_notices_another_model(classify, copy):
    home = copy / "bundle_python"
    shutil.copyfile(copy / TFLITE["none"], home / "model.tflite")
    index = read_json(home / "golden" / "golden.json")
    index["tolerance"]["model.tflite"] = 1e-6  # the two files differ by more
    (home / "golden" / "golden.json").write_text(json.dumps(index))
    done = classify(home, "--check")
    assert done.returncode == 1 and "NOT as expected" in done.stderr


def test_the_python_bundle_notices_a_photo_that_was_squeezed(classify, copy):
    home = copy / "bundle_python"
    photo = next((home / "golden").glob("02_photo.*"))  # stripes, 40×48
    with Image.open(photo) as image:
        image.resize((80, 48), Image.Resampling.BILINEAR).save(photo)
    done = classify(home, "--check")
    assert done.returncode == 1 and "02.png: NOT as expected" in done.stderr


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Two photographs in the eight EXIF orientations: paths."""
    folder = tmp_path_factory.mktemp("scenes")
    paths = []
    for name, pixels in zip(("china", "flower"), load_sample_images().images, strict=True):
        for orientation in range(1, 9):
            exif = Image.Exif()
            exif[0x0112] = orientation
            paths.append(folder / f"{name}{orientation}.jpg")
            Image.fromarray(pixels[:, 60:500]).save(paths[-1], quality=92, exif=exif)
    return paths


def shown(paths, size, crop):
    """What evaluation shows of files: uint8 `(n, size, size, 3)`."""
    found, bad = photo_folder.from_paths({str(path): path.name for path in paths})
    assert not bad
    stream = evaluation_stream(found, size=size, crop=crop, batch_size=8)
    return np.concatenate([batch for batch, _ in stream.as_numpy_iterator()]), found.orientations


def python_classifier(bundled, size, crop):
    spec = importlib.util.spec_from_file_location(
        "bundled_classify", bundled / "bundle_python" / "classify.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    classifier = module.Classifier()
    classifier.height, classifier.width, classifier.crop = size, size, np.float32(crop)
    return classifier


@pytest.mark.parametrize(("size", "crop"), [(64, 0.875), (64, 1.0), (224, 0.9)])
def test_the_python_bundle_sees_photos_as_evaluation_does(bundled, scenes, size, crop):
    classifier = python_classifier(bundled, size, crop)
    ours, orientations = shown(scenes, size, crop)
    theirs = np.stack([classifier.pixels(path) for path in scenes])
    differences = np.abs(theirs.astype(int) - ours).mean((1, 2, 3))
    # Of a turned photo we too decode the whole; an upright one libjpeg shrinks on the way.
    assert differences[orientations > 1].max() < 0.25
    assert differences.max() < golden.PHOTO_TOLERANCE


def test_the_python_bundle_decodes_a_large_photo_at_a_fraction(bundled, scenes, tmp_path):
    with Image.open(scenes[5]) as photo:  # turned
        large = photo.resize((1760, 1708), Image.Resampling.BICUBIC)
        large.save(tmp_path / "large.jpg", exif=photo.getexif())
    classifier = python_classifier(bundled, 32, 0.875)
    sizes, fitted = [], classifier._fitted
    classifier._fitted = lambda image, *stored: sizes.append(image.size) or fitted(image, *stored)
    ours, _ = shown([tmp_path / "large.jpg"], 32, 0.875)
    with Image.open(tmp_path / "large.jpg") as photo:
        for given in (tmp_path / "large.jpg", str(tmp_path / "large.jpg"), photo):
            theirs = classifier.pixels(given)
            assert np.abs(theirs.astype(int) - ours[0]).mean() < 0.25
        assert sizes == [(440, 427), (440, 427), (1760, 1708)]
        assert photo.size == (1760, 1708)  # an app may save the photo that it opened


def test_the_python_bundle_turns_a_photo_that_is_a_square_at_a_fraction_of_its_size(
    bundled, scenes, tmp_path
):
    """704 × 698 pixels are 88 × 88 at an eighth, upright and on the side."""
    with Image.open(scenes[5]) as photo:
        exif = photo.getexif()
        photo.resize((704, 698), Image.Resampling.BICUBIC).save(tmp_path / "a.jpg", exif=exif)
    shapes = []
    classifier = python_classifier(bundled, 8, 1.0)
    classifier._part = lambda *shape: shapes.append(shape) or (shape[0], shape[0])
    classifier.pixels(tmp_path / "a.jpg")
    assert shapes == [(698, 704)]


def resize_cases(scenes):
    """(upright RGB photo, its view) where we decode the whole photo."""
    chosen = [path for path in scenes if path.stem[-1] in "68"]
    views, _ = shown(chosen, 64, 0.875)
    from PIL import ImageOps

    return [
        (np.array(ImageOps.exif_transpose(Image.open(p))), v)
        for p, v in zip(chosen, views, strict=True)
    ]


@pytest.mark.skipif(shutil.which("node") is None, reason="no node")
@pytest.mark.parametrize("strip", [2**23, 2**12])
def test_the_page_resizes_as_evaluation_does(bundled, scenes, tmp_path, strip):
    """A photo of more pixels than a strip too."""
    module = (bundled / "bundle_web" / "preprocess.js").read_text()
    assert module.count("2 ** 23") == 1
    (tmp_path / "preprocess.mjs").write_text(module.replace("2 ** 23", str(strip)))
    for i, (photo, expected) in enumerate(resize_cases(scenes)):
        rgba = np.dstack([photo, np.full(photo.shape[:2], 255, np.uint8)])
        (tmp_path / "photo").write_bytes(rgba.tobytes())
        code = f"""
import {{writeFileSync}} from 'node:fs';
import {{centerView}} from './preprocess.mjs';
import {{picture}} from '{READER}';
const image = picture('photo', {photo.shape[1]}, {photo.shape[0]}, {strip});
const input = {{height: 64, width: 64, channels: 3, fit: 'crop'}};
writeFileSync('view', centerView(image, input, 0.875));
"""
        (tmp_path / "run.mjs").write_text(code)
        subprocess.run(["node", "run.mjs"], cwd=tmp_path, check=True, capture_output=True)
        view = np.frombuffer((tmp_path / "view").read_bytes(), np.uint8).reshape(64, 64, 3)
        assert np.abs(view.astype(int) - expected).max() <= 1, i  # rounding


@pytest.mark.skipif(shutil.which("cmake") is None, reason="no cmake")
def test_the_c_bundle_compiles_without_a_warning_and_passes_its_golden_set(bundled, tmp_path):
    home = bundled / "bundle_c"
    subprocess.run(
        ["cmake", "-S", home, "-B", tmp_path, f"-DPython3_EXECUTABLE={sys.executable}"],
        check=True, capture_output=True,
    )  # fmt: skip
    built = subprocess.run(["cmake", "--build", tmp_path], capture_output=True, text=True)
    assert built.returncode == 0 and "warning" not in built.stderr, built.stderr
    done = subprocess.run([tmp_path / "classify", home, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "12 of 12 images as expected"
    assert re.search(r"outputs have sha256 [0-9a-f]{16}\S+, same as at export", done.stdout)
    photo = next((home / "golden").glob("01_photo.ppm"))
    named = subprocess.run([tmp_path / "classify", home, photo], capture_output=True, text=True)
    assert re.search(r"01_photo\.ppm  dark \d+\.\d%", named.stdout)
    bad = subprocess.run([tmp_path / "classify", home, home / "labels.txt"], capture_output=True)
    assert bad.returncode == 2 and b"not a binary PPM file" in bad.stderr


def put_litert_js(folder, version):
    """A stand-in for what npm installs."""
    packages = folder / "node_modules" / "@litertjs"
    for name in ("core/dist/index.js", "wasm-utils/dist/index.js"):
        (packages / name).parent.mkdir(parents=True)
        (packages / name).write_text(name)
    (packages / "core" / "wasm").mkdir()
    for build in bundling._WASM:
        for ending in ("js", "wasm"):
            (packages / "core" / "wasm" / f"{build}.{ending}").write_text(build)
    for name in ("core", "wasm-utils"):
        (packages / name / "package.json").write_text(json.dumps({"version": version}))


def test_the_page_takes_litert_js_from_the_folders_above(copy, exported, monkeypatch, tmp_path):
    put_litert_js(tmp_path, bundling.LITERT_JS)
    (tmp_path / "deeper").mkdir()
    monkeypatch.chdir(tmp_path / "deeper")
    bundling.write(make_plan(exported[0], bundles=["web"]), copy, ORIGIN)
    page = (copy / "bundle_web" / "index.html").read_text()
    imports = json.loads(re.search(r'importmap">(.*?)</script>', page, re.DOTALL)[1])["imports"]
    for name, path in imports.items():
        content = (copy / "bundle_web" / path).read_text()
        assert content == f"{name.removeprefix('@litertjs/')}/dist/index.js"
    wasm = "litert/core/wasm/litert_wasm_internal.wasm"
    assert (copy / "bundle_web" / wasm).exists()
    monkeypatch.chdir(tmp_path.parent)  # the bundle that takes its place keeps them
    bundling._put_litert_js(tmp_path / "next", copy / "bundle_web" / "litert")
    assert (tmp_path / "next" / wasm).exists()


@pytest.mark.skipif(shutil.which("node") is None, reason="no node")
def test_npm_copies_the_files_of_litert_js_that_the_export_copies(
    copy, exported, monkeypatch, tmp_path
):
    put_litert_js(tmp_path, bundling.LITERT_JS)
    unused = tmp_path / "node_modules" / "@litertjs" / "core" / "wasm" / "unused.wasm"
    unused.write_text("")
    monkeypatch.chdir(tmp_path)
    bundling.write(make_plan(exported[0], bundles=["web"]), copy, ORIGIN)
    exported_files = files_in(copy / "bundle_web" / "litert")
    subprocess.run(["node", copy / "bundle_web" / "copy_litert.cjs"], cwd=tmp_path, check=True)
    assert files_in(tmp_path / "litert") == exported_files
    assert "core/wasm/litert_wasm_internal.wasm" in exported_files
    assert "core/wasm/unused.wasm" not in exported_files


def test_the_page_has_what_keyboards_and_screen_readers_need(bundled):
    page = (bundled / "bundle_web" / "index.html").read_text()
    assert re.search(r'<label id="drop"[^>]*>\s*<input id="file" type="file"', page)
    assert 'aria-live="polite"' in page
    assert "webgpu" not in page  # the script adds it to the list where there is an adapter
    style = (bundled / "bundle_web" / "style.css").read_text()
    assert ".stage:focus-within" in style and "outline: 3px" in style
    assert "max-width: 42rem" in style and "color-scheme: light dark" in style


def test_the_page_loads_nothing_from_elsewhere(bundled):
    home = bundled / "bundle_web"
    for path in (path for path in home.rglob("*") if path.suffix in (".html", ".js", ".css")):
        assert not re.search(r"""(?:src|href|from|url\()\s*=?\s*["']https?:""", path.read_text())


def files_in(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_another_version_of_litert_js_is_left_and_the_next_step_said(
    copy, exported, monkeypatch, tmp_path, capsys
):
    put_litert_js(tmp_path, "1.0.0")
    monkeypatch.chdir(tmp_path)
    bundling.write(make_plan(exported[0], bundles=["web"]), copy, ORIGIN)
    assert not (copy / "bundle_web" / "litert").exists()
    assert "npm install" in capsys.readouterr().err
    assert bundling.LITERT_JS in (copy / "bundle_web" / "package.json").read_text()


def test_bundles_of_an_earlier_export_follow_the_model(copy, exported):
    (copy / TFLITE["int8"]).unlink()
    shutil.rmtree(copy / "bundle_c")
    bundling.write(make_plan(exported[0]), copy, ORIGIN)
    made = fingerprint(copy / "bundle_python" / "model.tflite")
    assert made == fingerprint(copy / TFLITE["dynamic"])
    assert not (copy / "bundle_c").exists()


def test_bundles_whose_model_is_gone_go_too(copy, exported):
    for name in TFLITE.values():
        (copy / name).unlink()
    with pytest.raises(InputError, match=r"a bundle needs a .* file with float32 inputs"):
        bundling.write(make_plan(exported[0], bundles=["c"]), copy, ORIGIN)
    bundling.write(make_plan(exported[0]), copy, ORIGIN)
    assert not list(copy.glob("bundle_*"))


def test_a_file_with_integer_ends_is_not_bundled(copy, exported, monkeypatch):
    honest = bundling.census

    def with_integer_ends(path):
        found = honest(path)
        if path.name == TFLITE["int8"]:
            return replace(found, inputs=[replace(found.inputs[0], dtype="uint8")])
        return found

    monkeypatch.setattr(bundling, "census", with_integer_ends)
    bundling.write(make_plan(exported[0], bundles=["python"]), copy, ORIGIN)
    made = fingerprint(copy / "bundle_python" / "model.tflite")
    assert made == fingerprint(copy / TFLITE["dynamic"])


@pytest.mark.parametrize(
    ("kinds", "options", "said"),
    [
        ("python", {"tflite": ["int8"]}, "expected a list of bundles"),
        (["ios"], {"tflite": ["int8"]}, "--bundle ios: use one of android, web, python, c"),
        (["web"], {"tflite": []}, "--bundle web needs a .tflite file with float32 inputs"),
        (
            ["c"],
            {"tflite": ["int8"], "io": "uint8"},
            "needs a .tflite file with float32 inputs and outputs",
        ),
        (["c"], {"scores": "softmax"}, "--bundle c itself does what --scores"),
    ],
)
def test_wrong_bundles_are_refused(exported, kinds, options, said, tmp_path):
    with pytest.raises(InputError, match=said):
        make_plan(exported[0], bundles=kinds, output=tmp_path, **options)


def test_the_contract_in_the_bundled_file_is_that_of_the_run(bundled, exported):
    found = metadata.read(bundled / "bundle_python" / "model.tflite")
    assert found["version"] == fingerprint(exported[0].file("model.keras"))["sha256"]
