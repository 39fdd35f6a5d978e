"""Compares training on a GPU with Keras' `fit`, torch.compile and the limits of the GPU.

    python benchmarks/gpu.py [--only G1 …] [--quick]
    python benchmarks/gpu.py --dry-run     # tiny networks on the CPU; measures no speed

The bounds come from two measurements on random data: the copy bandwidth and an 8192³ bfloat16
matrix product. Each network is trained in its own process, with its own memory and flags, on one
constant batch of random bytes. Two networks are compared in turn, A B A B …, if both fit into the
GPU's memory. Without PyTorch (torch, torchvision), its row is skipped.
"""

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

from pairs import PAIRS, measure
from trainings import Child, Job

# row -> (what, must, goal, stretch); "≤" if less is better
ROWS = {
    "G1": ("ResNet-50 img/s, ours ÷ keras.applications in `fit` with XLA", "≥ 1.0", "1.10", "1.25"),
    "G3": ("ResNet-50 img/s, ours ÷ torchvision, torch.compile", "≥ 0.75", "0.95", "1.10"),
    "G5": ("ResNet-50 img/s ÷ (bandwidth ÷ 331 MB)", "≥ 0.24", "0.40", "0.50"),
    "G8": ("ResNet-20 img/s, ours ÷ plain Keras `fit` with XLA", "≥ 1.0", "1.5", "3"),
    "G10": ("ResNet-20, 64,000 steps: seconds ÷ roofline", "≤ 10", "5", "3"),
}
# Least memory traffic of a training step in bfloat16, in bytes per image. That of ResNet-20 is a
# bound of 167 µs for 128 images at 3.0 TB/s, the copy bandwidth of the H100 used to derive it.
BYTES_PER_IMAGE = {"resnet50": 331e6, "resnet20": 3.9e6}
STEPS_OF_THE_PAPER = 64_000  # arXiv:1512.03385, section 4.2
MEMORY_FOR_TWO = 40e9  # bytes: two ResNet-50 at batch 256 took 11 GB each, and more to compile


