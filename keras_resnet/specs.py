"""The family: one line a model. Pure data, importable without Keras.

Sources
    ImageNet nets: He et al. 2015, "Deep Residual Learning for Image Recognition",
    arXiv:1512.03385, table 1; with the stride of a bottleneck in its 3×3 convolution ("v1.5").
    CIFAR nets: the same paper, section 4.2: 6n+2 layers, option A shortcuts.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Spec:
    """What tells one network of the family from another."""

    name: str
    branch: str  # the residual branch F: "basic" is two 3×3, "bottleneck" is 1×1, 3×3, 1×1
    blocks: tuple[int, ...]  # residual blocks in each stage
    filters: tuple[int, ...]  # filters of each stage's 3×3 convolutions
    stem: str  # "imagenet" is 7×7/2 and a max-pool, "cifar" is one 3×3
    shortcut: str  # where the shape changes: "projection" is option B, "pad" is option A
    image_size: int  # pixels on a side that the paper trains at
    source: str

    @property
    def weight_layers(self) -> int:
        """Convolutions and dense layers on the longest path: the number in the name."""
        per_block = {"basic": 2, "bottleneck": 3}[self.branch]
        return 1 + per_block * sum(self.blocks) + 1

    @property
    def total_stride(self) -> int:
        """Pixels of the image per pixel of the last feature map, on a side."""
        return {"imagenet": 4, "cifar": 1}[self.stem] * 2 ** (len(self.blocks) - 1)

    @property
    def stages(self) -> list[str]:
        """The first part of the layers' names, in order: conv1 is the stem."""
        return [f"conv{i + 1}" for i in range(len(self.blocks) + 1)]


def _imagenet(name, branch, *blocks):
    return Spec(name, branch, blocks, (64, 128, 256, 512), "imagenet", "projection", 224,
                "arXiv:1512.03385 table 1, v1.5")  # fmt: skip


def _cifar(name, blocks):
    return Spec(name, "basic", (blocks,) * 3, (16, 32, 64), "cifar", "pad", 32,
                "arXiv:1512.03385 section 4.2")  # fmt: skip


SPECS = {
    spec.name: spec
    for spec in (
        _imagenet("resnet18", "basic", 2, 2, 2, 2),
        _imagenet("resnet34", "basic", 3, 4, 6, 3),
        _imagenet("resnet50", "bottleneck", 3, 4, 6, 3),
        _imagenet("resnet101", "bottleneck", 3, 4, 23, 3),
        _imagenet("resnet152", "bottleneck", 3, 8, 36, 3),
        _cifar("resnet20", 3),
        _cifar("resnet32", 5),
        _cifar("resnet44", 7),
        _cifar("resnet56", 9),
        _cifar("resnet110", 18),
    )
}

# Per-channel (mean, standard deviation) of RGB pixels in [0, 255].
NORMALIZATIONS = {
    # torchvision's constants, times 255
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    # [-1, 1]; what "tf" means in keras.applications
    "tf": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
}


def find(name: str) -> Spec:
    """The row called `name`; a `KeyError` for an unknown one lists the near misses."""
    if name not in SPECS:
        from difflib import get_close_matches

        near = get_close_matches(name, SPECS, n=3) or list(SPECS)
        raise KeyError(f"unknown model '{name}'; did you mean {', '.join(near)}?")
    return SPECS[name]


def too_small(spec, side):
    """What to say of images of `side` pixels that leave the last stage nothing to look at."""
    return (
        f"an image of {side} pixels is too small for {spec.name}, which shrinks it to "
        f"1/{spec.total_stride}; use at least {spec.total_stride} pixels, or a CIFAR net such as "
        "resnet20"
    )
