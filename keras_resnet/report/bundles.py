"""Instructions for opening the bundles of an export, for the page and the terminal."""

import shlex
from pathlib import Path

from keras_resnet import filenames
from keras_resnet.files import StrPath

# The command, and the step after it.
_WEB = "cd {folder} && python3 -m http.server 8000", "then open http://localhost:8000"
_WEB_OF_NPM = "cd {folder} && npm install && python3 -m http.server 8000", _WEB[1]
_OPEN = {
    "web": _WEB,
    "android": ("", "open {folder} in Android Studio"),
    "python": ("python {folder}/classify.py IMAGE", ""),
    "c": ("", "see {folder}/README.md"),
}


def how_to_open(bundle: StrPath) -> tuple[str, str]:
    """The command that opens a bundle, and the step after it; one of them may be empty.

    >>> how_to_open("runs/photos/export/bundle_python")
    ('python runs/photos/export/bundle_python/classify.py IMAGE', '')
    """
    kind = Path(bundle).name.removeprefix(filenames.BUNDLE)
    is_of_npm = kind == "web" and not Path(bundle, "litert").exists()  # LiteRT.js is not included
    command, then = _WEB_OF_NPM if is_of_npm else _OPEN[kind]
    folder = shlex.quote(str(bundle))
    return command.format(folder=folder), then.format(folder=folder)


def bundles_in(export: Path) -> list[Path]:
    """The bundles in an export folder, without copies under other names."""
    folders = (export / f"{filenames.BUNDLE}{kind}" for kind in sorted(_OPEN))
    return [folder for folder in folders if folder.is_dir()]
