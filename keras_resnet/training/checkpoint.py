"""Exact resume: everything that a run needs to go on, kept as one unit, bit for bit.

Keras' own callbacks do not keep enough: neither `.keras` files nor BackupAndRestore hold the state
of the random numbers, the running metrics or what callbacks remember, and a kill in the middle of a
write leaves half a file. Here `tf.train.Checkpoint` holds the values of all variables and the notes
of the callbacks as one string; `CheckpointManager` names a checkpoint as the latest only when it is
whole. Together with a stream that is addressed by the number of the sample, a run that is killed
and goes on ends with the same weights as one that was not.
"""

import json
import math
import shlex
import shutil
import signal
import time
from contextlib import contextmanager

import keras
import tensorflow as tf

from keras_resnet import progress, signals
from keras_resnet.errors import CheckFailed, Interrupted, first_line

SECONDS = 300  # between two checkpoints, where no number of steps is asked for
CHECK_EVERY = 100  # steps between two looks at all weights; 0.02 s for a ResNet-50 on a CPU
# While an epoch ends it cannot be left in order: the state before its last step is saved if what
# was saved before is older than this, in seconds.
_WORTH_SAVING = 10
_KEPT = 2  # checkpoints: should the latest be damaged on the disk, there is another
_LEAST_LOSS_SCALE = 1.0  # it starts at 2**15, and halves with each step that overflows


class Checkpoint:
    """The state of a compiled model in training, and notes, in the `checkpoints` of a run.

    The optimizer and the metrics must have their variables already. Of several workers all have to
    call the same; those that are not to write only `restore`.
    """

    def __init__(self, run, model, writes=True):
        self._writes = writes
        self._folder = run.file("checkpoints")
        self._step = tf.Variable(0, dtype=tf.int64)
        self._notes = tf.Variable("", dtype=tf.string, shape=())
        # Plain values: of the Keras objects themselves tf.train.Checkpoint would leave out the
        # seed generators, and restore nothing for some containers without a word.
        self._parts = {
            "model": [v.value for v in model.variables],
            "optimizer": [v.value for v in model.optimizer.variables],
            # Plain ones: on several devices each has its own, and what counts is their sum.
            "metrics": [tf.Variable(v.numpy()) for v in model.metrics_variables],
        }
        self._metrics = model.metrics_variables
        self._all = tf.train.Checkpoint(step=self._step, notes=self._notes, **self._parts)
        self._manager = tf.train.CheckpointManager(
            self._all, str(self._folder), max_to_keep=_KEPT, checkpoint_name="step"
        )
        if writes:
            self._sweep()

    def save(self, step, notes):
        """Writes all of it, or leaves the earlier checkpoints as they are.

        Raises:
            CheckFailed: it cannot be written, or a value is not finite.
        """
        self.require_finite(step)
        for kept, counted in zip(self._parts["metrics"], self._metrics, strict=True):
            kept.assign(counted.numpy())
        if not self._writes:
            return
        self._step.assign(step)
        self._notes.assign(json.dumps(notes))
        try:
            self._manager.save(checkpoint_number=step)
        except (tf.errors.OpError, OSError) as error:
            self._sweep()
            size = sum(v.dtype.size * v.shape.num_elements() for v in self._values())
            raise CheckFailed(
                f"cannot write a checkpoint of {size:,} bytes into {self._folder} "
                f"({first_line(error)}); make room, then {goes_on(self._folder.parent)}"
            ) from None

    def restore(self):
        """(step, notes) of the latest checkpoint that is whole; (0, None) if there is none."""
        for path in reversed(self._manager.checkpoints):
            try:
                self._all.restore(path).assert_consumed()
            except (tf.errors.OpError, ValueError, AssertionError) as error:
                progress.say(f"{path} is damaged ({first_line(error)}); trying the one before")
                continue
            for kept, counted in zip(self._parts["metrics"], self._metrics, strict=True):
                counted.assign(kept)
            return int(self._step), json.loads(self._notes.numpy())
        if self._manager.checkpoints:
            raise CheckFailed(f"no checkpoint in {self._folder} can be read; train again")
        return 0, None

    def require_finite(self, step):
        """CheckFailed if a weight, a moment or a statistic is no longer a number."""
        if not all(_finite(self._parts[part]) for part in ("model", "optimizer")):
            raise CheckFailed(self._stopped(step, "weights are no longer finite"))

    def require_number(self, step, loss):
        """CheckFailed if the loss is not a number."""
        if not math.isfinite(loss):
            raise CheckFailed(self._stopped(step, f"the loss is {loss}"))

    def require_loss_scale(self, step, optimizer):
        """CheckFailed if the loss scale of mixed_float16 has collapsed; Keras knows no floor."""
        scale = getattr(optimizer, "dynamic_scale", None)
        if scale is not None and float(scale) < _LEAST_LOSS_SCALE:
            what = f"the loss scale has collapsed to {float(scale):g}, every step overflows"
            raise CheckFailed(self._stopped(step, what))

    def _stopped(self, step, what):
        last = self._manager.latest_checkpoint
        kept = f"the last finite state is {last}" if last else "nothing was saved yet"
        return (
            f"training diverged at step {step:,}: {what}; {kept}. Try a lower --learning-rate, "
            "--clip-norm 1 or --precision float32, and `keras-resnet data check`"
        )

    def _values(self):
        return [value for part in self._parts.values() for value in part]

    def _sweep(self):
        """Removes what writes that did not end have left: each may be as large as a checkpoint."""
        for left in self._folder.glob("*_temp"):
            shutil.rmtree(left, ignore_errors=True)


