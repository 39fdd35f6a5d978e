"""The random operations are Pillow's, and each draw is a function of its seed."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from keras_resnet.data.randaugment import OPERATIONS, randaugment, trivialaugment

ALWAYS = ("autocontrast", "equalize")  # know no strength


def _photo(low=20, high=235, height=40, width=40):
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    waves = [np.sin(5 * x + 2 * y), np.cos(3 * y - 4 * x), np.sin(6 * x * y + 1)]
    return np.uint8((np.stack(waves, -1) + 1) / 2 * (high - low) + low)


def _apply(name, image, strength, reach="most"):
    operation = OPERATIONS[name]
    amount = tf.constant(strength * getattr(operation, reach), tf.float32)
    return operation.apply(tf.constant(image), amount).numpy()


def _enhance(kind):
    return lambda image, strength: getattr(ImageEnhance, kind)(image).enhance(1 + 0.9 * strength)


def _affine(a, b, c, d, shift_x=0.0, shift_y=0.0):
    def run(image):
        x, y = (image.width - 1) / 2, (image.height - 1) / 2
        # Pillow counts from the pixel's corner, half a pixel before its middle.
        right = x - a * x - b * y - shift_x * image.width + 0.5 - (a + b) / 2
        down = y - c * x - d * y - shift_y * image.height + 0.5 - (c + d) / 2
        return image.transform(
            image.size, Image.Transform.AFFINE, (a, b, right, c, d, down),
            Image.Resampling.BILINEAR, fillcolor=(128, 128, 128),
        )  # fmt: skip

    return run


PILLOW = {
    "autocontrast": lambda image, s: ImageOps.autocontrast(image),
    "equalize": lambda image, s: ImageOps.equalize(image),
    "solarize": lambda image, s: ImageOps.solarize(image, round(256 * (1 - abs(s)))),
    "posterize": lambda image, s: ImageOps.posterize(image, 8 - round(4 * abs(s))),
    "color": _enhance("Color"),
    "contrast": _enhance("Contrast"),
    "brightness": _enhance("Brightness"),
    "sharpness": _enhance("Sharpness"),
    "rotate": lambda image, s: _affine(
        np.cos(np.radians(30 * s)), -np.sin(np.radians(30 * s)),
        np.sin(np.radians(30 * s)), np.cos(np.radians(30 * s)),
    )(image),
    "shear_x": lambda image, s: _affine(1, 0.3 * s, 0, 1)(image),
    "shear_y": lambda image, s: _affine(1, 0, 0.3 * s, 1)(image),
    "translate_x": lambda image, s: _affine(1, 0, 0, 1, shift_x=0.45 * s)(image),
    "translate_y": lambda image, s: _affine(1, 0, 0, 1, shift_y=0.45 * s)(image),
}  # fmt: skip


@pytest.mark.parametrize("strength", [-1.0, -0.5, 0.25, 0.7, 1.0])
@pytest.mark.parametrize("name", PILLOW)
def test_an_operation_is_pillows(name, strength):
    image = _photo(height=40, width=48)
    expected = np.asarray(PILLOW[name](Image.fromarray(image), strength)).astype(int)
    difference = np.abs(_apply(name, image, strength) - expected)
    inner = difference[2:-2, 2:-2]
    if name in ("rotate", "shear_x", "shear_y", "translate_x", "translate_y"):
        # At the edge of what was there Pillow does not blend with the fill colour.
        assert np.quantile(inner, 0.9) <= 1
    else:
        assert difference.max() <= 1


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in ALWAYS])
def test_without_strength_an_operation_changes_nothing(name):
    image = np.random.default_rng(0).integers(0, 256, (17, 24, 3), np.uint8)
    np.testing.assert_array_equal(_apply(name, image, 0.0), image)


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in ("identity", *ALWAYS)])
def test_more_strength_changes_more(name):
    image = _photo().astype(int)
    changes = [np.abs(_apply(name, np.uint8(image), s) - image).mean() for s in (0.25, 0.5, 1.0)]
    assert 0 < changes[0] < changes[1] < changes[2]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("posterize", lambda image: ImageOps.posterize(image, 2)),
        ("color", lambda image: ImageEnhance.Color(image).enhance(1.99)),
        ("brightness", lambda image: ImageEnhance.Brightness(image).enhance(1.99)),
        ("solarize", lambda image: ImageOps.solarize(image, 0)),
    ],
)
def test_trivialaugment_reaches_further(name, expected):
    image = _photo()
    found = _apply(name, image, 1.0, "wide").astype(int)
    assert np.abs(found - np.asarray(expected(Image.fromarray(image)))).max() <= 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rotate", _affine(np.cos(2.3562), -np.sin(2.3562), np.sin(2.3562), np.cos(2.3562))),
        ("shear_x", _affine(1, 0.99, 0, 1)),
        ("shear_y", _affine(1, 0, 0.99, 1)),
        ("translate_x", _affine(1, 0, 0, 1, shift_x=1 / 7)),  # 32 of 224 pixels
        ("translate_y", _affine(1, 0, 0, 1, shift_y=1 / 7)),
        ("contrast", lambda image: ImageEnhance.Contrast(image).enhance(1.99)),
        ("sharpness", lambda image: ImageEnhance.Sharpness(image).enhance(1.99)),
    ],
)
def test_the_others_reach_as_far_as_the_paper_says(name, expected):
    """Its Wide space: 135 degrees, 0.99, 32 pixels."""
    image = np.random.default_rng(0).integers(0, 256, (49, 49, 3), np.uint8)
    found = _apply(name, image, 1.0, "wide").astype(int)
    difference = np.abs(found - np.asarray(expected(Image.fromarray(image))))[2:-2, 2:-2]
    is_blended = name in ("contrast", "sharpness")
    assert (difference.max() if is_blended else np.quantile(difference, 0.9)) <= 1


@pytest.mark.parametrize("side", [15, 17, 23])  # of fewer than 256, 512 and 768 pixels
def test_a_small_image_is_equalized_as_by_pillow(side):
    image = _photo(height=side, width=side)
    expected = np.asarray(ImageOps.equalize(Image.fromarray(image)))
    np.testing.assert_array_equal(_apply("equalize", image, 1.0), expected)


@pytest.mark.parametrize("name", ["autocontrast", "equalize"])
def test_an_image_of_one_colour_stays_as_it_is(name):
    image = np.full((9, 9, 3), 77, np.uint8)
    np.testing.assert_array_equal(_apply(name, image, 1.0), image)


@pytest.mark.parametrize(("name", "axis"), [("translate_x", 1), ("translate_y", 0)])
def test_a_translation_moves_by_that_share_and_shows_grey(name, axis):
    image = _photo()
    moved = _apply(name, image, 1.0)  # 0.45 of 40 pixels
    np.testing.assert_array_equal(
        np.take(moved, range(18, 40), axis), np.take(image, range(22), axis)
    )
    assert (np.take(moved, range(17), axis) == 128).all()


@pytest.mark.parametrize("kind", ["randaugment", "trivialaugment"])
def test_a_draw_is_a_function_of_its_seed_alone(kind):
    image = tf.constant(_photo())

    @tf.function
    def draw(number):
        seed = tf.stack([7, number])
        if kind == "trivialaugment":
            return trivialaugment(image, seed)
        return randaugment(image, seed, ops=2, magnitude=9.0)

    first = [draw(tf.constant(n, tf.int64)).numpy().tobytes() for n in range(40)]
    again = [draw(tf.constant(n, tf.int64)).numpy().tobytes() for n in reversed(range(40))]
    assert first == again[::-1]
    assert len(set(first)) > (30 if kind == "randaugment" else 20)  # one operation may be none


def _draws(image, count=4000, augment=randaugment, **options):
    def draw(number):
        seed = tf.stack([tf.constant(3, tf.int64), number])
        return augment(tf.constant(image), seed, **options)

    draws = tf.data.Dataset.range(count).map(draw, num_parallel_calls=2).batch(count)
    return next(draws.as_numpy_iterator())


@pytest.mark.parametrize("prob", [1.0, pytest.param(0.5, marks=pytest.mark.slow), 0.1])
def test_an_operation_is_applied_with_that_probability(prob):
    image = _photo(height=24, width=24)  # to equalize, it takes 255 pixels
    changed = (_draws(image, ops=1, magnitude=7.0, prob=prob) != image).any((1, 2, 3)).mean()
    expected = prob * 13 / 14  # one of them is the identity
    assert changed == pytest.approx(expected, abs=4.5 * np.sqrt(0.25 / 4000))


def test_two_operations_are_left_out_independently():
    image = _photo(height=24, width=24)  # to equalize, it takes 255 pixels
    changed = (_draws(image, ops=2, magnitude=7.0, prob=0.5) != image).any((1, 2, 3)).mean()
    # unchanged if each is left out or the identity; that one undoes another is rare
    assert changed == pytest.approx(1 - (0.5 + 0.5 / 14) ** 2, abs=4.5 * np.sqrt(0.25 / 4000))


@pytest.mark.parametrize(
    ("augment", "options"), [(randaugment, {"ops": 1, "magnitude": 7.0}), (trivialaugment, {})]
)
def test_an_image_gets_darker_as_often_as_brighter(augment, options):
    """By the operation that scales it; what others make of this grey is left out."""
    image = np.full((8, 8, 3), 120, np.uint8)
    levels = _draws(image, augment=augment, **options)[:, 4, 4, 0]
    brighter, darker = (levels > 176).sum(), (levels < 64).sum()
    assert abs(brighter - darker) < 4.5 * np.sqrt(brighter + darker) and darker > 40


def _strengths(most=0.9, **options):
    """Of the draws that brightened a grey image, as a share of the largest change."""
    image = np.full((8, 8, 3), 120, np.uint8)
    levels = _draws(image, **options)[:, 4, 4, 0].astype(float)
    # posterize and solarize make 112 or less, or 135, of it; others leave the middle as it is
    return (levels[levels > 136] / 120 - 1) / most


@pytest.mark.parametrize("magnitude", [pytest.param(6.0, marks=pytest.mark.slow), 7.0])
def test_the_magnitude_varies_as_timms_by_mstd(magnitude):
    exact = _strengths(ops=1, magnitude=magnitude)
    assert len(exact) > 80 and exact.std() < 0.01
    noisy = _strengths(ops=1, magnitude=magnitude, std=0.5) * 10
    assert noisy.mean() == pytest.approx(magnitude, abs=4.5 * 0.5 / np.sqrt(len(noisy)))
    assert noisy.std() == pytest.approx(0.5, rel=4.5 / np.sqrt(2 * len(noisy)))


def test_a_magnitude_stays_within_0_and_10():
    strengths = _strengths(ops=1, magnitude=9.0, std=3.0)
    assert strengths.max() == pytest.approx(1, abs=0.01)
    assert 0.2 < (strengths > 0.99).mean() < 0.6


def test_trivialaugment_takes_any_of_31_strengths_up_to_the_largest():
    strengths = _strengths(most=0.99, augment=trivialaugment)
    assert strengths.max() == pytest.approx(1, abs=0.01)
    assert 20 < len(set(strengths)) <= 26  # those that brighten by more than 16 levels
