"""The argument DATA of the commands. Standard library only."""

import os

from keras_resnet.errors import InputError
from keras_resnet.files import StrPath

NONE = ""  # DATA of an imported run, which has no images


def is_folder(data: StrPath) -> bool:
    """Whether DATA names a folder of images, rather than `digits` or `tfds:NAME`."""
    return data != "digits" and not os.fspath(data).startswith("tfds:")


def require(data: StrPath) -> None:
    """Raises InputError if DATA names a folder that does not exist."""
    if data == "tfds:":
        raise InputError("tfds: has no name; give tfds:NAME, such as tfds:cifar10")
    if not is_folder(data) or os.path.isdir(data):
        return
    if not os.path.exists(data) and os.sep not in os.fspath(data):
        from difflib import get_close_matches

        if get_close_matches(os.fspath(data).lower(), ["digits"], cutoff=0.7):
            raise InputError(f"no folder '{data}'; did you mean digits, the built-in data set?")
    if os.fspath(data).endswith(".keras") and os.path.exists(data):
        raise InputError(f"{show(data)} is a Keras model, not a folder of photos; give its run")
    name = show(data) or repr("")
    what = "is a file, not a folder" if os.path.exists(data) else "does not exist"
    raise InputError(
        f"data folder {name} {what}; give a folder with one sub-folder per class, "
        "tfds:NAME, digits or, to a command that takes one, a run (`ls runs`)"
    )


def show(path: StrPath) -> str:
    """A path as one line of printable text, with escapes for other characters and bytes."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    # U+200D, which is not "printable", joins emoji.
    return "".join(
        c if c.isprintable() or c == "\u200d" else c.encode("unicode_escape").decode() for c in text
    )
