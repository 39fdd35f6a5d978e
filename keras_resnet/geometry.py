"""How a picture of any size becomes the input of a network: size, fit and colour channels.

`data.views` and `data.pixels` apply it, with and without TensorFlow, and so does the
preprocessing of every bundle.
"""

import re
import struct
from dataclasses import dataclass, replace
from typing import Any

FITS = ("crop", "pad", "stretch")
LARGEST_SIDE = 8192  # of images, in pixels
# 65536 times the shares of red, green and blue in the luma of ITU-R BT.601, as Pillow has them.
LUMA = (19595, 38470, 7471)


@dataclass(frozen=True)
class Geometry:
    """Size of the input of a network, and how a picture is fitted into it.

    crop: the largest part in the middle with the input's aspect ratio is resized to it. pad: the
    whole picture is resized to fit, in the middle of black, as with Keras' `pad_to_aspect_ratio`
    (black does not depend on the normalization, so each client can do the same). stretch: the
    whole picture is resized to it, whatever its aspect ratio.
    """

    height: int  # pixels
    width: int
    fit: str = "crop"
    channels: int = 3  # RGB, or 1: luma

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.height, self.width, self.channels

    @property
    def side(self) -> int:
        """The shorter side in pixels."""
        return min(self.height, self.width)

    @property
    def image_size(self) -> int | str:
        """As in config.json: the side of a square, or HxW."""
        return self.height if self.height == self.width else f"{self.height}x{self.width}"

    @property
    def text(self) -> str:
        """The size to read: "224 × 224"."""
        return f"{self.height} × {self.width}"

    def scaled(self, side: int) -> "Geometry":
        """The same with a shorter side of `side` pixels."""
        if side == self.side:
            return self
        height, width = (round(n * side / self.side) for n in (self.height, self.width))
        return replace(self, height=height, width=width)

    def window(self, height: int, width: int, crop: float) -> tuple[int, int, int, int]:
        """The part of a picture that is shown: y, x, height and width.

        Args:
            height, width: of the picture as displayed.
            crop: with the fit "crop", share of the side that limits the part.
        """
        if self.fit != "crop":
            return 0, 0, height, width
        if height * self.width <= width * self.height:
            h = _share(height, crop)
            w = min(max(_ratio(h, self.width, self.height), 1), width)
        else:
            w = _share(width, crop)
            h = min(max(_ratio(w, self.height, self.width), 1), height)
        return (height - h) // 2, (width - w) // 2, h, w

    def resized(self, height: float, width: float) -> tuple[int, int]:
        """(height, width) that a part of this size is resized to; what is left of the input is
        black."""
        if self.fit != "pad":
            return self.height, self.width
        across, down = _float32(width * self.height), _float32(height * self.width)
        if down >= across:
            return self.height, min(max(_rounded(across / height), 1), self.width)
        return min(max(_rounded(down / width), 1), self.height), self.width

    def borders(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """((above, below), (left, right)): the black around a part that was resized to this."""
        above, left = (self.height - height) // 2, (self.width - width) // 2
        return (above, self.height - height - above), (left, self.width - width - left)


def of(size: "int | Geometry") -> Geometry:
    """A `Geometry`, given one or the side of a square of RGB pixels."""
    return size if isinstance(size, Geometry) else Geometry(size, size)


def from_size(size: int | str, fit: str, channels: int) -> Geometry:
    """A `Geometry`, given the size as config.json and preprocess.json have it."""
    height, width = map(int, size.split("x")) if isinstance(size, str) else (size, size)
    return Geometry(height, width, fit, channels)


def parse_size(value: Any) -> Any:
    """An image size as config.json has it: "64", "64x64" and (64, 64) are 64; "64X128" and
    (64, 128), height and width, are "64x128". What is no size is left as it is."""
    text = "x".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    match = re.fullmatch(r"(\d{1,6})(?:[xX×](\d{1,6}))?", text)
    if not match:
        return value
    height, width = int(match[1]), int(match[2] or match[1])
    return height if height == width else f"{height}x{width}"


def is_size(value: object) -> bool:
    """Whether it is a number of pixels or HxW, as `parse_size` gives it."""
    if isinstance(value, str):
        sides = [int(n) for n in value.split("x")] if re.fullmatch(r"\d+x\d+", value) else [0]
        return all(1 <= n <= LARGEST_SIDE for n in sides)
    return isinstance(value, int) and 0 <= value <= LARGEST_SIDE


def _share(side: int, crop: float) -> int:
    """`crop` of a side, at least 1; rounded as in float32, in which clients compute."""
    return max(round(_float32(side * _float32(crop))), 1)


def _float32(value: float) -> float:
    number: float = struct.unpack("f", struct.pack("f", value))[0]
    return number


def _rounded(value: float) -> int:
    """Half up, as in float32: what the graph computes of parts in another unit, too."""
    return int(_float32(_float32(value) + 0.5))


def _ratio(side: int, part: int, whole: int) -> int:
    """`side * part / whole`, rounded half up."""
    return (side * part + whole // 2) // whole
