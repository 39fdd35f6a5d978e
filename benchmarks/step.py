"""Compares a training step with Keras' networks in a float32 `fit`, in seconds per step.

    python benchmarks/step.py

ResNet-50 v1 is compared with keras.applications.ResNet50, in float32 and in the number format that
the command uses (`--precision auto`); ResNet-20 with the same network in plain Keras layers, which
have biases by default.
"""

import argparse
import time

import keras
import numpy as np
import tensorflow as tf
from pairs import PAIRS, measure, report

from keras_resnet.models import build
from keras_resnet.recipes import resolve
from keras_resnet.training.layers import for_training
from keras_resnet.training.loop import CALL_SECONDS, MOST_STEPS
from keras_resnet.training.losses import make_loss
from keras_resnet.training.optimizer import make_optimizer
from keras_resnet.training.precision import choose
from keras_resnet.training.step import TrainStep


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--steps", type=int, default=3, help="steps per measurement")
    parser.add_argument("--batch", type=int, default=8, help="batch size of ResNet-50")
    parser.add_argument("--only", default="", help="only rows with this text in their name")
    parser.add_argument("--json", default="step.json", help="output file")
    given = parser.parse_args()
    large, small = random_batch(given.batch, 224, 1000), random_batch(128, 32, 10)
    plain50 = plainly(keras.applications.ResNet50(weights=None, classifier_activation=None))
    auto = choose().policy
    rows = {
        "ResNet-50 v1, float32 ÷ keras.applications": lambda: (
            ours("resnet50_v1", large, "float32"), theirs(plain50, large)
        ),
        f"ResNet-50 v1, {auto} (auto) ÷ keras.applications in float32": lambda: (
            ours("resnet50_v1", large, auto), theirs(plain50, large)
        ),
        "ResNet-20, float32 ÷ plain Keras": lambda: (
            ours("resnet20", small, "float32"), theirs(plainly(resnet20()), small)
        ),
        "ResNet-20, mixed_bfloat16 ÷ ours with Keras' batch norm": lambda: (
            ours("resnet20", small, "mixed_bfloat16"),
            ours("resnet20", small, "mixed_bfloat16", fused=False),
        ),
        "ResNet-50 v1, mixed_bfloat16 ÷ ours with Keras' batch norm": lambda: (
            ours("resnet50_v1", large, "mixed_bfloat16"),
            ours("resnet50_v1", large, "mixed_bfloat16", fused=False),
        ),
    }  # fmt: skip
    found = {}
    for name, pair in rows.items():
        if given.only in name:
            mine, other = (seconds_of(train, given.steps) for train in pair())
            found[name] = measure(mine, other, given.pairs)
    report(found, given.json, unit="seconds per step", batches=[given.batch, 128])


def ours(name, batch, policy, *, xla=False, fused=True):
    """A function that runs a number of steps as the command does."""
    images, targets = batch
    classes = targets.shape[-1]
    keras.config.set_dtype_policy(policy)
    model = build(name, classes, (None, None, 3))
    keras.config.set_dtype_policy("float32")
    if fused:
        model = for_training(model, xla=xla)
    config = resolve({"model": name})
    model.optimizer = make_optimizer(config, 0.01)
    loss = make_loss(config, np.arange(classes), classes)
    step = TrainStep(model, loss, xla=xla, loss_scale=policy == "mixed_float16")
    batches = iter(repeated(images, targets))

    def train(steps):
        calls = [CALL_SECONDS]  # as the loop has it: steps of so many seconds in a call
        while steps:
            count = max(1, min(steps, MOST_STEPS, int(CALL_SECONDS / min(calls))))
            began = time.perf_counter()
            step(batches, count)
            calls.append((time.perf_counter() - began) / count)
            steps -= count

    return train


def theirs(model, batch):
    """The same with Keras' `fit`."""
    data = repeated(*batch)
    return lambda steps: model.fit(data, steps_per_epoch=steps, shuffle=False, verbose=0)


def repeated(images, targets):
    """Random bytes, like pixels."""
    data = tf.data.Dataset.from_tensors((tf.cast(images, tf.uint8), targets))
    return data.repeat().prefetch(4)


def plainly(model):
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def resnet20():
    """ResNet-20 of arXiv:1512.03385, section 4.2, in plain Keras layers."""
    layers = keras.layers

    def unit(x, filters, strides=1):
        return layers.BatchNormalization()(
            layers.Conv2D(filters, 3, strides=strides, padding="same")(x)
        )

    image = keras.Input((32, 32, 3))
    x = layers.ReLU()(unit(layers.Rescaling(1 / 127.5, -1.0)(image), 16))
    for filters in (16, 32, 64):
        for block in range(3):
            strides = 2 if filters > 16 and block == 0 else 1
            branch = unit(layers.ReLU()(unit(x, filters, strides)), filters)
            if strides == 2:
                x = layers.Conv2D(filters, 1, strides=2)(x)
            x = layers.ReLU()(layers.Add()([x, branch]))
    return keras.Model(image, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def random_batch(count, size, classes):
    """Random images and targets: some processors multiply zeros faster."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, size, size, 3)).astype(np.float32)
    targets = np.eye(classes, dtype=np.float32)[rng.integers(0, classes, count)]
    return tf.constant(images), tf.constant(targets)


def seconds_of(train, steps):
    """A function that measures the seconds of a step."""

    def seconds():
        began = time.perf_counter()
        train(steps)
        return (time.perf_counter() - began) / steps

    return seconds


if __name__ == "__main__":
    main()
