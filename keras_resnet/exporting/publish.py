"""Atomic replacement of a folder, by one process at a time.

New content is written to a folder beside the published one, which it then replaces: two renames. A
failure before them changes nothing; `locked` repairs the state after a kill between them.
"""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from keras_resnet import files
from keras_resnet.errors import InputError


@contextmanager
def locked(target: Path, *, or_reading: bool = False) -> Iterator[bool]:
    """Holds the lock of the folder `target`, and repairs what a killed process left.

    The lock is a file beside the folder. It is released when its process ends.

    Args:
        target: the folder.
        or_reading: allow reading without a lock if nothing can be written.

    Yields:
        Whether the lock is held, so that the folder may be written.

    Raises:
        InputError: another process holds it, or the folder or its parent cannot be written.
    """
    target = _followed(target)
    path = target.parent / f".{target.name}-lock"
    is_writable = os.access(target, os.W_OK) if target.exists() else True
    try:
        if not (is_writable or or_reading):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target))
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = _take(path)
    except BlockingIOError:
        raise InputError(
            f"another process is writing or verifying {target}; wait for it, or give another "
            "--output"
        ) from None
    except OSError as error:
        if or_reading:
            yield False
            return
        place = target.parent if is_writable else target
        raise InputError(
            f"cannot write in {place}: {error.strerror}; make it writable, or export into another "
            "folder with --output"
        ) from None
    with lock:
        _restore(target)
        _sweep(target)
        if _old(target).exists() and not or_reading:
            raise InputError(
                f"{_old(target)} is left of an earlier export and cannot be deleted; delete it"
            )
        try:
            yield is_writable
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Yields a copy of the folder `target`, which replaces it unless an exception is raised.

    Call it within `locked`.
    """
    target = _followed(target)
    staging = Path(tempfile.mkdtemp(prefix=_prefix(target), dir=target.parent))
    try:
        if target.exists():
            shutil.copytree(target, staging, True, copy_function=_link, dirs_exist_ok=True)
        yield staging
        staging.chmod(target.stat().st_mode if target.exists() else 0o755)  # mkdtemp gives 0o700
        _flush(staging)
        if target.exists():
            os.rename(target, _old(target))
        os.rename(staging, target)
        shutil.rmtree(_old(target), ignore_errors=True)
    finally:
        _restore(target)
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """Yields a temporary folder beside a `staged` one: on its disk, and with its prefix, so that
    `locked` also removes what a kill leaves."""
    place = tempfile.TemporaryDirectory(prefix=f"{folder.name}-", dir=folder.parent)
    with place as made, files.plainly_named(made) as plain:
        yield plain


def _followed(target: Path) -> Path:
    """The target of a symbolic link, which is written instead of the link."""
    try:
        return target.resolve() if target.is_symlink() else target
    except (OSError, RuntimeError):  # Python 3.11 raises the second
        raise InputError(f"{target} is a link to itself; give another --output") from None


def _take(path: Path) -> BinaryIO:
    """The opened and locked file. BlockingIOError: another process holds the lock."""
    while True:
        lock = open(path, "ab")  # noqa: SIM115
        try:
            files.lock(lock)
            # The previous holder removes the file; a lock on a removed file excludes nobody.
            if path.exists() and os.path.samestat(os.fstat(lock.fileno()), os.stat(path)):
                return lock
        except BaseException:
            lock.close()
            raise
        lock.close()


def _restore(target: Path) -> None:
    """Restores the folder after a failure between the two renames."""
    if _old(target).exists() and not target.exists():
        os.rename(_old(target), target)


def _sweep(target: Path) -> None:
    """Removes the files that a killed process left."""
    # Of `staged`, and of a folder beside it with its prefix.
    name = re.compile(re.escape(_prefix(target)) + "[a-z0-9_]{8}(-[a-z0-9_]{8})?")
    leftovers = [path for path in target.parent.iterdir() if name.fullmatch(path.name)]
    for leftover in (_old(target), *leftovers):
        shutil.rmtree(leftover, ignore_errors=True)


def _flush(folder: Path) -> None:
    """Syncs new files to the disk, so that a power cut leaves no empty files."""
    for path in folder.rglob("*"):
        if not path.is_symlink() and path.is_file() and path.stat().st_nlink == 1:
            with open(path, "rb+") as file:
                os.fsync(file.fileno())


def _link(source: str, target: str) -> None:
    """Creates a hard link, or a copy if links are not supported."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _prefix(target: Path) -> str:
    return f".{target.name}-new-"


def _old(target: Path) -> Path:
    return target.parent / f".{target.name}-old"
