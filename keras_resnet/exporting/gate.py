"""The gate: every artefact against the Keras model, on real held-out images."""

import time
from dataclasses import replace
from functools import partial

import numpy as np

from keras_resnet import progress
from keras_resnet.data.stream import evaluation_stream
from keras_resnet.errors import CheckFailed, InputError
from keras_resnet.evaluation.artefact import open_artefact, predict_stream
from keras_resnet.evaluation.contract import FILE as CONTRACT_FILE
from keras_resnet.evaluation.contract import PLAIN, read_contract
from keras_resnet.evaluation.lite import Lite
from keras_resnet.evaluation.reference import true_float32
from keras_resnet.evaluation.scores import BATCH, stream_for
from keras_resnet.exporting import auto, census, layer_error, onnx_file, publish, temperature, wrap
from keras_resnet.exporting.convert import FILES
from keras_resnet.files import read_json, write_json
from keras_resnet.run import FEATURES, fingerprint, open_run

MAX_DROP = 1.0  # points of top-1
IMAGES = 1000  # more than this many held-out images are sampled
# float32 files do the same arithmetic in another order: rounding, relative to the largest logit.
FLOAT32_ERROR = 1e-4
MANIFEST = "manifest.json"
_FLOAT32 = (FILES["none"], "saved_model", onnx_file.FILE)
_CENSUS = {".tflite": census.census, ".onnx": onnx_file.census}
_TIMED_RUNS = 30


@true_float32()
def verify(run=None, *, max_drop=MAX_DROP, images=IMAGES):
    """Runs every exported file on held-out images and compares it with the Keras model.

    Args:
        run: a `Run` or its path; None is the newest run.
        max_drop: how many points of top-1 a file may lose.
        images: at most this many images of the run's validation split.

    Returns:
        {passed, images, max_drop, keras: {top1}, artefacts: [{file, sha256, bytes, images, top1,
        drop_points, agreement, max_logit_diff, latency_ms, ops, passed, why}]}; also written to
        `RUN/export/verify.json`. The largest difference is in units of what the files give, logits
        or probabilities, and from Keras' answer to the same pixels; that of the features file is
        in features. `probabilities` is there if they were calibrated, as
        `keras_resnet.exporting.temperature.calibrate` returns it.

    Raises:
        InputError: nothing has been exported.
    """
    require(max_drop, images)
    run = open_run(run)
    folder = run.export_folder
    publish.restore(folder)
    if not artefacts(folder):
        raise InputError(f"{run.path} has no exported files; `keras-resnet export {run.path}`")
    contract = read_contract(folder)
    result = check(folder, Judge(run, max_drop=max_drop, images=images, contract=contract))
    write_json(folder / "verify.json", result)
    return result


def require(max_drop, images):
    """InputError for limits that cannot be meant."""
    if not 0 <= max_drop <= 100:
        raise InputError(f"--max-drop is {max_drop}; expected points of top-1, 0 to 100")
    if images < 1:
        raise InputError(f"--images is {images}; expected at least 1")


def check(folder, judge):
    """`verify` for the files in any folder; writes nothing."""
    recorded, probabilities = _recorded(folder), _probabilities(folder)
    rows = [judge.row(path, recorded.get(path.name)) for path in artefacts(folder)]
    return {
        "passed": all(row["passed"] for row in rows),
        "images": len(judge.examples),
        "max_drop": judge.max_drop,
        "keras": {"top1": judge.top1},
        "artefacts": rows,
        **({"probabilities": probabilities} if probabilities else {}),
    }


class Judge:
    """What files are compared with: the logits of a run's Keras model on its held-out images."""

    def __init__(self, run, *, max_drop, images, contract=PLAIN):
        reference = open_artefact(run.path)
        self._run, self._contract = run, contract
        self.examples = _sample(run.examples("val"), images, run.config.seed)
        self.max_drop = max_drop
        self._expected = predict_stream(reference, stream_for(reference, self.examples))
        self.top1 = _top1(self._expected, self.examples.labels)
        self._exact = self._expected
        if contract.input_size:
            self._exact = _same_pixels(run, reference, self.examples, contract)

    def row(self, path, recorded=None):
        """A row of `verify`, for one file; `recorded` is its row of the manifest."""
        row = _row(path, self.examples)
        compare = self._compare_features if path.name == FEATURES else self._compare
        try:
            _require_unchanged(row, recorded)
            reasons = compare(path, row)
        except (InputError, CheckFailed) as error:
            reasons = [str(error)]
        return row | {"passed": not reasons, "why": "; ".join(reasons)}

    def _compare(self, path, row):
        """Fills the row; gives the reasons why the file must not be used."""
        if path.suffix in _CENSUS:
            row["ops"] = _CENSUS[path.suffix](path)["ops"]
        opened = open_artefact(path)
        logits = predict_stream(opened, stream_for(opened, self.examples))
        if not np.isfinite(logits).all():
            raise CheckFailed("logits that are not finite")
        row["latency_ms"] = _latency(opened, path)
        row["top1"] = _top1(logits, self.examples.labels)
        row["drop_points"] = round(100 * (self.top1 - row["top1"]), 4)
        row["agreement"] = float((logits.argmax(-1) == self._expected.argmax(-1)).mean())
        row["max_logit_diff"], largest = self._contract.difference(logits, self._exact)
        return list(_reasons(path, row, largest, self.max_drop))

    def _compare_features(self, path, row):
        """The same for `model_features.tflite`: float32 rounding is all that may differ."""
        run, contract = self._run, self._contract
        expect = wrap.features(run.model(), contract, run.config.center_crop)
        row["ops"] = census.census(path)["ops"]
        lite, found, expected = Lite(path, threads=1), [], []
        for images in _images(self.examples, run, contract):
            found.append(lite.predict(images))
            expected.append(expect(images.astype(np.float32))["features"].numpy())
        found, expected = np.concatenate(found), np.concatenate(expected)
        row["latency_ms"] = _median_ms(partial(lite.predict, images[:1]))
        row["max_logit_diff"] = float(np.abs(found - expected).max())
        largest = float(np.abs(expected).max())
        return [*census.faults(path), *_rounding(row, largest, "features")]


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
            lines.append(f"{row['file']:24} {_without_top1(row)}{gate}")
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
    if "probabilities" in result:
        lines.append(temperature.line(result["probabilities"]))
    lines += [auto.line(candidate) for candidate in result.get("candidates", ())]
    if "quantization" in result:
        lines += ["", layer_error.table(result["quantization"]["layers"])]
    return "\n".join(lines)


