"""Which number format this hardware runs well, and why; and whether XLA pays on it."""

import time
from dataclasses import replace
from typing import NamedTuple

import tensorflow as tf

from keras_resnet import runtime
from keras_resnet.errors import InputError
from keras_resnet.recipes import Config

_PAYS = 0.8  # of float32's time at most, or it is not worth the digits
_TRIES = 8


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


def settle(config: Config, devices: int = 1) -> Config:
    """The settings with `deterministic` and `xla` decided where they were left open.

    On a CPU determinism costs nothing, and XLA made a step of ResNet-20 and ResNet-50 1.1 to 1.7
    times as long. On a GPU XLA is worth a factor of 5.6 (ResNet-50 in bfloat16 on an H100, with
    Keras' batch norm), and its kernels are not deterministic: the deterministic ones are reached
    without XLA only.

    Args:
        config: as it was asked for.
        devices: how many train; XLA is for one.

    Raises:
        InputError: both were asked for on a GPU, or XLA on several devices.
    """
    gpu = bool(tf.config.list_physical_devices("GPU"))
    if config.xla and devices > 1:
        raise InputError(
            f"--xla works on one device, not on {devices}; use --devices 1 or --no-xla"
        )
    if gpu and config.xla and config.deterministic:
        raise InputError("--xla is not deterministic on a GPU; use --no-xla or --no-deterministic")
    xla = gpu and devices == 1 and not config.deterministic if config.xla is None else config.xla
    deterministic = not gpu if config.deterministic is None else config.deterministic
    return replace(config, xla=xla, deterministic=deterministic)


def describe(config: Config) -> str:
    """One line: whether the same command gives the same weights, and what that costs."""
    xla = ", compiled with XLA" if config.xla else ""
    if config.deterministic:
        return f"deterministic{xla}: the same command gives the same weights, bit for bit"
    return (
        f"not deterministic{xla}: the same command, or a resumed run, may differ in the last bits; "
        "--deterministic gives the same bits, on a GPU at some cost of speed"
    )


def _for_gpu(details):
    name = details.get("device_name", "the GPU")
    capability = details.get("compute_capability", (0, 0))
    if capability >= (8, 0):
        return Precision("mixed_bfloat16", f"{name} has bfloat16 tensor cores")
    if capability >= (7, 0):
        return Precision("mixed_float16", f"{name} has float16 tensor cores but no bfloat16")
    return Precision("float32", f"{name} has no tensor cores")
