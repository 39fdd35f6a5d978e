"""The input of the network: the central square in evaluation, a random view in training."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnet.data.views import _drawn_window, _random_window, center_view, random_view
from keras_resnet.geometry import Geometry

MILD = {
    "size": 24,
    "pad": 0,
    "area": (0.35, 1.0),
    "aspect": (0.75, 4 / 3),
    "flip": True,
    "brightness": 0.0,
}


def _pixels(width, height):
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    waves = [np.sin(5 * x + 2 * y), np.cos(3 * y - 4 * x), np.sin(6 * x * y + 1)]
    return np.uint8(np.stack(waves, -1) * 110 + 128)


def _encode(pixels, kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return tf.constant(buffer.getvalue())


def _seed(number):
    return tf.constant([7, 16 * number], tf.int64)


@pytest.mark.parametrize("size", [24, 32, 96])
@pytest.mark.parametrize("crop", [1.0, 0.875])
@pytest.mark.parametrize(
    ("width", "height"), [(120, 80), (80, 120), (96, 96), (97, 45), (500, 333), (20, 30), (1, 9)]
)
def test_the_centre_view_is_pillows_middle_square_resized(width, height, crop, size):
    pixels = _pixels(width, height)
    side = max(round(min(width, height) * crop), 1)
    left, top = (width - side) // 2, (height - side) // 2
    middle = Image.fromarray(pixels).crop((left, top, left + side, top + side))
    expected = np.asarray(middle.resize((size, size), Image.Resampling.BILINEAR)).astype(int)
    for data in (pixels, _encode(pixels, "PNG")):
        view = center_view(tf.constant(data), 1, size=size, crop=crop).numpy()
        assert view.shape == (size, size, 3) and view.dtype == np.uint8
        assert np.abs(view - expected).max() <= 1
    photo = _encode(pixels, "JPEG", quality=98, subsampling=0)
    view = center_view(photo, 1, size=size, crop=crop).numpy()
    assert np.abs(view - expected).max() <= 5  # the JPEG's loss, and decoding small


@pytest.mark.parametrize("turn", range(1, 9))
def test_the_centre_view_of_a_turned_photo_is_upright(turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    data = _encode(_pixels(60, 41), "JPEG", exif=exif)
    upright = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # Pillow's Transpose for each
    image = Image.open(io.BytesIO(data.numpy()))
    image = image.transpose(Image.Transpose(upright[turn])) if turn in upright else image
    expected = center_view(tf.constant(np.asarray(image)), 1, size=16, crop=1.0).numpy()
    view = center_view(data, turn, size=16, crop=1.0).numpy().astype(int)
    assert np.abs(view - expected).max() <= 5  # an upright JPEG is decoded small


def _view(number, data=None, **changes):
    data = tf.constant(_pixels(60, 40)) if data is None else data
    return random_view(data, 1, _seed(number), **{**MILD, **changes}).numpy()


def _views(numbers, data=None, **changes):
    """The same as `_view` of each number, in one graph: ten times as fast."""
    data = tf.constant(_pixels(60, 40)) if data is None else data

    def view(number):
        return random_view(data, 1, tf.stack([7, 16 * number]), **{**MILD, **changes})

    views = tf.data.Dataset.from_tensor_slices(np.array(numbers, np.int64)).map(view)
    return np.stack([*views.as_numpy_iterator()])


def test_a_random_view_depends_on_its_seed_alone():
    for number in range(5):
        np.testing.assert_array_equal(_view(number), _view(number))
    assert len({view.tobytes() for view in _views(range(40), brightness=0.3)}) == 40


def test_the_views_of_one_image_differ_as_much_between_passes_as_within_one():
    assert len({view.tobytes() for view in _views(range(0, 4000, 100))}) == 40


def _whole(numbers, **changes):
    """Views that show all of the image, flipped or not."""
    return _views(numbers, area=(1.0, 1.0), aspect=(1.5, 1.5), **changes).astype(int)


def test_about_half_of_the_views_are_mirrored():
    (plain,) = _whole([0], flip=False)
    views = _whole(range(200))
    straight = sum(np.abs(view - plain).max() <= 1 for view in views)
    mirrored = sum(np.abs(view[:, ::-1] - plain).max() <= 1 for view in views)
    assert straight + mirrored == 200
    assert 70 <= mirrored <= 130  # 4 standard deviations


def test_no_view_is_mirrored_where_the_data_set_says_so():
    views = _whole(range(30), flip=False)
    assert np.abs(views - views[0]).max() <= 1


def test_brightness_scales_and_stays_a_picture():
    bright = tf.constant(np.full((40, 40, 3), 250, np.uint8))
    dark = tf.constant(np.full((40, 40, 3), 40, np.uint8))
    levels = _views(range(100), dark, brightness=0.5)[:, 0, 0]
    assert levels.min() >= 20 and levels.max() <= 60
    assert levels.min() < 26 and levels.max() > 54
    assert np.mean(levels > 40) == pytest.approx(0.37, abs=0.2)  # log(1.5) / log(1.5 / 0.5)
    for view in _views(range(20), bright, brightness=0.5):
        assert view.dtype == np.uint8 and len(np.unique(view)) == 1
        assert view[0, 0, 0] >= 125  # never wrapped around from 255 to 0


def test_brightness_is_log_uniform():
    """Darker by a factor is as likely as brighter by it."""
    gray = tf.constant(np.full((4, 4, 3), 100, np.uint8))
    levels = np.log(_views(range(1000), gray, size=4, brightness=0.5)[:, 0, 0, 0] / 100)
    low, high = np.log(0.5), np.log(1.5)
    shares = [np.mean(levels < low + share * (high - low)) for share in (0.25, 0.5, 0.75)]
    assert shares == pytest.approx([0.25, 0.5, 0.75], abs=0.05)  # 3 standard deviations


def test_crop_flip_and_brightness_are_independent():
    """Coordinates as colors; the third channel tells the brightness."""
    y, x = np.mgrid[0:100, 0:120]
    ramp = tf.constant(np.stack([y, x, x * 0 + 120], -1).astype(np.uint8))
    views = _views(range(400), ramp, size=32, brightness=0.5).astype(float)
    scale = views[:, 0, 0, 2] / 120
    y = views[:, [0, -1], 0, 0] / scale[:, None]
    x = views[:, 0, [0, -1], 1] / scale[:, None]
    width, height = np.abs(np.diff(x)[:, 0]), np.diff(y)[:, 0]
    crop = [width * height, np.log(width / height), y.mean(1), x.mean(1)]
    all_ = np.corrcoef([*crop, x[:, 0] > x[:, 1], np.log(scale)])
    between = [*all_[4, :4], *all_[5, :5]]
    assert np.abs(between).max() < 4.5 / np.sqrt(400)


def test_crops_come_from_everywhere_and_in_all_sizes():
    y, x = np.mgrid[0:200, 0:250]
    ramp = tf.constant(np.stack([y, x, x * 0], -1).astype(np.uint8))
    views = _views(range(100), ramp, flip=False, size=64).astype(float)
    tops, lefts = views[:, 0, 0, 0], views[:, 0, 0, 1]
    heights = views[:, -1, 0, 0] - tops
    assert tops.min() < 3 and tops.max() > 50
    assert lefts.min() < 5 and lefts.max() > 70
    assert heights.min() < 130 and heights.max() > 185


def test_a_crop_keeps_to_its_area_and_aspect():
    # Coordinates as colours: the view's corners tell which window it shows.
    y, x = np.mgrid[0:200, 0:250]
    ramp = tf.constant(np.stack([y, x, x * 0], -1).astype(np.uint8))
    for view in _views(range(50), ramp, flip=False, size=64).astype(float):
        height, width = view[-1, 0, 0] - view[0, 0, 0], view[0, -1, 1] - view[0, 0, 1]
        assert 0.3 <= height * width / (200 * 250) <= 1.0
        assert 0.7 <= width / height <= 1.45


def test_a_padded_view_is_a_window_of_the_image_with_black_around_it():
    pixels = np.maximum(_pixels(24, 24), 1)  # black is the padding alone
    padded = np.pad(pixels, [(4, 4), (4, 4), (0, 0)])
    windows = {padded[y : y + 24, x : x + 24].tobytes() for y in range(9) for x in range(9)}
    views = _views(range(300), tf.constant(pixels), pad=4, flip=False)
    shown = {view.tobytes() for view in views}
    assert len(shown) > 60 and shown <= windows  # 300 of 81 windows


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (3, 2)])
def test_a_tiny_image_has_views_too(shape):
    data = tf.constant(_pixels(*shape))
    for number in range(10):
        assert _view(number, data).shape == (24, 24, 3)
    assert _view(0, _encode(_pixels(*shape), "JPEG")).shape == (24, 24, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "pixels"])
def test_a_tf_data_graph_shows_the_same_views_as_python(kind):
    pixels = _pixels(300, 200)
    data = tf.constant(pixels) if kind == "pixels" else _encode(pixels, kind)
    changes = {"brightness": 0.2}

    def both(number):
        seed = tf.stack([tf.constant(7, tf.int64), 16 * number])
        random = random_view(data, 1, seed, **{**MILD, **changes})
        return random, center_view(data, 1, size=24, crop=0.9)

    for number, (random, centre) in enumerate(tf.data.Dataset.range(6).map(both)):
        np.testing.assert_array_equal(random, _view(number, data, **changes))
        np.testing.assert_array_equal(centre, center_view(data, 1, size=24, crop=0.9))


@pytest.mark.parametrize("size", [100, 75, 150])
def test_a_random_view_of_the_whole_is_made_of_means(size):
    pixels = _pixels(300, 300)
    view = _view(0, tf.constant(pixels), size=size, area=(1.0, 1.0), aspect=(1.0, 1.0), flip=False)
    means = pixels.reshape(size, 300 // size, size, 300 // size, 3).mean((1, 3))
    assert np.abs(view - means).max() < 0.51  # rounded, not cut off


def test_a_random_view_of_a_smaller_image_is_interpolated():
    view = _view(
        0, tf.constant(_pixels(10, 10)), size=40, area=(1.0, 1.0), aspect=(1.0, 1.0), flip=False
    )
    expected = Image.fromarray(_pixels(10, 10)).resize((40, 40), Image.Resampling.BILINEAR)
    assert np.abs(view.astype(int) - np.asarray(expected)).max() <= 1


def test_so_is_one_that_is_smaller_in_one_direction():
    """Repeated rows would be steps where the image has none."""
    ramp = np.tile(np.arange(0, 250, 25, dtype=np.uint8)[:, None, None], (1, 60, 3))
    size = Geometry(40, 40, "stretch")
    view = _view(0, tf.constant(ramp), size=size, area=(1.0, 1.0), aspect=(1.0, 1.0), flip=False)
    assert np.diff(view[:, 20, 0].astype(int)).max() < 10


def _torchvisions(height, width, area, aspect, count=20_000):
    """RandomResizedCrop.get_params of torchvision 0.29 in NumPy: rows of y, x, h, w."""
    rng = np.random.default_rng(0)
    target = height * width * rng.uniform(*area, (count, 10))  # ten attempts
    ratio = np.exp(rng.uniform(*np.log(aspect), (count, 10)))
    w, h = np.round(np.sqrt([target * ratio, target / ratio])).astype(int)
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    rows, first, found = np.arange(count), fits.argmax(1), fits.any(1)
    highest = round(width / min(aspect)) if width / height < min(aspect) else height
    widest = round(height * max(aspect)) if width / height > max(aspect) else width
    h = np.where(found, h[rows, first], highest)
    w = np.where(found, w[rows, first], widest)
    y = np.where(found, rng.integers(0, height - h + 1), (height - h) // 2)
    x = np.where(found, rng.integers(0, width - w + 1), (width - w) // 2)
    return np.stack([y, x, h, w], 1)


def _windows(height, width, area, aspect, count=4000):
    def window(number):
        seed = tf.stack([tf.constant(7, tf.int64), 16 * number])
        return tf.stack(_random_window(height, width, seed, area, aspect))

    windows = tf.data.Dataset.range(count).map(window).batch(count)
    return next(windows.as_numpy_iterator())


def _quantile_gap(a, b):
    """The largest distance of two empirical distributions (Kolmogorov and Smirnov)."""
    grid = np.concatenate([a, b])
    return np.abs(
        np.searchsorted(np.sort(a), grid, "right") / len(a)
        - np.searchsorted(np.sort(b), grid, "right") / len(b)
    ).max()


@pytest.mark.parametrize("area", [(0.08, 1.0), (0.35, 1.0), (0.7, 1.0)])
@pytest.mark.parametrize(("height", "width"), [(375, 500), (32, 32), (500, 200), (1, 9)])
def test_random_crops_are_distributed_as_torchvisions(height, width, area):
    aspect = (3 / 4, 4 / 3)
    ours = _windows(height, width, area, aspect)
    theirs = _torchvisions(height, width, area, aspect)
    assert (ours[:, :2] >= 0).all() and (ours[:, 2:] >= 1).all()
    assert (ours[:, 0] + ours[:, 2] <= height).all() and (ours[:, 1] + ours[:, 3] <= width).all()

    def views(windows):
        y, x, h, w = windows.T
        return h * w / (height * width), np.log(w / h), y, x

    for mine, reference in zip(views(ours), views(theirs), strict=True):
        noise = reference.std() / np.sqrt(len(mine)) + 1e-9
        assert abs(mine.mean() - reference.mean()) < 4.5 * noise
        assert _quantile_gap(mine, reference) < 1.95 * np.sqrt(1 / 4000 + 1 / 20_000)


def test_crops_of_imagenets_range_show_the_published_share_of_a_photo():
    windows = _windows(375, 500, (0.08, 1.0), (3 / 4, 4 / 3))
    shares = windows[:, 2] * windows[:, 3] / (375 * 500)
    assert shares.mean() == pytest.approx(0.434, abs=0.012)  # not 0.37


def test_where_no_window_fits_the_largest_middle_one_is_shown_and_nothing_is_erased():
    seed = _seed(0)
    window = [int(n) for n in _random_window(10, 100, seed, (1.0, 1.0), (0.5, 2.0))]
    assert window == [0, 40, 10, 20]
    assert not _drawn_window(10, 100, seed, (1.0, 1.0), (0.5, 2.0))[-1]
