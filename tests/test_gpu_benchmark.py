"""The GPU benchmark as a dry run on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent.parent / "benchmarks" / "gpu.py"


def run(*arguments, cwd):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, PROGRAM, *arguments],
        cwd=cwd, env=environment, capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("rows", [["G10"], ["G8", "G10"]], ids=" and ".join)
def test_a_dry_run_goes_the_whole_way(tmp_path, rows):
    done = run("--dry-run", *(f"--only={name}" for name in rows), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("DRY RUN")
    table = [line for line in done.stdout.splitlines() if line.startswith("| G")]
    assert [line.split(" | ")[0] for line in table] == [f"| {name}" for name in rows]
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["dry_run"] and found["card"]["bytes_per_second"] > 0
    for row in found["rows"].values():
        assert 0 < row["least"] <= row["value"] <= row["most"]


def test_without_a_gpu_one_line_says_so(tmp_path):
    done = run(cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("no GPU that TensorFlow can use")
    assert not list(tmp_path.iterdir())
