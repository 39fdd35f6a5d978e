"""Learning curves: what is known about a curve is found again, and what is not known is said."""

import numpy as np
import pytest

from keras_resnet.evaluation import binomial
from keras_resnet.evaluation.power_law import PowerLaws

SIZES = (200, 400, 800, 1600)


def curve(n, a, b, c):
    return a + b * np.asarray(n, float) ** -c


@pytest.mark.parametrize(
    ("a", "b", "c"), [(0.02, 3.0, 0.5), (0.0, 1.5, 0.3), (0.1, 60.0, 1.0), (0.2, 0.0, 1.0)]
)
def test_a_power_law_is_extrapolated(a, b, c):
    fitted = PowerLaws(SIZES, curve(SIZES, a, b, c), 10**6)
    for n in (3200, 6400):
        found = fitted.at(n)
        assert found.low <= curve(n, a, b, c) <= found.high
        assert abs(found.error - curve(n, a, b, c)) < 0.025
    assert fitted.fits


@pytest.mark.parametrize("most", [0.05, 0.15])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(most):
    """Of binomial errors with 400 validation images, 95 % of 80 curves, at random 90 % or more."""
    rng, held, exponents, above = np.random.default_rng(0), 0, 0, 0
    for _ in range(80):
        a, c, start = rng.uniform(0, most), rng.uniform(0.3, 1.0), rng.uniform(0.2, 0.5)
        b = (start - a) * SIZES[0] ** c
        errors = rng.binomial(400, curve(SIZES, a, b, c)) / 400
        laws = PowerLaws(SIZES, errors, 400)
        found = laws.at(3200)
        held += found.low <= curve(3200, a, b, c) <= found.high
        exponents += laws.exponent.low <= c <= laws.exponent.high
        above += laws.exponent.error > c
    assert held >= 72 and exponents >= 72
    assert 20 < above < 60  # a median, but for what is assumed of the exponents


def test_fewer_images_and_more_noise_widen_the_interval():
    errors = curve(SIZES, 0.02, 3.0, 0.5)
    widths = [
        (found := PowerLaws(SIZES, errors, count, noise).at(6400)).high - found.low
        for count, noise in ((2000, 1.0), (400, 1.0), (400, 4.0))
    ]
    assert widths == sorted(widths) and widths[2] > 1.5 * widths[0]


def test_without_errors_the_bound_is_not_zero():
    found = PowerLaws(SIZES, (0.3, 0.05, 0.0, 0.0), 100).at(3200)
    assert found.low < 0.002 and 0.002 < found.high <= binomial.upper(0, 100, 0.025)


def test_what_is_no_power_law_is_said():
    assert not PowerLaws(SIZES, (0.5, 0.49, 0.1, 0.1), 1000).fits
    assert not PowerLaws(SIZES, (0.1, 0.2, 0.3, 0.4), 1000).fits


def test_the_bounds_of_a_share_are_those_of_clopper_and_pearson():
    """scipy.stats.binomtest(k, n).proportion_ci()."""
    assert binomial.interval(0, 411) == pytest.approx((0.0, 0.00893528), abs=1e-6)
    assert binomial.interval(5, 20) == pytest.approx((0.08657147, 0.49104587), abs=1e-6)
    assert binomial.interval(7, 7) == pytest.approx((0.59038415, 1.0), abs=1e-6)
