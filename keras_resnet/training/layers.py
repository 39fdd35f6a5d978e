"""Layers for training: the results of Keras' layers, computed by faster TensorFlow ops.

`for_training` inserts them; a saved network has Keras' layers only.
"""

from collections.abc import Callable, Iterator
from functools import partial, reduce
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_resnet import run
from keras_resnet.config import Config
from keras_resnet.models import freeze_as, layers_of, set_weights

_BETWEEN_REPLICAS = 7919  # distance of the dropout seeds of two devices


def build_under(policy: str, config: Config, num_classes: int) -> keras.Model:
    """The network of a run for training, under a dtype policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        return run.build(config, num_classes, open_size=True)
    finally:
        keras.config.set_dtype_policy(before)


def for_training(model: keras.Model, *, xla: bool = False) -> keras.Model:
    """A copy of `model` with the layers of this module and the same weights in the same order.

    Biases that a batch norm cancels are not trainable in the copy: their gradient is 0.

    Args:
        model: a functional model; nested models are copied too.
        xla: whether XLA will compile the copy.
    """
    calls: list[_Call] = []

    def call(layer: keras.layers.Layer, *inputs: Any, **options: Any) -> Any:
        output = layer(*inputs, **options)
        tensors = set(map(id, keras.tree.flatten([inputs, options])))
        calls.append(_Call(layer, tensors, id(output), options.get("training")))
        return output

    copy = keras.models.clone_model(
        model,
        clone_function=partial(_swap, xla=xla),
        call_function=None if isinstance(model, keras.Sequential) else call,
        recursive=True,
    )
    set_weights(copy, model.get_weights())
    freeze_as(layers_of(copy), layers_of(model))
    for bias in _biases_without_effect(copy, calls):
        bias.trainable = False
    return copy


class _Call(NamedTuple):
    layer: keras.layers.Layer
    inputs: set[int]  # ids of tensors
    output: int
    training: bool | None  # if the network sets it in the call

    @property
    def subtracts_the_mean(self) -> bool:
        norm = isinstance(self.layer, FusedBatchNormalization) and self.layer.axis in (3, -1)
        return norm and self.layer.trainable and self.training is not False


def _biases_without_effect(model: keras.Model, calls: list[_Call]) -> Iterator[keras.Variable]:
    """The biases of convolutions that are followed only by batch norms with batch statistics."""
    results = set(map(id, model.outputs))
    for conv in model.layers:
        if type(conv) not in (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, PointwiseConv2D):
            continue
        outputs = {call.output for call in calls if call.layer is conv}
        followers = [call for call in calls if call.inputs & outputs]  # none in a Sequential
        if (
            conv.use_bias
            and conv.activation is keras.activations.linear
            and conv.data_format == "channels_last"
            and not outputs & results
            and followers
            and all(call.subtracts_the_mean for call in followers)
        ):
            yield conv.bias


def _saved_as_its_base(layer: type[keras.layers.Layer]) -> type[Any]:
    """Gives a class the name under which Keras saves its base class, which has the same settings
    and weights: the files of a user's `ModelCheckpoint` have Keras' layers only."""
    layer.__module__, layer.__name__ = "keras.layers", layer.__bases__[0].__name__
    return layer


@_saved_as_its_base
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` with TensorFlow's fused op: forward, backward and
    statistics in one pass each; Keras composes about ten ops (arXiv:1502.03167, algorithm 1)."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Feature map `(b, h, w, c)` to the same shape; other ranks and options as in Keras."""
        learns = training and self.trainable
        fits = inputs.shape.rank == 4 and self.axis in (3, -1) and self.scale and self.center
        # On several devices a synchronized layer needs Keras' implementation. The gradient of the
        # fused op with frozen statistics has no deterministic kernel on a GPU.
        frozen = training and not self.trainable
        if not fits or mask is not None or frozen or self.renorm or (learns and self.synchronized):
            return super().call(inputs, training=training, mask=mask)
        y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.convert_to_tensor(self.gamma),
            offset=tf.convert_to_tensor(self.beta),
            mean=tf.zeros([0]) if learns else tf.convert_to_tensor(self.moving_mean),
            variance=tf.zeros([0]) if learns else tf.convert_to_tensor(self.moving_variance),
            epsilon=self.epsilon,
            is_training=bool(learns),
        )
        if learns:
            # The op returns the unbiased variance; Keras averages the biased one.
            n = tf.cast(tf.reduce_prod(tf.shape(inputs)[:3]), variance.dtype)
            self._average(self.moving_mean, mean)
            self._average(self.moving_variance, variance * (n - 1) / n)
        return y

    def _average(self, moving: tf.Variable, value: tf.Tensor) -> None:
        moving.assign(moving * self.momentum + value * (1 - self.momentum))


