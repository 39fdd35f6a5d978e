"""What Keras does wrong when several devices train, and how it is mended while a run needs it.

Seen in Keras 3.15.1 with TensorFlow 2.21. This file can go when tests/test_devices.py passes
without it, fault by fault:

1. `fit` builds the metrics and the loss from the batches of all devices at once (`PerReplica`
   values), which fails in several processes: they are built before, from the shape of a part.
2. In several processes `reduce_per_replica` averages scalars along axis 0, which they do not have.
3. Optimizers add up the gradients of the devices last: after they were clipped, each by its own
   length, and after each device looked for overflows in its own. They are added up first here.
4. All devices draw the same random numbers, and would drop the same branches of their parts.
"""

from contextlib import contextmanager

import keras
import tensorflow as tf
from keras.src.backend.tensorflow import trainer as keras_trainer

_APART = 7919  # from the seed of one device to that of the next


def build(model, images, targets):
    """Gives a compiled model its metrics and its optimizer their variables (fault 1).

    Args:
        model: made, and compiled, in the scope of its strategy.
        images, targets: a part of a batch; only their shapes count.
    """
    with model.distribute_strategy.scope():
        model._symbolic_build(data_batch=(images, targets))


@contextmanager
def mended(model):
    """Within, `fit` works for a model that `build` has seen; for one device nothing is done."""
    strategy = model.distribute_strategy
    if strategy.num_replicas_in_sync == 1:
        yield
        return
    original = keras_trainer.reduce_per_replica

    def reduce_per_replica(values, for_strategy, reduction):
        if for_strategy is strategy and reduction in ("auto", "mean"):
            return keras.tree.map_structure(
                lambda value: strategy.reduce("MEAN", value, axis=None), values
            )
        return original(values, for_strategy, reduction)

    keras_trainer.reduce_per_replica = reduce_per_replica
    model._maybe_symbolic_build = lambda *arguments, **named: None
    original_next = keras.random.SeedGenerator.next
    keras.random.SeedGenerator.next = _of_device(original_next)
    _add_up_first(model.optimizer)
    try:
        yield
    finally:
        keras_trainer.reduce_per_replica = original
        keras.random.SeedGenerator.next = original_next
        del model._maybe_symbolic_build


def _of_device(original):
    def next_seed(self, ordered=True):
        seed = original(self, ordered)
        context = tf.distribute.get_replica_context()
        number = context.replica_id_in_sync_group if context else 0
        return seed + tf.stack([tf.cast(number, seed.dtype) * _APART, tf.cast(0, seed.dtype)])

    return next_seed


def _add_up_first(optimizer):
    apply = optimizer.apply

    def apply_sum(gradients, trainable_variables=None):
        context = tf.distribute.get_replica_context()
        added = context.all_reduce(tf.distribute.ReduceOp.SUM, list(gradients))
        return apply(added, trainable_variables)

    optimizer.apply = apply_sum
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    inner._all_reduce_sum_gradients = list
