"""Results as text for a terminal. Heavy modules are imported for type checking only."""

import math
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from keras_resnet import filenames
from keras_resnet.config import show
from keras_resnet.messages import one_line, percent, plural, points, some_of
from keras_resnet.report.bundles import how_to_open
from keras_resnet.report.text import short_labels, width_of
from keras_resnet.specs import network_title

if TYPE_CHECKING:
    from keras_resnet.data.check import DataCheck
    from keras_resnet.evaluation.android import PhoneBenchmark
    from keras_resnet.evaluation.benchmark import Benchmark, Spread
    from keras_resnet.evaluation.compare import ComparedFile, Comparison, Pair
    from keras_resnet.evaluation.scores import ArtefactScores, Prediction
    from keras_resnet.explain.cam import Cam
    from keras_resnet.explain.depth import Depths
    from keras_resnet.explain.gradients import DepthGradients, Gradients, ParameterGradient
    from keras_resnet.explain.lesion import Lesions
    from keras_resnet.explain.paths import Paths
    from keras_resnet.exporting.guard import FileResult
    from keras_resnet.exporting.layer_error import Quantization
    from keras_resnet.exporting.verification import ArtefactResult, TriedFile, Verification
    from keras_resnet.inspection.census import Census
    from keras_resnet.inspection.network import Description, Layer, Stage
    from keras_resnet.run import Run
    from keras_resnet.shipping import Shipped
    from keras_resnet.studies.data_plan import CurvePoint, DataPlan, PredictedError
    from keras_resnet.studies.folds import CrossValidation
    from keras_resnet.training.find_lr import RangeTest
    from keras_resnet.training.hardware import Survey

_MOST_LINES = 20
_NAME, _RUN = 32, 24  # columns of a class name and of a run


# Data


def data_check(result: "DataCheck") -> str:
    """Classes, splits and problems of a data set."""
    names = _names(result.classes)
    rows = [[name, f"{n:,}"] for name, n in zip(names, result.classes.values(), strict=True)]
    splits = [] if result.splits.keys() == {"all"} else list(result.splits.items())
    by_split = [[f"split {split}", f"{count:,}"] for split, count in splits]
    head, *table = _columns([["class", "images"], *rows, *by_split])
    lines = [head, *_some(table[: len(rows)]), *table[len(rows) :]]
    for reason, count in result.skipped.items():
        first = result.skipped_examples.get(reason)
        lines.append(f"skipped: {reason}  {count:,}{f', such as {first}' if first else ''}")
    lines += _some([f"{bad.file}: {bad.reason}" for bad in (*result.bad, *result.narrow)])
    lines += _some(["identical files: " + ", ".join(group) for group in result.duplicates])
    lines += [f"{name} looks like {other}" for name, other in result.near_pairs]
    if more := result.near_duplicates - len(result.near_pairs):
        lines.append(f"… and {more:,} more")
    if result.near_duplicates:
        where = "one of another split" if len(result.splits) > 1 else "another"
        lines.append(
            f"{plural(result.near_duplicates, 'image')} almost like {where}; if their names or "
            "folders identify related images, `train --group-by` keeps these in one split"
        )
    lines += _some([*(f"train refuses: {line}" for line in result.obstacles), *result.warnings])
    lines.append(f"{plural(result.files, 'file')}, {result.used:,} used")
    return "\n".join(lines)


def data_problems(result: "DataCheck") -> str:
    """The problems of a data set in a few words, for an error message."""
    refusals = len(result.obstacles)
    parts = {
        plural(len(result.bad), "broken file"): result.bad,
        plural(len(result.narrow), "almost black image"): result.narrow,
        plural(result.leaks, "image") + " in two splits": result.leaks,
        plural(refusals, "reason") + " why `train` refuses it": refusals,
        plural(len(result.warnings), "warning"): result.warnings,
    }
    return ", ".join(text for text, found in parts.items() if found)


