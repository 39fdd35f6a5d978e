"""MediaPipe's ImageClassifier on the golden set: python mediapipe_labels.py EXPORT

Runs in an environment that holds mediapipe alone: what it knows of classes and normalization, it
knows from the file.
"""

import json
import sys
from pathlib import Path

import mediapipe
from mediapipe.tasks import python as tasks
from mediapipe.tasks.python import vision


def main(export):
    golden = json.loads((export / "golden" / "golden.json").read_text())
    labels = (export / "labels.txt").read_text(encoding="utf-8").rstrip("\n").split("\n")
    for name in (name for name in golden["tolerance"] if name.endswith(".tflite")):
        options = vision.ImageClassifierOptions(
            base_options=tasks.BaseOptions(model_asset_path=str(export / name)), max_results=1
        )
        right, worst = 0, 0.0
        with vision.ImageClassifier.create_from_options(options) as classifier:
            for entry in golden["images"]:
                image = mediapipe.Image.create_from_file(str(export / "golden" / entry["file"]))
                (answer,) = classifier.classify(image).classifications[0].categories
                expected = entry["logits"][name]
                right += answer.category_name == labels[expected.index(max(expected))]
                worst = max(worst, abs(answer.score - max(expected)))
        count = len(golden["images"])
        print(f"{name}: {right} of {count} label names, logits within {worst:.2g}")
        assert right == count


if __name__ == "__main__":
    main(Path(sys.argv[1]))
