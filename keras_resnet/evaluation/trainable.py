"""Runs the signatures of a trainable `.tflite` file by LiteRT; see `exporting.trainable`."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from keras_resnet.errors import InputError, first_line
from keras_resnet.files import StrPath

if TYPE_CHECKING:
    from ai_edge_litert.interpreter import Interpreter

SIGNATURES = ("infer", "train", "save", "restore")
SPARE = 8  # outputs for new classes in an exported file
NEVER = -1e9  # the logit of an output that is not trained
PASSES = 10  # epochs of an app's training on the photos of the new classes

Float = npt.NDArray[np.float32]


class Trainable:
    """A file whose head learns new classes.

    Args:
        path: path of the file.
        content: its bytes, if they were read already.

    Raises:
        InputError: the file is damaged or has other signatures; also raised by the methods.
    """

    def __init__(self, path: StrPath, content: bytes | None = None) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._path = path
        try:
            self._lite = Interpreter(model_content=content or Path(path).read_bytes())
            self._runners = {name: self._lite.get_signature_runner(name) for name in SIGNATURES}
        except (ValueError, RuntimeError) as error:
            raise self._unusable(error) from None

    @property
    def spare(self) -> int:
        """Number of outputs for new classes."""
        return spare_outputs(self._lite)

    def infer(self, images: np.ndarray) -> tuple[Float, Float]:
        """Logits `(b, k + SPARE)` and features of raw pixels `(b, h, w, c)` in [0, 255]."""
        found = [self._run("infer", image=image[None].astype(np.float32)) for image in images]
        return (
            np.concatenate([row["logits"] for row in found]),
            np.concatenate([row["features"] for row in found]),
        )

    def teach(self, features: Float, outputs: Iterable[int]) -> list[float]:
        """Trains spare outputs on the features of photos for `PASSES` epochs.

        Args:
            features: features from `infer`, one row per photo.
            outputs: the index of the spare output of each photo.

        Returns:
            The mean loss of each epoch.
        """
        labels = np.eye(self.spare, dtype=np.float32)[list(outputs)]
        pairs = list(zip(features, labels, strict=True))
        return [
            float(np.mean([self._run("train", features=x[None], label=y[None])["loss"]
                           for x, y in pairs]))
            for _ in range(PASSES)
        ]  # fmt: skip

    def save(self) -> dict[str, Float]:
        """Weights and bias of the spare outputs."""
        return self._run("save")

    def restore(self, head: dict[str, Float]) -> int:
        """Loads the result of `save`; returns the number of trained outputs."""
        return int(self._run("restore", **head)["trained"])

    def _run(self, name: str, **inputs: np.ndarray) -> dict[str, Any]:
        try:
            return self._runners[name](**inputs)
        except (ValueError, RuntimeError, TypeError) as error:
            raise self._unusable(error) from None

    def _unusable(self, error: Exception) -> InputError:
        return InputError(f"{self._path} cannot be trained in LiteRT ({first_line(error)})")


def spare_outputs(lite: "Interpreter") -> int:
    """Number of outputs for new classes; 0 if the file is not trainable."""
    if not {*SIGNATURES} <= {*lite.get_signature_list()}:
        return 0
    return int(lite.get_signature_runner("restore").get_input_details()["bias"]["shape"][0])
