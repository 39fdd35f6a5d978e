"""The plots and the report of a run show its measurements."""

import csv
import json
import math
import os
import re
import shutil
import subprocess
import sys
import warnings
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from keras_resnet import recipes, specs
from keras_resnet.data.names import show
from keras_resnet.errors import InputError
from keras_resnet.messages import percent, points
from keras_resnet.report import page, plots, svg
from keras_resnet.report.text import short_labels, shorten, width_of

NASTY = '<script>alert("x")</script>'
PICTURES = ("batch.png", "confusion.png")


def history(epochs=3, **last):
    rows = [
        {
            "epoch": e,
            "loss": 2.0 / e,
            "top1": 1 - 0.5 / e,
            "val_loss": 1.5 / e,
            "val_top1": 1 - 0.4 / e,
            "learning_rate": 0.1,
            "seconds": 1.5,
            "images_per_second": 100.0,
            "image_size": 16 if e < 3 else 32,
        }
        for e in range(1, epochs + 1)
    ]
    rows[-1].update(last)
    return rows


def score(confusion, classes):
    matrix = np.array(confusion)
    right, images = matrix.diagonal(), matrix.sum(axis=1)
    return {
        "images": int(matrix.sum()),
        "loss": 0.25,
        "top1": float(right.sum() / matrix.sum()),
        "top5": 0.991 if len(classes) > 5 else None,
        "per_class": {
            name: {"images": int(n), "top1": float(r / n) if n else 0.0}
            for name, r, n in zip(classes, right, images, strict=True)
        },
        "confusion": matrix.tolist(),
    }


CLASSES = ["cat", NASTY, "$5", "狗"]
MATRIX = [[9, 1, 0, 0], [4, 6, 0, 0], [0, 0, 10, 0], [0, 0, 0, 0]]  # no image of the last


