"""int8: the error of each Keras layer, layers kept in float, and rejected files."""

import json
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

from keras_resnet import open_run
from keras_resnet.cli import tables
from keras_resnet.errors import CheckFailed
from keras_resnet.evaluation.lite import Lite
from keras_resnet.exporting import auto, calibration, layer_error, saved_model
from keras_resnet.exporting.exporter import export
from keras_resnet.exporting.plan import make_plan
from keras_resnet.exporting.verification import TriedFile
from keras_resnet.inspection import tflite_file

SPOILED = {"conv3_block1_1_conv", "conv4_block1_2_conv", "conv4_block1_out"}


def images(run):
    from keras_resnet.evaluation.artefact import open_artefact
    from keras_resnet.evaluation.scores import stream_for

    stream = stream_for(open_artefact(run.path), run.examples("val"))
    return np.concatenate([batch for batch, _ in stream.as_numpy_iterator()])


@pytest.fixture(scope="module")
def spoiled(exported, tmp_path_factory):
    """The exported run with the same function in float, and none in int8.

    A branch's first channel is 3,000 times as large as it was, and divided again by the kernel
    behind it; the last sum's first channel is 30,000 higher, which the logits' bias takes back. On
    one scale with these, the other channels round to nothing.
    """
    path = tmp_path_factory.mktemp("spoiled") / "run"
    shutil.copytree(exported[0].path, path)
    run = open_run(path)
    model = run.model()
    norm, reader = model.get_layer("conv3_block1_1_bn"), model.get_layer("conv3_block1_2_conv")
    gamma, beta, *statistics = norm.get_weights()
    gamma[0], beta[0] = 3000 * gamma[0], 3000 * beta[0]
    norm.set_weights([gamma, beta, *statistics])
    (kernel,) = reader.get_weights()
    kernel[:, :, 0] /= 3000
    reader.set_weights([kernel])
    norm, logits = model.get_layer("conv4_block1_2_bn"), model.get_layer("logits")
    gamma, beta, *statistics = norm.get_weights()
    beta[0] += 30_000
    norm.set_weights([gamma, beta, *statistics])
    kernel, bias = logits.get_weights()
    logits.set_weights([kernel, bias - 30_000 * kernel[0]])
    run.save_model(model)
    run.save_manifest()
    return run


def snapshot(run):
    return {p.name: p.read_bytes() for p in sorted(run.export_folder.rglob("*")) if p.is_file()}


def test_every_layer_is_explained_by_its_keras_name_in_forward_order(exported):
    run, result = exported
    rows = result.quantization.layers
    names = [layer.name for layer in run.model().layers]
    assert {row.layer for row in rows} <= set(names)
    convolutions = [name for name in names if name.endswith("_conv")]
    assert [row.layer for row in rows if row.op == "CONV_2D"] == convolutions
    assert [row.layer for row in rows][-2:] == ["avg_pool", "logits"]
    assert all(0 <= row.lost <= 1 for row in rows)
    # A max-pool or a padding moves values; rounding to 8 bits costs the rest something.
    moves = {row.op for row in rows if row.lost < 1e-5}
    assert moves == {"MAX_POOL_2D", "PAD"}


def test_the_debugger_may_shorten_the_names_of_tensors():
    """As that of TensorFlow 2.22."""
    measured = ["a/Relu;a/mul;a/conv", "b/Add", "b/Add;c"]
    outputs = ["a/Relu;a/mul_1;a/mul;a/conv", "b/Add", "b/Add;c", "d"]
    found = layer_error._names_by_output(measured, outputs)
    assert found == dict(zip(outputs[:3], measured, strict=True))


def test_blocks_are_explained_by_branch_shortcut_and_sum(exported):
    blocks = exported[1].quantization.blocks
    assert [row.block for row in blocks] == [
        "stem", "conv2_block1", "conv3_block1", "conv4_block1", "head",
    ]  # fmt: skip
    inner = [row for row in blocks if row.block not in ("stem", "head")]
    assert all(row.branch > 0 and row.sum > 0 for row in inner)
    padded = [row.block for row in inner if row.shortcut is not None]
    assert padded == ["conv3_block1", "conv4_block1"]


