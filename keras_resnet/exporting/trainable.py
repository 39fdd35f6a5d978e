"""A `.tflite` file whose head learns new classes on the device, with built-in operators only.

Signatures, all float32; d is at most `MOST_DIMENSIONS`:

infer: image `(1, h, w, c)` -> logits `(1, k + SPARE)`, features `(1, d + 1)`. The last `SPARE`
    logits are `NEVER` until they are trained.
train: features `(1, d + 1)` of a photo of a new class, label `(1, SPARE)`, one-hot -> loss `()`.
    One step of gradient descent. The network runs once per photo; its features are reused.
save: -> weights `(SPARE, d)`, bias `(SPARE,)` of the spare outputs.
restore: weights and bias from `save` -> trained `()`, the number of trained outputs.

The logits of the known classes never change: only the spare outputs are trained, on the photo and
on the features of `STORED` training images that are in the file. The features are whitened: on
correlated features, gradient descent takes ten times as many steps.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_resnet.data.stream import images_of
from keras_resnet.evaluation.metrics import log_softmax
from keras_resnet.evaluation.trainable import NEVER, SPARE
from keras_resnet.exporting import calibration
from keras_resnet.exporting.folding import fold
from keras_resnet.exporting.plan import ExportPlan
from keras_resnet.run import Run

MOST_DIMENSIONS = 256  # of the features; the whitening of ResNet-50's 2,048 would take 17 MB
STORED = 500  # number of training images whose features are in the file
# Regularization, relative to the mean variance: directions in which the training images hardly
# vary must not outweigh the others.
SHRINKAGE = 0.1
# The learning rate is near the limit of stability for whitened features, whose mean square is 1.
# The weight is that of the stored features relative to the photo. Measured with one of ten classes
# held out and taught with 20 photos: signs (ResNet-20, 99.7 %) lose 0.3 points and 100 % of the new
# class are recognized; a weak network (CIFAR-10, 59.6 %) loses 3 points and 37 % are recognized.
# With a weight of 3: 0.8 and 5.6 points for 100 % and 54 %.
LEARNING_RATE, STORED_WEIGHT = 1.0, 9.0
_LEAST_VARIANCE = 1e-5  # of a direction, relative to the mean; float32 rounding is below it
_BATCH = 32


@dataclass(frozen=True)
class Head:
    """Constants of the signatures. F is the number of the network's features."""

    center: npt.NDArray[np.float32]  # (F,)
    projection: npt.NDArray[np.float32]  # (F, d)
    temperature: float  # divides the logits
    stored: npt.NDArray[np.float32]  # (n, d + 1), features of training images

    def features(self, pooled: np.ndarray, logits: np.ndarray) -> npt.NDArray[np.float32]:
        """Features `(n, d + 1)`: whitened pooled features `(n, F)`, and the log-sum-exp of the
        logits `(n, k)`, which represents all known classes."""
        logits = logits / self.temperature
        energy = logits[:, :1] - log_softmax(logits)[:, :1]
        return np.hstack([(pooled - self.center) @ self.projection, energy]).astype(np.float32)


def fit(run: Run, model: keras.Model, temperature: float = 1.0) -> Head:
    """The head of a run's model, from training images.

    Args:
        run: the `Run`.
        model: its Keras model.
        temperature: divides the logits.
    """
    examples = calibration.training_examples(run, STORED)
    images = images_of(examples, size=run.config.geometry, crop=run.config.center_crop)
    pooled, logits = pooled_and_logits(model, images)
    center = pooled.mean(0, dtype=np.float64)
    projection = whitening(pooled - center).astype(np.float32)
    nothing = np.zeros((0, projection.shape[1] + 1), np.float32)
    head = Head(center.astype(np.float32), projection, temperature, nothing)
    return replace(head, stored=head.features(pooled, logits))


