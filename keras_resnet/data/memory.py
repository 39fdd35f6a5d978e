"""The memory available to this process."""

import os
from collections.abc import Iterator
from pathlib import Path

from keras_resnet.files import StrPath


def available(root: StrPath = "/") -> int:
    """Bytes that can be allocated before the system swaps or a container's limit kills the process.

    The minimum of the machine's available memory (half of its memory where the system is not Linux)
    and of the rest of the limit of each control group of this process (version 1 or 2).

    Args:
        root: parent folder of `proc` and `sys`; for tests.
    """
    root = Path(root)
    half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    of_machine = _fields(root / "proc/meminfo").get("MemAvailable:")
    free = [half if of_machine is None else 1024 * of_machine]
    for group, limit, usage, cache in _groups(root):
        most, used = _number(group / limit), _number(group / usage)
        if most is not None and used is not None:
            # The page cache counts as used, but is reclaimed first.
            reclaimable = _fields(group / "memory.stat").get(cache, 0)
            free.append(most - max(used - reclaimable, 0))
    return max(min(free), 0)


def _groups(root: Path) -> Iterator[tuple[Path, str, str, str]]:
    """(folder, files of limit and usage, field of reclaimable pages) of this process' groups."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            mount = root / "sys/fs/cgroup/memory"
            names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
        elif not controllers:
            mount = root / "sys/fs/cgroup"
            names = "memory.max", "memory.current", "inactive_file"
        else:
            continue
        group = mount / path.strip("/")
        # In a container the path may be that of the host; then the mount itself is the group.
        for folder in (group, *group.parents):
            if folder.is_relative_to(mount):
                yield folder, *names


def _fields(path: Path) -> dict[str, int]:
    """{name: number} from a file with lines "NAME NUMBER …"."""
    rows = [line.split() for line in _lines(path)]
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}


def _number(path: Path) -> int | None:
    """The number in a file; None if there is none, or "max"."""
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
