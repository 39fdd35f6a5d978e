"""The global state of a process: fixed during a call of the library, and restored afterwards.

Results of this package depend only on its own settings, not on a notebook's dtype policy or
`~/.keras/keras.json`; a call does not affect the later results of a program.
"""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from threading import RLock
from typing import Any, TypeVar

from keras_resnet.errors import InputError
from keras_resnet.messages import no_retracing_warnings, root_logger_kept

# Getter and setter of a setting, and the value during a call of the library.
_Setting = tuple[Callable[[], Any], Callable[[Any], None], Any]

_T = TypeVar("_T")

_ONE_THREAD = RLock()


@contextmanager
def isolated(*, any_backend: bool = False) -> Iterator[None]:
    """Sets global settings to those of this library; a context manager and decorator,
    `@isolated()`.

    Fixed are Keras' dtype policy, floatx, epsilon and image data format, and TensorFlow's op
    determinism, TF32 and eager functions. The random states of Python and NumPy are restored. Those
    of TensorFlow and Keras cannot be read, so code inside must not use or seed them: the initial
    weights of Keras layers are seeded by `random.seed`.

    The settings are global to the process, so calls from several threads run one after the other.

    Args:
        any_backend: whether the code inside works on every Keras backend.

    Raises:
        InputError: Keras runs on another backend than TensorFlow, or the caller is inside of a
            graph or a distribution scope.
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
    # The policy comes first: Keras derives it from floatx at the first read.
    return [
        (config.dtype_policy, config.set_dtype_policy, "float32"),
        (config.floatx, config.set_floatx, "float32"),
        (config.epsilon, config.set_epsilon, 1e-7),
        (config.image_data_format, config.set_image_data_format, "channels_last"),
    ]


def _of_tensorflow() -> list[_Setting]:
    import tensorflow as tf

    # TensorFlow's public API can enable op determinism, but not disable it. This internal module
    # can; a test fails if its functions are removed.
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


def without_values(make: Callable[[], _T]) -> _T:
    """Returns `make()`, called so that new Keras variables have shapes but no values, which takes
    a tenth of the time and no memory.
    """
    import keras

    policy = keras.config.dtype_policy()

    def call() -> _T:
        keras.config.set_dtype_policy(policy)
        with keras.StatelessScope(initialize_variables=False):
            return make()

    # In a separate thread: Keras keeps a list of variables without values per thread, and would
    # initialize them at the end of the next StatelessScope.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(call).result()