def data_plan(result: "DataPlan") -> str:
    """A learning curve with predictions, unseen groups, and classes that gain from more images."""
    curve = [
        [f"{point.images:,}", f"{point.error:.1%}", _interval(point),
         f"{100 * point.spread:.1f}" if len(point.errors) > 1 else "", "measured"]
        for point in result.curve
    ]  # fmt: skip
    predicted = [
        [f"{point.images:,}", f"{point.error:.1%}", _interval(point), "", "predicted"]
        for point in result.predictions
    ]
    head = ["images", "error", "95 % interval", "± over seeds", ""]
    lines = [
        f"{network_title(result.model, result.width)} at {result.image_size} pixels, "
        f"{result.updates:,} updates, {plural(result.seeds, 'seed')}, "
        f"{result.validation_images:,} validation images",
        *_columns([head, *curve, *predicted], left=0),
    ]
    if check := result.check:
        last = result.curve[-1]
        step = 0.5 / result.validation_images  # an error is a whole number of images
        away = max(check.low - last.error, last.error - check.high)  # distance from the interval
        inside = "inside" if away <= 0 else "half an image from" if away <= step else "outside"
        lines.append(
            f"check        predicted from the smaller subsets for {check.images:,} images: "
            f"{check.error:.1%} ({_interval(check)}); measured {last.error:.1%}, {inside} the "
            "interval"
        )
    lines += [f"note         {note}" for note in result.notes]
    if groups := result.groups:
        lines += [
            "",
            f"known groups   {percent(groups.known_top1)} of {groups.known_images:,} images",
            f"unseen groups  {percent(groups.unseen_top1)} of {groups.unseen_images:,} images: "
            f"{points(100 * groups.drop, 1)} points lower, ±{100 * groups.spread:.1f} over "
            f"{plural(groups.folds, 'fold')} of {plural(groups.groups, 'group')}",
            *_some(
                [f"  {row.name}: {percent(row.top1)} of {row.images:,}" for row in groups.by_group]
            ),
        ]
    if result.classes:
        rows = [
            [row.name, f"{row.images:,}", f"{row.error_of_half:.1%}", f"{row.error:.1%}",
             f"{round(100 * row.gain, 1) + 0.0:+.1f}"
             + (f" ±{100 * row.spread:.1f}" if result.seeds > 1 else ""),
             "gains" if row.is_gain else "may be chance"]
            for row in result.classes
        ]  # fmt: skip
        head = ["class", "images", "error with half", "with all", "points gained", ""]
        lines += ["", *_some(_columns([head, *rows]))]
    lines += ["", f"files        {result.run}/learning-curve.png, plan.json"]
    return "\n".join(lines)


def _interval(estimate: "CurvePoint | PredictedError") -> str:
    return f"{percent(estimate.low)} to {percent(estimate.high)}"


# Networks and runs


def models(rows: Sequence[Mapping[str, Any]]) -> str:
    """The networks, one per line."""
    columns = "{name:18} {branch:17} {stem:9} {shortcut:10} {image_size:>4}  {weights:8}  {source}"
    names = ("name", "branch", "stem", "shortcut", "weights", "source")
    lines = [columns.format(**{name: name for name in names}, image_size="size")]
    for row in rows:
        lines.append(columns.format(**{**row, "weights": "imagenet" if row["weights"] else ""}))
    tail = "`keras-resnet inspect NAME` counts a network's parameters and multiply-adds"
    return "\n".join([*lines, "", tail])


def recipes(table: Mapping[str, Mapping[str, Any]]) -> str:
    """The recipes with their settings."""
    lines = []
    for name, values in table.items():
        lines.append(f"{name}: {values['about']}")
        lines += [f"    {key} = {show(value)}" for key, value in values.items() if key != "about"]
    lines.append("other settings have their defaults; see `keras-resnet train --help`")
    return "\n".join(lines)


def trained(run: str, metrics: Mapping[str, Any], balance: str | None) -> str:
    """A finished run and the next step; `metrics` as in its metrics.json."""
    lines = [f"run folder   {run}"]
    chose = metrics.get("best_epoch_chosen_on")
    for split in ("val", "test"):
        if scores := metrics.get(split):
            images = [row["images"] for row in scores["per_class"].values()]
            macro = _macro_top1(scores["macro_top1"], images, balance)
            lines.append(
                f"top-1        {percent(scores['top1'], 2)}{macro} of {scores['images']:,} {split} "
                "images, "
                + ("used to choose the best epoch" if split == chose else "not used before")
            )
    lines.append(f"report       {run}/report.html")
    lines.append(f"next         keras-resnet export {shlex.quote(run)} --tflite --quantize int8")
    return "\n".join(lines)


def cross_validation(result: "CrossValidation") -> str:
    """The scores of the folds, and the labels that may be wrong."""
    rows = [[fold.run, f"{fold.images:,}", percent(fold.top1, 2)] for fold in result.folds]
    lines = _columns([["fold", "images", "top-1"], *rows])
    lines += [
        f"mean         {percent(result.mean, 2)}, standard deviation {100 * result.spread:.2f} "
        "points",
        f"all          {percent(result.top1, 2)} of {result.images:,} images, each held out once; "
        f"95 % confidence interval: {percent(result.low, 2)} to {percent(result.high, 2)}",
    ]
    if result.suspects:
        found = plural(len(result.suspects), "label")
        lines.append(f"suspects     {found} that may be wrong, the least likely first:")
        lines += _some(
            [
                f"  {row.file}: {row.label} ({percent(row.label_score)}), predicted "
                f"{row.prediction} ({percent(row.score)})"
                for row in result.suspects
            ]
        )
    elif result.can_suspect:
        lines.append("suspects     no label that may be wrong was found")
    else:
        lines.append(
            "suspects     not looked for: the networks guess, or are mostly wrong; train longer"
        )
    lines.append(f"files        {result.run}/predictions.csv, metrics.json, suspects.png")
    return "\n".join(lines)


