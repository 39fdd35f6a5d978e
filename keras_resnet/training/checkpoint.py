"""Checkpoints for an exact resume: the whole state of a run, saved as one unit.

Keras' own callbacks do not save enough: neither `.keras` files nor BackupAndRestore hold the random
state, the running metrics or the state of callbacks, and a kill during a write leaves a partial
file. Here `tf.train.Checkpoint` holds the values of all variables, and the rest as one JSON string.
The input stream is addressed by sample number, so a killed and resumed run ends with the same
weights as an uninterrupted one.

A checkpoint is two files: `step-N.data-…`, and `step-N.index`, which names it, is written last and
has a checksum of each value. The files alone therefore show which checkpoint is the latest intact
one; `CheckpointManager` relies on a separate list, which can be damaged or missing.
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

import keras
import tensorflow as tf

from keras_resnet import filenames, messages, signals
from keras_resnet.checkpoint_notes import require_none_lost
from keras_resnet.config import Config
from keras_resnet.data.sources import Source
from keras_resnet.errors import CheckFailed, Interrupted, NetworkFailed, first_line
from keras_resnet.files import StrPath, full_disk, next_step, plainly_named
from keras_resnet.messages import log
from keras_resnet.run import Run, resume_command

_KEPT = 2  # checkpoints: the earlier one is a backup if the latest is damaged on disk
_FILE = re.compile(r"step-(\d+)\.(?:index|data-.*)")


class Checkpoint:
    """The state of a training, and further JSON data, in the folder `checkpoints` of a run.

    Args:
        run: the `Run`.
        state: variables by kind, from `TrainStep.state`.
        writes: whether `save` writes; only the chief of several workers does.
    """

    def __init__(self, run: Run, state: dict[str, list[tf.Variable]], writes: bool = True):
        self._writes, self._state = writes, state
        self._run, self._folder = run, run.file(filenames.CHECKPOINTS)
        self._damaged: set[int] = set()  # steps whose checkpoint cannot be read
        self._step = tf.Variable(0, dtype=tf.int64)
        self._notes = tf.Variable("", dtype=tf.string, shape=())
        # Plain variables: given the Keras objects, tf.train.Checkpoint omits the seed generators
        # and silently skips the variables of some containers.
        self._all = tf.train.Checkpoint(step=self._step, notes=self._notes, **state)
        self._all.save_counter  # noqa: B018  the first access creates it; every file has one
        if writes:
            self._folder.mkdir(exist_ok=True)
            self._sweep()

    def save(self, step: int, notes: dict[str, Any]) -> None:
        """Writes a checkpoint; if that fails, the earlier checkpoints stay unchanged.

        Raises:
            CheckFailed: the checkpoint cannot be written.
            NetworkFailed: a value is not finite.
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
            resume, reason = resume_command(self._folder.parent), full_disk(error)
            reason = reason or first_line(error)
            raise CheckFailed(
                f"cannot write a checkpoint of {size:,} bytes into {self._folder} ({reason}); "
                f"{next_step(reason)}, then {resume}"
            ) from None
        self._remove_others(step)

    def restore(self) -> tuple[int, dict[str, Any] | None]:
        """Restores the latest intact checkpoint.

        Returns:
            (step, notes) of that checkpoint; (0, None) for a run without checkpoints.

        Raises:
            CheckFailed: no checkpoint of the run can be read, or all were lost.
        """
        steps = self._run.checkpoint_steps()
        for step in reversed(steps):
            try:
                with plainly_named(self._folder) as folder:
                    self._all.read(str(folder / f"step-{step}")).assert_consumed()
                return int(self._step), json.loads(self._notes.numpy())
            except Exception as error:  # TensorFlow raises a dozen types
                self._damaged.add(step)
                log.info(f"{_damage(self._folder, step, error)}; trying the previous one")
        require_none_lost(self._run)
        return 0, None

    def require_finite(self, step: int) -> None:
        """Raises NetworkFailed if a weight, optimizer variable or statistic is not finite."""
        floats = [value for value in self._values() if value.dtype.is_floating]
        if not tf.reduce_all([tf.reduce_all(tf.math.is_finite(value)) for value in floats]):
            raise self.diverged(step, "weights are no longer finite")

    def diverged(self, step: int, what: str) -> NetworkFailed:
        """Returns the error for a training that diverged; `what` says which value did."""
        steps = self._run.checkpoint_steps()
        last = self._folder / f"step-{steps[-1]}" if steps else None
        saved = f"the last finite state is {last}" if last else "nothing was saved yet"
        return NetworkFailed(
            f"training diverged at step {step:,}: {what}; {saved}. Try a lower --learning-rate, "
            "--clip-norm 1 or --precision float32, and check the images: `keras-resnet data check`"
        )

    def _values(self) -> list[tf.Variable]:
        return [value for part in self._state.values() for value in part]

    def _remove_others(self, step: int) -> None:
        """Removes all but the checkpoint just written and the intact one before it.

        Later checkpoints are left from before a resume; their steps will be computed again.
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


def space_to_free(error: Exception, model: keras.Model, config: Config) -> str | None:
    """After a write that failed on a full disk: the next step, with the size of a whole run."""
    if not full_disk(error):
        return None
    # Weights, the optimizer's velocity or two moments, averaged weights, accumulated gradients.
    copies = 2 + (config.optimizer != "sgd") + bool(config.ema) + (config.accumulate > 1)
    files = 2 + copies * (_KEPT + 1)  # model.keras and its replacement; checkpoints
    size = files * 4 * model.count_params()  # float32
    return f"free some space (the run needs up to {size / 1e6:,.1f} MB)"


class Stop:
    """Handles SIGTERM, SIGHUP and Ctrl-C: finishes the step, saves a checkpoint, and stops.

    Outside a step it stops at once; the run then resumes from the last checkpoint. A second signal
    has its default effect.
    """

    def __init__(self, folder: StrPath):
        self.signal: int | None = None  # the signal that arrived
        self.is_patient = False  # whether to wait for the end of the step and its checkpoint
        self._folder = folder

    @contextmanager
    def listening(self) -> Iterator["Stop"]:
        """Handles the signals within the context; yields the `Stop` itself."""

        def handle(number: int, frame: FrameType | None) -> None:
            for each, handler in before.items():
                signal.signal(each, handler)
            if number == signal.SIGHUP:
                messages.leave_terminal()
            self.signal = number
            if not self.is_patient:
                self.exit_if_signalled()

        with signals.handled(handle) as before:
            yield self

    def exit_if_signalled(self) -> None:
        """Raises Interrupted, with the command that resumes the run, if a signal has arrived."""
        if self.signal:
            raise Interrupted(f"interrupted; {resume_command(self._folder)}", 128 + self.signal)


def save_data_files(run: Run, source: Source) -> None:
    """Saves the labels and the split of a run that has no checkpoint yet: those of an earlier start
    may be damaged."""
    path = run.file(filenames.SPLIT)
    earlier = path.read_bytes() if path.exists() else None
    run.save_labels(source.classes)
    run.save_split(source)
    if earlier not in (None, path.read_bytes()):
        log.info(
            "the run was interrupted before its first checkpoint; it starts again with a new split "
            "of the current images"
        )


def _damage(folder: Path, step: int, error: Exception) -> str:
    reason = re.sub(r"^{{.*?}} ", "", first_line(error))  # without the name of the op
    return f"{folder / f'step-{step}'} is damaged ({reason})"
