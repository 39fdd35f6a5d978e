"""Rows of run.py: the input pipeline of `keras-resnet train`, in images per second at 224 pixels,
with random crop and flip, from photos of 500×375.

Our pipeline and PyTorch's take a random resized crop (arXiv:1409.4842, section 6). Keras has no
such layer: its pipeline resizes the whole image to 256 pixels and crops it to 224.
"""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from inputs import photos
from pairs import measure

SIZE, BATCH, BATCHES = 224, 32, 30  # BATCHES: per measurement
AREA = (0.08, 1.0)  # area of a crop relative to the image


def c8(setting):
    folder = photos(setting)
    return measure(_our_speed(folder), _speed_of(_keras_stream(folder)), setting.pairs)


def c9(setting):
    folder = photos(setting)
    with _torch(folder) as process:
        return measure(_our_speed(folder), lambda: _torch_speed(process), setting.pairs)


def c10(setting):
    folder = photos(setting)
    return measure(_our_speed(folder), _decoding_speed(folder), setting.pairs)


def _our_speed(folder):
    """The speed of the command's pipeline."""
    from keras_resnet.data import sources
    from keras_resnet.data.stream import training_stream

    source = sources.load(folder, val_split=0.05)
    config = _config()
    stream = training_stream(source, config, size=SIZE, first_step=0, last_step=1_000_000)
    return _speed_of(stream)


def _config():
    from keras_resnet.config import Config

    return Config(batch_size=BATCH, image_size=SIZE, crop_area=AREA)


def _keras_stream(folder):
    import keras
    import tensorflow as tf

    crop, flip = keras.layers.RandomCrop(SIZE, SIZE), keras.layers.RandomFlip("horizontal")
    images = keras.utils.image_dataset_from_directory(
        folder, label_mode="categorical", image_size=(256, 256), batch_size=BATCH, verbose=False
    )
    augmented = images.repeat().map(
        lambda images, labels: (flip(crop(images, training=True), training=True), labels),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return augmented.prefetch(tf.data.AUTOTUNE)


def _speed_of(stream):
    """A function that measures the images per second of a stream. It restarts the stream each time:
    an idle one would fill its buffers while the other is measured."""

    def images_per_second():
        started = iter(stream)
        for _ in range(BATCHES):  # fills buffers and lets the number of threads settle
            next(started)
        began = time.perf_counter()
        for _ in range(BATCHES):
            next(started)
        return BATCHES * BATCH / (time.perf_counter() - began)

    return images_per_second


def _torch(folder):
    """PyTorch in a separate process, because it may crash in one with TensorFlow."""
    config, script = _config(), Path(__file__).with_name("torch_images.py")
    numbers = (SIZE, BATCH, BATCHES, *config.crop_area, *config.crop_aspect)
    return subprocess.Popen(
        [sys.executable, script, folder, *map(str, numbers)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def _torch_speed(process):
    print(file=process.stdin, flush=True)
    return float(process.stdout.readline())


def _decoding_speed(folder):
    """A function that only decodes the same photos, at full size, with libjpeg-turbo on all cores:
    the limit of any pipeline that decodes at full size."""
    import simplejpeg

    encoded = [path.read_bytes() for path in folder.glob("*/*.jpg")]
    encoded *= -(-BATCHES * BATCH // len(encoded))

    def decode(data):
        simplejpeg.decode_jpeg(data)  # releases the GIL

    def images_per_second():
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            began = time.perf_counter()
            for _ in threads.map(decode, encoded):
                pass
            return len(encoded) / (time.perf_counter() - began)

    return images_per_second
