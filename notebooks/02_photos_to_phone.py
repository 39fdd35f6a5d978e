# %% [markdown]
# # From photos to a file for the phone
#
# About a minute on two CPU cores. Data: 1,797 handwritten digits of the UCI
# repository, included in the package. The first cell writes them as PNG files, one folder per class,
# like a folder of your own photos.
#
# The same steps in a terminal: `keras-resnet train photos`, `keras-resnet export --tflite --quantize
# int8`, `keras-resnet verify`.

# %%
import json
import logging
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from IPython.display import Image as Picture
from PIL import Image

import keras_resnet as kr
from keras_resnet.data.digits import load_digits
from keras_resnet.report import plots

logging.getLogger("tensorflow").setLevel("ERROR")

# %%
images, digits = load_digits()
photos = Path("photos")
for i, (pixels, digit) in enumerate(zip(images, digits, strict=True)):
    folder = photos / str(digit)
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.uint8(pixels * (255 / 16))).resize((32, 32)).save(folder / f"{i:04d}.png")
first = [np.asarray(Image.open(photos / str(digits[i]) / f"{i:04d}.png")) for i in range(20)]
grey = np.stack(first)[..., None].repeat(3, axis=-1)
names = [str(digit) for digit in digits[:20]]
Picture(plots.image_grid(grey, names, "photos.png", title="Twenty of the photos", columns=10))

# %% [markdown]
# ## Train
#
# ResNet-8 is the smallest network of the family. A fifth of the images is the validation split, the
# same images in each run. The model takes raw pixels, 0 to 255: normalization is a layer of the
# model, so an app does not have to repeat it.

# %%
run = kr.train(
    data=photos,
    model="resnet8",
    image_size=32,
    epochs=3,
    batch_size=16,
    flip=False,
    seed=1,
    run_folder="run",
)

# %%
Picture("run/curves.png")

# %%
Picture("run/mistakes.png")

# %% [markdown]
# ## Export
#
# Before a file is published, LiteRT, the phone's runtime, runs it on the validation images, and the
# results are compared with Keras. A file that loses more than one point of accuracy is not published.

# %%
result = kr.export(run, saved_model=False, tflite=["none", "int8"], max_drop=1.0)
for row in result.artefacts:
    print(
        f"{row.file:22} {row.bytes / 1e3:6.0f} kB  top-1 {row.top1:.2%}  "
        f"agrees with Keras on {row.agreement:.1%}"
    )

# %% [markdown]
# ## On the phone
#
# This is what an app does, in Python: read the labels, pass raw pixels, take the largest logit.
# `export/preprocess.json` describes the preprocessing of a photo. `export/golden/` holds images with
# expected logits for the app's own test. `--bundle android` writes a whole Android project.

# %%
print(json.dumps(json.loads(Path("run/export/preprocess.json").read_text()), indent=1)[:600])

interpreter = Interpreter(model_path="run/export/model_int8.tflite")
classify = interpreter.get_signature_runner()
labels = Path("run/export/labels.txt").read_text().split()
right = []
for i in range(0, 1797, 30):
    photo = Image.open(photos / str(digits[i]) / f"{i:04d}.png").convert("RGB")
    (logits,) = classify(image=np.asarray(photo, np.float32)[None]).values()
    right.append(labels[int(logits.argmax())] == str(digits[i]))
print(f"{np.mean(right):.1%} of {len(right)} photos right, in LiteRT alone")

# %%
verification = kr.verify(run)
assert verification.passed and verification.keras.top1 > 0.9
assert np.mean(right) > 0.9
