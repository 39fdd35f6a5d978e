"""How a picture of any size becomes the input of a network: size, fit and colour channels.

`data.views` and `data.pixels` implement it, with and without TensorFlow, and so does the
preprocessing of every bundle.
"""

import re
import struct
from dataclasses import dataclass, replace
from typing import Any

FITS = ("crop", "pad", "stretch")
LARGEST_SIDE = 8192  # of images, in pixels
# Weights of red, green and blue in the luma of ITU-R BT.601, times 65536, as in Pillow.
LUMA = (19595, 38470, 7471)


@dataclass(frozen=True)
class Geometry:
    """Size of a network's input, and how a picture is fitted into it.

    crop: the largest central part with the input's aspect ratio is resized. pad: the whole picture
    is resized to fit and centred on black, as with Keras' `pad_to_aspect_ratio` (black does not
    depend on the normalization, so each client can do the same). stretch: the whole picture is
    resized, ignoring its aspect ratio.
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
        """The setting in config.json: the side of a square, or HxW."""
        return self.height if self.height == self.width else f"{self.height}x{self.width}"

    @property
    def text(self) -> str:
        """The size for messages: "224 × 224"."""
        return f"{self.height} × {self.width}"

    def scaled(self, side: int) -> "Geometry":
        """A copy whose shorter side has `side` pixels."""
        if side == self.side:
            return self
        height, width = (round(n * side / self.side) for n in (self.height, self.width))
        return replace(self, height=height, width=width)

    def window(self, height: int, width: int, crop: float) -> tuple[int, int, int, int]:
        """The part of a picture that the network sees: y, x, height and width.

        Args:
            height, width: size of the upright picture.
            crop: with the fit "crop": size of the part, relative to the largest one.
        """
        if self.fit != "crop":
            return 0, 0, height, width
        if height * self.width <= width * self.height:
            h = _share(height, crop)
            w = min(max(ratio(h, self.width, self.height), 1), width)
        else:
            w = _share(width, crop)
            h = min(max(ratio(w, self.height, self.width), 1), height)
        return (height - h) // 2, (width - w) // 2, h, w

    def resized(self, height: float, width: float) -> tuple[int, int]:
        """(height, width) after resizing a part of this size; the rest of the input is black."""
        if self.fit != "pad":
            return self.height, self.width
        across, down = _float32(width * self.height), _float32(height * self.width)
        if down >= across:
            return self.height, min(max(_rounded(across / height), 1), self.width)
        return min(max(_rounded(down / width), 1), self.height), self.width

    def borders(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """((above, below), (left, right)): pixels of black around a part of this resized size."""
        above, left = (self.height - height) // 2, (self.width - width) // 2
        return (above, self.height - height - above), (left, self.width - width - left)


def of(size: "int | Geometry") -> Geometry:
    """The `Geometry` itself, or that of a square RGB image with this side."""
    return size if isinstance(size, Geometry) else Geometry(size, size)


def from_size(size: int | str, fit: str, channels: int) -> Geometry:
    """A `Geometry` from a size as in config.json and preprocess.json."""
    height, width = map(int, size.split("x")) if isinstance(size, str) else (size, size)
    return Geometry(height, width, fit, channels)


def parse_size(value: Any) -> Any:
    """An image size as in config.json: "64", "64x64" and (64, 64) become 64; "64X128" and
    (64, 128), height and width, become "64x128". Other values are returned unchanged."""
    text = "x".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    match = re.fullmatch(r"(\d{1,6})(?:[xX×](\d{1,6}))?", text)
    if not match:
        return value
    height, width = int(match[1]), int(match[2] or match[1])
    return height if height == width else f"{height}x{width}"


def is_size(value: object) -> bool:
    """Whether a value is a number of pixels or HxW, as `parse_size` returns it."""
    if isinstance(value, str):
        sides = re.fullmatch(r"(\d{1,6})x(\d{1,6})", value)
        return sides is not None and all(1 <= int(n) <= LARGEST_SIDE for n in sides.groups())
    return isinstance(value, int) and 0 <= value <= LARGEST_SIDE


def _share(side: int, crop: float) -> int:
    """`crop * side`, at least 1, computed in float32 as the clients do."""
    return max(round(_float32(side * _float32(crop))), 1)


def _float32(value: float) -> float:
    number: float = struct.unpack("f", struct.pack("f", value))[0]
    return number


def _rounded(value: float) -> int:
    """Rounds half up in float32, as the TensorFlow graph does."""
    return int(_float32(_float32(value) + 0.5))


def ratio(side: Any, part: int, whole: int) -> Any:
    """`side * part / whole`, rounded half up, for an integer or a tensor of integers."""
    return (side * part + whole // 2) // whole
