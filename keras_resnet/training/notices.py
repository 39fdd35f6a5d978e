"""Messages at the start of a run."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from keras_resnet import recipes, runtime
from keras_resnet.config import Config
from keras_resnet.data.sources import Source
from keras_resnet.distributed.strategy import Devices
from keras_resnet.messages import log, plural
from keras_resnet.run import Run
from keras_resnet.training import precision, schedule
from keras_resnet.training.precision import Precision


def log_plan(
    config: Config, source: Source, chosen: Precision, devices: Devices, folder: Run
) -> None:
    """Logs data, network and settings at the start of a run."""
    counts = ", ".join(f"{len(e):,} {split}" for split, e in source.splits.items())
    log.info(
        f"{config.network} on {source.name}: {len(source.classes)} classes, {counts} images"
        + (
            f" ({source.skipped:,} skipped; `keras-resnet data check` says why)"
            if source.skipped
            else ""
        )
    )
    if warning := few_images_warning(len(source.splits["val"]), config):
        log.info(warning)
    log.info(
        f"{plural(config.epochs, 'epoch')} at {config.geometry.image_size} pixels, "
        f"batch {config.batch_size}, "
        f"recipe {config.recipe}; {chosen.policy}: {chosen.reason}"
    )
    log.info(precision.describe(config))
    if runtime.lacks_onednn() and not tf.config.list_physical_devices("GPU"):
        log.info(
            "TensorFlow was imported before keras_resnet and computes without oneDNN: with "
            "TF_ENABLE_ONEDNN_OPTS=1 in the environment, training may be faster, and equals that "
            "of the command"
        )
    if devices.reason:
        log.info(
            f"{devices.reason}: each of {devices.count} devices trains on "
            f"{config.batch_size // devices.count} images of a batch"
        )
    for line in recipes.effective(config):
        log.info(line)
    if warning := ema_warning(config, len(source.splits["train"])):
        log.info(warning)
    log.info(f"run folder {folder.path}")


def few_images_warning(images: int, config: Config) -> str | None:
    """A warning if one of the validation images is worth more than two points, else None."""
    if images >= 50 or config.split_file:  # the user's split, or that of a fold
        return None
    return (
        f"few validation images: one of {images} is {100 / images:.3g} points of top-1"
        + ("" if config.best_by == "last" else ", and chance selects the best epoch too")
        # The splits of a prepared data set cannot be joined.
        + ("" if config.data.startswith("tfds:") else "; --folds 5 validates on every image")
    )


def ema_warning(config: Config, images: int) -> str | None:
    """A warning if the moving average covers more updates than the run has, else None."""
    steps = config.epochs * schedule.steps_per_epoch(config.batch_size, images)
    updates = steps // config.accumulate
    window = 1 / (1 - config.ema)
    if not config.ema or window <= updates:
        return None
    # Suggests a tenth of the run; in a shorter run, that would be only one or two updates.
    advice = (
        f"try {1 - float(f'{10 / updates:.1g}'):g}"
        if updates >= 20
        else "train longer, or without --ema"
    )
    return (
        f"--ema {config.ema:g} averages over {window:,.0f} updates, but the run has only "
        f"{updates:,}; {advice}"
    )


def log_changes(then: Mapping[str, Any], now: Mapping[str, Any], config: Config) -> None:
    """Logs the changes of the environment since the run was saved: results may differ."""
    others = [name for name in now if then.get(name, now[name]) != now[name]]
    if others:
        listed = "; ".join(f"{name} was {then.get(name)}, is {now[name]}" for name in others)
        # Without synchronization, each device normalizes its own part of a batch.
        more = "devices" in others and not config.sync_bn
        what = "results will differ" if more else "the last bits of results may differ"
        log.info(f"{what} from an uninterrupted run: {listed}")
