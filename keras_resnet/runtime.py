"""Settings that must be made before TensorFlow is imported. Standard library only."""

import hashlib
import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path

# CPU flags by which a runtime chooses its kernels.
_FAST_FLAGS = (
    "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd",
)  # fmt: skip
# TensorFlow uses oneDNN's kernels by default on processors with one of these.
_ONEDNN_FLAGS = {"avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16"}
_ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
_CPUS, _STATUS = Path("/proc/cpuinfo"), Path("/proc/self/status")
_FREE_BYTES = 2**28  # minimum free space for XLA's cache, which takes a few MB per network
# For child processes that convert, or time on the CPU: their parent uses the GPU's memory.
ON_CPU = {"CUDA_VISIBLE_DEVICES": "-1"}


def prepare() -> None:
    """Sets environment variables for TensorFlow; the user's values are kept, except Keras' backend.

    Networks are trained and exported with TensorFlow, regardless of KERAS_BACKEND and `keras.json`.
    Keras reads these when it is imported; `state.isolated` rejects another backend afterwards.
    """
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "tensorflow"
    prepare_tensorflow()


def prepare_tensorflow() -> None:
    """Sets the variables that TensorFlow reads, of those that `prepare` sets.

    By default, oneDNN's kernels are used only on processors with AVX-512 VNNI or AMX. With them, a
    ResNet-20 training step on a processor with AVX2 only took 0.6 to 0.7 of the time.
    """
    if "tensorflow" not in sys.modules:  # which reads it at its import
        os.environ.setdefault(_ONEDNN, "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # A cache of XLA's output saves the next process a minute for a ResNet-50 on a GPU.
    if "TF_XLA_FLAGS" not in os.environ and (folder := _xla_cache_folder()):
        os.environ["TF_XLA_FLAGS"] = f"--tf_xla_persistent_cache_directory='{folder}'"


def tensorflow_version() -> str:
    """The version of TensorFlow; "" for a custom build without package metadata."""
    try:
        return metadata.version("tensorflow")
    except metadata.PackageNotFoundError:
        return ""


def _xla_cache_folder() -> Path | None:
    """The folder for XLA's cache on this machine; None if it cannot be written, which would end
    the training."""
    version, cache = tensorflow_version(), cache_folder()
    if not (version and cache):
        return None
    gpus = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    hardware = [platform.machine(), *sorted(cpu_flags()), *(_info(gpu, "Model") for gpu in gpus)]
    name = hashlib.sha256(" ".join(hardware).encode()).hexdigest()[:8]
    folder = cache / "xla" / version / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError:
        return None
    quotable = "'" not in str(folder)
    return folder if quotable and os.access(folder, os.W_OK) and free > _FREE_BYTES else None


def home_folder() -> str | None:
    """The user's home folder; None if it is unknown: no HOME, and a user who has no account.

    Then `expanduser` returns "~", which would be a folder of this name in the current one.
    """
    home = os.path.expanduser("~")
    return home if os.path.isabs(home) else None


def cache_folder() -> Path | None:
    """The user's cache folder of this package; None if it is unknown."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(cache):  # XDG's specification says to ignore any other
        return Path(cache, "keras-resnet")
    home = home_folder()
    return Path(home, ".cache", "keras-resnet") if home else None


def cores() -> int:
    """The number of processor cores that this process may use."""
    if sys.platform == "linux":  # a container may be limited to some of the machine's
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_flags() -> frozenset[str]:
    """The processor's feature flags, as named by Linux; empty if they cannot be read."""
    return frozenset(_info(_CPUS, "flags", "Features").split())


def fast_cpu_flags() -> list[str]:
    """This processor's flags that determine the speed of number formats, in a fixed order."""
    flags = cpu_flags()
    return [flag for flag in _FAST_FLAGS if flag in flags]


def uses_onednn() -> bool:
    """Whether TensorFlow computes with oneDNN's kernels on the CPU: see `prepare`."""
    if chosen := os.environ.get(_ONEDNN):
        return chosen.lower() in ("1", "true")
    return not _ONEDNN_FLAGS.isdisjoint(cpu_flags())


def lacks_onednn() -> bool:
    """Whether oneDNN's kernels are not used, because `prepare` came too late to choose them."""
    is_x86 = sys.platform == "linux" and platform.machine() == "x86_64"
    return is_x86 and _ONEDNN not in os.environ and not uses_onednn()


def peak_bytes() -> int | None:
    """Peak resident set size of this process so far; None if the system does not report it.

    Not by getrusage: for a forked or started child, its peak includes the memory of the parent.
    """
    peak = _info(_STATUS, "VmHWM").split()
    return 1024 * int(peak[0]) if peak else None


def cpu_name() -> str:
    """The name of the processor."""
    return _info(_CPUS, "model name") or platform.processor() or platform.machine()


def _info(path: Path, *names: str) -> str:
    """The value of the first of these names in a file like /proc/cpuinfo; "" if there is none."""
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name.strip() in names:
                    return value.strip()
    except OSError:
        pass
    return ""
