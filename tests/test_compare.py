"""Runs are compared by their settings, scores, files and answers for the same images."""

import csv
import json
import re
import shutil
from dataclasses import replace

import pytest
from scipy.stats import binomtest

from keras_resnet import compare, open_run
from keras_resnet.cli import tables
from keras_resnet.errors import InputError
from keras_resnet.evaluation.compare import mcnemar
from keras_resnet.report import compare_page


@pytest.fixture
def two(untouched, tmp_path, accept):
    """Two copies of a run; the second has other settings, and mistakes three of the images."""
    first = shutil.copytree(untouched, tmp_path / "first")
    second = shutil.copytree(untouched, tmp_path / "second")
    accept(second, "config.json", "predictions.csv")
    config = json.loads((second / "config.json").read_text())
    (second / "config.json").write_text(json.dumps({**config, "seed": 99}))
    with open(second / "predictions.csv", newline="") as file:
        rows = list(csv.reader(file))
    for row in rows[1:4]:
        row[2] = "dark" if row[1] != "dark" else "bright"
    with open(second / "predictions.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return open_run(first), open_run(second)


def test_runs_differ_in_settings_and_answers(two):
    first, second = two
    result = compare(first, second.path)
    assert result.settings == {"seed": [3, 99]}
    assert [run.run for run in result.runs] == [str(first.path), str(second.path)]
    assert list(result.per_class) == ["bright", "dark", "striped"]
    (pair,) = result.pairs
    assert (pair.images, pair.both_right, pair.first_only, pair.second_only) == (12, 9, 3, 0)
    assert pair.p_value == 0.25
    text = tables.comparison(result)
    assert "seed" in text and "9 right in both, 3 only in" in text
    assert "p = 0.25 (exact McNemar test), which may be chance" in text
    assert json.loads(json.dumps(result.as_json()))["pairs"][0]["p_value"] == 0.25


def test_images_are_the_same_in_another_folder_and_the_class_that_differs_most_is_first(
    two, accept, tmp_path
):
    first, second = two
    accept(second.path, "config.json", "metrics.json")
    for name, change in (
        ("config.json", lambda content: content.update(data=str(tmp_path / "moved"))),
        ("metrics.json", lambda content: content["val"]["per_class"]["dark"].update(top1=0.25)),
    ):
        content = json.loads(second.file(name).read_text())
        change(content)
        second.file(name).write_text(json.dumps(content))
    result = compare(first, second.path)
    assert [pair.images for pair in result.pairs] == [12]
    assert list(result.per_class) == ["dark", "bright", "striped"]


def test_exported_files_are_compared_by_size_and_latency(exported, two):
    run, gate = exported
    result = compare(two[0], run)
    assert result.runs[0].files == {} and list(result.runs[1].files) == [
        row.file for row in gate.artefacts
    ]
    assert "model_int8.tflite" in tables.comparison(result)


@pytest.mark.parametrize(
    ("first", "second"), [(0, 0), (1, 0), (3, 9), (10, 10), (7, 30), (900, 1000), (3000, 2900)]
)
def test_the_p_value_is_that_of_the_exact_binomial_test(first, second):
    n = first + second
    expected = binomtest(first, n).pvalue if n else 1.0
    assert mcnemar(first, second) == pytest.approx(expected)


def test_mcnemar_of_many_images_is_the_binomial_test():
    expected = binomtest(10_000, 20_300, 0.5).pvalue
    assert mcnemar(10_000, 10_300) == pytest.approx(expected)


def test_runs_that_cannot_be_compared_are_one_line(two):
    first, second = two
    with pytest.raises(InputError, match="compare takes two or more runs"):
        compare(first)
    with pytest.raises(InputError, match="given twice"):
        compare(first, second, first.path)
    second.file("predictions.csv").unlink()
    with pytest.raises(InputError, match=r"predictions\.csv is missing; restore it"):
        compare(first, second)


def test_changed_predictions_are_refused(two):
    first, second = two
    path = first.file("predictions.csv")
    path.write_text(path.read_text().replace("dark", "bright"))
    with pytest.raises(InputError, match=r"predictions\.csv is damaged or was changed"):
        compare(second, first)


def test_a_page_shows_runs_side_by_side(two, tmp_path, command):
    first, second = two
    done = command("compare", first.path, second.path, "--html", tmp_path / "a.html", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["html"] == str(tmp_path / "a.html")
    html = (tmp_path / "a.html").read_text()
    assert html.count("<svg") == 4  # accuracy and confusion matrix of each
    assert "seed" in html and "p = 0.25" in html and "://" not in html


def test_parts_without_content_are_left_out(two, tmp_path, monkeypatch):
    content = compare(*two).as_json()
    compare_page.write(tmp_path / "a.html", content)
    html = (tmp_path / "a.html").read_text()
    assert "<h2>Confusion matrices</h2>" in html and "<p>None.</p>" not in html
    monkeypatch.setattr(compare_page.page, "plots_of", lambda _: {})
    compare_page.write(tmp_path / "a.html", {**content, "settings": {}})
    html = (tmp_path / "a.html").read_text()
    assert "<h2>Confusion matrices</h2>" not in html and "<h2>Learning</h2>" not in html
    assert re.search(r"<h2>Settings that differ</h2>\s*<p>None\.</p>\s*</section>", html)


def test_the_table_has_short_names_of_runs_and_no_empty_parts(two):
    result = compare(*two)
    runs = [
        replace(run, run=f"/a/very/long/path/of/folders/to/{run.run[-6:]}") for run in result.runs
    ]
    equal = replace(result, runs=runs, settings={})
    lines = tables.comparison(equal).splitlines()
    assert "no settings differ" in lines and not any("settings that" in line for line in lines)
    head, network, *_ = lines
    assert len(head) == len(network) <= 80 and head.count("…") == 2
    assert len(set(head.split())) == 2


def test_names_in_the_page_are_escaped(two, tmp_path):
    content = compare(*two).as_json()
    content["per_class"] = {"<script>": [0.5, None]}
    compare_page.write(tmp_path / "a.html", content)
    html = (tmp_path / "a.html").read_text()
    assert "<bdi>&lt;script&gt;</bdi>" in html and "<script" not in html
