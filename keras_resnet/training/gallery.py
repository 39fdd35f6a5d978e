"""The validation images in the report: the worst mistakes, and some correct predictions.

They are read from the files at full resolution, not as the network sees them.
"""

import io
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from PIL import Image

from keras_resnet import filenames
from keras_resnet.data import decode
from keras_resnet.data.examples import Examples
from keras_resnet.evaluation.per_image import ImageScore
from keras_resnet.files import StrPath, write_json
from keras_resnet.messages import percent
from keras_resnet.report import plots
from keras_resnet.run import Run

_MISTAKES, _CORRECT = 24, 8
_SIDE = 400  # maximum of the longer side of an image in the report, in pixels
_TILE = 240  # the side of a tile in mistakes.png, in pixels
_PNG = 96  # images up to this longer side are stored without loss


def write(folder: Run, examples: Examples, rows: Sequence[ImageScore]) -> None:
    """Writes examples.json and mistakes.png of a run.

    Args:
        folder: the run.
        examples: its validation images.
        rows: the prediction for each image.
    """
    # Sorted by the score in the captions.
    worst = sorted((i for i, row in enumerate(rows) if not row.is_right), key=_score(rows))[::-1]
    unsure = sorted((i for i, row in enumerate(rows) if row.is_right), key=_score(rows))
    shown = {"mistakes": worst[:_MISTAKES], "correct": unsure[:_CORRECT]}
    images = {i: _shrunk(_whole(examples, i)) for numbers in shown.values() for i in numbers}
    content = {
        part: [asdict(rows[i]) | {"image": _data_uri(images[i])} for i in numbers]
        for part, numbers in shown.items()
    }
    write_json(folder.file(filenames.EXAMPLES), content)
    worst = shown["mistakes"]
    captions = [_caption(rows[i]) for i in worst]
    _sheet([images[i] for i in worst], captions, folder.file("mistakes.png"), "Worst mistakes")


def contact_sheet(
    examples: Examples,
    numbers: Sequence[int],
    captions: Sequence[Sequence[plots.Line]],
    path: StrPath,
    title: str,
) -> None:
    """Writes a picture of whole images with captions.

    Args:
        examples: the images to choose from.
        numbers: indices of the images to show.
        captions: one per shown image.
        path: the PNG to write.
        title: heading of the picture.
    """
    _sheet([_whole(examples, i) for i in numbers], captions, path, title)


def _sheet(
    images: Sequence[Image.Image],
    captions: Sequence[Sequence[plots.Line]],
    path: StrPath,
    title: str,
) -> None:
    tiles = [_tile(image) for image in images]
    plots.image_grid(
        np.stack(tiles) if tiles else np.zeros((0, _TILE, _TILE, 3), np.uint8),
        captions,
        path,
        title=title,
        columns=6,
    )


def _score(rows: Sequence[ImageScore]) -> Callable[[int], float]:
    return lambda i: rows[i].score


def _caption(row: ImageScore) -> list[plots.Line]:
    return [
        plots.Line(row.file),
        plots.Line(row.label, "true"),
        plots.Line(row.prediction, "predicted", f"({percent(row.score)})"),
    ]


def _whole(examples: Examples, index: int) -> Image.Image:
    """The whole image, upright; a large photo at a fraction of its size."""
    with tf.device("CPU:0"):
        pixels = examples.image(index)
        if pixels.dtype == tf.string:
            turn = examples.orientations[index]
            pixels, _ = decode.decode_window(pixels, turn, lambda h, w: (0, 0, h, w), _SIDE)
        return Image.fromarray(pixels.numpy())


def _shrunk(image: Image.Image) -> Image.Image:
    """Shrinks the longer side to at most `_SIDE` pixels."""
    if max(image.size) > _SIDE:
        image.thumbnail((_SIDE, _SIDE), reducing_gap=3.0)
    return image


def _data_uri(image: Image.Image) -> str:
    kind = "png" if max(image.size) <= _PNG else "jpeg"
    content = io.BytesIO()
    image.save(content, kind, **({} if kind == "png" else {"quality": 85}))
    return f"data:image/{kind};base64,{b64encode(content.getvalue()).decode()}"


def _tile(image: Image.Image) -> npt.NDArray[np.uint8]:
    """The image in the middle of a white square; a small one is enlarged by a whole factor."""
    factor = max(_TILE // max(image.size), 1)
    if factor > 1:
        image = image.resize(
            (image.width * factor, image.height * factor), Image.Resampling.NEAREST
        )
    image = image.copy()
    image.thumbnail((_TILE, _TILE))
    tile = Image.new("RGB", (_TILE, _TILE), "white")
    tile.paste(image, ((_TILE - image.width) // 2, (_TILE - image.height) // 2))
    return np.asarray(tile)
