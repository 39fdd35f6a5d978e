"""`export --trainable head`: a file that learns new classes, and a gate that refuses one that does
not."""

import json
import re
import runpy
import shutil
from importlib.resources import files

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from PIL import Image

from keras_resnet import open_run
from keras_resnet.cli import tables
from keras_resnet.data.stream import images_of
from keras_resnet.errors import InputError
from keras_resnet.evaluation.artefact import open_artefact
from keras_resnet.evaluation.trainable import NEVER, PASSES, SPARE, Trainable
from keras_resnet.exporting import teaching, trainable
from keras_resnet.exporting.exporter import export
from keras_resnet.exporting.gate import verify
from keras_resnet.exporting.judge import Judge
from keras_resnet.exporting.plan import Limits, make_plan
from keras_resnet.filenames import TFLITE, TRAINABLE
from keras_resnet.inspection import metadata, tflite_file

OP = schema.BuiltinOperator


@pytest.fixture(scope="module")
def made(tmp_path_factory, untouched):
    """A run with the trainable file and bundles of it: (run, result of the gate)."""
    run = open_run(shutil.copytree(untouched, tmp_path_factory.mktemp("trainable") / "run"))
    result = export(
        run, saved_model=False, tflite=[], trainable="head", max_drop=100,
        bundles=["python", "web", "android"],
    )  # fmt: skip
    return run, result


@pytest.fixture(scope="module")
def path(made):
    return made[0].export_folder / TRAINABLE


@pytest.fixture(scope="module")
def known(made):
    """The validation images, uint8 `(n, h, w, c)`."""
    run = made[0]
    config = run.config
    return images_of(run.examples("val"), size=config.geometry, crop=config.center_crop)


@pytest.fixture(scope="module")
def judge(made):
    run = made[0]
    opened = open_artefact(run)
    plan = make_plan(run)
    return Judge(opened, run.examples("val"), plan.contract, Limits(max_drop=100))


def test_it_has_four_signatures_of_built_in_operators(path):
    found = tflite_file.census(path)
    assert {name: s.inputs for name, s in found.signatures.items()} == {
        "infer": ["image"], "train": ["features", "label"], "save": [],
        "restore": ["bias", "weights"],
    }  # fmt: skip
    assert not any(name.startswith(("CUSTOM", "Flex")) for name in found.ops)
    assert tflite_file.faults(path) == []


def test_the_gate_teaches_it_a_new_class(made):
    run, result = made
    (row,) = result.artefacts
    assert row.passed and row.file == TRAINABLE and row.agreement == 1
    assert row.new_class_top1 == 1 and row.known_drop_points == 0
    said = f"{TRAINABLE}: learned a new class from 20 images; recognizes 100% of 20 others"
    assert said in tables.verification(result)
    again = verify(run, max_drop=100)
    assert again.passed and again.artefacts[0].new_class_top1 == 1


def test_it_is_a_classifier_of_the_known_classes_like_any_other_file(made, path, known):
    opened, run = open_artefact(path), open_artefact(made[0])
    logits = opened.predict(known)
    assert logits.shape == (len(known), 3) and opened.classes == run.classes
    assert np.abs(logits - run.predict(known)).max() < 1e-3


def test_spare_outputs_are_never_given_before_they_are_trained(path, known):
    logits, _ = Trainable(path).infer(known)
    assert logits.shape[1] == 3 + SPARE and (logits[:, 3:] == NEVER).all()


def test_it_learns_two_classes_one_after_the_other_and_keeps_the_known_ones(path, known):
    file = Trainable(path)
    before, _ = file.infer(known)
    mosaics = teaching.mosaics(known.shape[1:])
    blue = (mosaics * [0, 0, 1]).astype(np.uint8)
    _, features = file.infer(np.concatenate([mosaics[:20], blue[:20]]))
    losses = file.teach(features[:20], [0] * 20)
    assert losses[-1] < losses[0] / 2
    assert (file.infer(blue[20:])[0][:, 4:] == NEVER).all()
    file.teach(features, [0] * 20 + [1] * 20)
    assert (file.infer(mosaics[20:])[0].argmax(-1) == 3).mean() > 0.9
    assert (file.infer(blue[20:])[0].argmax(-1) == 4).mean() > 0.9
    after, _ = file.infer(known)
    assert np.array_equal(after[:, :3], before[:, :3])
    assert (after.argmax(-1) == before.argmax(-1)).all()


def test_what_it_learned_is_restored_also_before_anything_else_is_run(path, known):
    file, again = Trainable(path), Trainable(path)
    mosaics = teaching.mosaics(known.shape[1:])
    file.teach(file.infer(mosaics[:20])[1], [2] * 20)
    head = file.save()
    assert again.restore(head) == 1
    assert np.array_equal(again.infer(mosaics[20:])[0], file.infer(mosaics[20:])[0])
    assert sum(values.nbytes for values in head.values()) < 3000


