"""Open any artefact as one thing that predicts; judge it."""

from keras_resnet.evaluation.artefact import open_artefact
from keras_resnet.evaluation.evaluate import evaluate, predict

__all__ = ["evaluate", "open_artefact", "predict"]
