"""How the bundles of an export are opened: for the page and the terminal."""

import shlex
from pathlib import Path

from keras_resnet import filenames

# What to type, and what to do then.
_OPEN = {
    "web": ("cd {folder} && python3 -m http.server 8000", "then open http://localhost:8000"),
    "android": ("", "open {folder} in Android Studio"),
    "python": ("python {folder}/classify.py IMAGE", ""),
    "c": ("", "see {folder}/README.md"),
}


def how_to_open(bundle: str | Path) -> tuple[str, str]:
    """What to type, and what to do then; one of them may be empty.

    >>> how_to_open("runs/photos/export/bundle_python")
    ('python runs/photos/export/bundle_python/classify.py IMAGE', '')
    """
    kind = Path(bundle).name.removeprefix(filenames.BUNDLE)
    command, then = (text.format(folder=shlex.quote(str(bundle))) for text in _OPEN[kind])
    if kind == "web" and not Path(bundle, "litert").exists():  # LiteRT.js comes from npm
        command = command.replace("&& ", "&& npm install && ", 1)
    return command, then
