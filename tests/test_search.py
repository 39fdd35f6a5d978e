"""`ship --max-mb --max-ms`: a budget in, a network out."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from keras_resnet import build, shipping
from keras_resnet.cli import tables
from keras_resnet.errors import CheckFailed, InputError, NetworkFailed
from keras_resnet.inspection.network import describe
from keras_resnet.report import frontier_plot
from keras_resnet.studies import search
from keras_resnet.studies.search import Budget, Candidate


def tried(name, top1, size, ms, *, cost=1, images=400, excess=None):
    return Candidate(name, 1.0, 32, cost, cost, "runs/" + name, 3, images, top1, size, ms, excess)


SMALL = tried("small", 0.90, 20_000, 0.1, cost=1)
MIDDLE = tried("middle", 0.97, 80_000, 0.4, cost=2)
LARGE = tried("large", 0.975, 300_000, 1.5, cost=3)
HUGE = tried("huge", 0.99, 900_000, 5.0, cost=4, excess="5 ms")


def test_the_winner_is_the_fastest_within_a_standard_error_of_the_best_in_the_budget():
    """One of 97.5 % on 400 images is 0.8 points."""
    points = [SMALL, MIDDLE, LARGE, HUGE]
    assert search.best(points) is MIDDLE
    assert search.best([SMALL, replace(MIDDLE, top1=0.96), LARGE, HUGE]) is LARGE
    assert search.best([SMALL, HUGE]) is SMALL
    assert search.best([HUGE]) is None
    perfect = [replace(point, top1=1.0) for point in (SMALL, MIDDLE)]
    assert search.best(perfect) is perfect[0]


def test_the_teacher_is_the_largest_that_is_no_worse():
    points = [SMALL, MIDDLE, LARGE, HUGE]
    assert search.teacher_of(MIDDLE, points) is HUGE
    assert search.teacher_of(MIDDLE, [SMALL, MIDDLE, replace(LARGE, top1=0.96)]) is None
    assert search.teacher_of(HUGE, points) is None


@pytest.mark.parametrize(
    ("budget", "size", "ms", "excess"),
    [
        (Budget(max_mb=0.2), 200_000, 9.0, None),
        (Budget(max_mb=0.2), 200_001, 9.0, "0.2 MB"),
        (Budget(max_ms=5), 10**9, 5.0, None),
        (Budget(max_ms=5), 10**9, 5.01, "5.01 ms"),
    ],
)
def test_a_budget_is_met_or_what_is_too_much_is_named(budget, size, ms, excess):
    assert budget.excess(size, ms) == excess


def test_threads_and_phone_are_for_a_time_limit():
    with pytest.raises(InputError, match="--threads is for --max-ms"):
        Budget(max_mb=1.0, threads=2).require()
    with pytest.raises(InputError, match="--android is for --max-ms"):
        Budget(android=True).require()


def test_the_weights_of_a_file_have_their_network(untouched):
    options = {"weights": str(untouched / "model.keras"), "image_size": "24"}
    assert [c.name for c in search.candidates(40, 3, options)] == ["resnet8 at 24"]


def test_the_weights_of_a_run_have_its_network_and_width(untouched, tmp_path):
    content = json.loads((untouched / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**content, "width": 0.5}))
    options = {"weights": str(tmp_path), "image_size": "24"}
    assert [c.name for c in search.candidates(40, 3, options)] == ["resnet8 ×0.5 at 24"]
    assert search.candidates(40, 3, {**options, "weights": tmp_path})[0].width == 0.5
    # Of another width than that of the weights, training tells.
    assert [c.width for c in search.candidates(40, 3, {**options, "width": 0.25})] == [0.25]


@pytest.mark.parametrize("options", [{"width": 0.75}, {"weights": "imagenet"}])
def test_settings_that_no_network_of_the_search_has_are_one_line(options, tries, photos, tmp_path):
    ((name, value),) = options.items()
    line = (
        f"no network can be tried with --{name} {value}, where images have 40 pixels; give --model"
    )
    with pytest.raises(InputError, match=line):
        search.choose(str(photos), tmp_path, Budget(max_ms=1.0), options, tmp_path / "run")
    assert not tries


@pytest.mark.parametrize(
    "limits", [{"max_mb": 0.0}, {"max_ms": -1.0}, {"max_ms": float("nan")}, {"max_mb": "3"}]
)
def test_an_impossible_limit_is_one_line(limits):
    with pytest.raises(InputError, match="expected a number above 0"):
        Budget(**limits).require()


def test_candidates_are_counted_as_they_are_built_and_come_in_the_order_of_their_cost():
    found = list(search.candidates(70, 10, {}))
    costs = [candidate.multiply_adds for candidate in found]
    assert costs == sorted(costs) and len(found) == len({c.name for c in found}) > 12
    assert {c.image_size for c in found} == {32, 48, 64}
    one = next(c for c in found if (c.model, c.width, c.image_size) == ("resnet20", 0.5, 48))
    model = build("resnet20", 10, (48, 48, 3), width=0.5)
    assert one.parameters == model.count_params()
    assert one.multiply_adds == describe(model).multiply_adds


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"model": "ResNet-20", "image_size": "32"},
         ["resnet20 ×0.25 at 32", "resnet20 ×0.5 at 32", "resnet20 at 32"]),
        ({"model": "resnet8", "width": 0.5, "image_size": "32x64"}, ["resnet8 ×0.5 at 32x64"]),
        ({"width": 1.0, "image_size": "24"},
         [f"resnet{depth} at 24" for depth in (8, 20, 32, 56)]),
        ({"weights": "imagenet", "image_size": 64},
         ["resnet18 at 64", "resnet34 at 64", "resnet50 at 64"]),
    ],
)  # fmt: skip
def test_what_the_user_names_is_fixed(options, names):
    assert sorted(c.name for c in search.candidates(200, 10, options)) == sorted(names)


class Tries(list):
    """Names of networks, and the settings of the teachers that were trained in full."""

    def __init__(self):
        super().__init__()
        self.taught = []


@pytest.fixture
def tries(monkeypatch):
    """Notes what is tried, instead of training it: larger networks are better up to the fourth."""
    names = Tries()
    taught = names.taught

    def attempt(candidate, data, folder, budget, options):
        names.append(candidate.name)
        top1, size, ms = 0.6 + 0.1 * min(len(names), 4), candidate.parameters + 9000, len(names)
        run = str(folder / candidate.model)
        return replace(candidate, run=run, images=100, top1=top1, bytes=size, latency_ms=float(ms),
                       excess=budget.excess(size, ms))  # fmt: skip

    monkeypatch.setattr(search, "_try", attempt)
    monkeypatch.setattr(search, "_trained", lambda place, data, settings: taught.append(settings))
    return names


def test_larger_networks_are_tried_until_they_are_no_better(tries, photos, tmp_path):
    settings, points = search.choose(
        str(photos), tmp_path, Budget(max_ms=9), {"epochs": 9}, tmp_path / "run"
    )
    assert len(tries) == 4 + 3
    assert [p.chosen for p in points].index(True) == 3
    assert {**settings, "teacher": ""} == {
        "model": points[3].model, "width": points[3].width, "image_size": points[3].image_size,
        "teacher": "",
    }  # fmt: skip
    # The largest of those that are no worse, trained in full.
    assert Path(settings["teacher"]).name.startswith(f"teacher-{points[6].model}-")
    assert tries.taught[0]["epochs"] == 9 and tries.taught[0]["label_smoothing"] == 0
    assert tries.taught[0]["image_size"] == points[6].image_size
    assert tries.taught[0]["model"] == points[6].model
    # Other options, or other images, have runs of their own.
    other, _ = search.choose(
        str(photos), tmp_path, Budget(max_ms=9), {"epochs": 12}, tmp_path / "run"
    )
    assert other["teacher"] != settings["teacher"] and len(tries) > 7
    del tries[7:]
    # A run of another search, or of none, is not searched for again: that takes hours.
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(InputError, match="was not searched for this budget, these images"):
        search.choose(str(photos), tmp_path, Budget(max_ms=8), {"epochs": 9}, tmp_path / "run")
    assert len(tries) == 7
    # The same call chooses the same, whatever the clock says then.
    again = search.choose(str(photos), tmp_path, Budget(max_ms=9), {"epochs": 9}, tmp_path / "run")
    assert again == (settings, points)
    assert len(tries) == 7


@pytest.mark.parametrize(
    ("error", "is_of_network"),
    [
        (NetworkFailed("training diverged in epoch 2"), True),
        (NetworkFailed("verification failed: model_int8.tflite: top-1 is 2 points lower"), True),
        (CheckFailed("cannot write into x (No space left on device)"), False),
    ],
)
def test_only_what_is_due_to_a_network_excludes_it(error, is_of_network, monkeypatch, tmp_path):
    """The result is saved: after a full disk the network must be tried again."""

    def fail(*_):
        raise error

    monkeypatch.setattr(search, "_trained", fail)
    asked = (SMALL, "photos", tmp_path, Budget(max_mb=1.0), {"epochs": 3})
    if is_of_network:
        assert search._try(*asked).excess == str(error)
    else:
        with pytest.raises(CheckFailed, match="No space left"):
            search._try(*asked)


def test_what_cannot_fit_is_not_trained_and_nothing_in_the_budget_is_one_line(
    tries, photos, tmp_path
):
    search.choose(str(photos), tmp_path, Budget(max_mb=0.1), {}, tmp_path / "run")
    assert all(not name.startswith(("resnet20 at", "resnet32 at")) for name in tries)
    del tries[:]
    with pytest.raises(
        CheckFailed, match=r"not even resnet8 ×0.5 at 32 \(0.0\d+ MB, 1 ms\): 1 ms; give"
    ):
        search.choose(str(photos), tmp_path, Budget(max_ms=0.5), {}, tmp_path / "run")
    assert len(tries) == 3  # larger ones are better, and no faster
    least = min(candidate.parameters for candidate in search.candidates(40, 3, {}))
    refusal = f"the smallest has {least:,} weights, at least one byte each"
    with pytest.raises(CheckFailed, match=refusal):
        search.choose(str(photos), tmp_path, Budget(max_mb=(least - 1) / 1e6), {}, tmp_path / "run")


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (Budget(max_ms=1.0), "1 thread of this machine"),
        (Budget(max_ms=1.0, threads=2), "2 threads of this machine"),
        (Budget(max_ms=1.0, android=True), "the phone"),
    ],
)
def test_a_time_is_shown_with_what_took_it(budget, words):
    result = SimpleNamespace(frontier=[replace(SMALL, chosen=True)], measured_on=budget.measured_on)
    shown = [*tables._frontier(result)]
    assert f"ms   per image on {words}" in shown[0] and shown[1].endswith("chosen")


def test_a_run_has_its_network_already(untouched):
    with pytest.raises(InputError, match="a budget needs DATA to train on"):
        shipping.ship(untouched, max_mb=1.0)


def test_the_plot_shows_each_network_that_has_a_file(tmp_path):
    points = [p.as_json() for p in (SMALL, replace(MIDDLE, chosen=True), LARGE, HUGE)]
    points.append({**points[0], "top1": None, "bytes": None, "latency_ms": None})
    limits = {"max_mb": None, "max_ms": 2.0}
    frontier_plot.plot(points, limits, "2 threads", "networks", tmp_path / "a.png")
    drawn = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    frontier_plot.plot(points[1:], limits, "2 threads", "networks", tmp_path / "b.png")
    assert drawn.shape[0] > 300 and drawn.std() > 10
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()


def test_the_names_of_neighbours_in_the_plot_do_not_overlap_and_are_on_white(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(frontier_plot.plots, "save", lambda figure, _: drawn.append(figure))
    point = {"excess": None, "chosen": False}
    costs = [(0.60, 0.3), (0.70, 0.5), (0.80, 1.1), (0.82, 1.2), (0.90, 3.9)]
    points = [
        {
            **point,
            "name": f"resnet20, {i} pixels",
            "top1": top1,
            "bytes": 1e6 * ms,
            "latency_ms": ms,
        }
        for i, (top1, ms) in enumerate(costs)
    ]
    limits = {"max_mb": None, "max_ms": None}
    frontier_plot.plot(points, limits, "2 threads", "networks", tmp_path / "a.png")
    drawn[0].draw_without_rendering()
    names = drawn[0].axes[1].texts
    boxes = [name.get_window_extent() for name in names]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert all(name.get_bbox_patch().get_facecolor()[:3] == (1, 1, 1) for name in names)


@pytest.mark.slow
def test_photos_and_a_budget_become_an_app_of_the_chosen_network(command, photos, tmp_path):
    line = ("ship", photos, "--max-mb", 0.1, "--max-ms", 50, "--epochs", 6, "--batch-size", 8,
            "--image-size", 24, "--bundle", "python", "--run", tmp_path / "run")  # fmt: skip
    done = command(*line, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    (chosen,) = (point for point in result["frontier"] if point["chosen"])
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["model"], config["width"]) == (chosen["model"], chosen["width"])
    file = tmp_path / "run" / "export" / result["model"]
    assert file.stat().st_size <= 100_000
    for name in ("frontier.json", "frontier.png"):
        assert name in json.loads((tmp_path / "run" / "manifest.json").read_text())
    again = command(*line)
    assert again.returncode == 0, again.stderr
    assert "unchanged since it was exported" in again.stderr and "chosen" in again.stdout
