"""Exports a run to SavedModel, TFLite and ONNX files, verified before they are published.

Called `exporting`, because `keras_resnet.export` is the function.
"""

from keras_resnet import runtime

runtime.prepare()  # before this package's files import TensorFlow
