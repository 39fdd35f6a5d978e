"""Checks of --weights that do not import Keras."""

import os

from keras_resnet import run
from keras_resnet.config import Config
from keras_resnet.errors import InputError
from keras_resnet.specs import CUSTOM, SPECS

IMAGENET = "imagenet"  # value of --weights for published weights
# Source of the weights: a class of keras.applications, or a repository of timm's authors.
PUBLISHED = {
    "resnet50_v1": "keras.applications.ResNet50",
    "resnet101_v1": "keras.applications.ResNet101",
    "resnet152_v1": "keras.applications.ResNet152",
    "resnet50_v2": "keras.applications.ResNet50V2",
    "resnet101_v2": "keras.applications.ResNet101V2",
    "resnet152_v2": "keras.applications.ResNet152V2",
    "resnet18": "timm/resnet18.tv_in1k",
    "resnet34": "timm/resnet34.tv_in1k",
    "resnet50": "timm/resnet50.tv_in1k",
    "resnet101": "timm/resnet101.tv_in1k",
    "resnet152": "timm/resnet152.tv_in1k",
    "wide_resnet50_2": "timm/wide_resnet50_2.tv_in1k",
    "wide_resnet101_2": "timm/wide_resnet101_2.tv_in1k",
    "resnext50_32x4d": "timm/resnext50_32x4d.tv_in1k",
    "resnext101_32x4d": "timm/resnext101_32x4d.gluon_in1k",
    "resnet18d": "timm/resnet18d.ra2_in1k",
    "resnet34d": "timm/resnet34d.ra2_in1k",
    "resnet50d": "timm/resnet50d.ra2_in1k",
    "resnet101d": "timm/resnet101d.ra2_in1k",
    "resnet152d": "timm/resnet152d.ra2_in1k",
    "resnet200d": "timm/resnet200d.ra2_in1k",
    "seresnet50": "timm/seresnet50.ra2_in1k",
    "seresnext50_32x4d": "timm/seresnext50_32x4d.racm_in1k",
    "seresnext101_32x4d": "timm/seresnext101_32x4d.gluon_in1k",
    "resnetrs50": "timm/resnetrs50.tf_in1k",
    "resnetrs101": "timm/resnetrs101.tf_in1k",
    "resnetrs152": "timm/resnetrs152.tf_in1k",
    "resnetrs200": "timm/resnetrs200.tf_in1k",
}


def require(config: Config) -> None:
    """InputError if the weights in the settings do not exist, or are required and not given."""
    if config.weights == IMAGENET:
        require_published(config.model)
        if config.width != 1:
            raise InputError(
                f"--width {config.width:g}: ImageNet weights are published for width 1; leave one "
                "of the two out"
            )
    elif config.weights is not None and not os.path.exists(config.weights):
        raise InputError(
            f"there are no weights at {config.weights!r}; give imagenet, a run folder, or a file: "
            ".keras, .h5, .safetensors or .pth"
        )
    elif config.weights is not None and os.path.isdir(config.weights):
        _require_same_width(config)
    needs = {
        "--freeze": config.freeze,
        "--freeze-bn": config.freeze_bn,
        "--recipe finetune": config.recipe == "finetune",
    }
    what = next((option for option, value in needs.items() if value), None)
    if config.weights is None and what and config.model != CUSTOM.name:  # it may have weights
        raise InputError(f"{what} needs pre-trained weights; give --weights")


def run_of(weights: str | None) -> run.Run | None:
    """The run whose folder, or a file in it, is --weights; None for other weights."""
    if weights is None or weights == IMAGENET:
        return None
    return run.open_run(weights) if os.path.isdir(weights) else run.run_of(weights)


def _require_same_width(config: Config) -> None:
    theirs = run.open_run(config.weights).config
    if theirs.model == config.model and theirs.width != config.width:
        raise InputError(
            f"--width is {config.width:g}, but {config.weights} contains a {theirs.network}; add "
            f"--width {theirs.width:g}"
        )


def require_published(model: str) -> None:
    """InputError for a network without published ImageNet weights."""
    if model not in PUBLISHED:
        small = SPECS[model].stem == "cifar"
        raise InputError(
            f"no ImageNet weights are published for {model}"
            + (", a CIFAR network" if small else "")
            + "; `keras-resnet models` marks the networks with weights"
        )
