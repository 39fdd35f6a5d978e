"""Converts names and layouts of other packages to ours: `LAYER/VARIABLE`, kernels (h, w, in, out),
RGB.

keras.applications differs in three things: its post-activation networks take BGR; its head is
called `predictions`; and its pre-activation networks have a bias in the last convolution of a
block, which the next batch norm cancels.

PyTorch's layouts: torchvision and timm (`layer1.0.conv1`, `downsample`, `fc`; with a deep stem
`conv1.0` …), and the usual one of networks for CIFAR (`shortcut`, `linear`).
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from keras_resnet.weights.readers import KERAS, Arrays, Stored, Weights

HEAD = "logits"
HEAD_NAMES = (f"{HEAD}/kernel", f"{HEAD}/bias")
_KERAS_HEAD = "predictions"
# Our layer -> its possible names in a state dict.
_TORCH_LAYERS = [
    (r"conv1_conv", ["conv1"]),
    (r"conv1_bn", ["bn1"]),
    (r"conv1_1_conv", ["conv1.0"]),
    (r"conv1_1_bn", ["conv1.1"]),
    (r"conv1_2_conv", ["conv1.3"]),
    (r"conv1_2_bn", ["conv1.4"]),
    (r"conv1_3_conv", ["conv1.6"]),
    (r"conv1_3_bn", ["bn1"]),
    (r"conv1_4_conv", ["maxpool.0"]),
    (r"conv1_4_bn", ["maxpool.1"]),
    (r"conv(\d+)_block(\d+)_([1-3])_(conv|bn)", ["layer{stage}.{block}.{kind}{i}"]),
    (r"conv(\d+)_block(\d+)_se_([12])_conv", ["layer{stage}.{block}.se.fc{i}"]),
    # timm has a layer before it: a pooling, or an identity if the size does not change.
    (
        r"conv(\d+)_block(\d+)_0_conv",
        ["layer{stage}.{block}.downsample.0", "layer{stage}.{block}.downsample.1",
         "layer{stage}.{block}.shortcut.0"],
    ),
    (
        r"conv(\d+)_block(\d+)_0_bn",
        ["layer{stage}.{block}.downsample.1", "layer{stage}.{block}.downsample.2",
         "layer{stage}.{block}.shortcut.1"],
    ),
    (HEAD, ["fc", "linear"]),
]  # fmt: skip
_TORCH_VARIABLES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def is_foreign(weights: Weights) -> bool:
    """Whether the weights are of another package's network: PyTorch's, or keras.applications',
    known by its head, or without one by the bias of its first convolution.

    Our v1 and v2 networks have that bias too; their files have our head or a normalization.
    """
    if weights.layout != KERAS:
        return True
    if HEAD_NAMES[0] in weights.arrays or weights.normalization is not None:
        return False
    return not {f"{_KERAS_HEAD}/kernel", "conv1_conv/bias"}.isdisjoint(weights.arrays)


def head_of(weights: Weights) -> Stored | None:
    """The `Stored` kernel of the classifier; None without one."""
    names = (HEAD_NAMES[0], f"{_KERAS_HEAD}/kernel", "fc.weight", "linear.weight")
    return next((weights.arrays[name] for name in names if name in weights.arrays), None)


def classes_of(weights: Weights) -> int | None:
    """Number of classes of the head; None without a head."""
    head = head_of(weights)
    return None if head is None else head.shape[-1 if weights.layout == KERAS else 0]


def to_ours(weights: Weights, wanted: Collection[str], takes_bgr: bool) -> Arrays:
    """Renames and reshapes foreign weights.

    Args:
        weights: a `Weights`.
        wanted: our names, `LAYER/VARIABLE`, in forward order.
        takes_bgr: whether its first convolution expects BGR.

    Returns:
        A dict of name to `Stored`. An array without a corresponding layer keeps its name.
    """
    if weights.layout == KERAS:
        arrays = _without_sum_biases(_with_our_head(weights.arrays), wanted)
    else:
        arrays = _from_torch(weights.arrays, wanted)
    stem = stem_kernel(wanted)
    if takes_bgr and stem in arrays:
        arrays[stem] = _changed(arrays[stem], lambda kernel: kernel[:, :, ::-1])
    return arrays


def with_grey_stem(arrays: Mapping[str, Stored], wanted: Collection[str]) -> Arrays:
    """Sums the first kernel over its input channels, for a network that takes luma: the channels of
    a grey image are equal."""
    arrays, stem = dict(arrays), stem_kernel(wanted)
    if stem in arrays and arrays[stem].shape[2:3] == (3,):
        colour = arrays[stem]
        height, width, _, out = colour.shape
        arrays[stem] = Stored((height, width, 1, out), lambda: colour.read().sum(2, keepdims=True))
    return arrays


def stem_kernel(wanted: Collection[str]) -> str | None:
    """Our name of the first kernel."""
    return next((name for name in wanted if name.endswith("_conv/kernel")), None)


def in_file(name: str, weights: Weights) -> str:
    """The name in the file of one of our variables, for a message."""
    if weights.layout == KERAS or "/" not in name:
        return name
    names = _torch_names(name)
    return next((n for n in names if n in weights.arrays), names[0])


def _from_torch(arrays: Mapping[str, Stored], wanted: Collection[str]) -> Arrays:
    arrays, ours = dict(arrays), {}
    for name in dict.fromkeys([*wanted, *HEAD_NAMES]):  # a feature extractor has no head
        found = next((n for n in _torch_names(name) if _fits(arrays.get(n), name)), None)
        if found:
            ours[name] = _transposed(arrays.pop(found))
    return ours | arrays


def _fits(array: Stored | None, name: str) -> bool:
    """Whether an array has the rank of ours: 4 for a convolution, 1 for a batch norm.

    `downsample.1` is a batch norm in torchvision and a convolution in timm.
    """
    axes = {"kernel": (2, 4)}.get(name.split("/")[1], (1,))
    return array is not None and len(array.shape) in axes


def _torch_names(name: str) -> list[str]:
    layer, _, variable = name.rpartition("/")
    for pattern, names in _TORCH_LAYERS:
        match = re.fullmatch(pattern, layer)
        if match:
            stage, block, i, kind = (*match.groups(), *[None] * 4)[:4]
            fields: dict[str, Any] = {"i": i, "kind": kind}
            if stage and block:
                fields |= {"stage": int(stage) - 1, "block": int(block) - 1}
            return [f"{n.format(**fields)}.{_TORCH_VARIABLES[variable]}" for n in names]
    return [name]


def _transposed(array: Stored) -> Stored:
    """PyTorch's (out, in, h, w) and (out, in) as (h, w, in, out) and (in, out)."""
    axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(len(array.shape))
    if axes is None:
        return array
    shape = tuple(array.shape[axis] for axis in axes)
    return Stored(shape, lambda: array.read().transpose(axes))


