"""The report of `doctor`: versions, devices, and fast number formats on this machine."""

import os
import platform
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import tensorflow as tf

from keras_resnet import runtime
from keras_resnet.config import Config
from keras_resnet.errors import first_line
from keras_resnet.results import Result
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
    "torch": "--weights FILE.pth",
    "tf2onnx": "export --onnx",
    "onnxruntime": "evaluate FILE.onnx",
}


@dataclass(frozen=True)
class Cpu:
    """The processor."""

    cores: int
    flags: list[str]  # instruction sets that speed training up
    onednn: str  # the variable TF_ENABLE_ONEDNN_OPTS


@dataclass(frozen=True)
class PrecisionSurvey:
    """Number formats on this machine."""

    auto: str  # the choice of `--precision auto`
    reason: str
    # The time of a small training step relative to float32, or why it failed: for each policy, for
    # float32 with the opposite XLA setting of training, and for several steps per call.
    step_time_over_float32: dict[str, float | str]


@dataclass(frozen=True)
class MissingPackage:
    """An optional package that is not installed."""

    adds: str
    install: str  # a command


@dataclass(frozen=True, kw_only=True)
class Survey(Result):
    """Versions, devices, and the defaults of training on this machine."""

    python: str
    system: str
    versions: dict[str, str | None]  # of packages; None: not installed
    cpu: Cpu
    gpus: list[str]
    precision: PrecisionSurvey
    xla: bool
    steps_per_execution: str
    missing: dict[str, MissingPackage]


def survey() -> Survey:
    """Measures this machine in a few seconds.

    Returns:
        `Survey`.
    """
    gpus = tf.config.list_physical_devices("GPU")
    xla = bool(precision.resolve_xla(Config(), max(len(gpus), 1)).xla)
    chosen = precision.choose(xla=xla)
    return Survey(
        python=platform.python_version(),
        system=platform.platform(),
        versions={name: _version(name) for name in PACKAGES},
        cpu=Cpu(
            cores=runtime.cores(),
            flags=runtime.fast_cpu_flags(),
            onednn=os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default"),
        ),
        gpus=[
            tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
            for gpu in gpus
        ],
        precision=PrecisionSurvey(chosen.policy, chosen.reason, _step_times(xla)),
        xla=xla,
        steps_per_execution=f"as many as fit into {CALL_SECONDS} s",
        missing={
            name: MissingPackage(adds, f"pip install {name}")
            for name, adds in OPTIONAL.items()
            if _version(name) is None
        },
    )


def _step_times(xla: bool) -> dict[str, float | str]:
    ways: dict[str, dict[str, Any]] = {
        "mixed_bfloat16": {"policy": "mixed_bfloat16"},
        "mixed_float16": {"policy": "mixed_float16"},
        f"float32 {'without' if xla else 'with'} XLA": {"jit": not xla},
        "float32, 10 steps per call": {"steps": 10},
    }
    ratios: dict[str, float | str] = {"float32": 1.0}
    for label, way in ways.items():
        try:
            ratios[label] = round(precision.time_ratio(**way, xla=xla), 2)
        except (tf.errors.OpError, ValueError) as error:
            ratios[label] = first_line(error)
    return ratios


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
