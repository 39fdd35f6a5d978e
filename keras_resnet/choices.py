"""Choices and defaults of the options of `export` and `benchmark`: pure data, because the help of
the commands imports nothing heavy."""

from keras_resnet import filenames

# export
VARIANTS = tuple(filenames.TFLITE)
AUTO = "auto"
IO_TYPES = ("float", "uint8", "int8")
SCORES = ("logits", "softmax")
TRAINABLE = ("head",)
BUNDLES = ("android", "web", "python", "c")
# Calibration images; largest int8 logit error 2.6 with 200 samples, 0.43 with 1,297.
CALIBRATION = 500
MAX_DROP = 1.0  # points of top-1
IMAGES = 1000  # maximum number of validation images; more are sampled

# benchmark
THREADS, BATCH, RUNS = 1, 32, 70