def test_its_metadata_describe_the_outputs_of_infer(path):
    content = metadata.read(path)
    outputs = content["subgraph_metadata"][0]["output_tensor_metadata"]
    assert [output["name"] for output in outputs] == ["logits", "features"]
    assert f"The last {SPARE} are for new classes that the file learns" in outputs[0]["description"]
    shown = tables.census(tflite_file.census(path), content)
    assert "signature train: features, label → loss" in shown and "labels" in shown


@pytest.mark.parametrize("features", [40, 600])  # 600 are reduced
def test_features_are_whitened_alike_if_they_are_off_by_rounding(features):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(60, 30)) @ rng.normal(size=(30, features))  # 30 directions
    others = rng.normal(size=(9, features))
    projection, again = (
        trainable.whitening(spread - spread.mean(0))
        for spread in (values, values * (1 + 1e-7 * rng.normal(size=values.shape)))
    )
    assert projection.shape == (features, 40 if features == 40 else 30)
    products = (others @ projection) @ (others @ projection).T
    assert np.allclose(products, (others @ again) @ (others @ again).T, rtol=1e-4, atol=1e-3)
    whitened = (values - values.mean(0)) @ projection
    assert np.square(whitened).sum(-1).mean() == pytest.approx(1)


def test_the_directions_that_vary_most_are_kept():
    spread = np.diag(np.linspace(2, 1, 300))
    projection = trainable.whitening(spread - spread.mean(0))
    kept = np.linalg.norm(projection, axis=1)  # of each feature
    assert projection.shape == (300, 256)
    assert kept[:200].min() > 2 * kept[-20:].max()


# Damage to a signature, by changes to the flatbuffer


def graph_of(model, key):
    index = next(s.subgraphIndex for s in model.signatureDefs if s.signatureKey == key)
    return model.subgraphs[index]


def operators(model, graph, code):
    return [op for op in graph.operators if model.operatorCodes[op.opcodeIndex].builtinCode == code]


def zero_stored_features(model):
    buffers = [model.buffers[tensor.buffer] for tensor in graph_of(model, b"train").tensors]
    largest = max((b for b in buffers if b.data is not None), key=lambda b: len(b.data))
    largest.data = np.zeros(len(largest.data), np.uint8)


def learn_nothing(model):
    graph = graph_of(model, b"train")
    assignments = operators(model, graph, OP.ASSIGN_VARIABLE)
    graph.operators = [op for op in graph.operators if op not in assignments]


def climb(model):
    """The gradient is added instead of subtracted."""
    graph = graph_of(model, b"train")
    matmul, *_ = operators(model, graph, OP.BATCH_MATMUL)
    step = next(op for op in graph.operators if matmul.outputs[0] in op.inputs)
    step.inputs = [step.inputs[1], step.inputs[0]]


def restore_nothing(model):
    graph = graph_of(model, b"restore")
    assignments = operators(model, graph, OP.ASSIGN_VARIABLE)
    graph.operators = [op for op in graph.operators if op not in assignments]


def start_with_new_classes(model):
    """The bias begins with 0."""
    for buffer in model.buffers:
        data = None if buffer.data is None else np.asarray(buffer.data, np.uint8)
        if data is not None and data.tobytes() == np.full(SPARE, NEVER, np.float32).tobytes():
            buffer.data = np.zeros(len(data), np.uint8)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (zero_stored_features, "from those of the same training in NumPy"),
        (learn_nothing, "recognizes 0% of the images of a class that it learned"),
        (climb, "from those of the same training in NumPy"),
        (restore_nothing, "does not restore what it saved"),
        (start_with_new_classes, "has a class that it was not trained on"),
        (None, ""),
    ],
)
def test_the_gate_refuses_a_file_with_a_damaged_signature(path, judge, tmp_path, damage, said):
    model = flatbuffer_utils.read_model(str(path))
    if damage:
        damage(model)
    other = tmp_path / TRAINABLE
    other.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
    row = judge.row(judge.file(other))
    assert said in row.why and row.passed == (not said), row.why


def test_a_file_that_takes_known_images_for_the_new_class_is_refused(path, judge, known):
    """Known ones that look like it."""
    mosaics = teaching.mosaics(known.shape[1:])[: teaching.PHOTOS]
    labels = Trainable(path).infer(mosaics)[0].argmax(-1)
    expected = judge.head.features(*trainable.pooled_and_logits(judge._model, mosaics))
    files = Trainable(path), Trainable(path)
    taught = teaching.teach(*files, judge.head, mosaics, labels, (expected, expected), 1.0)
    assert taught.drop_points > 90 and taught.recognized > 0.9
    (reason,) = taught.reasons
    assert "points lower after it learned a new one (allowed: 1)" in reason


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"trainable": "body"}, "--trainable body: use head"),
        ({"scores": "softmax"}, "leave --scores, --top and --input-size out"),
        ({"tflite": [], "bundles": ["c"]}, "--bundle c needs a .tflite file"),
    ],
)
def test_wrong_options_are_refused(trained, tmp_path, options, said):
    usual = {"saved_model": False, "trainable": "head", "output": tmp_path}
    with pytest.raises(InputError, match=said):
        make_plan(trained, **{**usual, **options})


