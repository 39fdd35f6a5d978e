"""The optimizer of a run: which weights decay, how gradients are clipped and accumulated.

Keras' optimizers have one rate and one decay for all variables, and apply the rate inside the
momentum; on several devices they clip before they sum. These subclasses have their own update
rules, and keep `learning_rate` and `iterations` where callbacks expect them.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_resnet.config import Config

NOT_DECAYED = ("gamma", "beta", "bias")  # of batch norms and layers: arXiv:1706.02677, section 5.3


def make_optimizer(config: Config, rate: Any, head: Iterable[Any] = ()) -> "Optimizer":
    """The optimizer that `config` names.

    Args:
        config: a `Config`.
        rate: the learning rate, a number or a Keras schedule over the updates.
        head: the variables with this rate; for all others it is multiplied by `config.body_rate`.
    """
    shared: dict[str, Any] = {
        "decay": config.weight_decay,
        "body_rate": config.body_rate,
        "head": head,
        "clip_norm": config.clip_norm,
        "accumulate": config.accumulate,
    }
    if config.optimizer == "sgd":
        return Sgd(rate, momentum=config.momentum, nesterov=config.nesterov, **shared)
    return {"adamw": AdamW, "lamb": Lamb}[config.optimizer](rate, **shared)


class Optimizer(keras.optimizers.Optimizer):
    """Base class of the optimizers: w -= rate * (direction + decay * w).

    Args:
        learning_rate: a number or a Keras schedule.
        decay: decoupled weight decay (arXiv:1711.05101); see `NOT_DECAYED`.
        body_rate: factor of the learning rate for all variables outside of the head.
        head: variables of the head.
        clip_norm: clip the global gradient norm to this value; 0 disables clipping.
        accumulate: gradient accumulation: batches per update.
    """

    slots: tuple[str, ...] = ()  # names of the optimizer's variables for each weight

    def __init__(
        self,
        learning_rate: Any,
        *,
        decay: float = 0.0,
        body_rate: float = 1.0,
        head: Iterable[Any] = (),
        clip_norm: float = 0.0,
        accumulate: int = 1,
    ):
        super().__init__(learning_rate)
        self.decay, self.body_rate = decay, body_rate
        self.clip_norm, self.accumulate = clip_norm, accumulate
        self.head = frozenset(map(id, head))  # paths are not always unique
        self.strategy = tf.distribute.get_strategy()

    def build(self, variables: Sequence[Any]) -> None:
        super().build(variables)
        self.weights = list(variables)
        self.slot_variables = [
            [self.add_variable_from_reference(v, name=slot) for slot in self.slots]
            for v in variables
        ]
        if self.accumulate > 1:
            self.sums = [self.add_variable_from_reference(v, name="sum") for v in variables]
            # int64: TensorFlow keeps int32 in the CPU's memory, where XLA on a GPU cannot read it.
            self.batches = self.add_variable((), dtype="int64", name="batches")

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> Any:
        """Applies, or with `accumulate` adds up, the gradients of a batch.

        On several devices, call it in the cross-replica context with gradients summed over devices.

        Returns:
            float32 scalar: the global norm, before clipping, of the gradient that was applied or,
            with `accumulate`, of the sum so far.
        """
        if not self.built:
            self.build(trainable_variables or ())
        if self.accumulate == 1:
            norm = self._norm(grads)
            self._update(grads, norm)
            return self._first(norm)
        share = 1 / self.accumulate
        for total, gradient in zip(self.sums, grads, strict=True):
            self._on_each(total, lambda total, g: total.assign_add(share * g), gradient)
        self.batches.assign_add(1)
        sums = [total.value for total in self.sums]
        norm = self._norm(sums)
        tf.cond(
            tf.equal(self.batches.value, self.accumulate),
            lambda: self._update_and_reset(sums, norm),
            lambda: None,
        )
        return self._first(norm)

    def move(
        self, weight: Any, gradient: Any, *slots: Any, rate: Any, decay: float, step: Any
    ) -> None:
        """Updates a weight and its slots; `step` counts from 1."""
        raise NotImplementedError

    def _update_and_reset(self, sums: Sequence[tf.Tensor], norm: tf.Tensor) -> None:
        self._update(sums, norm)
        for total in self.sums:
            self._on_each(total, lambda total: total.assign(tf.zeros_like(total)))
        self.batches.assign(0)

    def _update(self, gradients: Sequence[tf.Tensor], norm: tf.Tensor) -> None:
        rate = tf.cast(self.learning_rate, tf.float32)
        step = tf.cast(self.iterations.value + 1, tf.float32)
        for weight, gradient, slots in zip(
            self.weights, gradients, self.slot_variables, strict=True
        ):
            decay = 0.0 if weight.name in NOT_DECAYED else self.decay
            share = 1.0 if id(weight) in self.head else self.body_rate

            def move(
                w: tf.Variable,
                g: tf.Tensor,
                norm: tf.Tensor,
                *slots: tf.Variable,
                decay: float = decay,
                share: float = share,
                constraint: Any = weight.constraint,
            ) -> None:
                if self.clip_norm:
                    g = g * self.clip_norm / tf.maximum(norm, self.clip_norm)
                self.move(w, g, *slots, rate=rate * share, decay=decay, step=step)
                if constraint:
                    w.assign(constraint(w))

            self._on_each(weight, move, gradient, norm, *[slot.value for slot in slots])
        self.iterations.assign_add(1)

    def _on_each(self, variable: Any, function: Callable[..., Any], *arguments: Any) -> None:
        """Calls the function with the variable's copy on each device."""
        self.strategy.extended.update(variable.value, function, args=arguments, group=False)

    def _norm(self, gradients: Sequence[tf.Tensor]) -> tf.Tensor:
        return self.strategy.run(tf.linalg.global_norm, args=(gradients,))

    def _first(self, value: Any) -> tf.Tensor:
        return self.strategy.experimental_local_results(value)[0]


