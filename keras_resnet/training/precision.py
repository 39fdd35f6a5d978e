"""Which number format this hardware runs well, and why; and whether XLA pays on it."""

import time
from typing import NamedTuple

import tensorflow as tf

from keras_resnet import runtime

_PAYS = 0.8  # of float32's time at most, or it is not worth the digits
_TRIES = 8
# Ten gained nothing for ResNet-20 and a tenth for a ResNet-8 at 16 pixels, on two CPUs; after each
# call a run can be saved and left.
STEPS_PER_EXECUTION = 1


class Precision(NamedTuple):
    policy: str  # a Keras dtype policy
    reason: str  # one clause for the person who reads the log


def choose(requested="auto"):
    """The policy to train with: `requested`, or for `"auto"` what the hardware runs fast.

    That a CPU has instructions for bfloat16 does not say that they pay: with AVX-512 BF16,
    mixed_bfloat16 took 0.41 of the time of a ResNet step in float32 on one processor (AMD), 1.1 to
    1.6 times as long on another (Intel, without AMX). So it is measured, in a fraction of a second.
    Without them, bfloat16 took 6 times as long, and mixed_float16 twice as long.
    """
    if requested != "auto":
        return Precision(requested, "as asked")
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        return _for_gpu(tf.config.experimental.get_device_details(gpus[0]))
    return _for_cpu(runtime.cpu_flags())


def _for_cpu(flags):
    for flag in ("amx_bf16", "avx512_bf16"):
        if flag in flags:
            share = bfloat16_over_float32()
            takes = (
                f"bfloat16 ({flag}) takes {share:.2f} × the time of float32 in a convolution here"
            )
            return Precision("mixed_bfloat16" if share <= _PAYS else "float32", takes)
    return Precision("float32", "the CPU has no bfloat16 units, and emulating them is slower")


def bfloat16_over_float32():
    """The time of a 3×3 convolution of a ResNet and of its gradients, as a share of float32's."""
    images = tf.random.stateless_normal((8, 28, 28, 64), (0, 0))  # zeros may go faster
    kernel = tf.Variable(tf.random.stateless_normal((3, 3, 64, 64), (0, 1)))

    @tf.function
    def step(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            features = tf.nn.conv2d(images, tf.cast(kernel, images.dtype), 1, "SAME")
        return tape.gradient(features, [images, kernel], features)

    inputs = images, tf.cast(images, tf.bfloat16)
    best = [float("inf"), float("inf")]
    for _ in range(1 + _TRIES):  # in turn; the first also traces
        for n, own in enumerate(inputs):
            began = time.perf_counter()
            step(own)[1].numpy()
            best[n] = min(best[n], time.perf_counter() - began)
    return best[1] / best[0]


def jit_compile():
    """For `model.compile`: where there is a GPU Keras decides, and a CPU goes without XLA.

    On two CPUs XLA made a step of ResNet-20 and ResNet-50 1.1 to 1.7 times as long; a ResNet-8 at
    16 pixels alone gained, 0.7.
    """
    return "auto" if tf.config.list_physical_devices("GPU") else False


def _for_gpu(details):
    name = details.get("device_name", "the GPU")
    capability = details.get("compute_capability", (0, 0))
    if capability >= (8, 0):
        return Precision("mixed_bfloat16", f"{name} has bfloat16 tensor cores")
    if capability >= (7, 0):
        return Precision("mixed_float16", f"{name} has float16 tensor cores but no bfloat16")
    return Precision("float32", f"{name} has no tensor cores")
