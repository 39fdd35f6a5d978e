"""The plots of `explain`, also of unusual results."""

import numpy as np
import pytest
from PIL import Image

from keras_resnet.report import explain_plots


def _block(**changes):
    row = {"name": "conv2_block1", "kind": "identity", "sum_norm": 0.5, "identity_norm": 0.5,
           "branch_norm": 0.2, "total_norm": 0.55, "ratio": 0.4, "cosine": 0.1,
           "relative_error": 0.0}  # fmt: skip
    return {**row, **changes}


def _lesion(blocks, model="resnet8"):
    sizes = [1, 2, 4][: max(blocks, 1)]
    return {
        "run": "runs/a", "model": model, "images": 10, "top1": 0.9, "chance": 0.1,
        "blocks": [{"name": f"b{i}", "kind": "identity", "top1": 0.5} for i in range(blocks)],
        "last": [{"removed": n, "top1": 0.4} for n in sizes],
        "random": [{"removed": n, "top1": [0.3, 0.5]} for n in sizes],
    }  # fmt: skip


def _depths(depths):
    return {
        "epochs": 3,
        "rows": [
            {"depth": d, "kind": kind, "training_error": 0.1, "validation_error": 0.2}
            for d in depths
            for kind in ("plain", "resnet")
        ],
    }


def _paths(lengths):
    rows = [
        {"length": k, "share_of_paths": 0.5, "gradient_norm": 10.0 ** -(3 * k) if k < 4 else 0.0,
         "share_of_gradient": 0.5}
        for k in range(lengths)
    ]  # fmt: skip
    return {"lengths": rows, "effective": {"shortest": 0, "longest": lengths - 1}}


PICTURES = {
    "one block": (explain_plots.gradient_split, {"name": "a", "blocks": [_block()]}),
    "branches at 0": (
        explain_plots.gradient_split,
        {"name": "a", "blocks": [_block(branch_norm=0.0, ratio=0.0, cosine=None)] * 3},
    ),
    "a plain net": (
        explain_plots.gradient_split,
        {"name": "plain8", "blocks": [_block(identity_norm=None, cosine=None)] * 3},
    ),
    "a deep net": (explain_plots.gradient_split, {"name": "a", "blocks": [_block()] * 333}),
    "one depth, one seed": (
        explain_plots.first_layer,
        [{"depth": 20, "kind": kind, "gradient_norms": [3.0]} for kind in ("plain", "residual")],
    ),
    "three equal tries": (
        explain_plots.lesions,
        [
            {
                **_lesion(4),
                "random": [{"removed": n, "top1": [0.1 + n / 1000] * 3} for n in (22, 27, 39)],
            }
        ],
    ),
    "a lesion": (explain_plots.lesions, [_lesion(4)]),
    "lesions of three nets, one of a single block": (
        explain_plots.lesions,
        [_lesion(4), _lesion(1, "plain8"), _lesion(9)],
    ),
    "paths": (explain_plots.path_lengths, _paths(5)),
    "one path": (explain_plots.path_lengths, _paths(1)),
    "degradation": (explain_plots.degradation, _depths([8, 20, 32])),
    "one depth": (explain_plots.degradation, _depths([8])),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("draw", "result"), PICTURES.values(), ids=PICTURES)
def test_a_picture_is_drawn(draw, result, tmp_path):
    path = draw(result, tmp_path / "a.png")
    picture = np.asarray(Image.open(path).convert("L"))
    assert min(picture.shape) > 300
    assert (picture < 128).mean() > 0.002  # there is ink on it


def test_a_picture_of_many_images_has_the_first_60(tmp_path):
    row = {"image": "a.jpg", "label": "a", "score": 0.5}
    row |= {"pixels": np.zeros((8, 8, 3), np.uint8), "map": np.zeros((8, 8), np.float32)}
    few, many = (
        Image.open(explain_plots.grad_cam([row] * n, tmp_path / f"{n}.png")) for n in (60, 200)
    )
    assert few.size == many.size


def test_the_label_and_the_score_of_an_image_are_separate_lines(monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(
        explain_plots, "image_grid", lambda _, captions, *a, **k: drawn.extend(captions)
    )
    row = {"image": "a/b.jpg", "label": "a" * 90, "score": 0.9999}
    row |= {"pixels": np.zeros((8, 8, 3), np.uint8), "map": np.zeros((8, 8), np.float32)}
    explain_plots.grad_cam([row], tmp_path / "a.png")
    assert drawn[0] == "b.jpg" and [line.name for line in drawn[1]] == ["a" * 90, "99.9%"]


def test_an_overlay_is_bright_where_the_map_is_and_dim_elsewhere():
    pixels = np.full((4, 4, 3), 200, np.uint8)
    strength = np.zeros((4, 4))
    strength[0, 0] = 1
    shown = explain_plots.overlay(pixels, strength)
    assert shown[0, 0].astype(int).sum() > 1.5 * shown[3, 3].astype(int).sum()
    assert shown[0, 0, 0] > shown[0, 0, 2]  # orange
    assert len(set(shown[3, 3])) == 1  # grey


def test_no_marker_is_cut_off(monkeypatch):
    drawn = []
    monkeypatch.setattr(explain_plots, "save", lambda figure, _: drawn.append(figure))
    rows = _depths([8, 20])["rows"]
    rows = [{**row, "training_error": 0.0, "validation_error": row["depth"] / 20} for row in rows]
    explain_plots.degradation({"epochs": 3, "rows": rows}, "unused.png")
    extreme = _lesion(2)
    extreme["blocks"] = [{"name": "b", "kind": "identity", "top1": top1} for top1 in (0.0, 1.0)]
    explain_plots.lesions([extreme], "unused.png")
    explain_plots.gradient_split({"name": "a", "blocks": [_block(branch_norm=0.1)]}, "unused.png")
    for axes in (axes for figure in drawn for axes in figure.axes):
        for line in (line for line in axes.lines if line.get_marker() not in ("None", "|")):
            shares = (axes.transData - axes.transAxes).transform(line.get_xydata())
            space = 0.015 if line.get_clip_on() else 0.0
            assert all(space <= y <= 1 - space for _, y in shares)


def test_the_labels_of_a_logarithm_are_of_one_kind():
    assert explain_plots._plain_numbers([0.001, 1, 50000]) == ["0.001", "1", "50000"]
    assert explain_plots._plain_numbers([5e-4, 1e-3]) == ["5·10⁻⁴", "10⁻³"]
    assert explain_plots._plain_numbers([1e4, 1e5]) == ["10⁴", "10⁵"]


@pytest.mark.parametrize("low", [0.011, 1e-10, 1.0, 2.0, 0.0005, 99.0, 7e5])
@pytest.mark.parametrize("factor", [1, 1.01, 5, 99, 101, 1e4, 1e9, 1e30])
def test_a_logarithmic_axis_has_a_few_labels_around_all_values(low, factor):
    ticks = explain_plots._log_ticks(low, low * factor)
    assert ticks == sorted(set(ticks)) and 2 <= len(ticks) <= 11
    assert ticks[0] <= low <= low * factor <= ticks[-1]
    # no more than needed: the next ones lie inside
    assert ticks[1] > low and (ticks[-2] < low * factor or factor == 1 or len(ticks) == 2)
