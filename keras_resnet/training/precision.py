"""Chooses the number format and XLA for this hardware, with a reason."""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_resnet import runtime
from keras_resnet.config import Config
from keras_resnet.errors import InputError
from keras_resnet.messages import log
from keras_resnet.models import layers_of

# Times relative to float32.
_PAYS = 0.8  # at most this is worth the lower precision
_SLOWER = 1.2  # above the noise of a repeated measurement
_EMULATED = 3.0  # no hardware unit is that much slower than float32 on the same device
# (batch, height, width, channels) of the timed convolution. One image first: in an emulated format,
# a batch would take seconds. On a GPU, enough images to make the overhead of a call negligible.
_ONE_IMAGE, _ON_CPU, _ON_GPU = (1, 28, 28, 64), (8, 28, 28, 64), (128, 56, 56, 64)
_ROUNDS, _SECONDS = 12, 0.5  # limits of a measurement, whichever comes first; at least one round
_CALLS_ON_GPU = 10  # calls per time measurement: a call returns before its work is done


class Precision(NamedTuple):
    policy: str  # a Keras dtype policy
    reason: str  # for the log


def choose(requested: str = "auto", *, xla: bool) -> Precision:
    """The dtype policy for training: `requested`, or for `"auto"` the fastest on this hardware.

    Args:
        requested: "auto" or a Keras dtype policy.
        xla: whether XLA compiles the training, and so the measurement.

    Instructions for bfloat16 do not guarantee that it is faster: with AVX-512 BF16, mixed_bfloat16
    took 0.41 of the time of a ResNet step in float32 on one processor (AMD), 1.1 to 1.6 times as
    long on another (Intel, without AMX). So it is measured, on GPUs too. Without such instructions,
    bfloat16 took 6 times as long, and mixed_float16 2 to 127 times: if one is requested, a warning
    is logged.
    """
    if requested == "auto":
        gpus = tf.config.list_physical_devices("GPU")
        if gpus:
            return _for_gpu(tf.config.experimental.get_device_details(gpus[0]), xla)
        return _for_cpu(runtime.cpu_flags(), xla)
    if requested != "float32":
        _warn_if_slow(requested, time_ratio(policy=requested, xla=xla))
    return Precision(requested, "as requested")


def _warn_if_slow(policy: str, share: float) -> None:
    if share <= _SLOWER:
        return
    here = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    what = f"emulated on this {here}" if share >= _EMULATED else f"slow on this {here}"
    log.warning(
        f"{policy}: {what}, a convolution takes {share:.3g} × the time of float32; use "
        "--precision float32"
    )


def _for_cpu(flags: Collection[str], xla: bool) -> Precision:
    for flag in ("amx_bf16", "avx512_bf16"):
        if flag in flags:
            return _measured("mixed_bfloat16", flag, xla)
    return Precision("float32", "the CPU has no bfloat16 units, and emulating them is slower")


def _for_gpu(details: Mapping[str, Any], xla: bool) -> Precision:
    name = details.get("device_name", "the GPU")
    capability = details.get("compute_capability", (0, 0))
    if capability >= (8, 0):
        return _measured("mixed_bfloat16", name, xla)
    if capability >= (7, 0):  # tensor cores for float16, none for bfloat16
        return _measured("mixed_float16", name, xla)
    return Precision("float32", f"{name} has no tensor cores")


def _measured(policy: str, unit: str, xla: bool) -> Precision:
    """`policy` if it is faster, else float32."""
    share = time_ratio(policy=policy, xla=xla)
    form = policy.removeprefix("mixed_")
    takes = f"{form} ({unit}) takes {share:.2f} × the time of float32 in a convolution here"
    return Precision(policy if share <= _PAYS else "float32", takes)


@cache  # so that a process does not contradict itself
def time_ratio(
    *, policy: str = "float32", xla: bool, jit: bool | None = None, steps: int = 1
) -> float:
    """The time of a small training step, relative to that of the same step in float32.

    The step is a 3×3 convolution of a ResNet, batch norm and ReLU, forward and backward, on the
    device that will train. Both are timed in turn; this takes well below a second on a CPU, and
    below ten on a GPU, where XLA compiles first.

    Args:
        policy: a Keras dtype policy.
        xla: whether XLA compiles the training, and the float32 step.
        jit: whether XLA compiles this step; None: as `xla`.
        steps: steps per call; above 1, a batch is one image, for which the overhead of a call is
            largest.
    """
    jit = xla if jit is None else jit

    def share(shape: tuple[int, int, int, int], calls: int = 1) -> float:
        step = _step(policy, shape, jit=jit, steps=steps)
        return _share(step, _step("float32", shape, jit=xla), calls) / steps

    if tf.config.list_physical_devices("GPU"):
        return share(_ONE_IMAGE if steps > 1 else _ON_GPU, _CALLS_ON_GPU)
    small = share(_ONE_IMAGE)
    return small if steps > 1 or small >= _EMULATED else share(_ON_CPU)


