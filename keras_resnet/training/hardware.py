"""What `doctor` reports: versions, devices, and which number formats pay on this machine."""

import os
import platform
import time
from importlib import metadata

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import models, runtime
from keras_resnet.errors import first_line
from keras_resnet.recipes import Config
from keras_resnet.training import precision

PACKAGES = (
    "keras-resnet-edge", "tensorflow", "keras", "tensorflow-datasets", "ai-edge-litert", "numpy",
    "pillow", "scikit-learn", "matplotlib", "click",
)  # fmt: skip
# package -> what it adds
OPTIONAL = {
    "tensorboard": "tensorboard --logdir runs",
    "array_record": "tfds in array_record files",
}
_BATCH, _SIZE = 16, 32
_CALLS, _SECONDS = 5, 1.0  # what is timed: whichever is over first, for float16 takes 5 s a step
# What `doctor` compares with plain float32: dtype policy, XLA, steps in one call.
_WAYS = {
    "mixed_bfloat16": ("mixed_bfloat16", False, 1),
    "mixed_float16": ("mixed_float16", False, 1),
    "float32 with XLA": ("float32", True, 1),
    "float32, 10 steps a call": ("float32", False, 10),
}


def survey():
    """A dict ready for JSON: {python, system, versions, cpu, gpus, precision, xla,
    steps_per_execution, missing}.

    `precision` holds the choice of `--precision auto` with its reason, and for each policy (and
    for XLA, and several steps a call) the time of a ResNet-20 training step as a multiple of
    float32's, or why it failed. `xla` and `steps_per_execution` are what a training takes.
    """
    chosen = precision.choose()
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "versions": {name: _version(name) for name in PACKAGES},
        "cpu": {
            "cores": os.cpu_count(),
            "flags": runtime.telling_cpu_flags(),
            "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default"),
        },
        "gpus": [
            tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
            for gpu in tf.config.list_physical_devices("GPU")
        ],
        "precision": {
            "auto": chosen.policy,
            "reason": chosen.reason,
            "step_time_over_float32": _step_times(),
        },
        "xla": bool(precision.settle(Config()).xla),
        "steps_per_execution": 1,
        "missing": {
            name: {"adds": adds, "install": f"pip install {name}"}
            for name, adds in OPTIONAL.items()
            if _version(name) is None
        },
    }


def _step_times():
    plain = _step_time("float32", False, 1)
    ratios = {"float32": 1.0}
    for label, way in _WAYS.items():
        try:
            ratios[label] = round(_step_time(*way) / plain, 2)
        except (tf.errors.OpError, ValueError) as error:
            ratios[label] = first_line(error)
    return ratios


def _step_time(policy, jit, steps):
    """Seconds of a training step of a ResNet-20, in the quickest of a few calls."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = models.build("resnet20", 10, (_SIZE, _SIZE, 3))
    finally:
        keras.config.set_dtype_policy(before)
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=jit,
        steps_per_execution=steps,
    )
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (_BATCH, _SIZE, _SIZE, 3)).astype("float32")
    labels = rng.integers(0, 10, _BATCH)
    model.optimizer.build(model.trainable_variables)
    model.make_train_function()
    batches = iter(tf.data.Dataset.from_tensors((images, labels)).repeat())
    model.train_function(batches)  # traces
    times = []
    while len(times) < _CALLS and sum(times) < _SECONDS:
        began = time.perf_counter()
        float(model.train_function(batches)["loss"])  # read: a GPU answers before it is done
        times.append(time.perf_counter() - began)
    return min(times) / steps


def _version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
