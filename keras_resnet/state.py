"""The global state of a process: fixed while the library works, and restored afterwards.

Results of this package depend only on its own settings, not on a notebook's dtype policy or
`~/.keras/keras.json`; and what a program computes after a call does not depend on the call.
"""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from threading import RLock
from typing import Any, TypeVar

from keras_resnet.errors import InputError
from keras_resnet.messages import no_retracing_warnings, root_logger_kept

# A way to read a setting, to write it, and the value that the library works with.
_Setting = tuple[Callable[[], Any], Callable[[Any], None], Any]

_Made = TypeVar("_Made")

_ONE_THREAD = RLock()


@contextmanager
def isolated(*, any_backend: bool = False) -> Iterator[None]:
    """Sets global settings to those of this library; a context manager and decorator,
    `@isolated()`.

    Pinned: Keras' dtype policy, floatx, epsilon and image data format; of TensorFlow op
    determinism, TF32 and eager functions. The random states of Python and NumPy are restored.
    TensorFlow's and Keras' own cannot be read, so nothing within may draw from them or seed them:
    `random.seed` decides the weights of Keras layers.

    The settings belong to the whole process: calls from several threads take turns.

    Args:
        any_backend: whether what is done within works on each of Keras' backends.

    Raises:
        InputError: Keras runs on another backend than TensorFlow, or the caller is inside of a
            graph or a distribution scope, which cannot be left from here.
    """
    import keras
    import numpy as np

    settings = _of_keras(keras.config)
    if keras.backend.backend() == "tensorflow":
        settings += _of_tensorflow()
    elif not any_backend:
        raise InputError(
            f"Keras runs on {keras.backend.backend()} in this process, but TensorFlow is required; "
            "restart Python with KERAS_BACKEND=tensorflow"
        )
    with _ONE_THREAD, ExitStack() as restoring:
        restoring.enter_context(root_logger_kept())
        restoring.enter_context(no_retracing_warnings())
        restoring.callback(random.setstate, random.getstate())
        restoring.callback(np.random.set_state, np.random.get_state())
        for read, write, value in settings:
            restoring.callback(write, read())
            write(value)
        yield


def _of_keras(config: Any) -> list[_Setting]:
    # The policy first: Keras derives it from floatx when it is read for the first time.
    return [
        (config.dtype_policy, config.set_dtype_policy, "float32"),
        (config.floatx, config.set_floatx, "float32"),
        (config.epsilon, config.set_epsilon, 1e-7),
        (config.image_data_format, config.set_image_data_format, "channels_last"),
    ]


def _of_tensorflow() -> list[_Setting]:
    import tensorflow as tf

    # TensorFlow exports how to enable op determinism, and not how to disable it. These are public
    # names of a module that is not exported: a test notices when they go.
    from tensorflow.python.framework import config as tf_config

    if not tf.executing_eagerly():
        raise InputError(
            "this cannot be called within a tf.Graph or a tf.function; call it outside"
        )
    if tf.distribute.has_strategy():
        raise InputError(
            "this cannot be called within the scope of a tf.distribute strategy; call it outside: "
            "it uses all GPUs by itself, or as many as `devices` says"
        )

    def set_op_determinism(value: bool) -> None:
        tf_config.enable_op_determinism() if value else tf_config.disable_op_determinism()

    experimental = tf.config.experimental
    return [
        (tf_config.is_op_determinism_enabled, set_op_determinism, False),
        (tf.config.functions_run_eagerly, tf.config.run_functions_eagerly, False),
        (
            experimental.tensor_float_32_execution_enabled,
            experimental.enable_tensor_float_32_execution,
            True,
        ),
    ]


def without_values(make: Callable[[], _Made]) -> _Made:
    """What `make()` returns; Keras variables that it makes have shapes and no values, which takes
    a tenth of the time and none of the memory.
    """
    import keras

    policy = keras.config.dtype_policy()

    def made() -> _Made:
        keras.config.set_dtype_policy(policy)
        with keras.StatelessScope(initialize_variables=False):
            return make()

    # In a thread of its own: Keras keeps a list of variables without values for each thread, and
    # would give them values at the end of the next StatelessScope.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(made).result()
