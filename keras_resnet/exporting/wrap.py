"""Pre- and postprocessing of a plan around the network, in built-in operators of LiteRT.

frame (b, h, w, 3) -> middle square -> (b, s, s, 3) -> network -> ÷ temperature -> softmax -> top k
"""

from collections.abc import Callable

import keras
import tensorflow as tf

from keras_resnet.exporting.plan import ExportPlan

Serve = Callable[[tf.Tensor], dict[str, tf.Tensor]]


def around(plan: ExportPlan, model: keras.Model) -> Serve:
    """A function from images `(b, h, w, 3)` in [0, 255] to a dict of named outputs.

    Args:
        plan: the `ExportPlan`; its contract and its centre crop count.
        model: from `(b, s, s, 3)` to logits `(b, k)`.

    Returns:
        Function to `{"logits": (b, k)}`, `{"scores": (b, k)}` for probabilities, or `{"scores":
        (b, n), "classes": int32 (b, n)}` for the best n.
    """
    contract = plan.contract

    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = model(_square(image, plan), training=False)
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
        return {"features": pooled(_square(image, plan), training=False)}

    return serve


def _square(image: tf.Tensor, plan: ExportPlan) -> tf.Tensor:
    """The middle square of a frame, as evaluation cuts it out, in the model's size."""
    if not plan.input_size:
        return image
    height, width = plan.input_size
    side = max(round(min(height, width) * plan.center_crop), 1)
    top, left = (height - side) // 2, (width - side) // 2
    image = image[:, top : top + side, left : left + side]
    # Bilinear: a bicubic resize is no built-in operator, an antialiased one does not convert.
    return tf.image.resize(image, (plan.side, plan.side), "bilinear")