def shipped(result: "Shipped") -> str:
    """The result of `ship`, and how to open the apps."""
    checked = result.verification
    row = next(row for row in checked.artefacts if row.file == result.model)
    assert row.top1 is not None and row.drop_points is not None and row.latency_ms  # it passed
    ms, drop = row.latency_ms, round(row.drop_points, 2)
    lines = [
        f"run folder   {result.run}",
        f"model        {result.model}, {_megabytes(row.bytes)}, {ms:{'.1f' if ms >= 1 else '.2g'}} "
        "ms per image on one thread of this machine",
        f"top-1        {percent(row.top1, 2)} of {row.images:,} validation images, "
        f"{abs(drop):.2f} points {'higher' if drop < 0 else 'lower'} than "
        "the Keras model",
        *_shipped_rejection(checked, row),
        *_float_layers(checked.candidates or ()),
        f"report       {result.run}/report.html",
    ]
    for kind, app in result.apps.items():
        lines.append(f"{kind:12} {app}")
        lines.append(f"             {', '.join(filter(None, how_to_open(app)))}")
    if result.frontier:
        lines += ["", *_frontier(result), f"plot         {result.run}/frontier.png"]
    return "\n".join(lines)


def _shipped_rejection(checked: "Verification", row: "ArtefactResult") -> Iterator[str]:
    """The shares of images that the file rejects as "none of these"."""
    if not checked.rejection or row.known_refused is None:
        return
    line = f"rejected     {percent(row.known_refused)} of the images of known classes"
    if row.unknown_refused is not None:
        line += f", {percent(row.unknown_refused)} of those of no class"
    yield f'{line}: "none of these"'


def _float_layers(candidates: "Iterable[TriedFile]") -> Iterator[str]:
    """The layers that --quantize auto kept in float, if any."""
    for candidate in candidates:
        if candidate.taken and candidate.float_layers:
            layers = candidate.float_layers
            yield (
                f"in float     {plural(len(layers), 'layer')} for which int8 loses too much: "
                f"{some_of(layers, 3)}"
            )


def _frontier(result: "Shipped") -> Iterator[str]:
    """The candidates of a search, sorted by multiply-adds."""
    yield (
        f"{'network, trained briefly':28} {'top-1':>7} {'int8 MB':>8} {'ms':>7}   per image on "
        f"{result.measured_on}"
    )
    for point in result.frontier:
        if point.top1 is None or point.bytes is None:
            yield f"{point.name:28} {point.excess}"
            continue
        word = "chosen" if point.chosen else "over budget" if point.excess else ""
        yield (
            f"{point.name:28} {percent(point.top1):>7} {point.bytes / 1e6:8.3f} "
            f"{point.latency_ms:7.2f}   {word}"
        ).rstrip()


def imported(run: "Run") -> str:
    """An imported run and the next steps."""
    quoted = shlex.quote(str(run.path))
    network = network_title(run.metrics["model"], run.config.width)
    return "\n".join(
        [
            f"run folder   {run.path}",
            f"network      {network}, {run.metrics['parameters']:,} parameters",
            f"next         keras-resnet evaluate {quoted} DATA",
            f"             keras-resnet export {quoted} --data DATA --tflite --quantize int8",
        ]
    )


def range_test(result: "RangeTest", png: str, command: str) -> str:
    """Learning rates, and the command that trains with the suggested one."""
    end = f"the loss diverged at {result.diverged:.2g}" if result.diverged else "no divergence"
    return "\n".join(
        [
            f"steepest fall  {result.steepest:.2g}",
            f"lowest loss    {result.lowest:.2g} ({end})",
            f"suggested      {result.suggestion:g}",
            f"plot           {png}",
            f"next           {command} --learning-rate {result.suggestion:g}",
        ]
    )


