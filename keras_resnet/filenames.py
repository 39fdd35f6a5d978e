"""Names of the files in a run folder and in its export folder: apps and scripts rely on them."""

# A run folder
CONFIG = "config.json"  # every setting
LABELS = "labels.txt"  # the class of each output, one per line; in the export too
SPLIT = "split.json"  # the split of each image
HISTORY = "history.csv"
METRICS = "metrics.json"
PREDICTIONS = "predictions.csv"  # for each validation and test image
EXAMPLES = "examples.json"  # images in the report: the worst mistakes, some correct predictions
MODEL = "model.keras"
NETWORK = "network.keras"  # the user's own network, before training
REPORT = "report.html"
FRONTIER, FRONTIER_PLOT = "frontier.json", "frontier.png"  # the candidates of a search
STUDY = "study.json"  # settings of several trainings on parts of the images
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
FEATURES = "model_features.tflite"  # without the classifier
TRAINABLE = "model_trainable.tflite"  # with a head that can be trained on the device
ARTEFACTS = (SAVED_MODEL, *TFLITE.values(), ONNX, FEATURES, TRAINABLE)

# The export folder: other files
PREPROCESS = "preprocess.json"  # how a photo becomes the input
VERIFY = "verify.json"  # results of the gate
CALIBRATION = "calibration.json"  # the images that determined the ranges of int8
EXPLANATION = "quantization.png"
GOLDEN = "golden"
GOLDEN_INDEX = "golden.json"
CARD = "card.md"
BUNDLE = "bundle_"  # prefix of a bundle's folder
BUNDLED_MODEL = "model.tflite"