class Saving(keras.callbacks.Callback):
    """Counts the steps of the run, saves now and then, and ends it in order when it is told to.

    To be the last of the callbacks: what it saves includes what the others noted of the epoch.

    Args:
        checkpoint: the `Checkpoint`.
        every: steps between two checkpoints within an epoch; 0 is every five minutes. At the end
            of each epoch there is one in any case.
        steps_per_epoch: steps.
        notes: a function that gives what callbacks remember, ready for JSON.
        stop: a `Stop`.
        agree: a function of numbers to the largest that any worker gives of each: what one of them
            decides, all do at the same step.
    """

    def __init__(self, checkpoint, every, steps_per_epoch, notes, stop, agree):
        super().__init__()
        self.step = 0
        self._checkpoint, self._notes, self._stop, self._agree = checkpoint, notes, stop, agree
        self._every, self._steps_per_epoch = every, steps_per_epoch
        self._metrics = None
        self._saved = time.monotonic()

    def restore(self):
        """The notes of the latest checkpoint, whose state the model now has; None: a new run."""
        self.step, notes = self._checkpoint.restore()
        if self.step % self._steps_per_epoch:
            self._metrics = [v.numpy() for v in self.model.metrics_variables]
        return notes

    def on_epoch_begin(self, epoch, logs=None):
        if self._metrics:  # `fit` has just set them to 0; half of this epoch was counted before
            for variable, value in zip(self.model.metrics_variables, self._metrics, strict=True):
                variable.assign(value)
            self._metrics = None

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        self._checkpoint.require_number(self.step, logs["loss"])
        if self.step % CHECK_EVERY == 0:
            self._checkpoint.require_finite(self.step)
            self._checkpoint.require_loss_scale(self.step, self.model.optimizer)
        asked, is_due, ended = self._agree(
            self._stop.asked or 0, self._is_due(), self.model.stop_training
        )
        # Who is asked to leave saves this step and goes: going on, the time is up once more.
        ended = ended and not asked
        if ended and not self.model.stop_training:
            progress.say("ends: the time of another worker is up (--max-minutes)")
        self.model.stop_training = bool(ended)
        # The last step of an epoch is saved with what validation says of it.
        within = self.step % self._steps_per_epoch and not ended
        if within and (asked or is_due):
            self._save()
        self._leave_if(asked)
        self._is_traced = True

    def on_train_begin(self, logs=None):
        self._is_traced = False  # the first step takes long, and has nothing to save

    def on_train_batch_begin(self, batch, logs=None):
        is_last = (self.step + 1) % self._steps_per_epoch == 0
        self._stop.is_patient = self._is_traced and not is_last

    def on_test_begin(self, logs=None):
        # Before the best model is written: after a ReLU the loss may hide what the weights are.
        self._stop.is_patient = False
        self._checkpoint.require_finite(self.step)

    def on_test_end(self, logs=None):
        self._stop.is_patient = True  # the epoch is judged, and about to be saved

    def on_epoch_end(self, epoch, logs=None):
        self._save()
        (asked,) = self._agree(self._stop.asked or 0)
        self._stop.is_patient = False
        self._leave_if(asked)

    def _leave_if(self, asked):
        """With all others, or not at all."""
        if asked:
            self._stop.asked = int(asked)
            self._stop.leave_if_asked()

    def _is_due(self):
        age = time.monotonic() - self._saved
        before_last = (self.step + 1) % self._steps_per_epoch == 0
        due = self.step % self._every == 0 if self._every else age > SECONDS
        return due or (before_last and age > _WORTH_SAVING)

    def _save(self):
        ended = bool(self.model.stop_training)
        judged = ended or self.step % self._steps_per_epoch == 0
        self._checkpoint.save(self.step, {**self._notes(), "ended": ended, "judged": judged})
        self._saved = time.monotonic()


class Stop:
    """SIGTERM, SIGHUP and Ctrl-C: the step is finished and saved, then the run is left.

    Where there is no step to wait for, it is left at once, and goes on from the last checkpoint. A
    second signal does what it does to any program.
    """

    def __init__(self, folder):
        self.asked = None
        self.is_patient = False  # whether a step is about to end, and be saved
        self._folder = folder

    @contextmanager
    def listening(self):
        """Within, signals are heard; gives the `Stop` itself."""

        def hear(number, frame):
            for each, handler in before.items():
                signal.signal(each, handler)
            if number == signal.SIGHUP:
                progress.leave_terminal()
            self.asked = number
            if not self.is_patient:
                self.leave_if_asked()

        with signals.heard(hear) as before:
            yield self

    def leave_if_asked(self):
        if self.asked:
            raise Interrupted(f"interrupted; {goes_on(self._folder)}", 128 + self.asked)


def peek(run):
    """The notes of the latest checkpoint of a run; None if it has none."""
    state = tf.train.get_checkpoint_state(str(run.file("checkpoints")))
    for path in reversed(state.all_model_checkpoint_paths if state else []):
        try:
            reader = tf.train.load_checkpoint(path)
            return json.loads(reader.get_tensor("notes/.ATTRIBUTES/VARIABLE_VALUE"))
        except (tf.errors.OpError, ValueError, RuntimeError):
            continue  # damaged: `Checkpoint.restore` says so
    return None


def goes_on(folder):
    """The next step, for messages."""
    return f"`keras-resnet train --resume {shlex.quote(str(folder))}` goes on"


def _finite(values):
    floats = [value for value in values if value.dtype.is_floating]
    return bool(tf.reduce_all([tf.reduce_all(tf.math.is_finite(value)) for value in floats]))
