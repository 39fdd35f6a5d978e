"""Atomic replacement of a folder.

New content is made in a folder beside the published one, which then takes its place: two renames.
A failure before them changes nothing; `restore` mends a kill between them.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Gives a copy of the folder `target`, which takes its place unless there is an error."""
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=_prefix(target), dir=target.parent))
    try:
        if target.exists():
            shutil.copytree(target, staging, copy_function=_link, dirs_exist_ok=True)
        yield staging
        staging.chmod(0o755)  # mkdtemp made it private
        if target.exists():
            os.rename(target, _old(target))
        os.rename(staging, target)
        shutil.rmtree(_old(target), ignore_errors=True)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def restore(target: Path) -> None:
    """Restores the folder after a kill between the two renames."""
    if _old(target).exists() and not target.exists():
        os.rename(_old(target), target)


def sweep(target: Path) -> None:
    """Removes the remains of a killed process, unless another process works on `target`."""
    beside = target.parent.iterdir() if target.parent.is_dir() else ()
    for path in beside:
        if path.name == _old(target).name or path.name.startswith(_prefix(target)):
            shutil.rmtree(path, ignore_errors=True)


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
