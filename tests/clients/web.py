"""The web bundle in headless Chromium: the golden set, and a photo as a person would give it."""

import functools
import http.server
import shutil
import threading

import numpy as np
from browser import Browser
from PIL import Image

import keras_resnet as kr


def prove(export, work):
    """Lines that say what was found.

    Args:
        export: an export folder with bundle_web/, LiteRT.js in it.
        work: a folder for the screenshots.
    """
    bundle = export / "bundle_web"
    photo = next((bundle / "golden").glob("*_photo.*"))
    camera = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with _serving(bundle) as address, Browser(*camera) as page:
        page.open(f"{address}/?check")
        outcome = page.wait_for("document.body && document.body.dataset.check")
        yield from page.evaluate("document.getElementById('status').innerText").splitlines()
        page.screenshot(work / "web-check.png")
        said = page.evaluate("document.getElementById('status').innerText")
        assert outcome == "passed" and "same as at export" in said, said

        page.open(address)
        page.wait_for("document.getElementById('status')?.textContent === 'Ready.'")
        yield from _use_the_keyboard(page)
        yield _offers_gpu_only_with_an_adapter(page)
        page.choose_file("#file", photo)
        page.wait_for(
            "document.querySelector('#answers li') && document.querySelector('#shown').complete"
        )
        yield f"{photo.name}: " + page.evaluate(
            "document.querySelector('#answers li').innerText.replace(/\\s+/g, ' ')"
        )
        yield page.evaluate("document.getElementById('timing').innerText")
        answer = page.evaluate("document.querySelector('#answers .label').textContent")
        assert page.evaluate("document.querySelector('[aria-live]').textContent") == answer
        page.screenshot(work / "web-photo.png")
        yield _stays_on_an_accelerator_that_works(page)
        yield from _look_on_a_phone(page, work)

        noise = work / "noise.png"
        pixels = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(noise)
        (expected,) = kr.predict(export / "model_int8.tflite", [noise], top=1)
        said = "None of these" if expected.rejected else expected.predictions[0].label
        page.choose_file("#file", noise)
        page.wait_for(f"document.querySelector('#answers li').innerText.startsWith('{said}')")
        yield f"noise: {said}, as predict says"
        page.screenshot(work / "web-noise.png")
        yield _shows_no_answer_for_a_broken_file(page, work / "broken.jpg", work / "web-broken.png")
        yield _reads_a_large_photo(page, export, photo, work / "large.jpg")

        page.evaluate("document.getElementById('camera').click()")
        page.wait_for("document.getElementById('video').videoWidth")
        page.wait_for("document.getElementById('timing').innerText.includes('ms for the network')")
        page.evaluate(
            "document.getElementById('timing').textContent = '';"
            "document.getElementById('accelerator').dispatchEvent(new Event('change'))"
        )
        page.wait_for("document.getElementById('status').innerText === 'Ready.'")
        page.wait_for("document.getElementById('timing').innerText.includes('ms for the network')")
        yield "the (simulated) camera is classified frame by frame, also with another model"
        page.screenshot(work / "web-camera.png")

        page.open((bundle / "index.html").as_uri())
        page.wait_for("document.body.innerText.includes('http.server')")
        page.screenshot(work / "web-file.png")
        yield "opened as a file, the page tells how to serve it"

    yield from _use_webgpu(bundle, photo)

    bare = work / "web-without-litert"
    shutil.copytree(bundle, bare, ignore=shutil.ignore_patterns("litert"), dirs_exist_ok=True)
    with _serving(bare) as address, Browser() as page:
        page.open(address)
        page.wait_for("document.body.innerText.includes('npm install')")
        yield "without LiteRT.js, the page tells how to get it"


def prove_learning(bundle, new, known, work):
    """The page with a trainable model learns a class, keeps it, and forgets it.

    Args:
        bundle: bundle_web/ with LiteRT.js and a trainable model.
        new: photos of a new class; the first 20 teach it.
        known: photos of known classes: [(path, label)].
        work: a folder for the screenshots.
    """
    camera = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with _serving(bundle) as address, Browser(*camera) as page:
        page.open(f"{address}/?check")
        outcome = page.wait_for("document.body && document.body.dataset.check")
        assert outcome == "passed", page.evaluate("document.getElementById('status').innerText")
        before = [_answer(page, path) == label for path, label in known]
        page.evaluate("document.getElementById('name').value = 'new thing'")
        page.choose_file("#photos", *new[:20])
        said = "document.getElementById('status').innerText"
        page.wait_for(f"{said}.startsWith('Learned') || {said}.includes('not added')")
        yield page.evaluate(said)
        page.screenshot(work / "web-learned.png")

        def recognized():
            found = [_answer(page, path) for path in new[20:]]
            after = [_answer(page, path) == label for path, label in known]
            return found.count("new thing"), sum(after)

        count, after = recognized()
        yield (
            f"recognizes {count} of {len(new) - 20} other photos; of {len(known)} photos of known "
            f"classes, {sum(before)} were right before and {after} are after"
        )
        assert count >= 0.9 * (len(new) - 20) and after >= 0.97 * sum(before)
        page.open("about:blank")
        page.open(address)
        page.wait_for("document.getElementById('status')?.textContent === 'Ready.'")
        assert recognized() == (count, after)
        yield "the same after the page was loaded again"
        page.evaluate("document.getElementById('camera').click()")
        page.wait_for("document.getElementById('video').videoWidth")
        page.evaluate(
            "document.getElementById('name').value = 'test image';"
            "document.getElementById('add').click()"
        )
        page.wait_for(f"{said}.startsWith('Learned test image')")
        yield page.evaluate(said) + " (of the simulated camera)"
        page.wait_for("document.querySelector('#answers .label')?.textContent === 'test image'")
        page.screenshot(work / "web-learned-camera.png")
        page.evaluate(
            "document.getElementById('camera').click(); document.getElementById('forget').click()"
        )
        page.wait_for(f"{said}.includes('forgotten')")
        assert recognized() == (0, sum(before))
        yield "forgets the new classes"


