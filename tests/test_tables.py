"""The tables on the terminal: aligned, with distinct names and exact numbers."""

from types import SimpleNamespace

import pytest

from keras_resnet.cli import tables
from keras_resnet.data.check import DataCheck
from keras_resnet.evaluation.metrics import ClassScores
from keras_resnet.exporting.verification import ArtefactResult, KerasResult, Verification
from keras_resnet.report.text import width_of

LONG = [f"Tomato_Late_blight_on_the_leaf_of_a_plant_{side}_side" for side in ("upper", "lower")]


def evaluation(classes, **values):
    per_class = {
        name: ClassScores(images=10, top1=top1, precision=top1, recall=top1, f1=top1)
        for name, top1 in classes.items()
    }
    scores = {"macro_top1": 0.5, "macro_f1": 0.5, "top1": 0.5, "top5": None, "loss": 0.1}
    about = {"artefact": "runs/a", "balance": None, "suspects": [], "images": 10, "rejected": None}
    return SimpleNamespace(per_class=per_class, **{**scores, **about, **values})


def data_check(classes):
    counts = dict.fromkeys(("files", "used", "leaks", "near_duplicates"), 3)
    empty = {name: [] for name in ("bad", "narrow", "duplicates", "near_pairs", "obstacles")}
    return DataCheck(
        data="d", passed=True, skipped={}, skipped_examples={}, classes=classes, warnings=[],
        splits={"train": 2, "val": 1}, **counts, **empty,
    )  # fmt: skip


def starts(lines, text):
    """The terminal columns in which `text` ends."""
    return {width_of(line[: line.index(text)]) for line in lines}


@pytest.mark.parametrize(
    "names",
    [LONG, ["狗", "cat"], ["a\tb", "a\nb"], ["हिन्दी", "e\u0301te"], ["\x1b[1m", "a"]],
    ids=ascii,
)
def test_rows_of_classes_are_distinct_and_aligned(names):
    scores = tables.evaluation(evaluation(dict.fromkeys(names, 0.25))).splitlines()
    counts = tables.data_check(data_check(dict.fromkeys(names, 123456))).splitlines()
    for rows, number in ((scores[1:3], "25.0%"), (counts[1:3], "123,456")):
        assert len(set(rows)) == 2 and len(starts(rows, number)) == 1
        assert all(not {"\t", "\x1b"} & set(row) for row in rows)
    assert counts[3].startswith("split train")


def test_of_many_classes_the_weakest_are_shown():
    few = {f"c{i}": 1 - i / 1000 for i in range(20)}
    shown = tables.evaluation(evaluation(few)).splitlines()
    assert shown[1].startswith("c0") and len(shown) == 22
    shown = tables.evaluation(evaluation({"none": None, **few, "worst": 0.1})).splitlines()
    assert shown[1].startswith("worst") and shown[2].startswith("c19") and len(shown) == 23
    assert shown[-2] == "… and 2 more; these are the weakest (--json lists all)"


def test_almost_all_images_are_not_100_percent():
    shown = tables.evaluation(evaluation({"a": 0.99999}, top1=0.99999, top5=1.0, macro_f1=0.99999))
    assert "100.0%" not in shown and "top-1 99.99%  top-5 100.00%  macro F1 99.99%" in shown


def test_the_files_of_an_export_are_aligned_whatever_their_numbers():
    others = {"bytes": 1, "sha256": "", "images": 9, "slope": None, "known_refused": None,
               "unknown_refused": None, "new_class_top1": None, "known_drop_points": None,
               "ops": None, "answers_sha256": None, "answers_repeat": None}  # fmt: skip
    scores = {"top1": 0.99999, "drop_points": -0.002, "drop_interval": [-25.0, 25.5],
              "agreement": 1.0, "max_logit_diff": 0.5, "rms_error": 0.01}  # fmt: skip
    rows = [
        ArtefactResult(file="a", latency_ms=1234.5, passed=True, why="", **scores, **others),
        ArtefactResult(file="features", latency_ms=1.0, passed=True, why="",
                       **scores | dict.fromkeys(("top1", "drop_interval", "agreement")), **others),
        ArtefactResult(file="b", latency_ms=None, passed=False, why="passed away",
                       **dict.fromkeys(scores), **others),
    ]  # fmt: skip
    result = Verification(passed=False, images=9, max_drop=1.0, artefacts=rows, files=[],
                          keras=KerasResult(1.0, None, None))  # fmt: skip
    head, _, one, features, failed, *_ = tables.verification(result).splitlines()
    numbers = "99.99%  0.00  -25.0 to 25.5  100.00%       0.5  1.0%  0.00 MB  1234.50 ms  passed"
    assert one.endswith(numbers)
    (gate,) = starts([one, features], "passed")
    assert head.index("gate") == failed.index("FAILED: passed away") == gate