def jobs(dry_run, quick):
    """The networks by name; with `dry_run`, tiny ones."""
    big = {"classes": 1000, "size": 224, "batch": 256, "policy": "mixed_bfloat16", "xla": True}
    small = {"classes": 10, "size": 32, "batch": 128, "policy": "mixed_bfloat16", "xla": True}
    many, few = (100, 10) if quick else (300, 30)
    v1, v15 = "resnet50_v1", "resnet50"
    if dry_run:
        big = small = {"classes": 10, "size": 32, "batch": 2, "policy": "float32", "xla": False}
        many, few = 1, 1
        v1 = v15 = "resnet8"
    # keras.applications has v1, torchvision v1.5: the stride of a block is in another layer.
    return {
        "ours v1": Job("ours", v1, **big, steps=few),
        "keras v1": Job("keras", "ResNet50", **big, steps=few),
        "ours v1.5": Job("ours", v15, **big, steps=few),
        "torch v1.5": Job("torch", "resnet50", **big, steps=few),
        "ours resnet20": Job("ours", "resnet20", **small, steps=many),
        "keras resnet20": Job("keras", "resnet20", **small, steps=many),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--only", action="append", choices=ROWS, metavar="ROW", help=", ".join(ROWS)
    )
    parser.add_argument("--quick", action="store_true", help="3 pairs, with a third of the steps")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes on the CPU")
    parser.add_argument("--json", default="gpu.json", help="output file")
    parser.add_argument("--probe", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.probe:
        print(json.dumps(probe(given.dry_run)))
        return 0
    os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"  # two processes share the card
    if given.dry_run:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    command = [sys.executable, __file__, "--probe", *["--dry-run"] * given.dry_run]
    probed = subprocess.run(command, capture_output=True, text=True)
    if probed.returncode:
        last = probed.stderr.strip().rpartition("\n")[2]
        print(f"the probe ended with status {probed.returncode}: {last}", file=sys.stderr)
        return 2
    card = json.loads(probed.stdout.splitlines()[-1])  # libraries may print lines before it
    if not card["gpus"] and not given.dry_run:
        print("no GPU that TensorFlow can use; --dry-run runs on the CPU", file=sys.stderr)
        return 2
    pairs = 2 if given.dry_run else 3 if given.quick else PAIRS
    bench = Bench(jobs(given.dry_run, given.quick), card, pairs)
    rows = {}
    for name in given.only or ROWS:
        rows[name] = bench.row(name)
        save(rows, card, given, pairs)  # after each row, since all take ten minutes
        print(f"{name}: {_cells(rows[name])}", file=sys.stderr, flush=True)
    report(rows, card, given, pairs)
    return 0


class Bench:
    """Measures rows; a network that several rows measure alone is measured once."""

    def __init__(self, jobs: dict[str, Job], card: dict, pairs: int):
        self._jobs, self._card, self._pairs = jobs, card, pairs
        self._speeds = {}

    def row(self, name: str) -> dict:
        """{value, least, most, ours, theirs, quiet}, or {skipped: why}."""
        print(f"{name}: {ROWS[name][0]} …", file=sys.stderr, flush=True)
        try:
            return getattr(self, f"_{name.lower()}")()
        except ChildProcessError as error:
            return {"skipped": str(error)}

    def _g1(self):
        return self._pair("ours v1", "keras v1")

    def _g3(self):
        for package in ("torch", "torchvision"):
            if importlib.util.find_spec(package) is None:
                return {"skipped": f"{package} is not installed"}
        return self._pair("ours v1.5", "torch v1.5")

    def _g5(self):
        bound = self._card["bytes_per_second"] / BYTES_PER_IMAGE["resnet50"]
        return _against(self._alone("ours v1.5")[1:], bound)

    def _g8(self):
        return self._pair("ours resnet20", "keras resnet20")

    def _g10(self):
        images = STEPS_OF_THE_PAPER * self._jobs["ours resnet20"].batch
        roofline = images * BYTES_PER_IMAGE["resnet20"] / self._card["bytes_per_second"]
        speeds = self._alone("ours resnet20")[1:]
        return _against([images / speed for speed in speeds], roofline)

    def _alone(self, name):
        """Images per second of a network, for each call of `measure`; the first warms up."""
        if name not in self._speeds:
            with Child(self._jobs[name]) as child:
                self._speeds[name] = [child.speed() for _ in range(self._pairs + 2)]
        return self._speeds[name]

    def _pair(self, ours, theirs):
        """The ratio of two networks' images per second."""
        memory = self._card["memory"]
        if memory and memory < MEMORY_FOR_TWO:  # one after the other, which is noisier
            speeds = [iter(self._alone(name)) for name in (ours, theirs)]
            found = measure(speeds[0].__next__, speeds[1].__next__, self._pairs)
        else:
            with (
                Child(self._jobs[ours]) as mine,
                Child(self._jobs[theirs]) as other,
            ):
                found = measure(mine.speed, other.speed, self._pairs)
        ratio = found.pop("ratio")
        return {"value": ratio["median"], "least": ratio["least"], "most": ratio["most"], **found}


def _against(figures, bound):
    """The results relative to the limits of the GPU."""
    middle = statistics.median(figures)
    return {
        "value": middle / bound,
        "least": min(figures) / bound,
        "most": max(figures) / bound,
        "ours": middle,
        "theirs": bound,
        "quiet": True,
    }


def probe(dry_run: bool) -> dict:
    """The GPUs, their memory, and the speed of the first GPU on random data."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    card = {
        "gpus": [tf.config.experimental.get_device_details(gpu)["device_name"] for gpu in gpus],
        "memory": _memory() if gpus else None,
    }
    if not gpus and not dry_run:
        return card
    count, side = (2**20, 256) if dry_run else (2**28, 8192)
    numbers = tf.random.stateless_normal((count,), (0, 0))
    a, b = (tf.cast(tf.random.stateless_normal((side, side), (0, n)), tf.bfloat16) for n in (1, 2))
    # A negation reads and writes every value once, like a copy.
    return card | {
        "bytes_per_second": 2 * 4 * count / _seconds(lambda: tf.negative(numbers)),
        "product_flops_per_second": 2 * side**3 / _seconds(lambda: tf.matmul(a, b)),
    }


def _seconds(run, calls=20, rounds=5):
    """Median seconds of a call; reading a value synchronizes with the GPU."""
    value = run()
    times = []
    for _ in range(1 + rounds):  # the first warms up
        began = time.perf_counter()
        for _ in range(calls):
            value = run()
        value[0].numpy()
        times.append((time.perf_counter() - began) / calls)
    return statistics.median(times[1:])


def _memory():
    """Memory of the first GPU in bytes; None without nvidia-smi."""
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return int(said.split()[0]) * 2**20


def versions() -> dict:
    """Versions of the frameworks; None for one that is not installed."""
    found = {}
    for package in ("tensorflow", "keras", "torch", "torchvision"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def save(rows: dict, card: dict, given: argparse.Namespace, pairs: int) -> None:
    """Writes everything as JSON."""
    about = {"dry_run": given.dry_run, "quick": given.quick, "pairs": pairs}
    machine = {"python": platform.python_version(), "cores": os.cpu_count(), **versions()}
    Path(given.json).write_text(
        json.dumps({**about, "card": card, "machine": machine, "rows": rows}, indent=2) + "\n"
    )


def report(rows: dict, card: dict, given: argparse.Namespace, pairs: int) -> None:
    """Prints the rows as a Markdown table."""
    if given.dry_run:
        print("DRY RUN: tiny networks on the CPU; these are not the speeds of a GPU\n")
    print(
        f"{', '.join(card['gpus']) or 'CPU'}: copies {card['bytes_per_second'] / 1e12:.3g} TB/s, "
        f"bfloat16 product {card['product_flops_per_second'] / 1e12:.3g} TFLOP/s\n"
    )
    print("| id | ratio | must | goal | stretch | median | min … max | ours | theirs or bound |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, row in rows.items():
        print(f"| {name} | {' | '.join(ROWS[name])} | {_cells(row)} |")
    listed = ", ".join(f"{package} {version}" for package, version in versions().items() if version)
    print(f"\n{pairs} pairs; {listed}; {given.json}")


def _cells(row):
    if "skipped" in row:
        return f"skipped: {row['skipped']} | | |"
    shown = f"{row['value']:.2f}" if row["quiet"] else "too noisy"
    return (
        f"{shown} | {row['least']:.2f} … {row['most']:.2f} | {row['ours']:,.6g} | "
        f"{row['theirs']:,.6g}"
    )


if __name__ == "__main__":
    sys.exit(main())
