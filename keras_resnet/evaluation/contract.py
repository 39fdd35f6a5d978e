"""Inputs and outputs of an exported file, as described in its `preprocess.json`.

By default: pixels of the model's own size in, logits out. Options of the export change this:
camera frames, a temperature, softmax, the best classes only, or a threshold under which an image is
of none of the classes. All files of one folder have the same.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet import filenames
from keras_resnet.errors import InputError
from keras_resnet.evaluation.metrics import log_softmax
from keras_resnet.files import read_json
from keras_resnet.geometry import Geometry

SCORES = ("logits", "softmax")
# What a threshold for "none of these" is set on; the larger, the more certain is the model.
REJECTION_SCORES = ("probability", "energy", "margin")
_LEAST = 1e-12  # a probability of 0 has no logarithm


@dataclass(frozen=True)
class Rejection:
    """The answer "none of these": where the score of an output is below the threshold, or its
    energy above all that images of known classes have. Noise has a large one: its activations are
    larger than any that the network was trained on."""

    score: str  # of `REJECTION_SCORES`
    threshold: float
    most_energy: float | None  # None: any
    share: float  # of the images of known classes that may be refused, in 0…1
    fitted_on: int  # images of known classes

    def rejects(self, logits: np.ndarray) -> np.ndarray:
        """Whether images are of none of the classes, by logits `(b, k)`, bool `(b,)`."""
        refused = certainty(self.score, logits) < self.threshold
        if self.most_energy is not None:
            refused |= certainty("energy", logits) > self.most_energy
        return refused

    def is_decided(self, logits: np.ndarray, tolerance: float) -> np.ndarray:
        """Whether logits `(b, k)` that are each off by the tolerance are refused or not alike, bool
        `(b,)`."""
        scores = np.append(certainty(self.score, logits), self.threshold)
        if self.score == "probability":  # of which the log-odds move like the margin
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
    """A score of `REJECTION_SCORES` of logits `(b, k)`, `(b,)`.

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
    top: int | None = None  # how many classes a file names, best first; None: all, in order
    input_size: tuple[int, int] | None = None  # (height, width) of the frame that it crops itself
    reject: Rejection | None = None  # None: an image is always of one of the classes

    @property
    def has_own_ends(self) -> bool:
        """Whether a file takes the model's own size and gives logits of all classes."""
        return self.scores == "logits" and not self.top and not self.input_size

    @property
    def fitted(self) -> dict[str, str]:
        """The options of `export` that fitted something on validation images, as they are given, by
        name."""
        options = {}
        if self.reject:
            options["reject"] = f"--reject {self.reject.share:g}"
        if self.temperature != 1:
            options["calibrate_probabilities"] = "--calibrate-probabilities"
        return options

    def view(self, model: Geometry, crop: float) -> tuple[Geometry, float]:
        """The `Geometry` and crop of the part of a photo that `frames` takes, given the model's.

        With the fit "pad", a photo fills the frame, as a camera's image does: the file adds the
        black around the frame itself.
        """
        if not self.input_size:
            return model, crop
        _, _, height, width = model.window(*self.input_size, 1.0)
        fit = "crop" if model.fit == "pad" else model.fit
        return replace(model, height=height, width=width, fit=fit), 1.0

    def frames(self, parts: np.ndarray) -> np.ndarray:
        """Parts of photos as `view` says -> what a file takes, `(b, h, w, c)`.

        With the fit "crop", a file looks at the middle of its frame alone: with black around it, a
        photo of any shape is shown to it as evaluation sees it.
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
        """Logits, up to a constant, `(b, k)` of what a file gives."""
        return np.log(np.maximum(scores, _LEAST)) if self.scores == "softmax" else scores

    def expected(self, logits: np.ndarray) -> np.ndarray:
        """What `to_logits` gives of a sound file, by the model's logits `(b, k)`."""
        logits = logits / self.temperature
        return log_softmax(logits) if self.scores == "softmax" else logits

    def rejects(self, logits: np.ndarray) -> np.ndarray:
        """Whether images are of none of the classes, by what `to_logits` gives, bool `(b,)`."""
        if not self.reject:
            return np.zeros(len(logits), bool)
        if self.scores == "softmax":  # the scores of int8 do not add up to 1
            return np.exp(logits.max(-1)) < self.reject.threshold
        return self.reject.rejects(logits)

    def compare(self, found: np.ndarray, expected: np.ndarray) -> "Deviation":
        """How far the output of a file is from the model's, in units of the output.

        Args:
            found: what `to_logits` made of its scores, `(b, k)`.
            expected: the model's logits for the same pixels, `(b, k)`.
        """
        return deviation(*self.outputs(found, expected))

    def outputs(self, found: np.ndarray, *expected: np.ndarray) -> list[np.ndarray]:
        """What is compared, each in units of the output; arguments as in `compare`."""
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
    """How far an output is from the expected one."""

    most: float  # largest absolute difference
    largest: float  # largest absolute value that was expected
    rms: float  # root mean square of the difference, as a share of that of the expected values
    slope: float  # of found against expected values, 1 if none is scaled


def deviation(found: np.ndarray, expected: np.ndarray) -> Deviation:
    """The `Deviation` of an output `(n, k)` from the expected one."""
    power = float(np.square(expected, dtype=np.float64).sum()) or 1.0  # all are 0
    return Deviation(
        most=float(np.abs(found - expected).max()),
        largest=float(np.abs(expected).max()),
        rms=float(np.sqrt(np.square(found - expected, dtype=np.float64).sum() / power)),
        slope=float(np.multiply(found, expected, dtype=np.float64).sum() / power),
    )


def spread(scores: np.ndarray, classes: np.ndarray, count: int) -> np.ndarray:
    """Probabilities of all classes from those of the best.

    Args:
        scores: `(b, n)`, probabilities of the classes named.
        classes: int `(b, n)`.
        count: k, the number of all classes.

    Returns:
        `(b, k)`: what is left of 1 is shared evenly by the others, none of which is given more
        than the last that was named.
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
    """The `Contract` of files that are there.

    Raises:
        InputError: preprocess.json is missing or damaged, so that nobody can tell.
    """
    try:
        if (folder / filenames.PREPROCESS).exists():
            return read_contract(folder)
        reason = f"{folder} has no {filenames.PREPROCESS}"
    except InputError as error:
        reason = str(error)
    raise InputError(f"{reason}; to export everything again, delete {folder}")


def contract_of(content: Mapping[str, Any], file: Path) -> Contract:
    """The `Contract` in the content of a preprocess.json, which was read from `file`.

    Raises:
        InputError: it is damaged.
    """
    scores, temperature = content.get("scores", "logits"), content.get("temperature", 1.0)
    top, size = content.get("top"), content.get("input_size")
    reject = content.get("reject")
    sound = {
        "scores": scores in SCORES,
        "temperature": isinstance(temperature, int | float) and 0 < temperature < math.inf,
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
    return isinstance(value, int | float) and math.isfinite(value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value > 0
