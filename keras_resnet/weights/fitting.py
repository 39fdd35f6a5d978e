"""Finds the network that the weights in a file belong to."""

import os
import re
from collections.abc import Mapping
from functools import partial

from keras_resnet import models
from keras_resnet.errors import InputError
from keras_resnet.files import StrPath
from keras_resnet.specs import SPECS
from keras_resnet.state import without_values
from keras_resnet.weights import readers
from keras_resnet.weights.layouts import HEAD_NAMES, to_ours
from keras_resnet.weights.readers import Stored, Weights

# A block of a stage, and a convolution in it: names of this package and Keras, of PyTorch.
_CONVOLUTIONS = (
    r"conv(?P<stage>\d+)_block(?P<block>\d+)_(?P<conv>[123])_conv/kernel",
    r"layer(?P<stage>\d+)\.(?P<block>\d+)\.conv(?P<conv>[123])\.weight",
)


def network_of(path: StrPath) -> str:
    """The name of the network whose arrays are in a file of weights.

    Args:
        path: a file, as in `load_weights`.

    Raises:
        InputError: a damaged file, or arrays of no network of this package.
    """
    weights = readers.read(path)
    found = _census(weights)
    for name, spec in SPECS.items():
        convolutions = 3 if spec.branch.endswith("bottleneck") else 2
        if (spec.blocks, convolutions, spec.se_ratio > 0) == found and _fits(weights, name):
            return name
    is_h5 = os.fspath(path).endswith((".h5", ".hdf5"))  # may contain a whole model
    whole = (
        "; to import another whole model, load it in Keras and save it as .keras" if is_h5 else ""
    )
    raise InputError(
        f"the network of {path} cannot be identified from its arrays; give --model, one of "
        f"`keras-resnet models`, and --width if it is not 1{whole}"
    )


def _census(weights: Weights) -> tuple[tuple[int, ...], int, bool]:
    """Number of blocks in each stage, and of convolutions in a branch; whether there is
    squeeze-and-excitation."""
    blocks: dict[int, set[str]] = {}
    depth = 0
    for name in weights.arrays:
        for pattern in _CONVOLUTIONS:
            if match := re.fullmatch(pattern, name):
                blocks.setdefault(int(match["stage"]), set()).add(match["block"])
                depth = max(depth, int(match["conv"]))
    has_se = any(re.search(r"_se_1_conv|\.se\.fc1", name) for name in weights.arrays)
    return tuple(len(blocks[stage]) for stage in sorted(blocks)), depth, has_se


def _fits(weights: Weights, name: str) -> bool:
    """Whether all arrays except the classifier's match a network in name and shape."""
    model = without_values(partial(models.build, name, num_classes=2))
    wanted = {n: tuple(v.shape) for n, v in readers.variables(model).items()}
    arrays = to_ours(weights, list(wanted), takes_bgr=False)
    return _shapes(arrays) == {n: shape for n, shape in wanted.items() if n not in HEAD_NAMES}


def _shapes(arrays: Mapping[str, Stored]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in arrays.items() if name not in HEAD_NAMES}
