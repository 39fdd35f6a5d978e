"""Residual networks in Keras 3, from a folder of photos to a checked model on a phone.

    import keras_resnet as kr
    run = kr.train(data="photos/", model="resnet18", epochs=20)
    kr.export(run, tflite=["int8"])

Importing this package loads nothing heavy: the public names below load their modules when they
are first used (PEP 562).
"""

from keras_resnet._version import __version__

_HOMES = {
    "build": "models",
    "resnet": "models",
    "identity_block": "blocks",
    "conv_block": "blocks",
    "plain_block": "blocks",
    "dense_identity_block": "blocks",
    "dense_projection_block": "blocks",
    "residual_mlp": "models",
    "load_weights": "weights.load",
    "import_weights": "weights.importing",
    "describe": "explain.describe",
    "drawing": "explain.drawing",
    "gradients": "explain.gradients",
    "lesion": "explain.lesion",
    "paths": "explain.paths",
    "cam": "explain.cam",
    "train": "training.train",
    "find_lr": "training.find_lr",
    "evaluate": "evaluation.scores",
    "predict": "evaluation.scores",
    "benchmark": "evaluation.benchmark",
    "open_run": "run",
    "open_artefact": "evaluation.artefact",
    "export": "exporting.exporter",
    "verify": "exporting.gate",
    "InputError": "errors",
    "CheckFailed": "errors",
    "Interrupted": "errors",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'keras_resnet' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"keras_resnet.{_HOMES[name]}"), name)


def __dir__():
    return sorted(__all__)