def survey(result: "Survey") -> str:
    """Versions, devices and number formats of a machine."""
    cpu, precision = result.cpu, result.precision
    lines = [f"Python {result.python} on {result.system}"]
    lines += [f"  {name:22} {version or 'missing'}" for name, version in result.versions.items()]
    lines.append(f"CPU: {plural(cpu.cores, 'core')}; {', '.join(cpu.flags) or 'no known features'}")
    lines.append("GPU: " + (", ".join(result.gpus) or "none that TensorFlow can use"))
    lines.append(f"--precision auto is {precision.auto}: {precision.reason}")
    lines.append("a training step of a convolution, batch norm and ReLU:")
    width = max(map(len, precision.step_time_over_float32), default=0)
    for name, ratio in precision.step_time_over_float32.items():
        time = ratio if isinstance(ratio, str) else f"{ratio} × the time of float32"
        lines.append(f"  {name:{width}}  {time}")
    lines.append(
        f"--xla: {'yes' if result.xla else 'no; on a CPU it is faster for tiny networks only'}"
    )
    lines.append(f"steps per call: {result.steps_per_execution}")
    for name, package in result.missing.items():
        lines.append(f"missing: {name} ({package.adds}); {package.install}")
    return "\n".join(lines)


# Artefacts


def evaluation(result: "ArtefactScores") -> str:
    """Scores by class, of many classes the weakest, and of all images."""
    scores = list(zip(_names(result.per_class), result.per_class.values(), strict=True))
    more = len(scores) - _MOST_LINES
    if more > 0:
        scores.sort(key=lambda pair: math.inf if pair[1].top1 is None else pair[1].top1)
    rows = [
        (name, f"{row.images:,}", percent(row.top1), percent(row.precision), percent(row.f1))
        for name, row in scores[:_MOST_LINES]
    ]
    lines = _columns([("class", "images", "top-1", "precision", "F1"), *rows])
    if more > 0:
        lines.append(f"… and {more:,} more; these are the weakest (--json lists all)")
    lines += _some(
        [
            f"suspect label: {row.file} is labelled {row.label} ({percent(row.label_score)}), "
            f"predicted {row.prediction} ({percent(row.score)})"
            for row in result.suspects
        ]
    )
    images = [row.images for row in result.per_class.values()]
    macro = _macro_top1(result.macro_top1, images, result.balance)
    top5 = "" if result.top5 is None else f"  top-5 {percent(result.top5, 2)}"
    lines.append(
        f"{result.artefact}: top-1 {percent(result.top1, 2)}{macro}{top5}  "
        f"macro F1 {percent(result.macro_f1, 2)}  loss {result.loss:.4f}  "
        f"on {plural(result.images, 'image')}"
    )
    if result.rejected is not None:
        lines.append(f"none of these: {plural(result.rejected, 'image')} of {result.images:,}")
    return "\n".join(lines)


def comparison(result: "Comparison") -> str:
    """Runs side by side, and whether their predictions differ significantly."""
    runs = result.runs
    names = short_labels([one_line(run.run) for run in runs], _RUN)
    rows: list[Sequence[Any]] = [("", *names)]
    rows += [
        ("network", *(network_title(run.model, run.width) for run in runs)),
        ("top-1, val", *(f"{percent(run.top1, 2)} of {run.images:,}" for run in runs)),
        ("macro F1, val", *(percent(run.macro_f1, 2) for run in runs)),
        ("loss, val", *(f"{run.loss:.4f}" for run in runs)),
    ]
    if any(run.test_top1 is not None for run in runs):
        rows.append(("top-1, test", *(percent(run.test_top1, 2) for run in runs)))
    rows += [
        ("parameters", *(f"{run.parameters:,}" for run in runs)),
        ("model.keras", *(_megabytes(run.bytes) for run in runs)),
        ("best epoch", *(str(run.best_epoch) for run in runs)),
        ("training", *(f"{run.seconds:,.0f} s" for run in runs)),
    ]
    for name in dict.fromkeys(name for run in runs for name in run.files):
        rows.append((name, *(_exported(run.files.get(name)) for run in runs)))
    settings = [(name, *map(_setting, values)) for name, values in result.settings.items()]
    if settings:
        rows += [[""] * (1 + len(runs)), ("settings that differ", *names), *settings]
    lines = _columns(rows)
    if not settings:
        lines += ["", "no settings differ"]
    recalls = [[percent(share, 2) for share in row] for row in result.per_class.values()]
    classes = zip(_names(result.per_class), recalls, strict=True)
    table = [("recall, val", *names), *((name, *row) for name, row in classes)]
    head, *shown = _columns(table)
    return "\n".join([*lines, "", head, *_some(shown), "", *map(_answers, result.pairs)])


def _exported(file: "ComparedFile | None") -> str:
    if file is None:
        return "–"
    latency = "" if file.latency_ms is None else f", {file.latency_ms:.2f} ms"
    return f"{_megabytes(file.bytes)}{latency}" + ("" if file.passed else ", FAILED")


def _setting(value: Any) -> str:
    return "–" if value in (None, ()) else show(value)


