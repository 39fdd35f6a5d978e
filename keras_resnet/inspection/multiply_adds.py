"""Multiply-adds of Keras layers, `.tflite` operators and ONNX nodes, by one definition. Transposed
convolutions are counted in Keras only.

Multiply-accumulate operations of convolutions and dense layers, biases not counted: the convention
of torchvision and fvcore, in which ResNet-50 v1.5 has 4.089 G.
"""

import math
from collections.abc import Iterable


def count(kernel: Iterable[int], positions: Iterable[int]) -> int:
    """The multiply-adds of a kernel: each of its values is used once at each position.

    Args:
        kernel: its shape, with axes in any order; for a grouped or depthwise convolution, the
            stored shape.
        positions: shape of the output without channels; for a transposed convolution, of the
            input. With a batch dimension, the count is for the batch.
    """
    return math.prod(kernel) * math.prod(positions)
