"""card.md, the model card of an export: content, accuracy and how it was measured.

Every number comes from the run's files or from the gate.
"""

import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from keras_resnet.data.names import show
from keras_resnet.run import Run

if TYPE_CHECKING:
    from keras_resnet.exporting.gate import Verification

_MOST_NAMES = 20  # classes written out
_WEAKEST = 3  # classes named as the worst


def text(run: Run, result: "Verification") -> str:
    """The card.

    Args:
        run: the `Run` that was exported.
        result: of the gate.
    """
    metrics = run.metrics if "val" in run.metrics else None  # an imported run was never judged
    sections = {
        "Data": _data(run),
        "Recipe": _recipe(run, metrics),
        "Each file": _files(result),
        "Limits": _limits(run, metrics, result),
        "How the numbers were made": _method(metrics, result),
    }
    title = f"# Model card: {run.config.model}, {origin(run)}\n"
    return title + "".join(
        f"\n## {heading}\n\n" + "".join(f"{line}\n" for line in lines)
        for heading, lines in sections.items()
    )


def origin(run: Run) -> str:
    """Where the weights are from, in a few words."""
    imported = run.metrics.get("imported")
    if imported:
        return f"trained elsewhere, imported from {_name(imported['file'])}"
    return f"trained with keras-resnet-edge on {_name(run.config.data)}"


def _name(path: str) -> str:
    """The name of a file or folder; the rest of its path tells about its owner."""
    return show(os.path.basename(os.path.normpath(path)))


def _data(run: Run) -> list[str]:
    classes = run.classes
    names = ", ".join(classes[:_MOST_NAMES]) + (", …" if len(classes) > _MOST_NAMES else "")
    counts = {split: len(files) for split, files in run.splits.items()}
    images = ", ".join(f"{count:,} {split}" for split, count in counts.items())
    use = ", to calibrate and to judge by; not what it was trained on" * ("imported" in run.metrics)
    return [
        f"- {_name(run.config.data)}: {images} images{use}",
        f"- {len(classes)} classes: {names}",
        "- which image is in which split is in the run's `split.json`",
    ]


def _recipe(run: Run, metrics: Mapping[str, Any] | None) -> list[str]:
    config = run.config
    lines = [f"- network {config.model}, {config.side} × {config.side} pixels"]
    if metrics is None:
        return [*lines, "- trained elsewhere and imported: how, this card does not know"]
    return [
        f"{lines[0]}, {metrics['parameters']:,} parameters",
        f"- recipe {config.recipe}, {config.epochs} epochs, batch {config.batch_size}, learning "
        f"rate {config.learning_rate:g}, seed {config.seed}, weights from "
        f"{os.path.basename(config.weights) if config.weights else 'scratch'}",
        f"- trained in {metrics['seconds']:,.0f} s in {metrics['precision']}; the best epoch, "
        f"{metrics['best_epoch']}, is what was exported",
        "- every setting is in the run's `config.json`",
    ]


def _files(result: "Verification") -> list[str]:
    lines = [
        "| file | top-1 | points lost | same class as Keras | largest logit difference "
        "| size | latency |",
        "|---|---|---|---|---|---|---|",
        f"| `model.keras` (reference) | {result.keras.top1:.2%} | | | | | |",
    ]
    for row in result.artefacts:
        names_classes = row.top1 is not None  # features do not
        scores = (
            f"{row.top1:.2%} | {row.drop_points:.2f} | {row.agreement:.2%}"
            if names_classes
            else "| |"
        )
        lines.append(
            f"| `{row.file}` | {scores} | {row.max_logit_diff:.2g} | {row.bytes:,} bytes "
            f"| {row.latency_ms:.2f} ms |"
        )
    digests = [f"- `{row.file}`: sha256 {row.sha256}" for row in result.artefacts]
    return [*lines, "", *digests]


def _limits(run: Run, metrics: Mapping[str, Any] | None, result: "Verification") -> list[str]:
    lines = [
        f"- It answers one of its {len(run.classes)} classes to every image, also to one of none.",
        f"- The {result.images:,} images that judge were held out of the same data: other "
        "cameras, places and people were not tried.",
        _calibrated(result),
    ]
    if metrics:
        scored = {
            name: row["top1"] for name, row in metrics["val"]["per_class"].items() if row["images"]
        }
        weakest = sorted(scored, key=scored.__getitem__)[:_WEAKEST]
        lines.append(
            "- Lowest top-1 by class (Keras, all validation images): "
            + ", ".join(f"{name} {scored[name]:.1%}" for name in weakest)
            + "."
        )
    return lines


def _calibrated(result: "Verification") -> str:
    if result.probabilities is None:
        return "- Scores are a softmax of the logits; they were not calibrated."
    return f"- Calibrated probabilities: {result.probabilities}."


def _method(metrics: Mapping[str, Any] | None, result: "Verification") -> list[str]:
    lines = [
        f"- Top-1, agreement and difference: {result.images:,} validation images, prepared as "
        "`preprocess.json` says, through the file itself. `keras-resnet verify` does it again.",
        f"- A file was published only if it lost at most {result.max_drop:g} "
        f"point{'s' * (result.max_drop != 1)}.",
        "- Latency: median for one image, a `.tflite` in LiteRT on one thread, on "
        f"{platform.machine()} with {os.cpu_count()} cores, where it was exported. It says which "
        "file is faster, not how fast a phone is.",
        f"- Exported with keras-resnet-edge {version('keras-resnet-edge')}, TensorFlow "
        f"{version('tensorflow')}, Keras {version('keras')}, LiteRT {version('ai-edge-litert')}.",
    ]
    if metrics:
        by = ", ".join(f"{name} {number}" for name, number in metrics["versions"].items())
        lines.append(f"- Trained with {by}.")
    return lines
