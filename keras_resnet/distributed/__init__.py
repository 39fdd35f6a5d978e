"""Training on several devices and with several workers, on one machine or on many."""

from keras_resnet import runtime

runtime.prepare()  # before this package's files import TensorFlow
