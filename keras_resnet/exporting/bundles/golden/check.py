"""Runs each .tflite file in the folder above on the golden set: python check.py

Needs ai-edge-litert, numpy and Pillow.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

HERE = Path(__file__).resolve().parent


def run(interpreter: Interpreter, pixels: np.ndarray) -> np.ndarray:
    """float32 logits `(k,)` for uint8 pixels, RGB or grey; for a trainable file, including new
    classes."""
    (entry,) = interpreter.get_input_details()
    name = "infer" if "infer" in interpreter.get_signature_list() else "serving_default"
    end = interpreter.get_signature_runner(name).get_output_details()["logits"]
    if entry["dtype"] != np.float32:  # int8 starts at -128
        pixels = pixels.astype(int) + entry["quantization"][1]
    interpreter.set_tensor(entry["index"], pixels.reshape(entry["shape"]).astype(entry["dtype"]))
    interpreter.invoke()
    values = interpreter.get_tensor(end["index"])[0]
    if values.dtype == np.float32:
        return values
    scale, zero = end["quantization"]
    return scale * (values.astype(np.float32) - zero)


golden = json.loads((HERE / "golden.json").read_text(encoding="utf-8"))
failed = False
for name, tolerance in golden["tolerance"].items():
    if not name.endswith(".tflite"):
        continue
    interpreter = Interpreter(str(HERE.parent / name))
    interpreter.allocate_tensors()
    worst, answers = 0.0, b""
    for entry in golden["images"]:
        pixels = np.array(Image.open(HERE / entry["file"]))
        assert hashlib.sha256(pixels.tobytes()).hexdigest() == entry["sha256"], entry["file"]
        expected = entry["logits"][name]
        logits = run(interpreter, pixels)[: len(expected)]
        answers += logits.astype("<f4").tobytes()
        worst = max(worst, float(np.abs(logits - expected).max()))
    failed |= worst > tolerance
    print(f"{name}: logits within {worst:.2g}, {tolerance:.2g} allowed")
    if exact := golden["answers_sha256"].get(name):
        found = hashlib.sha256(answers).hexdigest()
        same = "same as at export" if found == exact else "different from the export: other kernels"
        print(f"{name}: outputs have sha256 {found[:16]}…, {same}")
sys.exit(failed)
