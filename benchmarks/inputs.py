"""Inputs of the rows of run.py: photos, random batches, an exported ResNet-50."""

import io
import shutil
from functools import partial

import numpy as np
from pairs import made_once

PHOTO = (500, 375)  # width and height in pixels: the mean in ImageNet
DIFFERENT = 400  # number of different photos; the others are copies


def photos(setting, count=DIFFERENT, size=PHOTO, name="photos"):
    """A folder of JPEGs in ten classes."""
    return made_once(setting.folder / name, partial(_write_photos, count=count, size=size))


def _write_photos(folder, count, size):
    """Writes random crops of scikit-learn's two photos, rescaled and with noise."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    shutil.rmtree(folder, ignore_errors=True)
    rng, encoded = np.random.default_rng(0), []
    wholes = [Image.fromarray(image) for image in load_sample_images().images]  # 640×427
    for i in range(min(count, DIFFERENT)):
        scale = rng.uniform(0.5, 1) * min(640 / size[0], 427 / size[1])
        width, height = (int(scale * side) for side in size)
        left, top = rng.integers(0, 640 - width + 1), rng.integers(0, 427 - height + 1)
        box = (left, top, left + width, top + height)
        part = np.asarray(wholes[i % 2].resize(size, box=box), float)
        noisy = np.clip(part + rng.normal(0, 6, part.shape), 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noisy).save(buffer, "JPEG", quality=90)
        encoded.append(buffer.getvalue())
    for i in range(count):
        home = folder / f"class{i % 10}"
        home.mkdir(parents=True, exist_ok=True)
        (home / f"{i:07d}.jpg").write_bytes(encoded[i % DIFFERENT])


def random_batch(count, size, classes):
    """Random images and targets, because some processors multiply zeros faster."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, size, size, 3)).astype(np.float32)
    targets = np.eye(classes, dtype=np.float32)[rng.integers(0, classes, count)]
    return tf.constant(images), tf.constant(targets)


def resnet50(setting):
    """A run of ResNet-50 with random weights, exported to float32 and int8 `.tflite` files, with a
    Python bundle."""
    return made_once(setting.folder / "resnet50", partial(_export_resnet50, setting))


def _export_resnet50(setting, folder):
    import keras

    import keras_resnet as kr

    shutil.rmtree(folder, ignore_errors=True)
    few = photos(setting, 40, name="few_photos")
    keras.utils.set_random_seed(0)
    # Without zero-initialized branches, and with batch-norm statistics of photos, so that, as after
    # a training, the outputs of all layers have similar magnitudes.
    model = kr.build("resnet50", 1000, zero_gamma=False)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(pixels(few, 16), training=True)
    weights, labels = setting.folder / "resnet50.weights.h5", setting.folder / "labels.txt"
    model.save_weights(weights)
    labels.write_text("".join(f"class{i}\n" for i in range(1000)))
    run = kr.import_weights(weights, model="resnet50", labels=labels, run_folder=folder)
    kr.export(
        run, data=few, saved_model=False, tflite=["none", "int8"], bundles=["python"], max_drop=100
    )  # with random weights, the accuracy limits of the gate do not apply


def pixels(folder, count):
    """float32 `(count, 224, 224, 3)` of photos."""
    import keras

    paths = sorted(folder.glob("*/*.jpg"))[:count]
    images = [keras.utils.load_img(path, target_size=(224, 224)) for path in paths]
    return np.stack([np.asarray(image, np.float32) for image in images])
