"""What comes of damage to files: single bits flipped, and files cut short.

    python damage.py COUNT

Trains a small run, damages each kind of its files COUNT times in either way, and prints a table in
Markdown. `KINDS` has a row for each kind: what makes the file in a folder, and how it is read.

An outcome is "detected" (an error of one line), "harmless" (the same result as before), "silent" (a
wrong result without a word) or "crashed" (any other exception).
"""

import logging
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from keras_resnet.messages import log

OUTCOMES = ("detected", "harmless", "silent", "crashed")


def flips(path, count, seed=0):
    """Yields the content of a file with one random bit flipped, `count` times."""
    content, rng = Path(path).read_bytes(), random.Random(seed)
    for _ in range(count):
        damaged = bytearray(content)
        damaged[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        yield bytes(damaged)


def truncations(path, count, seed=0):
    """Yields the first bytes of a file, fewer than all, `count` times."""
    content, rng = Path(path).read_bytes(), random.Random(seed)
    for _ in range(count):
        yield content[: rng.randrange(len(content))]


def outcomes(path, contents, read):
    """Counts the outcomes of `read()` with these contents of `path`, which is restored.

    Args:
        path: of the file.
        contents: bytes, as `flips` and `truncations` yield them.
        read: function without arguments; its result can be compared with `==`.

    Returns:
        (a `Counter` of outcomes, a list of what crashed or was silent).
    """
    from keras_resnet.errors import CheckFailed, InputError

    path = Path(path)
    whole, expected = path.read_bytes(), read()
    counts, bad = Counter(), []
    for content in contents:
        path.write_bytes(content)
        try:
            outcome = "harmless" if read() == expected else "silent"
        except (InputError, CheckFailed) as error:
            outcome = "detected" if "\n" not in str(error) else "crashed"
        except Exception as error:
            outcome = "crashed"
            bad.append(repr(error))
        if outcome == "silent":
            at = [i for i, (a, b) in enumerate(zip(whole, content, strict=False)) if a != b]
            bad.append(f"silent: {len(content)} of {len(whole)} bytes, changed {at[:3]}")
        counts[outcome] += 1
    path.write_bytes(whole)
    return counts, bad


def _of_a_run(name, attribute):
    """A file of a finished run, read through an attribute of `Run`."""

    def kind(run, folder):
        from keras_resnet.run import Run

        copy = shutil.copytree(run, folder / "run")
        return copy / name, lambda: getattr(Run(copy), attribute)

    return kind


def _whole_run(name):
    """A file of a finished run, read with everything that is checked against the manifest."""

    def kind(run, folder):
        from keras_resnet.run import Run

        copy = shutil.copytree(run, folder / "run")

        def read():
            opened = Run(copy)
            files = [opened.intact(file).read_bytes() for file in ("model.keras", "history.csv")]
            return opened.config, opened.classes, opened.splits, opened.metrics, files

        return copy / name, read

    return kind


def _best_model(run, folder):
    """model.keras of an unfinished run, which has no manifest."""
    from keras_resnet.run import Run, build, load_weights

    opened = Run(run)
    model = build(opened.config, len(opened.classes))
    path = shutil.copy(run / "model.keras", folder / "model.keras")

    def read():
        load_weights(model, path)
        return [weight.tobytes() for weight in model.get_weights()]

    return path, read


def _of_an_unfinished_run(name):
    """A file that is written when a run begins, checked when the run is resumed."""

    def kind(run, folder):
        from keras_resnet import checkpoint_notes
        from keras_resnet.data import sources
        from keras_resnet.errors import InputError
        from keras_resnet.run import Run

        copy = shutil.copytree(run, folder / "run")
        (copy / "manifest.json").unlink()
        notes = {"files": checkpoint_notes.files_of(Run(copy), None)}

        def read():
            opened, lines = Run(copy), _Lines()
            config, classes = opened.config, opened.classes
            with lines:
                checkpoint_notes.require_same_files(opened, notes)
            if lines.text:
                raise InputError(lines.text.strip())
            return config, classes, sources.read_split(opened.file("split.json"))

        return copy / name, read

    return kind


def _of_a_checkpoint(suffix):
    """A file of the later of two checkpoints: the earlier is used, and a line says so."""

    def kind(run, folder):
        import tensorflow as tf

        from keras_resnet import checkpoint_notes
        from keras_resnet.errors import CheckFailed
        from keras_resnet.run import Run
        from keras_resnet.training import checkpoint

        opened = Run(folder)

        def state(value):
            return {"model": [tf.fill([30, 10], value), tf.fill([7], 2 * value)]}

        def variables(value):
            return {k: [tf.Variable(v) for v in values] for k, values in state(value).items()}

        checkpoint.Checkpoint(opened, variables(1.0)).save(1, {"step": 1})
        checkpoint.Checkpoint(opened, variables(2.0)).save(2, {"step": 2})

        def read():
            target, lines = variables(0.0), _Lines()
            with lines:
                step, notes = checkpoint.Checkpoint(opened, target, writes=False).restore()
            assert checkpoint_notes.peek(opened) in ({"step": 1}, {"step": 2})
            found = step, notes, [value.numpy().tobytes() for value in target["model"]]
            values = [value.numpy().tobytes() for value in state(1.0)["model"]]
            if found == (1, {"step": 1}, values) and "step-2 is damaged" in lines.text:
                raise CheckFailed("the earlier one is used")
            return found

        return folder / "checkpoints" / f"step-2.{suffix}", read

    return kind


def _weights(name):
    """A file of weights of other programs: their formats have no checksums."""

    def kind(run, folder):
        from keras_resnet import build
        from keras_resnet.weights.load import load_weights

        path, model = folder / name, build("resnet8", 3, (12, 12, 3))
        model.save_weights(path) if path.suffix == ".h5" else model.save(path)

        def read():
            load_weights(model, path)
            return [weight.tobytes() for weight in model.get_weights()]

        return path, read

    return kind


def _of_an_export(name, artefact="model_float32.tflite"):
    """A file of an export, read by opening an artefact beside it and by what `verify` compares."""

    def kind(run, folder):
        import numpy as np

        from keras_resnet.errors import CheckFailed
        from keras_resnet.evaluation.artefact import open_artefact
        from keras_resnet.exporting import guard
        from keras_resnet.run import Run

        copy = Run(shutil.copytree(run, folder / "run"))

        def read():
            opened = open_artefact(copy.export_folder / artefact)
            results, contract = guard.check(copy, copy.export_folder)
            failed = [f"{row.file}: {row.why}" for row in results if not row.passed]
            if failed:
                raise CheckFailed("; ".join(failed))
            image = np.zeros((1, *opened.geometry.shape), np.uint8)
            return contract, opened.classes, opened.predict(image).tobytes()

        return copy.export_folder / name, read

    return kind


class _Lines(logging.Handler):
    """The messages of the package within a context."""

    def __enter__(self):
        self.text = ""
        log.addHandler(self)
        self._shown, log.propagate = log.propagate, False

    def __exit__(self, *failure):
        log.removeHandler(self)
        log.propagate = self._shown

    def emit(self, record):
        self.text += record.getMessage() + "\n"


# Each: function of the folder of a finished run and of an empty folder -> (path, read).
KINDS = {
    "`config.json`": _of_a_run("config.json", "config"),
    "`labels.txt`": _of_a_run("labels.txt", "classes"),
    "`split.json`": _of_a_run("split.json", "splits"),
    "`metrics.json`": _of_a_run("metrics.json", "metrics"),
    "`history.csv`": _whole_run("history.csv"),
    "`manifest.json`": _whole_run("manifest.json"),
    "`model.keras`": _whole_run("model.keras"),
    "`model.keras` of an unfinished run": _best_model,
    "`config.json` of an unfinished run": _of_an_unfinished_run("config.json"),
    "`labels.txt` of an unfinished run": _of_an_unfinished_run("labels.txt"),
    "`split.json` of an unfinished run": _of_an_unfinished_run("split.json"),
    "`checkpoints/step-N.index`": _of_a_checkpoint("index"),
    "`checkpoints/step-N.data-…`": _of_a_checkpoint("data-00000-of-00001"),
    "third-party weights, `.keras`": _weights("net.keras"),
}
# The same of a run that was exported.
EXPORTED = {
    "`export/model_float32.tflite`": _of_an_export("model_float32.tflite"),
    "`export/model_int8.tflite`": _of_an_export("model_int8.tflite", "model_int8.tflite"),
    "`export/saved_model/saved_model.pb`": _of_an_export(
        "saved_model/saved_model.pb", "saved_model"
    ),
    "`export/labels.txt`": _of_an_export("labels.txt"),
    "`export/preprocess.json`": _of_an_export("preprocess.json"),
    "`export/golden/golden.json`": _of_an_export("golden/golden.json"),
    "`export/golden/00.png`": _of_an_export("golden/00.png"),
    "`export/calibration.json`": _of_an_export("calibration.json"),
    "`export/manifest.json`": _of_an_export("manifest.json"),
}
# No reader can notice every change in these: a flipped bit of a weight is another weight.
WITHOUT_CHECKSUMS = {"third-party weights, `.weights.h5`": _weights("net.weights.h5")}


def table(run, count):
    """Lines of a Markdown table with a row for each kind of file."""
    yield f"| file | tried | {' | '.join(OUTCOMES)} |"
    yield "|---|---:|---:|---:|---:|---:|"
    for name, kind in (KINDS | EXPORTED | WITHOUT_CHECKSUMS).items():
        with tempfile.TemporaryDirectory() as folder:
            path, read = kind(Path(run), Path(folder))
            total, bad = Counter(), []
            for damage in (flips, truncations):
                counts, worse = outcomes(path, damage(path, count), read)
                total, bad = total + counts, bad + worse
        for line in bad[:10]:
            print(f"{name}: {line}", file=sys.stderr)
        yield f"| {name} | {2 * count:,} | {' | '.join(f'{total[o]:,}' for o in OUTCOMES)} |"


def main(count):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from keras_resnet.exporting.exporter import export
    from keras_resnet.messages import quietly
    from keras_resnet.training.train import train

    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        with quietly():
            train(model="resnet8", image_size=12, epochs=1, run_folder=run)
            export(run, tflite=["none", "int8"], calibration=50, max_drop=100)
        for line in table(run, int(count)):
            print(line, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
