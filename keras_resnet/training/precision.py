"""Which number format this hardware runs well, and why."""

from typing import NamedTuple

import tensorflow as tf

from keras_resnet import runtime


class Precision(NamedTuple):
    policy: str  # a Keras dtype policy
    reason: str  # one clause for the person who reads the log


def choose(requested="auto"):
    """The policy to train with: `requested`, or for `"auto"` what the hardware has units for.

    Figures behind the choice, ResNet steps on CPU: with AVX-512 BF16, mixed_bfloat16 took 0.41 of
    float32's time; without it (AVX2), 6 times as long, and mixed_float16 twice as long.
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
            return Precision("mixed_bfloat16", f"the CPU multiplies bfloat16 ({flag})")
    return Precision("float32", "the CPU has no bfloat16 units, and emulating them is slower")


def _for_gpu(details):
    name = details.get("device_name", "the GPU")
    capability = details.get("compute_capability", (0, 0))
    if capability >= (8, 0):
        return Precision("mixed_bfloat16", f"{name} has bfloat16 tensor cores")
    if capability >= (7, 0):
        return Precision("mixed_float16", f"{name} has float16 tensor cores but no bfloat16")
    return Precision("float32", f"{name} has no tensor cores")
