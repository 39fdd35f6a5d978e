"""Measures two functions in turn, A B A B …, and compares them by the ratio of each pair.

On a shared machine, single measurements are not comparable: they depend on the load.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from operator import truediv
from pathlib import Path

from keras_resnet import runtime

runtime.prepare()  # as the command does before it loads TensorFlow
PAIRS = 7
NOISE = 0.05  # no ratio is reported if a quartile of A against A is further from 1 than this


@dataclass(frozen=True)
class Setting:
    """The arguments of every row of run.py."""

    folder: Path  # for files that rows share
    pairs: int = PAIRS
    photos: Path | None = None  # labelled images, one folder per class


class NotMeasured(Exception):
    """A row cannot be measured on this machine; the message has the reason."""


def measure(ours, theirs=lambda: 1.0, pairs=PAIRS, compare=truediv):
    """Compares the results of two functions, positive numbers such as seconds; at least 2 pairs.

    Args:
        ours, theirs: functions that return one result per call.
        pairs: number of pairs.
        compare: function of the results of a pair; default: their ratio.

    Returns:
        A dict: median, minimum and maximum of `compare` over the pairs; the same for ours / ours of
        consecutive pairs; the medians of both; whether the noise is low enough to report.
    """
    ours(), theirs()  # warm up
    figures = [(ours(), theirs()) for _ in range(pairs + 1)]
    itself = [a / b for (a, _), (b, _) in pairwise(figures)]
    lower, _, upper = statistics.quantiles(itself, n=4, method="inclusive")
    return {
        "ratio": _spread([compare(a, b) for a, b in figures[1:]]),
        "against_itself": _spread(itself),
        "ours": statistics.median(a for a, _ in figures),
        "theirs": statistics.median(b for _, b in figures),
        "pairs": pairs,
        "quiet": 1 - NOISE <= lower <= upper <= 1 + NOISE,
    }


def once(value, **details):
    """The result of a row that is not a ratio of times and is measured once."""
    return {"ratio": _spread([value]), "quiet": True, **details}


def seconds_of(function, *arguments, count=1):
    """A function that measures the mean seconds of `count` calls."""

    def seconds():
        began = time.perf_counter()
        for _ in range(count):
            function(*arguments)
        return (time.perf_counter() - began) / count

    return seconds


def made_once(folder: Path, make: Callable[[Path], object]) -> Path:
    """The folder, filled by `make(folder)` for the first row that needs it."""
    done = folder.with_name(f"{folder.name}.done")
    if not done.exists():
        make(folder)
        done.touch()
    return folder


def _spread(values):
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}
