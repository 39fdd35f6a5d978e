"""The input of the network: a random view of an image in training, its center in evaluation.

Each view depends only on the image, the seed and the sample's global number (stateless random ops),
so that a run can be repeated and resumed exactly.
"""

import math

import tensorflow as tf

from keras_resnet import geometry
from keras_resnet.data.decode import Choose, Window, decode_window, whole_box
from keras_resnet.geometry import LUMA, Geometry, ratio


def random_view(
    data: tf.Tensor,
    orientation: tf.Tensor,
    seed: tf.Tensor,
    *,
    size: int | Geometry,
    pad: int,
    area: tuple[float, float],
    aspect: tuple[float, float],
    flip: bool,
    brightness: float,
) -> tf.Tensor:
    """A resized random crop of random aspect ratio, or a random window of the padded central view;
    with random flip and brightness.

    Args:
        data: an encoded image (string) or uint8 pixels `(h, w, 3)`.
        orientation: EXIF orientation of an encoded image, 1 to 8.
        seed: int64 `(2,)`.
        size: `Geometry` of the result, or the side of a square, in pixels.
        pad: add this many black pixels around the view of evaluation, and take a random window of
            `size` from it (arXiv:1512.03385, section 4.2); 0: a crop by `area` and `aspect`.
        area, aspect: (least, most) of the crop's share of the image's area, and of its width /
            height (arXiv:1409.4842, section 6). The latter is relative to that of the result or,
            for images that are padded or stretched, of the image.
        flip: whether to flip images left-right with probability 0.5.
        brightness: largest change, as a share of 255.

    Returns:
        uint8 `(h, w, 3)`, RGB for any number of channels: see `with_channels`.
    """
    form = geometry.of(size)
    if pad:
        pixels = tf.pad(
            _middle(data, orientation, form, crop=1.0), [[pad, pad], [pad, pad], [0, 0]]
        )
        pixels = tf.image.stateless_random_crop(pixels, (form.height, form.width, 3), seed)
    else:

        def choose(height: tf.Tensor, width: tf.Tensor) -> Window:
            return _random_window(height, width, seed, area, aspect, _aspect(form, height, width))

        pixels = _resize_quickly(_window(data, orientation, choose, form)[0], form)
    if flip:
        pixels = tf.image.stateless_random_flip_left_right(pixels, seed=_nth(seed, 1))
    if brightness:
        # Scaling, as with more or less light, instead of adding a constant.
        low, high = math.log(1 - brightness), math.log(1 + brightness)
        scale = tf.exp(tf.random.stateless_uniform([], _nth(seed, 2), low, high))
        pixels = tf.minimum(pixels * scale, 255.0)
    # Rounds. Values are within [0, 255]: clipping would take a twentieth of the time.
    return tf.cast(pixels + 0.5, tf.uint8)


def erase(image: tf.Tensor, seed: tf.Tensor, share: float) -> tf.Tensor:
    """Random erasing (arXiv:1708.04896): replaces a box by noise, in a `share` of the images.

    Args:
        image: uint8 `(h, w, 3)`.
        seed: int64 `(2,)`.
        share: share of the images, 0 to 1.

    Returns:
        uint8 `(h, w, 3)`.
    """
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 3), num=3)
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    # The paper's ranges: 2 to 40 % of the area, aspect 0.3 to 1/0.3. Drawn as in timm and
    # torchvision, which do not erase if no box fits; in the paper the aspect is uniform.
    y, x, h, w, fits = _drawn_window(height, width, seeds[0], (0.02, 0.4), (0.3, 1 / 0.3))
    noise = tf.random.stateless_uniform(tf.shape(image), seeds[1], 0, 256, tf.int32)
    row, column = tf.range(height)[:, None, None], tf.range(width)[None, :, None]
    inside = (row >= y) & (row < y + h) & (column >= x) & (column < x + w)
    chosen = fits & (tf.random.stateless_uniform([], seeds[2]) < share)
    return tf.where(inside & chosen, tf.cast(noise, tf.uint8), image)


