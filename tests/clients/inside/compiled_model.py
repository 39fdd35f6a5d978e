"""CompiledModel on the golden set: python compiled_model.py EXPORT cpu|gpu

Runs in an environment that holds ai-edge-litert alone.
"""

import json
import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.compiled_model import CompiledModel, HardwareAccelerator
from PIL import Image


def main(export, where):
    golden = json.loads((export / "golden" / "golden.json").read_text())
    entries = golden["images"]
    images = [np.array(Image.open(export / "golden" / entry["file"])) for entry in entries]
    for name in (name for name in golden["tolerance"] if name.endswith(".tflite")):
        model = CompiledModel.from_file(
            str(export / name), hardware_accel=HardwareAccelerator[where.upper()]
        )
        expected = np.float32([entry["logits"][name] for entry in entries])
        found = np.stack([run(model, pixels) for pixels in images])
        agree = (found.argmax(-1) == expected.argmax(-1)).mean()
        print(
            f"{name} on {where}: logits within {np.abs(found - expected).max():.2g}, same class "
            f"{agree:.0%}, fully accelerated: {model.is_fully_accelerated()}"
        )
        # A GPU may compute in float16: there the class decides.
        assert agree == 1 and (
            where == "gpu" or np.abs(found - expected).max() <= golden["tolerance"][name]
        )


def run(model, pixels):
    """float32 logits of one image, for a file with float32 ends."""
    inputs, outputs = model.create_input_buffers(0), model.create_output_buffers(0)
    inputs[0].write(np.ascontiguousarray(pixels[None].astype(np.float32)))
    model.run_by_index(0, inputs, outputs)
    (key,) = model.get_signature_list()
    (detail,) = model.get_output_tensor_details(key).values()
    return outputs[0].read(int(np.prod(detail["shape"])), np.float32)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
