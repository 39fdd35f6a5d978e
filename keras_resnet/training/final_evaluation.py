"""Scores, plots and report of a finished run, from the saved best model."""

import os
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import runtime
from keras_resnet.config import Config
from keras_resnet.data.examples import Examples
from keras_resnet.data.sources import Source
from keras_resnet.data.stream import evaluation_stream, training_stream
from keras_resnet.evaluation.metrics import log_softmax, summarise
from keras_resnet.evaluation.reference import true_float32
from keras_resnet.report import page, plots
from keras_resnet.run import Run
from keras_resnet.training.history import History
from keras_resnet.training.precision import Precision
from keras_resnet.training.schedule import training_size

_SHOWN = 32  # images in a picture


def evaluate_best_model(
    folder: Run,
    config: Config,
    source: Source,
    history: History,
    chosen: Precision,
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Writes metrics.json, the plots, report.html and manifest.json into the run folder."""
    model = folder.model()
    metrics = {
        "model": config.model,
        "parameters": model.count_params(),
        "best_epoch": history.best_epoch,
        "best_epoch_chosen_on": "val",
        "seconds": round(sum(seconds.values()), 1),
        "seconds_by": {what: round(spent, 1) for what, spent in seconds.items()},
        "precision": chosen.policy,
        "precision_reason": chosen.reason,
        "images_per_second": float(np.median([r["images_per_second"] for r in history.rows])),
        "versions": versions(),
        "threads": environment()["threads"],
    }
    logits = {}
    for split in ("val", "test"):
        if split in source.splits:
            stream = _stream(source.splits[split], config)
            with true_float32():  # as `evaluate` does
                logits[split] = model.predict(stream.map(lambda images, _: images), verbose=0)
            labels = source.splits[split].labels
            metrics[split] = summarise(logits[split], labels, source.classes).as_json()
    _draw(folder, config, source, history, logits["val"], metrics["val"])
    folder.save_metrics(metrics)
    page.write(folder.path)
    folder.save_manifest()
    return metrics


def versions() -> dict[str, str]:
    """Versions of the packages that computed the result."""
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }


def environment() -> dict[str, Any]:
    """Versions and hardware that determine the last bits of a result."""
    gpus = tf.config.list_physical_devices("GPU")
    details = tf.config.experimental.get_device_details(gpus[0]) if gpus else {}
    threads = tf.config.threading.get_intra_op_parallelism_threads()  # 0: one for each core
    return {
        **versions(),
        "threads": threads or len(os.sched_getaffinity(0)),
        "device": details.get("device_name") or runtime.cpu_name(),
    }


def _draw(
    folder: Run,
    config: Config,
    source: Source,
    history: History,
    logits: np.ndarray,
    scores: Mapping[str, Any],
) -> None:
    plots.curves(history.rows, folder.file("curves.png"), best_epoch=history.best_epoch)
    plots.confusion(np.array(scores["confusion"]), source.classes, folder.file("confusion.png"))
    size = training_size(config, config.side)
    stream = training_stream(source, config, size=size, first_step=0, last_step=1)
    images, targets = next(stream.as_numpy_iterator())
    captions = [_caption(shares, source.classes) for shares in targets]
    plots.image_grid(
        images[:_SHOWN],
        captions[:_SHOWN],
        folder.file("batch.png"),
        title="A training batch as the network sees it",
    )
    _draw_mistakes(folder, config, source, logits)


def _caption(shares: np.ndarray, classes: Sequence[str]) -> str:
    """The class of a training image, or what was mixed in it, such as "cat 70 %, dog 30 %"."""
    order = [k for k in np.argsort(-shares, kind="stable") if shares[k] >= 0.005]
    if len(order) == 1:
        return classes[order[0]]
    return ", ".join(f"{classes[k]} {shares[k]:.0%}" for k in order)


def _draw_mistakes(folder: Run, config: Config, source: Source, logits: np.ndarray) -> None:
    """The misclassified validation images with the largest loss, worst first."""
    val = source.splits["val"]
    log_p, guesses = log_softmax(logits), logits.argmax(-1)
    loss = -log_p[np.arange(len(val)), val.labels]
    wrong = np.flatnonzero(guesses != val.labels)
    worst = wrong[np.argsort(-loss[wrong])][:_SHOWN]
    shape = (0, config.side, config.side, 3)
    images = [x for x, _ in _stream(val.take(worst), config).as_numpy_iterator()]
    captions = [
        f"true {source.classes[val.labels[i]]}, predicted {source.classes[guesses[i]]} "
        f"({np.exp(log_p[i, guesses[i]]):.2f})"
        for i in worst
    ]
    plots.image_grid(
        np.concatenate(images) if images else np.zeros(shape, np.uint8),
        captions,
        folder.file("mistakes.png"),
        title="Worst mistakes",
    )


def _stream(examples: Examples, config: Config) -> tf.data.Dataset:
    return evaluation_stream(
        examples, size=config.side, crop=config.center_crop, batch_size=config.batch_size
    )