def center_view(
    data: tf.Tensor, orientation: tf.Tensor, *, size: int | Geometry, crop: float
) -> tf.Tensor:
    """An image as the network sees it in evaluation: uint8 `(h, w, c)`.

    Args:
        data, orientation: as in `random_view`.
        size: `Geometry` of the result, or the side of a square, in pixels.
        crop: as in `Geometry.window`.
    """
    form = geometry.of(size)
    return with_channels(_to_uint8(_middle(data, orientation, form, crop)), form.channels)


def with_channels(pixels: tf.Tensor, channels: int) -> tf.Tensor:
    """uint8 RGB `(h, w, 3)` unchanged, or converted to luma `(h, w, 1)`, as Pillow's "L"."""
    if channels == 3:
        return pixels
    weighted = tf.cast(pixels, tf.int32) * tf.constant(LUMA)
    luma = (tf.reduce_sum(weighted, -1, keepdims=True) + (1 << 15)) // (1 << 16)
    return tf.cast(luma, tf.uint8)


def _middle(data: tf.Tensor, orientation: tf.Tensor, form: Geometry, crop: float) -> tf.Tensor:
    def choose(height: tf.Tensor, width: tf.Tensor) -> Window:
        return _central_window(height, width, form, crop)

    return _resize(*_window(data, orientation, choose, form), form)


def _central_window(height: tf.Tensor, width: tf.Tensor, form: Geometry, crop: float) -> Window:
    """`Geometry.window` in a graph."""
    if form.fit != "crop":
        return tf.zeros_like(height), tf.zeros_like(width), height, width

    def share(side: tf.Tensor) -> tf.Tensor:
        return tf.maximum(tf.cast(tf.round(tf.cast(side, tf.float32) * crop), tf.int32), 1)

    is_wide = height * form.width <= width * form.height
    h, w = share(height), share(width)
    wide = tf.clip_by_value(ratio(h, form.width, form.height), 1, width)
    high = tf.clip_by_value(ratio(w, form.height, form.width), 1, height)
    h, w = tf.where(is_wide, h, high), tf.where(is_wide, wide, w)
    return (height - h) // 2, (width - w) // 2, h, w


