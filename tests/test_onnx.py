"""ONNX files: artefacts like any other, with the same results as Keras."""

import json
import shutil
import sys
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from keras_resnet import open_run, runtime
from keras_resnet.errors import InputError
from keras_resnet.evaluation.artefact import open_artefact
from keras_resnet.evaluation.ort import Ort
from keras_resnet.evaluation.scores import evaluate, predict
from keras_resnet.exporting import guard, onnx_file, saved_model
from keras_resnet.exporting.exporter import export
from keras_resnet.exporting.gate import verify
from keras_resnet.exporting.plan import ExportPlan
from keras_resnet.geometry import Geometry
from keras_resnet.inspection.onnx_file import census
from keras_resnet.manifest import fingerprint
from keras_resnet.models import resnet
from keras_resnet.specs import SPECS

extra = pytest.mark.skipif(
    any(find_spec(package) is None for package in onnx_file.PACKAGES),
    reason="needs the extra [onnx]",
)


@pytest.fixture(scope="module")
def onnx_run(trained, tmp_path_factory):
    """A copy of the run with `model.onnx` alone exported: (run, result of the gate)."""
    folder = tmp_path_factory.mktemp("onnx") / "run"
    shutil.copytree(trained.path, folder, ignore=shutil.ignore_patterns("export"))
    return open_run(folder), export(folder, saved_model=False, tflite=[], onnx=True)


def pixels(count):
    return np.random.default_rng(0).integers(0, 256, (count, 24, 24, 3)).astype(np.float32)


@extra
def test_onnx_runtime_computes_what_keras_does(onnx_run):
    """By ONNX Runtime itself, any number of images at once."""
    import onnxruntime

    run, _ = onnx_run
    session = onnxruntime.InferenceSession(run.export_folder / "model.onnx")
    for count in (1, 7):
        (logits,) = session.run(["logits"], {"image": pixels(count)})
        expected = run.model().predict(pixels(count), verbose=0)
        assert np.abs(logits - expected).max() <= 1e-4 * np.abs(expected).max()


@extra
def test_both_ends_are_named_and_the_batch_is_open(onnx_run):
    import onnx

    run, _ = onnx_run
    model = onnx.load(run.export_folder / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version <= 18
    (image,), (logits,) = model.graph.input, model.graph.output
    assert (image.name, logits.name) == ("image", "logits")
    sides = image.type.tensor_type.shape.dim
    assert sides[0].dim_param == "batch" and [s.dim_value for s in sides[1:]] == [24, 24, 3]


@extra
def test_a_file_for_eight_images_at_a_time_is_refused(onnx_run, photos, tmp_path):
    import onnx

    model = onnx.load(onnx_run[0].export_folder / "model.onnx")
    for end in (*model.graph.input, *model.graph.output):
        end.type.tensor_type.shape.dim[0].dim_value = 8
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(InputError, match="takes 8 images at a time; export it for one"):
        predict(tmp_path / "model.onnx", [photos / "dark"])


@extra
def test_a_file_for_one_image_at_a_time_takes_several_in_turn(onnx_run, tmp_path):
    import onnx

    path = onnx_run[0].export_folder / "model.onnx"
    model = onnx.load(path)
    for end in (*model.graph.input, *model.graph.output):
        end.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, tmp_path / "model.onnx")
    found, expected = (Ort(file).predict(pixels(3)) for file in (tmp_path / "model.onnx", path))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@extra
def test_it_passes_the_gate_as_a_float32_file(onnx_run):
    run, result = onnx_run
    (row,) = result.artefacts
    assert row.file == "model.onnx" and row.passed and row.agreement == 1.0
    assert row.max_logit_diff < 1e-4 * 100 and row.latency_ms > 0
    assert row.ops["Conv"] == 7
    assert verify(run).passed


@extra
def test_it_runs_on_the_cores_that_the_process_may_use(onnx_run, monkeypatch):
    path = onnx_run[0].export_folder / "model.onnx"
    monkeypatch.setattr(runtime, "cores", lambda: 3)
    assert Ort(path)._session.get_session_options().intra_op_num_threads == 3
    assert Ort(path, threads=1)._session.get_session_options().intra_op_num_threads == 1


@extra
def test_a_wrong_onnx_file_does_not_pass(onnx_run, tmp_path):
    """Well formed, recorded, and a little off: only the comparison with Keras can notice."""
    import onnx

    shutil.copytree(onnx_run[0].path, tmp_path / "run")
    run = open_run(tmp_path / "run")
    path = run.export_folder / "model.onnx"
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 4:
            kernel = onnx.numpy_helper.to_array(tensor) * np.float32(1.01)
            tensor.CopyFrom(onnx.numpy_helper.from_array(kernel, tensor.name))
    onnx.save(model, path)
    guard.record(run.export_folder, {path.name: fingerprint(path)})
    (row,) = verify(run).artefacts
    assert not row.passed and "float32 rounding allows" in row.why


@extra
def test_evaluate_and_predict_take_it(onnx_run, photos):
    run, _ = onnx_run
    path = run.export_folder / "model.onnx"
    assert open_artefact(path).kind == "onnx"
    assert evaluate(path).top1 == run.metrics["val"]["top1"]
    ours, theirs = (predict(p, [photos / "dark"], top=1) for p in (path, run.path))
    for one, other in zip(ours, theirs, strict=True):
        (a,), (b,) = one.predictions, other.predictions
        assert a.label == b.label and a.score == pytest.approx(b.score, abs=1e-4)


