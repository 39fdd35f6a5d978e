"""Writes a Keras model as SavedModel with named inputs and outputs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import tensorflow as tf

from keras_resnet.data.views import center_view
from keras_resnet.exporting import wrap
from keras_resnet.exporting.folding import fold
from keras_resnet.exporting.plan import ExportPlan


def write_for_serving(plan: ExportPlan, model: keras.Model, folder: Path) -> None:
    """Writes a SavedModel with two signatures.

    serving_default: image, float32 `(b, h, w, c)` in [0, 255] -> logits `(b, k)`, or the outputs of
        the plan.
    serving_bytes: image_bytes, encoded images `(b,)` -> logits, scores `(b, k)` and label `(b,)`.
        Decodes, fits and resizes as evaluation does, but ignores the EXIF orientation.
    """
    size, crop = plan.geometry, plan.center_crop
    names = tf.constant(plan.classes)

    def from_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        image = tf.map_fn(
            lambda data: tf.cast(center_view(data, 1, size=size, crop=crop), tf.float32),
            image_bytes,
            fn_output_signature=tf.TensorSpec(size.shape, tf.float32),
        )
        logits = model(image, training=False) / plan.temperature
        return {
            "logits": logits,
            "scores": tf.nn.softmax(logits),
            "label": tf.gather(names, tf.argmax(logits, -1)),
        }

    # No `track(model)`: it would store each weight a second time, beside those of the endpoints.
    archive = keras.export.ExportArchive()
    pixels = tf.TensorSpec((None, *plan.input_shape), tf.float32, name="image")
    encoded = tf.TensorSpec((None,), tf.string, name="image_bytes")
    archive.add_endpoint("serving_default", wrap.around(plan, model), input_signature=[pixels])
    archive.add_endpoint("serving_bytes", from_bytes, input_signature=[encoded])
    archive.write_out(str(folder), verbose=False)


def write_for_conversion(
    plan: ExportPlan,
    model: keras.Model,
    folder: Path,
    *,
    features: bool = False,
    batch: int | None = 1,
    pooled: bool = False,
) -> None:
    """Writes a SavedModel with one signature and batch 1, as phones need it. The only input of the
    converter that keeps the names of inputs and outputs and the weights (`from_concrete_functions`
    writes a small file of NaN without an error). With `batch=None` it takes any number of images;
    with `features` it outputs the pooled features instead of scores. `pooled` is for int8 weights:
    see `fold`.
    """
    model = fold(model, pooled=pooled) if plan.is_of_family else model
    serve = wrap.features if features else wrap.around
    archive = keras.export.ExportArchive()
    image = tf.TensorSpec((batch, *plan.input_shape), tf.float32, name="image")
    with _inlined():
        archive.add_endpoint("serving_default", serve(plan, model), input_signature=[image])
        archive.write_out(str(folder), verbose=False)


@contextmanager
def _inlined() -> Iterator[None]:
    """Inlines nested functions while tracing: Keras compiles grouped convolutions, and tf2onnx
    cannot convert compiled functions.
    """
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)
