"""The report of `doctor`: versions, devices, and fast number formats on this machine."""

import os
import platform
from importlib import metadata
from typing import Any

import tensorflow as tf

from keras_resnet import runtime
from keras_resnet.errors import first_line
from keras_resnet.training import precision
from keras_resnet.training.loop import CALL_SECONDS

PACKAGES = (
    "keras-resnet-edge", "tensorflow", "keras", "tensorflow-datasets", "ai-edge-litert", "numpy",
    "pillow", "matplotlib", "click",
)  # fmt: skip
# package -> what it adds
OPTIONAL = {
    "tensorboard": "tensorboard --logdir runs",
    "array_record": "tfds in array_record files",
}


def survey() -> dict[str, Any]:
    """A dict ready for JSON: {python, system, versions, cpu, gpus, precision, xla,
    steps_per_execution, missing}.

    `precision` holds the choice of `--precision auto` with its reason, and for each policy (and
    with XLA where training goes without it, without it where training takes it, and for several
    steps a call) the time of a small training step, `precision.time_ratio`, as a multiple of
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
        "xla": precision.uses_xla(),
        "steps_per_execution": f"as many as fit into {CALL_SECONDS} s",
        "missing": {
            name: {"adds": adds, "install": f"pip install {name}"}
            for name, adds in OPTIONAL.items()
            if _version(name) is None
        },
    }


def _step_times() -> dict[str, float | str]:
    xla = precision.uses_xla()
    ways: dict[str, dict[str, Any]] = {
        "mixed_bfloat16": {"policy": "mixed_bfloat16"},
        "mixed_float16": {"policy": "mixed_float16"},
        f"float32 {'without' if xla else 'with'} XLA": {"jit": not xla},
        "float32, 10 steps a call": {"steps": 10},
    }
    ratios: dict[str, float | str] = {"float32": 1.0}
    for label, way in ways.items():
        try:
            ratios[label] = round(precision.time_ratio(**way), 2)
        except (tf.errors.OpError, ValueError) as error:
            ratios[label] = first_line(error)
    return ratios


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
