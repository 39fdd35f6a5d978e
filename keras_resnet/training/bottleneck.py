"""Whether a run waits for its images or for its arithmetic, and what to do about it."""

import time

import keras

from keras_resnet import progress

_SECONDS, _BATCHES = 1.0, 100  # that are measured at most
_CLOSE = 0.8  # of what the input delivers by itself: then the input is what limits


class Bottleneck(keras.callbacks.Callback):
    """Measures what the input delivers by itself, and tells it after the first epoch beside what
    the training took.

    TensorFlow fetches the next batch inside of the compiled step, where its wait cannot be seen.
    """

    def __init__(self, batches, config):
        super().__init__()
        self._batches, self._config, self._told = batches, config, False

    def on_train_begin(self, logs=None):
        if not self._told:
            self._delivered = images_per_second(self._batches, self._config.batch_size)

    def on_epoch_begin(self, epoch, logs=None):
        self._steps = 0

    def on_train_batch_end(self, batch, logs=None):
        self._steps += 1
        if self._steps == 1:  # which compiles
            self._began = time.monotonic()

    def on_test_begin(self, logs=None):
        if not self._told and self._steps > 1:
            seconds = time.monotonic() - self._began
            taken = (self._steps - 1) * self._config.batch_size / seconds
            progress.say(verdict(self._delivered, taken, self._config))
        self._told = True


def images_per_second(batches, batch_size):
    """What a stream delivers when nothing is done with it; the first batch starts it up."""
    stream = iter(batches)
    next(stream)
    began, count = time.monotonic(), 0
    for _ in stream:
        count += 1
        if count == _BATCHES or time.monotonic() - began > _SECONDS:
            break
    return count * batch_size / max(time.monotonic() - began, 1e-9)


def verdict(delivered, taken, config):
    """One line: what limits the speed, by which figures, and the knob to turn."""
    figures = f"the input alone delivers {delivered:,.0f} images/s, training takes {taken:,.0f}"
    if taken < _CLOSE * delivered:
        return f"{figures}: the arithmetic limits; a GPU, --precision or --image-size change that"
    knob = "a lower --randaugment, " if config.randaugment[0] else ""
    knob = "--no-trivialaugment, " if config.trivialaugment else knob
    return f"{figures}: the input limits; {knob}smaller image files or more CPU cores change that"
