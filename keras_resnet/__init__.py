"""Residual networks in Keras 3, from a folder of photos to a checked model on a phone.

    import keras_resnet as kr
    run = kr.train(data="photos/", model="resnet18", epochs=20)
    kr.export(run, tflite=["int8"])

Importing this package loads nothing heavy: the public names below load their modules when they
are first used (PEP 562).
"""

from typing import TYPE_CHECKING, Any

from keras_resnet._version import __version__

if TYPE_CHECKING:  # for editors and type checkers; Python uses `_HOMES`
    # isort: off
    from keras_resnet.blocks import (
        conv_block as conv_block,
        dense_identity_block as dense_identity_block,
        dense_projection_block as dense_projection_block,
        identity_block as identity_block,
        plain_block as plain_block,
    )
    from keras_resnet.studies.data_plan import plan_data as plan_data
    from keras_resnet.errors import (
        CheckFailed as CheckFailed,
        InputError as InputError,
        Interrupted as Interrupted,
    )
    from keras_resnet.evaluation.artefact import open_artefact as open_artefact
    from keras_resnet.evaluation.benchmark import benchmark as benchmark
    from keras_resnet.evaluation.compare import compare as compare
    from keras_resnet.evaluation.scores import evaluate as evaluate, predict as predict
    from keras_resnet.explain.cam import cam as cam
    from keras_resnet.studies.folds import cross_validate as cross_validate
    from keras_resnet.inspection.network import describe as describe
    from keras_resnet.inspection.drawing import drawing as drawing
    from keras_resnet.explain.gradients import gradients as gradients
    from keras_resnet.explain.lesion import lesion as lesion
    from keras_resnet.explain.paths import paths as paths
    from keras_resnet.exporting.exporter import export as export
    from keras_resnet.exporting.gate import verify as verify
    from keras_resnet.models import build as build, residual_mlp as residual_mlp, resnet as resnet
    from keras_resnet.run import open_run as open_run
    from keras_resnet.shipping import ship as ship
    from keras_resnet.training.find_lr import find_lr as find_lr
    from keras_resnet.training.train import train as train
    from keras_resnet.weights.importing import (
        import_model as import_model,
        import_weights as import_weights,
    )
    from keras_resnet.weights.load import load_weights as load_weights
    # isort: on

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
    "import_model": "weights.importing",
    "import_weights": "weights.importing",
    "describe": "inspection.network",
    "drawing": "inspection.drawing",
    "gradients": "explain.gradients",
    "lesion": "explain.lesion",
    "paths": "explain.paths",
    "cam": "explain.cam",
    "train": "training.train",
    "cross_validate": "studies.folds",
    "plan_data": "studies.data_plan",
    "find_lr": "training.find_lr",
    "evaluate": "evaluation.scores",
    "predict": "evaluation.scores",
    "benchmark": "evaluation.benchmark",
    "compare": "evaluation.compare",
    "open_run": "run",
    "ship": "shipping",
    "open_artefact": "evaluation.artefact",
    "export": "exporting.exporter",
    "verify": "exporting.gate",
    "InputError": "errors",
    "CheckFailed": "errors",
    "Interrupted": "errors",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'keras_resnet' has no attribute {name!r}")
    import importlib

    from keras_resnet import runtime

    runtime.prepare_tensorflow()  # before any of our modules imports it
    return getattr(importlib.import_module(f"keras_resnet.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
