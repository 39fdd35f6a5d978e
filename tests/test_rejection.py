"""The threshold for "none of these": its fit, the gate, and the answer of every client."""

import importlib.util
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ai_edge_litert.tools import flatbuffer_utils
from PIL import Image
from scipy import special, stats

from keras_resnet import open_run
from keras_resnet.cli import tables
from keras_resnet.errors import InputError
from keras_resnet.evaluation.artefact import open_artefact
from keras_resnet.evaluation.contract import (
    REJECTION_SCORES,
    Contract,
    Rejection,
    certainty,
    read_contract,
)
from keras_resnet.evaluation.per_image import to_csv
from keras_resnet.evaluation.scores import evaluate, predict
from keras_resnet.exporting import bundling, gate, golden, rejection, templates
from keras_resnet.exporting.exporter import export
from keras_resnet.exporting.plan import Limits, make_plan
from keras_resnet.inspection import metadata
from keras_resnet.manifest import fingerprint

RNG = np.random.default_rng(0)
START = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def the_same_numbers_for_each_test():
    """In whatever order they run."""
    RNG.bit_generator.state = START


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
    most = float(np.quantile(certainty("energy", found), 0.8))
    rule = Rejection(score, float(np.quantile(certainty(score, found), 0.3)), most, 0.05, 100)
    decided, answer = rule.is_decided(found, 0.2), Contract(reject=rule).rejects(found)
    for _ in range(50):
        moved = found + RNG.choice([-0.2, 0.2], found.shape)
        assert (Contract(reject=rule).rejects(moved) == answer)[decided].all()
    assert 0.1 < decided.mean() < 0.95


def test_a_probability_of_one_is_beyond_doubt():
    assert (
        Rejection("probability", 0.9, None, 0.05, 9).is_decided(np.array([[900.0, 0.0]]), 5.0).all()
    )


# The fit


@pytest.mark.parametrize("share", [0.05, 0.2])
def test_of_new_images_no_more_are_refused_than_asked_for(share):
    shares, more = [], 0
    for seed in range(100):
        known = logits(120, 3)
        found = rejection.fit(known, None, share, seed)
        assert (found.fitted_on, found.judged_on, found.score) == (60, 60, rejection.DEFAULT)
        shares.append(found.known_refused)
        more += found.known_refused * 60 > rejection.most_refused(60, found.rejection)
    assert 0.6 * share < np.mean(shares) <= share + 3 * np.std(shares) / np.sqrt(100)
    assert more <= 1  # one in a thousand is expected


def test_the_most_that_chance_explains_is_that_of_the_beta_binomial():
    rule = Rejection("margin", 0.0, None, 0.05, 99)
    assert rejection.most_refused(80, rule) == stats.betabinom(80, 5, 95).ppf(0.999)
    rule = replace(rule, fitted_on=25_000)  # more ways than a float can count
    for judged in (1000, 25_000):
        expected = stats.betabinom(judged, 1250, 23_751).ppf(0.999)
        assert rejection.most_refused(judged, rule) == pytest.approx(expected, abs=1)


def test_the_score_is_chosen_by_other_images_of_no_class_than_it_is_judged_by():
    known, unknown = logits(400, 6), logits(100, 6) - 4  # but for the energy, no score sees that
    found = rejection.fit(known, unknown, 0.05, 0)
    assert found.score == "energy" and found.unknown_judged_on == 50
    assert found.compared["energy"].unknown > 0.9 > 0.3 > found.compared["margin"].unknown
    judged = known[rejection.halves(400, 0.05, 0)[1]]
    others = unknown[rejection.judged_unknown(100, 0)]
    assert found.known_refused == found.rejection.rejects(judged).mean()
    assert found.unknown_refused == found.rejection.rejects(others).mean()
    assert rejection.RejectionFit.from_json(json.loads(json.dumps(found.as_json()))) == found
    assert "energy below" in str(found) and "of 50 of no class (probability" in str(found)
    # Those that it is judged by have two classes alike, which the margin sees and the energy not.
    unknown[rejection.judged_unknown(100, 0)] = np.where(np.arange(10) < 2, 5.0, 0.0)
    found = rejection.fit(known, unknown, 0.05, 0)
    assert found.score == "energy"
    assert found.compared["margin"].unknown > found.compared["energy"].unknown


