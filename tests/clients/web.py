"""The web bundle in headless Chromium: the golden set, and a photo as a person would give it."""

import functools
import http.server
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
        assert outcome == "passed", page.evaluate("document.getElementById('status').innerText")

        page.open(address)
        page.wait_for("document.getElementById('status')?.textContent === 'Ready.'")
        page.choose_file("#file", photo)
        page.wait_for(
            "document.querySelector('#answers li') && document.querySelector('#shown').complete"
        )
        yield f"{photo.name}: " + page.evaluate(
            "document.querySelector('#answers li').innerText.replace(/\\s+/g, ' ')"
        )
        yield page.evaluate("document.getElementById('status').innerText")
        page.screenshot(work / "web-photo.png")

        noise = work / "noise.png"
        pixels = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(noise)
        (expected,) = kr.predict(export / "model_int8.tflite", [noise], top=1)
        said = "None of these" if expected.rejected else expected.predictions[0].label
        page.choose_file("#file", noise)
        page.wait_for(f"document.querySelector('#answers li').innerText.startsWith('{said}')")
        yield f"noise: {said}, as predict says"
        page.screenshot(work / "web-noise.png")

        page.evaluate("document.getElementById('camera').click()")
        page.wait_for("document.getElementById('video').videoWidth")
        page.wait_for("document.getElementById('status').innerText.includes('ms in the network')")
        yield "the (simulated) camera is classified frame by frame"
        page.screenshot(work / "web-camera.png")


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
