"""The networks: one row per model. Pure data, importable without Keras.

Sources
    resnet18 … resnet152: He et al. 2015, "Deep Residual Learning for Image Recognition",
    arXiv:1512.03385, table 1; with the stride of a bottleneck in its 3×3 convolution ("v1.5"), as
    in torchvision. `_v1`: the stride in the first 1×1 convolution, as in the paper, and biases in
    the convolutions, as in keras.applications.
    CIFAR nets resnet8 … resnet1202: the same paper, section 4.2: 6n+2 layers, option A shortcuts;
    `_b` has option B. plainN: the same layers without shortcuts.
    `_v2`: He et al. 2016, "Identity Mappings in Deep Residual Networks", arXiv:1603.05027.
    As in keras.applications, 50, 101 and 152 have the stride in the last block of a stage.
    resnet18d … resnet200d: He et al. 2018, "Bag of Tricks", arXiv:1812.01187, section 4.2; the
    blocks of resnet200d are those of arXiv:1603.05027, table 5.
    wide_resnet, wrn: Zagoruyko and Komodakis 2016, arXiv:1605.07146.
    resnext: Xie et al. 2017, arXiv:1611.05431, table 1.
    seresnet, seresnext: Hu et al. 2018, "Squeeze-and-Excitation Networks", arXiv:1709.01507; as in
    timm, with the stride of v1.5.
    resnetrs: Bello et al. 2021, "Revisiting ResNets", arXiv:2103.07579, as in timm: ResNet-D with
    squeeze-and-excitation and, in place of the max-pool, a convolution.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from operator import mul
from typing import Any, Literal

from keras_resnet.errors import InputError
from keras_resnet.geometry import LUMA

Statistics = tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation of RGB
Normalize = str | Sequence[Sequence[float]]  # argument of `statistics`


@dataclass(frozen=True)
class Spec:
    """The parameters of one network."""

    name: str
    # The residual branch F, a row of `keras_resnet.blocks.BRANCHES`.
    branch: Literal["basic", "bottleneck", "preact_basic", "preact_bottleneck"]
    blocks: tuple[int, ...]  # residual blocks in each stage
    filters: tuple[int, ...]  # filters of each stage's 3×3 convolutions
    # "imagenet": 7×7/2 and a max-pool; "deep": three 3×3 and a max-pool; "deep_conv": three 3×3 and
    # a 3×3/2; "cifar": one 3×3.
    stem: Literal["imagenet", "deep", "deep_conv", "cifar"]
    # Where the channels change: "projection" is option B; "pool" averages first; "pad" is option A.
    # "none": no shortcut in any block.
    shortcut: Literal["projection", "pool", "pad", "none"]
    # Side of the images in pixels, by default: that of the paper's training images. ResNet-RS has
    # several; those of its published weights are 160 to 256.
    image_size: int
    source: str
    expansion: int = 1  # channels of a block's output per filter
    groups: int = 1  # of the 3×3 convolutions; ResNeXt's cardinality
    strided_conv: int = 1  # number of the convolution with the stride, counted from 1
    strided_block: Literal["first", "last"] = "first"  # the block of a stage with the stride
    se_ratio: float = 0.0  # of `keras_resnet.blocks.squeeze_excite` in each branch; 0: none
    conv_bias: bool = False  # in convolutions before a batch norm, where it has no effect
    bn_epsilon: float = 1e-5
    normalize: str = "imagenet"  # normalization of its published weights
    width: float = 1.0  # factor of all channels; MobileNet's, arXiv:1704.04861 section 3.3

    def scaled(self, filters: int) -> int:
        """The filters of a layer at this width, a multiple of 8 and of the groups.

        >>> replace(SPECS["resnet20"], width=0.75).scaled(32)
        24
        """
        step = math.lcm(8, self.groups)
        return filters if self.width == 1 else max(round(self.width * filters / step), 1) * step

    @property
    def total_stride(self) -> int:
        """Pixels of the image per pixel of the last feature map, on a side."""
        return (1 if self.stem == "cifar" else 4) * 2 ** (len(self.blocks) - 1)

    @property
    def stages(self) -> list[str]:
        """Names of the stages, the first part of layer names: "conv1" is the stem."""
        return [f"conv{i + 1}" for i in range(len(self.blocks) + 1)]


_18, _34, _50, _101, _152 = (2, 2, 2, 2), (3, 4, 6, 3), (3, 4, 6, 3), (3, 4, 23, 3), (3, 8, 36, 3)
_200 = (3, 24, 36, 3)
_CIFAR_DEPTHS = (8, 20, 32, 44, 56, 110, 1202)
_PAPER = "arXiv:1512.03385 table 1"
_IDENTITY_MAPPINGS = "arXiv:1603.05027"


def _imagenet(
    name: str,
    blocks: tuple[int, ...],
    source: str = f"{_PAPER}, v1.5",
    *,
    width: int = 1,
    **fields: Any,
) -> Spec:
    filters = tuple(width * filters for filters in (64, 128, 256, 512))
    row = {"branch": "basic", "stem": "imagenet", "shortcut": "projection", **fields}
    return Spec(name=name, blocks=blocks, filters=filters, image_size=224, source=source, **row)


def _bottleneck(name: str, blocks: tuple[int, ...], *source: str, **fields: Any) -> Spec:
    row = {"branch": "bottleneck", "expansion": 4, "strided_conv": 2, **fields}
    return _imagenet(name, blocks, *source, **row)


def _v1(name: str, blocks: tuple[int, ...]) -> Spec:
    return _bottleneck(name, blocks, f"{_PAPER}, v1", strided_conv=1, conv_bias=True,
                       bn_epsilon=1.001e-5, normalize="caffe")  # fmt: skip


def _v2(name: str, blocks: tuple[int, ...]) -> Spec:
    return _bottleneck(name, blocks, _IDENTITY_MAPPINGS, branch="preact_bottleneck",
                       strided_block="last", bn_epsilon=1.001e-5, normalize="tf")  # fmt: skip


def _deep(name: str, blocks: tuple[int, ...], make: Callable[..., Spec] = _bottleneck) -> Spec:
    return make(name, blocks, "arXiv:1812.01187 section 4.2, D", stem="deep", shortcut="pool")


def _resnext(name: str, blocks: tuple[int, ...], source: str, **fields: Any) -> Spec:
    return _bottleneck(name, blocks, source, width=2, expansion=2, groups=32, **fields)


def _se(name: str, blocks: tuple[int, ...], make: Callable[..., Spec] = _bottleneck) -> Spec:
    return make(name, blocks, "arXiv:1709.01507", se_ratio=1 / 16)


def _rs(name: str, blocks: tuple[int, ...]) -> Spec:
    return _bottleneck(name, blocks, "arXiv:2103.07579", stem="deep_conv",
                       shortcut="pool", se_ratio=1 / 4)  # fmt: skip


def _cifar(
    name: str,
    blocks: int,
    source: str = "arXiv:1512.03385 section 4.2",
    *,
    width: int = 1,
    **fields: Any,
) -> Spec:
    filters = tuple(width * filters for filters in (16, 32, 64))
    row = {"branch": "basic", "shortcut": "pad", **fields}
    return Spec(name=name, blocks=(blocks,) * 3, filters=filters, stem="cifar", image_size=32,
                source=source, **row)  # fmt: skip


def _cifar_v2(name: str, blocks: int) -> Spec:
    return _cifar(name, blocks, f"{_IDENTITY_MAPPINGS} section 4", branch="preact_bottleneck",
                  expansion=4, shortcut="projection")  # fmt: skip


def _wrn(name: str, blocks: int, width: int) -> Spec:
    return _cifar(name, blocks, "arXiv:1605.07146 table 1", branch="preact_basic", width=width,
                  shortcut="projection")  # fmt: skip


def _plain(spec: Spec) -> Spec:
    """The same layers without shortcuts; arXiv:1512.03385, section 3.3."""
    return replace(spec, name=spec.name.replace("resnet", "plain"), shortcut="none")


_BASIC = [
    _imagenet("resnet18", _18),
    _imagenet("resnet34", _34),
    *(_cifar(f"resnet{depth}", depth // 6) for depth in _CIFAR_DEPTHS),
]
SPECS: dict[str, Spec] = {
    spec.name: spec
    for spec in (
        *_BASIC[:2],
        _bottleneck("resnet50", _50),
        _bottleneck("resnet101", _101),
        _bottleneck("resnet152", _152),
        *_BASIC[2:],
        *(_cifar(f"resnet{depth}_b", depth // 6, shortcut="projection") for depth in _CIFAR_DEPTHS),
        *map(_plain, _BASIC),
        _v1("resnet50_v1", _50),
        _v1("resnet101_v1", _101),
        _v1("resnet152_v1", _152),
        _imagenet("resnet18_v2", _18, _IDENTITY_MAPPINGS, branch="preact_basic"),
        _imagenet("resnet34_v2", _34, _IDENTITY_MAPPINGS, branch="preact_basic"),
        _v2("resnet50_v2", _50),
        _v2("resnet101_v2", _101),
        _v2("resnet152_v2", _152),
        _cifar_v2("resnet164_v2", 18),
        _cifar_v2("resnet1001_v2", 111),
        _deep("resnet18d", _18, _imagenet),
        _deep("resnet34d", _34, _imagenet),
        _deep("resnet50d", _50),
        _deep("resnet101d", _101),
        _deep("resnet152d", _152),
        _deep("resnet200d", _200),
        _bottleneck("wide_resnet50_2", _50, "arXiv:1605.07146 table 8", width=2, expansion=2),
        _bottleneck("wide_resnet101_2", _101, "arXiv:1605.07146 table 8", width=2, expansion=2),
        _wrn("wrn16_4", 2, 4),
        _wrn("wrn28_10", 4, 10),
        _resnext("resnext50_32x4d", _50, "arXiv:1611.05431 table 1"),
        _resnext("resnext101_32x4d", _101, "arXiv:1611.05431 table 1"),
        _se("seresnet18", _18, _imagenet),
        _se("seresnet34", _34, _imagenet),
        _se("seresnet50", _50),
        _se("seresnet101", _101),
        _se("seresnet152", _152),
        _se("seresnext50_32x4d", _50, _resnext),
        _se("seresnext101_32x4d", _101, _resnext),
        _rs("resnetrs50", _50),
        _rs("resnetrs101", _101),
        _rs("resnetrs152", _152),
        _rs("resnetrs200", _200),
    )
}  # fmt: skip

MLPS = ("residual_mlp", "plain_mlp")  # the fully-connected networks of `explain`

# The value of `Config.model` for the user's own network, which a run saves as a whole Keras model.
# Its image size is that of the run, and it normalizes pixels itself.
CUSTOM = Spec(
    "custom", "basic", (1,), (1,), "cifar", "none", image_size=0, source="elsewhere", normalize=""
)

# Per-channel (mean, standard deviation) of RGB pixels in [0, 255].
NORMALIZATIONS: dict[str, Statistics] = {
    # torchvision's constants, times 255
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    # of CIFAR-10's 50,000 training images: 0.4914, 0.4822, 0.4465 and 0.2470, 0.2435, 0.2616
    "cifar10": ((125.307, 122.961, 113.8575), (62.985, 62.0925, 66.708)),
    # only the mean; of keras.applications' BGR nets, in RGB order
    "caffe": ((123.68, 116.779, 103.939), (1.0, 1.0, 1.0)),
    # [-1, 1], as "tf" in keras.applications
    "tf": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
}


def of(name: str) -> Spec:
    """The row of `Config.model`: as `find`, or `CUSTOM`."""
    return CUSTOM if name == CUSTOM.name else find(name)


def network_title(name: str, width: float = 1.0) -> str:
    """The name of a network for messages, with its width unless it is 1.

    >>> network_title("resnet32", 0.5)
    'resnet32 ×0.5'
    """
    return name if width == 1 else f"{name} ×{width:g}"


def find(name: str) -> Spec:
    """The row of a name such as "ResNet-50", ignoring case, `-` and `_`.

    Raises:
        InputError: an unknown name; the message lists up to five similar names.
    """
    name = str(name)  # it may be a number
    names = {_key(row): row for row in SPECS}
    if _key(name) in names:
        return SPECS[names[_key(name)]]
    from difflib import SequenceMatcher, get_close_matches

    def distance(key: str) -> tuple[bool, float, int]:
        # Names that begin so; of equally similar ones, the nearest depth.
        ratio = SequenceMatcher(None, key, _key(name)).ratio()
        return not key.startswith(_key(name)), -ratio, abs(_depth(key) - _depth(name))

    close = sorted(get_close_matches(_key(name), names, n=len(names)), key=distance)
    near = [names[key] for key in close[:5]]
    hint = f"; did you mean {', '.join(near)}?" if near else ";"
    raise InputError(f"unknown model '{name}'{hint} `keras-resnet models` lists all")


def _depth(name: str) -> int:
    digits = re.search(r"\d{1,9}", name)
    return int(digits[0]) if digits else 0


def _key(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def statistics(normalize: Normalize, channels: int = 3) -> Statistics:
    """(mean, standard deviation) of RGB pixels in [0, 255], or of luma: the luma-weighted means of
    the RGB values.

    Args:
        normalize: a name in `NORMALIZATIONS`; a pair of triples; or text, "MEAN/STD", each one
            number or three comma-separated numbers.
        channels: 3, or 1 for luma.

    Raises:
        InputError: another value, or a standard deviation that is not above 0.
    """
    found = _of_rgb(normalize)
    if channels == 3:
        return found
    mean, deviation = (sum(map(mul, part, LUMA)) / sum(LUMA) for part in found)
    return (mean,), (deviation,)


def _of_rgb(normalize: Normalize) -> Statistics:
    parts: Sequence[Sequence[float]] | None
    if isinstance(normalize, str):
        if normalize in NORMALIZATIONS:
            return NORMALIZATIONS[normalize]
        parts = _numbers(normalize)
        if parts and len(parts) == 2 and 0 < min(parts[1]) < 1 and max(parts[0]) <= 1:
            raise InputError(
                f"--normalize is {normalize!r}, in units of [0, 1]; give it in units of the "
                "pixels, [0, 255]: 255 times that"
            )
    else:
        parts = normalize
    try:
        mean, deviation = (tuple(map(float, part)) for part in parts or ())
        are_finite = all(map(math.isfinite, (*mean, *deviation)))
        if len(mean) == len(deviation) == 3 and are_finite and min(deviation) > 0:
            return mean, deviation
    except (TypeError, ValueError):
        pass
    raise InputError(
        f"--normalize is {normalize!r}; expected {', '.join(NORMALIZATIONS)}, or a mean and a "
        "standard deviation, three numbers each, as in 120,115,105/60,58,57"
    )


def _numbers(text: str) -> list[tuple[float, ...]] | None:
    """ "1,2,3/4" as [(1.0, 2.0, 3.0), (4.0, 4.0, 4.0)]; None for other text."""
    try:
        parts = [tuple(map(float, part.split(","))) for part in text.split("/")]
    except ValueError:
        return None
    return [part * 3 if len(part) == 1 else part for part in parts]


def too_small(spec: Spec, side: int) -> str:
    """The error message for images of `side` pixels, too small for the last stage."""
    smaller = SPECS["resnet20"]
    other = spec.total_stride > smaller.total_stride <= side
    return (
        f"an image of {side} pixels is too small for {spec.name}; use at least {spec.total_stride} "
        f"pixels (its total stride){', or a CIFAR network such as resnet20' * other}"
    )


def with_plain_counterparts(depths: Iterable[int]) -> set[int]:
    """`depths`, numbers of weight layers, as a set.

    Raises:
        InputError: there is no plain network of one of these depths.
    """
    depths = set(depths)
    have = {int(name.removeprefix("plain")) for name in SPECS if name.startswith("plain")}
    for depth in sorted(depths):
        if depth not in have:
            known = ", ".join(map(str, sorted(have)))
            raise InputError(
                f"--depths has {depth}; networks with a plain counterpart have {known} layers"
            )
    return depths
