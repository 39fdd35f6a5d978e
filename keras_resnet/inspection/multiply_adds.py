"""Multiply-adds of Keras layers, `.tflite` operators and ONNX nodes, counted alike; those of
transposed convolutions in Keras only.

Multiply-accumulate operations of convolutions and dense layers, biases not counted: the convention
of torchvision and fvcore, in which ResNet-50 v1.5 has 4.089 G.
"""

import math
from collections.abc import Iterable


def count(kernel: Iterable[int], positions: Iterable[int]) -> int:
    """The multiply-adds of a kernel: each of its numbers is used once at each position.

    Args:
        kernel: its shape, in any order of the axes; of a grouped or depthwise convolution, what is
            stored.
        positions: the sides of the output without the channels; of a transposed convolution, of the
            input. With a batch among them, the count is that of the batch.
    """
    return math.prod(kernel) * math.prod(positions)
