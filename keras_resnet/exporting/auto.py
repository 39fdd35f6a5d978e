"""`--quantize auto`: the smallest file that passes the gate.

Full int8 first. If it loses too much accuracy, int8 with one, two, four or eight layers in float,
those with the largest error; then the next larger variant.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_resnet import filenames
from keras_resnet.errors import CheckFailed

if TYPE_CHECKING:  # the gate's table shows our lines
    from keras_resnet.exporting.gate import Judge

ORDER = ("int8", "dynamic", "float16", "none")  # from small and quick to large and slow
COUNTS = (1, 2, 4, 8)  # layers to keep in float


def choose(
    folder: Path,
    *,
    convert: Callable[[str, Path], dict[str, Any]],
    layer_errors: Callable[[], dict[str, Any]],
    judge: "Judge",
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Tries the variants, and leaves in `folder` the first that passes.

    Args:
        folder: where the files are made.
        convert: function that writes the file of a variant to a path, and returns the cost.
        layer_errors: function that gives the result of `layer_error.measure` with `COUNTS`.
        judge: the `gate.Judge`.

    Returns:
        (candidates, cost of the conversion): for each candidate {variant, file, float_layers,
        bytes, drop_points, taken, why}; the last was taken.

    Raises:
        CheckFailed: none passes.
    """
    tried = []
    for variant in ORDER:
        path = folder / filenames.TFLITE[variant]
        cost = convert(variant, path)
        tried.append(_tried(variant, path, judge))
        if variant == "int8" and (tried[-1]["drop_points"] or 0) > judge.max_drop:
            tried += _with_layers_in_float(path, layer_errors(), judge)
        if tried[-1]["taken"]:
            return tried, cost
        path.unlink()
    raise CheckFailed("no variant passes: " + "; ".join(map(line, tried)))


def line(candidate: Mapping[str, Any]) -> str:
    """One line about a candidate."""
    name = candidate["variant"]
    if candidate["float_layers"]:
        name += f" with {', '.join(candidate['float_layers'])} in float"
    return f"{name}: {'taken' if candidate['taken'] else 'not taken'}, {candidate['why']}"


def _with_layers_in_float(
    path: Path, errors: Mapping[str, Any], judge: "Judge"
) -> Iterator[dict[str, Any]]:
    lost = {row["layer"]: row["lost"] for row in errors["layers"]}
    for count in COUNTS:
        path.write_bytes(errors["files"][count].read_bytes())
        kept = errors["float_layers"][count]
        shares = ", ".join(f"{layer} {lost[layer]:.0%}" for layer in kept)
        reason = f"; of their channels' signal int8 loses {shares}"
        candidate = _tried("int8", path, judge, kept, reason)
        yield candidate
        if candidate["taken"]:
            return


def _tried(
    variant: str, path: Path, judge: "Judge", float_layers: Sequence[str] = (), reason: str = ""
) -> dict[str, Any]:
    row = judge.row(judge.file(path))
    lost = f"{row['drop_points']:.2f} of {judge.max_drop:g} points lost" if row["passed"] else ""
    return {
        "variant": variant,
        "file": row["file"],
        "float_layers": list(float_layers),
        "bytes": row["bytes"],
        "drop_points": row["drop_points"],
        "taken": row["passed"],
        "why": (row["why"] or f"{row['bytes'] / 1e6:.2f} MB, {lost}") + reason,
    }
