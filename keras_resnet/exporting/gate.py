"""The gate: every artefact against the Keras model, on real held-out images."""

import time
from functools import partial

import numpy as np

from keras_resnet import progress
from keras_resnet.errors import CheckFailed, InputError
from keras_resnet.evaluation.artefact import open_artefact, predict_stream
from keras_resnet.evaluation.scores import stream_for
from keras_resnet.exporting import census, onnx_file, publish
from keras_resnet.exporting.convert import FILES
from keras_resnet.files import read_json, write_json
from keras_resnet.run import fingerprint, open_run

MAX_DROP = 1.0  # points of top-1
IMAGES = 1000  # more than this many held-out images are sampled
# float32 files do the same arithmetic in another order: rounding, relative to the largest logit.
FLOAT32_ERROR = 1e-4
MANIFEST = "manifest.json"
_FLOAT32 = (FILES["none"], "saved_model", onnx_file.FILE)
_CENSUS = {".tflite": census.census, ".onnx": onnx_file.census}
_TIMED_RUNS = 30


def verify(run=None, *, max_drop=MAX_DROP, images=IMAGES):
    """Runs every exported file on held-out images and compares it with the Keras model.

    Args:
        run: a `Run` or its path; None is the newest run.
        max_drop: how many points of top-1 a file may lose.
        images: at most this many images of the run's validation split.

    Returns:
        {passed, images, max_drop, keras: {top1}, artefacts: [{file, sha256, bytes, images, top1,
        drop_points, agreement, max_logit_diff, latency_ms, ops, passed, why}]}; also written to
        `RUN/export/verify.json`.

    Raises:
        InputError: nothing has been exported.
    """
    require(max_drop, images)
    run = open_run(run)
    folder = run.export_folder
    publish.restore(folder)
    if not _artefacts(folder):
        raise InputError(f"{run.path} has no exported files; `keras-resnet export {run.path}`")
    result = check(run, folder, max_drop=max_drop, images=images)
    write_json(folder / "verify.json", result)
    return result


def require(max_drop, images):
    """InputError for limits that cannot be meant."""
    if not 0 <= max_drop <= 100:
        raise InputError(f"--max-drop is {max_drop}; expected points of top-1, 0 to 100")
    if images < 1:
        raise InputError(f"--images is {images}; expected at least 1")


def check(run, folder, *, max_drop, images):
    """`verify` for the files in any folder; writes nothing."""
    reference = open_artefact(run.path)
    examples = _sample(run.examples("val"), images, run.config.seed)
    expected = predict_stream(reference, stream_for(reference, examples))
    top1 = _top1(expected, examples.labels)
    recorded = _recorded(folder)
    rows = [
        _compare(path, examples, expected, top1, max_drop, recorded.get(path.name))
        for path in _artefacts(folder)
    ]
    return {
        "passed": all(row["passed"] for row in rows),
        "images": len(examples),
        "max_drop": max_drop,
        "keras": {"top1": top1},
        "artefacts": rows,
    }


def demand(result):
    """Raises `CheckFailed`, with every reason, unless the gate let all artefacts through."""
    if not result["passed"]:
        reasons = [f"{r['file']}: {r['why']}" for r in result["artefacts"] if not r["passed"]]
        raise CheckFailed("verify failed: " + "; ".join(reasons), result)


def table(result):
    """The result as text for a terminal."""
    lines = [
        f"{'file':24} {'top-1':>7} {'drop':>6} {'agree':>7} {'max diff':>9} {'size':>9} "
        f"{'latency':>9}  gate",
        f"{'model.keras (reference)':24} {result['keras']['top1']:7.2%}",
    ]
    for row in result["artefacts"]:
        gate = "passed" if row["passed"] else f"FAILED: {row['why']}"
        if row["top1"] is None:
            lines.append(f"{row['file']:24} {gate}")
            continue
        lines.append(
            f"{row['file']:24} {row['top1']:7.2%} {row['drop_points']:6.2f} "
            f"{row['agreement']:7.2%} {row['max_logit_diff']:9.2g} {row['bytes'] / 1e6:6.2f} MB "
            f"{row['latency_ms']:6.2f} ms  {gate}"
        )
    lines.append(
        f"{result['images']:,} validation images; a file may lose {result['max_drop']:g} points; "
        "latency of one image, LiteRT and ONNX Runtime on one thread"
    )
    return "\n".join(lines)


