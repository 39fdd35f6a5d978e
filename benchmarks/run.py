"""Compares this package on the CPU with Keras, PyTorch, TensorFlow Lite's converter, ONNX Runtime
and the limits of the machine.

    python benchmarks/run.py [--only C5 …] [--quick]

Each row is measured in its own process. The two sides take turns, A B A B …, on the same inputs,
random data or generated photos, with the same number of threads. Writes to benchmarks/results/.
"""

import argparse
import importlib
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from pairs import PAIRS, NotMeasured, Setting

from keras_resnet import runtime

HERE = Path(__file__).parent
PACKAGES = (
    "keras-resnet-edge", "tensorflow", "keras", "numpy", "ai-edge-litert", "onnxruntime", "tf2onnx",
    "torch", "torchvision", "simplejpeg",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A comparison; the function of the same name in `module` measures it."""

    id: str
    what: str
    bound: str  # "≤" or "≥"
    must: float
    goal: float
    module: str
    needs: tuple[str, ...] = ()  # packages of the extra `benchmark`

    def verdict(self, value: float) -> str:
        def holds(limit: float) -> bool:
            return value <= limit if self.bound == "≤" else value >= limit

        return "goal met" if holds(self.goal) else "must met" if holds(self.must) else "missed"


SKLEARN, ONNX = ("sklearn",), ("sklearn", "onnx", "onnxruntime", "tf2onnx")
ROWS = (
    Row("C1", "`--help`, `models`, `recipes`, a misspelt option: seconds of the slowest",
        "≤", 0.5, 0.3, "commands"),
    Row("C4", "building ResNet-50 v1 ÷ keras.applications", "≤", 1.1, 0.9, "step"),
    Row("C5", "training step of ResNet-50 v1, float32 ÷ keras.applications in `fit`",
        "≤", 0.80, 0.72, "step"),
    Row("C5b", "the same in the number format that the command chooses ÷ float32 `fit`",
        "≤", 0.40, 0.28, "step"),
    Row("C7", "training step of ResNet-20, float32 ÷ plain Keras in `fit`",
        "≤", 0.75, 0.65, "step"),
    Row("C7b", "the same, both in mixed_bfloat16", "≤", 0.55, 0.45, "step"),
    Row("C8", "input pipeline, images/s ÷ `image_dataset_from_directory` and Keras' layers",
        "≥", 1.2, 1.8, "pipeline", SKLEARN),
    Row("C9", "the same ÷ PyTorch's DataLoader with torchvision, a worker per core",
        "≥", 1.0, 1.3, "pipeline", (*SKLEARN, "torch", "torchvision")),
    Row("C10", "the same ÷ libjpeg-turbo decoding whole photos on all cores",
        "≥", 0.6, 0.85, "pipeline", (*SKLEARN, "simplejpeg")),
    Row("C11", "size of ResNet-50, int8 ÷ float32 `.tflite`",
        "≤", 0.27, 0.258, "exported", SKLEARN),
    Row("C12-1", "latency of ResNet-50, int8 ÷ float32 `.tflite`, 1 thread",
        "≤", 0.60, 0.40, "exported", SKLEARN),
    Row("C12-2", "the same, 2 threads", "≤", 0.60, 0.40, "exported", SKLEARN),
    Row("C12b", "int8 `.tflite` ÷ TensorFlow's plain int8 conversion, 1 thread",
        "≤", 1.03, 1.0, "exported", SKLEARN),
    Row("C13", "float32 `.tflite` ÷ ONNX Runtime float32, 1 thread",
        "≤", 1.4, 1.1, "exported", ONNX),
    Row("C14", "int8 `.tflite` ÷ ONNX Runtime int8 (QDQ), 1 thread",
        "≤", 1.2, 0.9, "exported", ONNX),
    Row("C15", "float32 `.tflite` in GFLOP/s ÷ NumPy's product of 2048² matrices, 1 thread",
        "≥", 0.40, 0.60, "exported", (*SKLEARN, "threadpoolctl")),
    Row("C16-drop", "top-1 of ResNet-20 on real images, float32 − int8, in points",
        "≤", 0.5, 0.3, "exported"),
    Row("C16-agreement", "the same: share of equal answers of int8 and the Keras model",
        "≥", 0.97, 0.985, "exported"),
    Row("C17", "operators of the float32 `.tflite` of ResNet-50", "≤", 79, 76, "exported", SKLEARN),
    Row("C18", "largest relative error of a logit, float32 `.tflite` and the Keras model",
        "≤", 1e-4, 1e-5, "exported", SKLEARN),
    Row("C19", "`predict` of 64 photos ÷ a bare interpreter started and invoked 64 times",
        "≤", 1.5, 1.2, "commands", SKLEARN),
    Row("C20", "`predict FILE.tflite` of one photo ÷ the Python bundle",
        "≤", 2, 1.3, "commands", SKLEARN),
    Row("C21", "seconds per 100,000 known files until the first step of `train`",
        "≤", 10, 3, "commands", SKLEARN),
    Row("C22", "peak memory of `train` ÷ (TensorFlow + images + activations of a batch)",
        "≤", 1.5, 1.2, "commands", SKLEARN),
)  # fmt: skip


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--only", nargs="+", metavar="ROW", help="rows to measure: C5, or C12 for all that begin so"
    )
    parser.add_argument("--quick", action="store_true", help="3 pairs instead of 7")
    parser.add_argument("--photos", type=Path, metavar="DIR",
                        help="real images for C16, a folder per class  [digits]")  # fmt: skip
    parser.add_argument("--output", type=Path, default=HERE / "results", metavar="DIR",
                        help="folder for the results  [benchmarks/results]")  # fmt: skip
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.child:
        return serve(*given.child)
    rows = [row for row in ROWS if not given.only or {row.id, row.id.split("-")[0]} & {*given.only}]
    known = {name for row in ROWS for name in (row.id, row.id.split("-")[0])}
    if unknown := {*(given.only or ())} - known:
        parser.error(f"no row {min(unknown)}; expected one of {', '.join(r.id for r in ROWS)}")
    pairs = 3 if given.quick else PAIRS
    machine, results = about(), {}
    with tempfile.TemporaryDirectory() as folder:
        photos = given.photos and given.photos.resolve()
        setting = Setting(Path(folder), pairs, photos)
        for row in rows:
            print(f"{row.id}: {row.what} …", file=sys.stderr, flush=True)
            results[row.id] = result = measured(row, setting)
            print(f"    {' | '.join(cells(row, result)[2:])}", file=sys.stderr, flush=True)
            table = write(given.output, machine, results, pairs)  # after each, since all take long
    print(table)
    return 0


def measured(row: Row, setting: Setting) -> dict:
    """The result of the row's function, the verdict and the duration in seconds."""
    began = time.monotonic()
    missing = [package for package in row.needs if importlib.util.find_spec(package) is None]
    if missing:
        needs = f"needs {', '.join(missing)}: pip install '.[benchmark]'"
        return {"verdict": f"not measured: {needs}"}
    answer = setting.folder / "answer.json"
    answer.unlink(missing_ok=True)
    order = json.dumps({**asdict(setting), "row": row.id}, default=str)
    child = [sys.executable, __file__, "--child", order, str(answer)]
    # In its folder, because rows create runs.
    done = subprocess.run(child, cwd=setting.folder, capture_output=True, text=True)
    if answer.exists():
        result = json.loads(answer.read_text())
    else:
        print(done.stderr, file=sys.stderr)
        result = {"verdict": f"failed: {(done.stderr.strip() or 'no output').splitlines()[-1]}"}
    if "ratio" in result:
        value = result["ratio"]["median"]
        result["verdict"] = row.verdict(value) if result["quiet"] else "too noisy"
    return {**result, "seconds": round(time.monotonic() - began, 1)}


def serve(order: str, answer: str) -> int:
    """In a child process: measures one row."""
    given = json.loads(order)
    photos = given["photos"] and Path(given["photos"])
    setting = Setting(Path(given["folder"]), given["pairs"], photos)
    # Checks of images are cached for all rows, but not beyond this program.
    os.environ["XDG_CACHE_HOME"] = str(setting.folder / "cache")
    (row,) = (row for row in ROWS if row.id == given["row"])
    try:
        module = importlib.import_module(row.module)
        result = getattr(module, row.id.lower().replace("-", "_"))(setting)
    except NotMeasured as why:
        result = {"verdict": f"not measured: {why}"}
    except Exception as error:
        traceback.print_exc()
        print(f"{type(error).__name__}: {error}".splitlines()[0], file=sys.stderr)
        return 1
    Path(answer).write_text(json.dumps(result))
    return 0


def about() -> dict:
    """The machine, the date and the versions."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "cpu": runtime.cpu_name(),
        "cores": os.cpu_count(),
        "flags": runtime.fast_cpu_flags(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "load": round(os.getloadavg()[0], 2),  # of other programs, before the first row
    }


def write(folder: Path, machine: dict, results: dict, pairs: int) -> str:
    """Writes JSON and a Markdown table; returns the table."""
    folder.mkdir(parents=True, exist_ok=True)
    cpu = re.sub(r"[^a-z0-9]+", "-", machine["cpu"].lower()).strip("-")
    stamp = re.sub(r"\D", "", machine["date"])
    path = folder / f"{cpu}-{machine['cores']}-cores-{stamp[:8]}-{stamp[8:]}"
    described = {row.id: {"what": row.what, "must": row.must, "goal": row.goal} for row in ROWS}
    rows = {name: {**described[name], **result} for name, result in results.items()}
    document = json.dumps({"machine": machine, "pairs": pairs, "rows": rows}, indent=2)
    path.with_suffix(".json").write_text(document + "\n")
    listed = ", ".join(f"{name} {v}" for name, v in machine["versions"].items() if v)
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, {' '.join(machine['flags'])}; "
        f"{machine['date']}, load {machine['load']}; {pairs} pairs.",
        "",
        f"Python {machine['python']}, {listed}.",
        "",
        "| id | what | median (min … max) | A against A | must | goal | result | seconds |",
        "|---|---|---|---|---|---|---|---|",
        *(f"| {' | '.join(cells(row, results[row.id]))} |" for row in ROWS if row.id in results),
    ]
    text = "\n".join(lines) + "\n"
    path.with_suffix(".md").write_text(text)
    return text


def cells(row: Row, result: dict) -> list[str]:
    """The cells of a row of the table."""
    ratio, itself = result.get("ratio"), result.get("against_itself")
    middle = f"{ratio['median']:.3g} " if ratio and result["quiet"] else ""
    single = ratio and ratio["least"] == ratio["most"]
    spread = "" if single or not ratio else f"({ratio['least']:.3g} … {ratio['most']:.3g})"
    return [
        row.id,
        row.what,
        f"{middle}{spread}".strip(),
        f"{itself['median']:.2f} ({itself['least']:.2f} … {itself['most']:.2f})" if itself else "",
        f"{row.bound} {row.must:g}",
        f"{row.bound} {row.goal:g}",
        result["verdict"],
        f"{result.get('seconds', 0):.0f}",
    ]


if __name__ == "__main__":
    sys.exit(main())