def test_noise_that_is_taken_for_a_class_with_too_much_energy_is_refused():
    known = logits(400, 6)
    noise = known * 3  # more certain than any image of a class
    found = rejection.fit(known, noise, 0.05, 0)
    assert found.unknown_refused > 0.9
    assert found.known_refused * 200 <= rejection.most_refused(200, found.rejection)
    fitted = known[rejection.halves(400, 0.05, 0)[0]]
    assert certainty("energy", fitted).max() <= found.most_energy
    of_probabilities = rejection.fit(special.log_softmax(known, -1), None, 0.05, 0, ["probability"])
    assert of_probabilities.most_energy is None


def test_too_few_images_are_one_line_and_a_few_serve_twice():
    with pytest.raises(InputError, match=r"--reject 0.05 needs 19 validation images.*there are 18"):
        rejection.fit(logits(18, 3), None, 0.05, 0)
    found = rejection.fit(logits(30, 3), None, 0.05, 0)
    assert (found.fitted_on, found.judged_on, found.known_refused) == (30, 30, 0.0)
    assert not found.held_out and "of the same (too few) images" in str(found)
    assert found.most_energy is None and "30 images, too few for an upper limit of the" in str(
        found
    )
    assert "limit" not in str(rejection.fit(logits(78, 3), None, 0.05, 0))
    found = rejection.fit(logits(78, 3), logits(19, 0), 0.05, 0)  # a few of no class do, too
    assert (found.judged_on, found.unknown_judged_on, found.held_out) == (39, 19, False)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"reject": 5}, "--reject is 5; expected the share .* above 0 and at most 0.5"),
        ({"reject": 0.0}, "--reject is 0; expected"),
        ({"unknown": "x"}, "--unknown needs a threshold; add --reject"),
        ({"reject": 0.1, "unknown": "nowhere"}, "--unknown nowhere: no such folder"),
    ],
)
def test_wrong_options_are_one_line(trained, options, said):
    with pytest.raises(InputError, match=said):
        make_plan(trained, **options)


def test_a_contract_with_a_wrong_threshold_is_damaged(tmp_path):
    good = {"score": "margin", "threshold": 1.5, "most_energy": 9.0}
    good |= {"share": 0.05, "fitted_on": 40}
    path = tmp_path / "preprocess.json"
    path.write_text(json.dumps({"reject": good | {"known_refused": 0.04}}))
    assert read_contract(tmp_path).reject == Rejection(**good)
    wrong = {"score": "odds", "threshold": "1", "most_energy": [], "share": 2.0, "fitted_on": 0}
    for bad in (*({name: value} for name, value in wrong.items()), {"threshold": 10**400}):
        path.write_text(json.dumps({"reject": good | bad}))
        with pytest.raises(InputError, match="is damaged: reject is"):
            read_contract(tmp_path)


def test_probabilities_are_refused_as_a_file_gives_them():
    rule = Rejection("probability", 0.6, None, 0.05, 20)
    found = Contract("softmax", reject=rule).to_logits(np.array([[0.61, 0.41], [0.59, 0.3]]))
    assert Contract("softmax", reject=rule).rejects(found).tolist() == [False, True]


