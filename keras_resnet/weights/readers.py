"""Opens files of weights: arrays by name, with shapes that are known before they are read.

Nothing in a file is executed: the settings of a `.keras` file are read as JSON, a `.pth` file by
PyTorch's tensors-only loader. The arrays take no more memory than the file has bytes: files that
decompress to more, or refer to other files, are refused.
"""

import json
import math
import pickletools
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from keras_resnet.errors import CheckFailed, InputError, first_line, needs_extra
from keras_resnet.files import LARGEST_TEXT, StrPath, full_disk, require_path

if TYPE_CHECKING:
    import keras

KERAS, TORCH = "keras", "torch"
Normalization = tuple[Any, Any]  # (scale, offset) of a Rescaling layer
_LARGEST_ATTRIBUTE = 1 << 20
_MOST_OPCODES = 1_000_000  # in a pickle; a ResNet-1202 has 216,000
_LEGACY_PICKLES = 5  # at the start of a file of PyTorch before 1.6, which is not an archive
_MOST_OBJECTS = 50_000  # in an HDF5 file; a ResNet-1202 has 14,000
_VARIABLES = {
    True: ("gamma", "beta", "moving_mean", "moving_variance"),  # of a batch norm
    False: ("kernel", "bias"),
}


@dataclass(frozen=True)
class Stored:
    """An array in a file; `read()` returns it as a NumPy array of this `shape`."""

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


Arrays = dict[str, Stored]  # by name


@dataclass(frozen=True)
class Weights:
    """The content of a file."""

    source: str  # name for messages
    layout: str  # of the names: KERAS is "LAYER/VARIABLE", TORCH is "module.path.variable"
    arrays: Arrays
    normalization: Normalization | None = None  # of its first layer, if the file has it


def read(path: StrPath) -> Weights:
    """Opens a file of weights.

    Args:
        path: a `.keras`, `.weights.h5` or `.h5` file of Keras 3 or 2; `.safetensors`; or a `.pth`,
            `.pt`, `.th` or `.bin` file of PyTorch with a state dict, or a dict that contains one.

    Raises:
        InputError: no such file, a damaged one, or one of another kind.
        CheckFailed: a `.keras` file cannot be unpacked.
    """
    path = require_path(path)
    if path.suffix not in _READERS:
        raise InputError(
            f"{path} is not a weights file; give a run folder, or one of {', '.join(_READERS)}"
        )
    if not path.is_file():
        raise InputError(
            f"no weights file {path}; give a run folder, or one of {', '.join(_READERS)}"
        )
    try:
        weights = _READERS[path.suffix](path)
        # Empty arrays take no space in the file, and could claim any number of classes.
        kept = {name: array for name, array in weights.arrays.items() if 0 not in array.shape}
        return replace(weights, arrays=kept)
    except InputError:
        raise
    except Exception as error:  # exceptions of zip, h5, json, safetensors and PyTorch
        if reason := full_disk(error):
            raise CheckFailed(
                f"cannot unpack {path} in {tempfile.gettempdir()} ({reason}); free some space, or "
                "set TMPDIR to another folder"
            ) from None
        raise InputError(
            f"{path} is damaged or contains no weights ({first_line(error)}); copy or save it again"
        ) from None


