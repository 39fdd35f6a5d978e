"""`explain`: each number is checked against an identity or another computation."""

import csv
import json
import math
import shutil
from dataclasses import astuple, replace
from itertools import product
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_resnet as kr
from keras_resnet import blocks, specs
from keras_resnet.cli import tables
from keras_resnet.errors import InputError
from keras_resnet.explain import cam, gradients, lesion, paths
from keras_resnet.explain.depth import _row, depth
from keras_resnet.explain.flow import Flow, add
from keras_resnet.explain.subject import Subject, open_subject
from keras_resnet.messages import some_of
from keras_resnet.models import resnet
from keras_resnet.run import open_run


def _batch(side, count=4, classes=10):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, side, side, 3)).astype(np.uint8)
    return images, rng.integers(0, classes, count)


def _network(name, side, **options):
    keras.utils.set_random_seed(1)
    if name == "mlp":
        return kr.residual_mlp((side, side, 3), units=(12, 12, 8), zero_last=False)
    if name == "keras.applications":
        return keras.applications.ResNet50(
            weights=None, input_shape=(side, side, 3), classes=10, classifier_activation=None
        )
    spec = specs.SPECS[name]
    if spec.blocks == (3, 4, 6, 3):  # whole it takes four times as long, and has no other blocks
        spec = replace(spec, blocks=(2, 2), filters=spec.filters[:2])
    return resnet(spec, 10, (side, side, 3), zero_gamma=False, **options)


NETWORKS = {
    # basic blocks with padded and with projected shortcuts, bottlenecks, pre-activation of both
    # kinds, pooled shortcuts, squeeze-and-excitation, dense blocks, and a network that is not ours
    "resnet8": (16, 3),
    "resnet20_b": (8, 9),
    "resnet50": (32, 4),
    "resnet18_v2": (32, 8),
    "wrn16_4": (8, 6),
    "resnet50d": (32, 4),
    "resnetrs50": (32, 4),
    "mlp": (4, 3),
    "keras.applications": (32, 16),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_identity_and_branch_add_up_to_what_reaches_the_block(name):
    side, count = NETWORKS[name]
    model = _network(name, side)
    found = gradients.gradients(model, *_batch(side))
    assert len(found.blocks) == count
    assert found.relative_error < 1e-5
    for block in found.blocks:
        assert block.identity_norm > 0 and block.branch_norm > 0
        # the law of cosines, from four numbers that were computed apart
        squared = block.identity_norm**2 + block.branch_norm**2
        squared += 2 * block.cosine * block.identity_norm * block.branch_norm
        assert block.total_norm**2 == pytest.approx(squared, rel=1e-4)
        if block.kind == "identity":
            assert block.identity_norm == block.sum_norm


def test_the_kinds_of_shortcut_are_found_without_names():
    found = gradients.gradients(_network("resnet20_b", 8), *_batch(8))
    assert [b.kind for b in found.blocks].count("projection") == 2
    assert found.blocks[3].kind == "projection"
    assert found.blocks[0].name == "conv2_block1"


def _small_block(branch, filters, channels, shortcut):
    """One block between an input of its own and a head, in float64."""
    x = keras.Input((3, 3, channels), dtype="float64")
    build = kr.conv_block if shortcut else kr.identity_block
    options = {"strides": 1, "shortcut": shortcut} if shortcut else {}
    y = build(x, branch, filters=filters, name="conv2_block1", zero_gamma=False, **options)
    y = keras.layers.GlobalAveragePooling2D()(y)
    return keras.Model(x, keras.layers.Dense(3)(y))


@pytest.fixture
def float64():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize(
    ("branch", "filters", "channels", "shortcut"),
    [
        ("basic", 2, 2, None),
        ("bottleneck", 1, 4, None),
        ("preact_basic", 2, 2, None),
        ("basic", 3, 2, "projection"),
    ],
)
@pytest.mark.usefixtures("float64")
def test_the_terms_are_those_of_finite_differences(branch, filters, channels, shortcut):
    """Each entry of x is moved by itself: in both paths, in the shortcut, in the branch."""
    keras.utils.set_random_seed(2)
    model = _small_block(branch, filters, channels, shortcut)
    rng = np.random.default_rng(3)
    x, labels = rng.normal(size=(2, 3, 3, channels)), np.array([0, 2])
    terms = keras.Model(model.input, model.get_layer("conv2_block1_add").input)
    after = keras.Model(model.get_layer("conv2_block1_add").output, model.output)

    @tf.function
    def losses(shortcuts, branches):
        def loss(pair):
            h = terms(pair[0], training=True)[0] + terms(pair[1], training=True)[1]
            logits = after(h, training=True)
            return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))

        return tf.map_fn(loss, (shortcuts, branches), fn_output_signature=tf.float64)

    def slopes(in_shortcut, in_branch, step=1e-5):
        moved = step * np.eye(x.size).reshape(x.size, *x.shape)
        ends = [
            losses(x + sign * in_shortcut * moved, x + sign * in_branch * moved).numpy()
            for sign in (1, -1)
        ]
        return (ends[0] - ends[1]) / (2 * step)

    both, identity, through = slopes(1, 1), slopes(1, 0), slopes(0, 1)
    (block,) = gradients.gradients(model, x, labels).blocks
    assert block.total_norm == pytest.approx(np.linalg.norm(both), rel=1e-6)
    assert block.identity_norm == pytest.approx(np.linalg.norm(identity), rel=1e-6)
    assert block.branch_norm == pytest.approx(np.linalg.norm(through), rel=1e-6)
    cosine = identity @ through / np.linalg.norm(identity) / np.linalg.norm(through)
    assert block.cosine == pytest.approx(cosine, abs=1e-6)


