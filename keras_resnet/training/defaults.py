"""Defaults from the data: values of unset settings, by the number and size of the images."""

import math
import shlex
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import tensorflow as tf

from keras_resnet import recipes
from keras_resnet.config import Config, require_relations
from keras_resnet.data.sources import Source
from keras_resnet.messages import log, plural
from keras_resnet.specs import of
from keras_resnet.training import schedule
from keras_resnet.weights import published
from keras_resnet.weights import settings as weights_settings
from keras_resnet.weights.fitting import network_of
from keras_resnet.weights.settings import IMAGENET, PUBLISHED

# From scratch, data sets of many large photos get a ResNet-18: at 128 pixels it has as many
# multiply-adds as a ResNet-20, and 40 times as many parameters.
_LARGE_SIDE, _MANY_IMAGES = 128, 2000
# Published weights, if they are on the disk and readable, are used for at most this many images per
# class, larger than this many pixels (CIFAR's have 32).
_FEW_OF_A_CLASS, _SMALL_SIDE = 200, 48
# Image sizes. ImageNet networks are published for 224 pixels; on a CPU, 128 take a third of the
# time. A ResNet-20 reached 100 % validation top-1 on 1,650 photos of hands at 64 pixels.
_PRETRAINED, _FROM_SCRATCH_ON_CPU, _CIFAR_NETWORK = 224, 128, 64
_LEAST_SIDE, _LEAST_CELLS = 32, 2
# Steps in an epoch, and images that a batch norm needs for its statistics: arXiv:1803.08494,
# figure 1, shows the errors for smaller batches.
_STEPS, _LEAST_BATCH = 8, 4
# By recipe: (minimum number of updates, maximum number of epochs). From scratch, the updates of 20
# epochs of the built-in digits.
LENGTHS = {"quick": (900, 60), "finetune": (300, 40)}


def fit(config: Config, source: Source, unset: Collection[str], devices: int = 1) -> Config:
    """Fits unset settings to the images, and logs the reason for each value other than the default.

    Args:
        config: as requested.
        source: the images.
        unset: names of these settings, see `recipes.unset`.
        devices: number of devices that share each batch.

    Returns:
        The effective `Config`.

    Raises:
        InputError: the requested settings contradict the fitted ones.
    """
    fitted = _Fit(config, source, unset)
    if unset:
        fitted.choose_weights(is_alone=devices == 1)
        fitted.choose_network()
        fitted.choose_image_size()
        fitted.choose_batch_size(devices)
        fitted.choose_epochs()
        require_relations(fitted.config)
        weights_settings.require(fitted.config)
    return fitted.config


def batch_size_for(images: int, usual: int) -> int:
    """The batch size for this number of training images, at most `usual`."""
    return min(2 ** int(math.log2(max(images / _STEPS, _LEAST_BATCH))), usual, images)


