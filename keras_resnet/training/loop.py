"""The training loop: compiled steps on batches, with a log; after each epoch an evaluation, a
history row, a checkpoint, and the best model."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import progress
from keras_resnet import run as runs
from keras_resnet.config import Config
from keras_resnet.data.sources import Source
from keras_resnet.distributed.strategy import Devices
from keras_resnet.messages import log
from keras_resnet.training import schedule
from keras_resnet.training.checkpoint import Checkpoint, Stop
from keras_resnet.training.history import History, TensorBoard, time_shares
from keras_resnet.training.step import Evaluation, Evaluator, Steps, TrainStep, training_batches

CHECKPOINT_SECONDS = 300  # between two checkpoints, unless a number of steps is set
CHECK_EVERY = 100  # steps between two checks of all weights; 0.02 s for a ResNet-50 on a CPU
# Target duration of one call, which runs several steps: long enough to make Python's overhead
# negligible, short enough to handle signals and show progress quickly.
CALL_SECONDS, MOST_STEPS = 0.2, 64
_TIMED = 3  # calls of one step each that are timed to choose this number; the first one compiles
# Evaluation may take minutes and can be interrupted, so a checkpoint is saved before it if the last
# one is older than this, in seconds.
_WORTH_SAVING = 10
_METRICS = ("loss", "cross_entropy", "top1")  # of a step


class Loop:
    """Trains a run from its first step or its latest checkpoint.

    Args:
        config, source: the effective `Config` and the images.
        folder: the `Run`.
        train_step: the compiled steps.
        evaluator: evaluates the same network on the validation images.
        devices: the devices to train on.
        stop: handles the signals that end the run.
        notes: JSON data to save with each checkpoint, by name.
        callbacks: the user's, called as in `keras.Model.fit`.
    """

    def __init__(
        self,
        config: Config,
        source: Source,
        folder: runs.Run,
        train_step: TrainStep,
        evaluator: Evaluator,
        *,
        devices: Devices,
        stop: Stop,
        notes: dict[str, Any],
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ):
        self.config, self.source, self.folder = config, source, folder
        self.train_step, self.evaluator = train_step, evaluator
        self.devices, self.stop, self.notes = devices, stop, notes
        self.epoch_steps = schedule.steps_per_epoch(config.batch_size, len(source.splits["train"]))
        self.sizes = schedule.epoch_sizes(config)
        self.deployable = folder.network(config, len(source.classes))
        self.checkpoint = Checkpoint(folder, train_step.state, writes=devices.is_chief)
        self.history = History(folder, config)
        self.board = TensorBoard(folder, config)
        self.step = 0  # completed steps of the whole run
        self.has_ended = False  # whether training stops before the last epoch
        self.epoch_sums: Any = Counter()  # sums over the steps of the epoch, floats
        self.seconds: Any = Counter()  # duration of the run, by kind of work
        self.callbacks = keras.callbacks.CallbackList(
            list(callbacks), model=train_step.model, epochs=config.epochs, steps=self.epoch_steps
        )
        self._work = np.cumsum(np.repeat(np.square(self.sizes, dtype=float), self.epoch_steps))
        self._lap = self._saved = time.monotonic()
        self._batches: Iterator[Any] = iter(())
        self._size = 0  # image size of `_batches`
        self._call_seconds: list[float] = []  # durations of the first calls at this size

    def run(self) -> History:
        """Trains until the last epoch or an early stop; returns the history."""
        self._restore()
        self.train_step.model.stop_training = False  # callbacks may set it
        self.callbacks.on_train_begin()
        while len(self.history.rows) < self.config.epochs and not self.has_ended:
            self.train_epoch(len(self.history.rows))
            self.end_epoch(len(self.history.rows))
        self.callbacks.on_train_end()
        return self.history

    def train_epoch(self, epoch: int) -> None:
        """Runs the remaining steps of an epoch."""
        first, last = epoch * self.epoch_steps, (epoch + 1) * self.epoch_steps
        label = f"epoch {epoch + 1}/{self.config.epochs}"
        self.callbacks.on_epoch_begin(epoch)
        with progress.bar(self.epoch_steps, label, "steps") as advance:
            advance(self.step - first)
            while self.step < last and not self.has_ended:
                batches = self._batches_of(self.sizes[epoch])
                count = self._steps_of_a_call(last)
                self.stop.is_patient = bool(self._call_seconds)  # the first call compiles
                self.callbacks.on_train_batch_begin(self.step - first)
                steps = self.train_step(batches, count)
                self.step += count
                logs = self._log(steps)
                advance(count, self._note(logs))
                self.callbacks.on_train_batch_end(self.step - first - 1, logs)
                signal, is_due, self.has_ended = self._agree()
                if signal or (is_due and self.step < last and not self.has_ended):
                    self._save()
                self._exit_if(signal)

    def end_epoch(self, epoch: int) -> None:
        """Evaluates the weights of an epoch, records the scores and saves a checkpoint."""
        self.stop.is_patient = False
        self.checkpoint.require_finite(self.step)
        if time.monotonic() - self._saved > _WORTH_SAVING and not self.has_ended:
            self._save()
        weights, evaluation = self._evaluate()
        self.stop.is_patient = True  # a checkpoint follows soon
        row = self._row(epoch, weights, evaluation)
        self.history.record(row, evaluation)
        logs = {k: v for k, v in row.items() if k not in ("epoch", "weights")}
        self.board.write_epoch(row["epoch"], logs)
        self.callbacks.on_epoch_end(epoch, logs)
        self.epoch_sums.clear()
        stopped = self.train_step.model.stop_training or self.history.is_out_of_patience()
        signal, stopped = self.devices.agree(self.stop.signal or 0, stopped)
        self.has_ended = self.has_ended or bool(stopped)
        self._save()
        self._save_best(weights)
        if epoch == 0:
            log.info(time_shares(self.seconds, self.config, self._seconds_left()))
        self.stop.is_patient = False
        self._exit_if(signal)

    def _restore(self) -> None:
        self.step, notes = self.checkpoint.restore()
        if notes is None:
            return
        self.history.restore(notes["history"])
        self.has_ended = notes["has_ended"]
        self.epoch_sums, self.seconds = Counter(notes["epoch_sums"]), Counter(notes["seconds"])
        if self.history.rows and not self.epoch_sums:  # perhaps killed before `_save_best`
            self._save_best(self.history.rows[-1]["weights"])
        total = self.config.epochs * self.epoch_steps
        log.info(f"resumed after step {self.step:,} of {total:,}")

    def _batches_of(self, size: int) -> Iterator[Any]:
        """The training stream at this image size, from the next step."""
        if size != self._size:
            epoch = self.step // self.epoch_steps
            others = (e for e in range(epoch, len(self.sizes)) if self.sizes[e] != size)
            span = {
                "first_step": self.step,
                "last_step": next(others, len(self.sizes)) * self.epoch_steps,
                "size": schedule.training_size(self.config, size),
            }
            batches = partial(training_batches, self.source, self.config, **span)
            self._batches, self._size = iter(self.devices.distribute(batches)), size
            self._call_seconds = []
        return self._batches

    def _steps_of_a_call(self, last: int) -> int:
        """The number of steps that fit into `CALL_SECONDS`, up to the next checkpoint."""
        if len(self._call_seconds) < _TIMED:
            return 1
        left = last - self.step
        if every := self.config.checkpoint_every:
            left = min(left, every - self.step % every)
        fitting = max(1, min(MOST_STEPS, int(CALL_SECONDS / min(self._call_seconds))))
        return min(left, int(self.devices.of_chief(fitting)[0]))

    def _log(self, steps: Steps) -> dict[str, float]:
        """Adds the results of a call to the sums; returns the means of the epoch so far."""
        count = len(steps.loss)
        if len(bad := np.flatnonzero(~np.isfinite(steps.loss))):
            first = self.step - count + int(bad[0]) + 1
            raise self.checkpoint.diverged(first, f"the loss is {steps.loss[bad[0]]}")
        if self.step % CHECK_EVERY < count:
            self.checkpoint.require_finite(self.step)
            if problem := self.train_step.loss_scale_problem():
                raise self.checkpoint.diverged(self.step, problem)
        seconds = self._spend("compute")
        self.seconds.update(input=steps.seconds_of_input, compute=-steps.seconds_of_input)
        if self._call_seconds:  # the first call compiles
            self.epoch_sums.update(timed_steps=count, timed_seconds=seconds)
        if len(self._call_seconds) < _TIMED:
            self._call_seconds.append(seconds)
        sums = {name: float(getattr(steps, name).sum(dtype=np.float64)) for name in _METRICS}
        self.epoch_sums.update(steps=count, seconds=seconds, **sums)
        self.epoch_sums["learning_rate"] = float(steps.learning_rate[-1])  # the latest, not a sum
        self.board.write_steps(self.step, steps, count * self.config.batch_size / seconds)
        return self._means()

    def _means(self) -> dict[str, float]:
        return {name: self.epoch_sums[name] / self.epoch_sums["steps"] for name in _METRICS}

    def _speed(self) -> float:
        """Images per second of the epoch so far, if possible without calls that compile."""
        of = "timed_" if self.epoch_sums["timed_steps"] else ""
        steps, seconds = self.epoch_sums[f"{of}steps"], self.epoch_sums[f"{of}seconds"]
        return steps * self.config.batch_size / seconds

    def _note(self, means: Mapping[str, float]) -> str:
        note = f"loss {means['cross_entropy']:.3f}  top-1 {means['top1']:.1%}"
        if len(self._call_seconds) < 2:  # the first call compiles
            return note
        left = timedelta(seconds=round(self._seconds_left()))
        return f"{note}  {self._speed():.0f} images/s  {left} remaining"

    def _seconds_left(self) -> float:
        """Estimates the remaining time: training by pixels, evaluation and saving by epochs."""
        spent, limit = sum(self.seconds.values()), 60 * self.config.max_minutes
        others = self.seconds["evaluation"] + self.seconds["saving"]
        steps = spent - others - sum(self._call_seconds[:1])  # without the call that compiles
        left = steps * (self._work[-1] / self._work[self.step - 1] - 1)
        left += others * (self.config.epochs / max(len(self.history.rows), 1) - 1)
        return min(left, max(limit - spent, 0)) if limit else left

    def _agree(self) -> tuple[float, bool, bool]:
        """Returns (signal, whether a checkpoint is due, whether training ends), equal in all
        workers, which must act alike at the same step."""
        every, age = self.config.checkpoint_every, time.monotonic() - self._saved
        is_due = self.step % every == 0 if every else age > CHECKPOINT_SECONDS
        is_late = 0 < 60 * self.config.max_minutes <= sum(self.seconds.values())
        stops = is_late or self.train_step.model.stop_training
        signal, due, late, ends = self.devices.agree(self.stop.signal or 0, is_due, is_late, stops)
        # A signal saves this step first; a resumed run reaches its time limit again.
        if late and not signal:
            log.info(
                f"--max-minutes {self.config.max_minutes:g}: time limit reached before the "
                "learning rate had decayed; fewer --epochs, within the limit, give better results"
            )
        return signal, bool(due), bool(ends) and not signal

    def _weights(self) -> dict[str, list[tf.Tensor]]:
        """The candidates for evaluation; only one with `best_by` "last": scores choose nothing."""
        weights = {"raw": [v.value for v in self.train_step.model.weights]}
        averaged = {"averaged": self.train_step.average} if self.config.ema else {}
        return averaged or weights if self.config.best_by == "last" else weights | averaged

    def _evaluate(self) -> tuple[str, Evaluation]:
        """Returns name and scores of the better weights; the chief decides for all workers."""
        scores = {}
        for name, weights in self._weights().items():
            own = self.evaluator(weights) if self.devices.is_chief else (0.0, 0.0, 0.0)
            scores[name] = Evaluation(*self.devices.of_chief(*own))
        return max(scores.items(), key=lambda item: self.history.score(item[1]))

    def _row(self, epoch: int, weights: str, evaluation: Evaluation) -> dict[str, Any]:
        means, seconds = self._means(), self.epoch_sums["seconds"] + self._spend("evaluation")
        return {
            "epoch": epoch + 1,
            "loss": means["cross_entropy"],
            "top1": means["top1"],
            "val_loss": evaluation.loss,
            "val_top1": evaluation.top1,
            "learning_rate": self.epoch_sums["learning_rate"],
            "seconds": round(seconds, 2),
            "images_per_second": round(self._speed(), 1),
            "image_size": self.sizes[epoch],
            "weights": weights,
        }

    def _save(self) -> None:
        own = {"history": self.history.state(), "has_ended": self.has_ended}
        counted = {"epoch_sums": self.epoch_sums, "seconds": self.seconds}
        self.checkpoint.save(self.step, {**self.notes, **own, **counted})
        self._saved = time.monotonic()
        self._spend("saving")

    def _save_best(self, weights: str) -> None:
        """Saves the best model. To be called after the checkpoint, so that a resumed run can write
        it again after a kill between the two; in the other order, the model could be of an epoch
        that a resumed run does not reach before its time limit."""
        if self.history.is_best:
            self.deployable.set_weights([w.numpy() for w in self._weights()[weights]])
            self.folder.save_model(self.deployable)
        self._spend("saving")

    def _exit_if(self, signal: float) -> None:
        """Exits together with all other workers."""
        if signal:
            self.stop.signal = int(signal)
            self.stop.exit_if_signalled()

    def _spend(self, what: str) -> float:
        """Adds the time since the last call to this kind of work; returns it in seconds."""
        now = time.monotonic()
        seconds, self._lap = now - self._lap, now
        self.seconds[what] += seconds
        return seconds
