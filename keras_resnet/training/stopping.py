"""Two reasons to end a run before its last epoch: nothing gets better, or time is up.

Either way the schedule is that of all the epochs, the last weights are judged like any others, and
the run is finished properly.
"""

import time

import keras

from keras_resnet import progress


def watchers(history, config):
    """The callbacks that `config` asks for; to be called after `history`."""
    asked = [Patience(history, config)] if config.patience else []
    return asked + ([TimeBudget(config.max_minutes, history)] if config.max_minutes else [])


class Patience(keras.callbacks.Callback):
    """Ends the run after `config.patience` epochs without a new best.

    Nothing is remembered beside the rows of the history, so that a resumed run ends where the
    unbroken one would have.
    """

    def __init__(self, history, config):
        super().__init__()
        self._history, self._config = history, config

    def on_epoch_end(self, epoch, logs=None):
        waited = epochs_since_best(self._history.rows, self._config.side)
        if waited >= self._config.patience:
            self.model.stop_training = True
            progress.say(
                f"--patience {self._config.patience}: no new best in the last {waited} epochs; "
                f"ends after epoch {epoch + 1} of {self._config.epochs}"
            )


def epochs_since_best(rows, size):
    """Epochs at `size` pixels after the best of them: the best is what `History` takes for it."""
    scores = [(row["val_top1"], -row["val_loss"]) for row in rows if row["image_size"] == size]
    return len(scores) - 1 - scores.index(max(scores)) if scores else 0


class TimeBudget(keras.callbacks.Callback):
    """Ends the training with the first step after `minutes`, counted from its beginning; of a run
    that was interrupted, with what the epochs before took.
    """

    def __init__(self, minutes, history):
        super().__init__()
        self._minutes = minutes
        self._history = history

    def on_train_begin(self, logs=None):
        if not hasattr(self, "_end"):
            before = sum(row["seconds"] for row in self._history.rows)
            self._end = time.monotonic() + 60 * self._minutes - before

    def on_train_batch_end(self, batch, logs=None):
        if time.monotonic() >= self._end and not self.model.stop_training:
            self.model.stop_training = True
            progress.say(
                f"--max-minutes {self._minutes:g}: time is up; the rate had not yet come down. A "
                "number of --epochs that fits into the time gives a better network"
            )