# The Python bundle


@pytest.fixture
def bundle(made, tmp_path):
    """A copy of bundle_python, with images of a new class in new/."""
    home = shutil.copytree(made[0].export_folder / "bundle_python", tmp_path / "bundle")
    (home / "new").mkdir()
    for i, pixels in enumerate(teaching.mosaics((48, 48, 3))):
        Image.fromarray(pixels).save(home / "new" / f"{i:02d}.png")
    return home


def answers(classify, home, images):
    done = classify(home, "--top", 1, *images)
    assert done.returncode == 0, done.stderr
    return [line.split()[1] for line in done.stdout.splitlines()]


def test_the_python_bundle_learns_a_class_keeps_it_and_forgets_it(classify, bundle, photos):
    new, known = sorted((bundle / "new").iterdir()), sorted((photos / "dark").iterdir())[:5]
    done = classify(bundle, "--teach", "mosaic", *new[:20])
    assert done.stdout == "learned mosaic from 20 images; recognizes 20 of them\n", done.stderr
    assert answers(classify, bundle, [*new[20:], *known]) == ["mosaic"] * 20 + ["dark"] * 5
    done = classify(bundle, "--check")
    assert done.stdout.startswith("12 of 12 images as expected"), done.stderr
    (bundle / "taught.json").write_text('{"model": ')
    done = classify(bundle, new[0])
    assert done.returncode == 1 and "taught.json is damaged; --forget deletes it" in done.stderr
    assert "Traceback" not in done.stderr
    assert classify(bundle, "--forget").stdout == "forgot the new classes\n"
    assert classify(bundle, "--forget").stdout == "there are no new classes to forget\n"
    assert "mosaic" not in answers(classify, bundle, new)


def test_the_python_bundle_ignores_what_another_model_learned(classify, bundle):
    images = sorted((bundle / "new").iterdir())
    classify(bundle, "--teach", "mosaic", *images[:20])
    taught = json.loads((bundle / "taught.json").read_text())
    (bundle / "taught.json").write_text(json.dumps({**taught, "model": "another"}))
    assert "mosaic" not in answers(classify, bundle, images)


def test_the_python_bundle_does_not_learn_a_class_that_the_model_knows(classify, bundle):
    done = classify(bundle, "--teach", "dark", bundle / "new" / "00.png")
    assert done.returncode == 2 and "the model already knows dark" in done.stderr
    done = classify(bundle, "--teach", "new", bundle / "new" / "00.png", "nope.jpg")
    assert done.returncode == 2 and "nope.jpg: No such file" in done.stderr
    assert not (bundle / "taught.json").exists()


def test_a_class_whose_photos_cannot_be_read_is_not_listed(bundle):
    """In a program that continues after the error."""
    classifier = runpy.run_path(str(bundle / "classify.py"))["Classifier"]()
    path = bundle / "new" / "00.png"
    path.write_bytes(path.read_bytes()[:300])
    with Image.open(path) as image, pytest.raises(OSError, match="truncated"):
        classifier.teach("mosaic", [image])
    assert classifier.labels == (bundle / "labels.txt").read_text().split()


def test_a_file_that_is_not_trainable_says_so(classify, exported, tmp_path):
    home = shutil.copytree(
        files("keras_resnet.exporting") / "bundles" / "python", tmp_path / "bundle"
    )
    for name in ("labels.txt", "preprocess.json"):
        shutil.copyfile(exported[0].export_folder / name, home / name)
    shutil.copyfile(exported[0].export_folder / TFLITE["none"], home / "model.tflite")
    photo = exported[0].export_folder / "golden" / "00.png"
    done = classify(home, "--teach", "new", photo)
    assert done.returncode == 2 and "--trainable head" in done.stderr
    done = classify(home, "--teach", "new")
    assert done.returncode == 2 and "--teach new: give about 20 images of" in done.stderr


def test_all_apps_train_as_often(made):
    homes = [made[0].export_folder / f"bundle_{kind}" for kind in ("python", "web", "android")]
    passes = [
        re.search(r"\bPASSES = (\d+)", path.read_text())
        for home in homes
        for path in home.rglob("*")
        if path.name in ("classify.py", "learn.js", "Contract.kt")
    ]
    assert [int(found[1]) for found in passes] == [PASSES] * 3