def _answers(pair: "Pair") -> str:
    """The result of the exact McNemar test in words."""
    if pair.p_value is None:
        return f"{pair.first} and {pair.second} have no images that neither was trained on"
    verdict = "more than chance explains" if pair.p_value < 0.05 else "which may be chance"
    return (
        f"{plural(pair.images, 'image')} that neither was trained on: {pair.both_right:,} right in "
        f"both, {pair.first_only:,} only in {pair.first}, {pair.second_only:,} only in "
        f"{pair.second}; p = {pair.p_value:.2g} (exact McNemar test), {verdict} (5 % level)"
    )


def predictions(rows: Sequence["Prediction"]) -> str:
    """The predictions, one image per line."""
    width = min(max(width_of(one_line(row.image)) for row in rows), 60)
    return "\n".join(
        f"{_padded(one_line(row.image), width)}  "
        + (
            "none of these"
            if row.rejected
            else "  ".join(f"{guess.label} {percent(guess.score)}" for guess in row.predictions)
        )
        for row in rows
    )


def predictions_csv(rows: Sequence["Prediction"]) -> str:
    """The predictions as CSV; for an artefact with a threshold, with a column `rejected`."""
    from keras_resnet.files import csv_text

    has_threshold = any(row.rejected is not None for row in rows)
    cells: list[Sequence[Any]] = [
        ("image", "rank", "label", "score", *["rejected"] * has_threshold)
    ]
    for row in rows:
        rejected = [str(bool(row.rejected)).lower()] * has_threshold
        for rank, guess in enumerate(row.predictions, 1):
            cells.append((row.image, rank, guess.label, f"{guess.score:.6f}", *rejected))
    return csv_text(cells).rstrip("\n")


def verification(result: "Verification") -> str:
    """The result of the gate, one line per file."""
    head = ("file", "top-1", "drop", "at 95 %", "agree", "max diff", "rms", "size", "latency")
    reference = ("model.keras (reference)", percent(result.keras.top1, 2), *[""] * 7)
    table = _columns([head, reference, *map(_artefact, result.artefacts)])
    gates = ["gate", "", *map(_gate, result.artefacts)]
    width = max(map(len, table))
    lines = [
        *(f"{row:{width}}  {gate}".rstrip() for row, gate in zip(table, gates, strict=True)),
        *_refused(result),
        *_taught(result),
        *_hashes(result),
        f"{plural(result.images, 'validation image')}; allowed drop in top-1: "
        f"{plural(result.max_drop, 'point')}; latency of one image, LiteRT and ONNX Runtime on one "
        "thread",
        *_files(result.files),
        *filter(None, [result.evidence]),
    ]
    if result.rejection:
        lines.append(f"none of these: {result.rejection}")
    if result.probabilities:
        lines.append(f"probabilities: {result.probabilities}")
    lines += map(str, result.candidates or ())
    if result.quantization:
        lines += ["", quantization(result.quantization)]
    return "\n".join(lines)


def _artefact(row: "ArtefactResult") -> tuple[str, ...]:
    if row.latency_ms is None:  # it did not run
        return (row.file, *[""] * 8)
    scores = [""] * 4  # a file without classes has no scores
    if row.drop_interval:
        likely = " to ".join(points(end, 1) for end in row.drop_interval)
        scores = [percent(row.top1, 2), points(row.drop_points), likely, percent(row.agreement, 2)]
    return (
        row.file, *scores, f"{row.max_logit_diff:.2g}", f"{row.rms_error:.1%}",
        _megabytes(row.bytes), f"{row.latency_ms:.2f} ms",
    )  # fmt: skip


def _gate(row: "ArtefactResult") -> str:
    return "passed" if row.passed else f"FAILED: {row.why}"


def _refused(result: "Verification") -> list[str]:
    """A table of the images that each file rejects as "none of these"."""
    if not result.rejection:
        return []
    rows = [("none of these", "known classes", "no class"), *result.refused]
    has_unknown = result.keras.unknown_refused is not None
    return _columns([row if has_unknown else row[:2] for row in rows])


def _hashes(result: "Verification") -> list[str]:
    """Hashes of the int8 files' outputs, equal on all machines with the same kernels."""
    words = {
        True: "same as at export",
        False: "different from the export: LiteRT uses other kernels here",
    }
    return [
        f"{row.file}: outputs for the golden set have sha256 {row.answers_sha256[:16]}…, "
        f"{words[bool(row.answers_repeat)]}"
        for row in result.artefacts
        if row.answers_sha256
    ]


def _taught(result: "Verification") -> list[str]:
    """The accuracy of trainable files for a new class, and its drop for the known classes."""
    return [
        f"{row.file}: learned a new class from 20 images; recognizes {row.new_class_top1:.0%} of "
        f"20 others; the known classes lose {plural(row.known_drop_points, 'point')}"
        for row in result.artefacts
        if row.new_class_top1 is not None and row.known_drop_points is not None
    ]


