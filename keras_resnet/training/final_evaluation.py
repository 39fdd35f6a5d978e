"""Scores, plots and report of a finished run, from the saved best model."""

import platform
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import filenames, runtime
from keras_resnet._version import __version__
from keras_resnet.config import Config
from keras_resnet.data.examples import Examples
from keras_resnet.data.sources import Source
from keras_resnet.data.stream import training_stream
from keras_resnet.evaluation.metrics import summarize
from keras_resnet.evaluation.per_image import ImageScore, image_scores, to_csv
from keras_resnet.evaluation.reference import true_float32
from keras_resnet.files import write_text
from keras_resnet.messages import log
from keras_resnet.report import page, plots
from keras_resnet.run import Run
from keras_resnet.training import gallery
from keras_resnet.training.history import History
from keras_resnet.training.precision import Precision
from keras_resnet.training.schedule import training_size
from keras_resnet.training.step import evaluation_batches

_SHOWN = 32  # images in batch.png


def evaluate_best_model(
    folder: Run,
    config: Config,
    source: Source,
    history: History,
    chosen: Precision,
    seconds: Mapping[str, float],
) -> None:
    """Writes metrics.json, the plots, report.html and manifest.json into the run folder."""
    model, here = folder.model(), environment()
    model.jit_compile = False  # as `evaluate` does
    metrics = {
        "model": config.model,
        "parameters": model.count_params(),
        "best_epoch": history.best_epoch,
        "best_epoch_chosen_on": None if config.best_by == "last" else "val",
        "seconds": round(sum(seconds.values()), 1),
        "seconds_by": {what: round(spent, 1) for what, spent in seconds.items()},
        "precision": chosen.policy,
        "precision_reason": chosen.reason,
        "images_per_second": float(np.median([r["images_per_second"] for r in history.rows])),
        "finished": datetime.now().astimezone().isoformat(timespec="seconds"),
        "versions": {"keras-resnet-edge": __version__, **versions()},
        "threads": here["threads"],
        "device": here["device"],
        "system": platform.platform(),
        "data": {split: _images(e, source.classes) for split, e in source.splits.items()},
    }
    rows = {}
    for split in ("val", "test"):
        if split in source.splits:
            examples = source.splits[split]
            with true_float32():  # as `evaluate` does
                logits = model.predict(evaluation_batches(examples, config), verbose=0)
            metrics[split] = summarize(logits, examples.labels, source.classes).as_json()
            rows[split] = image_scores(logits, examples.labels, source.classes, examples.names)
    val, before = metrics["val"], history.rows[history.best_epoch - 1]["val_top1"]
    if round(val["images"] * before) != round(val["images"] * val["top1"]):
        log.info(
            f"epoch {history.best_epoch}: top-1 {before:.1%} in {chosen.policy}, "
            f"{val['top1']:.1%} in float32, which counts"
        )
    parts = [to_csv(r, split, header=split == "val") for split, r in rows.items()]
    write_text(folder.file(filenames.PREDICTIONS), "".join(parts))
    _draw(folder, config, source, history, rows["val"], metrics["val"])
    folder.save_metrics(metrics)
    page.write(folder.path)
    folder.save_manifest()
    log.info(
        f"{'last' if config.best_by == 'last' else 'best'} epoch "
        f"{history.best_epoch}: top-1 {val['top1']:.1%} of {val['images']:,} validation "
        f"images, {metrics['seconds']:.0f} s of training"
    )


def _images(examples: Examples, classes: Sequence[str]) -> dict[str, int]:
    counts = np.bincount(examples.labels, minlength=len(classes)).tolist()
    return dict(zip(classes, counts, strict=True))


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
        "threads": threads or runtime.cores(),
        "device": details.get("device_name") or runtime.cpu_name(),
        "onednn": runtime.uses_onednn(),
    }


def _draw(
    folder: Run,
    config: Config,
    source: Source,
    history: History,
    rows: Sequence[ImageScore],
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
    gallery.write(folder, source.splits["val"], rows)


def _caption(shares: np.ndarray, classes: Sequence[str]) -> list[plots.Line]:
    """The class of a training image, or the mixed classes, such as "cat 70%" and "dog 30%"."""
    order = [k for k in np.argsort(-shares, kind="stable") if shares[k] >= 0.005]
    if len(order) == 1:
        return [plots.Line(classes[order[0]])]
    return [plots.Line(classes[k], after=f"{shares[k]:.0%}") for k in order]
