"""Trains networks with several seeds, exports them, and records the scores of each file.

    python benchmarks/accuracy.py [--only digits] [--signs DIR] [--cifar10 DIR] [--work DIR]

Every step is a command of keras-resnet, which is printed. Results in --work are reused, so an
interrupted program can be called again. Accuracies are on images that were used neither for
training nor to select the epoch; latencies are of the last seed. Writes to benchmarks/results/.
"""

import argparse
import importlib.util
import json
import random
import re
import shlex
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import run

HERE = Path(__file__).parent
COMMAND = Path(sys.executable).with_name("keras-resnet")
VARIANTS = ("none", "float16", "dynamic", "int8")
FILES = {"float32": "float32", "float16": "float16", "dynamic": "dynamic range", "int8": "int8"}


@dataclass(frozen=True)
class Study:
    """A data set, its split and its training."""

    id: str
    what: str
    data: str  # name of the option with the folder, or an argument of `train`
    options: tuple[str, ...]
    by_person: bool = False  # no person is in more than one split
    peer: str = ""  # a program in this folder that trains the same network in PyTorch


SHORT = ("--model", "resnet20", "--recipe", "paper-cifar", "--epochs", "12")
SIGNS = ("--model", "resnet20", "--image-size", "32", "--epochs", "20")
STUDIES = (
    Study("digits", "scikit-learn's digits, quick recipe", "digits", ("--test-split", "0.2")),
    Study("signs", "sign language digits, random splits", "signs", (*SIGNS, "--test-split", "0.2")),
    Study("signs-people", "the same, people who are not in the training", "signs", SIGNS,
          by_person=True),
    Study("cifar10", "CIFAR-10 (JPEG), ResNet-20, a fifteenth of the paper's schedule", "cifar10",
          SHORT, peer="torch_cifar.py"),
)  # fmt: skip


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", nargs="+", choices=[study.id for study in STUDIES])
    parser.add_argument("--signs", type=Path, metavar="DIR",
                        help="the sign language digits, a folder per class")  # fmt: skip
    parser.add_argument("--cifar10", type=Path, metavar="DIR",
                        help="CIFAR-10 as images: train/CLASS, test/CLASS")  # fmt: skip
    parser.add_argument("--work", type=Path, default=Path("runs/accuracy"), metavar="DIR",
                        help="folder of the runs  [runs/accuracy]")  # fmt: skip
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each kind  [3]")
    parser.add_argument("--options", default="", help="more options of `train`, for a trial")
    parser.add_argument("--output", type=Path, default=HERE / "results", metavar="DIR",
                        help="folder for the results  [benchmarks/results]")  # fmt: skip
    given = parser.parse_args(arguments)
    given.work.mkdir(parents=True, exist_ok=True)
    results = {}
    for study in STUDIES:
        data = {"signs": given.signs, "cifar10": given.cifar10}.get(study.data, study.data)
        if data is None or (given.only and study.id not in given.only):
            continue
        results[study.id] = measured(study, str(data), given)
        table = write(given.output, run.about(), results)  # after each, since all take long
    if not results:
        parser.error("nothing to do: give --signs or --cifar10")
    print(table)
    return 0


def measured(study: Study, data: str, given: argparse.Namespace) -> dict:
    seeds, peers = [], []
    for seed in range(1, given.seeds + 1):
        place = given.work / f"{study.id}-{seed}"
        shown = [*study.options, "--seed", str(seed), *shlex.split(given.options)]
        options = list(shown)
        if study.by_person:
            options += ["--split-file", str(split_by_person(Path(data), given.work, seed))]
        train(data, place, options)
        if not (place / "export" / "verify.json").exists():
            kinds = [word for variant in VARIANTS for word in ("--quantize", variant)]
            command("export", str(place), "--tflite", *kinds)
        seeds.append({"seed": seed, "options": shlex.join(shown), **scores(place)})
        if study.peer:
            peers.append(peer(study.peer, place))
    files = [str(file_of(place, name)) for name in FILES]
    speed = json.loads(command("benchmark", *files, "--json"))["artefacts"]
    return {
        "what": study.what,
        "seeds": seeds,
        "peers": [found for found in peers if found],
        "latency_ms": {name: row["p50_ms"] for name, row in zip(FILES, speed, strict=True)},
    }


def train(data: str, place: Path, options: list[str]) -> None:
    if (place / "manifest.json").exists():
        return
    if (place / "config.json").exists():
        command("train", "--resume", str(place))
    else:
        command("train", data, "--run", str(place), *options)


def scores(place: Path) -> dict:
    """Scores of the best model and of each file on the test images."""
    path = place / "accuracy.json"
    if not path.exists():
        metrics = json.loads((place / "metrics.json").read_text())
        found = {"keras": metrics["test"]["top1"]}
        for name in FILES:
            answer = command("evaluate", str(file_of(place, name)), "--split", "test", "--json")
            found[name] = json.loads(answer)["top1"]
        about = {name: metrics[name] for name in ("model", "parameters", "seconds", "precision")}
        images = metrics["test"]["images"]
        path.write_text(json.dumps({**about, "test_images": images, "top1": found}))
    sizes = {name: file_of(place, name).stat().st_size for name in FILES}
    return {**json.loads(path.read_text()), "bytes": sizes}


