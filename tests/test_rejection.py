"""The threshold for "none of these": its fit, the gate, and the answer of every client."""

import importlib.util
import json
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image
from scipy import special, stats

from keras_resnet import open_run
from keras_resnet.errors import CheckFailed, InputError
from keras_resnet.evaluation.contract import (
    REJECTION_SCORES,
    Contract,
    Rejection,
    certainty,
    read_contract,
)
from keras_resnet.exporting import gate, rejection, templates
from keras_resnet.exporting.plan import make_plan
from keras_resnet.inspection import metadata
from keras_resnet.manifest import fingerprint

RNG = np.random.default_rng(0)


def logits(count, height, classes=10):
    """Of images of which a class stands out by `height`."""
    found = RNG.normal(size=(count, classes))
    found[np.arange(count), RNG.integers(0, classes, count)] += height
    return found


# The scores


def test_the_scores_are_those_of_their_papers():
    found = logits(20, 3)
    assert certainty("probability", found) == pytest.approx(special.softmax(found, -1).max(-1))
    assert certainty("energy", found) == pytest.approx(special.logsumexp(found, -1))
    best = np.sort(found, -1)
    assert certainty("margin", found) == pytest.approx(best[:, -1] - best[:, -2])


@pytest.mark.parametrize("score", REJECTION_SCORES)
def test_no_logits_within_the_tolerance_change_an_answer_that_is_beyond_doubt(score):
    found = logits(300, 2)
    rule = Rejection(score, float(np.median(certainty(score, found))), 0.05, 100)
    decided, answer = rule.is_decided(found, 0.2), Contract(reject=rule).rejects(found)
    for _ in range(50):
        moved = found + RNG.choice([-0.2, 0.2], found.shape)
        assert (Contract(reject=rule).rejects(moved) == answer)[decided].all()
    assert 0.1 < decided.mean() < 0.95


def test_a_probability_of_one_is_beyond_doubt():
    assert Rejection("probability", 0.9, 0.05, 9).is_decided(np.array([[900.0, 0.0]]), 5.0).all()


# The fit


@pytest.mark.parametrize("share", [0.05, 0.2])
def test_of_new_images_no_more_are_refused_than_asked_for(share):
    shares, more = [], 0
    for seed in range(300):
        known = logits(120, 3)
        found = rejection.fit(known, None, share, seed)
        assert (found.fitted_on, found.judged_on, found.score) == (60, 60, rejection.DEFAULT)
        shares.append(found.known_refused)
        more += found.known_refused * 60 > rejection.most_refused(60, found.rejection)
    assert 0.6 * share < np.mean(shares) <= share + 3 * np.std(shares) / np.sqrt(300)
    assert more <= 3  # one in a thousand is expected


def test_the_most_that_chance_explains_is_that_of_the_beta_binomial():
    rule = Rejection("margin", 0.0, 0.05, 99)
    exact = stats.betabinom(80, 5, 95).ppf(0.999)
    assert rejection.most_refused(80, rule) == exact


def test_the_score_that_refuses_most_unknown_images_is_chosen_by_other_images_than_it_is_judged_by():
    known, unknown = logits(400, 6), logits(100, 6) - 4  # all scores but the energy are blind
    found = rejection.fit(known, unknown, 0.05, 0)
    assert found.score == "energy" and found.unknown_judged_on == 50
    _, judged = rejection.halves(400, 0.05, 0)
    others = unknown[rejection.judged_unknown(100, 0)]
    for name, row in found.compared.items():
        threshold = rejection.fit(known, None, 0.05, 0, [name, "probability"])
        assert row.known == found.compared[name].known
        if name == found.score:
            assert row.known == (certainty(name, known[judged]) < found.threshold).mean()
            assert row.unknown == (certainty(name, others) < found.threshold).mean()
        assert threshold.threshold <= 1
    assert found.compared["energy"].unknown > 0.9 > 0.2 > found.compared["margin"].unknown
    assert rejection.RejectionFit.from_json(json.loads(json.dumps(found.as_json()))) == found
    assert "energy below" in str(found) and "images of no class" in str(found)


def test_too_few_images_are_one_line_and_a_few_serve_twice():
    with pytest.raises(InputError, match=r"--reject 0.05 needs 19 validation images.*there are 18"):
        rejection.fit(logits(18, 3), None, 0.05, 0)
    found = rejection.fit(logits(30, 3), None, 0.05, 0)
    assert (found.fitted_on, found.judged_on, found.known_refused) == (30, 30, 0.0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"reject": 5}, "--reject is 5; expected the share .* above 0 and at most 0.5"),
        ({"reject": 0.0}, "--reject is 0; expected"),
        ({"unknown": "x"}, "--unknown is for a threshold; add --reject"),
        ({"reject": 0.1, "unknown": "nowhere"}, "--unknown nowhere: no such folder"),
    ],
)
def test_wrong_options_are_one_line(trained, options, said):
    with pytest.raises(InputError, match=said):
        make_plan(trained, **options)


def test_a_contract_with_a_wrong_threshold_is_damaged(tmp_path):
    good = {"score": "margin", "threshold": 1.5, "share": 0.05, "fitted_on": 40}
    path = tmp_path / "preprocess.json"
    path.write_text(json.dumps({"reject": good | {"known_refused": 0.04}}))
    assert read_contract(tmp_path).reject == Rejection(**good)
    for bad in ({"score": "odds"}, {"threshold": "1"}, {"share": 2.0}, {"fitted_on": 0}):
        path.write_text(json.dumps({"reject": good | bad}))
        with pytest.raises(InputError, match="is damaged: reject is"):
            read_contract(tmp_path)


def test_probabilities_are_refused_as_a_file_gives_them():
    rule = Rejection("probability", 0.6, 0.05, 20)
    found = Contract("softmax", reject=rule).to_logits(np.array([[0.61, 0.41], [0.59, 0.3]]))
    assert Contract("softmax", reject=rule).rejects(found).tolist() == [False, True]
