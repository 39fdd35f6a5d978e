"""Runs trainings to compare, each in its own process, with its own memory and flags:
`python trainings.py JOB`.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from inputs import random_batch


@dataclass(frozen=True)
class Job:
    """A training."""

    trainer: str  # "ours", "keras", "torch": the functions below
    network: str
    classes: int
    size: int
    batch: int
    policy: str
    steps: int  # per measurement
    xla: bool = False


class Child:
    """A training in a process that runs until the end of `with`."""

    def __init__(self, job: Job):
        self._job = job
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)
        self._process = subprocess.Popen(
            [sys.executable, __file__, json.dumps(asdict(job))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
        )  # fmt: skip
        self._read()  # waits until it is ready

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self._process.stdin.close()
        self._process.wait()
        self._log.close()

    def seconds(self) -> float:
        """Seconds of one measurement."""
        print(file=self._process.stdin, flush=True)
        return self._read()

    def speed(self) -> float:
        """Images per second of one measurement."""
        return self._job.batch * self._job.steps / self.seconds()

    def _read(self):
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            self._log.seek(0)
            last = self._log.read().decode(errors="replace").strip().rpartition("\n")[2]
            what = f"{self._job.trainer} {self._job.network}"
            raise ChildProcessError(f"{what} ended with status {status}: {last[:200]}")
        return float(line)


def main() -> None:
    """Prepares the training and prints a line; then, for each input line, the seconds of its
    steps."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output of libraries must not mix with the answers
    job = Job(**json.loads(sys.argv[1]))
    train = {"ours": ours, "keras": keras_fit, "torch": torch_compile}[job.trainer](job)
    train(min(job.steps, 5))  # compiles
    print(0, file=channel, flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        train(job.steps)
        print(time.perf_counter() - began, file=channel, flush=True)


def ours(job: Job) -> Callable:
    """A function that runs a number of steps like the command, and waits for the end."""
    from keras_resnet import runtime

    runtime.prepare()  # as the command does before it loads TensorFlow
    import keras
    import numpy as np

    from keras_resnet.models import build
    from keras_resnet.recipes import resolve
    from keras_resnet.training.layers import for_training
    from keras_resnet.training.loop import CALL_SECONDS, MOST_STEPS
    from keras_resnet.training.losses import make_loss
    from keras_resnet.training.optimizer import make_optimizer
    from keras_resnet.training.step import TrainStep

    keras.config.set_dtype_policy(job.policy)
    model = build(job.network, job.classes, (None, None, 3))
    keras.config.set_dtype_policy("float32")
    model = for_training(model, xla=job.xla)
    config = resolve({"model": job.network})
    model.optimizer = make_optimizer(config, 0.01)
    loss = make_loss(config, np.arange(job.classes), job.classes)
    step = TrainStep(model, loss, xla=job.xla, loss_scale=job.policy == "mixed_float16")
    batches = iter(_repeated(job))

    def train(steps):
        calls = [CALL_SECONDS]  # as in the loop: steps of so many seconds per call
        while steps:
            count = max(1, min(steps, MOST_STEPS, int(CALL_SECONDS / min(calls))))
            began = time.perf_counter()
            step(batches, count)
            calls.append((time.perf_counter() - began) / count)
            steps -= count

    return train


def keras_fit(job: Job) -> Callable:
    """`ours` with Keras' `fit`: a network of keras.applications, or ResNet-20 in plain layers."""
    import keras

    keras.config.set_dtype_policy(job.policy)
    if job.network == "resnet20":
        model = _resnet20(job.classes)
    else:
        shape = (job.size, job.size, 3)
        model = getattr(keras.applications, job.network)(
            weights=None, classes=job.classes, input_shape=shape, classifier_activation=None
        )
    keras.config.set_dtype_policy("float32")
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=job.xla,
    )
    data = _repeated(job)
    return lambda steps: model.fit(data, steps_per_epoch=steps, shuffle=False, verbose=0)


def torch_compile(job: Job) -> Callable:
    """`ours` with torchvision: channels_last, autocast, torch.compile."""
    import torch
    import torchvision

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    model = getattr(torchvision.models, job.network)(num_classes=job.classes)
    model = model.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    network, loss = torch.compile(model), torch.nn.CrossEntropyLoss()
    shape = (job.batch, job.size, job.size, 3)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
    images = pixels.permute(0, 3, 1, 2)  # NHWC in memory
    labels = torch.randint(0, job.classes, (job.batch,), device=device)
    reduced = job.policy == "mixed_bfloat16"

    def train(steps):
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device, torch.bfloat16, enabled=reduced):
                value = loss(network(images.float() / 127.5 - 1), labels)
            value.backward()
            optimizer.step()
        value.item()  # synchronizes with the GPU

    return train


def _repeated(job):
    """A batch of random pixels, repeated."""
    import tensorflow as tf

    images, targets = random_batch(job.batch, job.size, job.classes)
    data = tf.data.Dataset.from_tensors((tf.cast(images, tf.uint8), targets))
    return data.repeat().prefetch(4)


def _resnet20(classes):
    """ResNet-20 of arXiv:1512.03385, section 4.2, in plain Keras layers, with 1×1 convolutions as
    shortcuts."""
    import keras

    layers = keras.layers

    def unit(x, filters, strides=1):
        return layers.BatchNormalization()(
            layers.Conv2D(filters, 3, strides=strides, padding="same")(x)
        )

    image = keras.Input((32, 32, 3))
    x = layers.ReLU()(unit(layers.Rescaling(1 / 127.5, -1.0)(image), 16))
    for filters in (16, 32, 64):
        for block in range(3):
            strides = 2 if filters > 16 and block == 0 else 1
            branch = unit(layers.ReLU()(unit(x, filters, strides)), filters)
            if strides == 2:
                x = layers.Conv2D(filters, 1, strides=2)(x)
            x = layers.ReLU()(layers.Add()([x, branch]))
    return keras.Model(image, layers.Dense(classes)(layers.GlobalAveragePooling2D()(x)))


if __name__ == "__main__":
    main()
