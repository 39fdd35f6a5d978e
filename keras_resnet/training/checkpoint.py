"""Checkpoints for an exact resume: the whole state of a run, saved as one unit.

Keras' own callbacks do not save enough: neither `.keras` files nor BackupAndRestore hold the random
state, the running metrics or the state of callbacks, and a kill during a write leaves a partial
file. Here `tf.train.Checkpoint` holds the values of all variables, and the rest as one JSON string.
Together with a stream that is addressed by the number of the sample, a run that is killed and
resumed ends with the same weights as one that was not.

A checkpoint is two files, `step-N.index` and `step-N.data-…`, which the first names: it is written
last, and each value has a checksum. So the files alone tell which checkpoint is the latest that is
whole; `CheckpointManager` would trust a list of them, which can be damaged or missing by itself.
"""

import json
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import tensorflow as tf

from keras_resnet import filenames, messages, signals
from keras_resnet.checkpoint_notes import peek, require_none_lost
from keras_resnet.data.sources import Source
from keras_resnet.errors import CheckFailed, Interrupted, first_line
from keras_resnet.files import StrPath, full_disk, plainly_named
from keras_resnet.messages import log
from keras_resnet.run import Run, resume_command

_KEPT = 2  # checkpoints: if the latest is damaged on the disk, there is another
_FILE = re.compile(r"step-(\d+)\.(?:index|data-.*)")


class Checkpoint:
    """The state of a training, and further JSON data, in the folder `checkpoints` of a run.

    Args:
        run: the `Run`.
        state: variables by kind, as `TrainStep.state` gives them.
        writes: whether `save` writes; only one of several workers does.
    """

    def __init__(self, run: Run, state: dict[str, list[tf.Variable]], writes: bool = True):
        self._writes, self._state = writes, state
        self._run, self._folder = run, run.file(filenames.CHECKPOINTS)
        self._damaged: set[int] = set()  # steps whose checkpoint cannot be read
        self._step = tf.Variable(0, dtype=tf.int64)
        self._notes = tf.Variable("", dtype=tf.string, shape=())
        # Plain variables: of the Keras objects themselves tf.train.Checkpoint would leave out the
        # seed generators, and restore nothing for some containers without a word.
        self._all = tf.train.Checkpoint(step=self._step, notes=self._notes, **state)
        self._all.save_counter  # noqa: B018  made by the first look: each file has one
        if writes:
            self._folder.mkdir(exist_ok=True)
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
            with plainly_named(self._folder) as folder:
                self._all.write(str(folder / f"step-{step}"))
        except (tf.errors.OpError, OSError) as error:
            self._sweep()
            size = sum(v.dtype.size * v.shape.num_elements() for v in self._values())
            resume = resume_command(self._folder.parent)
            raise CheckFailed(
                f"cannot write a checkpoint of {size:,} bytes into {self._folder} "
                f"({full_disk(error) or first_line(error)}); free some space, then {resume}"
            ) from None
        self._remove_others(step)

    def restore(self) -> tuple[int, dict[str, Any] | None]:
        """(step, notes) of the latest checkpoint that is whole; (0, None) if there is none.

        Raises:
            CheckFailed: there are some, or have been, and none can be read.
        """
        steps = self._run.checkpoint_steps()
        for step in reversed(steps):
            try:
                with plainly_named(self._folder) as folder:
                    self._all.read(str(folder / f"step-{step}")).assert_consumed()
                return int(self._step), json.loads(self._notes.numpy())
            except Exception as error:  # TensorFlow raises a dozen kinds
                self._damaged.add(step)
                log.info(f"{_damage(self._folder, step, error)}; trying the previous one")
        require_none_lost(self._run)
        return 0, None

    def require_finite(self, step: int) -> None:
        """CheckFailed if a weight, an optimizer variable or a statistic is not finite."""
        floats = [value for value in self._values() if value.dtype.is_floating]
        if not tf.reduce_all([tf.reduce_all(tf.math.is_finite(value)) for value in floats]):
            raise self.diverged(step, "weights are no longer finite")

    def diverged(self, step: int, what: str) -> CheckFailed:
        """The error for a training that diverged."""
        steps = self._run.checkpoint_steps()
        last = self._folder / f"step-{steps[-1]}" if steps else None
        saved = f"the last finite state is {last}" if last else "nothing was saved yet"
        return CheckFailed(
            f"training diverged at step {step:,}: {what}; {saved}. Try a lower --learning-rate, "
            "--clip-norm 1 or --precision float32, and check the images: `keras-resnet data check`"
        )

    def _values(self) -> list[tf.Variable]:
        return [value for part in self._state.values() for value in part]

    def _remove_others(self, step: int) -> None:
        """Removes all but the checkpoint just written and the whole one before it.

        Later ones are of a future that will be computed again, from before they were damaged.
        """
        whole = [s for s in self._run.checkpoint_steps() if s <= step and s not in self._damaged]
        for path in self._folder.iterdir():
            match = _FILE.fullmatch(path.name)
            if match and int(match[1]) not in whole[-_KEPT:]:
                path.unlink(missing_ok=True)

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


def settle(run: Run, source: Source) -> None:
    """Saves the labels and the split of a run that has no checkpoint yet: what an earlier start has
    written may be damaged."""
    if peek(run) is None:
        path = run.file(filenames.SPLIT)
        earlier = path.read_bytes() if path.exists() else None
        run.save_labels(source.classes)
        run.save_split(source)
        if earlier not in (None, path.read_bytes()):
            log.info(
                "the run was interrupted before its first checkpoint; it starts again with a new "
                "split of the current images"
            )


def _damage(folder: Path, step: int, error: Exception) -> str:
    reason = re.sub(r"^{{.*?}} ", "", first_line(error))  # without the name of the op
    return f"{folder / f'step-{step}'} is damaged ({reason})"
