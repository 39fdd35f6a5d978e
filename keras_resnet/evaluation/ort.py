"""Runs an `.onnx` file by ONNX Runtime."""

import numpy as np
import numpy.typing as npt

from keras_resnet import runtime
from keras_resnet.errors import InputError, first_line, needs_extra
from keras_resnet.files import StrPath


class Ort:
    """An image classifier in an `.onnx` file: one input, one output, any batch or batch 1.

    Args:
        path: path of the file.
        threads: number of threads; None: one per core.
        content: the bytes of the file, if they were read already.

    Raises:
        InputError: ONNX Runtime is not installed, or the file is damaged or no such model.
    """

    names_best = False  # the output has the scores of all classes

    def __init__(
        self, path: StrPath, threads: int | None = None, content: bytes | None = None
    ) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise needs_extra(f"{path} needs ONNX Runtime", "onnx") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or runtime.cores()
        options.log_severity_level = 4  # errors are raised as exceptions too
        try:
            self._session = onnxruntime.InferenceSession(
                path if content is None else content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's exceptions have no other base class
            raise InputError(
                f"{path} cannot be run by ONNX Runtime ({first_line(error)})"
            ) from None
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise InputError(
                f"{path} has {len(inputs)} inputs and {len(outputs)} outputs; an image classifier "
                "has one of each"
            )
        self._name = inputs[0].name
        self._dtype = _DTYPES.get(inputs[0].type)
        self.input_shape = tuple(map(_side, inputs[0].shape))
        self.output_shape = tuple(map(_side, outputs[0].shape))
        if self._dtype is None or len(self.input_shape) != 4 or len(self.output_shape) != 2:
            raise InputError(
                f"{path} is not an image classifier: it maps {inputs[0].type} {self.input_shape} "
                f"to {self.output_shape}"
            )
        if self.input_shape[0] not in (None, 1):
            raise InputError(
                f"{path} takes {self.input_shape[0]} images at a time; export it for one, or for "
                "any number"
            )

    def predict(self, images: np.ndarray) -> npt.NDArray[np.float32]:
        """float32 scores `(b, k)` for raw pixels `(b, h, w, c)` in [0, 255]."""
        images = images.astype(self._dtype)
        step = self.input_shape[0] or len(images)
        return np.concatenate(
            [
                self._session.run(None, {self._name: images[i : i + step]})[0]
                for i in range(0, len(images), step)
            ]
        )


_DTYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}


def _side(side: object) -> int | None:
    """The size of a dimension; None if dynamic, which ONNX Runtime gives as a name or None."""
    return side if isinstance(side, int) else None
