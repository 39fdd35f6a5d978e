"""Adds the pre- and postprocessing of a plan to the network, in built-in operators of LiteRT.

frame (b, h, w, c) -> fit -> size of the model -> network -> ÷ temperature -> softmax -> top k
"""

from collections.abc import Callable

import keras
import tensorflow as tf

from keras_resnet.exporting.plan import ExportPlan

Serve = Callable[[tf.Tensor], dict[str, tf.Tensor]]


def around(plan: ExportPlan, model: keras.Model) -> Serve:
    """A function from images `(b, h, w, c)` in [0, 255] to a dict of named outputs.

    Args:
        plan: the `ExportPlan`, for its contract and centre crop.
        model: model from `(b, h, w, c)` to logits `(b, k)`.

    Returns:
        Function that returns `{"logits": (b, k)}`, `{"scores": (b, k)}` for probabilities, or
        `{"scores": (b, n), "classes": int32 (b, n)}` for the best n.
    """
    contract = plan.contract

    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = model(_fitted(image, plan), training=False)
        if contract.temperature != 1:
            logits = logits / contract.temperature
        if contract.scores == "logits":
            return {"logits": logits}
        scores = tf.nn.softmax(logits)  # (b, k)
        if not contract.top:
            return {"scores": scores}
        best, classes = tf.math.top_k(scores, contract.top)
        return {"scores": best, "classes": classes}

    return serve


def features(plan: ExportPlan, model: keras.Model) -> Serve:
    """`around` with the pooled features instead of scores: `{"features": (b, c)}`."""
    pooled = keras.Model(model.input, model.get_layer("avg_pool").output)

    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"features": pooled(_fitted(image, plan), training=False)}

    return serve


def _fitted(image: tf.Tensor, plan: ExportPlan) -> tf.Tensor:
    """The part of a frame that evaluation uses, resized to the model's input."""
    if not plan.input_size:
        return image
    form = plan.geometry
    y, x, h, w = form.window(*plan.input_size, plan.center_crop)
    height, width = form.resized(h, w)
    # Bilinear: LiteRT has no bicubic operator, and an antialiased resize does not convert.
    image = tf.image.resize(image[:, y : y + h, x : x + w], (height, width), "bilinear")
    if (height, width) == (form.height, form.width):
        return image
    return tf.pad(image, [(0, 0), *form.borders(height, width), (0, 0)])
