"""Settings and images -> a run folder."""

from keras_resnet.training.fit import train
from keras_resnet.training.run import Run, open_run

__all__ = ["Run", "open_run", "train"]
