"""Rows of run.py: the start and the steps of a training, compared with Keras' own.

ResNet-50 v1 is compared with keras.applications.ResNet50; ResNet-20 with the same network in plain
Keras layers, which have biases by default. gpu.py trains with the same functions.
"""

import time

import keras
import numpy as np
import tensorflow as tf
from inputs import random_batch
from pairs import NotMeasured, measure, seconds_of

from keras_resnet.models import build
from keras_resnet.recipes import resolve
from keras_resnet.training.layers import for_training
from keras_resnet.training.loop import CALL_SECONDS, MOST_STEPS
from keras_resnet.training.losses import make_loss
from keras_resnet.training.optimizer import make_optimizer
from keras_resnet.training.precision import choose
from keras_resnet.training.step import TrainStep

BATCH = 8  # of ResNet-50 at 224 pixels
BATCH_OF_THE_PAPER = 128  # of ResNet-20 at 32 pixels: arXiv:1512.03385, section 4.2
STEPS, STEPS_OF_RESNET20 = 2, 6  # of a measurement


def c4(setting):
    return measure(
        seconds_of(_from_nothing, build, "resnet50_v1"),
        seconds_of(_from_nothing, _keras_resnet50),
        setting.pairs,
    )


def _from_nothing(function, *arguments):
    keras.backend.clear_session()
    function(*arguments)


def _keras_resnet50():
    return keras.applications.ResNet50(weights=None, classifier_activation=None)


def c5(setting):
    return _compare_resnet50(setting, "float32")


def c5b(setting):
    return _compare_resnet50(setting, _reduced_precision())


def _compare_resnet50(setting, policy):
    batch = random_batch(BATCH, 224, 1000)
    mine, other = ours("resnet50_v1", batch, policy), theirs(plainly(_keras_resnet50()), batch)
    return _compare(setting, mine, other, STEPS)


def c7(setting):
    return _compare_resnet20(setting, "float32")


def c7b(setting):
    return _compare_resnet20(setting, _reduced_precision())


def _compare_resnet20(setting, policy):
    batch = random_batch(BATCH_OF_THE_PAPER, 32, 10)
    mine = ours("resnet20", batch, policy)
    keras.config.set_dtype_policy(policy)
    other = theirs(plainly(resnet20()), batch)
    keras.config.set_dtype_policy("float32")
    return _compare(setting, mine, other, STEPS_OF_RESNET20)


def _compare(setting, mine, other, steps):
    return measure(seconds_of(mine, steps), seconds_of(other, steps), setting.pairs)


def _reduced_precision():
    """The number format that the command chooses, unless that is float32."""
    precision = choose()
    if precision.policy == "float32":
        raise NotMeasured(f"needs a CPU on which bfloat16 is faster: {precision.reason}")
    return precision.policy


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
