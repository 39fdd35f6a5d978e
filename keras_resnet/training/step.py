"""The compiled training step and evaluation of a network."""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.config import Config
from keras_resnet.data import stream
from keras_resnet.data.decode import as_written
from keras_resnet.data.examples import Examples
from keras_resnet.data.pixels import BATCH
from keras_resnet.data.sources import Source
from keras_resnet.specs import CUSTOM
from keras_resnet.training.losses import Loss
from keras_resnet.training.teacher import views_for_both

# Loss scale of mixed_float16, which keeps small gradients from being rounded to 0: doubled after
# `_GROWTH_STEPS` without an overflow, halved by each overflow (arXiv:1710.03740, section 3.2).
_FIRST_LOSS_SCALE, _GROWTH_STEPS = 2.0**15, 2000
_LEAST_LOSS_SCALE = 1.0


class Steps(NamedTuple):
    """Results of consecutive steps: arrays are float32 `(steps,)`."""

    loss: np.ndarray  # as the recipe defines it
    cross_entropy: np.ndarray
    top1: np.ndarray  # accuracy on the batch
    gradient_norm: np.ndarray  # over all weights, before clipping
    learning_rate: np.ndarray
    seconds_of_input: float  # seconds spent waiting for batches


def training_batches(source: Source, config: Config, **span: Any) -> tf.data.Dataset:
    """The training stream with undefined height and width, so that the step is traced once for all
    image sizes, which saves seconds per size. The user's own network may need a fixed size. With a
    teacher, a batch has a third part: the images as the teacher sees them."""
    height, width, channels = config.geometry.scaled(span["size"]).shape
    sides = (height, width) if config.model == CUSTOM.name else (None, None)
    shape = (None, *sides, channels)

    @as_written
    def opened(images: tf.Tensor, *others: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return tf.raw_ops.PlaceholderWithDefault(input=images, shape=shape), *others

    make_stream = views_for_both if config.teacher else stream.training_stream
    return make_stream(source, config, **span).map(opened)


def evaluation_batches(examples: Examples, config: Config) -> tf.data.Dataset:
    """Batches of the images as the network is evaluated on them, at the full image size.

    One device evaluates them. So they are no larger than those of `evaluate`: a training batch may
    be shared by several devices, and have smaller images.
    """
    return stream.evaluation_stream(
        examples,
        size=config.geometry,
        crop=config.center_crop,
        batch_size=min(config.batch_size, BATCH),
    )


class TrainStep:
    """The compiled steps of a network on one device or several.

    Args:
        model: images to logits, with an `optimizer` of `training.optimizer`; built in the scope of
            its strategy.
        loss: loss of targets and logits, see `losses.Loss`.
        xla: compile with XLA; on one device only.
        loss_scale: scale the loss, as float16 needs.
        ema: momentum of the moving average of the weights and batch statistics, per update; 0: no
            average.
        teacher: images to the logits for distillation.
    """

    def __init__(
        self,
        model: keras.Model,
        loss: Loss,
        *,
        xla: bool = False,
        loss_scale: bool = False,
        ema: float = 0.0,
        teacher: Callable[[tf.Tensor], tf.Tensor] | None = None,
    ):
        self.model, self.loss, self.ema, self.teacher = model, loss, ema, teacher
        self.optimizer = model.optimizer
        self.strategy = self.optimizer.strategy
        self.replicas = self.strategy.num_replicas_in_sync
        if not self.optimizer.built:
            self.optimizer.build(model.trainable_variables)
        with self.strategy.scope():
            self.average = [tf.Variable(w, trainable=False) for w in model.weights] if ema else []
            self.scale = tf.Variable(_FIRST_LOSS_SCALE if loss_scale else 1.0, trainable=False)
            # int64: TensorFlow keeps int32 in the CPU's memory, where XLA on a GPU cannot read it.
            self.steps_of_scale = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.scales_loss = loss_scale
        one = tf.autograph.experimental.do_not_convert(self._step)
        one = tf.function(one, jit_compile=True) if xla else one
        self._run = tf.function(_repeat(one), reduce_retracing=True)

    @property
    def state(self) -> dict[str, list[tf.Variable]]:
        """All variables that a step changes: of model, optimizer and average."""
        scale = [self.scale, self.steps_of_scale]
        return {
            "model": [v.value for v in self.model.variables],
            "optimizer": [v.value for v in self.optimizer.variables] + scale,
            "average": self.average,
        }

    def __call__(self, batches: Iterator[Any], count: int = 1) -> Steps:
        """Runs `count` steps, one batch each, and waits for their results."""
        rows, waited = self._run(batches, tf.constant(count))
        loss, cross_entropy, top1, norm, rate = rows.numpy().T
        return Steps(loss, cross_entropy, top1, norm, rate, float(waited))

    def loss_scale_problem(self) -> str | None:
        """Returns an error message if every step overflows, else None."""
        scale = float(self.scale.numpy())
        if self.scales_loss and scale < _LEAST_LOSS_SCALE:
            return f"the loss scale has collapsed to {scale:g}, every step overflows"
        return None

    def _step(self, batch: Any) -> tf.Tensor:
        """Runs a step, in the cross-replica context; float32 `(5,)`: the fields of `Steps`."""
        measured, gradients = self.strategy.run(self._gradients, args=(batch,))
        if self.replicas > 1:
            measured = self.strategy.reduce("SUM", measured, axis=None)
            weights = [v.value for v in self.model.trainable_variables]
            gradients = self.strategy.extended.batch_reduce_to(
                tf.distribute.ReduceOp.SUM, list(zip(gradients, weights, strict=True))
            )
        rate = tf.cast(self.optimizer.learning_rate, tf.float32)
        norm = self._apply(gradients)
        if self.ema:
            self._update_average()
        return tf.concat([measured, tf.stack([norm, rate])], 0)

    def _gradients(self, batch: Any) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """This device's part of the metrics, float32 `(3,)`, and of the gradients."""
        images, targets, *seen = batch
        weights = [v.value for v in self.model.trainable_variables]
        known = [self.teacher(*seen)] if self.teacher else []
        with tf.GradientTape() as tape:
            logits = self.model(images, training=True)
            losses = [tf.reduce_mean(self.loss(targets, logits, *known))]
            losses += [tf.cast(x, tf.float32) for x in self.model.losses]  # from regularizers
            loss = tf.add_n(losses) / self.replicas
            scaled = loss * self.scale if self.scales_loss else loss
        gradients = tape.gradient(scaled, weights, unconnected_gradients="zero")
        if self.scales_loss:
            gradients = [g / self.scale for g in gradients]
        cross_entropy = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
        correct = tf.equal(tf.argmax(targets, -1), tf.argmax(logits, -1))
        others = [tf.reduce_mean(cross_entropy), tf.reduce_mean(tf.cast(correct, tf.float32))]
        return tf.stack([loss, *(x / self.replicas for x in others)]), gradients

    def _apply(self, gradients: Sequence[tf.Tensor]) -> tf.Tensor:
        if not self.scales_loss:
            return self.optimizer.apply(gradients)
        norm = self.strategy.run(tf.linalg.global_norm, args=(gradients,))
        norm = self.strategy.experimental_local_results(norm)[0]

        def apply() -> None:
            self.optimizer.apply(gradients)
            counted = (self.steps_of_scale + 1) % _GROWTH_STEPS
            self.steps_of_scale.assign(counted)
            self.scale.assign(tf.where(tf.equal(counted, 0), self.scale * 2, self.scale))

        def skip() -> None:
            self.steps_of_scale.assign(0)
            self.scale.assign(self.scale / 2)

        tf.cond(tf.math.is_finite(norm), apply, skip)
        return norm

    def _update_average(self) -> None:
        """Updates the moving average. Its momentum increases with the updates, as in TensorFlow's
        `ExponentialMovingAverage`, so that the initial weights soon lose their influence."""
        done = tf.cast(self.optimizer.iterations.value, tf.float32)
        momentum = tf.minimum(self.ema, (1 + done) / (10 + done))
        momentum **= 1 / self.optimizer.accumulate  # per update; this runs once per batch
        for average, weight in zip(self.average, self.model.weights, strict=True):
            if average.dtype.is_floating:  # integers are counters, such as that of `Normalization`
                self.strategy.extended.update(
                    average,
                    lambda average, weight, m: average.assign(m * average + (1 - m) * weight),
                    args=(weight.value, momentum),
                    group=False,
                )


def _repeat(
    step: Callable[[Any], tf.Tensor],
) -> Callable[[Any, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """A function of batches and a number of steps that returns the results of the steps,
    `(steps, 5)`, and the seconds spent waiting for input."""

    def run(batches: Any, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        rows = tf.TensorArray(tf.float32, size=count, element_shape=(5,))
        waited = tf.constant(0.0, tf.float64)
        for i in tf.range(count):
            # Without overlapping steps, so that the clock measures the wait for input.
            tf.autograph.experimental.set_loop_options(parallel_iterations=1)
            began = _clock()
            with tf.control_dependencies([began]):
                batch = next(batches)
            with tf.control_dependencies(tf.nest.flatten(batch, expand_composites=True)):
                waited += _clock() - began
            rows = rows.write(i, step(batch))
        return rows.stack(), waited

    return run


def _clock() -> tf.Tensor:
    """Seconds; tf.timestamp does not work with deterministic operations."""
    return tf.ensure_shape(tf.numpy_function(time.perf_counter, [], tf.float64), ())


class Evaluation(NamedTuple):
    """Scores of a network on labelled images."""

    loss: float  # mean cross-entropy
    top1: float
    macro_top1: float  # mean of the classes' top-1


class Evaluator:
    """The compiled evaluation of a network, on one device.

    Args:
        model: images to logits.
        batches: images `(b, h, w, c)` and int labels `(b,)`.
    """

    def __init__(self, model: keras.Model, batches: tf.data.Dataset):
        self.model = model
        # One stream for all evaluations: starting one takes up to half a second.
        self._batches, self._count = iter(batches.repeat()), int(batches.cardinality())
        self._run = tf.function(self._batch, autograph=False, reduce_retracing=True)

    def __call__(self, weights: list[tf.Tensor]) -> Evaluation:
        """Evaluates every image once, with these weights, in the order of `model.weights`."""
        for own, weight in zip(self.model.weights, weights, strict=True):
            own.assign(tf.convert_to_tensor(weight))
        # Results are read at the end, so that a GPU can start the next batch at once.
        batches = islice(self._batches, self._count)
        results = [(labels, *self._run(images, labels)) for images, labels in batches]
        labels, losses, correct = (
            np.concatenate([part.numpy() for part in parts]) for parts in zip(*results, strict=True)
        )
        per_class = [correct[labels == k].mean() for k in np.unique(labels)]
        return Evaluation(
            float(losses.mean(dtype=np.float64)), float(correct.mean()), float(np.mean(per_class))
        )

    def _batch(self, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        logits = self.model(images, training=False)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        # int64: TensorFlow compares int32 on the CPU, which waits for the GPU.
        return losses, tf.equal(tf.argmax(logits, -1), tf.cast(labels, tf.int64))
