"""Training on several devices and with several workers, on one or more machines."""

from keras_resnet import runtime

runtime.prepare()  # before this package's files import TensorFlow
