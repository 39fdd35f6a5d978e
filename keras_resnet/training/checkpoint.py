"""Checkpoints for an exact resume: the whole state of a run, saved as one unit.

Keras' own callbacks do not save enough: neither `.keras` files nor BackupAndRestore hold the random
state, the running metrics or the state of callbacks, and a kill during a write leaves a partial
file. Here `tf.train.Checkpoint` holds the values of all variables, and the rest as one JSON string;
`CheckpointManager` names a checkpoint as the latest only when it is whole. Together with a stream
that is addressed by the number of the sample, a run that is killed and resumed ends with the same
weights as one that was not.
"""

import json
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import tensorflow as tf

from keras_resnet import filenames, messages, signals
from keras_resnet.errors import CheckFailed, Interrupted, first_line
from keras_resnet.files import StrPath
from keras_resnet.messages import log
from keras_resnet.run import Run, resume_command

_KEPT = 2  # checkpoints: if the latest is damaged on the disk, there is another


class Checkpoint:
    """The state of a training, and further JSON data, in the folder `checkpoints` of a run.

    Args:
        run: the `Run`.
        state: variables by kind, as `TrainStep.state` gives them.
        writes: whether `save` writes; only one of several workers does.
    """

    def __init__(self, run: Run, state: dict[str, list[tf.Variable]], writes: bool = True):
        self._writes, self._state = writes, state
        self._folder = run.file(filenames.CHECKPOINTS)
        self._step = tf.Variable(0, dtype=tf.int64)
        self._notes = tf.Variable("", dtype=tf.string, shape=())
        # Plain variables: of the Keras objects themselves tf.train.Checkpoint would leave out the
        # seed generators, and restore nothing for some containers without a word.
        self._all = tf.train.Checkpoint(step=self._step, notes=self._notes, **state)
        self._manager = tf.train.CheckpointManager(
            self._all, str(self._folder), max_to_keep=_KEPT, checkpoint_name="step"
        )
        if writes:
            self._sweep()

    def save(self, step: int, notes: dict[str, Any]) -> None:
        """Writes all of it, or leaves the earlier checkpoints as they are.

        Raises:
            CheckFailed: it cannot be written, or a value is not finite.
        """
        self.require_finite(step)
        if not self._writes:
            return
        self._step.assign(step)
        self._notes.assign(json.dumps(notes))
        try:
            self._manager.save(checkpoint_number=step)
        except (tf.errors.OpError, OSError) as error:
            self._sweep()
            size = sum(v.dtype.size * v.shape.num_elements() for v in self._values())
            resume = resume_command(self._folder.parent)
            raise CheckFailed(
                f"cannot write a checkpoint of {size:,} bytes into {self._folder} "
                f"({first_line(error)}); free some space, then {resume}"
            ) from None

    def restore(self) -> tuple[int, dict[str, Any] | None]:
        """(step, notes) of the latest checkpoint that is whole; (0, None) if there is none."""
        for path in reversed(self._manager.checkpoints):
            try:
                self._all.restore(path).assert_consumed()
            except (tf.errors.OpError, ValueError, AssertionError) as error:
                log.info(f"{path} is damaged ({first_line(error)}); trying the one before")
                continue
            return int(self._step), json.loads(self._notes.numpy())
        if self._manager.checkpoints:
            raise CheckFailed(f"no checkpoint in {self._folder} can be read; train again")
        return 0, None

    def require_finite(self, step: int) -> None:
        """CheckFailed if a weight, an optimizer variable or a statistic is not finite."""
        floats = [value for value in self._values() if value.dtype.is_floating]
        if not tf.reduce_all([tf.reduce_all(tf.math.is_finite(value)) for value in floats]):
            raise self.diverged(step, "weights are no longer finite")

    def diverged(self, step: int, what: str) -> CheckFailed:
        """The error for a training that diverged."""
        last = self._manager.latest_checkpoint
        saved = f"the last finite state is {last}" if last else "nothing was saved yet"
        return CheckFailed(
            f"training diverged at step {step:,}: {what}; {saved}. Try a lower --learning-rate, "
            "--clip-norm 1 or --precision float32, and check the images: `keras-resnet data check`"
        )

    def _values(self) -> list[tf.Variable]:
        return [value for part in self._state.values() for value in part]

    def _sweep(self) -> None:
        """Removes files of interrupted writes: each may be as large as a checkpoint."""
        for left in self._folder.glob("*_temp"):
            shutil.rmtree(left, ignore_errors=True)


class Stop:
    """Handles SIGTERM, SIGHUP and Ctrl-C: finishes the step, saves a checkpoint, and stops.

    Outside a step it stops at once, and resumes from the last checkpoint. A second signal has its
    default effect.
    """

    def __init__(self, folder: StrPath):
        self.signal: int | None = None  # the one that arrived
        self.is_patient = False  # whether a step is about to end, and be saved
        self._folder = folder

    @contextmanager
    def listening(self) -> Iterator["Stop"]:
        """Handles the signals within the context; yields the `Stop` itself."""

        def hear(number: int, frame: FrameType | None) -> None:
            for each, handler in before.items():
                signal.signal(each, handler)
            if number == signal.SIGHUP:
                messages.leave_terminal()
            self.signal = number
            if not self.is_patient:
                self.exit_if_signalled()

        with signals.heard(hear) as before:
            yield self

    def exit_if_signalled(self) -> None:
        """Raises Interrupted, with the command that resumes the run, if a signal has arrived."""
        if self.signal:
            raise Interrupted(f"interrupted; {resume_command(self._folder)}", 128 + self.signal)


def peek(run: Run) -> dict[str, Any] | None:
    """The notes of the latest checkpoint of a run; None if it has none."""
    state = tf.train.get_checkpoint_state(str(run.file(filenames.CHECKPOINTS)))
    for path in reversed(state.all_model_checkpoint_paths if state else []):
        try:
            reader = tf.train.load_checkpoint(path)
            return json.loads(reader.get_tensor("notes/.ATTRIBUTES/VARIABLE_VALUE"))
        except (tf.errors.OpError, ValueError, RuntimeError):
            continue  # damaged: `Checkpoint.restore` says so
    return None
