"""Updates the table of exported files in the report of a run."""

from dataclasses import asdict
from pathlib import Path

from keras_resnet import filenames, manifest
from keras_resnet.errors import InputError
from keras_resnet.messages import log
from keras_resnet.report import page
from keras_resnet.run import Run


def update(run: Run, folder: Path) -> None:
    """Rewrites report.html of a run after `folder` was exported or verified.

    An imported run has no report, and only the folder `RUN/export/` is part of it. If a file of the
    run is damaged, or the disk is full, the report is not changed and a message is logged; the
    export is valid all the same.
    """
    if folder.resolve() != run.export_folder.resolve() or not run.file(filenames.REPORT).exists():
        return
    # Keep what another process has written since this one read the manifest.
    run.manifest = manifest.read(run.path)
    try:
        for name in page.SOURCES:
            if run.file(name).exists():
                run.intact(name)
        with run.rewriting(filenames.REPORT):
            page.write(run.path, metrics=run.metrics, config=asdict(run.config), labels=run.classes)
    except (InputError, OSError) as error:
        log.warning(f"{run.file(filenames.REPORT)} does not show the exported files: {error}")
