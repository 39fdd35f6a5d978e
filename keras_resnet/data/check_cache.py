"""Cache of the files of a folder that decoded without an error, so that they are checked once.

There is one cache file per data folder, in the user's cache folder. A photo counts as unchanged
while its size and modification time are the same. Only good files are cached.
"""

import hashlib
import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from keras_resnet import runtime
from keras_resnet.data.photo import Header
from keras_resnet.messages import log

# Version of the check: another decoder may fail for other files.
_CHECKER = f"4, TensorFlow {runtime.tensorflow_version()}, Pillow {PIL.__version__}"


def load(root: str) -> dict[str, Header]:
    """The `Header` of each good file of a data folder, by name; {} without a readable cache."""
    if (path := _path(root)) is None:
        return {}
    try:
        with np.load(path) as saved:  # each array has a checksum
            if str(saved["checker"]) != _CHECKER:
                return {}
            names = [os.fsdecode(name) for name in saved["names"].tobytes().split(b"\0")[:-1]]
            columns = [saved[field].tolist() for field in Header._fields]
        return dict(zip(names, map(Header._make, zip(*columns, strict=True)), strict=True))
    except FileNotFoundError:
        return {}
    # RuntimeError: encrypted, or an unknown method of compression.
    except (
        OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        log.debug(f"the cache of checked images is not used: {error}")
        return {}


def save(root: str, headers: Mapping[str, Header]) -> None:
    """Saves headers for `load`; several processes may do so at the same time."""
    if (path := _path(root)) is None:
        return
    columns: dict[str, Any] = {
        field: np.array([header[i] for header in headers.values()], np.int64)
        for i, field in enumerate(Header._fields)
    }
    names = b"".join(os.fsencode(name) + b"\0" for name in headers)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            temporary = file.name
            np.savez(file, checker=_CHECKER, names=np.frombuffer(names, np.uint8), **columns)
        os.replace(temporary, path)
    except OSError as error:
        log.debug(f"the cache of checked images cannot be written: {error}")
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def _path(root: str) -> Path | None:
    """None if the user's cache folder is unknown."""
    if (cache := runtime.cache_folder()) is None:
        return None
    name = hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:32]
    return cache / "checked" / f"{name}.npz"