def file_of(place: Path, name: str) -> Path:
    return place / "export" / f"model_{name}.tflite"


def peer(program: str, place: Path) -> dict | None:
    path = place / "peer.json"
    if not path.exists():
        if importlib.util.find_spec("torch") is None:
            print("no PyTorch: pip install '.[benchmark]'", file=sys.stderr)
            return None
        done = subprocess.run(
            [sys.executable, str(HERE / program), str(place)], stdout=subprocess.PIPE, check=True
        )
        path.write_bytes(done.stdout)
    return json.loads(path.read_text())


def split_by_person(data: Path, work: Path, seed: int) -> Path:
    """A split file with all photos of a person in one split: 60 % train, 20 % val, 20 % test.

    The photos are numbered in the order of recording, and each person showed the digits in turn, so
    a digit that is not above the previous one starts a new person. If a photo is missing or a
    person showed a digit twice, one person may be counted as two.
    """
    photos = sorted(
        (int(re.search(r"\d+", path.stem).group()), path.parent.name, path.name)
        for path in data.glob("*/*.JPG")
    )
    people, last = [], 10
    for _, digit, name in photos:
        if int(digit) <= last:
            people.append([])
        people[-1].append((f"{digit}/{name}", digit))
        last = int(digit)
    random.Random(seed).shuffle(people)
    ends = {"train": 0.6, "val": 0.8, "test": 1.0}
    splits, first = {}, 0
    for split, end in ends.items():
        until = round(end * len(people))
        splits[split] = [row for person in people[first:until] for row in person]
        first = until
    path = work / f"people-{seed}.json"
    path.write_text(json.dumps(splits))
    print(f"{len(people)} people in {path}", file=sys.stderr)
    return path


def command(*words: str) -> str:
    """Runs `keras-resnet` and returns its stdout; the progress goes to the terminal."""
    print(f"keras-resnet {shlex.join(words)}", file=sys.stderr, flush=True)
    done = subprocess.run([str(COMMAND), *words], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"keras-resnet {words[0]} ended with exit code {done.returncode}")
    return done.stdout


def write(folder: Path, machine: dict, results: dict) -> str:
    """Writes JSON, Markdown tables, and a plot of the sign language digits."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"accuracy-{machine['date'][:10]}"
    path.with_suffix(".json").write_text(
        json.dumps({"machine": machine, "studies": results}, indent=2) + "\n"
    )
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores; {machine['date']}; mean (least … most) of "
        "the seeds, top-1 of test images in %.",
        "",
        f"| data | test images | Keras | {' | '.join(FILES.values())} | PyTorch |",
        f"|{'---|' * (len(FILES) + 4)}",
    ]
    for result in results.values():
        seeds = result["seeds"]
        tops = [[seed["top1"][name] for seed in seeds] for name in ("keras", *FILES)]
        cells = [spread(values) for values in tops]
        cells.append(spread([found["test_top1"] for found in result["peers"]]))
        counts = [seed["test_images"] for seed in seeds]
        least, most = min(counts), max(counts)
        images = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        lines.append(f"| {result['what']} | {images} | {' | '.join(cells)} |")
    lines += ["", "| data | file | kB | ms, 1 thread |", "|---|---|---|---|"]
    for result in results.values():
        for name, kind in FILES.items():
            size = result["seeds"][-1]["bytes"][name] / 1000
            latency = result["latency_ms"][name]
            lines.append(f"| {result['what']} | {kind} | {size:,.0f} | {latency:.2f} |")
    if "signs" in results:
        plot(results["signs"], path.with_suffix(".png"))
    text = "\n".join(lines) + "\n"
    path.with_suffix(".md").write_text(text)
    return text


def spread(values: list[float]) -> str:
    if not values:
        return ""
    least, most = min(values), max(values)
    return f"{statistics.mean(values):.2%} ({least:.2%} … {most:.2%})".replace("%", "")


def plot(result: dict, path: Path) -> None:
    """Plots accuracy against size and latency, one point per file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.9), layout="constrained")
    size, time = figure.subplots(1, 2, sharey=True)
    for name, kind in FILES.items():
        tops = [100 * seed["top1"][name] for seed in result["seeds"]]
        middle = statistics.mean(tops)
        bar = [[middle - min(tops)], [max(tops) - middle]]
        kilobytes = result["seeds"][-1]["bytes"][name] / 1000
        size.errorbar(kilobytes, middle, bar, fmt="o", capsize=3, label=kind)
        time.errorbar(result["latency_ms"][name], middle, bar, fmt="o", capsize=3, label=kind)
    size.set(xlabel="size in kB", ylabel="top-1 of test images in %", xlim=(0, None))
    time.set(xlabel="latency in ms, 1 thread", xlim=(0, None))
    figure.legend(*size.get_legend_handles_labels(), loc="outside lower center", ncols=len(FILES))
    figure.suptitle("The files of a ResNet-20 for sign language digits at 32 pixels, three seeds")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    sys.exit(main())
