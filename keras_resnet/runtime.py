"""Settings that must be made before TensorFlow is imported. Standard library only."""

import hashlib
import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path

# Those that decide which kernels a runtime takes.
_TELLING_FLAGS = (
    "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd",
)  # fmt: skip
_CPUS = Path("/proc/cpuinfo")
_ROOM = 2**28  # bytes that must be free for XLA's cache: some MB for each network
# For processes that convert, or time on the CPU: the GPU's memory is in use by their parent.
ON_CPU = {"CUDA_VISIBLE_DEVICES": "-1"}


def prepare() -> None:
    """Sets environment variables for TensorFlow; those that the user has set stay, except Keras'
    backend.

    Networks are trained and exported with TensorFlow, whatever KERAS_BACKEND or `keras.json` say.
    Keras reads them when it is imported: `state.isolated` refuses another backend after that.

    oneDNN's kernels are on by default only where the processor has AVX-512 VNNI or AMX. On one
    with AVX2 alone a ResNet-20 training step took 0.6 to 0.7 of the time with them.
    """
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # What XLA has compiled is used again by the next start: a minute for a ResNet-50 on a GPU.
    if "TF_XLA_FLAGS" not in os.environ and (folder := _folder_of_compiled()):
        os.environ["TF_XLA_FLAGS"] = f"--tf_xla_persistent_cache_directory='{folder}'"


def tensorflow_version() -> str:
    """The version of TensorFlow; "" of a build of one's own that has none."""
    try:
        return metadata.version("tensorflow")
    except metadata.PackageNotFoundError:
        return ""


def _folder_of_compiled() -> Path | None:
    """The folder for what XLA compiles on this machine; None where nothing can be written: there,
    TensorFlow would end the training."""
    if not (version := tensorflow_version()):
        return None
    gpus = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    hardware = [platform.machine(), *sorted(cpu_flags()), *(_info(gpu, "Model") for gpu in gpus)]
    name = hashlib.sha256(" ".join(hardware).encode()).hexdigest()[:8]
    folder = cache_folder() / "xla" / version / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError:
        return None
    quotable = "'" not in str(folder)
    return folder if quotable and os.access(folder, os.W_OK) and free > _ROOM else None


def cache_folder() -> Path:
    """The user's cache folder of this package."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home, "keras-resnet")


def cpu_flags() -> frozenset[str]:
    """The processor's feature flags, as Linux names them; empty where they cannot be read."""
    return frozenset(_info(_CPUS, "flags", "Features").split())


def telling_cpu_flags() -> list[str]:
    """The flags that determine the speed of number formats, in a fixed order."""
    flags = cpu_flags()
    return [flag for flag in _TELLING_FLAGS if flag in flags]


def cpu_name() -> str:
    """The name of the processor."""
    return _info(_CPUS, "model name") or platform.processor() or platform.machine()


def _info(path: Path, *names: str) -> str:
    """The first value of a name in a file of Linux about the hardware; "" without it."""
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name.strip() in names:
                    return value.strip()
    except OSError:
        pass
    return ""
