"""The notes in the latest checkpoint of an unfinished run, with checksums of the files that the run
depends on. A finished run has these in its manifest.
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

_INITIAL = (filenames.CONFIG, filenames.LABELS, filenames.SPLIT)  # written when a run begins


def peek(run: Run) -> dict[str, Any] | None:
    """The notes of the latest readable checkpoint; None for a run without checkpoints.

    Raises:
        CheckFailed: no checkpoint of the run can be read, or all were lost.
    """
    folder = run.file(filenames.CHECKPOINTS)
    for step in reversed(run.checkpoint_steps()):
        try:
            with plainly_named(folder) as place:
                reader = tf.train.load_checkpoint(str(place / f"step-{step}"))
                return json.loads(reader.get_tensor("notes/.ATTRIBUTES/VARIABLE_VALUE"))
        except Exception:  # damaged; `Checkpoint.restore` logs it
            continue
    require_none_lost(run)
    return None


def files_of(run: Run, teacher: str | None) -> dict[str, Any]:
    """Size and sha256 of the files on which an unfinished run depends, by name, for its notes.

    Args:
        run: the run; in a worker other than the chief it has none of these files.
        teacher: folder of the teacher's run, if any.
    """
    names = [*_INITIAL, *([f"{teacher}/{filenames.MODEL}"] if teacher else [])]
    return {name: fingerprint(run.file(name)) for name in names if run.file(name).exists()}


def require_same_files(run: Run, notes: dict[str, Any]) -> None:
    """Logs a change of the settings since the run began; raises InputError for another changed
    file."""
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
    """Raises CheckFailed if a run without a readable checkpoint has had one.

    The best model is written after a checkpoint, and a restarted run would overwrite it.
    """
    steps, model = run.checkpoint_steps(), run.file(filenames.MODEL)
    if steps or model.exists():
        lost = f"can be read ({len(steps)} damaged)" if steps else "is left"
        raise CheckFailed(
            f"no checkpoint in {run.file(filenames.CHECKPOINTS)} {lost}; restore the folder from a "
            "copy of the run, or train again with another --run"
        )