def _without_top1(row):
    """The columns of a file that names no classes; of one that failed to run, nothing."""
    if row["latency_ms"] is None:
        return ""
    return (
        f"{'':23} {row['max_logit_diff']:9.2g} {row['bytes'] / 1e6:6.2f} MB "
        f"{row['latency_ms']:6.2f} ms  "
    )


def _row(path, examples):
    numbers = ("top1", "drop_points", "agreement", "max_logit_diff", "latency_ms", "ops")
    found = {"file": path.name, **fingerprint(path), "images": len(examples)}
    return found | dict.fromkeys(numbers)


def _require_unchanged(row, recorded):
    if recorded and any(row[key] != recorded[key] for key in ("bytes", "sha256")):
        raise CheckFailed("changed since it was exported (another sha256); export it again")


def _reasons(path, row, largest, max_drop):
    """Why the file must not be used."""
    if path.suffix == ".tflite":
        yield from census.faults(path)
    if row["drop_points"] > max_drop:
        yield f"top-1 is {row['drop_points']:.2f} points lower, {max_drop:g} are allowed"
    if path.name in _FLOAT32:
        yield from _rounding(row, largest, "logits")


def _rounding(row, largest, what):
    limit = FLOAT32_ERROR * largest
    if row["max_logit_diff"] > limit:
        yield f"{what} differ by {row['max_logit_diff']:.2g}, float32 rounding explains {limit:.2g}"


def _same_pixels(run, reference, examples, contract):
    """The Keras model's logits `(n, k)` behind the crop and resize that the files do themselves.

    Its top-1 on photos as evaluation resizes them says what the files' resize costs; this says
    whether they compute it right.
    """
    plain = replace(contract, scores="logits", top=None, temperature=1.0)
    serve = wrap.around(reference.model, plain, run.config.center_crop)
    return np.concatenate(
        [
            serve(images.astype(np.float32))["logits"].numpy()
            for images in _images(examples, run, contract)
        ]
    )


def _images(examples, run, contract):
    """Batches of images as files of this contract take them."""
    size, crop = contract.view(run.config.side, run.config.center_crop)
    stream = evaluation_stream(examples, size=size, crop=crop, batch_size=BATCH)
    for squares, _ in stream.as_numpy_iterator():
        yield contract.frames(squares)


def _probabilities(folder):
    """What a calibration of the probabilities found when the files were exported, or None."""
    file = folder / CONTRACT_FILE
    return read_json(file).get("probabilities") if file.exists() else None


def _latency(opened, path):
    """Median milliseconds for one image; on one thread for a `.tflite` and an `.onnx`."""
    image = np.random.default_rng(0).integers(
        0, 256, (1, opened.image_size, opened.image_size, 3), dtype=np.uint8
    )
    if opened.kind in ("tflite", "onnx"):
        opened = open_artefact(path, threads=1)
    return _median_ms(partial(opened.predict, image))


def _median_ms(run):
    run()  # warms up
    times = []
    for _ in range(_TIMED_RUNS):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return round(1000 * float(np.median(times)), 3)


def artefacts(folder):
    """The exported artefacts in `folder`, in a fixed order."""
    names = ("saved_model", *FILES.values(), onnx_file.FILE, FEATURES)
    found = [folder / name for name in names]
    return [path for path in found if path.exists()]


def record(folder, names, notes):
    """Notes the fingerprints of artefacts just made, so that a later `verify` sees a change.

    `notes` are added to them: {name: {conversion: how it was made}}.
    """
    known = {k: v for k, v in _recorded(folder).items() if (folder / k).exists()}
    made = {name: fingerprint(folder / name) | notes.get(name, {}) for name in names}
    write_json(folder / MANIFEST, known | made)


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