@extra
def test_inspect_counts_what_the_network_has(onnx_run):
    from keras_resnet.inspection.network import describe

    run, _ = onnx_run
    found = census(run.export_folder / "model.onnx")
    assert found.ops["Conv"] == 7
    assert found.inputs[0].shape == [-1, 24, 24, 3]
    assert found.multiply_adds == describe(run.model()).multiply_adds
    content = json.loads(json.dumps(found.as_json()))
    assert content["metadata"][1].startswith("tf2onnx ")
    assert not content["metadata"][1].endswith("None")  # the commit, which it does not know
    assert "activations" not in content  # of a .tflite alone
    assert list(content["layers"][0]) == ["name", "kind", "output_shape", "multiply_adds"]


@extra
def test_a_dense_layer_is_counted_whichever_way_its_kernel_lies(tmp_path):
    import onnx
    from onnx import helper

    for transposed, shape in ((0, (5, 2)), (1, (2, 5))):
        kernel = onnx.numpy_helper.from_array(np.ones(shape, np.float32), "kernel")
        ends = [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", side])
            for name, side in (("x", 5), ("y", 2))
        ]
        node = helper.make_node("Gemm", ["x", "kernel"], ["y"], transB=transposed)
        shape = onnx.numpy_helper.from_array(np.array([5, 2]), "shape")  # no weights
        graph = helper.make_graph([node], "dense", ends[:1], ends[1:], [kernel, shape])
        onnx.save(helper.make_model(graph), tmp_path / "dense.onnx")
        found = census(tmp_path / "dense.onnx")
        assert (found.multiply_adds, found.parameters) == (5 * 2, 5 * 2)


@extra
def test_behind_an_operator_that_onnx_does_not_define_the_shapes_are_open(tmp_path):
    import onnx
    from onnx import helper

    kernel = onnx.numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "kernel")
    image, maps = (
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, side, 8, 8])
        for name, side in (("x", 3), ("y", 4))
    )
    nodes = [
        helper.make_node("Own", ["x"], ["own"], domain="somebody"),
        helper.make_node("Conv", ["own", "kernel"], ["conv"], pads=[1] * 4),
        helper.make_node("Own", ["conv"], ["y"], domain="somebody"),
    ]
    graph = helper.make_graph(nodes, "own", [image], [maps], [kernel])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("somebody", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets), tmp_path / "own.onnx")
    found = census(tmp_path / "own.onnx")
    assert found.ops == {"Conv": 1, "Own": 2} and found.layers[1].output_shape == []
    assert found.multiply_adds == 4 * 3 * 3 * 3  # of one position


@extra
@pytest.mark.parametrize(
    "name",
    [
        "resnext50_32x4d",
        "resnetrs50",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("resnet50_v2", "resnet50d")),
    ],
)
def test_other_kinds_of_networks_convert_too(name, tmp_path):
    """Grouped convolutions, which Keras compiles by itself; squeeze-and-excitation; pre-activation;
    pooling shortcuts."""
    spec = replace(SPECS[name], blocks=(1, 1), filters=SPECS[name].filters[:2])
    model = resnet(spec, 10, (32, 32, 3), zero_gamma=False)
    plan = ExportPlan(geometry=Geometry(32, 32), classes=[str(k) for k in range(10)])
    saved_model.write_for_conversion(plan, model, tmp_path / "saved", batch=None)
    onnx_file.convert(tmp_path / "saved", tmp_path / "model.onnx")
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    expected = model.predict(images, verbose=0)
    found = Ort(tmp_path / "model.onnx").predict(images)
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


@extra
@pytest.mark.parametrize("content", [b"", b"rubbish" * 100])
def test_a_random_file_is_no_onnx_model(tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    for read in (open_artefact, census):
        with pytest.raises(InputError, match=r"model\.onnx") as error:
            read(path)
        assert "\n" not in str(error.value)


@extra
@pytest.mark.parametrize("kind", ["sequence", "type", "outputs", "size"])
def test_an_unusual_onnx_model_is_one_line(tmp_path, kind):
    import onnx
    from onnx import helper

    image = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3])
    if kind == "sequence":
        image = helper.make_tensor_sequence_value_info("x", onnx.TensorProto.FLOAT, [1, 3])
    elif kind == "type":
        image.type.tensor_type.elem_type = 99
    node = helper.make_node("Mine", ["x"], [] if kind == "outputs" else ["y"], domain="mine")
    weights = [onnx.TensorProto(name="w", data_type=1, dims=[-5])] if kind == "size" else []
    graph = helper.make_graph([node], "g", [image], [], weights)
    (tmp_path / "model.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(
        InputError, match=r"model\.onnx (cannot be read|is not an ONNX model)"
    ) as error:
        census(tmp_path / "model.onnx")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("package", ["onnxruntime", "tf2onnx", "onnx"])
def test_without_the_extra_one_line_names_it_before_any_work(trained, monkeypatch, package):
    for name in onnx_file.PACKAGES:
        monkeypatch.setitem(sys.modules, name, sys)  # there, whatever is installed
    monkeypatch.setattr(sys, "__spec__", "something", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("keras_resnet.exporting.publish.staged", None)
    with pytest.raises(InputError, match=rf"needs {package}: pip install .*edge\[onnx\]"):
        export(trained, onnx=True)


def test_an_onnx_file_cannot_be_opened_without_the_runtime(tmp_path, monkeypatch):
    (tmp_path / "model.onnx").write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"needs ONNX Runtime: pip install .*edge\[onnx\]"):
        open_artefact(tmp_path / "model.onnx")
