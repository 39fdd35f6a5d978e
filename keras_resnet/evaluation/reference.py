"""Float32 precision for the reference that exported files are compared with."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def true_float32() -> Iterator[None]:
    """Disables TF32 within the context; also a decorator, `@true_float32()`.

    From the Ampere generation on, GPUs compute float32 convolutions and matrix products in TF32 by
    default: 10 bits of mantissa. On an H100 the logits of a ResNet-20 were 0.003 off, five times
    what float32 rounding explains, and `export` refused good files.

    A function that XLA has compiled keeps the precision of its first call: that call must be made
    within the context. Not thread-safe: the switch is global to the process.
    """
    import tensorflow as tf  # not at the top: LiteRT and ONNX Runtime work without it

    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)
