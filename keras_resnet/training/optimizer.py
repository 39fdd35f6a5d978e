"""The optimizer of a run: which weights decay, how gradients are clipped and gathered."""

import keras
from keras import ops

NOT_DECAYED = ("gamma", "beta", "bias")  # of batch norms and layers: arXiv:1706.02677, section 5.3


def make_optimizer(config, rate):
    """A Keras optimizer for `config`.

    Args:
        config: a `Config`.
        rate: the learning rate, a number or a Keras schedule over the optimizer's updates.
    """
    shared = {
        "learning_rate": rate,
        "weight_decay": config.weight_decay or None,
        "global_clipnorm": config.clip_norm or None,
        "gradient_accumulation_steps": config.accumulate if config.accumulate > 1 else None,
        "use_ema": bool(config.ema),
        "ema_momentum": config.ema or 0.99,
    }
    if config.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(
            momentum=config.momentum, nesterov=config.nesterov, **shared
        )
    elif config.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(**{**shared, "weight_decay": config.weight_decay})
    else:
        optimizer = Lamb(**shared)
    optimizer.exclude_from_weight_decay(var_names=list(NOT_DECAYED))
    # At the end of every `fit`, Keras puts the averages in the place of the weights. A run is
    # several of them, and would go on from averages; `fit.py` takes them where they are judged.
    optimizer.finalize_variable_values = lambda variables: None
    return optimizer


class Lamb(keras.optimizers.Lamb):
    """LAMB with the paper's weight decay (arXiv:1904.00962, algorithm 2).

    Keras' own takes the decay outside of the trust ratio, as AdamW does: with the decay of a
    published recipe that shrinks a kernel tens of times as fast. What does not decay takes Adam's
    step without a trust ratio, as in the code that trained "ResNet strikes back" (timm's `Lamb`):
    a gamma that begins at 0 has no length to compare with.
    """

    def _apply_weight_decay(self, variables):
        """Left to `update_step`."""

    def update_step(self, gradient, variable, learning_rate):
        rate = ops.cast(learning_rate, variable.dtype)
        gradient = ops.cast(gradient, variable.dtype)
        step = ops.cast(self.iterations + 1, variable.dtype)
        first = self._momentums[self._get_variable_index(variable)]
        second = self._velocities[self._get_variable_index(variable)]
        self.assign_add(first, (gradient - first) * (1 - self.beta_1))
        self.assign_add(second, (ops.square(gradient) - second) * (1 - self.beta_2))
        mean = first / (1 - self.beta_1**step)
        spread = ops.sqrt(second / (1 - self.beta_2**step)) + self.epsilon
        update = mean / spread
        if self.weight_decay and self._use_weight_decay(variable):
            update += self.weight_decay * variable
            update *= _trust(_length(variable), _length(update))
        self.assign_sub(variable, rate * update)


def _length(weights):
    return ops.sqrt(ops.sum(ops.square(weights)))


def _trust(weight, update):
    """|weight| / |update|; 1 where either is 0."""
    known = ops.logical_and(weight > 0, update > 0)
    return ops.where(known, weight / ops.where(known, update, 1.0), 1.0)