def test_a_fresh_network_with_branches_at_0_sends_all_through_the_shortcut():
    model = kr.build("resnet8", 10, (16, 16, 3))
    found = gradients.gradients(model, *_batch(16))
    for block in found.blocks:
        assert (block.branch_norm, block.ratio, block.cosine) == (0, 0, None)
        assert block.identity_norm == block.total_norm > 0
    assert "every branch is 0" in tables.gradients(found)
    other = replace(found, blocks=[replace(found.blocks[0], branch_norm=0.1), *found.blocks[1:]])
    assert "every branch is 0" not in tables.gradients(other)


def test_the_networks_of_a_depth_have_their_own_kinds_and_seeds(monkeypatch):
    """The gradient is replaced by the options of its network."""

    def subject(name, data, *, seed, zero_gamma, **_):
        return SimpleNamespace(model=(name, zero_gamma, seed), images=None, labels=None)

    def forward(flow, *_):
        return None, None, None, SimpleNamespace(gradient=lambda loss, kernel: kernel)

    def flow(model):
        return SimpleNamespace(first_kernel=SimpleNamespace(value=model))

    monkeypatch.setattr(gradients, "open_subject", subject)
    monkeypatch.setattr(gradients, "Flow", flow)
    monkeypatch.setattr(gradients, "_forward", forward)
    monkeypatch.setattr(gradients, "norm", lambda gradient: gradient)
    rows = [astuple(row) for row in gradients.by_depth([20, 8], seeds=2)]
    assert rows == [
        (depth, kind, [(f"{name}{depth}", zero_gamma, seed) for seed in (0, 1)])
        for depth in (8, 20)
        for kind, name, zero_gamma in (
            ("plain", "plain", False),
            ("residual", "resnet", False),
            ("residual, branches from 0", "resnet", True),
        )
    ]


def test_a_plain_twin_has_no_identity_term():
    found = gradients.gradients(kr.build("plain8", 10, (16, 16, 3)), *_batch(16))
    assert found.relative_error is None
    for block in found.blocks:
        assert block.identity_norm is None
        assert block.branch_norm == block.total_norm > 0


@pytest.mark.parametrize("instrument", ["gradients", "parameters", "paths"])
def test_looking_changes_nothing(instrument):
    model = _network("resnet8", 16)
    before = model.get_weights()
    if instrument == "paths":
        paths.paths(model, *_batch(16), samples=1, batch_statistics=True)
    else:
        getattr(gradients, instrument)(model, *_batch(16))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_stochastic_depth_is_off_while_one_looks():
    found = gradients.gradients(_network("resnet8", 16, drop_path=0.8), *_batch(16))
    assert found.relative_error < 1e-5


