"""Keeps converted files of a failed or interrupted export for the next attempt.

They are in a folder beside the export folder, and are removed when that is published. The gate
checks them like new files.
"""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from keras_resnet import filenames, runtime
from keras_resnet._version import __version__
from keras_resnet.exporting.plan import CALIBRATED, ExportPlan
from keras_resnet.files import read_json, write_json
from keras_resnet.manifest import fingerprint
from keras_resnet.messages import log


class Kept:
    """Files of earlier attempts at the export `plan` of the model in the file `model`."""

    def __init__(self, plan: ExportPlan, model: Path) -> None:
        self._folder = plan.target.parent / f".{plan.target.name}-kept"
        # Everything that a converted file depends on, except the calibration images.
        self._made_from = repr(
            (fingerprint(model), plan.contract, plan.geometry, plan.center_crop, plan.io,
             runtime.tensorflow_version(), __version__)
        )  # fmt: skip

    def or_made(
        self, variant: str, path: Path, images: Path, make: Callable[[Path], dict[str, Any]]
    ) -> dict[str, Any]:
        """Writes the file `path`: the kept file, or else a new one.

        Args:
            variant: variant of the file.
            path: path to write.
            images: the calibration images.
            make: function that writes the file to a path and returns the cost.

        Returns:
            The cost of the conversion, of this or an earlier attempt.
        """
        facts = [self._made_from, fingerprint(images) if variant in CALIBRATED else ""]
        digest = hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
        kept = self._folder / digest / filenames.TFLITE[variant]
        note = kept.with_suffix(".json")  # written last
        if note.exists() and kept.exists():
            log.info(f"{path.name}: reusing the file of an earlier attempt")
        else:
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_json(note, make(kept))
        shutil.copyfile(kept, path)
        return read_json(note)

    def drop(self, names: Sequence[str]) -> None:
        """Removes the kept files that became the artefacts `names`."""
        for name in names:
            for path in self._folder.glob(f"*/{Path(name).stem}.*"):
                path.unlink()
        for folder in (*self._folder.glob("*"), self._folder):
            with suppress(OSError):  # not empty, or missing
                folder.rmdir()

    def clear(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
