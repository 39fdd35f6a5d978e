"""Atomic writes, in which a killed process leaves the old file, never a partial one; file locks."""

import csv
import errno
import fcntl
import io
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from keras_resnet import filenames
from keras_resnet.errors import InputError, first_line
from keras_resnet.messages import log

StrPath = str | os.PathLike[str]
LARGEST_TEXT = 8 << 20  # bytes of JSON; parsing takes 20 times as much memory
REPLACE = "restore it from a copy, or create it again"  # advice for a damaged file
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# A file system has no locks: Lustre may be mounted without them, and a folder of a container.
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
# A spreadsheet executes a cell that begins with one of these; the last four are full-width forms.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def require_path(what: StrPath) -> Path:
    """Returns `what` as a path; raises InputError for another object, such as a Keras model."""
    try:
        return Path(what)
    except TypeError:
        is_model = hasattr(what, "save")
        first = 'save a Keras model first: model.save("model.keras")' if is_model else ""
        raise InputError(
            f"{first_line(repr(what))} is not a path; {first or 'give that of a file or folder'}"
        ) from None


def require_png(png: StrPath | None, option: str = "--png") -> None:
    """`require_file` for a PNG file."""
    require_file(png, option, "png")


def require_file(path: StrPath | None, option: str, suffix: str) -> None:
    """Checks the path of an output file before the work starts.

    Raises:
        InputError: the path does not end in `suffix`, its folder does not exist or is not
            writable, or it is a file of the run or export in that folder.
    """
    if not path:
        return
    place = Path(path)
    is_named = str(path).endswith(f".{suffix}") and not place.is_dir()
    if not (is_named and place.parent.is_dir()):
        raise InputError(
            f"{option} is {str(path)!r}; expected FILE.{suffix} in a folder that exists"
        )
    if not os.access(place.parent, os.W_OK):
        raise InputError(f"{option} is {str(path)!r}; its folder cannot be written")
    rows = place.with_name(filenames.MANIFEST)
    if place.exists() and rows.exists() and place.name in read_json(rows):
        raise InputError(
            f"{option} is {str(path)!r}, which belongs to the run or export in {place.parent}; "
            "give another name"
        )


@contextmanager
def atomic(path: StrPath) -> Iterator[Path]:
    """Yields a temporary path beside `path`; the file written there replaces `path` on success.

    On an error `path` stays unchanged, and the temporary file is removed. The error of a full disk
    has its name.
    """
    path = Path(path)
    temporary = path.with_name(path.name + ".part")  # same folder: a rename cannot cross disks
    temporary.unlink(missing_ok=True)  # as a link, it would lead to a file elsewhere
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # otherwise a power cut could leave an empty file
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in DISK_FULL and error.filename is None:  # as of write()
            raise OSError(error.errno, error.strerror, os.fspath(path)) from None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def lock(file: IO[bytes], *, wait: bool = False) -> None:
    """Locks a file, opened for writing, until it is closed or its process ends.

    Where the file system has no locks, it only warns.

    Args:
        file: the file; NFS requires one that is opened for writing.
        wait: wait until no other process holds the lock.

    Raises:
        BlockingIOError: another process holds the lock.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        folder = Path(file.name).parent
        log.warning(
            f"the file system of {folder} has no locks; let no other process write in this folder"
        )


@contextmanager
def plainly_named(folder: StrPath) -> Iterator[Path]:
    """Yields a path to `folder` that TensorFlow does not interpret as a pattern.

    TensorFlow's readers of checkpoints and SavedModels take a path as a UTF-8 glob pattern, in
    which `[` and others have a special meaning. A path with such characters is replaced by a
    temporary link.
    """
    if _is_plain(os.fspath(folder)):
        yield Path(folder)
        return
    place = tempfile.gettempdir()
    with tempfile.TemporaryDirectory(dir=place if _is_plain(place) else "/tmp") as scratch:
        link = Path(scratch, "folder")
        link.symlink_to(Path(folder).absolute(), target_is_directory=True)
        yield link


def _is_plain(path: str) -> bool:
    return not set(path) & set("*?[]{}\\") and path.isprintable()


def full_disk(error: Exception | str) -> str | None:
    """The reason, such as "No space left on device", if the error is a full disk; else None.

    TensorFlow and others raise their own errors for it, with the system's message.
    """
    reasons = map(os.strerror, DISK_FULL)
    return next((reason for reason in reasons if reason in str(error)), None)


def next_step(reason: str) -> str:
    """The next step after a write that failed, by the system's reason."""
    if full_disk(reason):
        return "free some space"
    permissions = map(os.strerror, (errno.EACCES, errno.EPERM, errno.EROFS))
    return "make it writable" if any(text in reason for text in permissions) else "check the disk"


def cannot_write(error: Exception, folder: Path) -> str | None:
    """The reason if the disk is full, or Python cannot write a file in the folder; else None."""
    if isinstance(error, OSError) and str(error.filename or "").startswith(str(folder)):
        return error.strerror
    return full_disk(error)


def write_text(path: StrPath, text: str) -> None:
    """Atomically writes `text` as UTF-8 with "\\n" line ends."""
    # Python reads a file name that is not UTF-8 as lone surrogates, which UTF-8 cannot encode.
    # backslashreplace writes them as "\udcff", which is also their escape in JSON.
    content = text.encode("utf-8", errors="backslashreplace")
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def read_text(path: StrPath, content: bytes | None = None) -> str:
    """The UTF-8 text in a file; InputError if it is damaged.

    Args:
        path: path of the file.
        content: the bytes of the file, if already read.
    """
    content = Path(path).read_bytes() if content is None else content
    try:
        text = content.decode("utf-8-sig")  # Windows' editors write a byte order mark
    except UnicodeDecodeError:
        raise InputError(f"{path} is damaged: it is not UTF-8 text; {REPLACE}") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: StrPath, content: bytes | None = None) -> list[str]:
    """The lines of a text file. Only a line feed ends a line: labels may hold other separators."""
    text = read_text(path, content)
    return text.removesuffix("\n").split("\n") if text else []


def read_json(path: StrPath, content: bytes | None = None) -> dict[str, Any]:
    """The object in a JSON file; InputError if it is damaged."""
    try:
        document = json.loads(read_text(path, content))
    except (ValueError, RecursionError) as error:  # ValueError: also for too many digits
        raise InputError(f"{path} is damaged: it is not JSON ({error}); {REPLACE}") from None
    if not isinstance(document, dict):
        raise InputError(f"{path} is damaged: it does not contain a JSON object; {REPLACE}")
    return document


def write_json(path: StrPath, content: Mapping[str, Any]) -> None:
    """Atomically writes `content`, which may hold NumPy numbers and arrays, as indented JSON."""
    text = json.dumps(content, indent=2, ensure_ascii=False, default=_plain)
    write_text(path, text + "\n")


def _plain(value: Any) -> Any:
    """NumPy numbers and arrays as Python objects, without importing NumPy."""
    if not hasattr(value, "tolist"):
        raise TypeError(f"JSON has no {type(value).__name__}")
    return value.tolist()


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as CSV. Text that a spreadsheet would execute as a formula gets a leading apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([[_harmless(cell) for cell in row] for row in rows])
    return text.getvalue()


def _harmless(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