def test_each_weight_is_trained_by_both_ways_and_none_is_skipped():
    model = _network("mlp", 4)
    rows = gradients.parameters(model, *_batch(4))
    assert [row.parameter for row in rows] == [v.path for v in model.trainable_variables]
    for row in rows:
        block = row.parameter.split("_")[0]
        following = {"stem": "block1", "block1": "block2", "block2": "block3"}.get(block)
        assert row.through == following
        assert row.total_norm > 0
        if following:
            assert row.identity_norm > 0 and row.branch_norm > 0
            assert row.relative_error < 1e-5
    terms = {"identity_norm", "branch_norm", "relative_error"}
    first, last = rows[0].as_json(), rows[-1].as_json()
    assert first.keys() == {"parameter", "through", "total_norm"} | terms
    assert last.keys() == first.keys() - terms


@pytest.mark.parametrize("name", ["resnet8", "resnet18_v2", "plain8", "mlp"])
def test_the_flow_with_plain_sums_is_the_network(name):
    side = 32 if name == "resnet18_v2" else 16
    model = _network(name, side)
    images, _ = _batch(side)
    logits = Flow(model).run(tf.cast(images, tf.float32), add)
    np.testing.assert_array_equal(logits, model(images))


def test_a_net_that_is_made_of_parts_is_looked_through(monkeypatch):
    monkeypatch.setattr("keras_resnet.models.PART", 2)
    model = _network("resnet20", 8)
    assert any(isinstance(layer, keras.Model) for layer in model.layers)
    found = gradients.gradients(model, *_batch(8))
    assert len(found.blocks) == 9
    assert found.relative_error < 1e-5


# Jacobians: of H, that of F and the identity


