"""manifest.json: size and sha256 of the files beside it, to detect damage.

A run folder and an export folder have one each. It has a row `{"bytes": …, "sha256": …}` for the
name of each file, or of a folder that is treated as one file.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from keras_resnet import filenames
from keras_resnet.errors import InputError
from keras_resnet.files import REPLACE, StrPath, read_json


def fingerprint(path: StrPath, content: bytes | None = None) -> dict[str, Any]:
    """{"bytes": …, "sha256": …} of a file, or of all files in a folder with their names.

    Args:
        path: path of the file or folder.
        content: the bytes of the file, if already read.
    """
    path = Path(path)
    if content is not None:
        return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    if path.is_file():
        with open(path, "rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        return {"bytes": path.stat().st_size, "sha256": digest}
    whole, total = hashlib.sha256(), 0
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        one = fingerprint(file)
        whole.update(f"{file.relative_to(path).as_posix()} {one['sha256']}\n".encode())
        total += one["bytes"]
    return {"bytes": total, "sha256": whole.hexdigest()}


def read(folder: StrPath) -> dict[str, dict[str, Any]]:
    """The rows of a folder's manifest by name; {} if it has none.

    Raises:
        InputError: the manifest is damaged.
    """
    path = Path(folder, filenames.MANIFEST)
    rows = read_json(path) if path.exists() else {}
    for name, row in rows.items():
        if not isinstance(row, dict) or not {"bytes", "sha256"} <= row.keys():
            raise InputError(f"{path} is damaged: {name!r} has no size and sha256; {REPLACE}")
    return rows


def is_of(found: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """Whether a fingerprint matches a row of the manifest."""
    return all(row.get(key) == value for key, value in found.items())


def require_unchanged(
    path: StrPath, content: bytes | None = None, *, beside: Iterable[str] = ()
) -> None:
    """Raises InputError if a file or folder differs from its row in the manifest beside it.

    Files without a row, such as those of other tools, are accepted.

    Args:
        path: path of the file or folder.
        content: the bytes of the file, if already read.
        beside: names of files in the same folder that must be unchanged too, if they exist.
    """
    path = Path(path)
    rows = read(path.parent)
    contents = {path.name: content, **dict.fromkeys(beside)}
    for name, known in contents.items():
        file = path.with_name(name)
        if name in rows and file.exists() and not is_of(fingerprint(file, known), rows[name]):
            raise InputError(
                f"{file} is damaged: its sha256 is not the one in "
                f"{file.with_name(filenames.MANIFEST)}; export it again, or restore it from a copy"
            )
