"""Sources -> checked -> decoded -> a random or a centred view -> batched; one file per arrow."""

from keras_resnet.data.sources import Source, load, load_all, load_split, save_split
from keras_resnet.data.stream import evaluation_stream, training_stream

__all__ = [
    "Source",
    "evaluation_stream",
    "load",
    "load_all",
    "load_split",
    "save_split",
    "training_stream",
]