def whitening(spread: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The projection `(F, d)` that whitens centred features `(n, F)` to a mean square of 1."""
    variances, directions = np.linalg.eigh(spread.T @ spread / len(spread))  # ascending
    mean = variances.mean() or 1.0
    projection = directions / np.sqrt(variances + SHRINKAGE * mean)
    if len(variances) > MOST_DIMENSIONS:
        # Without directions in which no image varies: their choice is arbitrary, so the gate could
        # not reproduce it.
        projection = projection[:, variances > _LEAST_VARIANCE * mean][:, -MOST_DIMENSIONS:]
    return projection / (np.sqrt(np.square(spread @ projection).sum(-1).mean()) or 1.0)


def pooled_and_logits(
    model: keras.Model, images: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Pooled features `(n, F)` and logits `(n, k)` of images `(n, h, w, c)`."""
    both = _with_features(model)
    batches = (images[i : i + _BATCH] for i in range(0, len(images), _BATCH))
    found = [both(batch.astype(np.float32), training=False) for batch in batches]
    pooled, logits = zip(*found, strict=True)
    return np.concatenate(pooled), np.concatenate(logits)


def write_for_conversion(plan: ExportPlan, model: keras.Model, head: Head, folder: Path) -> None:
    """Writes a SavedModel with the four signatures."""
    module = _Trainable(plan, fold(model), head)
    tf.saved_model.save(module, str(folder), module.signatures())


def _with_features(model: keras.Model) -> keras.Model:
    return keras.Model(model.input, [model.get_layer("avg_pool").output, model.output])


class _Trainable(tf.Module):
    """The variables of the spare outputs, and the functions of the signatures."""

    def __init__(self, plan: ExportPlan, model: keras.Model, head: Head) -> None:
        super().__init__()
        self._network, self._head = _with_features(model), head
        self._constants = [variable.value for variable in model.variables]  # to be saved
        self._image_shape = (1, *plan.input_shape)
        self._dimensions = head.projection.shape[1]
        self._weights = tf.Variable(tf.zeros((SPARE, self._dimensions)), name="weights")
        self._bias = tf.Variable(tf.fill((SPARE,), NEVER), name="bias")

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        def spec(name: str, *shape: int) -> tf.TensorSpec:
            return tf.TensorSpec(shape, tf.float32, name=name)

        weights, bias = spec("weights", SPARE, self._dimensions), spec("bias", SPARE)
        features, label = spec("features", 1, self._dimensions + 1), spec("label", 1, SPARE)
        inputs = {
            "infer": (self._infer, spec("image", *self._image_shape)),
            "train": (self._train, features, label),
            "save": (self._save,),
            "restore": (self._restore, weights, bias),
        }
        return {
            name: tf.function(function).get_concrete_function(*specs)
            for name, (function, *specs) in inputs.items()
        }

    def _infer(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        head = self._head
        pooled, logits = self._network(image, training=False)
        if head.temperature != 1:
            logits = logits / head.temperature
        whitened = tf.matmul(pooled, head.projection) - head.center @ head.projection
        spare = tf.matmul(whitened, self._weights, transpose_b=True) + self._bias
        # Not `reduce_logsumexp`: LiteRT has no operator for its check for infinities.
        most = tf.reduce_max(logits, -1, keepdims=True)
        energy = most + tf.math.log(tf.reduce_sum(tf.exp(logits - most), -1, keepdims=True))
        return {
            "logits": tf.concat([logits, spare], -1),
            "features": tf.concat([whitened, energy], -1),
        }

    def _train(self, features: tf.Tensor, label: tf.Tensor) -> dict[str, tf.Tensor]:
        x, energy = tf.split(tf.concat([features, self._head.stored], 0), [self._dimensions, 1], 1)
        is_trained = self._bias > NEVER / 2
        start = tf.where(is_trained | (label[0] > 0), 0.0, NEVER)
        bias = tf.where(is_trained, self._bias, start)
        spare = tf.matmul(x, self._weights, transpose_b=True) + bias
        log_p = tf.nn.log_softmax(tf.concat([energy, spare], -1))  # (1 + n, 1 + SPARE)
        p = tf.exp(log_p[:, 1:])
        # The stored images count only for the output of the photo; otherwise their weight would
        # grow with the number of trained outputs.
        share = STORED_WEIGHT / len(self._head.stored)
        slope = tf.concat([p[:1] - label, share * label * p[1:]], 0)
        self._weights.assign_sub(LEARNING_RATE * tf.matmul(slope, x, transpose_a=True))
        self._bias.assign(bias - LEARNING_RATE * tf.reduce_sum(slope, 0))
        of_photo = -tf.reduce_sum(label * log_p[:1, 1:])
        return {"loss": of_photo - share * tf.reduce_sum(log_p[1:, 0])}

    def _save(self) -> dict[str, tf.Tensor]:
        return {"weights": tf.identity(self._weights), "bias": tf.identity(self._bias)}

    def _restore(self, weights: tf.Tensor, bias: tf.Tensor) -> dict[str, tf.Tensor]:
        self._weights.assign(weights)
        self._bias.assign(bias)
        return {"trained": tf.reduce_sum(tf.cast(bias > NEVER / 2, tf.float32))}