def test_a_part_of_a_block_is_as_bad_as_its_worst_layer():
    shares = {"1_conv": 0.2, "2_conv": 0.3, "3_conv": 0.1, "0_conv": 0.5, "add": 0.4}
    rows = [
        layer_error.LayerError(f"conv2_block1_{name}", *layer_error.place(f"conv2_block1_{name}"),
                               "CONV_2D", lost, 0.3)
        for name, lost in shares.items()
    ]  # fmt: skip
    assert layer_error.by_block(rows) == [layer_error.BlockError("conv2_block1", 0.3, 0.5, 0.4)]


@pytest.mark.parametrize(
    ("layer", "block", "part"),
    [
        ("conv2_block1_1_conv", "conv2_block1", "branch"),
        ("conv2_block1_preact_bn", "conv2_block1", "branch"),
        ("conv3_block12_0_pool", "conv3_block12", "shortcut"),
        ("conv3_block1_add", "conv3_block1", "sum"),
        ("conv3_block1_out", "conv3_block1", "sum"),
        ("conv1_conv", "stem", ""),
        ("normalize", "stem", ""),
        ("logits", "head", ""),
    ],
)
def test_a_layers_place_is_its_address(layer, block, part):
    assert layer_error.place(layer) == (block, part)


def test_the_table_and_the_plot_show_them(exported):
    run, result = exported
    text = tables.quantization(result.quantization)
    assert all(row.layer in text for row in result.quantization.layers)
    assert all(row.block in text for row in result.quantization.blocks)
    with Image.open(run.export_folder / "quantization.png") as picture:
        assert picture.format == "PNG" and picture.width > picture.height
        assert len(set(picture.convert("L").get_flattened_data())) > 10  # something is drawn


def test_the_error_of_a_layer_is_that_of_its_values_in_int8():
    """Two channels on one scale: one fills it, the other is rounded to nothing."""
    floats = np.stack([np.linspace(-1, 1, 64), np.full(64, 1e-4)], -1).reshape(1, 8, 8, 2)
    scale = 1 / 127
    steps = np.round(floats / scale).astype(np.int8)
    assert layer_error._lost(floats, steps, scale, 0) == pytest.approx(0.5, abs=0.01)
    assert layer_error._steps(floats[..., :1], steps[..., :1], scale, 0) < 0.35
    for measure in (layer_error._lost, layer_error._steps):  # wherever 0 is among the steps
        assert measure(floats, steps - np.int16(60), scale, -60) == measure(floats, steps, scale, 0)
    # Of the second, no more than all can be lost, however large the error is.
    assert layer_error._lost(floats, steps + np.int8([0, 9]), scale, 0) == pytest.approx(0.5, 0.05)


def test_the_error_of_logits_is_a_share_of_all_of_them():
    """A logit near 0, of which rounding leaves nothing, does not make the head the worst layer."""
    floats, scale = np.array([[12.7, -6.0, 0.04]]), 0.1
    steps = np.round(floats / scale).astype(np.int8)
    error = np.linalg.norm(steps * scale - floats) / np.linalg.norm(floats)
    assert layer_error._lost(floats, steps, scale, 0) == pytest.approx(error) and error < 0.01
    pooled = floats.reshape(1, 1, 1, 3)
    assert layer_error._lost(pooled, steps.reshape(1, 1, 1, 3), scale, 0) == pytest.approx(error)


def test_int16x8_has_16_bits_between_the_layers_and_is_as_close_as_int8(exported):
    """Its 8-bit weights, which are those of int8, make most of the error here."""
    run, _ = exported
    x = images(run)
    expected = run.model().predict(x, verbose=0)
    path = run.export_folder / "model_int16x8.tflite"
    assert tflite_file.census(path).layers[1].dtype == "int16"
    error = {
        name: np.abs(Lite(run.export_folder / f"model_{name}.tflite").predict(x) - expected).mean()
        for name in ("int8", "int16x8")
    }
    assert error["int16x8"] < 1.05 * error["int8"]


def test_how_a_file_was_made_is_in_the_manifest(exported):
    manifest = json.loads((exported[0].export_folder / "manifest.json").read_text())
    made = manifest["model_int8.tflite"]["conversion"]
    assert made["variant"] == "int8" and made["io"] == "float"
    # Of the child alone: this process, with its networks, holds more than TensorFlow needs.
    assert 2e8 < made["peak_memory_bytes"] < 4e9
    assert made["seconds"] > 0


