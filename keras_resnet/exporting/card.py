"""card.md, the model card of an export: content, accuracy and how it was measured.

All numbers come from the files of the run or from the gate.
"""

import os
import platform
import re
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from keras_resnet import runtime
from keras_resnet.data.names import show
from keras_resnet.messages import one_line, percent, plural, points, some_of
from keras_resnet.run import Run
from keras_resnet.specs import network_title

if TYPE_CHECKING:
    from keras_resnet.exporting.verification import Verification

_MOST_NAMES = 20  # class names listed
_WEAKEST = 3  # classes listed as the worst


def text(run: Run, result: "Verification") -> str:
    """The text of the card.

    Args:
        run: the `Run` that was exported.
        result: the result of the gate.
    """
    metrics = run.metrics if "val" in run.metrics else None  # an imported run was never evaluated
    sections = {
        "Data": _data(run),
        "Recipe": _recipe(run, metrics),
        "Exported files": _files(result),
        "Limits": _limits(run, metrics, result),
        "Method": _method(metrics, result),
    }
    title = f"# Model card: {_network(run)}, {origin(run)}\n"
    return title + "".join(
        f"\n## {heading}\n\n" + "".join(f"{line}\n" for line in lines)
        for heading, lines in sections.items()
    )


def _network(run: Run) -> str:
    return network_title(run.metrics["model"], run.config.width)


def origin(run: Run) -> str:
    """The origin of the weights, in a few words."""
    imported = run.metrics.get("imported")
    if imported:
        return f"trained elsewhere, imported from {_name(imported['file'])}"
    weights = run.config.weights
    start = f", initial weights: {_name(weights)}" if weights else ""
    return f"trained with keras-resnet-edge on {_name(run.config.data)}{start}"


def _name(path: str) -> str:
    """The name of a file or folder; the rest of its path is private."""
    return show(os.path.basename(os.path.normpath(path)))


def _code(name: str) -> str:
    """A name as a code span, in which Markdown and HTML have no effect."""
    longest = max(map(len, re.findall("`+", name)), default=0)
    fence, space = "`" * (longest + 1), " " if longest else ""
    return f"{fence}{space}{one_line(name)}{space}{fence}"


def _data(run: Run) -> list[str]:
    classes = run.classes
    names = some_of([_code(name) for name in classes[: _MOST_NAMES + 1]], _MOST_NAMES)
    counts = {split: len(files) for split, files in run.splits.items()}
    images = ", ".join(f"{count:,} {split}" for split, count in counts.items())
    use = ""
    if "imported" in run.metrics:
        use = ", for calibration and evaluation; the model was trained on other data"
    return [
        f"- {_code(_name(run.config.data))}: {images} images{use}",
        f"- {len(classes)} classes: {names}",
        "- the run's `split.json` lists the split of each image",
    ]


def _recipe(run: Run, metrics: Mapping[str, Any] | None) -> list[str]:
    config = run.config
    lines = [f"- network {_network(run)}, {config.geometry.text} pixels"]
    if metrics is None:
        return [*lines, "- trained elsewhere and imported; the training is not recorded"]
    return [
        f"{lines[0]}, {metrics['parameters']:,} parameters",
        f"- recipe {config.recipe}, {config.epochs} epochs, batch {config.batch_size}, learning "
        f"rate {config.peak_rate:.3g}, seed {config.seed}, weights from "
        f"{os.path.basename(config.weights) if config.weights else 'scratch'}",
        f"- trained in {metrics['seconds']:,.0f} s in {metrics['precision']}; epoch "
        f"{metrics['best_epoch']} was exported",
        "- the run's `config.json` holds all settings",
    ]


def _files(result: "Verification") -> list[str]:
    lines = [
        "| file | top-1 | drop, points | same class as Keras | largest logit difference "
        "| size | latency |",
        "|---|---|---|---|---|---|---|",
        f"| `model.keras` (reference) | {percent(result.keras.top1, 2)} | | | | | |",
    ]
    for row in result.artefacts:
        names_classes = row.top1 is not None  # features do not
        scores = (
            f"{percent(row.top1, 2)} | {points(row.drop_points)} | {percent(row.agreement, 2)}"
            if names_classes
            else "| |"
        )
        lines.append(
            f"| `{row.file}` | {scores} | {row.max_logit_diff:.2g} | {row.bytes:,} bytes "
            f"| {row.latency_ms:.2f} ms |"
        )
    digests = [f"- `{row.file}`: sha256 {row.sha256}" for row in result.artefacts]
    return [*lines, "", *_refused(result), *digests]


def _refused(result: "Verification") -> list[str]:
    """The shares of images that each file rejects as "none of these"."""
    if not result.rejection:
        return []
    head = ["| none of these | known classes | no class |", "|---|---|---|"]
    rows = [f"| `{name}` | {known} | {unknown} |" for name, known, unknown in result.refused]
    return [*head, *rows, ""]


def _limits(run: Run, metrics: Mapping[str, Any] | None, result: "Verification") -> list[str]:
    chosen = metrics and metrics.get("best_epoch_chosen_on")
    chose = ", and chose the epoch" if chosen else ""
    lines = [
        _none_of_these(run, result),
        f"- The {result.images:,} evaluation images were held out from the same data{chose}: the "
        "model was not tested on other cameras, places or people.",
        _calibrated(result),
    ]
    if metrics and (test := metrics.get("test")):
        lines.append(
            f"- Top-1 of the Keras model on {test['images']:,} test images, which were not used "
            f"before: {percent(test['top1'], 2)}."
        )
    if metrics:
        scored = {
            name: row["top1"]
            for name, row in metrics["val"]["per_class"].items()
            if row["images"] and row["top1"] < 1
        }
        weakest = sorted(scored, key=scored.__getitem__)[:_WEAKEST]
        shown = ", ".join(f"{_code(name)}: {percent(scored[name])}" for name in weakest)
        lines.append(
            "- Lowest top-1 by class (Keras, all validation images): "
            f"{shown or 'all classes 100.0%'}."
        )
    return lines


def _none_of_these(run: Run, result: "Verification") -> str:
    if result.rejection is None:
        return (
            f"- The model assigns one of its {len(run.classes)} classes to every image, even if "
            "none fits."
        )
    return (
        f'- "None of these": {result.rejection}. Images of no class that look like a class are '
        "not rejected."
    )


def _calibrated(result: "Verification") -> str:
    if result.probabilities is None:
        return "- Scores are a softmax of the logits; they were not calibrated."
    return f"- Calibrated probabilities: {result.probabilities}."


def _method(metrics: Mapping[str, Any] | None, result: "Verification") -> list[str]:
    lines = [
        f"- Top-1, agreement and difference: each file on {result.images:,} validation images, "
        "preprocessed as `preprocess.json` describes. `keras-resnet verify` repeats the test.",
        "- A file was published only if its top-1 dropped by at most "
        f"{plural(result.max_drop, 'point')}.",
        "- Latency: median for one image; a `.tflite` file in LiteRT on one thread; on the machine "
        f"of the export ({platform.machine()}, {plural(runtime.cores(), 'core')}). It compares the "
        "files and does not predict the latency on a phone.",
        f"- Exported with keras-resnet-edge {version('keras-resnet-edge')}, TensorFlow "
        f"{runtime.tensorflow_version() or 'of a custom build'}, Keras {version('keras')}, LiteRT "
        f"{version('ai-edge-litert')}.",
    ]
    if metrics:
        by = ", ".join(f"{name} {number}" for name, number in metrics["versions"].items())
        lines.append(f"- Trained with {by}.")
    return lines
