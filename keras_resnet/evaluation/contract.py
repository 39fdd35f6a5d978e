"""Inputs and outputs of an exported file, as described in its `preprocess.json`.

By default: pixels of the model's input size in, logits out. Options of the export change this:
camera frames, a temperature, softmax, the best classes only, or a threshold below which an image is
rejected as "none of these". All files of a folder have the same contract.
"""

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet import filenames
from keras_resnet.choices import SCORES
from keras_resnet.errors import InputError
from keras_resnet.evaluation.metrics import log_softmax
from keras_resnet.files import read_json
from keras_resnet.geometry import Geometry

# Scores for the threshold of "none of these"; the larger, the more certain the model.
REJECTION_SCORES = ("probability", "energy", "margin")
_LEAST = 1e-12  # a probability of 0 has no logarithm


@dataclass(frozen=True)
class Rejection:
    """Rejects an image as "none of these" if the score of its output is below the threshold, or its
    energy is above that of all images of known classes. Noise has a large energy: its activations
    are larger than those of any training image."""

    score: str  # one of `REJECTION_SCORES`
    threshold: float
    most_energy: float | None  # None: no limit
    share: float  # of the images of known classes that may be rejected, in 0…1
    fitted_on: int  # number of images of known classes

    def rejects(self, logits: np.ndarray) -> np.ndarray:
        """Whether images with these logits `(b, k)` are rejected, bool `(b,)`."""
        refused = certainty(self.score, logits) < self.threshold
        if self.most_energy is not None:
            refused |= certainty("energy", logits) > self.most_energy
        return refused

    def is_decided(self, logits: np.ndarray, tolerance: float) -> np.ndarray:
        """Whether errors of the logits `(b, k)` up to `tolerance` cannot change the decision, bool
        `(b,)`."""
        scores = np.append(certainty(self.score, logits), self.threshold)
        if self.score == "probability":  # its log-odds change by at most 2 × tolerance, as a margin
            with np.errstate(divide="ignore", invalid="ignore"):
                scores = np.log(scores) - np.log1p(-scores)
        above = scores[:-1] - scores[-1]
        moved = tolerance if self.score == "energy" else 2 * tolerance
        most = math.inf if self.most_energy is None else self.most_energy
        beyond = certainty("energy", logits) - most
        is_refused = (above < -moved) | (beyond > tolerance)
        is_accepted = (above > moved) & (beyond < -tolerance)
        return is_refused | is_accepted


def certainty(score: str, logits: np.ndarray) -> np.ndarray:
    """One of `REJECTION_SCORES` for logits `(b, k)`, `(b,)`.

    "probability" is the maximum of the softmax (arXiv:1610.02136), "energy" the logarithm of the
    sum of the exponentials (arXiv:2010.03759, with a temperature of 1), "margin" the difference of
    the two largest logits.
    """
    second, best = np.sort(np.asarray(logits, np.float64), -1)[:, -2:].T
    if score == "margin":
        return best - second
    energy = best + np.log(np.exp(logits - best[:, None]).sum(-1))
    return energy if score == "energy" else np.exp(best - energy)


@dataclass(frozen=True)
class Contract:
    """Inputs and outputs of a file; the defaults also hold for models of other tools."""

    scores: str = "logits"  # or "softmax": probabilities
    temperature: float = 1.0  # the logits are divided by it (arXiv:1706.04599, section 4.2)
    top: int | None = None  # number of classes in the output, best first; None: all, in order
    input_size: tuple[int, int] | None = None  # (height, width) of frames that the file crops
    reject: Rejection | None = None  # None: no image is rejected

    @property
    def has_own_ends(self) -> bool:
        """Whether the file has the inputs and outputs of the model: its size, all logits."""
        return self.scores == "logits" and not self.top and not self.input_size

    @property
    def fitted(self) -> dict[str, str]:
        """The options of `export` whose values were fitted on validation images: name -> text."""
        options = {}
        if self.reject:
            options["reject"] = f"--reject {self.reject.share:g}"
        if self.temperature != 1:
            options["calibrate_probabilities"] = "--calibrate-probabilities"
        return options

    def view(self, model: Geometry, crop: float) -> tuple[Geometry, float]:
        """The `Geometry` and crop of the part of a photo that `frames` takes, from the model's.

        With the fit "pad", the photo fills the frame as a camera image does: the file pads the
        frame itself.
        """
        if not self.input_size:
            return model, crop
        _, _, height, width = model.window(*self.input_size, 1.0)
        fit = "crop" if model.fit == "pad" else model.fit
        return replace(model, height=height, width=width, fit=fit), 1.0

    def frames(self, parts: np.ndarray) -> np.ndarray:
        """Input of the file `(b, h, w, c)` from parts of photos as described by `view`.

        With the fit "crop", the file uses only the middle of its frame: a photo of any shape,
        padded with black, gives the same pixels as in evaluation.
        """
        if not self.input_size:
            return parts
        height, width = self.input_size
        h, w = parts.shape[1:3]
        top, left = (height - h) // 2, (width - w) // 2
        frame = np.zeros((len(parts), height, width, parts.shape[3]), parts.dtype)
        frame[:, top : top + h, left : left + w] = parts
        return frame

    def to_logits(self, scores: np.ndarray) -> np.ndarray:
        """Logits, up to a constant, `(b, k)` from the output of the file."""
        return np.log(np.maximum(scores, _LEAST)) if self.scores == "softmax" else scores

    def expected(self, logits: np.ndarray) -> np.ndarray:
        """The result of `to_logits` for a correct file, from the model's logits `(b, k)`."""
        logits = logits / self.temperature
        return log_softmax(logits) if self.scores == "softmax" else logits

    def rejects(self, logits: np.ndarray) -> np.ndarray:
        """Whether images are rejected, from the result of `to_logits`, bool `(b,)`."""
        if not self.reject:
            return np.zeros(len(logits), bool)
        if self.scores == "softmax":  # int8 probabilities do not add up to 1
            return np.exp(logits.max(-1)) < self.reject.threshold
        return self.reject.rejects(logits)

    def compare(self, found: np.ndarray, expected: np.ndarray) -> "Deviation":
        """The deviation of the output of a file from the model's, in units of the output.

        Args:
            found: the result of `to_logits` for the file, `(b, k)`.
            expected: the model's logits for the same pixels, `(b, k)`.
        """
        return deviation(*self.outputs(found, expected))

    def outputs(self, found: np.ndarray, *expected: np.ndarray) -> list[np.ndarray]:
        """The arrays to compare, in units of the output; arguments as in `compare`."""
        both = [found, *map(self.expected, expected)]
        if self.scores == "softmax":
            both = [np.exp(x) for x in both]
        if self.top:  # classes outside the top k are not compared
            named = np.argsort(-found, axis=-1, kind="stable")[:, : self.top]
            both = [np.take_along_axis(x, named, -1) for x in both]
        return both


