"""What a `Contract` asks for around the network, in operators that LiteRT has built in.

frame (b, h, w, 3) -> middle square -> (b, s, s, 3) -> network -> ÷ temperature -> softmax -> top k
"""

import keras
import tensorflow as tf


def input_size(model, contract):
    """(height, width) of the images that the wrapped model takes."""
    return contract.input_size or model.input_shape[1:3]


def around(model, contract, center_crop):
    """A function from images `(b, h, w, 3)` in [0, 255] to a dict of named outputs.

    Args:
        model: from `(b, s, s, 3)` to logits `(b, k)`.
        contract: a `Contract`.
        center_crop: the middle square of a frame, as a share of its shorter side.

    Returns:
        Function to `{"logits": (b, k)}`, `{"scores": (b, k)}` for probabilities, or `{"scores":
        (b, n), "classes": int32 (b, n)}` for the best n.
    """

    def serve(image):
        logits = model(_square(image, model, contract, center_crop), training=False)
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


def features(model, contract, center_crop):
    """The same with the pooled features in place of scores: `{"features": (b, c)}`."""
    pooled = keras.Model(model.input, model.get_layer("avg_pool").output)

    def serve(image):
        return {"features": pooled(_square(image, model, contract, center_crop), training=False)}

    return serve


def _square(image, model, contract, center_crop):
    """The middle square of a frame, as evaluation cuts it out, in the model's size."""
    if not contract.input_size:
        return image
    height, width = contract.input_size
    side = max(round(min(height, width) * center_crop), 1)
    top, left = (height - side) // 2, (width - side) // 2
    image = image[:, top : top + side, left : left + side]
    # Bilinear: a bicubic resize is no built-in operator, an antialiased one does not convert.
    return tf.image.resize(image, model.input_shape[1:3], "bilinear")