# Files and clients


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """A folder of 24 images of no class."""
    folder = tmp_path_factory.mktemp("noise")
    for i in range(24):
        pixels = RNG.integers(0, 256, (30, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    return folder


@pytest.fixture(scope="module")
def refusing(untouched, noise, tmp_path_factory):
    """A run whose files refuse, with bundles: (run, result)."""
    run = open_run(shutil.copytree(untouched, tmp_path_factory.mktemp("refusing") / "run"))
    return run, export(
        run, saved_model=False, tflite=["none", "int8"], calibration=20, reject=0.25,
        unknown=noise, bundles=["python", "web", "android", "c"], max_drop=50,
    )  # fmt: skip


@pytest.fixture
def copy(refusing, tmp_path):
    return open_run(shutil.copytree(refusing[0].path, tmp_path / "run"))


def rule_of(run):
    return json.loads((run.export_folder / "preprocess.json").read_text())["reject"]


def test_the_threshold_and_the_rates_are_in_every_report(refusing):
    run, result = refusing
    rule = rule_of(run)
    assert rule == result.rejection.as_json()
    assert {"score", "threshold", "share", "known_refused", "unknown_refused"} <= rule.keys()
    assert json.loads((run.export_folder / "verify.json").read_text())["rejection"] == rule
    assert (result.keras.known_refused, result.keras.unknown_refused) == (
        rule["known_refused"], rule["unknown_refused"],
    )  # fmt: skip
    table, card = tables.verification(result), (run.export_folder / "card.md").read_text()
    for row in result.artefacts:
        assert row.passed and 0 <= row.known_refused <= 1 and 0 <= row.unknown_refused <= 1
        embedded = metadata.read(run.export_folder / row.file)
        assert json.loads(embedded["files"]["preprocess.json"])["reject"] == rule
        (scores,) = embedded["subgraph_metadata"][0]["output_tensor_metadata"]
        assert (
            f"None of these: {rule['score']} below {rule['threshold']:g}" in scores["description"]
        )
        assert f"| `{row.file}` | {row.known_refused:.1%} | {row.unknown_refused:.1%} |" in card
    assert f"none of these: {rule['score']} below" in table


def test_a_file_of_integers_has_room_for_the_energy_of_noise(untouched, tmp_path):
    run = open_run(shutil.copytree(untouched, tmp_path / "run"))
    export(run, saved_model=False, tflite=["int8"], calibration=20, reject=0.45, max_drop=100)
    model = flatbuffer_utils.read_model(str(run.export_folder / "model_int8.tflite"))
    tensors = model.subgraphs[0].tensors
    (logits,) = (t for t in tensors if t.name == b"StatefulPartitionedCall:01")
    (scale,), (zero,) = logits.quantization.scale, logits.quantization.zeroPoint
    assert scale * (127 - zero) > rule_of(run)["most_energy"] + 0.1


@pytest.mark.parametrize(("found", "is_warned"), [(0.85, False), (0.79, True), (None, False)])
def test_a_file_that_refuses_far_fewer_images_of_no_class_is_warned_of(
    refusing, monkeypatch, capsys, found, is_warned
):
    run, result = refusing
    keras = replace(result.keras, unknown_refused=None if found is None else 0.9)
    row = replace(result.artefacts[-1], unknown_refused=found)
    judge = SimpleNamespace(row=lambda *_: row, keras=keras, limits=Limits(), examples=range(9),
                            rejects=False)  # fmt: skip
    monkeypatch.setattr(gate.manifest, "read", lambda _: {})
    gate.check(run.export_folder, [SimpleNamespace(name=row.file)], judge)
    said = 'answers 79.0% of the images of no class with "none of these", the Keras model 90.0%'
    assert (said in capsys.readouterr().err) is is_warned


def test_a_file_alone_refuses_the_same_by_what_is_inside_it(refusing, noise, tmp_path):
    exported = refusing[0].export_folder / "model_int8.tflite"
    alone = open_artefact(shutil.copy(exported, tmp_path / "alone.tflite"))
    beside = open_artefact(exported)
    assert (alone.contract, alone.classes) == (beside.contract, beside.classes)
    assert (alone.geometry, alone.center_crop) == (beside.geometry, beside.center_crop)
    files = (alone.path, exported)
    found, expected = ([row.rejected for row in predict(file, [noise])] for file in files)
    assert found == expected and any(found)
    (tmp_path / "labels.txt").write_text("x\ny\nz\n")  # one's own names, and what is inside
    renamed = open_artefact(alone.path)
    assert (renamed.contract, renamed.classes) == (beside.contract, ["x", "y", "z"])


def test_images_of_no_class_without_a_threshold_are_refused(exported, noise):
    with pytest.raises(
        InputError, match="--unknown needs a threshold, but the exported files have"
    ):
        gate.verify(exported[0], unknown=noise)


def test_verify_counts_unknown_images_again_where_it_has_them(refusing, noise):
    run, result = refusing
    assert [row.unknown_refused for row in gate.verify(run).artefacts] == [None, None]
    again = gate.verify(run, unknown=noise)
    assert again.passed and again.keras == result.keras
    for one, other in zip(again.artefacts, result.artefacts, strict=True):
        assert one.known_refused == other.known_refused
        assert one.unknown_refused == other.unknown_refused


def change_threshold(run, threshold):
    path = run.export_folder / "preprocess.json"
    content = json.loads(path.read_text())
    content["reject"]["threshold"] = threshold
    path.write_text(json.dumps(content))
    return path


def allow(run, path):
    """Gives a changed file its row in the manifest."""
    manifest = run.export_folder / "manifest.json"
    rows = json.loads(manifest.read_text()) | {path.name: fingerprint(path)}
    manifest.write_text(json.dumps(rows))


def test_a_changed_threshold_fails(copy):
    change_threshold(copy, rule_of(copy)["threshold"] - 0.01)
    result = gate.verify(copy)
    failed = {row.file: row.why for row in result.files if not row.passed}
    assert "changed since it was exported" in failed["preprocess.json"]
    assert not result.passed and result.rejection is None


def test_a_damaged_rule_is_one_line(copy):
    path = copy.export_folder / "preprocess.json"
    content = json.loads(path.read_text())
    del content["reject"]["compared"]
    path.write_text(json.dumps(content))
    allow(copy, path)
    failed = {row.file: row.why for row in gate.verify(copy).files if not row.passed}
    assert "preprocess.json is damaged: reject is" in failed["preprocess.json"]


def test_a_file_that_refuses_more_than_chance_explains_fails(copy, monkeypatch):
    """Of six images, no number is beyond chance at the usual risk."""
    monkeypatch.setattr(rejection, "_ONCE_IN", 20)
    assert gate.verify(copy).passed
    allow(copy, change_threshold(copy, 1000.0))
    result = gate.verify(copy)
    assert not any(row.passed for row in result.artefacts)
    said = 'answers 6 of 6 images of known classes with "none of these" (100.0%); allowed: 25.0%'
    assert said in result.artefacts[0].why


def test_a_file_with_another_threshold_does_not_stay_beside_a_new_one(copy):
    with pytest.raises(InputError, match="whose --reject differs from that of this command"):
        export(copy, saved_model=False, tflite=["none"], reject=0.4)
    (copy.export_folder / "preprocess.json").write_text("{")
    step = f"is not JSON .*; to export everything again, delete {copy.export_folder}"
    with pytest.raises(InputError, match=step):
        export(copy, saved_model=False, tflite=["none"])


def test_predict_and_evaluate_say_what_is_refused(copy, noise, photos, accept):
    file = copy.export_folder / "model_int8.tflite"
    images = [*sorted(noise.iterdir())[:4], photos / "dark" / "01.jpg"]
    rule = Contract(reject=read_contract(copy.export_folder).reject)
    rows = predict(file, images)
    assert [row.rejected for row in rows] == [row.as_json()["rejected"] for row in rows]
    scores = evaluate(file)
    assert scores.rejected == scores.as_json()["rejected"]
    assert f"none of these: {scores.rejected} image" in tables.evaluation(scores)
    unlimited = evaluate(copy.path)
    assert "rejected" not in unlimited.as_json()
    assert "rejected" not in to_csv(unlimited.rows)
    assert "rejected" not in predict(copy.path, images[-1:])[0].as_json()

    change_threshold(copy, 1000.0)  # refuses everything
    accept(copy.export_folder, "preprocess.json")
    rows = predict(file, images)
    assert rule.reject and all(row.rejected is True for row in rows)
    last = tables.predictions(rows).splitlines()[-1]
    assert "01.jpg  " in last and last.endswith("  none of these")
    head, first, *_ = tables.predictions_csv(rows).splitlines()
    assert head == "image,rank,label,score,rejected" and first.endswith(",true")
    scores = evaluate(file)
    assert scores.rejected == 12
    head, *lines = to_csv(scores.rows).splitlines()
    assert head.endswith(",rejected") and all(line.endswith(",yes") for line in lines)


def golden_of(run):
    return json.loads((run.export_folder / "golden" / "golden.json").read_text())


def test_the_golden_set_says_what_is_refused_where_that_is_beyond_doubt(refusing):
    run, _ = refusing
    index, rule = golden_of(run), read_contract(run.export_folder)
    for entry in index["images"]:
        for name, found in entry["logits"].items():
            found = np.array([found])
            sure = rule.reject.is_decided(found, index["tolerance"][name])[0]
            assert entry["rejected"][name] == (bool(rule.rejects(found)[0]) if sure else None)


def test_images_that_are_surely_refused_are_in_it(refusing):
    from keras_resnet.evaluation.artefact import open_artefact

    run, _ = refusing
    val = run.examples("val")
    refused = np.isin(np.arange(len(val)), [1, 4, 7])
    judge = SimpleNamespace(
        examples=val, is_clear=lambda: np.ones(len(val), bool), is_refused=lambda: refused
    )
    chosen, _, _ = golden._choose(open_artefact(run), judge, 0)
    assert len(chosen) == golden.IMAGES
    assert {*chosen.names[-2:]} <= {val.names[i] for i in (1, 4, 7)}


@pytest.fixture(scope="module")
def cases():
    """Logits, and rules with the logits that they refuse."""
    found = logits(40, 2, classes=5).astype(np.float32)
    most = float(np.quantile(certainty("energy", found), 0.8))
    rules = [
        Rejection(score, float(np.quantile(certainty(score, found), 0.4)), limit, 0.05, 20)
        for score in REJECTION_SCORES
        for limit in (None, most)
    ]
    return found, [(rule, rule.rejects(found).tolist()) for rule in rules]


def test_the_python_bundle_refuses_the_same(refusing, cases):
    folder = refusing[0].export_folder / "bundle_python"
    spec = importlib.util.spec_from_file_location("bundled_refusing", folder / "classify.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    classifier = module.Classifier()
    assert classifier.reject == rule_of(refusing[0]) and module.check(classifier) == 0
    found, rules = cases
    for rule, expected in rules:
        classifier.reject = vars(rule)
        assert [bool(classifier.rejects(row)) for row in found] == expected
    classifier.reject = {"score": "margin", "threshold": 1000.0, "most_energy": None}
    assert classifier.classify(Image.new("RGB", (30, 30))) == []
    assert module.check(classifier) > 0  # another rule than the golden set's
    classifier.reject = None
    assert len(classifier.classify(Image.new("RGB", (30, 30)), top=2)) == 2


@pytest.mark.skipif(shutil.which("node") is None, reason="no node")
def test_the_page_refuses_the_same(refusing, cases, tmp_path):
    found, rules = cases
    module = (refusing[0].export_folder / "bundle_web" / "reject.js").as_uri()
    code = f"""
const {{rejects}} = await import({json.dumps(module)});
const rules = {json.dumps([vars(rule) for rule, _ in rules])};
const answers = rules.map((rule) =>
  {json.dumps(found.tolist())}.map((row) => rejects(Float32Array.from(row), rule)));
console.log(JSON.stringify([...answers, rejects([1, 2], undefined)]));
"""
    (tmp_path / "run.mjs").write_text(code)
    done = subprocess.run(["node", "run.mjs"], cwd=tmp_path, capture_output=True, text=True)
    assert json.loads(done.stdout) == [*(expected for _, expected in rules), False]


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
def test_the_c_bundle_refuses_the_same(refusing, cases, tmp_path):
    import ai_edge_litert

    found, rules = cases
    home = refusing[0].export_folder / "bundle_c"
    table = ", ".join(f"{{{', '.join(map(repr, row))}}}" for row in found.tolist())
    (tmp_path / "run.c").write_text(
        f'#define main bundled_main\n#include "classify.c"\n#undef main\n'
        f"static float rows[][CLASSES] = {{{table}}};\n"
        f"int main(void) {{ for (int i = 0; i < {len(found)}; i++) "
        'printf("%d", rejects(rows[i])); return 0; }\n'
    )
    for name in ("classify.c", "image.h", "image.c", "litert.h"):
        shutil.copyfile(home / name, tmp_path / name)
    library = next(Path(ai_edge_litert.__path__[0]).glob("libLiteRt.so"))
    for rule, expected in [*rules, (None, [False] * 40)]:
        values = {"height": 24, "width": 24, "channels": 3, "fit_c": "CROP", "center_crop": 1.0}
        values["classes"] = 5
        values |= bundling._rejection_values(rule and vars(rule))
        templates.copy(
            "c", tmp_path / "c", values | dict.fromkeys(("network", "file", "sha256", "origin"), "")
        )
        shutil.copyfile(tmp_path / "c" / "contract.h", tmp_path / "contract.h")
        command = ["gcc", "run.c", "image.c", library, "-lm", f"-Wl,-rpath,{library.parent}"]
        subprocess.run([*command, "-o", "run"], cwd=tmp_path, check=True)
        done = subprocess.run(["./run"], cwd=tmp_path, capture_output=True, text=True)
        assert done.stdout == "".join(str(int(one)) for one in expected), rule


def test_the_app_has_the_rule_as_constants(refusing):
    run, _ = refusing
    rule, app = rule_of(run), run.export_folder / "bundle_android" / "app" / "src"
    source = next((app / "main").rglob("Contract.kt")).read_text()
    assert f'const val REJECT_SCORE = "{rule["score"]}"' in source
    assert f"const val REJECT_THRESHOLD = {float(rule['threshold'])}\n" in source
    most = 1e30 if rule["most_energy"] is None else rule["most_energy"]
    assert f"const val REJECT_MOST_ENERGY = {float(most)}\n" in source
    lines = next(app.rglob("golden.txt")).read_text().splitlines()[1:]
    numbers = {True: "1", False: "0", None: "-1"}
    name = "model_int8.tflite"
    assert [line.split()[2] for line in lines] == [
        numbers[entry["rejected"][name]] for entry in golden_of(run)["images"]
    ]
