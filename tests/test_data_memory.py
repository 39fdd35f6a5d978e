"""Available memory: the minimum over the machine and the control groups of the process."""

import os

import pytest

from keras_resnet.data.memory import available

MACHINE = "MemTotal: 8000 kB\nMemAvailable: 4000 kB\n"


def _system(root, files):
    for name, text in {"proc/meminfo": MACHINE, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V1 = {
    "proc/self/cgroup": "4:memory:/a/b\n2:cpu:/\n0::/\n",
    "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "900000\n",
    "sys/fs/cgroup/memory/a/memory.usage_in_bytes": "500000\n",
    "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": "9223372036854771712\n",
    "sys/fs/cgroup/memory/a/b/memory.usage_in_bytes": "400000\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": "600000\n",
}
V2 = {
    "proc/self/cgroup": "0::/a\n",
    "sys/fs/cgroup/a/memory.max": "700000\n",
    "sys/fs/cgroup/a/memory.current": "500000\n",
    "sys/fs/cgroup/a/memory.stat": "anon 300000\ninactive_file 150000\n",
}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 4_096_000),
        (V1, 400_000),
        (V2, 350_000),  # pages of files do not count
        ({**V2, "sys/fs/cgroup/a/memory.max": "max\n"}, 4_096_000),
        ({**V2, "sys/fs/cgroup/a/memory.current": "800000\n"}, 50_000),
        ({**V2, "sys/fs/cgroup/a/memory.current": "900000\n"}, 0),
        # In a container: the path is that on the host.
        ({**V2, "proc/self/cgroup": "0::/host/path\n", "sys/fs/cgroup/memory.max": "70000",
          "sys/fs/cgroup/memory.current": "50000"}, 20_000),
    ],
)  # fmt: skip
def test_the_least_of_machine_and_groups(files, expected, tmp_path):
    assert available(_system(tmp_path, files)) == expected


def test_of_a_system_that_does_not_tell_it_is_half_of_the_memory(tmp_path):
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert available(tmp_path) == whole // 2


def test_this_machine_has_some():
    assert 0 < available() < 1 << 50
