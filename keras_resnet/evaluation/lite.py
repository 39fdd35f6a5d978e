"""Runs a `.tflite` file by ai-edge-litert, the runtime of phones and boards."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_resnet import runtime
from keras_resnet.errors import InputError, first_line
from keras_resnet.evaluation.trainable import spare_outputs
from keras_resnet.files import StrPath
from keras_resnet.messages import reason

# Types of stored values, quantized or not.
_STORED = (np.float32, np.float16, np.int8, np.int16, np.int32, np.int64)


class Constant(NamedTuple):
    """A tensor of a file."""

    values: npt.NDArray[np.float32]
    step: npt.NDArray[np.float32]  # quantization step, of the same shape; [0] if not quantized
    dtype: str  # the stored type


class Lite:
    """An image classifier in a `.tflite` file: batch 1, fixed size, one input. It outputs the
    scores of all classes, or the best scores and the indices of their classes; a trainable file
    outputs the logits of the known classes. `predict` and `best` may be called by several threads.

    Args:
        path: path of the file.
        threads: number of threads; None: one per core.
        content: the bytes of the file, if they were read already.

    Raises:
        InputError: the file is damaged, needs operators the runtime lacks, or is no such model.
    """

    def __init__(
        self, path: StrPath, threads: int | None = None, content: bytes | None = None
    ) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._path = path
        self._turn = threading.Lock()  # the interpreter holds one image at a time
        try:
            if content is None:
                content = Path(path).read_bytes()
            # From bytes: LiteRT crashes on some truncated files that it memory-maps.
            self._interpreter = Interpreter(
                model_content=content, num_threads=threads or runtime.cores()
            )
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise self._unusable(error) from None
        inputs, outputs = (
            self._interpreter.get_input_details(),
            self._interpreter.get_output_details(),
        )
        spare = spare_outputs(self._interpreter)
        if spare:  # "infer" is the main graph
            infer = self._interpreter.get_signature_runner("infer")
            outputs = [infer.get_output_details()["logits"]]
        # Only the output of class indices is int32.
        classes = [tensor for tensor in outputs if tensor["dtype"] == np.int32]
        scores = [tensor for tensor in outputs if tensor["dtype"] != np.int32]
        if len(inputs) != 1 or len(scores) != 1 or len(classes) > 1:
            raise InputError(
                f"{path} has {len(inputs)} inputs and {len(outputs)} outputs; an image classifier "
                "has one of each"
            )
        self._input, self._output = inputs[0], scores[0]
        self._classes = classes[0] if classes else {}
        self.names_best = bool(classes)
        self.input_shape = tuple(int(n) for n in self._input["shape"])
        self.output_shape = tuple(int(n) for n in self._output["shape"])
        if spare:
            self.output_shape = (*self.output_shape[:-1], self.output_shape[-1] - spare)
        if len(self.input_shape) != 4 or len(self.output_shape) != 2:
            raise InputError(
                f"{path} is not an image classifier: it maps {self.input_shape} to "
                f"{self.output_shape}"
            )
        if self.input_shape[0] != 1:
            raise InputError(
                f"{path} takes {self.input_shape[0]} images at a time; export it for one"
            )

    def predict(self, images: np.ndarray) -> npt.NDArray[np.float32]:
        """float32 logits `(b, k)` for raw pixels `(b, h, w, c)` in [0, 255], one by one."""
        return np.stack([self.one(image) for image in images])

    def one(self, image: np.ndarray) -> npt.NDArray[np.float32]:
        """float32 logits `(k,)` of one image `(h, w, c)`."""
        return self._answer(image)[0]

    def best(self, images: np.ndarray) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
        """(float32 scores, int32 class indices), both `(b, n)`, of a file with `--top n`."""
        scores, classes = zip(*map(self._answer, images), strict=True)
        return np.stack(scores), np.stack(classes)

    def _answer(self, image: np.ndarray) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
        """The scores of an image and, of a file with `--top`, the indices of their classes."""
        with self._turn:
            self.load(image)
            self.invoke()
            scores = _dequantize(self._get(self._output), self._output)
            classes = self._get(self._classes) if self.names_best else np.array([], np.int32)
        return scores[: self.output_shape[-1]], classes

    def load(self, image: np.ndarray) -> None:
        """Fills the input tensor."""
        self._interpreter.set_tensor(self._input["index"], _quantize(image, self._input)[None])

    def invoke(self) -> None:
        """Runs the network on the loaded input."""
        try:
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:  # some kernels fail only when they run
            raise self._unusable(error) from None

    def constants(self) -> Iterator[Constant]:
        """The tensors with a stored type: constants of the file, and activations with whatever
        values they have."""
        for tensor in self._interpreter.get_tensor_details():
            if tensor["dtype"] not in _STORED:
                continue
            try:
                values = self._interpreter.get_tensor(tensor["index"])
            except ValueError:  # not allocated yet
                continue
            yield _constant(values, tensor)

    def _get(self, tensor: dict[str, Any]) -> np.ndarray:
        """A copy of a tensor's values, without the batch dimension."""
        return self._interpreter.get_tensor(tensor["index"])[0]

    def _unusable(self, error: Exception) -> InputError:
        return InputError(f"{self._path} cannot be run by LiteRT ({first_line(error)})")