def test_auto_takes_full_int8_where_that_is_good_and_publishes_it_alone(exported, tmp_path, capsys):
    run, _ = exported
    shutil.copytree(run.export_folder, tmp_path / "out")
    result = export(run, saved_model=False, tflite=["auto"], calibration=20, max_drop=10,
                    output=tmp_path / "out")  # fmt: skip
    (tried,) = result.candidates
    assert tried.taken and tried.variant == "int8" and tried.float_layers == []
    (row,) = (row for row in result.artefacts if row.file == tried.file)
    cost = f"{row.bytes / 1e6:.2f} MB, {row.drop_points:.2f} points lost (allowed: 10)"
    assert tried.why == cost
    assert [row.file for row in result.artefacts] == ["saved_model", "model_int8.tflite"]
    assert not (tmp_path / "out" / "quantization.png").exists()  # it told of another file
    assert "deleted model_float32.tflite, model_float16.tflite" in capsys.readouterr().err


def test_auto_continues_when_the_layers_cannot_be_measured(tmp_path, monkeypatch, capsys):
    def tried(variant, path, judge):
        return TriedFile(variant, path.name, [], 1, 0.0, variant == "dynamic", "")

    def layer_errors():
        raise CheckFailed("the debugger does not know FOO")

    monkeypatch.setattr(auto, "_tried", tried)
    found, cost = auto.choose(
        tmp_path,
        convert=lambda variant, path: path.touch() or {"variant": variant},
        layer_errors=layer_errors,
        judge=None,
    )
    assert [row.variant for row in found] == ["int8", "dynamic"] and cost["variant"] == "dynamic"
    assert "cannot be tried: the debugger does not know FOO" in capsys.readouterr().err


def test_auto_names_the_layers_that_int8_cannot_hold_and_keeps_them_in_float(spoiled, tmp_path):
    result = export(spoiled, saved_model=False, tflite=["auto"], calibration=20, max_drop=10,
                    output=tmp_path / "out")  # fmt: skip
    *refused, taken = result.candidates
    assert taken.taken and set(taken.float_layers) >= SPOILED
    assert all(layer in taken.why for layer in SPOILED)
    assert [len(candidate.float_layers) for candidate in refused] == [0, 1, 2]
    assert all(row.drop_points > 10 and not row.taken for row in refused)
    assert all("points" in row.why and "MB" not in row.why for row in refused)
    found = tflite_file.census(tmp_path / "out" / "model_int8.tflite")
    kinds = {row.name: row.dtype for row in found.layers}
    assert {kinds[layer] for layer in SPOILED} == {"float32"}
    assert kinds["conv3_block1_2_conv"] == "float32"  # or its input would be int8 all the same
    assert list(kinds.values()).count("int8") > 5
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    made = manifest["model_int8.tflite"]["conversion"]
    assert made["float_layers"] == taken.float_layers


def test_a_network_of_few_layers_keeps_at_least_one_in_integers(tmp_path):
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((16, 16, 3), batch_size=1), layers.Conv2D(4, 3), layers.GlobalMaxPooling2D(),
         layers.Dense(3)]
    )  # fmt: skip
    model.export(tmp_path / "saved_model", verbose=False)
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3)))
    found = layer_error.measure(
        tmp_path / "saved_model", tmp_path / "images.npy", tmp_path, counts=(1, 8)
    )
    assert [*found.files] == [1]
    assert "int8" in {row.dtype for row in tflite_file.census(found.files[1]).layers}


@pytest.mark.slow
@pytest.mark.parametrize("io", ["uint8", "int8"])
def test_a_file_with_layers_in_float_takes_bytes_too(spoiled, io, tmp_path):
    source, npy = tmp_path / "saved_model", tmp_path / "calibration.npy"
    saved_model.write_for_conversion(make_plan(spoiled), spoiled.model(), source)
    np.save(npy, calibration.choose(spoiled, 20).images)
    found = layer_error.measure(source, npy, tmp_path, io=io, counts=(4,))
    ends = tflite_file.census(found.files[4])
    assert [(end.dtype, end.scale) for end in ends.inputs] == [(io, 1.0)]
    assert [end.dtype for end in ends.outputs] == [io]
    assert not {"normalize", "avg_pool", "logits"} & set(found.float_layers[4])


def test_a_bad_int8_file_exits_1_and_the_earlier_export_stays_whole(spoiled, command):
    before = snapshot(spoiled)
    done = command("export", spoiled.path, "--tflite", "--quantize", "int8", "--max-drop", "0")
    assert done.returncode == 1
    assert "model_int8.tflite: top-1 is" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert snapshot(spoiled) == before
    assert not list(spoiled.path.glob(".export*"))