def _with_our_head(arrays: Mapping[str, Stored]) -> Arrays:
    return {re.sub(f"^{_KERAS_HEAD}/", f"{HEAD}/", name): a for name, a in arrays.items()}


def _without_sum_biases(arrays: Mapping[str, Stored], wanted: Collection[str]) -> Arrays:
    """Folds the biases of the last convolutions of pre-activation blocks into batch norms.

    A constant s added to the trunk reaches each later batch norm of the stage unchanged, through
    identities and one-pixel poolings. There BN(x + s) with the moving mean m is BN(x) with m - s. A
    projection starts from an activated x, where a new sum begins.
    """
    arrays = dict(arrays)
    shift: tuple[Stored, ...] = ()
    for name in wanted:
        if not name.endswith(("_preact_bn/moving_mean", "post_bn/moving_mean")):
            continue
        if name in arrays and shift:
            arrays[name] = _changed(arrays[name], _less(shift))
        block = name.removesuffix("_preact_bn/moving_mean")
        added = [
            arrays.pop(f"{conv}/bias")
            for conv in (f"{block}_{i}_conv" for i in (0, 2, 3))
            if f"{conv}/bias" not in wanted and _has_bias(conv, arrays)
        ]
        begins = f"{block}_0_conv/kernel" in wanted
        shift = (*(() if begins else shift), *added)
    return arrays


def _has_bias(conv: str, arrays: Mapping[str, Stored]) -> bool:
    kernel, bias = arrays.get(f"{conv}/kernel"), arrays.get(f"{conv}/bias")
    return kernel is not None and bias is not None and bias.shape == kernel.shape[-1:]


def _less(shift: Sequence[Stored]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda mean: mean - sum(bias.read() for bias in shift)


def _changed(array: Stored, change: Callable[[np.ndarray], np.ndarray]) -> Stored:
    return replace(array, read=lambda: np.ascontiguousarray(change(array.read())))
