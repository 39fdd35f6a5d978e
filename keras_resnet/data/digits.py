"""The built-in data set: 1,797 handwritten digits; `digits.txt` holds their source and licence."""

from importlib.resources import files

import numpy as np


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """The test set of UCI's "Optical Recognition of Handwritten Digits" (Alpaydin, Kaynak 1998).

    The images are in the order of `sklearn.datasets.load_digits`.

    Returns:
        The images, uint8 `(1797, 8, 8)`, from 0 (no ink) to 16; and the labels, uint8 `(1797,)`.
    """
    with (files("keras_resnet.data") / "digits.npz").open("rb") as file, np.load(file) as arrays:
        return arrays["images"], arrays["labels"]
