"""The learning-rate range test (arXiv:1506.01186, section 3.3): a short training whose learning
rate grows exponentially, to see at which rates the loss decreases and where it diverges."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import keras

from keras_resnet import progress, recipes
from keras_resnet.config import Config
from keras_resnet.data.sources import Source
from keras_resnet.errors import CheckFailed, InputError, require_whole
from keras_resnet.files import StrPath, require_png
from keras_resnet.messages import log
from keras_resnet.report import lr_range_plot
from keras_resnet.results import Result
from keras_resnet.settings import Settings
from keras_resnet.state import isolated
from keras_resnet.training import schedule
from keras_resnet.training.step import TrainStep, training_batches
from keras_resnet.training.train import make_step, prepare

# The steps of SGD scale with the gradient; those of Adam and LAMB are normalized.
RANGES = {"sgd": (1e-3, 10.0), "adamw": (1e-5, 0.1), "lamb": (1e-4, 1.0)}
STEPS = 400
_MEMORY = 0.9  # momentum of the smoothed loss
# Rise of the smoothed loss from its minimum, as a multiple of its fall, that ends the test.
_DIVERGED = 1.5
# The standard deviation of the smoothed loss, relative to that of single losses.
_SMOOTHED_NOISE = math.sqrt((1 - _MEMORY) / (1 + _MEMORY))


@dataclass(frozen=True)
class RangeStep:
    """One step, with its own learning rate."""

    rate: float
    loss: float
    smoothed: float


@dataclass(frozen=True, kw_only=True)
class Rates(Result):
    """Learning rates derived from the losses."""

    suggestion: float
    steepest: float  # where the smoothed loss falls fastest
    lowest: float  # where it is lowest
    diverged: float | None  # the rate that ended the test early
    steps: list[RangeStep]


@dataclass(frozen=True, kw_only=True)
class RangeTest(Rates):
    """The result of a range test of a network on a data set."""

    model: str
    width: float
    data: str
    recipe: str
    optimizer: str
    batch_size: int  # images per update

    def as_json(self) -> dict[str, Any]:
        about = ("model", "width", "data", "recipe", "optimizer", "batch_size")
        return {name: getattr(self, name) for name in about} | super().as_json()


@isolated()
def find_lr(
    data: StrPath | None = None,
    *,
    config_file: StrPath | None = None,
    low: float | None = None,
    high: float | None = None,
    steps: int = STEPS,
    png: StrPath | None = None,
    **options: Unpack[Settings],
) -> RangeTest:
    """Tries learning rates from `low` to `high`, one per step, on a network that is discarded.

    Args:
        data, config_file, options: as in `train`; augmentation, loss and optimizer are the
            recipe's.
        low, high: the first and the last rate; default: those of the optimizer in `RANGES`.
        steps: number of optimizer steps from `low` to `high`, at least 10.
        png: path of a plot, also drawn if the test finds nothing or is interrupted; None: no plot.

    Returns:
        `RangeTest`, such as `find_lr(data).suggestion`.

    Raises:
        InputError: invalid settings or images.
        CheckFailed: the loss does not fall at any of these rates.
    """
    requested = {"data": data, **options}
    config = recipes.resolve(requested, config_file)
    low, high = _range(low, high, config)
    require_whole("--steps", steps, 10)
    require_png(png)
    unset = set(recipes.unset(requested, config_file)) - {"epochs"}  # the test has no epochs
    config, source, chosen, model, _ = prepare(config, unset=unset)
    log.info(
        f"{config.network} on {source.name}, batch {config.batch_size}, {config.optimizer}, recipe "
        f"{config.recipe}; rates {low:g} to {high:g} in {steps} steps; {chosen.policy}"
    )
    growth = keras.optimizers.schedules.ExponentialDecay(low, steps - 1, high / low)
    step = make_step(model, config, source, growth, chosen)
    losses: list[float] = []
    about: dict[str, Any] = {
        "model": config.model,
        "width": config.width,
        "data": source.name,
        "recipe": config.recipe,
        "optimizer": config.optimizer,
        "batch_size": config.batch_size * config.accumulate,
    }
    try:
        _add_losses(losses, step, config, source, steps)
        rates = _rates(low, high, steps, losses)
        evaluation = evaluate_losses(rates, losses, complete=len(losses) == steps)
        result = RangeTest(**about, **vars(evaluation))
    except (CheckFailed, KeyboardInterrupt):
        if png and len(losses) > 1:
            rows = _rows(_rates(low, high, steps, losses), losses)
            lr_range_plot.plot(about | {"steps": [vars(row) for row in rows]}, png)
            log.info(f"{png} shows the losses of {len(losses)} of {steps} rates")
        raise
    if png:
        lr_range_plot.plot(result.as_json(), png)
    return result


def _rates(low: float, high: float, steps: int, losses: Sequence[float]) -> list[float]:
    """The learning rate of each loss; a test that ended early has fewer than `steps`."""
    return [low * (high / low) ** (n / (steps - 1)) for n in range(len(losses))]


def _range(low: float | None, high: float | None, config: Config) -> tuple[float, float]:
    least, most = RANGES[config.optimizer]
    low, high = least if low is None else low, most if high is None else high
    if not 0 < low < high < math.inf:
        raise InputError(f"--low is {low} and --high {high}; expected 0 < low < high")
    return low, high


def evaluate_losses(rates: Sequence[float], losses: Sequence[float], *, complete: bool) -> Rates:
    """Derives learning rates from the losses: the part of `find_lr` that needs no network.

    Args:
        rates, losses: one value per step.
        complete: whether all rates were tried; if not, the last one ended the test.

    Raises:
        CheckFailed: the loss does not fall, or is not finite at first.
    """
    if not losses:
        raise CheckFailed(
            "the loss of the first step is not a finite number; try --precision float32, or other "
            "--weights"
        )
    smoothed = smooth(losses)
    first = len(losses) // 10  # earlier averages are over too few losses
    lowest = min(range(first, len(losses)), key=smoothed.__getitem__)
    # Of constant losses, the minimum of the average is as low in one test of a hundred.
    if smoothed[first] - smoothed[lowest] <= 5 * _SMOOTHED_NOISE * _noise(losses[: lowest + 1]):
        raise CheckFailed(
            f"the loss does not fall by more than its noise at any rate from {rates[0]:.2g} to "
            f"{rates[-1]:.2g}; try more --steps, or another range with --low and --high"
        )
    steepest = max(range(first, lowest), key=lambda n: smoothed[n] - smoothed[n + 1])
    return Rates(
        # A tenth of the rate at the minimum: a whole run must not diverge.
        suggestion=_two_digits(rates[lowest] / 10),
        steepest=rates[steepest],
        lowest=rates[lowest],
        diverged=None if complete else rates[-1],
        steps=_rows(rates, losses),
    )


def _rows(rates: Sequence[float], losses: Sequence[float]) -> list[RangeStep]:
    return [RangeStep(*row) for row in zip(rates, losses, smooth(losses), strict=True)]


def smooth(losses: Sequence[float]) -> list[float]:
    """A bias-corrected exponential moving average (arXiv:1412.6980, section 3)."""
    average, smoothed = 0.0, []
    for n, loss in enumerate(losses, 1):
        average = _MEMORY * average + (1 - _MEMORY) * loss
        smoothed.append(average / (1 - _MEMORY**n))
    return smoothed


def _add_losses(
    losses: list[float], step: TrainStep, config: Config, source: Source, steps: int
) -> None:
    """Runs the steps and appends their losses; stops when they diverge or are not finite."""
    size, batches_in_all = schedule.training_size(config, config.side), steps * config.accumulate
    batches = iter(
        training_batches(source, config, size=size, first_step=0, last_step=batches_in_all)
    )
    with progress.bar(steps, "trying rates", "steps") as advance:
        for _ in range(steps):
            loss = float(step(batches, config.accumulate).loss.mean())
            if not math.isfinite(loss):
                break
            losses.append(loss)
            advance(1, f"loss {loss:.3f}")
            if has_diverged(losses, steps):
                break


def has_diverged(losses: Sequence[float], steps: int) -> bool:
    """Whether the losses of a test of so many steps rise by more than they fell, and than noise."""
    smoothed = smooth(losses)[steps // 10 :]  # earlier averages are over too few losses
    if not smoothed:
        return False
    lowest = min(range(len(smoothed)), key=smoothed.__getitem__)
    fall = max(smoothed[0] - smoothed[lowest], 0.1 * smoothed[0])
    noise = _SMOOTHED_NOISE * _noise(losses[: steps // 10 + lowest + 1])
    return smoothed[-1] - smoothed[lowest] > max(_DIVERGED * fall, 8 * noise)


def _noise(losses: Sequence[float]) -> float:
    """The standard deviation of single losses around a slow change, from neighbouring ones."""
    differences = [after - before for before, after in itertools.pairwise(losses)]
    return math.sqrt(sum(d * d for d in differences) / 2 / max(len(differences), 1))


def _two_digits(number: float) -> float:
    return float(f"{number:.2g}")
