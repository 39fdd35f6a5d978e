"""Compares the input pipeline of `keras-resnet train` with those of Keras and PyTorch: images per
second at 224 pixels, with random crop and flip, from photos of 500×375.

    python benchmarks/pipeline.py

The others are `keras.utils.image_dataset_from_directory` with Keras' layers; torchvision's
ImageFolder in a DataLoader with one worker per core, if torchvision is installed; and, as the
limit, a program that only decodes the same photos at full size.

Our pipeline and PyTorch's crop a random share of the image (arXiv:1409.4842, section 6) and resize
it. Keras has no such layer: its pipeline resizes the whole image to 256 pixels and crops 224 of
them. The photos are parts of the two that scikit-learn contains, with noise.
"""

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from pairs import PAIRS, measure, report
from PIL import Image
from sklearn.datasets import load_sample_images

from keras_resnet.config import Config
from keras_resnet.data import sources
from keras_resnet.data.stream import training_stream

SIZE, BATCH = 224, 32
# The second is what a machine that others use can tell: both streams keep all cores busy.
CLOCKS = {
    "images per second": time.perf_counter,
    "images per second of one processor": time.process_time,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--photos", type=int, default=400)
    parser.add_argument(
        "--area", type=float, default=0.08, help="minimum area of a crop, as a share of the image"
    )
    parser.add_argument("--batches", type=int, default=30, help="batches per measurement")
    parser.add_argument("--json", default="pipeline.json", help="output file")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_photos(Path(folder), given.photos)
        config = Config(batch_size=BATCH, image_size=SIZE, crop_area=(given.area, 1.0))
        ours = our_stream(folder, config)
        rivals = {"Keras": keras_stream(folder), "decoding alone": decoded_stream(folder)}
        found = {
            f"{rival}: {name}": measure(
                *(speed_of(stream, given.batches, clock) for stream in (ours, theirs)), given.pairs
            )
            for rival, theirs in rivals.items()
            for name, clock in CLOCKS.items()
        }
        if importlib.util.find_spec("torchvision"):
            mine = speed_of(ours, given.batches, time.perf_counter)
            theirs = torch_speed(folder, config, given.batches)
            found["PyTorch: images per second"] = measure(mine, theirs, given.pairs)
        else:
            print("PyTorch is not installed: pip install torchvision")
    report(found, given.json, size=SIZE, batch=BATCH, area=given.area)


def make_photos(folder, count):
    """JPEGs of 500×375 pixels, the mean size in ImageNet, in two classes."""
    rng, wholes = np.random.default_rng(0), load_sample_images().images
    for i in range(count):
        whole = wholes[i % 2]
        top, left = rng.integers(0, 427 - 375 + 1), rng.integers(0, 640 - 500 + 1)
        part = whole[top : top + 375, left : left + 500].astype(int)
        noisy = np.clip(part + rng.normal(0, 6, part.shape), 0, 255).astype(np.uint8)
        home = folder / f"class{i % 2}"
        home.mkdir(exist_ok=True)
        Image.fromarray(noisy).save(home / f"{i:04d}.jpg", quality=90)


def our_stream(folder, config):
    """The pipeline of the command, for 1,000,000 steps."""
    source = sources.load(folder, val_split=0.01)
    return training_stream(source, config, size=SIZE, first_step=0, last_step=1_000_000)


def keras_stream(folder):
    crop, flip = keras.layers.RandomCrop(SIZE, SIZE), keras.layers.RandomFlip("horizontal")
    photos = keras.utils.image_dataset_from_directory(
        folder, label_mode="categorical", image_size=(256, 256), batch_size=BATCH, verbose=False
    )
    augmented = photos.repeat().map(
        lambda images, labels: (flip(crop(images, training=True), training=True), labels),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return augmented.prefetch(tf.data.AUTOTUNE)


def decoded_stream(folder):
    """Decodes whole photos on all cores: the limit of any pipeline that does so."""
    photos = tf.data.Dataset.list_files(f"{folder}/*/*.jpg", seed=0).repeat()
    decoded = photos.map(
        lambda path: tf.io.decode_jpeg(tf.io.read_file(path), channels=3),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return decoded.batch(BATCH).prefetch(tf.data.AUTOTUNE)


def torch_speed(folder, config, batches):
    """`speed_of` in another process: PyTorch and TensorFlow may crash in the same one."""
    script = Path(__file__).with_name("torch_images.py")
    numbers = (SIZE, BATCH, batches, *config.crop_area, *config.crop_aspect)
    process = subprocess.Popen(
        [sys.executable, script, folder, *map(str, numbers)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip

    def images_per_second():
        print(file=process.stdin, flush=True)
        return float(process.stdout.readline())

    return images_per_second


def speed_of(stream, batches, clock):
    """A function that measures the images per second of a stream, from its start each time: an idle
    stream would fill its buffers while the other is measured."""

    def images_per_second():
        started = iter(stream)
        for _ in range(batches):  # buffers filled, number of threads settled
            next(started)
        began = clock()
        for _ in range(batches):
            next(started)
        return batches * BATCH / (clock() - began)

    return images_per_second


if __name__ == "__main__":
    main()