def _fitted(form: Geometry, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """`Geometry.resized` in a graph, for float32 sides of a part: int32 `(2,)`."""
    if form.fit != "pad":
        return tf.constant([form.height, form.width])
    is_high = height * form.width >= width * form.height
    h = tf.cast(tf.floor(height * form.width / width + 0.5), tf.int32)
    w = tf.cast(tf.floor(width * form.height / height + 0.5), tf.int32)
    h, w = tf.clip_by_value(h, 1, form.height), tf.clip_by_value(w, 1, form.width)
    return tf.stack([tf.where(is_high, form.height, h), tf.where(is_high, w, form.width)])


def _in_the_middle(pixels: tf.Tensor, form: Geometry) -> tf.Tensor:
    """Resized pixels, centred on black if padded: `(h, w, 3)` of the input."""
    if form.fit == "pad":
        left = tf.constant([form.height, form.width]) - tf.shape(pixels)[:2]
        before = left // 2
        sides = tf.stack([before, left - before], 1)
        pixels = tf.pad(pixels, tf.concat([sides, [[0, 0]]], 0))
    return tf.ensure_shape(pixels, (form.height, form.width, 3))


def _nth(seed: tf.Tensor, n: int) -> tf.Tensor:
    """The `n`-th of a sample's seeds, for another kind of random number."""
    return seed + tf.constant([0, n], seed.dtype)


def _window(
    data: tf.Tensor, orientation: tf.Tensor, choose: Choose, form: Geometry
) -> tuple[tf.Tensor, tf.Tensor]:
    if data.dtype == tf.string:
        return decode_window(data, orientation, choose, (form.height, form.width))
    shape = tf.shape(data)
    y, x, h, w = choose(shape[0], shape[1])
    return tf.image.crop_to_bounding_box(data, y, x, h, w), whole_box(h, w)


def _aspect(form: Geometry, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor | float | None:
    """The width / height of a random crop with an aspect of 1; None for 1."""
    if form.fit != "crop":
        return tf.cast(width, tf.float32) / tf.cast(height, tf.float32)
    return None if form.width == form.height else form.width / form.height


_ATTEMPTS = 10


def _random_window(
    height: tf.Tensor,
    width: tf.Tensor,
    seed: tf.Tensor,
    area: tuple[float, float],
    aspect: tuple[float, float],
    unit: tf.Tensor | float | None = None,
) -> Window:
    """y, x, height and width of a random crop, as in torchvision's RandomResizedCrop.

    If none of ten attempts fits, it is the largest central window with an allowed aspect.
    """
    *window, fits = _drawn_window(height, width, seed, area, aspect, unit)
    least, most = aspect if unit is None else (aspect[0] * unit, aspect[1] * unit)
    h, w = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    h, w = tf.minimum(h, tf.round(w / least)), tf.minimum(w, tf.round(h * most))
    h, w = tf.cast(h, tf.int32), tf.cast(w, tf.int32)
    middle = tf.stack([(height - h) // 2, (width - w) // 2, h, w])
    return tf.unstack(tf.where(fits, tf.stack(window), middle), num=4)


def _drawn_window(
    height: tf.Tensor,
    width: tf.Tensor,
    seed: tf.Tensor,
    area: tuple[float, float],
    aspect: tuple[float, float],
    unit: tf.Tensor | float | None = None,
) -> tuple[tf.Tensor, ...]:
    """The first of ten random windows that fits: y, x, height, width, and whether any fits.

    The share of the image's area is uniform in `area`, width / height log-uniform in `aspect` times
    `unit`, and the position uniform (arXiv:1409.4842, section 6).
    """
    draws = tf.random.stateless_uniform([_ATTEMPTS, 4], seed)
    low = [area[0], math.log(aspect[0])]
    span = [area[1] - area[0], math.log(aspect[1]) - low[1]]
    shape = tf.stack([height, width])
    sizes = tf.cast(shape, tf.float32)
    share, log_aspect = tf.unstack(draws[:, :2] * span + low, axis=1)
    if unit is not None:
        log_aspect += tf.math.log(unit)
    # Height sqrt(area / aspect) and width sqrt(area * aspect).
    tilt = tf.stack([-log_aspect, log_aspect], 1)
    extents = tf.round(tf.sqrt(share[:, None] * tf.reduce_prod(sizes) * tf.exp(tilt)))
    fit = tf.reduce_all((extents >= 1) & (extents <= sizes), 1)
    first = tf.argmax(fit)
    extent = tf.cast(extents[first], tf.int32)
    place = tf.cast(draws[first, 2:] * tf.cast(shape - extent + 1, tf.float32), tf.int32)
    return place[0], place[1], extent[0], extent[1], fit[first]


def _resize(pixels: tf.Tensor, box: tf.Tensor, form: Geometry) -> tf.Tensor:
    """Fits the part `box` (y, x, h, w, in pixels) into float32 `(h, w, 3)`; bilinear."""
    # As tf.image.resize, but for a box that may begin at a fraction of a pixel. Antialiased, as in
    # the resize of phones.
    size = _fitted(form, box[2], box[3])
    scale = tf.cast(size, tf.float32) / box[2:]
    pixels = tf.raw_ops.ScaleAndTranslate(
        images=pixels[None],
        size=size,
        scale=scale,
        translation=-box[:2] * scale,
        kernel_type="triangle",
        antialias=True,
    )
    return _in_the_middle(pixels[0], form)


def _resize_quickly(pixels: tf.Tensor, form: Geometry) -> tf.Tensor:
    """Fits uint8 `(h, w, 3)` into float32 pixels by averaging areas, or by bilinear interpolation
    if the image is enlarged.

    For random views: a fifth of the time is more important than the exact kernel.
    """
    shape = tf.shape(pixels)[:2]
    size = _fitted(form, *tf.unstack(tf.cast(shape, tf.float32), num=2))
    resized = tf.cond(
        tf.reduce_any(shape < size),
        lambda: tf.image.resize(pixels, size, "bilinear"),
        lambda: tf.image.resize(pixels, size, "area"),
    )
    return _in_the_middle(resized, form)


def _to_uint8(pixels: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.clip_by_value(tf.round(pixels), 0.0, 255.0), tf.uint8)
