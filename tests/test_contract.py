"""The inputs and outputs that preprocess.json describes, and the temperature; with NumPy only."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import optimize, special

from keras_resnet.errors import InputError
from keras_resnet.evaluation import metrics
from keras_resnet.evaluation.contract import Contract, read_contract, spread
from keras_resnet.exporting import temperature
from keras_resnet.geometry import Geometry

RNG = np.random.default_rng(0)


def sample(count, classes, sharpness):
    """Logits `(n, k)` that are `sharpness` times too sharp for the labels drawn from them."""
    honest = RNG.normal(0, 2, (count, classes))
    labels = (special.softmax(honest, -1).cumsum(-1) > RNG.random((count, 1))).argmax(-1)
    return sharpness * honest, labels


@pytest.mark.parametrize("sharpness", [0.4, 1.0, 3.0])
def test_the_temperature_undoes_overconfidence_and_the_opposite(sharpness):
    found = temperature.fit(*sample(20_000, 10, sharpness))
    assert found == pytest.approx(sharpness, rel=0.05)


def test_no_other_temperature_has_a_smaller_loss():
    """scipy's own minimizer finds none."""
    logits, labels = sample(300, 5, 2.0)

    def loss(inverse):
        return -special.log_softmax(logits * inverse, -1)[np.arange(300), labels].mean()

    best = optimize.minimize_scalar(loss, bounds=(0.01, 100), method="bounded",
                                    options={"xatol": 1e-10}).x  # fmt: skip
    assert temperature.fit(logits, labels) == pytest.approx(1 / best, rel=1e-5)


def test_the_calibration_error_is_that_of_the_definition():
    logits, labels = sample(500, 4, 2.0)
    p = special.softmax(logits, -1)
    certainty, right = p.max(-1), p.argmax(-1) == labels
    expected = 0.0
    for low in np.arange(metrics.BINS) / metrics.BINS:
        inside = (certainty >= low) & (certainty < low + 1 / metrics.BINS)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - certainty[inside].mean())
    bins = metrics.score_bins(certainty, right)
    assert metrics.calibration_error(bins) == pytest.approx(expected)
    assert sum(bin.images for bin in bins) == 500
    images = np.histogram(certainty, metrics.BINS, (0, 1))[0]
    assert [bin.images for bin in bins] == images.tolist()  # as a diagram shows them


def test_calibration_makes_probabilities_honest_on_images_it_was_not_fitted_on():
    logits, labels = sample(40_000, 10, 3.0)
    found = temperature.calibrate(logits, labels, seed=1)
    assert (found.fitted_on, found.judged_on, found.bins) == (20_000, 20_000, 15)
    assert found.ece_before > 0.1 > 0.03 > found.ece_after
    assert found == temperature.calibrate(logits, labels, seed=1)
    assert "expected calibration error" in str(found)


def test_a_temperature_that_helps_is_seldom_called_harmful():
    """By the calibration error of so few images it was, in every second of such samples."""
    found = [temperature.calibrate(*sample(200, 10, 2.0), seed=n) for n in range(40)]
    assert sum(fit.is_harmful for fit in found) <= 4
    honest = replace(found[0], loss_before=1.0, loss_after=1.01)
    assert honest.is_harmful


def test_a_temperature_that_helps_only_the_half_that_it_was_fitted_on_is_harmful():
    logits, labels = sample(400, 5, 3.0)
    _, judged = temperature._halves(logits.argmax(-1) == labels, 1)
    logits[judged] /= 10  # too uncertain already
    found = temperature.calibrate(logits, labels, seed=1)
    assert found.temperature > 1.5 and found.is_harmful


def test_logits_that_say_the_opposite_end_at_the_bound():
    logits = RNG.normal(size=(60, 3))
    labels = np.where(np.arange(60) < 6, logits.argmax(-1), logits.argmin(-1))
    found = temperature.calibrate(logits, labels, seed=0)
    assert found.temperature == 100 and found.is_at_a_bound


def test_one_mistake_is_enough_and_none_is_too_few():
    with pytest.raises(InputError, match="one validation image is too few to fit"):
        temperature.calibrate(np.eye(3)[:1], np.array([2]), seed=0)
    labels = RNG.integers(0, 3, 21)
    logits = 5 * np.eye(3)[labels]
    with pytest.raises(InputError, match="all 21 validation images are classified correctly"):
        temperature.calibrate(logits, labels, seed=0)
    labels[4] = (labels[4] + 1) % 3
    found = temperature.calibrate(logits, labels, seed=0)
    assert (found.fitted_on, found.mistakes) == (11, 1) and found.temperature > 1
    assert "1 of them misclassified (too few to rely on)" in str(found)