def _files(rows: Sequence["FileResult"]) -> list[str]:
    """The other files of an export: those that failed, and the number of the others; [] if the
    export failed before writing them."""
    if not rows:
        return []
    failed = [f"{row.file}  FAILED: {row.why}" for row in rows if not row.passed]
    passed = plural(len(rows) - len(failed), "other file")
    return [*failed, f"{passed} verified: labels, preprocessing etc."]


def quantization(result: "Quantization") -> str:
    """The int8 error by layer and by block."""
    width = max(len(row.layer) for row in result.layers)
    lines = [f"{'layer':{width}}  {'operator':16} {'error':>7}  steps"]
    lines += [
        f"{row.layer:{width}}  {row.op:16} {row.lost:7.2%}  {row.steps:5.2f}"
        for row in result.layers
    ]
    has_blocks = len(result.blocks) > 2  # more than stem and head, as in networks of this package
    if has_blocks:
        lines += ["", f"{'block':{width}}  {'branch':>8} {'shortcut':>8} {'sum':>8}"]
    for block in result.blocks if has_blocks else ():
        parts = (block.branch, block.shortcut, block.sum)
        shares = " ".join(f"{'' if lost is None else f'{lost:.2%}':>8}" for lost in parts)
        lines.append(f"{block.block:{width}}  {shares}".rstrip())
    lines.append(
        "error: RMS of the int8 error relative to that of the signal, mean over channels; of a "
        "block, that of its worst layer; steps: the same error in quantization steps (0.29: only "
        f"rounding); {filenames.EXPLANATION} in the export folder plots it"
    )
    return "\n".join(lines)


def benchmark(result: "Benchmark") -> str:
    """Artefacts side by side."""
    width = max(len(row.artefact) for row in result.artefacts)
    lines = [
        f"{'artefact':{width}} {'p50':>9} {'p95':>9} {'÷ first (min…max)':>22} "
        f"{'images/s':>9} {'memory':>8} {'load':>8} {'size':>9}"
    ]
    for row in result.artefacts:
        lines.append(
            f"{row.artefact:{width}} {row.p50_ms:6.2f} ms {row.p95_ms:6.2f} ms "
            f"{_spread(row.ratio):>22} {row.images_per_second:9,.0f} "
            f"{row.memory_bytes / 1e6:5.0f} MB {row.load_ms:5.0f} ms {row.bytes / 1e6:6.2f} MB"
        )
    machine = result.machine
    versions = {k: v for row in result.artefacts for k, v in row.versions.items()}
    lines += [
        f"{plural(result.threads, 'thread')}; {plural(result.runs, 'run')} of one image each, "
        f"in {plural(result.rounds, 'round')}, interleaved; images/s in batches of "
        f"{result.batch_size}, .tflite one by one",
        f"{machine['cpu']}, {plural(machine['cores'], 'core')}, "
        f"{' '.join(machine['flags']) or 'no flags'}; "
        + ", ".join(f"{name} {version}" for name, version in versions.items()),
        f"noise, the first against itself: {_spread(result.noise)}"
        + ("" if result.steady else "; the machine is busy: do not trust these ratios"),
    ]
    return "\n".join(lines)


def phone_benchmark(result: "PhoneBenchmark") -> str:
    """Files on a device."""
    width = max(len(row.artefact) for row in result.artefacts)
    lines = [f"{'artefact':{width}} {'average':>10} {'load':>10} {'memory':>8}"]
    for row in result.artefacts:
        memory = "" if row.memory_bytes is None else f"{row.memory_bytes / 1e6:.0f} MB"
        lines.append(
            f"{row.artefact:{width}} {row.average_ms:7.2f} ms {row.load_ms:7.2f} ms {memory:>8}"
        )
    threads, runs = plural(result.threads, "thread"), plural(result.runs, "run")
    lines.append(f"{result.device}, CPU, {threads}, {runs}")
    return "\n".join(lines)


# Structure of networks and files


def description(result: "Description") -> str:
    """The layers of a network, then its stages, then the totals."""
    heads = ("layer", "kind", "output", "parameters", "multiply-adds", "activations", "field")
    layers = [_cells(row, row.kind) for row in result.layers]
    stages = [
        _cells(row, plural(row.blocks, "block") if row.blocks else "") for row in result.stages
    ]
    head, *rows = _columns([heads, *layers, *stages], left=3)
    ruler = "-" * max(map(len, (head, *rows)))
    memory = result.memory
    return "\n".join(
        [
            head,
            ruler,
            *rows[: len(layers)],
            ruler,
            *([*rows[len(layers) :], ruler] if stages else []),
            f"{result.name}: {result.parameters:,} parameters, "
            f"{result.trainable_parameters:,} of them trainable",
            f"{_number(result.multiply_adds)} multiply-adds ({_number(result.flops, 'FLOPs')}), "
            f"{_number(result.activations)} activations",
            f"memory: {_megabytes(memory.weights)} of weights; for one image "
            f"{_megabytes(memory.activations_peak)} of activations at once, "
            f"{_megabytes(memory.activations_training)} kept in training",
        ]
    )


