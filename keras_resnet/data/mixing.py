"""MixUp and CutMix, over whole batches.

Keras' layers of these names use a stateful generator, so a resumed run would draw other random
numbers. Here the result depends only on the given seed.
"""

from collections.abc import Callable

import tensorflow as tf

Mixer = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def make_mixer(mixup: float, cutmix: float) -> Mixer | None:
    """A function of images, targets and a seed that returns mixed images and targets; None without
    MixUp and CutMix.

    Each batch is mixed with its own reverse, with one share for all images, as in timm's recipes.
    If both are enabled, each batch uses one of them at random.

    Args:
        mixup, cutmix: alpha of the share's distribution, Beta(alpha, alpha); 0 disables it.
    """
    if not (mixup or cutmix):
        return None

    def mix(images: tf.Tensor, targets: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        kind, *seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 3), num=3)
        if not (mixup and cutmix):
            one = _mixup if mixup else _cutmix
            return one(images, targets, mixup or cutmix, seeds)
        return tf.cond(
            tf.random.stateless_uniform([], kind) < 0.5,
            lambda: _mixup(images, targets, mixup, seeds),
            lambda: _cutmix(images, targets, cutmix, seeds),
        )

    return mix


def _mixup(
    images: tf.Tensor, targets: tf.Tensor, alpha: float, seeds: list[tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor]:
    """`share * image + (1 - share) * partner`, arXiv:1710.09412: uint8 `(b, h, w, c)`, `(b, k)`."""
    share = _beta(alpha, seeds[0])
    mixed = _blend(tf.cast(images, tf.float32), share)
    return tf.cast(tf.round(mixed), images.dtype), _blend(targets, share)


def _cutmix(
    images: tf.Tensor, targets: tf.Tensor, alpha: float, seeds: list[tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Pastes a box of the partner into the image (arXiv:1905.04899); the targets are mixed by the
    box's actual area."""
    height, width = tf.shape(images)[1], tf.shape(images)[2]
    box = _box(height, width, 1 - _beta(alpha, seeds[0]), seeds[1])
    inside = _inside(height, width, box)
    mixed = tf.where(inside[None, :, :, None], images[::-1], images)
    return mixed, _blend(targets, 1 - tf.reduce_mean(tf.cast(inside, tf.float32)))


def _blend(values: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    return share * values + (1 - share) * values[::-1]


def _beta(alpha: float, seed: tf.Tensor) -> tf.Tensor:
    """A random number from Beta(alpha, alpha).

    Computed from two gamma variates G in log space, log G(alpha) = log G(alpha + 1) +
    log(U) / alpha: with a small alpha both underflow, and their quotient is undefined.
    """
    seeds = tf.random.experimental.stateless_split(seed, 2)
    gamma = tf.random.stateless_gamma([2], seeds[0], alpha + 1.0)
    uniform = 1 - tf.random.stateless_uniform([2], seeds[1])  # (0, 1]
    log = tf.math.log(gamma) + tf.math.log(uniform) / alpha
    return tf.sigmoid(log[0] - log[1])


def _box(height: tf.Tensor, width: tf.Tensor, area: tf.Tensor, seed: tf.Tensor) -> list[tf.Tensor]:
    """y, x, y end and x end (int32) of a box around a random point, with this share of the image's
    area before it is clipped at the borders."""
    centre = tf.random.stateless_uniform([2], seed)
    sides = tf.cast(tf.stack([height, width]), tf.float32)
    half = sides * tf.sqrt(area) / 2
    begin = tf.maximum(centre * sides - half, 0)
    end = tf.minimum(centre * sides + half, sides)
    return tf.unstack(tf.cast(tf.round(tf.concat([begin, end], 0)), tf.int32), num=4)


def _inside(height: tf.Tensor, width: tf.Tensor, box: list[tf.Tensor]) -> tf.Tensor:
    """Mask of the pixels in the box y, x, y end, x end: bool `(h, w)`."""
    top, left, bottom, right = box
    y, x = tf.range(height)[:, None], tf.range(width)[None, :]
    return (y >= top) & (y < bottom) & (x >= left) & (x < right)
