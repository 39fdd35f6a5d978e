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

runtime.prepare()  # what the command does before it loads TensorFlow
PAIRS = 7
NOISE = 0.05  # the middle half of A against A further from 1 than this, and no ratio is reported


@dataclass(frozen=True)
class Setting:
    """What every row of run.py is given."""

    folder: Path  # for files that rows share
    pairs: int = PAIRS
    photos: Path | None = None  # images with labels, in a folder per class


class NotMeasured(Exception):
    """Why a row cannot be measured on this machine."""


def measure(ours, theirs=lambda: 1.0, pairs=PAIRS, compare=truediv):
    """Compares the results of two functions, positive numbers such as seconds; at least 2 pairs.

    Args:
        ours, theirs: each gives one result when it is called.
        pairs: number of pairs.
        compare: function of the results of a pair; their ratio by default.

    Returns:
        A dict: median, least and most of `compare` over the pairs; the same of ours / ours, from
        one pair to the next; the medians of both; whether the noise allows a report.
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
    """The result of a row that is no ratio of times, and is therefore measured once."""
    return {"ratio": _spread([value]), "quiet": True, **details}


def seconds_of(function, *arguments, count=1):
    """A function that measures the seconds of a call, as the mean of `count`."""

    def seconds():
        began = time.perf_counter()
        for _ in range(count):
            function(*arguments)
        return (time.perf_counter() - began) / count

    return seconds


def made_once(folder: Path, make: Callable[[Path], object]) -> Path:
    """The folder that `make(folder)` fills for the first row that needs it."""
    done = folder.with_name(f"{folder.name}.done")
    if not done.exists():
        make(folder)
        done.touch()
    return folder


def _spread(values):
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}
