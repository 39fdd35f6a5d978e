"""Measures two functions in turn, A B A B …, and compares them by the ratio of each pair.

On a shared machine, single measurements are not comparable: they depend on the load.
"""

import json
import os
import platform
import statistics
from itertools import pairwise
from pathlib import Path

from keras_resnet import runtime

runtime.prepare()  # what the command does before it loads TensorFlow
PAIRS = 7
NOISE = 0.05  # the middle half of A against A further from 1 than this, and no ratio is reported


def measure(ours, theirs, pairs=PAIRS):
    """Ratios of the results of two functions, positive numbers such as seconds; at least 2 pairs.

    Returns:
        A dict: median, least and most of ours / theirs over the pairs; the same of ours against
        ours, from one pair to the next; the medians of both; whether the noise allows a report.
    """
    ours(), theirs()  # warm up
    figures = [(ours(), theirs()) for _ in range(pairs + 1)]
    itself = [a / b for (a, _), (b, _) in pairwise(figures)]
    lower, _, upper = statistics.quantiles(itself, n=4, method="inclusive")
    return {
        "ratio": _spread([a / b for a, b in figures[1:]]),
        "against_itself": _spread(itself),
        "ours": statistics.median(a for a, _ in figures),
        "theirs": statistics.median(b for _, b in figures),
        "pairs": pairs,
        "quiet": 1 - NOISE <= lower <= upper <= 1 + NOISE,
    }


def _spread(values):
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def report(results, path, **about):
    """Prints a Markdown table of {name: result of `measure`}, and writes all as JSON."""
    import keras
    import tensorflow as tf

    machine = {
        "cpu": runtime.cpu_name(),
        "cores": os.cpu_count(),
        "flags": runtime.telling_cpu_flags(),
        "gpus": [gpu.name for gpu in tf.config.list_physical_devices("GPU")],
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "load": os.getloadavg()[0],
    }
    Path(path).write_text(
        json.dumps({**about, "machine": machine, "results": results}, indent=2) + "\n"
    )
    print("| | ours ÷ theirs | min … max | ours against ours | ours | theirs |")
    print("|---|---|---|---|---|---|")
    for name, found in results.items():
        ratio, itself = found["ratio"], found["against_itself"]
        shown = f"{ratio['median']:.2f}" if found["quiet"] else "too noisy"
        print(
            f"| {name} | {shown} | {ratio['least']:.2f} … {ratio['most']:.2f} | "
            f"{itself['median']:.2f} ({itself['least']:.2f} … {itself['most']:.2f}) | "
            f"{found['ours']:.3g} | {found['theirs']:.3g} |"
        )
    print(
        f"\n{machine['cpu']}, {machine['cores']} cores, {' '.join(machine['flags'])}; TensorFlow "
        f"{machine['tensorflow']}, Keras {machine['keras']}; load {machine['load']:.1f}; {path}"
    )
