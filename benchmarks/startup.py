"""Measures the start of `keras-resnet train` on many files, and the memory of a training.

    python benchmarks/startup.py --files 100000

Start: seconds from the command to the first step (until its checkpoint is saved), on a folder of
small JPEGs: the first start, the second, one with `--check headers`, and a resume. The time of a
start on 100 files is subtracted, and the result is scaled to 100,000 files. The files are in the
system's cache; reading them from a disk or a network takes longer.

Memory: the peak of a whole training on `--photos` images of 250×250 pixels, kept decoded, over the
three image sizes of the recipe, divided by the sum of the memory of `import tensorflow`, the images
and the activations of one batch.
"""

import argparse
import io
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

FEW = 100  # files of a start that has nothing to do
BATCH = 32
TRAIN = ("--model", "resnet8", "--image-size", "32", "--precision", "float32")
COMMAND = Path(sys.executable).with_name("keras-resnet")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--side", type=int, default=32, help="side of the images in pixels")
    parser.add_argument("--photos", type=int, default=5220)
    parser.add_argument("--json", default="startup.json", help="output file")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        found = {"start": starts(Path(folder), given), "memory": memory(Path(folder), given.photos)}
    report(found, given)


def starts(folder, given):
    """Seconds until the first step: {what: {"seconds", "per_100000"}}."""
    make_images(folder / "few", FEW, given.side)
    make_images(folder / "many", given.files, given.side)
    until_first_step(folder / "few", folder / "warm_up")
    few = until_first_step(folder / "few", folder / "few_run")
    seconds = {
        "first start": until_first_step(folder / "many", folder / "first"),
        "second start": until_first_step(folder / "many", folder / "second"),
        "resume": until_first_step(folder / "many", folder / "second", "--resume"),
    }
    shutil.rmtree(folder / "cache")
    seconds["first start, --check headers"] = until_first_step(
        folder / "many", folder / "headers", "--check", "headers"
    )
    share = 100_000 / given.files
    rows = {name: {"seconds": s, "per_100000": (s - few) * share} for name, s in seconds.items()}
    return {f"{FEW} files": {"seconds": few, "per_100000": 0.0}, **rows}


def until_first_step(data, run, *options):
    """Seconds from the command until the checkpoint of one more step; then it is killed."""
    before = set(run.glob("checkpoints/*.index"))
    if "--resume" in options:
        arguments = ("--resume", run)
    else:
        arguments = (data, *TRAIN, "--run", run, "--checkpoint-every", "1", *options)
    began = time.monotonic()
    with subprocess.Popen([COMMAND, "train", "--quiet", *arguments]) as process:
        while not set(run.glob("checkpoints/*.index")) - before:
            if process.poll() is not None:
                sys.exit(f"the training on {data} ended before its first step")
            time.sleep(0.01)
        seconds = time.monotonic() - began
        process.send_signal(signal.SIGKILL)
    return seconds


def memory(folder, photos):
    """Bytes: {"peak", "tensorflow", "images", "activations", "ratio"}."""
    make_images(folder / "photos", photos, 250)
    train = (COMMAND, "train", folder / "photos", *TRAIN, "--epochs", "6", "--run", folder / "run")
    peak, said = peak_memory(train)
    tensorflow, _ = peak_memory((sys.executable, "-c", "import tensorflow"))
    inspected = subprocess.run(
        [COMMAND, "inspect", "resnet8", "--json"], capture_output=True, check=True
    )
    line = re.search(r"kept decoded in memory: ([\d,]+) MB", said)
    parts = {
        "tensorflow": tensorflow,
        "images": int(line[1].replace(",", "")) * 10**6 if line else 0,
        "activations": BATCH * json.loads(inspected.stdout)["memory"]["activations_training"],
    }
    return {"peak": peak, **parts, "ratio": peak / sum(parts.values())}


def peak_memory(command):
    """(bytes, stderr)."""
    with subprocess.Popen(
        list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command[0]} failed: {said[-500:]}")
    return usage.ru_maxrss * 1024, said


def make_images(folder, count, side):
    """JPEGs in ten classes: copies of 500 different ones."""
    rng, encoded = np.random.default_rng(0), []
    for _ in range(min(count, 500)):
        coarse = rng.integers(0, 256, (side // 4, side // 4, 3), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(coarse).resize((side, side)).save(buffer, "JPEG", quality=85)
        encoded.append(buffer.getvalue())
    for i in range(count):
        home = folder / f"class{i % 10}"
        if i < 10:
            home.mkdir(parents=True)
        (home / f"{i:07d}.jpg").write_bytes(encoded[i % len(encoded)])


def report(found, given):
    """Prints Markdown tables, and writes all as JSON."""
    machine = {
        "cpu": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }
    about = {"files": given.files, "side": given.side, "photos": given.photos, "machine": machine}
    Path(given.json).write_text(json.dumps({**about, "results": found}, indent=2) + "\n")
    print(
        f"| {given.files:,} files | seconds to the first step | beyond {FEW}, per 100,000 files |"
    )
    print("|---|---|---|")
    for name, row in found["start"].items():
        print(f"| {name} | {row['seconds']:.1f} | {row['per_100000']:.1f} |")
    print(f"\n| {given.photos:,} photos kept decoded | GB |\n|---|---|")
    for name in ("peak", "tensorflow", "images", "activations"):
        print(f"| {name} | {found['memory'][name] / 1e9:.2f} |")
    print(f"| peak ÷ the sum of the others | {found['memory']['ratio']:.2f} |")
    print(f"\n{machine['cores']} cores, load {machine['load']:.1f}; {given.json}")


if __name__ == "__main__":
    main()
