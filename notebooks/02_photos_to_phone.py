# %% [markdown]
# # From photos to a file for the phone
#
# About a minute and a half on two CPU cores. Data: 1,797 handwritten digits of the UCI
# repository, which come with the package, written out as PNG files, one folder a class, as you would
# have your own photos.
#
# The same in a terminal is `keras-resnet train photos`, `keras-resnet export --tflite --quantize
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

logging.getLogger("tensorflow").setLevel("ERROR")

# %%
images, digits = load_digits()
photos = Path("photos")
for i, (pixels, digit) in enumerate(zip(images, digits, strict=True)):
    folder = photos / str(digit)
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.uint8(pixels * (255 / 16))).resize((32, 32)).save(folder / f"{i:04d}.png")

# %% [markdown]
# ## Train
#
# ResNet-8, the smallest of the family. A fifth of the images is held out, the same ones each time.
# Pixels go in raw, 0 to 255; the normalisation is a layer of the model, so that nobody has to repeat
# it on the phone.

# %%
run = kr.train(
    data=photos, model="resnet8", image_size=32, epochs=6, flip=False, seed=1, run_folder="run"
)

# %%
Picture("run/curves.png")

# %%
Picture("run/mistakes.png")

# %% [markdown]
# ## Export
#
# Each file is run by LiteRT, the phone's runtime, on the held-out images, beside Keras, before it is
# published. A file that lost more than a point of accuracy would not be there.

# %%
result = kr.export(run, saved_model=False, tflite=["none", "int8"], max_drop=1.0)
for row in result["artefacts"]:
    print(
        f"{row['file']:22} {row['bytes'] / 1e3:6.0f} kB  top-1 {row['top1']:.2%}  "
        f"agrees with Keras on {row['agreement']:.1%}"
    )

# %% [markdown]
# ## On the phone
#
# What an app does, in Python: read the labels, hand over raw pixels, take the largest logit.
# `export/preprocess.json` says how a photo becomes the input, `export/golden/` holds images with
# expected logits for the app's own test, and `--bundle android` writes a project around all of it.

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
checked = kr.verify(run)
assert checked["passed"] and checked["keras"]["top1"] > 0.9
assert np.mean(right) > 0.9
