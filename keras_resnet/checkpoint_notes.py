"""The notes in the latest checkpoint of an unfinished run: among them, on which files it depends.

A finished run has a manifest for that.
"""

import json
from typing import Any

import tensorflow as tf

from keras_resnet import filenames
from keras_resnet.errors import CheckFailed, InputError
from keras_resnet.files import plainly_named
from keras_resnet.manifest import fingerprint
from keras_resnet.messages import log
from keras_resnet.run import Run

_SETTLED = (filenames.CONFIG, filenames.LABELS, filenames.SPLIT)  # when a run begins


def peek(run: Run) -> dict[str, Any] | None:
    """The notes of the latest checkpoint of a run whose notes can be read; None if it has none.

    Raises:
        CheckFailed: it has some, or had, and none can be read.
    """
    folder = run.file(filenames.CHECKPOINTS)
    for step in reversed(run.checkpoint_steps()):
        try:
            with plainly_named(folder) as place:
                reader = tf.train.load_checkpoint(str(place / f"step-{step}"))
                return json.loads(reader.get_tensor("notes/.ATTRIBUTES/VARIABLE_VALUE"))
        except Exception:  # damaged: `Checkpoint.restore` says so
            continue
    require_none_lost(run)
    return None


def files_of(run: Run, teacher: str | None) -> dict[str, Any]:
    """Size and sha256 of the files on which an unfinished run depends, for its notes.

    Args:
        run: the run; that of a worker that is not the chief has no such files of its own.
        teacher: folder of the run that it learns from.
    """
    names = [*_SETTLED, *([f"{teacher}/{filenames.MODEL}"] if teacher else [])]
    return {name: fingerprint(run.file(name)) for name in names if run.file(name).exists()}


def require_same_files(run: Run, notes: dict[str, Any]) -> None:
    """Says that the settings changed since a run began; InputError for its labels or its split."""
    written, found = notes.get("files", {}), files_of(run, run.config.teacher)
    changed = [name for name in written if written[name] != found.get(name)]
    if filenames.CONFIG in changed:
        log.info(
            f"{run.file(filenames.CONFIG)} changed after the run started: results will differ from "
            "an uninterrupted run"
        )
    for name in changed:
        if name != filenames.CONFIG:
            raise InputError(
                f"{run.file(name)} is missing, damaged or was changed after the run started; "
                "restore it from a copy of the run, or train again with another --run"
            )


def require_none_lost(run: Run) -> None:
    """CheckFailed if a run in which no checkpoint can be read has had one.

    The best model is written after a checkpoint, and a run that began anew would overwrite it.
    """
    steps, model = run.checkpoint_steps(), run.file(filenames.MODEL)
    if steps or model.exists():
        lost = f"can be read ({len(steps)} damaged)" if steps else "is left"
        raise CheckFailed(
            f"no checkpoint in {run.file(filenames.CHECKPOINTS)} {lost}; restore the folder from a "
            "copy of the run, or train again with another --run"
        )
