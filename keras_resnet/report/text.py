"""Shortens and cleans text for plots and tables."""

import unicodedata
from collections.abc import Sequence


def shorten(text: str, width: int) -> str:
    """`text` in at most `width` columns, shortened in the middle: names differ at the ends."""
    if width_of(text) <= width:
        return text
    head, tail = text, text
    while width_of(head) > width // 2:
        head = head[:-1]
    while width_of(tail) > (width - 1) // 2:
        tail = tail[1:]
    return f"{head}…{tail}"


def width_of(text: str) -> int:
    """Width in terminal columns: a Chinese character takes two, a combining one none."""
    return sum(
        0
        if unicodedata.category(c) in ("Mn", "Me", "Cf")
        else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


def clean(text: object) -> str:
    """Text without characters that cannot be drawn: control characters, lone surrogates."""
    # U+200D joins emoji.
    return "".join(c if c.isprintable() or c == "\u200d" else "\ufffd" for c in str(text))


def short_labels(names: Sequence[str], width: int) -> list[str]:
    """Class names in at most `width` columns, all different."""
    short = [shorten(clean(name), width) for name in names]
    if len(set(short)) == len(short):
        return short
    # Some names became equal.
    return [f"{i}: {shorten(name, width - 5)}" for i, name in enumerate(short)]
