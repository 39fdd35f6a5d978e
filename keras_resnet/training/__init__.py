"""Settings and images -> a run folder."""

from keras_resnet import runtime

runtime.prepare()  # before this room's files import TensorFlow
