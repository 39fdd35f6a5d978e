"""The degradation experiment: He et al. 2015, arXiv:1512.03385, figures 1 and 6."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from keras_resnet import filenames, recipes, specs
from keras_resnet.errors import InputError
from keras_resnet.files import StrPath
from keras_resnet.messages import log
from keras_resnet.results import Result
from keras_resnet.run import Run, finished, open_run
from keras_resnet.settings import Settings
from keras_resnet.training.train import train

KINDS = ("plain", "resnet")


@dataclass(frozen=True)
class DepthRow:
    """One network. Errors (0…1) and loss are of the last epoch; training values are measured on
    augmented images, during the updates."""

    depth: int
    kind: str  # "plain" or "resnet"
    run: str
    parameters: int
    training_error: float
    training_loss: float
    validation_error: float
    seconds: float


@dataclass(frozen=True)
class Depths(Result):
    """Plain and residual networks of increasing depth, with the same training."""

    data: str
    folder: str
    recipe: str
    epochs: int
    seed: int
    rows: list[DepthRow]


def depth(
    data: StrPath | None = None,
    *,
    depths: Iterable[int] = (8, 20, 32),
    folder: StrPath = "depth",
    **options: Unpack[Settings],
) -> Depths:
    """Trains plain and residual networks of increasing depth with one recipe, and compares their
    errors.

    Networks with a finished run in `folder` are not trained again, so depths can be added later:
    all take the data and the settings of the first run, and other ones are refused.

    Args:
        data: as in `train`.
        depths: numbers of weight layers, of networks with a plain counterpart: 8, 18, 20, 32, 34,
            44, 56, 110, 1202.
        folder: folder of the runs, `plain20`, `resnet20`, ….
        **options: settings of all runs, fields of `keras_resnet.config.Config` except `model`.

    Returns:
        `Depths`.

    Raises:
        InputError: a depth without a plain counterpart, a run with other settings, or an error of
            `train`.
    """
    networks = [(n, kind) for n in sorted(specs.with_plain_counterparts(depths)) for kind in KINDS]
    places = {f"{kind}{layers}": Path(folder, f"{kind}{layers}") for layers, kind in networks}
    done = {
        model: run
        for model, place in places.items()
        if (run := finished(place, {"data": data, **options, "model": model}))
    }
    first: Run | None = None
    for run in done.values():
        first = first or run
        _require_alike(run, first)
    for model, place in places.items():
        if model not in done:
            log.info(f"training {model}")
            settings: Settings = {**options, "model": model}
            like = first and first.file(filenames.CONFIG)
            trained = train(data, config_file=like, run_folder=place, **settings)
            done[model] = trained or open_run(place)  # None in a worker other than the chief
            first = first or done[model]
    runs = [(layers, kind, done[f"{kind}{layers}"]) for layers, kind in networks]
    config = runs[0][2].config
    return Depths(
        data=config.data,
        folder=str(folder),
        recipe=config.recipe,
        epochs=config.epochs,
        seed=config.seed,
        rows=[_row(layers, kind, run) for layers, kind, run in runs],
    )


def _require_alike(run: Run, first: Run) -> None:
    """Raises InputError if two runs have other settings than the network."""
    for name, old in vars(first.config).items():
        new = getattr(run.config, name)
        if name not in ("model", "devices") and new != old:
            raise InputError(
                f"{run.path} has {recipes.as_option(name, new)}, {first.path} "
                f"{recipes.as_option(name, old)}; give another --run"
            )


def _row(layers: int, kind: str, run: Run) -> DepthRow:
    last = run.history[-1]
    return DepthRow(
        depth=layers,
        kind=kind,
        run=str(run.path),
        parameters=run.metrics["parameters"],
        training_error=1 - last["top1"],
        training_loss=last["loss"],
        validation_error=1 - last["val_top1"],
        seconds=run.metrics["seconds"],
    )
