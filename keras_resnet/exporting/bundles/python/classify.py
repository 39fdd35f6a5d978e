"""Classifies images with the model in this folder. Needs only ai-edge-litert, numpy and Pillow.

python classify.py photo.jpg …                prints the best classes of each photo
python classify.py --check                    runs the golden set on this machine
python classify.py --teach NAME photo.jpg …   teaches a new class, if the model is trainable
python classify.py --forget                   forgets the new classes
"""

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

try:
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter
    from PIL import Image, ImageOps
except ModuleNotFoundError as error:
    sys.exit(f"{error}; run `pip install -r requirements.txt` in the folder of this file")

HERE = Path(__file__).resolve().parent
_ORIENTATION = 0x0112  # EXIF tag; for values 5 to 8, height and width are swapped
TAUGHT = "taught.json"  # the new classes: names, features of their photos, weights
PASSES = 10  # epochs on the photos of all new classes


class Classifier:
    """The model with its labels, its preprocessing, and the new classes in `TAUGHT`."""

    def __init__(self, folder: Path = HERE, threads: int | None = None) -> None:
        self.labels = (folder / "labels.txt").read_text(encoding="utf-8").rstrip("\n").split("\n")
        contract = json.loads((folder / "preprocess.json").read_text(encoding="utf-8"))
        self.height, self.width = contract["height"], contract["width"]
        self.fit, self.crop = contract["fit"], np.float32(contract["center_crop"])
        self.channels = contract["channels"]
        self.reject = contract.get("reject")
        self.known = len(self.labels)  # new classes are appended
        model = (folder / "model.tflite").read_bytes()
        self._lite = Interpreter(model_content=model, num_threads=threads)
        names = self._lite.get_signature_list()
        self._signatures = {name: self._lite.get_signature_runner(name) for name in names}
        self._infer = self._signatures["infer" if "infer" in names else "serving_default"]
        self._taught, self._model = folder / TAUGHT, hashlib.sha256(model).hexdigest()
        self._examples: list[dict[str, Any]] = []  # of new classes: {output, features}
        if self._taught.exists():
            try:
                self._restore(json.loads(self._taught.read_text(encoding="utf-8")))
            except (ValueError, KeyError):
                sys.exit(f"{self._taught} is damaged; --forget deletes it")

    def logits(self, pixels: np.ndarray) -> np.ndarray:
        """float32 `(k,)` for uint8 pixels `(height, width, channels)`."""
        found = self._infer(image=pixels[None].astype(np.float32))["logits"][0]
        return found[: len(self.labels)]

    def teach(self, label: str, images: list[Image.Image | str | Path]) -> int:
        """Teaches a new class, or adds images to one, and saves it.

        Args:
            label: name of the class.
            images: about 20 photos of the class, paths or Pillow images.

        Returns:
            The number of these images that are recognized afterwards.

        Raises:
            ValueError: the model is not trainable, knows the class, or has no output left.
        """
        if "train" not in self._signatures:
            raise ValueError("the model is not trainable; export it with --trainable head")
        spare = self._signatures["train"].get_input_details()["label"]["shape"][1]
        new = self.labels[self.known :]
        if label in self.labels[: self.known]:
            raise ValueError(f"the model already knows {label}")
        if label not in new and len(new) == spare:
            raise ValueError(f"the model has already learned {spare} new classes, the maximum")
        pixels = [self.pixels(image) for image in images]
        if label not in new:
            self.labels.append(label)
        output = self.labels.index(label)
        for one in pixels:
            features = self._infer(image=one[None].astype(np.float32))["features"][0]
            self._examples.append(
                {"output": output - self.known, "features": [float(x) for x in features]}
            )
        for example in PASSES * self._examples:
            self._signatures["train"](
                features=np.array([example["features"]], np.float32),
                label=np.eye(spare, dtype=np.float32)[[example["output"]]],
            )
        self._save()
        return sum(int(self.logits(one).argmax()) == output for one in pixels)

    def _save(self) -> None:
        head = {name: values.tolist() for name, values in self._signatures["save"]().items()}
        content = {
            "model": self._model,
            "labels": self.labels[self.known :],
            "examples": self._examples,
            **head,
        }
        part = self._taught.with_suffix(".part")
        part.write_text(json.dumps(content), encoding="utf-8")
        part.replace(self._taught)  # atomic: a crash leaves the earlier file

    def _restore(self, content: dict[str, Any]) -> None:
        """Loads the new classes of this model; those of another model are ignored."""
        if content["model"] != self._model:
            return
        self.labels += content["labels"]
        self._examples = content["examples"]
        self._signatures["restore"](
            weights=np.array(content["weights"], np.float32),
            bias=np.array(content["bias"], np.float32),
        )

    def pixels(self, image: Image.Image | str | Path) -> np.ndarray:
        """The path of a photo or an opened Pillow image, upright, on white, fitted: uint8
        `(height, width, channels)`."""
        if isinstance(image, Image.Image):
            return self._fitted(image, image.size)
        with Image.open(image) as photo:
            stored = photo.size
            # libjpeg decodes a large photo at 1/2, 1/4 or 1/8, with at least 8 pixels per input
            # pixel.
            photo.draft(None, (8 * max(self.height, self.width),) * 2)
            return self._fitted(photo, stored)

    def _fitted(self, image: Image.Image, stored: tuple[int, int]) -> np.ndarray:
        """As `pixels`, for an image that may be decoded smaller than its `stored` size."""
        is_on_its_side = image.getexif().get(_ORIENTATION) in range(5, 9)
        ratio = round(stored[0] / image.width)
        upright = _opaque(ImageOps.exif_transpose(image), image.format)
        displayed = stored[::-1] if is_on_its_side else stored
        width, height = self._part(*displayed) if self.fit == "crop" else displayed
        size = self._size(width, height)
        x, y = (displayed[0] - width) // 2, (displayed[1] - height) // 2
        left, top = x // ratio, y // ratio
        part = upright.crop((left, top, -(-(x + width) // ratio), -(-(y + height) // ratio)))
        box = (x / ratio - left, y / ratio - top, width / ratio, height / ratio)
        # Pillow's bilinear filter is antialiased.
        part = part.resize(
            size, Image.Resampling.BILINEAR, (box[0], box[1], box[0] + box[2], box[1] + box[3])
        )
        whole = Image.new("RGB", (self.width, self.height))  # black
        whole.paste(part, ((self.width - size[0]) // 2, (self.height - size[1]) // 2))
        mode = "RGB" if self.channels == 3 else "L"
        return self.shaped(np.array(whole.convert(mode)))

    def shaped(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels with a channel axis, which grey ones lack, as the model takes them."""
        return pixels.reshape(self.height, self.width, self.channels)

    def _part(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of the centre part that is classified, with the input's aspect ratio."""
        if height * self.width <= width * self.height:
            h = self._share(height)
            return min(max((h * self.width + self.height // 2) // self.height, 1), width), h
        w = self._share(width)
        return w, min(max((w * self.height + self.width // 2) // self.width, 1), height)

    def _share(self, side: int) -> int:
        return max(round(float(np.float32(side) * self.crop)), 1)

    def _size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of that part after the resize."""
        if self.fit != "pad":
            return self.width, self.height
        half = np.float32(0.5)
        across, down = np.float32(width * self.height), np.float32(height * self.width)
        if down >= across:
            return min(max(int(across / np.float32(height) + half), 1), self.width), self.height
        return self.width, min(max(int(down / np.float32(width) + half), 1), self.height)

    def rejects(self, logits: np.ndarray) -> bool:
        """Whether an image is rejected as "none of these", from the logits of the known classes and
        the threshold in preprocess.json."""
        if not self.reject:
            return False
        most = self.reject["most_energy"]
        too_large = most is not None and certainty("energy", logits) > most
        return too_large or certainty(self.reject["score"], logits) < self.reject["threshold"]

    def classify(self, image: Image.Image | str | Path, top: int = 3) -> list[tuple[str, float]]:
        """The `top` best classes of a photo, a path or a Pillow image: [(label, score), …], scores
        in 0…1; [] if it is rejected."""
        logits = self.logits(self.pixels(image))
        if logits.argmax() < self.known and self.rejects(logits[: self.known]):
            return []
        scores = softmax(logits)
        best = np.argsort(-scores, kind="stable")[:top]
        return [(self.labels[k], float(scores[k])) for k in best]


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def certainty(score: str, logits: np.ndarray) -> float:
    """The score for the threshold in preprocess.json: the maximum probability, the energy (log of
    the sum of the exponentials), or the margin between the two largest logits."""
    second, best = np.sort(logits.astype(np.float64))[-2:]
    if score == "margin":
        return best - second
    energy = best + np.log(np.exp(logits - best).sum())
    return energy if score == "energy" else np.exp(best - energy)


def _opaque(image: Image.Image, file_format: str | None) -> Image.Image:
    """The image as TensorFlow decodes it in the training: alpha on white, in a GIF on black; the
    transparent colour of a grey or RGB PNG is kept."""
    if file_format == "PNG" and image.mode != "P":
        image.info.pop("transparency", None)
    if image.mode == "RGB":
        return image
    ground = "black" if file_format == "GIF" else "white"
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, ground), image).convert("RGB")


def is_clear(logits: np.ndarray, tolerance: float) -> bool:
    """Whether errors of the logits up to the tolerance cannot change the best class."""
    second, best = np.sort(logits)[-2:]
    return best - second > 2 * tolerance


def check(classifier: Classifier, folder: Path = HERE / "golden") -> int:
    """Runs the golden set; returns the number of images that failed."""
    golden = json.loads((folder / "golden.json").read_text(encoding="utf-8"))
    tolerance, photo_tolerance = golden["tolerance"]["model.tflite"], golden["photo_tolerance"]
    failed, distances, differences, answers = 0, [], [], b""
    for entry in golden["images"]:
        expected = np.array(entry["logits"]["model.tflite"], np.float32)
        pixels = classifier.shaped(np.array(Image.open(folder / entry["file"])))
        good = hashlib.sha256(pixels.tobytes()).hexdigest() == entry["sha256"]
        logits = classifier.logits(pixels)[: classifier.known]
        answers += logits.astype("<f4").tobytes()
        distances.append(np.abs(logits - expected).max())
        good &= distances[-1] <= tolerance
        views = [pixels]
        if entry["photo"]:
            own = classifier.pixels(folder / entry["photo"])
            differences.append(np.abs(own.astype(int) - pixels).mean())
            good &= differences[-1] <= photo_tolerance
            views.append(own)
            if is_clear(expected, tolerance):
                logits = classifier.logits(own)[: classifier.known]
                good &= logits.argmax() == expected.argmax()
        rejected = entry["rejected"]["model.tflite"]
        if rejected is not None:  # None: uncertain
            known = [classifier.logits(view)[: classifier.known] for view in views]
            good &= all(classifier.rejects(logits) == rejected for logits in known)
        if not good:
            print(f"{entry['file']}: NOT as expected", file=sys.stderr)
        failed += not good
    print(f"{len(distances) - failed} of {len(distances)} images as expected")
    print(f"logits within {max(distances):.2g}, {tolerance:.2g} allowed")
    if exact := golden["answers_sha256"].get("model.tflite"):
        found = hashlib.sha256(answers).hexdigest()
        same = "same as at export" if found == exact else "different from the export: other kernels"
        print(f"outputs have sha256 {found[:16]}…, {same}")
    if differences:
        print(
            f"pixels of {len(differences)} photos within {max(differences):.2g} levels on average, "
            f"{photo_tolerance:g} allowed"
        )
    return failed


def _at_least_1(text: str) -> int:
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="*", metavar="IMAGE")
    parser.add_argument(
        "--top", type=_at_least_1, default=3, metavar="K", help="number of classes per image"
    )
    parser.add_argument("--check", action="store_true", help="run the golden set")
    parser.add_argument("--teach", metavar="NAME", help="teach a new class with the images")
    parser.add_argument("--forget", action="store_true", help="forget the new classes")
    options = parser.parse_args()
    if options.forget:
        taught = HERE / TAUGHT
        print("forgot the new classes" if taught.exists() else "there are no new classes to forget")
        taught.unlink(missing_ok=True)
    if options.teach and not options.images:
        parser.error(f"--teach {options.teach}: give about 20 images of the new class")
    if not (options.images or options.check or options.forget):
        parser.error("give images, or --check")
    classifier = Classifier()
    if options.check:
        return check(classifier) > 0
    if options.teach:
        try:
            recognized = classifier.teach(options.teach, options.images)
        except OSError as error:
            parser.error(f"{error.filename or options.teach}: {error.strerror or error}")
        except ValueError as error:
            parser.error(str(error))
        count = len(options.images)
        print(f"learned {options.teach} from {count} images; recognizes {recognized} of them")
        return 0
    for path in options.images:
        try:
            answers = classifier.classify(path, options.top)
        except (OSError, Image.DecompressionBombError) as error:
            reason = getattr(error, "strerror", None) or "not an image that Pillow can read"
            if isinstance(error, IsADirectoryError):
                reason = f"a folder; give its images, such as {path.rstrip('/')}/*"
            print(f"classify.py: {path}: {reason}", file=sys.stderr)
            return 2
        classes = [f"{label} {score:.1%}" for label, score in answers]
        print(path, *(classes or ["none of these"]), sep="  ")
    return 0


if __name__ == "__main__":
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    sys.exit(status)
