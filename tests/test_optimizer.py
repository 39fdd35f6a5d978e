"""The optimizers and the loss, compared with NumPy and Keras: decay, clipping, accumulation."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from keras_resnet.config import OPTIMIZERS, Config
from keras_resnet.training import schedule
from keras_resnet.training.losses import class_weights, make_loss
from keras_resnet.training.optimizer import make_optimizer

RNG = np.random.default_rng(0)


def _variables(*names, scale=1.0):
    return [
        keras.Variable(scale * RNG.normal(size=(1, 1, 3, 4)).astype("float32"), name=name)
        for name in names
    ]


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_kernels_decay_and_batch_norms_and_biases_do_not(kind):
    """With no gradient, what moves is what decays."""
    variables = _variables("kernel", "gamma", "beta", "bias")
    before = [v.numpy() for v in variables]
    optimizer = make_optimizer(replace(Config(), optimizer=kind, weight_decay=0.1), 0.5)
    optimizer.apply([np.zeros((1, 1, 3, 4), "float32")] * 4, variables)
    moved = [not np.array_equal(a, v.numpy()) for a, v in zip(before, variables, strict=True)]
    assert moved == [True, False, False, False]


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_body_takes_steps_of_a_share_of_the_heads(kind):
    """Its decay too."""
    body, head = _variables("kernel", "kernel")
    head.assign(body)
    before = body.numpy()
    config = Config(optimizer=kind, weight_decay=0.1, body_rate=0.1)
    optimizer = make_optimizer(config, 1e-4, head=[head])
    gradient = RNG.normal(size=(1, 1, 3, 4)).astype("float32")
    for _ in range(3):
        optimizer.apply([gradient, gradient], [body, head])
    moved = head.numpy() - before
    np.testing.assert_allclose(body.numpy() - before, 0.1 * moved, rtol=2e-2, atol=1e-7)


def test_adamw_is_keras_own():
    ours, theirs = _variables("kernel", "kernel")
    theirs.assign(ours)
    mine = make_optimizer(Config(optimizer="adamw", weight_decay=0.1), 0.01)
    peer = keras.optimizers.AdamW(0.01, weight_decay=0.1)
    for gradient in RNG.normal(size=(3, 1, 1, 3, 4)).astype("float32"):
        mine.apply([gradient], [ours])
        peer.apply([gradient], [theirs])
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_pytorchs_and_follows_a_drop_of_the_rate_at_once(nesterov):
    """v = m v + g; w -= rate * v, or rate * (g + m v): the rate is outside of the velocity."""
    (kernel,) = _variables("kernel")
    config = Config(momentum=0.9, nesterov=nesterov, weight_decay=0.0)
    rates = [1.0, 1.0, 1.0, 0.1, 0.1]
    optimizer = make_optimizer(config, lambda: rates[int(optimizer.iterations.numpy())])
    w, v = kernel.numpy().astype(float), np.zeros((1, 1, 3, 4))
    for rate, gradient in zip(rates, RNG.normal(size=(5, 1, 1, 3, 4)), strict=True):
        optimizer.apply([gradient.astype("float32")], [kernel])
        v = 0.9 * v + gradient
        w -= rate * (gradient + 0.9 * v if nesterov else v)
        np.testing.assert_allclose(kernel.numpy(), w, rtol=1e-5, atol=1e-6)


def test_sgd_and_adamw_are_torchs():
    torch = pytest.importorskip("torch")
    gradients = RNG.normal(size=(4, 1, 1, 3, 4)).astype("float32")
    for config, peer in (
        (Config(weight_decay=0.0), lambda w: torch.optim.SGD([w], 0.1, 0.9, nesterov=True)),
        (Config(optimizer="adamw", weight_decay=0.1),
         lambda w: torch.optim.AdamW([w], 0.1, weight_decay=0.1, eps=1e-7)),
    ):  # fmt: skip
        (ours,) = _variables("kernel")
        theirs = torch.nn.Parameter(torch.tensor(ours.numpy()))
        mine, other = make_optimizer(config, 0.1), peer(theirs)
        for gradient in gradients:
            mine.apply([gradient], [ours])
            theirs.grad = torch.tensor(gradient)
            other.step()
        np.testing.assert_allclose(ours.numpy(), theirs.detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [1.0, 1e-6])
def test_lamb_takes_the_papers_step(size):
    """arXiv:1904.00962, algorithm 2, three steps of it; with timm's epsilon, which small gradients
    show."""
    kernel, gamma = _variables("kernel", "gamma")
    config = replace(Config(), optimizer="lamb", weight_decay=0.02)
    optimizer = make_optimizer(config, 0.01)
    w, g = kernel.numpy().astype(float), gamma.numpy().astype(float)
    m, v = np.zeros((2, 1, 1, 3, 4)), np.zeros((2, 1, 1, 3, 4))
    for t in range(1, 4):
        gradients = RNG.normal(size=(2, 1, 1, 3, 4), scale=size).astype("float32")
        optimizer.apply(list(gradients), [kernel, gamma])
        m, v = 0.9 * m + 0.1 * gradients, 0.999 * v + 0.001 * gradients**2
        adam = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-6)
        update = adam[0] + 0.02 * w
        w -= 0.01 * np.linalg.norm(w) / np.linalg.norm(update) * update
        g -= 0.01 * adam[1]
    np.testing.assert_allclose(kernel.numpy(), w, rtol=1e-5)
    np.testing.assert_allclose(gamma.numpy(), g, rtol=1e-5)


def test_lamb_moves_a_kernel_of_zeros():
    (kernel,) = _variables("kernel", scale=0.0)
    optimizer = make_optimizer(replace(Config(), optimizer="lamb"), 0.01)
    optimizer.apply([np.ones((1, 1, 3, 4), "float32")], [kernel])
    np.testing.assert_allclose(kernel.numpy(), -0.01, rtol=1e-4)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_accumulated_batches_make_one_update_of_their_mean(kind):
    config = replace(Config(), optimizer=kind, weight_decay=0.01)
    (parts,), (whole,) = _variables("kernel"), _variables("kernel")
    whole.assign(parts)
    before = parts.numpy()
    gradients = RNG.normal(size=(3, 1, 1, 3, 4)).astype("float32")
    slow = make_optimizer(replace(config, accumulate=3), 0.1)
    for gradient in gradients[:2]:
        slow.apply([gradient], [parts])
        np.testing.assert_array_equal(parts.numpy(), before)
    slow.apply([gradients[2]], [parts])
    make_optimizer(config, 0.1).apply([gradients.mean(0)], [whole])
    np.testing.assert_allclose(parts.numpy(), whole.numpy(), rtol=1e-5)


def test_clipping_shortens_the_gradient_of_all_weights_together():
    variables = _variables("kernel", "bias")
    before = [v.numpy() for v in variables]
    config = replace(Config(), clip_norm=0.5, weight_decay=0.0, momentum=0.0, nesterov=False)
    gradients = [np.full((1, 1, 3, 4), 2.0, "float32"), np.full((1, 1, 3, 4), 1.0, "float32")]
    make_optimizer(config, 1.0).apply(gradients, variables)
    steps = np.stack([b - v.numpy() for b, v in zip(before, variables, strict=True)])
    assert np.linalg.norm(steps) == pytest.approx(0.5, rel=1e-5)
    np.testing.assert_allclose(steps[0], 2 * steps[1], rtol=1e-5)


def test_with_accumulation_the_mean_gradient_is_clipped():
    """Not by the norm of the last batch."""
    (kernel,) = _variables("kernel")
    before = kernel.numpy()
    config = Config(clip_norm=0.5, accumulate=2, weight_decay=0.0, momentum=0.0, nesterov=False)
    optimizer, gradient = make_optimizer(config, 1.0), np.full((1, 1, 3, 4), 1.0, "float32")
    for share in (3, 1):
        optimizer.apply([share * gradient], [kernel])
    step = 0.5 * gradient / np.linalg.norm(gradient)
    np.testing.assert_allclose(before - kernel.numpy(), step, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "batch", "accumulate", "factor"),
    [("sgd", 64, 1, 0.25), ("sgd", 64, 8, 2), ("lamb", 64, 1, 0.5), ("adamw", 1024, 1, 2)],
)
def test_the_rate_follows_the_images_of_an_update(kind, batch, accumulate, factor):
    config = Config(
        optimizer=kind, learning_rate=0.3, base_batch=256, batch_size=batch, accumulate=accumulate
    )
    assert config.peak_rate == pytest.approx(0.3 * factor)
    assert replace(config, base_batch=0).peak_rate == 0.3


def test_accumulation_stretches_the_schedule_over_fewer_updates():
    config = replace(Config(), epochs=4, warmup_epochs=0.0)
    plain = schedule.learning_rate(config, 12)
    slow = schedule.learning_rate(replace(config, accumulate=3), 12)
    assert [float(slow(u)) for u in range(16)] == pytest.approx(
        [float(plain(3 * u)) for u in range(16)]
    )


def test_with_accumulation_the_warm_up_is_as_long_in_epochs():
    """One of ten epochs: 12 batches, and so 4 of the 40 updates."""
    config = Config(epochs=10, warmup_epochs=1.0, accumulate=3)
    rate = schedule.learning_rate(config, 12)
    rise = [config.peak_rate * n / 4 for n in (1, 2, 3, 4, 4)]
    assert [float(rate(u)) for u in range(5)] == pytest.approx(rise)


def _targets(rows=6, classes=5):
    mixed = RNG.dirichlet(np.ones(classes), rows).astype("float32")
    return mixed, RNG.normal(size=(rows, classes)).astype("float32")


def _value(targets, logits, **settings):
    return keras.ops.convert_to_numpy(make_loss(Config(**settings), [0, 1, 2, 3, 4], 5)(
        keras.ops.convert_to_tensor(targets), keras.ops.convert_to_tensor(logits)
    ))  # fmt: skip


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_keras_own_for_soft_targets(smoothing):
    targets, logits = _targets()
    expected = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=smoothing, reduction="none"
    )(targets, logits)
    np.testing.assert_allclose(
        _value(targets, logits, label_smoothing=smoothing), expected, rtol=1e-5
    )


def test_bce_is_each_class_against_the_others():
    targets, logits = _targets()
    p = 1 / (1 + np.exp(-logits.astype(float)))
    smoothed = 0.9 * targets + 0.1 / 5
    expected = -(smoothed * np.log(p) + (1 - smoothed) * np.log(1 - p)).mean(-1)
    value = _value(targets, logits, loss="bce", label_smoothing=0.1)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_over_the_threshold_a_class_counts_whole():
    _, logits = _targets(2)
    mixed = np.float32([[0.7, 0.3, 0, 0, 0], [0.9, 0.1, 0, 0, 0]])
    whole = np.float32([[1, 1, 0, 0, 0], [1, 0, 0, 0, 0]])
    # Nothing is smoothed after it: see the order of timm's below.
    np.testing.assert_array_equal(
        _value(mixed, logits, loss="bce", bce_threshold=0.2, label_smoothing=0.1),
        _value(whole, logits, loss="bce", label_smoothing=0.0),
    )


def test_the_balanced_loss_weighs_each_class_alike_in_all():
    labels = np.array([0] * 6 + [1] * 3 + [3])  # no image of class 2
    weights = class_weights(labels, 4)
    assert weights[labels].mean() == pytest.approx(1)
    totals = [weights[labels][labels == k].sum() for k in (0, 1, 3)]
    assert totals == pytest.approx([totals[0]] * 3)
    config = Config(balance="loss", label_smoothing=0.0)
    targets, logits = np.eye(4, dtype="float32"), RNG.normal(size=(4, 4)).astype("float32")
    weighed = make_loss(config, labels, 4)(targets, logits)
    plain = make_loss(replace(config, balance="none"), labels, 4)(targets, logits)
    np.testing.assert_allclose(weighed, plain * weights, rtol=1e-6)


def _timms(labels, logits, share, smoothing, threshold):
    """timm 1.0's Mixup (`mixup_target`) and BinaryCrossEntropy with dense targets, in NumPy."""
    classes = logits.shape[1]
    smoothed = np.full((len(labels), classes), smoothing / classes)
    smoothed[np.arange(len(labels)), labels] = 1 - smoothing + smoothing / classes
    target = smoothed * share + smoothed[::-1] * (1 - share)
    target = (target > threshold).astype(float)
    return (np.logaddexp(0, logits) - target * logits).mean(-1)


@pytest.mark.parametrize("share", [1.0, 0.9, 0.79, 0.5, 0.21])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_bce_with_a_threshold_is_timms(share, smoothing):
    labels = np.array([0, 3, 2, 2])
    logits = RNG.normal(size=(4, 5)).astype("float32")
    own = np.eye(5, dtype="float32")[labels]
    targets = share * own + (1 - share) * own[::-1]
    value = _value(
        targets, logits, loss="bce", bce_threshold=0.2, label_smoothing=smoothing
    )  # fmt: skip
    expected = _timms(labels, logits, share, smoothing, 0.2)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_timm_itself_agrees_on_the_loss_of_a1():
    torch, timm_loss = pytest.importorskip("torch"), pytest.importorskip("timm.loss")
    targets, logits = _targets()
    smoothed = torch.tensor(targets * 0.9 + 0.1 / 5)
    theirs = timm_loss.BinaryCrossEntropy(smoothing=0.1, target_threshold=0.2)
    value = _value(targets, logits, loss="bce", bce_threshold=0.2, label_smoothing=0.1)
    assert value.mean() == pytest.approx(float(theirs(torch.tensor(logits), smoothed)), rel=1e-5)