def _answer(page, photo):
    """The best class of a photo, as the page shows it."""
    page.evaluate(
        "document.getElementById('said').textContent = '';"
        "document.getElementById('status').textContent = '…'"
    )
    page.choose_file("#file", photo)
    page.wait_for("document.getElementById('status').textContent === ''")
    return page.evaluate("document.getElementById('said').textContent")


def _shows_no_answer_for_a_broken_file(page, broken, screenshot):
    broken.write_bytes(b"no picture")
    page.choose_file("#file", broken)
    page.wait_for("document.getElementById('status').classList.contains('bad')")
    left = (
        "document.querySelectorAll('#answers li, #shown:not([hidden]), #view:not([hidden])').length"
    )
    assert page.evaluate(left) == 0
    page.screenshot(screenshot)
    return page.evaluate("document.getElementById('status').innerText")


def _reads_a_large_photo(page, export, photo, large):
    """Of 108 megapixels, as some phones take."""
    Image.open(photo).convert("RGB").resize((12000, 9000)).save(large, quality=50)
    (expected,) = kr.predict(export / "model_int8.tflite", [large], top=1)
    said = expected.predictions[0].label
    page.evaluate("document.querySelector('#answers').replaceChildren()")
    page.choose_file("#file", large)
    page.wait_for(f"document.querySelector('#answers li')?.innerText.startsWith('{said}')")
    return f"{large.name}, 108 megapixels: {said}, as predict says"


def _use_the_keyboard(page):
    stops = []
    for _ in range(4):
        for kind in ("keyDown", "keyUp"):
            page.call("Input.dispatchKeyEvent", type=kind, key="Tab", windowsVirtualKeyCode=9)
        stops.append(page.evaluate("document.activeElement.id"))
        ring = page.evaluate(
            "getComputedStyle(document.activeElement.closest('.stage') ?? document.activeElement)"
            ".outlineStyle"
        )
        assert ring == "solid", f"no visible focus on {stops[-1]}"
    assert stops == ["file", "camera", "check", "accelerator"], stops
    yield "the keyboard reaches the picture, the camera, the self-test and the accelerator"


def _offers_gpu_only_with_an_adapter(page):
    has_adapter = page.evaluate("navigator.gpu?.requestAdapter().then((found) => !!found)")
    offered = page.evaluate(
        "[...document.getElementById('accelerator').options].map((o) => o.value)"
    )
    assert offered == ["wasm"] + ["webgpu"] * bool(has_adapter), offered
    return f"accelerators offered: {', '.join(offered)}"


def _stays_on_an_accelerator_that_works(page):
    page.evaluate(
        "document.getElementById('answers').replaceChildren();"
        "document.getElementById('accelerator').add(new Option('Broken', 'broken'));"
        "document.getElementById('accelerator').value = 'broken';"
        "document.getElementById('accelerator').dispatchEvent(new Event('change'))"
    )
    page.wait_for("document.getElementById('status').innerText.startsWith('Broken cannot run')")
    assert page.evaluate("document.getElementById('accelerator').value") == "wasm"
    page.evaluate(
        "document.getElementById('accelerator').lastElementChild.remove();"
        "document.getElementById('accelerator').dispatchEvent(new Event('change'))"
    )
    page.wait_for("!!document.querySelector('#answers li')")
    return "an accelerator that fails leaves the old one; another one gets the photo again"


def _use_webgpu(bundle, photo):
    """With an adapter that computes on the CPU."""
    software = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")
    with _serving(bundle) as address, Browser(*software) as page:
        page.open(address)
        page.wait_for("document.getElementById('status')?.textContent === 'Ready.'")
        if _offers_gpu_only_with_an_adapter(page).endswith("wasm"):
            yield "no WebGPU: this browser has no adapter in software"
            return
        page.evaluate(
            "document.getElementById('status').textContent = '';"
            "document.getElementById('accelerator').value = 'webgpu';"
            "document.getElementById('accelerator').dispatchEvent(new Event('change'))"
        )
        ready = page.wait_for("document.getElementById('status').textContent")
        assert ready == "Ready.", ready
        page.choose_file("#file", photo)
        page.wait_for("!!document.querySelector('#answers li')")
        yield "WebGPU, on the CPU, " + page.evaluate(
            "document.querySelector('#answers li').innerText.replace(/\\s+/g, ' ')"
        )


def _look_on_a_phone(page, work):
    page.call(
        "Emulation.setDeviceMetricsOverride", width=400, height=800, deviceScaleFactor=1,
        mobile=True,
    )  # fmt: skip
    page.call(
        "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}]
    )
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    inside = (
        "((inner, outer) => inner.top >= outer.top && inner.bottom <= outer.bottom)"
        "(document.querySelector('.invitation .button').getBoundingClientRect(),"
        " document.getElementById('drop').getBoundingClientRect())"
    )
    assert page.evaluate(inside), "no button for another picture"
    page.screenshot(work / "web-phone-dark.png")
    page.call("Emulation.clearDeviceMetricsOverride")
    page.call("Emulation.setEmulatedMedia", features=[])
    yield "400 pixels wide: nothing is cut off"


class _serving:
    """A static host on a free port of this machine; gives its address."""

    def __init__(self, folder):
        handler = functools.partial(_Quiet, directory=folder)
        self._server = http.server.ThreadingHTTPServer(("localhost", 0), handler)

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://localhost:{self._server.server_port}"

    def __exit__(self, *_):
        self._server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass
