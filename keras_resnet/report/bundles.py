"""How the bundles of an export are opened: for the page and the terminal."""

import shlex
from pathlib import Path

from keras_resnet import filenames

_OPEN = {
    "web": "cd {folder} && python3 -m http.server 8000, then open http://localhost:8000",
    "android": "open {folder} in Android Studio",
    "python": "python {folder}/classify.py IMAGE",
    "c": "see {folder}/README.md",
}


def how_to_open(bundle: str | Path) -> str:
    """What to type or do.

    >>> how_to_open("runs/photos/export/bundle_python")
    'python runs/photos/export/bundle_python/classify.py IMAGE'
    """
    kind = Path(bundle).name.removeprefix(filenames.BUNDLE)
    text = _OPEN[kind].format(folder=shlex.quote(str(bundle)))
    if kind == "web" and not Path(bundle, "litert").exists():  # LiteRT.js comes from npm
        text = text.replace("&& ", "&& npm install && ", 1)
    return text
