"""Return values of the public functions: attributes in Python, JSON from the commands."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Result:
    """Base class of the results."""

    def as_json(self) -> dict[str, Any]:
        """The output of the command with `--json`, as dicts, lists, numbers and text."""
        return asdict(self)