def _step(
    policy: str, shape: tuple[int, int, int, int], *, jit: bool, steps: int = 1
) -> Callable[[], tf.Tensor]:
    """A function that runs the step `steps` times; its result depends on all of them."""
    form = tf.dtypes.as_dtype(policy.removeprefix("mixed_"))
    channels = shape[-1]
    # Random values: zeros may be faster.
    images = tf.Variable(tf.cast(tf.random.stateless_normal(shape, (0, 0)), form))
    kernel = tf.Variable(tf.random.stateless_normal((3, 3, channels, channels), (0, 1)) / 24)
    scale, offset = tf.Variable(tf.ones(channels)), tf.Variable(tf.zeros(channels))
    watched = [images, kernel, scale, offset]

    @tf.function(jit_compile=jit)
    def run() -> tf.Tensor:
        for _ in range(steps):
            with tf.GradientTape() as tape:
                features = tf.nn.conv2d(images, tf.cast(kernel, form), 1, "SAME")
                features, *_ = tf.compat.v1.nn.fused_batch_norm(features, scale, offset)
                features = tf.nn.relu(features)
            gradients = tape.gradient(features, watched, tf.identity(images))
            for variable, gradient in zip(watched, gradients, strict=True):
                variable.assign_sub(1e-4 * gradient)  # unused gradients would not be computed
        return kernel[0, 0, 0, 0]

    return run


def _share(ours: Callable[[], tf.Tensor], theirs: Callable[[], tf.Tensor], calls: int) -> float:
    """The shortest time of `ours` relative to the shortest of `theirs`, timed in turn."""
    best, began = [float("inf"), float("inf")], 0.0
    for done in range(1 + _ROUNDS):
        if done == 1:  # the first round traced and compiled
            best, began = [float("inf"), float("inf")], time.perf_counter()
        if done > 1 and time.perf_counter() - began > _SECONDS:
            break
        for n, run in enumerate((ours, theirs)):
            before = time.perf_counter()
            for _ in range(calls):
                last = run()
            last.numpy()
            best[n] = min(best[n], time.perf_counter() - before)
    return best[0] / best[1]


def resolve_xla(config: Config, devices: int = 1, network: keras.Model | None = None) -> Config:
    """The settings with values for `deterministic` and `xla` in place of None.

    On a CPU determinism costs nothing, and XLA made a step of ResNet-20 and ResNet-50 1.1 to 1.7
    times as long. On a GPU XLA is 5.6 times as fast (ResNet-50 in bfloat16 on an H100, with Keras'
    batch norm), but not deterministic: deterministic kernels are available only without XLA.

    Args:
        config: as requested.
        devices: number of devices; XLA needs one.
        network: the user's network, if any; XLA cannot compile some layers of Keras.

    Raises:
        InputError: both were requested on a GPU, or XLA on several devices or for a layer that it
            cannot compile.
    """
    unfit = next((x for x in layers_of(network) if not x.supports_jit), None) if network else None
    if config.xla and unfit:
        raise InputError(
            f"--xla cannot compile the layer {unfit.name!r} ({type(unfit).__name__}); use --no-xla"
        )
    gpu = bool(tf.config.list_physical_devices("GPU"))
    if config.xla and devices > 1:
        raise InputError(
            f"--xla works on one device, not on {devices}; use --devices 1 or --no-xla"
        )
    if gpu and config.xla and config.deterministic:
        raise InputError("--xla is not deterministic on a GPU; use --no-xla or --no-deterministic")
    fits = gpu and devices == 1 and not unfit
    xla = fits and not config.deterministic if config.xla is None else config.xla
    deterministic = not gpu if config.deterministic is None else config.deterministic
    return replace(config, xla=xla, deterministic=deterministic)


def without_xla_on_several(config: Config, devices: int) -> Config:
    """The settings of a run that began on one device, for that many: XLA needs one."""
    if not config.xla or devices == 1:
        return config
    log.info(f"without XLA from here on: it works on one device, not on {devices}")
    return replace(config, xla=False)


def describe(config: Config) -> str:
    """One line for the log: whether the same command gives the same weights."""
    xla = ", compiled with XLA" if config.xla else ""
    if config.deterministic:
        return f"deterministic{xla}: the same command gives the same weights, bit for bit"
    return (
        f"not deterministic{xla}: the same command, or a resumed run, may differ in the last bits; "
        "--deterministic makes runs bit-for-bit reproducible, but slower on a GPU"
    )
