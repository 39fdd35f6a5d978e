"""What the public functions return: attributes in Python, JSON from the commands."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Result:
    """The base of the results."""

    def as_json(self) -> dict[str, Any]:
        """What the command prints with `--json`: dicts, lists, numbers and text."""
        return asdict(self)
