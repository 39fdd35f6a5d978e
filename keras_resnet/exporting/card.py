"""card.md: what is in an export, how good it is, and how that is known.

Every number comes from the run's own files and from the gate; what nobody measured is not there.
"""

import os
import platform
from importlib.metadata import version

from keras_resnet.data.names import show
from keras_resnet.files import read_json

_MOST_NAMES = 20  # classes written out
_WEAKEST = 3  # classes named as the worst


def text(run, result):
    """The card.

    Args:
        run: the `Run` that was exported.
        result: what the gate found, as `verify` returns it.
    """
    metrics = run.metrics if run.file("metrics.json").exists() else None
    sections = {
        "Data": _data(run),
        "Recipe": _recipe(run, metrics),
        "Each file": _files(result),
        "Limits": _limits(run, metrics, result),
        "How the numbers were made": _method(metrics, result),
    }
    title = f"# Model card: {run.config.model} on {data_name(run.config)}\n"
    return title + "".join(
        f"\n## {heading}\n\n" + "".join(f"{line}\n" for line in lines)
        for heading, lines in sections.items()
    )


def data_name(config):
    """What the data are called: of a folder its name alone, for a path tells about its owner."""
    return show(os.path.basename(os.path.normpath(config.data)))


def _data(run):
    classes = run.classes
    names = ", ".join(classes[:_MOST_NAMES]) + (", …" if len(classes) > _MOST_NAMES else "")
    counts = {split: len(files) for split, files in read_json(run.file("split.json")).items()}
    images = ", ".join(f"{count:,} {split}" for split, count in counts.items())
    return [
        f"- {data_name(run.config)}: {images} images",
        f"- {len(classes)} classes: {names}",
        "- which image is in which split is in the run's `split.json`",
    ]


def _recipe(run, metrics):
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


def _files(result):
    lines = [
        "| file | top-1 | points lost | same class as Keras | largest logit difference "
        "| size | latency |",
        "|---|---|---|---|---|---|---|",
        f"| `model.keras` (reference) | {result['keras']['top1']:.2%} | | | | | |",
    ]
    for row in result["artefacts"]:
        lines.append(
            f"| `{row['file']}` | {row['top1']:.2%} | {row['drop_points']:.2f} | "
            f"{row['agreement']:.2%} | {row['max_logit_diff']:.2g} | {row['bytes']:,} bytes | "
            f"{row['latency_ms']:.2f} ms |"
        )
    digests = [f"- `{row['file']}`: sha256 {row['sha256']}" for row in result["artefacts"]]
    return [*lines, "", *digests]


def _limits(run, metrics, result):
    lines = [
        f"- It answers one of its {len(run.classes)} classes to every image, also to one of none.",
        f"- The {result['images']:,} images that judge were held out of the same data: other "
        "cameras, places and people were not tried.",
        "- Scores are a softmax of the logits; they were not calibrated.",
    ]
    if metrics:
        scored = {
            name: row["top1"] for name, row in metrics["val"]["per_class"].items() if row["images"]
        }
        weakest = sorted(scored, key=scored.get)[:_WEAKEST]
        lines.append(
            "- Lowest top-1 by class (Keras, all validation images): "
            + ", ".join(f"{name} {scored[name]:.1%}" for name in weakest)
            + "."
        )
    return lines


def _method(metrics, result):
    lines = [
        f"- Top-1, agreement and difference: {result['images']:,} validation images, prepared as "
        "`preprocess.json` says, through the file itself. `keras-resnet verify` does it again.",
        f"- A file was published only if it lost at most {result['max_drop']:g} points.",
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
