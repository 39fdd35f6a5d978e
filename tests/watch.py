"""Runs an export and records what it reads, builds and decodes.

    python watch.py FOLDER

exports FOLDER/run with all variants, explained, and writes FOLDER/result.pickle, what the gate
found, and FOLDER/seen.json: `reads`, how often Python opened which path to read it; `opened`, how
often which artefact was given to a runtime; `networks`, how many were built; `checked`, how many
images were decoded only to check them. Child processes, such as the converter's, are not watched.
"""

import json
import os
import pickle
import sys
from collections import Counter
from pathlib import Path

from keras_resnet import models
from keras_resnet.choices import VARIANTS
from keras_resnet.data import check_files
from keras_resnet.evaluation import artefact
from keras_resnet.evaluation.lite import Lite
from keras_resnet.exporting.exporter import export


def watch_opens(reads):
    def note(event, arguments):
        if event != "open" or not isinstance(arguments[0], str | os.PathLike):
            return
        writes = (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)
        reads.update([] if writes else [os.path.abspath(arguments[0])])

    sys.addaudithook(note)


def watch_calls(owner, name, note):
    plain = getattr(owner, name)

    def noted(*arguments, **options):
        note(*arguments)
        return plain(*arguments, **options)

    setattr(owner, name, noted)


def main(folder):
    reads, opened, counts = Counter(), Counter(), Counter(networks=0, checked=0)
    watch_opens(reads)
    watch_calls(models, "build", lambda *_: counts.update(networks=1))
    watch_calls(check_files, "decodable", lambda images: counts.update(checked=len(images)))
    watch_calls(artefact, "_open_saved_model", lambda path, _: opened.update([path.name]))
    watch_calls(Lite, "__init__", lambda _, path, *__: opened.update([os.path.basename(path)]))
    result = export(
        folder / "run", tflite=VARIANTS, calibration=20, max_drop=100, explain_quantization=True
    )
    (folder / "result.pickle").write_bytes(pickle.dumps(result))
    (folder / "seen.json").write_text(json.dumps({"reads": reads, "opened": opened, **counts}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
