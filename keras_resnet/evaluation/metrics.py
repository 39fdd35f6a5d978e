"""Logits and labels -> the numbers a model is judged by."""

import numpy as np


def summarise(logits, labels, classes):
    """The contract of `evaluate --json`.

    Args:
        logits: float `(n, k)`.
        labels: int `(n,)`.
        classes: k names.

    Returns:
        {images, loss, top1, macro_top1, top5, per_class, confusion}: loss is the mean cross-entropy
        in nats; accuracies are in 0…1; macro_top1 is the mean of the classes' top-1, over those
        with images; top5 is None for five classes or fewer; confusion has the true class in rows
        and the predicted one in columns.
    """
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    count, k = logits.shape
    guesses = logits.argmax(-1)
    confusion = np.zeros((k, k), int)
    np.add.at(confusion, (labels, guesses), 1)
    seen, right = confusion.sum(1), confusion.diagonal()
    return {
        "images": count,
        "loss": float(-log_softmax(logits)[np.arange(count), labels].mean()),
        "top1": float((guesses == labels).mean()),
        "macro_top1": float((right[seen > 0] / seen[seen > 0]).mean()),
        "top5": _top(5, logits, labels) if k > 5 else None,
        "per_class": {
            name: {"images": int(n), "top1": float(r / n) if n else None}
            for name, n, r in zip(classes, seen, right, strict=True)
        },
        "confusion": confusion.tolist(),
    }


def is_imbalanced(per_class: dict) -> bool:
    """Whether the largest class has more than one and a half times the images of the smallest.

    Args:
        per_class: of `summarise`; classes without images do not count.
    """
    counts = [row["images"] for row in per_class.values() if row["images"]]
    return max(counts) > 1.5 * min(counts)


def log_softmax(logits):
    """Log of the class probabilities along the last axis."""
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def _top(n, logits, labels):
    best = np.argpartition(-logits, n - 1, axis=-1)[:, :n]
    return float((best == labels[:, None]).any(-1).mean())