def _compare(path, examples, expected, top1, max_drop, recorded):
    found = fingerprint(path)
    row = {"file": path.name, **found, "images": len(examples)}
    numbers = ("top1", "drop_points", "agreement", "max_logit_diff", "latency_ms", "ops")
    row |= dict.fromkeys(numbers)
    try:
        if recorded and recorded != found:
            raise CheckFailed("changed since it was exported (another sha256); export it again")
        if path.suffix in _CENSUS:
            row["ops"] = _CENSUS[path.suffix](path)["ops"]
        opened = open_artefact(path)
        logits = predict_stream(opened, stream_for(opened, examples))
        if not np.isfinite(logits).all():
            raise CheckFailed("logits that are not finite")
        row["latency_ms"] = _latency(opened, path)
    except (InputError, CheckFailed) as error:
        return row | {"passed": False, "why": str(error)}
    row["top1"] = _top1(logits, examples.labels)
    row["drop_points"] = round(100 * (top1 - row["top1"]), 4)
    row["agreement"] = float((logits.argmax(-1) == expected.argmax(-1)).mean())
    row["max_logit_diff"] = float(np.abs(logits - expected).max())
    reasons = list(_reasons(path, row, expected, max_drop))
    return row | {"passed": not reasons, "why": "; ".join(reasons)}


def _reasons(path, row, expected, max_drop):
    """Why the file must not be used."""
    if path.suffix == ".tflite":
        yield from census.faults(path)
    if row["drop_points"] > max_drop:
        yield f"top-1 is {row['drop_points']:.2f} points lower, {max_drop:g} are allowed"
    limit = FLOAT32_ERROR * float(np.abs(expected).max())
    if path.name in _FLOAT32 and row["max_logit_diff"] > limit:
        yield f"logits differ by {row['max_logit_diff']:.2g}, float32 rounding explains {limit:.2g}"


def _latency(opened, path):
    """Median milliseconds for one image; on one thread for a `.tflite` and an `.onnx`."""
    image = np.random.default_rng(0).integers(
        0, 256, (1, opened.image_size, opened.image_size, 3), dtype=np.uint8
    )
    if opened.kind in ("tflite", "onnx"):
        opened = open_artefact(path, threads=1)
    run = partial(opened.predict, image)
    run()
    times = []
    for _ in range(_TIMED_RUNS):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return round(1000 * float(np.median(times)), 3)


def _artefacts(folder):
    """The exported artefacts in `folder`, in a fixed order."""
    names = ("saved_model", *FILES.values(), onnx_file.FILE)
    found = [folder / name for name in names]
    return [path for path in found if path.exists()]


def record(folder, names):
    """Notes the fingerprints of artefacts just made, so that a later `verify` sees a change."""
    known = {k: v for k, v in _recorded(folder).items() if (folder / k).exists()}
    write_json(folder / MANIFEST, known | {name: fingerprint(folder / name) for name in names})


def _recorded(folder):
    file = folder / MANIFEST
    return read_json(file) if file.exists() else {}


def _sample(examples, count, seed):
    if len(examples) <= count:
        return examples
    progress.say(f"judging by {count:,} of {len(examples):,} validation images (--images)")
    chosen = np.random.default_rng(seed).permutation(len(examples))[:count]
    return examples.take(np.sort(chosen))


def _top1(logits, labels):
    return float((logits.argmax(-1) == labels).mean())