class _Fit:
    """The settings, fitted step by step."""

    def __init__(self, config: Config, source: Source, unset: Collection[str]) -> None:
        self.config, self._unset = config, unset
        self._side = source.side
        self._images, self._classes = len(source.splits["train"]), len(source.classes)

    def _choose(self, name: str, value: Any, reason: str | None) -> None:
        """Changes a setting if it is unset and has another value; without a reason, the value is
        that of the weights."""
        if name in self._unset and getattr(self.config, name) != value:
            self.config = replace(self.config, **{name: value})
            self._log(name, reason)

    def _take_recipe(self, recipe: str, reason: str) -> None:
        if "recipe" in self._unset and self.config.recipe != recipe:
            self.config = recipes.with_recipe(self.config, recipe, self._unset)
            self._log("recipe", reason)

    def _log(self, name: str, reason: str | None) -> None:
        chosen = shlex.join(recipes.option(name, getattr(self.config, name)))
        if reason:
            log.info(f"from the data: {chosen}, because {reason}")
        else:
            log.info(f"from the weights {self.config.weights}: {chosen}")

    def choose_weights(self, *, is_alone: bool) -> None:
        """Uses published weights on the disk for few photos, and a recipe that fits the weights."""
        name = recipes.PUBLISHED_NETWORK if "model" in self._unset else self.config.model
        few = self._images <= _FEW_OF_A_CLASS * self._classes
        is_unset = {"weights", "recipe"} <= set(self._unset)
        is_free = is_unset and self.config.width == 1 and is_alone  # workers have different disks
        if is_free and few and (self._side or 0) > _SMALL_SIDE and name in PUBLISHED:
            are_few = (
                f"there are only {self._images:,} images (at most {_FEW_OF_A_CLASS} per class)"
            )
            if published.is_at_hand(name):
                why = f"they are on this disk and {are_few}; --recipe quick trains from scratch"
                self._choose("weights", IMAGENET, why)
                self._choose("model", name, "the smallest network with published weights")
            else:
                log.info(
                    f"{are_few}, and no ImageNet weights on this disk: --weights imagenet "
                    "downloads some and starts from them"
                )
        if self.config.weights is not None:
            self._take_recipe("finetune", "there are weights to start from")

    def choose_network(self) -> None:
        weights = self.config.weights
        if weights is not None:
            if weights != IMAGENET and "model" in self._unset:
                self._choose("model", network_of(weights), None)
        elif (self._side or 0) >= _LARGE_SIDE and self._images >= _MANY_IMAGES:
            why = f"{self._images:,} images of {self._side} pixels, the median of the shorter side"
            self._choose("model", "resnet18", why)

    def choose_image_size(self) -> None:
        """The size of the images, limited by the network's usual size and the speed of a CPU; for
        the weights of a run, the size and shape of its images."""
        if run := weights_settings.run_of(self.config.weights):
            theirs = run.config
            self._choose("fit", theirs.fit, None)
            self._choose("channels", theirs.channels, None)
            if theirs.geometry != self.config.geometry:
                self._choose("image_size", theirs.image_size or theirs.side, None)
            return
        if self._side is None:
            return
        spec = of(self.config.model)
        if spec.stem == "cifar":
            most, limit = _CIFAR_NETWORK, f"at most {_CIFAR_NETWORK} for {spec.name}"
        elif self.config.weights or tf.config.list_physical_devices("GPU"):
            most, limit = _PRETRAINED, f"{spec.name} is designed for {_PRETRAINED}"
        else:
            most = _FROM_SCRATCH_ON_CPU
            limit = f"at most {most} on a CPU, to limit the time"
        multiple = spec.total_stride
        side = min(self._side, most) // multiple * multiple
        side = max(side, _LEAST_SIDE, _LEAST_CELLS * multiple)
        if side != self.config.side:
            why = f"the shorter side of the images has {self._side} pixels (median)"
            self._choose("image_size", side, f"{why}; {limit}" if self._side > side else why)

    def choose_batch_size(self, devices: int) -> None:
        usual = self.config.batch_size
        if "batch_size" not in self._unset or usual <= self._images / _STEPS:
            return
        batch = batch_size_for(self._images, usual)
        batch = max(batch // devices * devices, devices)
        if not {"learning_rate", "base_batch"} - set(self._unset):
            self.config = replace(self.config, base_batch=usual)  # the rate is for this batch size
        why = (
            f"there are {self._images:,} training images, for {_STEPS} steps per epoch if possible"
        )
        self._choose("batch_size", batch, why)

    def choose_epochs(self) -> None:
        if self.config.batch_size > self._images:
            return  # `schedule.require_steps` raises the error
        updates, most = LENGTHS[self.config.recipe]
        steps = schedule.steps_per_epoch(self.config.batch_size, self._images)
        in_epoch = steps / self.config.accumulate
        epochs = min(math.ceil(updates / in_epoch), most)
        if epochs > self.config.epochs:
            why = f"an epoch has {plural(round(in_epoch), 'update')}, a run needs {updates} or more"
            self._choose("epochs", epochs, f"{why}, but at most {most} epochs")