class Sgd(Optimizer):
    """Stochastic gradient descent with momentum as in PyTorch: the velocity does not contain the
    rate, so a drop of the rate has its full effect at once (arXiv:1706.02677, section 2.1, remark
    2)."""

    slots = ("velocity",)

    def __init__(self, learning_rate: Any, *, momentum: float, nesterov: bool, **shared: Any):
        super().__init__(learning_rate, **shared)
        self.momentum, self.nesterov = momentum, nesterov

    def move(
        self, weight: Any, gradient: Any, *slots: Any, rate: Any, decay: float, step: Any
    ) -> None:
        (velocity,) = slots
        if decay:
            weight.assign(weight * (1 - rate * decay))
        # One pass over the memory; separate operations would take several.
        tf.raw_ops.ResourceApplyMomentum(
            var=weight.handle, accum=velocity.handle, grad=gradient, lr=rate,
            momentum=self.momentum, use_nesterov=self.nesterov,
        )  # fmt: skip


class AdamW(Optimizer):
    """Adam with decoupled weight decay: arXiv:1711.05101, algorithm 2."""

    slots = ("mean", "square")
    beta_1, beta_2, epsilon = 0.9, 0.999, 1e-7

    def move(
        self, weight: Any, gradient: Any, *slots: Any, rate: Any, decay: float, step: Any
    ) -> None:
        mean, square = slots
        mean.assign_add((gradient - mean) * (1 - self.beta_1))
        square.assign_add((tf.square(gradient) - square) * (1 - self.beta_2))
        spread = tf.sqrt(square / (1 - self.beta_2**step)) + self.epsilon
        along = mean / (1 - self.beta_1**step) / spread
        factor = rate * self.scale(weight, along, decay)
        if decay:  # a separate step: TensorFlow makes copies for a sum of three terms
            weight.assign(weight * (1 - factor * decay))
        weight.assign_sub(factor * along)

    def scale(self, weight: Any, along: Any, decay: float) -> Any:
        """The factor of the update `along + decay * weight`."""
        return 1.0


class Lamb(AdamW):
    """LAMB with weight decay inside of the trust ratio, as in the paper (arXiv:1904.00962,
    algorithm 2).

    Keras' own applies the decay outside, as AdamW does: with the decay of a published recipe that
    shrinks a kernel tens of times as fast. Variables without decay take Adam's step without a trust
    ratio, as in the code that trained "ResNet strikes back" (timm's `Lamb`): the ratio is undefined
    for a gamma that starts at 0.
    """

    epsilon = 1e-6  # timm's; gradients of the binary cross-entropy are that small

    def scale(self, weight: Any, along: Any, decay: float) -> Any:
        if not decay:
            return 1.0
        length, step = tf.norm(weight), tf.norm(along + decay * weight)
        known = tf.logical_and(length > 0, step > 0)
        return tf.where(known, length / tf.where(known, step, 1.0), 1.0)
