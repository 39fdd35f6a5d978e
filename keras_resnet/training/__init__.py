"""Training: from settings and images to a run folder."""

from keras_resnet import runtime

runtime.prepare()  # before the modules of this package import TensorFlow