@pytest.mark.parametrize("branch", [*blocks.BRANCHES, "dense"])
def test_the_jacobian_of_a_block_is_that_of_its_branch_plus_the_identity(branch):
    keras.utils.set_random_seed(4)
    if branch == "dense":
        x = keras.Input((6,))
        model = keras.Model(x, kr.dense_identity_block(x, name="block1", zero_last=False))
    else:
        x = keras.Input((3, 3, 3 * blocks.BRANCHES[branch].expansion))
        model = keras.Model(
            x, kr.identity_block(x, branch, filters=3, name="block1", zero_gamma=False)
        )
    terms = keras.Model(x, [*model.get_layer("block1_add").input[1:],
                            model.get_layer("block1_add").output])  # fmt: skip
    point = tf.constant(np.random.default_rng(5).normal(size=(1, *x.shape[1:])), tf.float32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(point)
        f, h = terms(point)
    size = int(tf.size(point))
    of_f, of_h = (tf.reshape(tape.jacobian(y, point), (size, size)) for y in (f, h))
    assert np.abs(of_f).max() > 0.01
    np.testing.assert_allclose(of_h, of_f + np.eye(size), atol=2e-6)


# Paths


def test_all_paths_together_are_the_gradient():
    flow = Flow(_network("resnet8", 16))
    gradient = paths.along(flow, *_batch(16), batch_statistics=True)
    each = [gradient([a, b, c]) for a in (0, 1) for b in (0, 1) for c in (0, 1)]
    total = gradient(None).numpy()
    np.testing.assert_allclose(sum(g.numpy() for g in each), total, atol=1e-5 * abs(total).max())


def test_each_path_is_measured_once_if_there_are_few():
    model = _network("resnet8", 16)
    found = paths.paths(model, *_batch(16), samples=3, batch_statistics=True)
    gradient = paths.along(Flow(model), *_batch(16), batch_statistics=True)
    for row in found.lengths:
        takes = {tuple(t) for t in product((0, 1), repeat=3) if sum(t) == row.length}
        norms = [np.linalg.norm(gradient([*map(float, t)]).numpy()) for t in takes]
        assert row.gradient_norm == pytest.approx(np.mean(norms), rel=1e-4)
    carried = [math.comb(3, row.length) * row.gradient_norm for row in found.lengths]
    shares = [row.share_of_gradient for row in found.lengths]
    assert shares == pytest.approx([part / sum(carried) for part in carried])


def test_the_shares_of_the_lengths_are_those_of_the_binomial(monkeypatch):
    """With paths that all carry the same gradient."""
    monkeypatch.setattr(paths, "along", lambda *_, **__: lambda takes: tf.constant([3.0, 4.0]))
    found = paths.paths(_network("resnet20", 8), *_batch(8), samples=2)
    shares = [n / 512 for n in (1, 9, 36, 84, 126, 126, 84, 36, 9, 1)]
    assert [row.share_of_paths for row in found.lengths] == shares
    assert [row.share_of_gradient for row in found.lengths] == pytest.approx(shares)
    assert {row.gradient_norm for row in found.lengths} == {found.total_norm} == {5.0}
    # 2.5 % of the 512 paths are 12.8: 10 are shorter than 2, and 10 longer than 7.
    assert found.effective == paths.Effective(2, 7)


def test_each_random_path_passes_as_many_branches_as_its_length():
    chosen = np.stack([*paths._choose(np.random.default_rng(0), 9, 4, 50)])
    assert chosen.shape == (50, 9) and set(chosen.ravel()) == {0, 1}
    assert (chosen.sum(1) == 4).all() and (chosen.sum(0) > 0).all()


def test_branches_at_0_leave_one_path():
    found = paths.paths(
        kr.build("resnet8", 10, (16, 16, 3)), *_batch(16), samples=2, batch_statistics=True
    )
    assert [row.share_of_gradient for row in found.lengths] == [1, 0, 0, 0]
    assert found.lengths[0].gradient_norm == pytest.approx(found.total_norm)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_network_in_a_mixed_format_has_paths_and_lesions(photos, tmp_path, policy):
    """From a file that belongs to no run, on a folder without splits."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = kr.build("resnet8", 3, (24, 24, 3), zero_gamma=False)
        model.save(tmp_path / "mixed.keras")
    finally:
        keras.config.set_dtype_policy(before)
    found = paths.paths(model, *_batch(24, classes=3), batch_statistics=True)
    assert found.total_norm > 0
    for k, name in enumerate(("bright", "dark", "striped")):
        shutil.copytree(photos / name, tmp_path / "data" / str(k))
    found = lesion.lesion(tmp_path / "mixed.keras", tmp_path / "data", images=30)
    assert found.images == 30 and len(found.blocks) == 3


def test_a_gradient_of_0_has_no_shares():
    """As of a network that is certain of each label."""
    model = kr.build("resnet8", 2, (16, 16, 3))
    classifier = model.layers[-1]
    classifier.set_weights([0 * classifier.kernel.numpy(), np.array([1e4, -1e4])])
    with pytest.raises(InputError, match="gradient of 0 for the 2 images"):
        paths.paths(model, np.zeros((2, 16, 16, 3)), np.array([0, 0]))


def test_a_plain_net_has_no_paths_to_choose_from():
    with pytest.raises(InputError, match="plain8 has no shortcuts: it is one path of 3 blocks"):
        paths.paths(kr.build("plain8", 10, (16, 16, 3)), *_batch(16))


# Lesions


def test_a_lesion_is_the_network_built_without_the_block():
    keras.utils.set_random_seed(6)
    x = image = keras.Input((8, 8, 3))
    x = kr.conv_block(x, "basic", filters=8, name="conv2_block1", zero_gamma=False)
    y = kr.identity_block(x, "basic", filters=8, name="conv2_block2", zero_gamma=False)
    logits = keras.layers.Dense(3)
    pool = keras.layers.GlobalAveragePooling2D()
    whole = keras.Model(image, logits(pool(y)))
    without = keras.Model(image, logits(pool(x)))

    def join(block, x, shortcut, branch):
        return shortcut if block.name == "conv2_block2" else shortcut + branch

    images = tf.constant(_batch(8)[0], tf.float32)
    found = Flow(whole).run(images, join)
    np.testing.assert_allclose(found, without(images), rtol=1e-5)
    assert np.abs(found - whole(images)).max() > 1e-3


def test_what_is_scored_is_the_network_without_the_blocks():
    model = _network("resnet8", 16)
    flow, (images, _) = Flow(model), _batch(16, count=40)

    def join(block, x, shortcut, branch):
        return shortcut if block.name == "conv3_block1" else shortcut + branch

    # A fresh head can give one class to all noise; so biased, it tells the images apart.
    model.layers[-1].bias.assign(-tf.reduce_mean(model(images), 0))
    said = tf.argmax(flow.run(tf.constant(images, tf.float32), join), -1).numpy()
    top1 = lesion._scorer(flow, Subject(model, images, said, list("0123456789"), True))
    assert top1(np.array([1, 0, 1], np.float32)) == 1
    assert top1(np.array([1, 1, 1], np.float32)) < 1
    assert top1(np.array([0, 1, 1], np.float32)) < 1


def test_lesions_of_a_trained_run(trained):
    found = lesion.lesion(trained, images=12, sets=2)
    whole = kr.evaluate(trained).top1
    assert found.images == 12 and found.top1 == pytest.approx(whole)
    assert found.chance == 1 / 3
    assert [row.name for row in found.blocks][:2] == ["conv2_block1", "conv3_block1"]
    assert [row.removed for row in found.last] == [1, 2, 3]
    assert [len(row.top1) for row in found.random] == [2] * 3
    # all at once: as a set, and as the last three
    assert found.random[-1].top1 == [found.last[-1].top1] * 2
    assert found.last[0].top1 == found.blocks[-1].top1


def test_a_lesion_is_told_where_the_photos_are_now(command, untouched, photos, tmp_path):
    run = shutil.copytree(untouched, tmp_path / "run")
    open_run(run).save_data(tmp_path / "gone", None)
    (tmp_path / "now").symlink_to(photos)
    options = ["explain", "lesion", "run", "--images", 6, "--sets", 1, "--json"]
    done = command(*options, cwd=tmp_path)
    assert "gone" in done.stderr and "--data DIR (export, verify, explain lesion)" in done.stderr
    done = command(*options, "--data", "now", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"] == 6


def test_blocks_are_removed_one_by_one_and_from_the_last_on(trained, monkeypatch):
    """With a score that says which blocks are left."""
    monkeypatch.setattr(lesion, "_scorer", lambda *_: lambda keep: float(keep @ [1, 2, 4]))
    found = lesion.lesion(trained, images=12, sets=9)
    assert found.top1 == 7
    assert [row.top1 for row in found.blocks] == [6, 5, 3]
    assert [(row.removed, row.top1) for row in found.last] == [(1, 3), (2, 1), (3, 0)]
    assert {*found.random[0].top1} == {6, 5, 3} and {*found.random[1].top1} == {1, 2, 4}


def test_a_plain_block_is_replaced_by_its_input_where_the_shapes_allow(tmp_path):
    model = kr.build("plain20", 10, (8, 8, 3))
    assert [block.removable for block in Flow(model).blocks] == [
        True, True, True, False, True, True, False, True, True,
    ]  # fmt: skip


# Class activation maps


def test_a_map_is_the_class_activation_map_of_the_pooled_features(trained, photos):
    """With a global average pool and one dense layer, Grad-CAM is CAM: weights × features."""
    files = sorted(photos.rglob("*.jpg"))[:3]
    found = cam.cam(trained, files)
    model = trained.model()
    features = keras.Model(model.input, model.get_layer("avg_pool").input)
    kernel, _ = model.get_layer("logits").get_weights()
    said = kr.predict(trained.path, files, top=1)
    for row, expected in zip(found, said, strict=True):
        assert row.label == expected.predictions[0].label
        assert row.score == pytest.approx(expected.predictions[0].score, rel=1e-4)
        values = features(row.pixels[None].astype(np.float32))[0].numpy()
        expected = np.maximum(values @ kernel[:, trained.classes.index(row.label)], 0)
        expected = tf.image.resize(expected[..., None], row.map.shape)[..., 0].numpy()
        np.testing.assert_allclose(row.map, expected / expected.max(), atol=1e-4)


def test_a_broken_image_has_no_map_and_is_named(trained, photos, tmp_path, capsys):
    shutil.copy(sorted((photos / "dark").iterdir())[0], tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(b"GIF89a")
    (row,) = cam.cam(trained, tmp_path)
    assert row.image.endswith("a.jpg") and "b.jpg" in capsys.readouterr().err


def test_what_speaks_against_a_class_is_not_shown_as_support(trained, photos):
    files = [sorted((photos / name).iterdir())[0] for name in ("bright", "dark", "striped")]
    model = trained.model()
    features = keras.Model(model.input, model.get_layer("avg_pool").input)
    kernel, _ = model.get_layer("logits").get_weights()
    against = 0
    for number, label in enumerate(trained.classes):
        for row in cam.cam(trained, files, label=label):
            values = features(row.pixels[None].astype(np.float32))[0].numpy() @ kernel[:, number]
            if values.max() < 0:
                against += 1
                assert row.map.max() == 0
    assert against


def test_another_class_may_be_asked_for(trained, photos):
    (row,) = cam.cam(trained, [photos / "dark"][:1], label="bright")[:1]
    assert row.label == "bright" and row.score < 0.5
    with pytest.raises(
        InputError, match=r"--label is 'green'; expected a class of .*: bright, dark"
    ):
        cam.cam(trained, [photos], label="green")


def test_classes_that_a_message_leaves_out_are_shown_as_such():
    digits = [str(digit) for digit in range(10)]
    assert some_of(digits) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
    assert some_of([*digits, "ten"]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, …"


# The degradation experiment


def test_depth_trains_both_kinds_and_takes_finished_runs_as_they_are(photos, tmp_path, no_pictures):
    settings = {"epochs": 1, "batch_size": 24, "image_size": 8, "seed": 1}
    found = depth(str(photos), depths=[8], folder=tmp_path, **settings)
    assert [(row.depth, row.kind) for row in found.rows] == [(8, "plain"), (8, "resnet")]
    for row in found.rows:
        assert 0 <= row.training_error <= 1
    models = [tmp_path / name / "model.keras" for name in ("plain8", "resnet8")]
    before = [path.stat().st_mtime_ns for path in models]
    assert depth(str(photos), depths=[8], folder=tmp_path, **settings) == found
    assert [path.stat().st_mtime_ns for path in models] == before
    other = "was started with --epochs 1, not --epochs 2; give the same value or another --run$"
    with pytest.raises(InputError, match=other):
        depth(str(photos), depths=[8], folder=tmp_path, **{**settings, "epochs": 2})
    with pytest.raises(
        InputError, match=r"was started with DATA .*, not DATA digits; give the same"
    ):
        depth("digits", depths=[8], folder=tmp_path, **settings)
    shutil.rmtree(tmp_path / "resnet8")  # one that is added takes the data and settings of the rest
    again = depth(depths=[8], folder=tmp_path)
    assert [row.training_loss for row in again.rows] == [row.training_loss for row in found.rows]
    change = json.loads((tmp_path / "resnet8" / "config.json").read_text()) | {
        "label_smoothing": 0.2
    }
    (tmp_path / "resnet8" / "config.json").write_text(json.dumps(change))
    (tmp_path / "resnet8" / "manifest.json").write_text("{}")
    with pytest.raises(
        InputError, match=r"resnet8 has --label-smoothing 0.2, .*plain8 --label-smoothing 0.1;"
    ):
        depth(depths=[8], folder=tmp_path)


def test_the_errors_of_a_depth_are_those_of_the_last_epoch(trained):
    with open(trained.file("history.csv"), newline="") as file:
        first, _, last = csv.DictReader(file)
    row = _row(8, "resnet", trained)
    assert (row.training_loss, row.training_error, row.validation_error) == (
        float(last["loss"]), 1 - float(last["top1"]), 1 - float(last["val_top1"])
    )  # fmt: skip
    assert first["top1"] != last["top1"] != last["val_top1"]


def test_a_depth_without_a_plain_twin_is_refused():
    with pytest.raises(
        InputError, match="--depths has 50; networks with a plain counterpart have 8, 18, 20"
    ):
        specs.with_plain_counterparts(n for n in (20, 50))
    assert specs.with_plain_counterparts(n for n in (20, 56)) == {20, 56}


# As commands


def test_the_command_gives_the_fixed_keys(command, trained, tmp_path):
    picture = tmp_path / "g.png"
    done = command("explain", "gradients", trained.path, "--images", 6, "--json", "--png", picture)
    found = json.loads(done.stdout)
    assert picture.stat().st_size > 10_000
    for block in found["blocks"]:
        assert {"name", "identity_norm", "branch_norm", "ratio", "cosine", "relative_error"} <= set(
            block
        )
        assert block["relative_error"] < 1e-5
        assert block["branch_norm"] > 0  # it was trained


def test_gradients_are_those_of_the_class_numbers_of_the_run(trained):
    subject = open_subject(trained.path, images=9)
    assert subject.classes == trained.classes
    assert sorted(subject.labels) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


BAD = {
    "an unknown network": (["gradients", "resnet51"], "did you mean resnet5"),
    "no such run": (["lesion", "no/run"], "no artefact no/run"),
    "a depth that is a word": (["depth", "--depths", "deep"], "--depths is 'deep'"),
    "a depth without a twin": (
        ["depth", "--depths", "50"],
        "networks with a plain counterpart have",
    ),
    "a picture that is no PNG": (["paths", "resnet8", "--png", "a.gif"], "--png is 'a.gif'"),
    "no images": (["gradients", "resnet8", "--images", "0"], "--images is 0"),
    "a plain net's paths": (["paths", "plain8"], "plain8 has no shortcuts"),
    "more lesions than a picture holds": (["lesion", *"abcd", "--png", "a.png"], "at most"),
    "a map of no run": (["cam", "TYPO", "a.jpg"], "no run TYPO; give a run folder or a .keras"),
    "a map of a new network": (["cam", "resnet20", "a.jpg"], "no run resnet20; give a run folder"),
    "no epochs": (["depth", "--epochs", "0"], "--epochs is 0"),
    "a seed below 0": (["gradients", "resnet8", "--seed", "-1"], "--seed"),
    "no network per depth": (["gradients", "--depths", "8", "--seeds", "0"], "--seeds"),
}


@pytest.mark.parametrize(("arguments", "said"), BAD.values(), ids=BAD)
def test_bad_input_is_answered_in_one_line(command, arguments, said, tmp_path):
    done = command("explain", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_a_file_without_layers_is_refused(exported):
    path = exported[0].export_folder / "model_int8.tflite"
    with pytest.raises(InputError, match="has no Keras layers; give its run folder"):
        open_subject(path)


def test_a_size_below_zero_is_refused(command):
    done = command("explain", "gradients", "residual_mlp", "--image-size", -5)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    with pytest.raises(
        InputError, match="--image-size is -5; expected a whole number of at least 0"
    ):
        open_subject("residual_mlp", image_size=-5)


@pytest.mark.parametrize("option", ["--image-size=48", "--no-zero-gamma"])
def test_what_a_run_has_already_is_refused(command, trained, option):
    done = command("explain", "gradients", trained.path, option)
    name = option.partition("=")[0]
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{name} is for the name of a network; leave it out for {trained.path}" in done.stderr


@pytest.mark.parametrize(
    ("images", "labels", "told"),
    [
        (np.zeros((2, 8, 4, 3)), [0, 1], r"images is \(2, 8, 4, 3\); resnet8 takes \(None, 8, 8"),
        (np.zeros((8, 8, 3)), [0], r"images is \(8, 8, 3\); resnet8 takes"),
        (np.full((2, 8, 8, 3), np.nan), [0, 1], "images has values that are not finite"),
        (np.zeros((2, 8, 8, 3)), [0, 10], "labels has 10; expected classes from 0 to 9"),
        (np.zeros((2, 8, 8, 3)), [-1, 0], "labels has -1; expected classes from 0 to 9"),
        (np.zeros((2, 8, 8, 3)), [0], r"labels is int64 \(1,\); expected int \(2,\)"),
        (np.zeros((2, 8, 8, 3)), np.eye(2), r"labels is float64 \(2, 2\); expected int \(2,\)"),
        (np.zeros((0, 8, 8, 3)), np.array([], int), "the classes of the images, at least one"),
    ],
)
def test_images_and_labels_that_do_not_fit_the_network_are_refused(images, labels, told):
    model = _network("resnet8", 8)
    for instrument in (kr.gradients, kr.paths):
        with pytest.raises(InputError, match=told):
            instrument(model, images, labels)


def test_the_name_of_a_network_is_no_network():
    with pytest.raises(InputError, match="'resnet8' is not a Keras model; give one, such as kr"):
        kr.gradients("resnet8", *_batch(8))


def test_a_broken_image_is_reported_without_an_option_that_explain_lacks(trained, photos, tmp_path):
    data = shutil.copytree(photos, tmp_path / "photos")
    (data / "dark" / "broken.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"broken\.jpg: empty file; repair or remove it$"):
        open_subject(trained.path, data)
