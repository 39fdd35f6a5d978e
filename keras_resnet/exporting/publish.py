"""Atomic replacement of a folder, by one process at a time.

New content is made in a folder beside the published one, which then takes its place: two renames.
A failure before them changes nothing; `locked` mends a kill between them.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from keras_resnet.errors import InputError


@contextmanager
def locked(target: Path, *, or_reading: bool = False) -> Iterator[bool]:
    """Holds the lock of the folder `target`, and mends what a killed process left of it.

    The lock is a file beside the folder. It ends with its process.

    Args:
        target: the folder.
        or_reading: whether reading will do: without a lock, where nothing can be written.

    Yields:
        Whether it holds the lock, and the folder may be written.

    Raises:
        InputError: another process holds it, or the folder's parent cannot be written.
    """
    target = _followed(target)
    path = target.parent / f".{target.name}-lock"
    try:
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
        raise InputError(
            f"cannot write in {target.parent}: {error.strerror}; make it writable, or export into "
            "another folder with --output"
        ) from None
    with lock:
        _restore(target)
        _sweep(target)
        try:
            yield True
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Gives a copy of the folder `target`, which takes its place unless there is an error.

    To be used within `locked`.
    """
    target = _followed(target)
    staging = Path(tempfile.mkdtemp(prefix=_prefix(target), dir=target.parent))
    try:
        if target.exists():
            shutil.copytree(target, staging, copy_function=_link, dirs_exist_ok=True)
        yield staging
        staging.chmod(target.stat().st_mode if target.exists() else 0o755)  # it is private
        _flush(staging)
        if target.exists():
            os.rename(target, _old(target))
        os.rename(staging, target)
        shutil.rmtree(_old(target), ignore_errors=True)
    finally:
        _restore(target)
        shutil.rmtree(staging, ignore_errors=True)


def _followed(target: Path) -> Path:
    """The folder that a link leads to: it is written, and the link stays."""
    try:
        return target.resolve() if target.is_symlink() else target
    except (OSError, RuntimeError):  # Python 3.11 raises the second
        raise InputError(f"{target} is a link to itself; give another --output") from None


def _take(path: Path) -> BinaryIO:
    """The locked file, opened. BlockingIOError: another process holds its lock."""
    while True:
        lock = open(path, "ab")  # noqa: SIM115 - for writing: NFS locks nothing else
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever held it before has removed the file: a lock on that would keep nobody out.
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
    """Removes the remains of a killed process."""
    prefix = _prefix(target)
    leftovers = [path for path in target.parent.iterdir() if path.name.startswith(prefix)]
    for leftover in (_old(target), *leftovers):
        shutil.rmtree(leftover, ignore_errors=True)


def _flush(folder: Path) -> None:
    """Waits for the content of new files, or a power cut could leave their names on nothing."""
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_nlink == 1:
            with open(path, "rb+") as file:
                os.fsync(file.fileno())


def _link(source: str, target: str) -> None:
    """A second name for a file, or a copy where links are not possible."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _prefix(target: Path) -> str:
    return f".{target.name}-new-"


def _old(target: Path) -> Path:
    return target.parent / f".{target.name}-old"
