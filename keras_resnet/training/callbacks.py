"""What happens beside the training steps: progress, history, the best model so far."""

import math
import time
from contextlib import ExitStack, contextmanager

import keras
import tensorflow as tf

from keras_resnet import progress
from keras_resnet.errors import CheckFailed

COLUMNS = (
    "epoch", "loss", "top1", "val_loss", "val_top1", "learning_rate", "seconds",
    "images_per_second", "image_size",
)  # fmt: skip


class Progress(keras.callbacks.Callback):
    """A bar for each epoch, with the loss, the accuracy and images per second so far."""

    def __init__(self, epochs, steps, batch_size):
        super().__init__()
        self.before = 0  # steps of the epoch that were done before; `fit.py` sets it
        self._epochs, self._steps, self._batch_size = epochs, steps, batch_size
        self._open = ExitStack()

    def on_epoch_begin(self, epoch, logs=None):
        label = f"epoch {epoch + 1}/{self._epochs}"
        self._advance = self._open.enter_context(progress.bar(self._steps, label, "steps"))
        self._advance(self.before)
        self._began = time.monotonic()
        self._done = 0

    def on_train_batch_end(self, batch, logs=None):
        self._done += 1
        speed = self._done * self._batch_size / (time.monotonic() - self._began)
        note = f"loss {logs['loss']:.3f}  top-1 {logs['top1']:.1%}  {speed:.0f} images/s"
        self._advance(1, note)

    def on_test_begin(self, logs=None):
        self.close()

    def close(self):
        """Takes the bar off the terminal: after an interruption the cursor would stay hidden."""
        self._open.close()


class History(keras.callbacks.Callback):
    """After each epoch: a row of history.csv, the same for TensorBoard, and which is the best.

    Best is the highest validation top-1, then the lowest validation loss, among the epochs of the
    largest image size yet: scores at different sizes are not comparable.
    """

    def __init__(self, run, config):
        super().__init__()
        self.rows = []
        self.best_epoch = 0
        self.image_size = config.side  # of the running segment; `fit.py` sets it
        self._run = run
        self._epochs, self._batch_size = config.epochs, config.batch_size
        self._best = None
        self._board = tf.summary.create_file_writer(str(run.file("tensorboard")))

    def on_epoch_begin(self, epoch, logs=None):
        self._began = time.monotonic()
        self._trained = None
        self._steps = 0

    def on_train_batch_end(self, batch, logs=None):
        self._steps += 1

    def state(self):
        """What must not be forgotten, ready for JSON."""
        return {"rows": self.rows, "best_epoch": self.best_epoch, "best": self._best}

    def restore(self, state):
        self.rows, self.best_epoch = state["rows"], state["best_epoch"]
        self._best = state["best"] and tuple(state["best"])
        if self.rows:  # the file may have a row of which the checkpoint knows nothing
            self._run.save_history(self.rows)

    def on_test_begin(self, logs=None):
        self._trained = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        training = self._trained - self._began
        row = dict.fromkeys(COLUMNS) | {
            "epoch": epoch + 1,
            "loss": logs["cross_entropy"],
            "top1": logs["top1"],
            "val_loss": logs["val_cross_entropy"],
            "val_top1": logs["val_top1"],
            "learning_rate": float(self.model.optimizer.learning_rate),
            "seconds": round(time.monotonic() - self._began, 2),
            "images_per_second": round(self._steps * self._batch_size / training, 1),
            "image_size": self.image_size,
        }
        if not (math.isfinite(row["loss"]) and math.isfinite(row["val_loss"])):
            raise CheckFailed(
                f"training diverged in epoch {epoch + 1}: the loss is {row['loss']}, "
                f"{row['val_loss']} on the validation images; the best model so far is kept in "
                f"{self._run.path}. Try a lower --learning-rate"
            )
        self.rows.append(row)
        self._run.save_history(self.rows)
        self._write_board(row)
        score = (row["image_size"], row["val_top1"], -row["val_loss"])
        best = self._best is None or score > self._best
        if best:
            self._best, self.best_epoch = score, epoch + 1
        progress.say(
            f"epoch {epoch + 1:>3}/{self._epochs}  loss {row['loss']:.3f}  top-1 {row['top1']:6.1%}"
            f"  val loss {row['val_loss']:.3f}  val top-1 {row['val_top1']:6.1%}"
            f"  {row['images_per_second']:.0f} images/s{'  best' if best else ''}"
        )

    def _write_board(self, row):
        # tf.summary.scalar needs the tensorboard package; the op below it does not.
        scalars = tf.compat.v1.SummaryMetadata(
            plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
        )
        with self._board.as_default(step=row["epoch"]):
            for name in COLUMNS[1:]:
                tf.summary.write(name, tf.constant(row[name], tf.float32), metadata=scalars)
        self._board.flush()


class Averages(keras.callbacks.Callback):
    """Judges the averages of the weights instead of the weights, where the optimizer has them."""

    def __init__(self):
        super().__init__()
        self._open = ExitStack()

    def on_test_begin(self, logs=None):
        self._open.enter_context(averages_in_place(self.model))

    def on_test_end(self, logs=None):
        self._open.close()


class BestModel(keras.callbacks.Callback):
    """Writes model.keras when an epoch was the best so far: what was judged, so the averages.

    To come after the checkpoint that knows of it. A kill between the two leaves a checkpoint from
    which the file is written again. The other way round it could be of an epoch that the run, going
    on, does not have: its time is up before, or another machine rounds otherwise.
    """

    def __init__(self, run, deployable, history):
        super().__init__()
        self._run, self._deployable, self._history = run, deployable, history

    def on_epoch_end(self, epoch, logs=None):
        self.write_if_best()

    def write_if_best(self):
        """To be called with the weights of the epoch that was judged last."""
        if self._history.best_epoch == len(self._history.rows):
            with averages_in_place(self.model):
                self._deployable.set_weights(self.model.get_weights())
            self._run.save_model(self._deployable)


@contextmanager
def averages_in_place(model):
    """Within, the model has the averages of its weights, if its optimizer keeps them.

    Keras' own SwapEMAWeights swaps by adding and subtracting, which changes the last bits of the
    weights that go on training.
    """
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if not optimizer.use_ema:
        yield
        return
    averages = optimizer._model_variables_moving_average  # there is no public name
    own = [variable.numpy() for variable in model.trainable_variables]
    for variable, average in zip(model.trainable_variables, averages, strict=True):
        variable.assign(average)
    try:
        yield
    finally:
        for variable, value in zip(model.trainable_variables, own, strict=True):
            variable.assign(value)