def _cells(row: "Layer | Stage", kind: str) -> tuple[str, ...]:
    return (
        row.name,
        kind,
        _sides(row.output_shape),
        f"{row.parameters:,}" if row.parameters else "",
        "" if row.multiply_adds == 0 else _number(row.multiply_adds),
        "" if row.activations == 0 else _number(row.activations),
        "all" if row.receptive_field is None else str(row.receptive_field),
    )


def census(result: "Census", contract: Mapping[str, Any] | None) -> str:
    """The content of a model file; `contract` is its TFLite metadata."""
    lines = _contract(contract) if contract else []
    lines += [f"{op:24} {count:>6}" for op, count in result.ops.items()]
    for end, tensors in (("input", result.inputs), ("output", result.outputs)):
        for tensor in tensors:
            scale = ""
            if tensor.scale is not None:
                scale = f"  scale {tensor.scale:g}, zero point {tensor.zero_point}"
            lines.append(f"{end:7} {tensor.name}: {_sides(tensor.shape)} {tensor.dtype}{scale}")
    for key, ends in result.signatures.items():
        lines.append(f"signature {key}: {', '.join(ends.inputs)} → {', '.join(ends.outputs)}")
    if result.metadata:
        lines.append(f"metadata {', '.join(result.metadata)}")
    lines.append(
        f"{result.file}: {plural(result.operators, 'operator')}, {result.parameters:,} parameters, "
        f"{result.multiply_adds:,} multiply-adds, {result.bytes:,} bytes"
    )
    return "\n".join(lines)


def _contract(metadata: Mapping[str, Any]) -> list[str]:
    """The metadata of a `.tflite` file; another tool may have left any of them out."""
    graph, *_ = metadata.get("subgraph_metadata") or [{}]
    version, files = metadata.get("version"), ", ".join(metadata["files"])
    lines = [
        metadata.get("description"),
        version and f"version {version}",
        metadata.get("license"),
    ]
    for end in ("input_tensor_metadata", "output_tensor_metadata"):
        for tensor in graph.get(end, [])[:1]:
            lines.append(": ".join(filter(None, map(tensor.get, ("name", "description")))))
    return [*filter(None, lines), *([f"inside the file: {files}"] if files else [])]


# Explanations


def gradients(
    result: "Gradients",
    parameters: Sequence["ParameterGradient"] = (),
    depths: Sequence["DepthGradients"] = (),
) -> str:
    """The gradient at each block and parameter, and that of the first layer by depth."""
    rows: list[Sequence[Any]] = [
        ("block", "shortcut", "dJ/dH", "identity", "branch", "total", "ratio", "cosine", "error")
    ]
    rows += [
        (
            row.name, row.kind, row.sum_norm, row.identity_norm, row.branch_norm, row.total_norm,
            row.ratio, row.cosine, row.relative_error,
        )
        for row in result.blocks
    ]  # fmt: skip
    lines = _columns(rows)
    if parameters:
        rows = [("parameter", "next sum", "by identity", "by branch", "both", "error")]
        rows += [
            (
                _in_notation(row.parameter), row.through, row.identity_norm, row.branch_norm,
                row.total_norm, row.relative_error,
            )
            for row in parameters
        ]  # fmt: skip
        lines += ["", "gradient of each parameter, by path", *_columns(rows)]
    if depths:
        lines += ["", f"first layer's gradient: {'depth':>6}  {'norm (min…max)':>26}"]
        for network in depths:
            norms = network.gradient_norms
            spread = f"{sum(norms) / len(norms):.3g} ({min(norms):.3g}…{max(norms):.3g})"
            lines.append(f"{network.kind:26} {network.depth:>3}  {spread:>26}")
    first = result.first_layer
    lines.append(
        f"{result.name}: loss {result.loss:.3f} on {plural(result.images, 'image')}, "
        f"gradient norm of {first.name} {first.gradient_norm:.3g}"
    )
    if result.relative_error is not None:
        lines.append(
            "identity + branch = total at each block; largest relative difference "
            f"{result.relative_error:.2g}"
        )
        if not any(row.branch_norm for row in result.blocks):
            lines.append(
                "every branch is 0: in a new network the last layer of each (its batch norm) "
                "starts at 0; --no-zero-gamma changes that"
            )
    return "\n".join(lines)


