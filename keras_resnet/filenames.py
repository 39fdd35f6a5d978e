"""Names of the files in a run folder and in its export folder: apps and scripts rely on them."""

# A run folder
CONFIG = "config.json"  # every setting
LABELS = "labels.txt"  # the class of each output, a line each; in the export too
SPLIT = "split.json"  # which image is in which split
HISTORY = "history.csv"
METRICS = "metrics.json"
PREDICTIONS = "predictions.csv"  # the answer for each validation and test image
EXAMPLES = "examples.json"  # the images in the report: the worst mistakes, and some correct ones
MODEL = "model.keras"
NETWORK = "network.keras"  # a network from elsewhere, as its training began
REPORT = "report.html"
FRONTIER, FRONTIER_PLOT = "frontier.json", "frontier.png"  # the networks that a search has tried
STUDY = "study.json"  # of several trainings on parts of the images: what was asked for
SUSPECTS = "suspects.png"  # of a cross-validation: images whose label may be wrong
PLAN, CURVE = "plan.json", "learning-curve.png"  # of `data plan`
MANIFEST = "manifest.json"  # size and sha256 of the other files; in the export too
CHECKPOINTS = "checkpoints"
LOG = "log.txt"
EXPORT = "export"

# The export folder: artefacts
SAVED_MODEL = "saved_model"
TFLITE = {
    "none": "model_float32.tflite",
    "float16": "model_float16.tflite",
    "dynamic": "model_dynamic.tflite",
    "int8": "model_int8.tflite",
    "int16x8": "model_int16x8.tflite",
}
ONNX = "model.onnx"
FEATURES = "model_features.tflite"  # no classifier
TRAINABLE = "model_trainable.tflite"  # its head learns new classes
ARTEFACTS = (SAVED_MODEL, *TFLITE.values(), ONNX, FEATURES, TRAINABLE)

# The export folder: what belongs to them
PREPROCESS = "preprocess.json"  # from a photo to the input
VERIFY = "verify.json"  # results of the gate
CALIBRATION = "calibration.json"  # the images that set the ranges of int8
EXPLANATION = "quantization.png"
GOLDEN = "golden"
GOLDEN_INDEX = "golden.json"
CARD = "card.md"
BUNDLE = "bundle_"  # the start of the name of such a folder
BUNDLED_MODEL = "model.tflite"
