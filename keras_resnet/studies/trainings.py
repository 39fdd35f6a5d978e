"""Several trainings on parts of one data set, in one folder, for `train --folds` and `data plan`.

Each is an ordinary training with its split in a file, so that it can be repeated with
`train --split-file`.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from keras_resnet import filenames, recipes
from keras_resnet.config import SETTINGS, Config
from keras_resnet.data import sources, splitting
from keras_resnet.data.examples import Examples
from keras_resnet.data.sources import Source
from keras_resnet.errors import InputError, Interrupted
from keras_resnet.files import StrPath, read_json, write_json
from keras_resnet.messages import log, plural
from keras_resnet.run import Run, open_run


@dataclass(frozen=True)
class Part:
    """A training on some of the images."""

    name: str  # of its run folder
    splits: Mapping[str, Examples]
    settings: Mapping[str, Any]  # of `train`


def by_last_epoch(options: Mapping[str, Any], config_file: StrPath | None = None) -> dict[str, Any]:
    """The settings with `best_by="last"`, unless the user chose otherwise.

    The scores of a study are those of its validation images. Choosing the best epoch on them would
    make them too good, by points for few images. The settings file of a run has all settings, so
    its defaults are no choice.
    """
    names = {"best_by", "patience"}
    wanted = recipes.resolve(options, config_file)
    is_chosen = any(getattr(wanted, name) != SETTINGS[name].default for name in names)
    if is_chosen or recipes.given(options) & names:
        return dict(options)
    return {**options, "best_by": "last"}


def require_no_splits(config: Config, study: str) -> None:
    """Raises InputError for settings of the splits, because a study makes its own."""
    for name in ("test_split", "split_file"):
        if getattr(config, name):
            option = name.replace("_", "-")
            raise InputError(f"{study} creates the splits; leave out --{option}")


def begin(folder: Path, kind: str, options: Mapping[str, Any], source: Source) -> None:
    """Makes the folder of a study, or checks an existing one.

    Args:
        folder: folder of the trainings.
        kind: kind of study, such as "cross-validation".
        options: requested settings.
        source: the images.

    Raises:
        InputError: the folder holds other files, or a study with other images or options.
    """
    path = folder / filenames.STUDY
    study = {
        "study": kind,
        **{name: str(value) for name, value in options.items() if value is not None},
        "images": source.fingerprint(),
    }
    if not path.exists():
        if folder.exists() and any(folder.iterdir()):
            raise InputError(f"--run {folder} already holds other files; give a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, study)
        return
    before = read_json(path)
    for name in sorted(study.keys() | before.keys()):
        old, new = before.get(name), study.get(name)
        if old != new:
            what = "other images" if name == "images" else f"{name.replace('_', '-')} {old}"
            now = "" if name == "images" else f", not {new}"
            raise InputError(f"--run {folder} was started with {what}{now}; give another --run")


def require_unseen(examples: Examples, weights: str | None) -> None:
    """Raises InputError if the initial weights were trained on images of a study, whose scores must
    be of held-out images."""
    learned = sources.digests_of_weights(weights).get("train", ())
    if count := splitting.are(examples, learned).sum():
        raise InputError(
            f"--weights {weights} was trained on {count:,} of the "
            f"{plural(len(examples), 'image')}, so their scores would be too good; leave it out, "
            "or give other images"
        )


def train_parts(
    folder: Path, source: Source, parts: Sequence[Part], config_file: StrPath | None = None
) -> list[Run]:
    """Trains each unfinished part; the same call resumes an interrupted one.

    After the first training, the estimated time for the others is logged.

    Args:
        folder: folder of the study.
        source: the data set.
        parts: the trainings.
        config_file: as in `train`.

    Returns:
        The finished runs, in the order of `parts`.

    Raises:
        Interrupted: as in `train`.
    """
    left = [part for part in parts if not (folder / part.name / filenames.MANIFEST).exists()]
    if len(left) < len(parts):
        log.info(f"{len(parts) - len(left)} of {len(parts)} trainings in {folder} are done already")
    for done, part in enumerate(left):
        log.info(f"training {part.name}, {done + 1 + len(parts) - len(left)} of {len(parts)} …")
        before = time.monotonic()
        _train(folder, source, part, config_file)
        if done == 0 and left[1:]:
            seconds = time.monotonic() - before
            minutes = max(round(seconds * (len(left) - 1) / 60), 1)
            log.info(
                f"that took {seconds:.0f} s; the {len(left) - 1} other trainings will take about "
                f"{plural(minutes, 'minute')}"
            )
    return [open_run(folder / part.name) for part in parts]


def _train(folder: Path, source: Source, part: Part, config_file: StrPath | None) -> None:
    from keras_resnet.training.train import train

    split_file = folder / f"{part.name}.json"
    sources.save_split(replace(source, splits=dict(part.splits)), split_file)
    try:
        finished = train(
            source.name,
            config_file=config_file,
            run_folder=folder / part.name,
            **{**part.settings, "split_file": split_file, "val_split": None},
        )
    except Interrupted as error:
        raise Interrupted("interrupted; the same command resumes it", error.status) from None
    if finished is None:
        raise InputError("several trainings are for one process; leave out the other workers")