def require_no_crash(path: StrPath, content: bytes) -> None:
    """Runs a file once in a child process, because LiteRT may crash on a damaged file.

    Args:
        path: path of the file, for the message.
        content: its bytes.

    Raises:
        InputError: LiteRT crashed.
    """
    # -P: a file in the user's folder must not shadow a module.
    command = [sys.executable, "-P", "-m", __name__]
    child = subprocess.run(command, input=content, capture_output=True)
    if child.returncode < 0:
        why = reason(child.returncode, child.stderr.decode(errors="replace"))
        raise InputError(f"{path} is damaged: LiteRT crashes when it runs it ({why})")


def _constant(values: np.ndarray, tensor: dict[str, Any]) -> Constant:
    quantization = tensor["quantization_parameters"]
    scales, zeros = quantization["scales"], quantization["zero_points"]
    if not len(scales):
        return Constant(values.astype(np.float32), np.zeros(1, np.float32), str(values.dtype))
    if len(scales) > 1:  # one for each channel
        axis = quantization["quantized_dimension"]
        shape = [-1 if i == axis else 1 for i in range(values.ndim)]
    else:
        shape = [1] * values.ndim  # no dimension for a scalar
    scales, zeros = scales.reshape(shape), zeros.reshape(shape)
    numbers = (values.astype(np.float32) - zeros) * scales
    steps = np.broadcast_to(scales, values.shape)
    return Constant(numbers.astype(np.float32), steps, str(values.dtype))


def _quantize(pixels: np.ndarray, tensor: dict[str, Any]) -> np.ndarray:
    dtype = tensor["dtype"]
    if dtype == np.float32:
        return pixels.astype(np.float32)
    scale, zero = tensor["quantization"]
    if not scale:  # not quantized: the integers are the pixels
        return pixels.astype(dtype)
    steps = np.round(pixels.astype(np.float32) / scale + zero)
    return np.clip(steps, np.iinfo(dtype).min, np.iinfo(dtype).max).astype(dtype)


def _dequantize(values: np.ndarray, tensor: dict[str, Any]) -> npt.NDArray[np.float32]:
    if tensor["dtype"] == np.float32:
        return values.copy()
    scale, zero = tensor["quantization"]
    return (values.astype(np.float32) - zero) * np.float32(scale)


if __name__ == "__main__":  # for `require_no_crash`
    with suppress(InputError):  # raised again by the caller, which opens the file too
        trial = Lite("", 1, sys.stdin.buffer.read())
        trial.one(np.zeros(trial.input_shape[1:], np.float32))
