"""The optimizer of a run: which weights decay, how gradients are clipped and gathered."""

import keras
from keras import ops

NOT_DECAYED = ("gamma", "beta", "bias")  # of batch norms and layers: arXiv:1706.02677, section 5.3


def make_optimizer(config, rate, head=()):
    """A Keras optimizer for `config`.

    Args:
        config: a `Config`.
        rate: the learning rate, a number or a Keras schedule over the optimizer's updates.
        head: the variables that have this rate; all others have `config.body_rate` of it.
    """
    shared = {
        "decay": config.weight_decay,
        "body_rate": config.body_rate,
        "head": head,
        "learning_rate": rate,
        "global_clipnorm": config.clip_norm or None,
        "gradient_accumulation_steps": config.accumulate if config.accumulate > 1 else None,
        "use_ema": bool(config.ema),
        # Keras averages with each batch; `ema` is the momentum of an update.
        "ema_momentum": config.ema ** (1 / config.accumulate) if config.ema else 0.99,
    }
    if config.optimizer == "sgd":
        optimizer = Sgd(momentum=config.momentum, nesterov=config.nesterov, **shared)
    elif config.optimizer == "adamw":
        optimizer = AdamW(**shared)
    else:
        optimizer = Lamb(**shared)
    # At the end of every `fit`, Keras puts the averages in the place of the weights. A run is
    # several of them, and would go on from averages; `fit.py` takes them where they are judged.
    optimizer.finalize_variable_values = lambda variables: None
    return optimizer


class _ByVariable:
    """One of Keras' optimizers with a rate and a decay for each variable: theirs has one rate.

    Args:
        decay: w -= rate * decay * w with each update, apart from the gradient; see `NOT_DECAYED`.
        body_rate: the rate of what is not the head, as a share.
        head: variables.
        **settings: those of Keras' optimizer.
    """

    def __init__(self, *, decay, body_rate, head, **settings):
        super().__init__(**settings)
        self._decay, self._body_rate = decay, body_rate
        self._head = frozenset(map(id, head))  # paths need not differ

    def build(self, variables):
        super().build(variables)
        self._decays = [0.0 if v.name in NOT_DECAYED else self._decay for v in variables]
        self._rates = [1.0 if id(v) in self._head else self._body_rate for v in variables]

    def update_step(self, gradient, variable, learning_rate):
        number = self._get_variable_index(variable)
        rate = ops.cast(learning_rate, variable.dtype) * self._rates[number]
        self._step(gradient, variable, rate, self._decays[number])

    def _step(self, gradient, variable, rate, decay):
        if decay:
            self.assign_sub(variable, rate * decay * variable)
        super().update_step(gradient, variable, rate)


class Sgd(_ByVariable, keras.optimizers.SGD):
    """Stochastic gradient descent with momentum, and a decay that is not in the momentum."""


class AdamW(_ByVariable, keras.optimizers.Adam):
    """Adam with its decay apart from the gradient: arXiv:1711.05101, algorithm 2."""


class Lamb(_ByVariable, keras.optimizers.Lamb):
    """LAMB with the paper's weight decay (arXiv:1904.00962, algorithm 2).

    Keras' own takes the decay outside of the trust ratio, as AdamW does: with the decay of a
    published recipe that shrinks a kernel tens of times as fast. What does not decay takes Adam's
    step without a trust ratio, as in the code that trained "ResNet strikes back" (timm's `Lamb`):
    a gamma that begins at 0 has no length to compare with.
    """

    def _step(self, gradient, variable, rate, decay):
        gradient = ops.cast(gradient, variable.dtype)
        step = ops.cast(self.iterations + 1, variable.dtype)
        first = self._momentums[self._get_variable_index(variable)]
        second = self._velocities[self._get_variable_index(variable)]
        self.assign_add(first, (gradient - first) * (1 - self.beta_1))
        self.assign_add(second, (ops.square(gradient) - second) * (1 - self.beta_2))
        mean = first / (1 - self.beta_1**step)
        spread = ops.sqrt(second / (1 - self.beta_2**step)) + self.epsilon
        update = mean / spread
        if decay:
            update += decay * variable
            update *= _trust(_length(variable), _length(update))
        self.assign_sub(variable, rate * update)


def _length(weights):
    return ops.sqrt(ops.sum(ops.square(weights)))


def _trust(weight, update):
    """|weight| / |update|; 1 where either is 0."""
    known = ops.logical_and(weight > 0, update > 0)
    return ops.where(known, weight / ops.where(known, update, 1.0), 1.0)
