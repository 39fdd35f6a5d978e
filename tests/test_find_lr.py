"""The learning-rate range test: the rates it tries, and the suggestion from a loss curve."""

import contextlib
import json
import math

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from keras_resnet.errors import CheckFailed, InputError
from keras_resnet.report import lr_range_plot
from keras_resnet.training.find_lr import evaluate_losses, find_lr, has_diverged, smooth

RATES = np.geomspace(1e-3, 10, 200).tolist()


def _losses(best, noise=0.02):
    """Flat, falling to `best` by a tenth of it, rising beyond."""
    position = np.log10(np.array(RATES) / best)
    curve = 2.3 - np.clip(position + 1, 0, 1) + np.clip(position, 0, None) * 4
    return (curve + np.random.default_rng(0).normal(0, noise, len(RATES))).tolist()


@pytest.mark.parametrize("best", [0.1, 0.5, 2.0])
def test_it_suggests_a_tenth_of_where_the_loss_is_lowest(best):
    found = evaluate_losses(RATES, _losses(best), complete=True)
    # the average comes a few steps late
    assert best <= found.lowest <= 1.8 * best
    assert found.suggestion == pytest.approx(found.lowest / 10, rel=0.1)
    assert best / 10 < found.steepest < found.lowest
    assert found.diverged is None and len(found.steps) == 200


def test_a_test_that_ended_early_says_at_which_rate():
    losses = _losses(0.5)[:160]
    assert evaluate_losses(RATES[:160], losses, complete=False).diverged == RATES[159]


@pytest.mark.parametrize("slope", [0.0, 0.3], ids=["noise alone", "a loss that only rises"])
def test_a_loss_that_does_not_fall_gives_no_suggestion(slope):
    noise = np.random.default_rng(1).normal(0, 0.05, 200)
    losses = (2.3 + noise + slope * np.linspace(0, 1, 200)).tolist()
    with pytest.raises(CheckFailed, match=r"does not fall .* from 0.001 to 10; try more --steps"):
        evaluate_losses(RATES, losses, complete=True)


@pytest.mark.parametrize(
    ("mean", "noise"), [(2.35, 0.08), (0.71, 0.12), (0.75, 0.25), (0.15, 0.08)]
)
def test_noise_is_not_taken_for_divergence(mean, noise):
    """As of small batches, two classes, or a network that already knows the images."""
    stopped = accepted = 0
    for seed in range(20):
        losses = np.abs(np.random.default_rng(seed).normal(mean, noise, 200)).tolist()
        stopped += any(has_diverged(losses[:n], 200) for n in range(1, 201))
        with contextlib.suppress(CheckFailed):
            accepted += evaluate_losses(RATES, losses, complete=True) is not None
    assert stopped <= 1 and accepted <= 2


@pytest.mark.parametrize("noise", [0.02, 0.25])
@pytest.mark.parametrize("pace", [15, 60])
def test_a_loss_that_falls_early_and_rises_late_is_read(pace, noise):
    steps = np.arange(200)
    curve = 0.4 + 1.9 * np.exp(-steps / pace) + np.clip(steps - 150, 0, None) ** 2 * 2e-3
    losses = (curve + np.random.default_rng(0).normal(0, noise, 200)).tolist()
    end = next(n for n in range(1, 201) if has_diverged(losses[:n], 200))
    assert end > 150
    found = evaluate_losses(RATES[:end], losses[:end], complete=False)
    assert RATES[40] < found.lowest < RATES[170]


def test_no_finite_loss_is_one_line():
    """As with float16 and given weights."""
    with pytest.raises(
        CheckFailed, match=r"first step is not a finite .*; try --precision float32"
    ):
        evaluate_losses([], [], complete=False)


def test_the_plot_of_a_loss_that_does_not_fall_shows_its_steps():
    losses = 1.6 + np.random.default_rng(1).normal(0, 0.05, 200)
    smoothed = 1.6 + np.linspace(0, -1e-3, 200)
    axes = Figure().add_axes((0, 0, 1, 1))
    lr_range_plot._limit(axes, smoothed, losses)
    low, high = axes.get_ylim()
    assert ((low < losses) & (losses < high)).mean() > 0.9


def test_the_average_of_equal_losses_is_that_loss_from_the_beginning():
    assert smooth([2.0] * 5) == pytest.approx([2.0] * 5)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [({"low": 2.0, "high": 1.0}, "--low is 2.0"), ({"low": -1.0}, "--low"), ({"steps": 3}, "10")],
)
def test_a_range_that_cannot_be_tried_is_refused_before_anything_is_loaded(settings, complaint):
    with pytest.raises(InputError, match=complaint):
        find_lr("no/such/folder", **settings)


def test_it_tries_growing_rates_on_the_recipes_images_and_draws_them(photos, tmp_path):
    found = find_lr(
        str(photos), model="resnet8", image_size=16, batch_size=8, accumulate=2, steps=40, high=1.0,
        seed=1,
        png=tmp_path / "rates.png",
    )  # fmt: skip
    rates = [step.rate for step in found.steps]
    assert rates[0] == 1e-3 and np.ptp(np.diff(np.log(rates))) == pytest.approx(0, abs=1e-9)
    assert math.isclose(rates[-1], 1.0) or found.diverged == rates[-1]
    assert rates[0] < found.suggestion < found.lowest and found.batch_size == 16
    assert Image.open(tmp_path / "rates.png").width > 1000
    content = json.loads(json.dumps(found.as_json()))
    assert list(content) == [
        "model", "width", "data", "recipe", "optimizer", "batch_size", "suggestion", "steepest",
        "lowest", "diverged", "steps",
    ]  # fmt: skip
    assert list(content["steps"][0]) == ["rate", "loss", "smoothed"]


def test_the_command_says_how_to_train_with_it(command, photos, tmp_path):
    (tmp_path / "my.json").write_text('{"model": "resnet8", "batch_size": 8}')
    done = command(
        "find-lr", photos, "--config", "my.json", "--image-size", 16, "--steps", 40, "--high", 1,
        "--seed", 1, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "epochs" not in done.stderr  # it trains none
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    options = f" --config my.json --image-size 16 --learning-rate {lines['suggested']}"
    assert lines["next"].endswith(options)
    assert (tmp_path / lines["plot"]).exists()


@pytest.mark.parametrize("end", [KeyboardInterrupt, CheckFailed])
def test_its_plot_shows_what_there_is_when_it_ends_without_a_suggestion(
    end, photos, tmp_path, monkeypatch
):
    from keras_resnet.training import find_lr as module

    def few(losses, *_):
        losses += [2.3, 2.5] * 10
        if end is KeyboardInterrupt:
            raise end

    monkeypatch.setattr(module, "_add_losses", few)
    with pytest.raises(end):
        find_lr(photos, model="resnet8", image_size=16, batch_size=8, png=tmp_path / "rates.png")
    with Image.open(tmp_path / "rates.png") as picture:
        assert picture.width > 500