PLAIN = Contract()


@dataclass(frozen=True)
class Deviation:
    """The difference between an output and the expected one."""

    most: float  # largest absolute difference
    largest: float  # largest absolute expected value
    rms: float  # RMS of the difference, relative to the RMS of the expected values
    slope: float  # of found against expected values; 1 if the output is not scaled


def deviation(found: np.ndarray, expected: np.ndarray) -> Deviation:
    """The `Deviation` of an output `(n, k)` from the expected one."""
    power = float(np.square(expected, dtype=np.float64).sum()) or 1.0  # 1 if all are 0
    return Deviation(
        most=float(np.abs(found - expected).max()),
        largest=float(np.abs(expected).max()),
        rms=float(np.sqrt(np.square(found - expected, dtype=np.float64).sum() / power)),
        slope=float(np.multiply(found, expected, dtype=np.float64).sum() / power),
    )


def spread(scores: np.ndarray, classes: np.ndarray, count: int) -> np.ndarray:
    """Probabilities of all classes from those of the best.

    Args:
        scores: `(b, n)`, probabilities of the best classes.
        classes: int `(b, n)`, their indices.
        count: k, the number of all classes.

    Returns:
        `(b, k)`: the rest to 1 is spread evenly over the other classes, at most the smallest of
        `scores` for each.
    """
    others = max(count - scores.shape[1], 1)
    rest = np.maximum(1 - scores.sum(-1, keepdims=True), 0) / others
    whole = np.repeat(np.minimum(rest, scores.min(-1, keepdims=True)), count, axis=-1)
    np.put_along_axis(whole, classes, scores, -1)
    return whole


def read_contract(folder: Path) -> Contract:
    """The `Contract` of the files in `folder`; the default if there is no preprocess.json.

    Raises:
        InputError: preprocess.json is damaged.
    """
    file = folder / filenames.PREPROCESS
    return contract_of(read_json(file) if file.exists() else {}, file)


def require_contract(folder: Path) -> Contract:
    """The `Contract` of the existing files in `folder`.

    Raises:
        InputError: preprocess.json is missing or damaged.
    """
    try:
        if (folder / filenames.PREPROCESS).exists():
            return read_contract(folder)
        reason = f"{folder} has no {filenames.PREPROCESS}"
    except InputError as error:
        reason = str(error)
    raise InputError(f"{reason}; to export everything again, delete {folder}")


def contract_of(content: Mapping[str, Any], file: Path) -> Contract:
    """The `Contract` from the content of a preprocess.json.

    Args:
        content: the content.
        file: the path it was read from, for messages.

    Raises:
        InputError: the content is damaged.
    """
    scores, temperature = content.get("scores", "logits"), content.get("temperature", 1.0)
    top, size = content.get("top"), content.get("input_size")
    reject = content.get("reject")
    sound = {
        "scores": scores in SCORES,
        "temperature": _is_finite(temperature) and temperature > 0,
        "top": top is None or _is_count(top),
        "input_size": size is None
        or (isinstance(size, list) and len(size) == 2 and all(map(_is_count, size))),
        "reject": reject is None or _is_rejection(reject),
    }
    for name, good in sound.items():
        if not good:
            raise InputError(f"{file} is damaged: {name} is {content[name]!r}; export it again")
    rejection = Rejection(**{f.name: reject[f.name] for f in fields(Rejection)}) if reject else None
    return Contract(scores, temperature, top, (size[0], size[1]) if size else None, rejection)


def _is_rejection(value: object) -> bool:
    if not isinstance(value, dict) or value.get("score") not in REJECTION_SCORES:
        return False
    threshold, most, share = (value.get(key) for key in ("threshold", "most_energy", "share"))
    return (
        _is_finite(threshold)
        and "most_energy" in value
        and (most is None or _is_finite(most))
        and isinstance(share, float)
        and 0 < share < 1
        and _is_count(value.get("fitted_on"))
    )


def _is_finite(value: object) -> bool:
    # An integer may have any number of digits.
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value > 0
