"""`--quantize auto`: the first file, from int8 to float32, that passes the gate.

Full int8 first. If it loses too much accuracy, int8 with the one, two, four or eight layers with
the largest error in float; then dynamic, float16 and float32.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from keras_resnet import filenames
from keras_resnet.errors import CheckFailed
from keras_resnet.exporting.judge import Judge
from keras_resnet.exporting.layer_error import LayerErrors
from keras_resnet.exporting.verification import ArtefactResult, TriedFile
from keras_resnet.messages import log

ORDER = ("int8", "dynamic", "float16", "none")  # from small and fast to large and slow
COUNTS = (1, 2, 4, 8)  # layers to keep in float


def choose(
    folder: Path,
    *,
    convert: Callable[[str, Path], dict[str, Any]],
    layer_errors: Callable[[], LayerErrors],
    judge: Judge,
) -> tuple[list[TriedFile], dict[str, Any]]:
    """Tries the variants in order and leaves the first that passes in `folder`.

    Args:
        folder: folder for the files.
        convert: function that writes the file of a variant to a path and returns the cost.
        layer_errors: function that returns the result of `layer_error.measure` with `COUNTS`.
        judge: the `Judge`.

    Returns:
        (candidates, cost of the conversion); the last candidate is the chosen one.

    Raises:
        CheckFailed: none passes.
    """
    tried: list[TriedFile] = []
    for variant in ORDER:
        path = folder / filenames.TFLITE[variant]
        cost = convert(variant, path)
        tried.append(_tried(variant, path, judge))
        ran = tried[-1].drop_points is not None
        if variant == "int8" and ran and not tried[-1].taken:
            try:
                tried += _with_layers_in_float(path, layer_errors(), judge)
            except CheckFailed as error:  # TensorFlow's debugger does not know all operators
                log.warning(f"int8 with layers in float cannot be tried: {error}")
        if tried[-1].taken:
            return tried, cost
        path.unlink()
    raise CheckFailed(
        f"no variant passes: {'; '.join(map(str, tried))}; give a larger --max-drop, or train "
        "longer"
    )


def _with_layers_in_float(path: Path, errors: LayerErrors, judge: Judge) -> Iterator[TriedFile]:
    lost = {row.layer: row.lost for row in errors.layers}
    for count, file in errors.files.items():
        path.write_bytes(file.read_bytes())
        kept = errors.float_layers[count]
        shares = ", ".join(f"{layer} {lost[layer]:.0%}" for layer in kept)
        reason = f"; int8 error relative to the signal: {shares}"
        candidate = _tried("int8", path, judge, kept, reason)
        yield candidate
        if candidate.taken:
            return


def _tried(
    variant: str, path: Path, judge: Judge, float_layers: Sequence[str] = (), reason: str = ""
) -> TriedFile:
    row = judge.row(judge.file(path))
    return TriedFile(
        variant=variant,
        file=row.file,
        float_layers=list(float_layers),
        bytes=row.bytes,
        drop_points=row.drop_points,
        taken=row.passed,
        why=(row.why or _cost(row, judge)) + reason,
    )


def _cost(row: ArtefactResult, judge: Judge) -> str:
    """Size and drop of a file that passed, as text."""
    return (
        f"{row.bytes / 1e6:.2f} MB, {row.drop_points:.2f} points lost (allowed: "
        f"{judge.limits.max_drop:g})"
    )