@_saved_as_its_base
class ReplicaDropout(keras.layers.Dropout):
    """`keras.layers.Dropout` with different random numbers on each device."""

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Any tensor to one of the same shape."""
        if not training or not self.rate:
            return inputs
        context = tf.distribute.get_replica_context()
        replica = context.replica_id_in_sync_group if context else 0
        seed = self.seed_generator.next()
        seed += tf.stack([tf.cast(replica, seed.dtype) * _BETWEEN_REPLICAS, 0])
        shape = tf.shape(inputs)
        if self.noise_shape:
            shape = [shape[i] if n is None else n for i, n in enumerate(self.noise_shape)]
        return tf.nn.experimental.stateless_dropout(inputs, self.rate, seed, noise_shape=shape)


@_saved_as_its_base
class SlicedMaxPooling2D(keras.layers.MaxPooling2D):
    """`keras.layers.MaxPooling2D` as the maximum of strided slices: XLA has no deterministic
    gradient of TensorFlow's op."""

    def call(self, inputs: Any) -> Any:
        """Feature map `(b, h, w, c)` to `(b, h', w', c)`."""
        if self.padding != "valid" or self.data_format != "channels_last":
            return super().call(inputs)
        (rows, columns), (down, right) = self.pool_size, self.strides
        height = (tf.shape(inputs)[1] - rows) // down * down + 1
        width = (tf.shape(inputs)[2] - columns) // right * right + 1
        return reduce(
            tf.maximum,
            (
                inputs[:, i : i + height : down, j : j + width : right]
                for i in range(rows)
                for j in range(columns)
            ),
        )


@_saved_as_its_base
class PointwiseConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` of 1×1 kernels, whose gradient is computed as a matrix product: for
    bfloat16 on a CPU, it takes half the time of oneDNN's convolution."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Feature map `(b, h, w, c)` to `(b, h, w, filters)`."""
        return _pointwise(inputs, tf.convert_to_tensor(kernel))


@tf.custom_gradient
def _pointwise(
    x: tf.Tensor, kernel: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]]:
    _, _, channels, filters = kernel.shape

    def gradient(dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        dx = tf.nn.conv2d_transpose(dy, kernel, tf.shape(x), strides=1, padding="VALID")
        # One row per pixel.
        rows, dy_rows = tf.reshape(x, (-1, channels)), tf.reshape(dy, (-1, filters))
        return dx, tf.reshape(tf.matmul(rows, dy_rows, transpose_a=True), kernel.shape)

    return tf.nn.conv2d(x, kernel, strides=1, padding="VALID"), gradient


def _swap(layer: keras.layers.Layer, xla: bool) -> keras.layers.Layer:
    kind: Any = type(layer)
    if kind is keras.layers.BatchNormalization:
        kind = FusedBatchNormalization
    elif kind is keras.layers.Dropout:
        kind = ReplicaDropout
    elif kind is keras.layers.MaxPooling2D and xla:
        kind = SlicedMaxPooling2D
    elif kind is keras.layers.MaxPooling2D and layer.pool_size == (1, 1):
        kind = keras.layers.AveragePooling2D  # equal for one pixel, with a faster gradient
    elif kind is keras.layers.Conv2D and not xla and _is_pointwise(layer):
        kind = PointwiseConv2D
    return kind.from_config(layer.get_config())


def _is_pointwise(conv: keras.layers.Conv2D) -> bool:
    return (
        conv.compute_dtype == "bfloat16"
        and (conv.kernel_size, conv.strides, conv.groups) == ((1, 1), (1, 1), 1)
        and conv.data_format == "channels_last"
    )


def freeze(model: keras.Model, stage: str) -> None:
    """Freezes the weights and batch statistics of all layers up to and including `stage`.

    Args:
        model: a network of this package.
        stage: such as "conv3"; "body": all but the last layer.
    """
    names = [layer.name for layer in model.layers]
    if stage == "body":
        last = len(names) - 2
    else:
        last = max(i for i, name in enumerate(names) if name.split("_")[0] == stage)
    for layer in model.layers[: last + 1]:
        layer.trainable = False