@pytest.fixture
def run(tmp_path):
    """A run folder with everything but the pictures."""
    metrics = {
        "model": "resnet20",
        "parameters": 272474,
        "best_epoch": 3,
        "seconds": 134.2,
        "precision": "float32",
        "precision_reason": "no bfloat16 here",
        "images_per_second": 231.7,
        "val": score(MATRIX, CLASSES),
        "finished": "2026-11-27T12:00:00+01:00",
        "versions": {"keras": "3.15.1"},
        "threads": 2,
        "device": "a processor",
        "system": "Linux",
        "seconds_by": {"compute": 130.0, "saving": 4.2},
        "data": {
            "train": dict(zip(CLASSES, (40, 30, 20, 10), strict=True)),
            "val": dict.fromkeys(CLASSES, 10),
        },
    }
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    (tmp_path / "config.json").write_text(json.dumps({"data": "photos/pets & co/", "seed": 7}))
    (tmp_path / "labels.txt").write_text("\n".join(CLASSES) + "\n", encoding="utf-8")
    with open(tmp_path / "history.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, history()[0])
        writer.writeheader()
        writer.writerows(history())
    return tmp_path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    images = np.zeros((2, 8, 8, 3), np.uint8)
    plots.curves(history(), folder / "curves.png")
    plots.confusion(MATRIX, CLASSES, folder / "confusion.png")
    plots.image_grid(images, ["a", "b"], folder / "batch.png", title="A batch")
    plots.image_grid(images[:0], [], folder / "mistakes.png", title="Worst mistakes")
    return folder


@pytest.fixture
def full_run(run, pictures):
    return shutil.copytree(pictures, run, dirs_exist_ok=True)


def with_metrics(folder, **changes):
    path = folder / "metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


class Seen(HTMLParser):
    """What a browser would meet: tags, their attributes, and the visible text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.details, self.text = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag == "details":
            self.details.append(attributes)

    def handle_data(self, data):
        self.text += data


def seen(folder):
    return Seen(page.write(folder).read_text(encoding="utf-8"))


def pixels(path):
    with Image.open(path) as image:
        assert image.format == "PNG" and min(image.size) > 0
        return np.asarray(image.convert("RGB")).astype(int)


def same(a, b):
    return a.shape == b.shape and bool((a == b).all())


# Pictures


@pytest.mark.parametrize("epochs", [1, 2, 300])
def test_curves_of_any_length_are_drawn(tmp_path, epochs):
    path = tmp_path / "curves.png"
    assert plots.curves(history(epochs), path) == path
    assert len(np.unique(pixels(path))) > 10
    assert os.listdir(tmp_path) == ["curves.png"]


def test_curves_show_their_numbers_and_the_same_numbers_give_the_same_picture(tmp_path):
    first = pixels(plots.curves(history(), tmp_path / "a.png"))
    again = pixels(plots.curves(history(), tmp_path / "b.png"))
    other = pixels(plots.curves(history(loss=1.9), tmp_path / "c.png"))
    assert same(first, again) and not same(first, other)


def test_a_history_without_image_sizes_is_drawn_as_one_of_a_single_size(tmp_path):
    rows = [{**row, "image_size": 32} for row in history()]
    one = pixels(plots.curves(rows, tmp_path / "a.png"))
    none = pixels(plots.curves([{**r, "image_size": None} for r in rows], tmp_path / "b.png"))
    assert same(one, none)
    assert not same(one, pixels(plots.curves(history(), tmp_path / "c.png")))


def test_the_best_epoch_is_the_most_accurate_and_among_equals_the_one_of_least_loss():
    rows = history(4, val_top1=0.1)
    rows[1]["val_top1"] = rows[2]["val_top1"]
    assert plots._best_row(rows) == 2
    rows[1]["val_loss"] = 0.0
    assert plots._best_row(rows) == 1
    assert plots._best_row(history(2, val_top1=float("nan"))) == 0


def test_curves_that_diverged_are_drawn_without_a_best_epoch(tmp_path):
    nan = float("nan")
    rows = history(1, loss=nan, val_loss=float("inf"), top1=nan, val_top1=nan)
    pixels(plots.curves(rows, tmp_path / "a.png"))


@pytest.mark.parametrize("k", [1, 25, 1000])
def test_a_confusion_matrix_of_any_size_is_drawn(tmp_path, k):
    names = [f"a class with a long name, number {i}" for i in range(k)]
    drawn = pixels(plots.confusion(np.eye(k, dtype=int), names, tmp_path / "a.png"))
    assert 150 < max(drawn.shape) < 2000


def test_names_that_shortening_makes_equal_are_numbered():
    names = [f"class number {i} of a data set" for i in range(3)]
    assert short_labels(names, 22)[2].startswith("2: class")
    assert len(set(short_labels(names, 22))) == 3
    assert short_labels(["cat", "dog"], 22) == ["cat", "dog"]


@pytest.mark.parametrize("k", [2, 30])
def test_one_mistake_changes_the_confusion_matrix(tmp_path, k):
    matrix, names = np.eye(k, dtype=int), [str(i) for i in range(k)]
    right = pixels(plots.confusion(matrix, names, tmp_path / "a.png"))
    matrix[0, -1] = 1
    assert not same(right, pixels(plots.confusion(matrix, names, tmp_path / "b.png")))


def test_a_confusion_matrix_is_shaded_by_row_and_shows_counts(tmp_path):
    one = pixels(plots.confusion([[1, 1], [0, 1]], ["a", "b"], tmp_path / "a.png"))
    two = pixels(plots.confusion([[1, 1], [0, 7]], ["a", "b"], tmp_path / "b.png"))
    assert 0 < (one != two).any(axis=2).mean() < 0.01  # a digit, no shade
    two = pixels(plots.confusion([[1, 3], [0, 1]], ["a", "b"], tmp_path / "b.png"))
    assert (one != two).any(axis=2).mean() > 0.1


def test_a_confusion_matrix_must_fit_its_classes(tmp_path):
    with pytest.raises(ValueError, match=r"\(3, 3\), not \(2, 2\)"):
        plots.confusion(np.eye(2), ["a", "b", "c"], tmp_path / "a.png")


def test_images_in_a_grid_are_enlarged_pixel_by_pixel(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    grid = pixels(plots.image_grid(images, list("abcde"), tmp_path / "a.png", title="t", columns=3))
    y, x = plots._TITLE, plots._MARGIN + 192 + plots._GAP  # the second image, six times as large
    assert same(grid[y : y + 192, x : x + 192], images[1].repeat(6, 0).repeat(6, 1).astype(int))


def test_large_images_are_shrunk(tmp_path):
    images = np.full((1, 700, 500, 3), 7, np.uint8)
    grid = pixels(plots.image_grid(images, ["a"], tmp_path / "a.png", title="t"))
    assert max(grid.shape) < 500
    assert same(grid[60, 30], np.array([7, 7, 7]))


@pytest.mark.parametrize(
    "caption",
    [
        [plots.Line("3", "true"), plots.Line("8", "predicted", "(97.0%)")],
        "W" * 300,
        [plots.Line("W" * 90, "true"), plots.Line("M" * 90, "predicted", "(97.0%)")],
        "狗" * 50,
        "",
    ],
)
def test_captions_stay_below_their_own_image(tmp_path, caption):
    images = np.zeros((2, 32, 32, 3), np.uint8)
    grid = pixels(plots.image_grid(images, [caption] * 2, tmp_path / "a.png", title="t"))
    between = plots._MARGIN + 192 + plots._GAP // 2
    assert (grid[:, between - 2 : between + 2] == 255).all()
    assert (grid[-plots._GAP :] == 255).all()


def test_captions_shorten_names_only():
    font = plots.FontProperties(size=8)
    true = plots.Line("American_goldfinch_juvenile", "true")
    predicted = plots.Line("American_tree_sparrow_juvenile", "predicted", "(97.0%)")
    lines = plots._wrap([true, predicted], 240, font)
    assert [line for line in lines if "%" in line] == lines[-1:]
    assert lines[0] == "true" and "predicted" in lines
    # Where it is cut depends on the font's widths, which differ between versions of Matplotlib.
    assert re.fullmatch(r"American_?…\w*nile \(97\.0%\)", lines[-1])
    assert all(plots.text_width(line, font) <= 240 for line in lines)
    short = [plots.Line("3", "true"), plots.Line("8", "predicted", "(97.0%)")]
    assert plots._wrap(short, 200, font) == ["true 3", "predicted 8 (97.0%)"]


@pytest.mark.parametrize("side", [8, 28, 32, 64, 96, 128, 150, 224, 256, 320, 384, 512, 1000])
def test_images_are_wide_enough_for_their_captions(side):
    tile = plots._magnified(np.zeros((1, side, side, 3), np.uint8))
    assert 180 <= tile.shape[2] < 360


def test_a_picture_of_one_image_is_as_wide_as_its_title(tmp_path):
    image, title = np.zeros((1, 150, 150, 3), np.uint8), "Regions that support the class (Grad-CAM)"
    grid = pixels(plots.image_grid(image, ["a"], tmp_path / "a.png", title=title))
    width = plots.text_width(title, plots.FontProperties(size=11))
    assert 0 <= grid.shape[1] - 2 * plots._MARGIN - width < 1
    assert pixels(plots.image_grid(image, [""], tmp_path / "b.png", title="W" * 999)).shape[1] < 999


def test_no_images_is_said_in_words(tmp_path):
    empty = np.zeros((0, 32, 32, 3), np.uint8)
    none = pixels(plots.image_grid(empty, [], tmp_path / "a.png", title="Worst mistakes"))
    other = pixels(plots.image_grid([], [], tmp_path / "b.png", title="Another title"))
    assert (none < 128).any() and not same(none, other)


def test_a_grid_needs_a_caption_for_each_image(tmp_path):
    with pytest.raises(ValueError, match="2 images, but 1 captions"):
        plots.image_grid(np.zeros((2, 8, 8, 3), np.uint8), ["a"], tmp_path / "a.png", title="t")


ODD_NAMES = ["$5", "$\\frac{1$", "狗", "हिन्दी", "a\tb\x00", "\udcff", "", "🐶"]


def test_any_class_name_is_drawn_without_a_warning(tmp_path):
    images, k = np.zeros((8, 8, 8, 3), np.uint8), len(ODD_NAMES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.confusion(np.eye(k), ODD_NAMES, tmp_path / "a.png")
        plots.image_grid(images, ODD_NAMES, tmp_path / "b.png", title="".join(ODD_NAMES))


@pytest.mark.parametrize(("caption", "title"), [("⌚", "t"), ("t", "⌚")])
def test_a_letter_that_the_first_font_lacks_is_taken_from_another(
    tmp_path, monkeypatch, caption, title
):
    drawn = []
    for fonts in ((), ("STIXGeneral",)):  # matplotlib has both
        monkeypatch.setattr(plots, "_MORE_FONTS", fonts)
        image = np.zeros((1, 32, 32, 3), np.uint8)
        drawn.append(pixels(plots.image_grid(image, [caption], tmp_path / "a.png", title=title)))
    assert not same(*drawn)


def test_dollars_are_not_mathematics(tmp_path):
    two = pixels(plots.confusion(np.eye(1), ["$xx$"], tmp_path / "a.png"))
    none = pixels(plots.confusion(np.eye(1), ["xx"], tmp_path / "b.png"))
    assert two.shape[1] > none.shape[1]  # the two signs take room


@pytest.mark.parametrize("width", range(1, 12))
def test_a_shortened_name_keeps_both_ends_and_its_width(width):
    short = shorten("Tomato_Late_blight", width)
    assert len(short) <= width and "…" in short
    assert width_of(shorten("狗" * 9, width)) <= width
    assert shorten("cat", 3) == "cat"


def test_drawing_leaves_the_settings_of_a_notebook_alone(tmp_path):
    code = (
        "import sys, matplotlib\n"
        # To ask for the backend is to choose one, which imports pyplot.
        "rc = matplotlib.rcParams\n"
        "look = lambda: {k: rc[k] for k in rc if k != 'backend'}\n"
        "before = look()\n"
        "from keras_resnet.report import page, plots\n"
        "plots.confusion([[1]], ['a'], 'a.png')\n"
        "assert look() == before\n"
        "assert not {'matplotlib.pyplot', 'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


# The page


def test_the_page_shows_what_was_measured(run):
    text = seen(run).text
    assert "resnet20 on pets & co" in text
    assert "83.3% top-1 on 30 validation images" in text
    assert "median of the epochs: 232 images per second" in text
    assert "272 k" in text and "2 min 14 s" in text and "no bfloat16 here" in text
    assert f"keras-resnet predict {run} photo.jpg" in text


def test_the_page_follows_the_numbers(run):
    before = seen(run).text
    with_metrics(run, val=score(np.eye(4, dtype=int), CLASSES))
    after = seen(run).text
    assert "100.0% top-1 on 4 validation images" in after
    assert "83.3% top-1" in before and "83.3% top-1" not in after


def test_a_miss_in_ten_thousand_is_not_a_hundred_percent():
    assert percent(0.9995) == percent(0.9999) == "99.9%"
    assert percent(1.0) == "100.0%"
    assert percent(float("nan")) == "–"
    assert percent(0.99999, 2) == "99.99%" and percent(1.0, 2) == "100.00%"


def test_a_difference_of_almost_nothing_has_no_sign():
    assert points(-0.002) == "0.00" and points(-0.04, 1) == "0.0" and points(-0.5) == "-0.50"
    assert points(None) == points(float("nan")) == "–"


def test_test_images_are_shown_where_there_are_some(run):
    with_metrics(run, test=score([[1, 1], [0, 2]], ["a", "b"]))
    assert re.search(r"4 test images.*: 75\.0%", seen(run).text)


def test_top5_is_shown_for_more_than_five_classes_only(run):
    assert "top-5" not in seen(run).text
    names = list("abcdef")
    (run / "labels.txt").write_text("\n".join(names) + "\n")
    with_metrics(run, val=score(np.eye(6, dtype=int), names))
    assert "top-5, validation99.1%" in seen(run).text


def test_classes_are_sorted_worst_first_and_those_without_images_come_last(run):
    text = seen(run).text.partition("Classes")[2]
    assert text.index(NASTY) < text.index("cat") < text.index("$5") < text.index("狗")
    assert "60.0%" in text and "狗0––" in text


def test_the_most_frequent_confusion_leads(run):
    text = seen(run).text.partition("Most frequent mistakes")[2]
    assert text.lstrip().startswith(f"{NASTY} predicted as cat: 4 of 10 images")
    assert "cat predicted as <script>" in text and "$5 taken" not in text


def test_many_classes_are_folded_away_but_all_there(run):
    names = [f"class-{i:03}." for i in range(120)]
    (run / "labels.txt").write_text("\n".join(names) + "\n")
    data = {"train": dict.fromkeys(names, 1)}
    found = seen(with_metrics(run, val=score(np.eye(120, dtype=int), names), data=data))
    assert "100 more" in found.text and all(name in found.text for name in names)
    # The images per class of 120 classes would fill pages of a printed report; 100 rows do not.
    assert [dict(found.details[i]).get("class") for i in range(2)] == [None, "long"]


def test_a_printed_page_has_whole_matrices_and_no_long_lists():
    style = (
        (Path(page.__file__).parent / "style.css.jinja").read_text().partition("@media print")[2]
    )
    for rule in (
        ".scroll { overflow: visible; }",
        "svg { min-width: 0 !important; max-width: 100% !important; }",
        "details:not(.long)::details-content",
    ):
        assert rule in style


def test_the_rows_of_a_matrix_are_named_and_the_name_is_inside():
    for k in (1, 2, 30):
        drawn = str(svg.confusion(np.eye(k, dtype=int).tolist(), [str(i) for i in range(k)]))
        (height,) = re.findall(r'viewBox="0 0 \d+ (\d+)"', drawn)
        ((x, top),) = re.findall(r'rotate\(-90 (\d+) ([\d.]+)\)">true class<', drawn)
        font = plots.FontProperties(size=11 * 72 / plots.DPI)
        assert float(top) + plots.text_width("true class", font) <= float(height)
        assert int(x) >= 11


def test_a_name_from_the_data_cannot_become_part_of_the_page(run):
    config = {"data": f'x"{NASTY}', NASTY: NASTY}
    (run / "config.json").write_text(json.dumps(config))
    with_metrics(run, model=NASTY, precision=NASTY, precision_reason=NASTY)
    found = seen(run)
    assert "script" not in found.tags
    assert found.text.count(NASTY) > 6


def test_a_name_turns_the_direction_of_nothing_but_itself(run):
    names = ["\u202ecat", "כלב"]
    (run / "labels.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    (run / "config.json").write_text(json.dumps({"data": "\u202ephotos/כלב"}))
    row = {"file": "\u202ea/כ.jpg", "label": names[0], "prediction": names[1], "score": 0.9}
    images = [{**row, "image": ""}, {**row, "image": "", "prediction": names[0]}]
    (run / "examples.json").write_text(json.dumps({"mistakes": images, "correct": images}))
    predictions(run, [row["file"], *names, 0.9, 0.01, "yes", "val"])
    counts = {split: dict.fromkeys(names, 3) for split in ("train", "val")}
    with_metrics(run, val=score([[1, 2], [0, 3]], names), data=counts)
    html = page.write(run).read_text(encoding="utf-8")
    assert html.count("<bdi>\u202ecat</bdi>") >= 8 and "\u202ea/כ.jpg</bdi>" in html
    # A title has one line of its own, and so has each text of a plot.
    rest = re.sub(r"<bdi>.*?</bdi>|<title>.*?</title>|<text .*?</text>|alt=\".*?\"", "", html)
    assert not re.search("[\u202eא-ת]", rest)


def test_an_emoji_of_several_is_shown_and_what_turns_text_is_not():
    assert show("👩\u200d🌾.jpg") == "👩\u200d🌾.jpg"
    assert short_labels(["👩\u200d🌾"], 18) == ["👩\u200d🌾"]
    assert show("\u202egpj.a\x1b") == r"\u202egpj.a\x1b"


def test_the_page_is_made_from_values_alone_and_each_is_escaped():
    names = [NASTY, "not UTF-8: \udcff"]
    files = page.RunFiles(
        metrics={"val": score([[1, 1], [0, 2]], names)},
        config={"data": NASTY, "model": NASTY},
        labels=names,
        epochs=history(),
        predictions=[{"split": "val", "file": NASTY, "label": NASTY, "prediction": NASTY,
                      "score": "0.9", "label_score": "0.9", "suspect": "yes"}],
        examples={"mistakes": [{"file": NASTY, "label": NASTY, "prediction": "a", "score": 0.9,
                                "image": f'"{NASTY}'}]},
        pictures={"batch": b"no PNG"},
        export=None,
    )  # fmt: skip
    data = page.report_data(Path("no/such <run>"), files)
    assert data.classes[0] == page.ClassScore(name=NASTY, images=2, top1=0.5)
    assert data.confusions == [page.Confusion(count=1, images=2, label=NASTY, prediction=names[1])]
    assert data.pictures == {} and data.sizes == [(1, 2, 16), (3, 3, 32)]
    text = page.render(data)
    assert text == page.render(data)
    found = Seen(text)
    assert "script" not in found.tags and "run" not in found.tags
    assert f"{NASTY} predicted as not UTF-8: ?: 1 of 2 images" in found.text
    assert "keras-resnet evaluate 'no/such <run>'" in found.text


@pytest.mark.parametrize(
    "options",
    [
        {"pad": 4},
        {"recipe": "paper-cifar", "optimizer": "adamw"},
        {"split_file": "a.json"},
        {"model": "resnet8", "normalize": "tf"},
    ],
    ids=str,
)
def test_the_command_of_a_run_has_its_settings(options):
    command = page._command(asdict(recipes.resolve({"data": "photos", **options})))
    for name, value in options.items():
        assert f"--{name.replace('_', '-')} {value}" in command


def test_no_command_repeats_the_training_of_a_network_of_ones_own(run):
    config = json.loads((run / "config.json").read_text())
    for model, has_command in (("resnet8", True), ("custom", False)):
        (run / "config.json").write_text(json.dumps({**config, "model": model}))
        seen = Seen(page.write(run).read_text())
        assert ("keras-resnet train" in seen.text) is has_command


@pytest.mark.parametrize("model", ["resnet8", "resnet50v2"])  # resnet50v2: normalize "tf"
def test_the_command_of_a_run_leaves_out_what_its_network_determines(model):
    normalize = specs.find(model).normalize
    settings = recipes.resolve({"data": "photos", "model": model, "normalize": normalize})
    assert "--normalize" not in page._command(asdict(settings))
    assert not any("--normalize" in line for line in recipes.effective(settings))
    others = replace(settings, normalize="120,115,105/60,58,57")
    assert any("--normalize 120,115,105/60,58,57" in line for line in recipes.effective(others))


def test_commands_break_between_words_and_stay_exact():
    command = "keras-resnet export 'my <b>/a  b' --image-size 48"
    html = page.words(command)
    assert Seen(str(html)).text == command
    assert "<bdi>--image-size</bdi> <bdi>48</bdi>" in html and "/<wbr>" in html


def test_images_of_each_class_are_added_up_whatever_its_name(run):
    counts = {"7": 147, "St. John": 5, "0x": 2}
    with_metrics(run, data={"train": counts, "val": {"7": 37, "St. John": 1}})
    table = seen(run).text.partition("Images per class")[2]
    assert all(row in table for row in ("\n714737184\n", "\nSt. John516\n", "\n0x202\n"))


def test_long_fractions_of_settings_are_rounded():
    assert page.rounded([0.75, 4 / 3, [5e-5]]) == [0.75, 1.333, [5e-5]]
    assert page.setting(page.rounded(1.0)) == "1.0" and page.rounded(123456) == 123456
    assert page.rounded(True) is True and page.rounded(None) is None


def test_a_folder_with_a_blank_and_markup_is_quoted_in_the_commands(run, tmp_path):
    folder = run / "my <b>run"
    folder.mkdir()
    (folder / "metrics.json").write_bytes((run / "metrics.json").read_bytes())
    found = seen(folder)
    assert f"keras-resnet evaluate '{folder}'" in found.text
    assert "<b>run" not in (folder / "report.html").read_text()


def test_the_page_holds_the_batch_and_the_matrix_of_many_classes_as_pictures(full_run):
    assert sources(seen(full_run)) == 1  # the batch
    k = svg.MOST_DRAWN + 1
    names = [f"class-{i:03}." for i in range(k)]
    (full_run / "labels.txt").write_text("\n".join(names) + "\n")
    with_metrics(full_run, val=score(np.eye(k, dtype=int), names))
    assert sources(seen(full_run)) == 2
    for name in PICTURES:
        (full_run / name).unlink()
    assert sources(seen(full_run)) == 0


def sources(found):
    """The number of pictures, all of them inside the page."""
    pictures = [value for key, value in found.attributes if key == "src"]
    assert all(source.startswith("data:image/") for source in pictures)
    assert found.tags.count("img") == len(pictures)
    return len(pictures)


def test_plots_are_drawn_in_the_colours_of_the_page(run):
    found = seen(run)
    assert found.tags.count("svg") == 3  # accuracy, loss, confusion matrix
    assert not any(key in ("fill", "stroke") for key, _ in found.attributes)
    assert {"polyline", "circle", "rect"} <= set(found.tags)


def test_the_chosen_epoch_is_explained_and_the_sizes_of_all_are_told(run):
    text = " ".join(seen(run).text.split())
    assert "Epoch 3 of 3 was chosen and saved as model.keras: it has the highest top-1" in text
    assert "16 pixels in epochs 1 to 2, 32 pixels in epoch 3." in text


def test_the_page_says_what_the_run_was_made_of_and_how(run):
    text = " ".join(seen(run).text.split())
    assert "train1001040 val401010" in text
    assert "keras-resnet train 'photos/pets & co/' --model" in text and "--seed 7" in text
    assert "2026-11-27 12:00:00+01:00" in text and "a processor, 2 threads; Linux" in text
    assert "keras 3.15.1" in text and "compute 2 min 10 s, saving 4 s" in text


def predictions(run, *rows):
    with open(run / "predictions.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label", "prediction", "score", "label_score", "suspect", "split"])
        writer.writerows(rows)


def test_calibration_compares_scores_with_accuracy(run):
    predictions(
        run,
        ("a.jpg", "cat", "cat", 0.95, 0.95, "", "val"),
        ("b.jpg", "cat", "dog", 0.95, 0.01, "yes", "val"),
        ("c.jpg", "cat", "cat", 0.75, 0.75, "", "val"),
        ("damaged.jpg", "cat", "cat", "", "", "", "val"),
        ("d.jpg", "cat", "dog", 0.99, 0.01, "", "test"),
    )
    text = " ".join(seen(run).text.split())
    # Two at 0.95, of which one is right: 0.45 off; one at 0.75: 0.25 off.
    assert "Expected calibration error: 38.3%" in text
    assert "is 88.3%, and 66.7% of the predictions are correct" in text
    assert "b.jpgcat (1.0%)dog (95.0%)" in text and "1 suspect:" in text


def test_mistakes_and_correct_images_are_shown_with_their_files(run):
    pixel = "data:image/png;base64,AAAA"
    row = {"file": "cat/1.jpg", "label": "cat", "prediction": "dog", "score": 0.9, "image": pixel}
    content = {"mistakes": [row], "correct": [{**row, "file": "dog/2.jpg", "label": "dog"}]}
    (run / "examples.json").write_text(json.dumps(content))
    found = seen(run)
    assert sources(found) == 2
    assert ("alt", "photo of true cat, predicted dog") in found.attributes
    text = " ".join(found.text.split())
    assert "cat/1.jpg true cat, predicted dog (90.0%)" in text and "dog/2.jpg dog (90.0%)" in text


def test_the_page_shows_the_exported_files_and_what_an_app_needs(run):
    (run / "export" / "bundle_web").mkdir(parents=True)
    row = {"file": "model_int8.tflite", "passed": False, "why": "lost 3 points", "top1": 0.8,
           "drop_points": -0.002, "bytes": 308379, "latency_ms": 4.25}  # fmt: skip
    verified = {"passed": False, "images": 30, "max_drop": 1.0, "keras": {"top1": 0.83},
                "artefacts": [row], "files": [],
                "rejection": {"score": "margin", "threshold": 1.25, "most_energy": None,
                              "known_refused": 0.05, "unknown_refused": 0.9}}  # fmt: skip
    (run / "export" / "verify.json").write_text(json.dumps(verified))
    preprocess = {"image_size": 24, "range": [0, 255], "top": None, "color_order": "RGB"}
    (run / "export" / "preprocess.json").write_text(json.dumps(preprocess))
    text = " ".join(seen(run).text.split())
    assert "model_int8.tfliteFAILED80.0%0.000.31 MB4.25 ms" in text
    assert "model_int8.tflite: lost 3 points" in text
    assert "the margin is below 1.25: 5.0% of the images of known classes, 90.0% of others" in text
    assert "image_size24" in text and "range0 to 255" in text
    bundle = run / "export" / "bundle_web"
    assert f"cd {bundle} && npm install && python3 -m http.server" in text
    file = run / "export" / "model_int8.tflite"
    file.touch()
    assert f"keras-resnet predict {file} photo.jpg" in seen(run).text  # it may refuse a photo
    (run / "export" / "bundle_web-mine").mkdir()  # a copy, as a bundle's README advises
    (bundle / "litert").mkdir()  # LiteRT.js
    assert f"cd {bundle} && python3 -m http.server" in seen(run).text


@pytest.mark.parametrize("k", [1, 10, 50])
def test_a_confusion_matrix_is_drawn_with_a_cell_for_each_pair_with_images(k):
    names = [f"class <{i}>" for i in range(k)]
    drawn = Seen(str(svg.confusion(np.eye(k, dtype=int).tolist(), names)))
    assert drawn.tags.count("rect") == k + 1  # and the frame
    assert f"class <{k - 1}>" in drawn.text


@pytest.mark.parametrize("name", ["TOMATO_LATE_BLIGHT", "W" * 30, "m" * 30, "nouveau genre", "7"])
def test_no_name_is_cut_off_at_the_edge_of_the_matrix(name):
    drawn = str(svg.confusion([[1, 0], [0, 1]], [name, "cat"]))
    end, label = re.findall(r'x="([\d.]+)" y="[\d.]+" text-anchor="end">(.*?)<', drawn)[0]
    font = plots.FontProperties(size=11 * 72 / plots.DPI)  # 11 pixels of DejaVu Sans, a wide font
    assert plots.text_width(label, font) <= float(end)


@pytest.mark.parametrize("epochs", [1, 2, 300])
def test_curves_in_the_page_have_any_length_and_gaps(epochs):
    nan = float("nan")
    drawn = Seen(str(svg.curves(history(epochs, val_top1=nan), "top1", epochs, percent=True)))
    assert drawn.tags.count("polyline") == (1 if epochs == 1 else 2)
    assert not any("nan" in str(value) for _, value in drawn.attributes)


@pytest.mark.parametrize("most", [0.0, 1e-9, 0.3, 4.0, 1e9, 9.6e20, 1e300])
def test_curves_have_a_few_round_ticks_whatever_the_loss(most):
    ticks = svg._ticks(0, most)
    assert 2 <= len(ticks) <= 7 and ticks[0] == 0 and ticks[-1] >= most
    drawn = str(svg.curves(history(3, loss=most, val_loss=most), "loss", 3))
    assert all(len(label) <= 6 for label in re.findall('text-anchor="end">([^<]*)<', drawn)[:-1])
    assert "nan" not in drawn


@pytest.mark.parametrize("worst", [1.0, 0.9999, 0.999, 0.995, 0.99, 0.9, 0.12])
def test_the_axis_of_the_accuracy_ends_at_100_and_its_labels_fit(worst):
    rows = [{**row, "top1": worst, "val_top1": 1.0} for row in history()]
    drawn = str(svg.curves(rows, "top1", 3, percent=True))
    labels = re.findall(r'x="([\d.]+)" y="[\d.]+" text-anchor="end">([\d.]+%)<', drawn)
    ticks = [float(label[:-1]) for _, label in labels]
    assert len(set(ticks)) == len(ticks) >= 2 and ticks[-1] == 100 and ticks[0] <= 100 * worst
    assert ticks[-1] - ticks[0] >= 1 and ticks == sorted(ticks)
    font = plots.FontProperties(size=11 * 72 / plots.DPI)
    assert all(plots.text_width(label, font) <= float(x) for x, label in labels)


def test_the_ticks_of_small_losses_differ():
    drawn = str(
        svg.curves([{**row, "loss": 0.02, "val_loss": 0.01} for row in history()], "loss", 3)
    )
    labels = re.findall(r'text-anchor="end">([\d.]+)<', drawn)
    assert labels == ["0.000", "0.005", "0.010", "0.015", "0.020"]
    assert svg._labels([0.0, 0.0999999999, 0.2], "") == ["0.0", "0.1", "0.2"]


def test_the_axis_of_the_accuracy_in_the_picture_ends_at_100(monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "save", lambda figure, _: drawn.append(figure))
    for worst in (1.0, 0.999, 0.5):
        plots.curves([{**row, "top1": worst, "val_top1": 1.0} for row in history()], "unused.png")
        axes = drawn[-1].axes[1]
        low, high = axes.get_ylim()
        shown = [tick for tick in axes.get_yticks() if low <= tick <= high]
        assert len(shown) > 1 and max(shown) <= 100 < high and low < 99


def test_the_results_are_in_the_names_of_the_plots(run):
    labels = [value for key, value in seen(run).attributes if key == "aria-label"]
    assert labels == [
        "Top-1 accuracy, validation from 60.0% to 86.7%, best epoch 3",
        "Cross-entropy, validation from 1.500 to 0.500, best epoch 3",
        "Confusion matrix: 25 of 30 images on the diagonal",
    ]


def test_a_screen_reader_gets_the_matrix_as_a_table():
    drawn = Seen(str(svg.confusion([[3, 1], [0, 2]], ["a", NASTY])))
    assert drawn.tags.count("td") == 5 and "script" not in drawn.tags
    assert f"a31{NASTY}02" in drawn.text
    assert drawn.attributes.count(("scope", "row")) == drawn.attributes.count(("scope", "col")) == 2


def test_counts_are_legible_in_every_shade():
    def rgb(code):
        code = code if len(code) == 6 else "".join(2 * digit for digit in code)
        return [part / 255 for part in bytes.fromhex(code)]

    def luminance(color):
        shares = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
        return 0.2126 * shares[0] + 0.7152 * shares[1] + 0.0722 * shares[2]

    def contrast(*colors):
        low, high = sorted(map(luminance, colors))
        return (high + 0.05) / (low + 0.05)

    style = (Path(page.__file__).parent / "style.css.jinja").read_text()
    colors = re.findall(r"--(ink|paper|accent|bad): #(\w+)", style)
    cells = "".join(svg._cells([100], 0, 0, 0, 30, counts=True))  # the darkest
    (opacity,) = map(float, re.findall('fill-opacity="([^"]*)"', cells))
    for first in (0, 4, 8):  # light, dark, print
        scheme = dict(colors[first : first + 4])
        for fill in ("accent", "bad"):
            pairs = zip(rgb(scheme["paper"]), rgb(scheme[fill]), strict=True)
            cell = [(1 - opacity) * paper + opacity * color for paper, color in pairs]
            assert contrast(cell, rgb(scheme["ink"])) >= 4.5
    drawn = plots.Figure().subplots()
    for shade in np.linspace(0, 1, 101):
        plots._write_counts(drawn, np.array([[1]]), np.array([[shade]]), 1.0)
        color = {"white": (1, 1, 1), "black": (0, 0, 0)}[drawn.texts[-1].get_color()]
        assert contrast(colormaps["Blues"](shade)[:3], color) >= 4.5


def test_a_few_epochs_of_a_huge_loss_do_not_press_the_others_flat(monkeypatch):
    drawn_by_plots = []
    monkeypatch.setattr(plots, "save", lambda figure, _: drawn_by_plots.append(figure))
    rows = history(10)
    usual = str(svg.curves(rows, "loss", 10))
    assert "beyond" not in usual
    for huge in rows[3:5]:
        huge["val_loss"] = 587.4
    drawn = str(svg.curves(rows, "loss", 10))
    assert "validation up to 587.4, beyond the axis" in drawn
    (height,) = re.findall(r'y="(\d+)"[^>]*>validation up to', drawn)
    lines = re.findall(r'points="([^"]*)"', drawn)
    ys = [float(point.split(",")[1]) for line in lines for point in line.split()]
    assert int(height) < min(ys) - 5  # no line hides it
    assert usual.count("<circle") - drawn.count("<circle") == 2  # they are no points there
    largest = max(row["loss"] for row in rows)
    ticks = [float(tick) for tick in re.findall(r'text-anchor="end">([\d.]+)<', drawn)]
    assert 2 * largest <= max(ticks) <= 3 * largest
    # A mark of the best epoch stays inside, too, beside the true number.
    marked = str(svg.curves(rows, "loss", 4))
    (star,) = re.findall(r'class="star" x="[\d.]+" y="([-\d.]+)"', marked)
    assert 0 < float(star) < 230 and "epoch 4: 587.4" in marked
    plots.curves(rows, "unused.png", best_epoch=4)
    axes = drawn_by_plots[0].axes[0]
    assert axes.get_ylim()[1] == pytest.approx(2.1 * largest)
    assert all(line.get_ydata()[0] < 3 * largest for line in axes.lines if line.get_marker() == "*")
    # A loss that is twice as large as the others needs no other axis.
    assert svg.end_of_losses([2.0, 1.0, 0.5], [2.0, 7.9, 0.5]) == (math.inf, "")
    assert svg.end_of_losses([2.0, 1.0, 0.5], [2.0, 8.1, 0.5])[0] == 4
    # Where most are huge, they are what there is to see.
    rows = [{**row, "val_loss": 587.4} for row in rows]
    assert "beyond" not in str(svg.curves(rows, "loss", 10))


def test_the_page_needs_no_network(full_run):
    found = seen(full_run)
    assert not {"script", "link", "iframe", "object"} & set(found.tags)
    references = [value for key, value in found.attributes if key in ("src", "href", "srcset")]
    assert not any("http" in value[:40] for value in references)
    text = (full_run / "report.html").read_text(encoding="utf-8")
    assert "://" not in text and "url(" not in text and "@import" not in text


def test_metrics_alone_are_enough(run):
    for name in ("config.json", "history.csv", "labels.txt"):
        (run / name).unlink()
    found = seen(run)
    assert "83.3% top-1" in found.text and "cat predicted as" in found.text
    assert "img" not in found.tags and found.tags.count("svg") == 1


def test_a_broken_picture_is_left_out(run):
    (run / "batch.png").write_bytes(b"")
    assert "img" not in seen(run).tags


def test_a_run_without_metrics_is_refused_with_the_next_step(tmp_path):
    with pytest.raises(InputError, match=r"metrics\.json.*not finished"):
        page.write(tmp_path)
    assert os.listdir(tmp_path) == []


def test_metrics_that_are_not_json_are_named(tmp_path):
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(InputError, match=r"metrics\.json.*is not JSON.*restore it from a copy"):
        page.write(tmp_path)


def test_every_tag_is_closed(full_run):
    text = page.write(full_run).read_text(encoding="utf-8")
    for tag in ("section", "div", "table", "tbody", "tr", "td", "p", "details", "figure", "dl"):
        assert len(re.findall(rf"<{tag}[ >]", text)) == text.count(f"</{tag}>"), tag


@pytest.mark.parametrize(
    ("top1", "n", "interval"),
    [(0.9, 10, "55.5% to 99.7%"), (1.0, 10, "69.2% to 100.0%"), (0.0, 10, "0.0% to 30.8%"),
     (0.5, 0, "0.0% to 100.0%"), (None, 10, "0.0% to 100.0%")],
)  # fmt: skip
def test_the_interval_of_top1_is_exact(run, top1, n, interval):
    # the same as scipy.stats.binomtest(9, 10).proportion_ci()
    val = {**score(MATRIX, CLASSES), "top1": top1, "images": n}
    assert f"interval: {interval}." in " ".join(seen(with_metrics(run, val=val)).text.split())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.7, "1 min 0 s"), (134.2, "2 min 14 s"), (7261, "2 h 1 min")],
)
def test_durations_are_for_people(seconds, text):
    assert page.duration(seconds) == text


@pytest.mark.parametrize(
    ("n", "text"), [(500, "500 "), (272474, "272 k"), (999999, "1.0 M"), (25557032, "25.6 M")]
)
def test_large_numbers_are_for_people(n, text):
    assert page.short(n) == text