def _in_notation(path: str) -> str:
    """`block1_2_dense/kernel` as "W2 of block1", as in Z = W2 relu(W1 A + B1) + B2."""
    layer, _, kind = path.rpartition("/")
    place, _, number = layer.removesuffix("_dense").rpartition("_")
    letter = "W" if kind == "kernel" else "B"
    return f"{letter}{number} of {place}" if place else f"{letter} of {number}"


def lesions(result: "Lesions") -> str:
    """The accuracy of a network without some of its blocks."""
    rows: list[tuple[str, ...]] = [("without", "top-1", "drop, points")]
    rows += [
        (row.name, percent(row.top1, 2), points(100 * (result.top1 - row.top1)))
        for row in result.blocks
    ]
    lines = _columns(rows)
    rows = [("removed", "last blocks", "random: mean", "min…max")]
    for last, several in zip(result.last, result.random, strict=True):
        tries = several.top1
        mean, spread = sum(tries) / len(tries), f"{percent(min(tries))}…{percent(max(tries))}"
        rows.append((str(last.removed), percent(last.top1), percent(mean), spread))
    end = (
        f"{result.run}: {result.model}, top-1 {percent(result.top1, 2)} of "
        f"{plural(result.images, 'image')} with all blocks; chance {percent(result.chance)}"
    )
    return "\n".join([*lines, "", *_columns(rows), end])


def paths(result: "Paths") -> str:
    """The paths through a network by length."""
    rows = [("branches", "paths", "gradient per path", "share of gradient")]
    rows += [
        (
            str(row.length),
            f"{row.share_of_paths:.2%}",
            f"{row.gradient_norm:.2e}",
            f"{row.share_of_gradient:.2%}",
        )
        for row in result.lengths
    ]
    end = (
        f"{result.name}: of {plural(result.blocks, 'block')}, paths of "
        f"{result.effective.shortest} to {result.effective.longest} branches carry the middle "
        "95 % of the gradient"
    )
    return "\n".join([*_columns(rows), end])


def depths(result: "Depths") -> str:
    """Networks of increasing depth."""
    rows = [("network", "training error", "loss", "validation error", "parameters", "seconds")]
    rows += [
        (
            f"{row.kind}{row.depth}",
            f"{row.training_error:.2%}",
            f"{row.training_loss:.3f}",
            f"{row.validation_error:.2%}",
            f"{row.parameters:,}",
            f"{row.seconds:.0f}",
        )
        for row in result.rows
    ]
    epochs = plural(result.epochs, "epoch")
    end = f"{result.data}: recipe {result.recipe}, {epochs}, seed {result.seed}"
    return "\n".join([*_columns(rows), end])


def cams(rows: Sequence["Cam"]) -> str:
    """The explained class of each image."""
    return "\n".join(f"{row.image}  {row.label} {percent(row.score)}" for row in rows)


# Parts of tables


def _columns(rows: Sequence[Sequence[Any]], left: int = 1) -> list[str]:
    """Lines of aligned columns, of which the first `left` are left-aligned; None is blank."""
    rows = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(width_of, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            _padded(cell, width) if place < left else " " * (width - width_of(cell)) + cell
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return one_line(value) if isinstance(value, str) else f"{value:.3g}"


def _padded(text: str, width: int) -> str:
    return text + " " * (width - width_of(text))


def _names(classes: Iterable[str]) -> list[str]:
    """Class names as distinct cells of a table."""
    return short_labels([one_line(name) for name in classes], _NAME)


def _some(lines: Sequence[str]) -> list[str]:
    more = len(lines) - _MOST_LINES
    return [*lines[:_MOST_LINES], *([f"… and {more:,} more (--json lists them)"] * (more > 0))]


def _macro_top1(macro_top1: float, images: Iterable[int], balance: str | None) -> str:
    """The macro top-1 as text, if the classes are imbalanced; else ""."""
    from keras_resnet.evaluation.metrics import is_imbalanced

    if balance in (None, "none") and not is_imbalanced(images):
        return ""
    return f"  macro top-1 {percent(macro_top1, 2)}"


def _spread(spread: "Spread") -> str:
    return f"{spread.median:.2f} ({spread.min:.2f}…{spread.max:.2f})"


def _sides(shape: Iterable[int | None]) -> str:
    """[56, 56, 64] as "56x56x64"; None is a question mark."""
    return "x".join("?" if side is None else str(side) for side in shape)


def _number(count: int | None, unit: str = "") -> str:
    """4089184256 as "4.089 G", with a unit as "4.089 GFLOPs"."""
    if count is None:
        return "?"
    for prefix, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3f} {prefix}{unit}"
    return f"{count} {unit}".strip()


def _megabytes(size: int | None) -> str:
    return "?" if size is None else f"{size / 1e6:.2f} MB"
