"""Knowledge distillation (arXiv:1503.02531): a network learns the outputs of a finished run."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import tensorflow as tf

from keras_resnet import run
from keras_resnet.config import Config
from keras_resnet.data import stream
from keras_resnet.data.decode import as_written
from keras_resnet.data.sources import Source
from keras_resnet.errors import InputError
from keras_resnet.evaluation.scores import trained_on
from keras_resnet.geometry import Geometry
from keras_resnet.messages import log
from keras_resnet.specs import CUSTOM
from keras_resnet.training.layers import build_under, for_training


def find_teacher(config: Config) -> run.Run | None:
    """The run of the teacher; None without a teacher.

    Raises:
        InputError: the run is not finished, or its channels, aspect ratio or fit differ.
    """
    if not config.teacher:
        return None
    teacher = run.open_run(config.teacher)
    if not teacher.manifest:
        raise InputError(
            f"the teacher {teacher.path} is not finished; {run.resume_command(teacher.path)} first"
        )
    if teacher.config.channels != config.channels:
        raise InputError(
            f"the teacher {teacher.path} takes images of {teacher.config.channels} channels; train "
            f"with --channels {teacher.config.channels}"
        )
    own, other = config.geometry, teacher.config.geometry
    has_its_aspect = own.height * other.width == own.width * other.height
    if own.fit != other.fit or not (has_its_aspect or own.fit == "stretch"):
        raise InputError(
            f"the teacher {teacher.path} takes images of {other.height}x{other.width}, --fit "
            f"{other.fit}; this network takes {own.height}x{own.width}, --fit {own.fit}: it needs "
            "the same aspect ratio and --fit, or the teacher would see distorted images"
        )
    return teacher


def require_same_classes(teacher: run.Run, source: Source) -> None:
    """Raises InputError if images and teacher have different classes; logs a description of the
    teacher, and warnings about its training."""
    if teacher.classes != source.classes:
        raise InputError(
            f"the teacher {teacher.path} has the classes {', '.join(teacher.classes[:5])} …, the "
            f"data {', '.join(source.classes[:5])} …; it must have the same classes in the same "
            "order"
        )
    log.info(
        f"teacher {teacher.path}: {teacher.config.network} at {teacher.config.image_size} pixels"
    )
    if smoothing := teacher.config.label_smoothing:
        log.warning(
            f"the teacher was trained with --label-smoothing {smoothing:g}, so its outputs say "
            "less about which classes are similar; train it with --label-smoothing 0"
        )
    if seen := trained_on(teacher, source.splits["val"]):
        log.warning(
            f"the teacher was trained on {seen:,} validation images of this run, whose scores will "
            "be too good; train both with the same --seed and --val-split"
        )


def views_for_both(source: Source, config: Config, *, size: int, **span: Any) -> tf.data.Dataset:
    """The training stream of a network with a teacher: both see the same crop and the same mixed
    images, each at its own size, so that the teacher's outputs are valid targets
    (arXiv:2106.05237, section 3.1).

    Args:
        source, config, size, span: as in `stream.training_stream`.

    Returns:
        tf.data.Dataset of (uint8 `(b, h, w, c)`, targets `(b, k)`, uint8 `(b, h', w', c)`), the
        last for the teacher.
    """
    own, others = config.geometry.scaled(size), run.open_run(config.teacher).config.geometry
    # Decoded at the larger of the two sizes: a smaller image would lack detail.
    side = max(size, others.side)
    config = replace(config, pad=round(config.pad * side / size))
    batches = stream.training_stream(source, config, size=side, **span)

    @as_written
    def both(images: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return _resized(images, own), targets, _resized(images, others)

    return batches.map(both, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)


def _resized(images: tf.Tensor, form: Geometry) -> tf.Tensor:
    """Resizes to uint8 `(b, h, w, c)` of this geometry."""
    if images.shape[1:3] == (form.height, form.width):
        return images
    resized = tf.image.resize(images, (form.height, form.width), antialias=True)
    return tf.cast(tf.round(resized), tf.uint8)


def open_teacher(
    config: Config, policy: str, strategy: tf.distribute.Strategy
) -> Callable[[tf.Tensor], tf.Tensor] | None:
    """A function of images `(b, h, w, c)` in [0, 255], at the teacher's size, to its logits
    `(b, k)` in float32; None without a teacher.

    Args:
        config: settings of the student.
        policy: dtype policy of the training and of the teacher.
        strategy: strategy of the training: each device has the teacher's weights.
    """
    if not config.teacher:
        return None
    teacher = run.open_run(config.teacher)
    model = teacher.model()
    with strategy.scope():
        if teacher.config.model != CUSTOM.name:
            fast = build_under(policy, teacher.config, len(teacher.classes))
            fast.set_weights(model.get_weights())
            model = fast
        model = for_training(model)
    return lambda images: tf.cast(model(images, training=False), tf.float32)