def _require_unpacked(path: StrPath) -> None:
    """InputError for an archive that Keras and PyTorch never write: compressed, or with too many
    files."""
    if _directory_bytes(path) > LARGEST_TEXT:
        raise InputError(f"{path} is not a Keras or PyTorch file: its list of files exceeds 8 MB")
    with zipfile.ZipFile(path) as archive:
        packed = [m for m in archive.infolist() if m.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise InputError(
            f"{path} is damaged or not a Keras or PyTorch file: {packed[0].filename!r} in it is "
            "compressed; save it again with Keras or PyTorch"
        )


def _directory_bytes(path: StrPath) -> int:
    """The size of an archive's central directory, which `zipfile` reads as a whole: an entry of 47
    bytes takes 600 in memory. 0 if there is none at the end."""
    with open(path, "rb") as file:
        file.seek(max(Path(path).stat().st_size - (1 << 17), 0))
        tail = file.read()
    end = tail.rfind(b"PK\5\6")
    if end < 0:
        return 0
    large = tail[max(end - 76, 0) : end]  # the record of a ZIP64 archive, and its locator
    size = int.from_bytes(tail[end + 12 : end + 16], "little")
    return int.from_bytes(large[40:48], "little") if large.startswith(b"PK\6\6") else size


def _read_h5(
    path: Any, name: Path | None = None, normalization: Normalization | None = None
) -> Weights:
    import h5py

    file = h5py.File(path, "r")  # stays open, because the arrays are read later
    _require_own_objects(file, name or path)
    arrays = _legacy_arrays(file) or _named_arrays(file)
    if not arrays:
        raise InputError(f"{name or path} contains no weights of Keras layers")
    return Weights(str(name or path), KERAS, arrays, normalization)


def keras_settings(path: StrPath) -> dict[str, Any]:
    """The settings of the network in a `.keras` file; nothing is built.

    Raises:
        InputError: settings of more than 8 MB, or compressed.
        Exception: a damaged file.
    """
    _require_unpacked(path)
    with zipfile.ZipFile(path) as archive:
        if archive.getinfo("config.json").file_size > LARGEST_TEXT:
            raise InputError(
                f"{path} is not a file of this package: its settings take more than 8 MB"
            )
        return json.loads(archive.read("config.json"))


def _read_keras(path: Path) -> Weights:
    config = keras_settings(path)
    with zipfile.ZipFile(path) as archive:
        unpacked = tempfile.TemporaryFile()  # noqa: SIM115 — h5py reads from it later
        with archive.open("model.weights.h5") as stored:
            shutil.copyfileobj(stored, unpacked)
    return _read_h5(unpacked, path, _normalization(config))


def _normalization(config: Mapping[str, Any]) -> Normalization | None:
    """(scale, offset) of the layer `normalize` in the settings of a `.keras` file."""
    for layer in config["config"].get("layers", []):
        if layer.get("class_name") == "Rescaling" and layer["config"]["name"] == "normalize":
            return layer["config"]["scale"], layer["config"]["offset"]
    return None


def _require_own_objects(file: Any, name: object) -> None:
    """InputError if an HDF5 file has more objects than any network, or external links."""
    import h5py

    names: list[str] = []

    def visit(path: str, link: Any) -> str | None:
        names.append(path)
        if len(names) > _MOST_OBJECTS:
            return f"has more than {_MOST_OBJECTS:,} objects"
        return None if isinstance(link, h5py.HardLink) else f"has a link to another file, {path!r}"

    if problem := file.visititems_links(visit):
        raise InputError(f"{name} is not a Keras file: it {problem}; save it again with Keras")


def _attribute(group: Any, name: str, otherwise: Any = None) -> Any:
    """An attribute of an HDF5 group."""
    if otherwise is not None and name not in group.attrs:
        return otherwise
    attribute = group.attrs.get_id(name)
    if math.prod(attribute.shape) * attribute.dtype.itemsize > _LARGEST_ATTRIBUTE:
        raise ValueError(f"the attribute {name!r} takes more than 1 MB")
    return group.attrs[name]


def _named_arrays(file: Any) -> Arrays:
    """Keras 3: groups named after classes, with the layer's name as an attribute."""
    arrays: Arrays = {}

    def visit(path: str, group: Any) -> None:
        parts = path.split("/")
        # Other groups have the optimizer's variables and the seeds of dropout.
        if parts[-1] != "vars" or len(parts) < 3 or parts[-3] != "layers" or not len(group):
            return
        names = _VARIABLES[len(group) == 4]
        for number, dataset in group.items():
            variable = names[int(number)] if int(number) < len(names) else number
            arrays[f"{_attribute(group, 'name')}/{variable}"] = _stored(dataset)

    file.visititems(visit)
    return arrays


def _legacy_arrays(file: Any) -> Arrays:
    """Keras 2, and the files of keras.applications: groups named after layers."""
    root = file.get("model_weights", file)
    arrays: Arrays = {}
    for layer in map(_text, _attribute(root, "layer_names", [])):
        for path in map(_text, _attribute(root[layer], "weight_names")):
            variable = path.split("/")[-1].split(":")[0]
            if f"{layer}/{variable}" in arrays:
                raise ValueError(f"two arrays are called {layer}/{variable}")
            arrays[f"{layer}/{variable}"] = _stored(root[layer][path])
    return arrays


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _stored(dataset: Any) -> Stored:
    # A filter may decompress a few bytes to any size. Each string may have a gigabyte.
    packed = dataset.id.get_create_plist().get_nfilters() > 0
    if packed or dataset.external or dataset.is_virtual or dataset.dtype.kind not in "fiu":
        kind = "compressed" if packed else "no array of numbers in this file"
        raise ValueError(f"{dataset.name} is {kind}")
    if dataset.id.get_storage_size() < dataset.size * dataset.dtype.itemsize:
        raise ValueError(f"{dataset.name} is not in the file")
    return Stored(tuple(dataset.shape), lambda: dataset[()])


def _read_safetensors(path: Path) -> Weights:
    import safetensors

    with open(path, "rb") as content:
        header = int.from_bytes(content.read(8), "little")
    if header > LARGEST_TEXT:
        raise InputError(f"{path} is damaged: its header has {header:,} bytes; copy it again")
    file = safetensors.safe_open(path, framework="numpy")

    def stored(name: str) -> Stored:
        return Stored(tuple(file.get_slice(name).get_shape()), lambda: _float32(file, name, path))

    return _state_dict(path, {name: stored(name) for name in file.keys()})  # noqa: SIM118


def _float32(file: Any, name: str, path: Path) -> np.ndarray:
    try:
        return file.get_tensor(name)
    except (TypeError, AttributeError):  # NumPy has no bfloat16 or float8
        dtype = file.get_slice(name).get_dtype()
        raise InputError(
            f"{path}: {name} is {dtype}, which NumPy does not support; save it as float32"
        ) from None


def _read_torch(path: Path) -> Weights:
    is_archive = zipfile.is_zipfile(path)
    if is_archive:
        _require_unpacked(path)
    _require_plain_pickles(path, is_archive)
    try:
        import torch
    except ImportError:
        raise needs_extra(f"{path} needs torch to be read", "torch") from None
    # weights_only: a pickle may run any code; this loader only calls functions that make tensors.
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
    for key in ("state_dict", "model", "model_state_dict"):
        content = content.get(key, content) if isinstance(content, dict) else content
    if not isinstance(content, dict):
        raise InputError(f"{path} contains a {type(content).__name__}, not a dict of tensors")
    tensors = {name: x for name, x in content.items() if isinstance(x, torch.Tensor)}

    def stored(name: str, tensor: Any) -> Stored:
        plain = tensor.layout is torch.strided and not (tensor.is_meta or tensor.is_quantized)
        if not plain or tensor.is_complex():
            raise InputError(f"{path}: {name} is no dense tensor of numbers; save it as float32")
        if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
            raise InputError(f"{path}: {name} repeats its numbers; save a contiguous copy of it")
        return Stored(tuple(tensor.shape), lambda: tensor.detach().float().numpy())

    return _state_dict(path, {name: stored(name, x) for name, x in tensors.items()})


def _require_plain_pickles(path: Path, is_archive: bool) -> None:
    """InputError if PyTorch's tensors-only loader would exhaust the memory.

    It takes 70 bytes and more for an object of one byte, and allows `bytearray`, which allocates
    any size.
    """
    if not is_archive:
        with open(path, "rb") as file:
            for _ in range(_LEGACY_PICKLES):
                _require_plain(file, path)
        return
    with zipfile.ZipFile(path) as archive:
        names = [name.lower() for name in archive.namelist()]  # as PyTorch compares them
        if len(set(names)) < len(names):
            raise InputError(f"{path} has two files of one name; save it again")
        for name in archive.namelist():
            if name.lower().endswith("data.pkl"):
                with archive.open(name) as file:
                    _require_plain(file, path)


def _require_plain(pickle: IO[bytes], path: Path) -> None:
    for count, (_, argument, _) in enumerate(pickletools.genops(pickle)):
        # Of protocol 2 and older, PyTorch takes Python 2's names of modules too.
        is_bytearray = isinstance(argument, str) and argument.split(" ")[-1] == "bytearray"
        if count > _MOST_OPCODES or is_bytearray:
            raise InputError(
                f"{path} contains more than tensors; load it in PyTorch, and save its state_dict"
            )


def _state_dict(path: Path, arrays: Arrays) -> Weights:
    """The `Weights` of a state dict, without the common prefix that a wrapper adds to all names."""
    for prefix in ("module.", "model."):
        if arrays and all(name.startswith(prefix) for name in arrays):
            arrays = {name.removeprefix(prefix): array for name, array in arrays.items()}
    # A counter that only training uses.
    kept = {n: a for n, a in arrays.items() if not n.endswith("num_batches_tracked")}
    if not kept:
        raise InputError(f"{path} contains no tensors")
    return Weights(str(path), TORCH, kept)


_READERS: dict[str, Callable[[Path], Weights]] = {
    ".keras": _read_keras,
    ".h5": _read_h5,
    ".safetensors": _read_safetensors,
    ".pth": _read_torch,
    ".pt": _read_torch,
    ".th": _read_torch,
    ".bin": _read_torch,
}


def variables(model: "keras.Model") -> dict[str, "keras.Variable"]:
    """Name -> variable, in forward order, including the parts of a deep network."""
    found: dict[str, keras.Variable] = {}
    for layer in model.layers:
        if hasattr(layer, "layers"):
            found |= variables(layer)
        else:
            found |= {f"{layer.name}/{variable.name}": variable for variable in layer.weights}
    return found