def test_frames_show_the_square_in_their_middle():
    squares = RNG.integers(1, 256, (2, 30, 30, 3), dtype=np.uint8)
    contract = Contract(input_size=(30, 50))
    assert contract.view(Geometry(24, 24), 0.9) == (Geometry(30, 30), 1.0)
    frames = contract.frames(squares)
    assert frames.shape == (2, 30, 50, 3) and frames.dtype == np.uint8
    assert (frames[:, :, 10:40] == squares).all()
    assert frames[:, :, :10].max() == 0 == frames[:, :, 40:].max()
    wide = contract.view(Geometry(20, 40), 1.0)[0]  # of a network for wide images
    assert wide == Geometry(25, 50)
    frames = contract.frames(squares[:, :25].repeat(2, 2)[:, :, :50])
    assert (frames[:, 2:27, :, 0] > 0).all() and frames[:, :2].max() == 0 == frames[:, 27:].max()
    # The file adds black around a whole frame itself: none is added before.
    assert contract.view(Geometry(24, 24, "pad"), 1.0) == (Geometry(30, 50, "crop"), 1.0)
    assert contract.view(Geometry(24, 24, "stretch"), 1.0) == (Geometry(30, 50, "stretch"), 1.0)
    own = Geometry(24, 24), 0.9
    assert Contract().view(*own) == own and Contract().frames(squares) is squares


def test_the_best_probabilities_are_spread_over_all_classes():
    p = special.softmax(RNG.normal(size=(6, 8)), -1)
    best = np.argsort(-p, -1)[:, :3]
    whole = spread(np.take_along_axis(p, best, -1), best, 8)
    assert whole.sum(-1) == pytest.approx(1)
    assert (np.argsort(-whole, -1, kind="stable")[:, :3] == best).all()
    assert np.take_along_axis(whole, best, -1) == pytest.approx(np.take_along_axis(p, best, -1))
    every = np.argsort(-p, -1)
    assert spread(np.take_along_axis(p, every, -1), every, 8) == pytest.approx(p)
    # Those of int8 need not add up to 1: no other class gets more than the last that is named.
    few = spread(np.array([[0.4, 0.1]]), np.array([[2, 0]]), 4)
    assert few.tolist() == [[0.1, 0.1, 0.4, 0.1]]


@pytest.mark.parametrize("top", [None, 2])
def test_a_difference_is_in_units_of_what_the_file_gives(top):
    logits = RNG.normal(0, 3, (9, 5))
    contract = Contract("softmax", temperature=2.0, top=top)
    exact = contract.to_logits(special.softmax(logits / 2, -1))
    same = contract.compare(exact, logits)
    assert same.most < 1e-12 and same.rms < 1e-12 and same.slope == pytest.approx(1)
    off = contract.to_logits(special.softmax(logits / 2, -1) * 0.99)
    largest = special.softmax(logits / 2, -1).max()
    found = contract.compare(off, logits)
    assert (found.most, found.largest) == pytest.approx((0.01 * largest, largest))
    assert (found.rms, found.slope) == pytest.approx((0.01, 0.99))


def test_a_folder_without_a_contract_holds_plain_files(tmp_path):
    assert read_contract(tmp_path) == Contract()
    (tmp_path / "preprocess.json").write_text(json.dumps({"image_size": 24}))  # of version 0.1
    assert read_contract(tmp_path) == Contract()
    said = {"scores": "softmax", "temperature": 1.5, "top": 3, "input_size": [480, 640]}
    (tmp_path / "preprocess.json").write_text(json.dumps(said))
    assert read_contract(tmp_path) == Contract("softmax", 1.5, 3, (480, 640))


@pytest.mark.parametrize(
    ("name", "value"),
    [("scores", "sigmoid"), ("temperature", 0), ("temperature", -1.5), ("temperature", math.inf),
     ("temperature", 10**400), ("temperature", "1"), ("top", 0), ("top", 2.0), ("input_size", 480),
     ("input_size", [480, 0])],
)  # fmt: skip
def test_a_contract_of_values_that_cannot_be_is_damaged(tmp_path, name, value):
    (tmp_path / "preprocess.json").write_text(json.dumps({name: value}))
    with pytest.raises(InputError, match=rf"is damaged: {name} is {re.escape(repr(value))}; exp"):
        read_contract(tmp_path)
