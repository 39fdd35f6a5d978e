"""The rows of history.csv, the best epoch, and the same numbers for TensorBoard."""

import json
import math
import textwrap
from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import tensorflow as tf

from keras_resnet.config import Config
from keras_resnet.errors import NetworkFailed
from keras_resnet.messages import log
from keras_resnet.run import Run
from keras_resnet.training.step import Evaluation, Steps

_SPENT = ("input", "compute", "evaluation", "saving")
_INPUT_BOUND = 0.3  # share of the time without evaluation and saving, spent waiting for images


class History:
    """One row per epoch, validated at the full image size, so that rows are comparable.

    The best epoch has the highest validation top-1 (or the metric `Config.best_by`), then the
    lowest validation loss; with "last" it is the last one.
    """

    def __init__(self, run: Run, config: Config):
        self.rows: list[dict[str, Any]] = []
        self.best_epoch = 0
        self._run, self._config = run, config
        self._best: tuple[float, float] | None = None

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint, ready for JSON."""
        return {"rows": self.rows, "best_epoch": self.best_epoch, "best": self._best}

    def restore(self, state: dict[str, Any]) -> None:
        """Restores a result of `state`, and rewrites history.csv."""
        self.rows, self.best_epoch = state["rows"], state["best_epoch"]
        self._best = state["best"] and tuple(state["best"])
        if self.rows:  # the file may have a row that is later than the checkpoint
            self._run.save_history(self.rows)

    @property
    def is_best(self) -> bool:
        """Whether the last epoch is the best so far."""
        return self.best_epoch == len(self.rows)

    def score(self, evaluation: Evaluation) -> tuple[float, float]:
        """Sort key of weights: the metric `Config.best_by`, then the negative loss."""
        by_macro = self._config.best_by == "macro_top1"
        return evaluation.macro_top1 if by_macro else evaluation.top1, -evaluation.loss

    def record(self, row: dict[str, Any], evaluation: Evaluation) -> None:
        """Adds the row of an epoch, and logs it; raises NetworkFailed if a loss is not finite."""
        if not (math.isfinite(row["loss"]) and math.isfinite(row["val_loss"])):
            raise NetworkFailed(
                f"training diverged in epoch {row['epoch']}: the loss is {row['loss']}, "
                f"{row['val_loss']} on the validation images; the best model so far is kept in "
                f"{self._run.path}. Try a lower --learning-rate"
            )
        self.rows.append(row)
        self._run.save_history(self.rows)
        score, by_last = self.score(evaluation), self._config.best_by == "last"
        if self._best is None or score > self._best or by_last:
            self._best, self.best_epoch = score, row["epoch"]
        notes = []
        if row["image_size"] != self._config.side:
            notes.append(f"trained at {row['image_size']} pixels")
        if self._config.ema:
            notes.append(f"{row['weights']} weights")
        if self._config.best_by == "macro_top1":
            notes.append(f"macro top-1 {evaluation.macro_top1:.1%}")
        if self.is_best and not by_last:
            notes.append("best")
        log.info(
            f"epoch {row['epoch']:>3}/{self._config.epochs}  loss {row['loss']:.3f}"
            f"  top-1 {row['top1']:6.1%}  val loss {row['val_loss']:.3f}"
            f"  val top-1 {row['val_top1']:6.1%}"
            f"  {row['images_per_second']:.0f} images/s  {', '.join(notes)}".rstrip()
        )

    def is_out_of_patience(self) -> bool:
        """Whether `Config.patience` epochs at the full size have passed without a new best.

        It depends on the rows only, so a resumed run ends where an uninterrupted one would.
        """
        since = self.rows[self.best_epoch :]
        waited = sum(row["image_size"] == self._config.side for row in since)
        if not self._config.patience or waited < self._config.patience:
            return False
        log.info(
            f"--patience {self._config.patience}: no new best in the last {waited} epochs; "
            f"training ends after epoch {len(self.rows)} of {self._config.epochs}"
        )
        return True


class TensorBoard:
    """Event files: one point per call of the training step, one per epoch, and the settings."""

    def __init__(self, run: Run, config: Config):
        self._writer = tf.summary.create_file_writer(str(run.file("tensorboard")))
        settings = textwrap.indent(json.dumps(asdict(config), indent=1), " " * 4)  # Markdown's code
        with self._writer.as_default(step=0):
            metadata = tf.compat.v1.SummaryMetadata(
                plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="text")
            )
            tf.summary.write("configuration", tf.constant([settings]), metadata=metadata)

    def write_steps(self, step: int, steps: Steps, images_per_second: float) -> None:
        """Writes loss, gradient norm, learning rate and images per second, by step."""
        values = {
            "loss": steps.loss.mean(),
            "gradient_norm": steps.gradient_norm[-1],
            "learning_rate": steps.learning_rate[-1],
            "images_per_second": images_per_second,
        }
        self._write("step", step, values)

    def write_epoch(self, epoch: int, numbers: Mapping[str, float]) -> None:
        """Writes the numbers of a history row, by epoch."""
        self._write("epoch", epoch, numbers)
        self._writer.flush()

    def _write(self, group: str, step: int, values: Mapping[str, float]) -> None:
        # tf.summary.scalar needs the tensorboard package; tf.summary.write does not.
        metadata = tf.compat.v1.SummaryMetadata(
            plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
        )
        with self._writer.as_default(step=step):
            for name, value in values.items():
                if math.isfinite(value):
                    value = tf.constant(value, tf.float32)
                    tf.summary.write(f"{group}/{name}", value, metadata=metadata)


def time_shares(seconds: Mapping[str, float], config: Config, left: float) -> str:
    """One line for the log: the `left` seconds of a training, how `seconds` were spent, and advice
    if training is input-bound."""
    total = sum(seconds.values())
    shares = ", ".join(f"{what} {seconds[what] / total:.0%}" for what in _SPENT)
    remaining = f"about {timedelta(seconds=round(left))} remaining; " if left else ""
    line = f"time: {remaining}{shares}"
    if tf.config.list_physical_devices("GPU"):
        shared = ""
    else:
        shared = " (input and compute share the CPU's cores)"
    if seconds["input"] < _INPUT_BOUND * (seconds["input"] + seconds["compute"]):
        return f"{line}{shared}"
    cheaper = "a lower --randaugment, " if config.randaugment[0] else ""
    cheaper = "--no-trivialaugment, " if config.trivialaugment else cheaper
    return (
        f"{line}{shared}; training is input-bound: try {cheaper}smaller image files or more CPU "
        "cores"
    )
