"""An export is planned once, and the files match the plan."""

import subprocess
import sys
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from keras_resnet import filenames
from keras_resnet.errors import InputError
from keras_resnet.exporting.exporter import export
from keras_resnet.exporting.plan import ExportOptions, ExportPlan, make_plan
from keras_resnet.geometry import Geometry
from keras_resnet.inspection import tflite_file
from keras_resnet.inspection.census import Signature


def shapes_and_dtypes(tensors):
    return [(tuple(tensor.shape), tensor.dtype) for tensor in tensors]


@pytest.mark.parametrize("variant", filenames.TFLITE)
def test_the_files_have_the_planned_inputs_and_outputs(exported, variant):
    run, _ = exported
    plan = make_plan(run, saved_model=False, tflite=[variant])
    (file,) = plan.files
    found = tflite_file.census(run.export_folder / file.name)
    assert shapes_and_dtypes(found.inputs) == list(file.inputs.values())
    assert shapes_and_dtypes(found.outputs) == list(file.outputs.values())
    names = Signature(list(file.inputs), list(file.outputs))
    assert found.signatures == {"serving_default": names}


def test_frames_bytes_and_the_best_two_are_planned():
    plan = ExportPlan(
        geometry=Geometry(24, 24), classes=["a", "b", "c"], saved_model=False, tflite=["int8"],
        scores="softmax", top=2, input_size=(40, 72), io="uint8", features=True,
    )  # fmt: skip
    features, int8 = plan.files
    assert features.outputs == {"features": ((1, None), "float32")}
    assert int8.inputs == {"image": ((1, 40, 72, 3), "uint8")}
    assert int8.outputs == {"scores": ((1, 2), "uint8"), "classes": ((1, 2), "int32")}
    assert plan.contract.top == 2 and not int8.has_float_io and features.has_float_io


def test_auto_replaces_every_variant_and_leaves_the_rest():
    plan = ExportPlan(
        geometry=Geometry(24, 24), classes=["a", "b"], saved_model=False, tflite=["auto"]
    )
    assert plan.replaced == [*filenames.TFLITE.values(), "calibration.json", "quantization.png"]
    assert ExportPlan(geometry=Geometry(24, 24), classes=["a", "b"], tflite=["none"]).replaced == [
        "saved_model", "model_float32.tflite",
    ]  # fmt: skip
    # The plot beside an int8 file would tell of the one before it.
    assert ExportPlan(geometry=Geometry(24, 24), classes=["a", "b"], tflite=["int8"]).replaced == [
        "saved_model", "model_int8.tflite", "quantization.png",
    ]  # fmt: skip


def test_a_plan_cannot_be_changed(trained):
    with pytest.raises(FrozenInstanceError):
        make_plan(trained).top = 3


def test_every_option_is_a_field_of_the_plan_and_no_other_word_is_taken(trained):
    options = {*ExportOptions.__annotations__} - {"output"}
    assert options <= {field.name for field in fields(ExportPlan)}
    with pytest.raises(TypeError, match="unexpected keyword argument 'temperature'"):
        make_plan(trained, temperature=2.0)


def test_invalid_options_are_found_before_tensorflow_is_loaded(trained):
    code = (
        "import sys; sys.modules['tensorflow'] = sys.modules['keras'] = None\n"
        "from keras_resnet.cli import run\n"
        "sys.exit(run(sys.argv[1:]))"
    )
    words = ["export", trained.path, "--tflite", "--top", "9", "--scores", "softmax"]
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *words], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr == "keras-resnet: --top is 9; expected 1 to 3, the number of classes\n"


def test_an_output_that_is_no_folder_is_refused(trained, tmp_path):
    with pytest.raises(InputError, match="--output is empty; give a folder"):
        make_plan(trained, output="")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file is a file; give a folder"):
        export(trained, output=tmp_path / "file")


@pytest.mark.parametrize("output", [".", "..", "../inside"])
def test_the_folder_that_a_command_runs_in_is_not_replaced(trained, tmp_path, monkeypatch, output):
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    with pytest.raises(InputError, match="but this command runs inside it; run it in another"):
        export(trained, output=output)
    assert make_plan(trained, output=output).target == Path(output)  # as `verify` makes it there


def test_variants_may_come_from_a_generator(trained):
    assert list(make_plan(trained, tflite=(v for v in ["none", "int8"])).tflite) == ["none", "int8"]
