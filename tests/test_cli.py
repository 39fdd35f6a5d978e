"""The command line: it starts fast, reports a mistake in one line, and prints results on stdout."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress

import pytest

from keras_resnet import cli
from keras_resnet.cli import COMMANDS
from keras_resnet.data import names
from keras_resnet.errors import InputError
from keras_resnet.run import open_run

HEAVY = ("tensorflow", "keras", "numpy", "matplotlib", "jax", "PIL")


def test_help_lists_every_command(script):
    done = script("--help")
    assert done.returncode == 0
    lines = done.stdout.split("Commands:")[1].split("Example:")[0].split("\n")
    assert [line.split()[0] for line in lines if line.strip()] == list(COMMANDS)
    assert not any(line.endswith("...") for line in lines), "click cut a summary short"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(script, name):
    done = script(name, "--help")
    assert done.returncode == 0 and done.stderr == ""
    if name not in ("data", "explain"):  # groups of commands
        assert f"keras-resnet {name}" in done.stdout.split("Example:")[1]


def test_the_version_is_the_distributions(script):
    from importlib.metadata import version

    assert script("--version").stdout == f"keras-resnet {version('keras-resnet-edge')}\n"


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["models"], ["recipes"], ["models", "--json"], ["train", "--modle", "x"],
     ["train", "--help"], ["train", "--epochs", "0"]],
    ids=" ".join,
)  # fmt: skip
def test_light_answers_load_nothing_heavy(arguments, tmp_path):
    code = (
        "import sys; from keras_resnet.cli import main\n"
        f"sys.argv = ['keras-resnet', *{arguments}]\n"
        "status = main()\n"
        "print(sorted(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    loaded = done.stderr.strip().splitlines()[-1]
    assert loaded.startswith("[")
    assert not [name for name in HEAVY if f"'{name}'" in loaded]


def test_every_setting_can_be_given_to_train_and_is_named_after_its_flag():
    from dataclasses import fields

    from keras_resnet.cli.train import train
    from keras_resnet.config import Config

    flags = {flag for parameter in train.params for flag in parameter.opts}
    names = {field.name for field in fields(Config)} - {"data"}  # the argument
    assert {"--" + name.replace("_", "-") for name in names} <= flags


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        (["--size-steps", "0.55 0.5 / 0.3 0.75 / 0.15 1"], "size_steps",
         ((0.55, 0.5), (0.3, 0.75), (0.15, 1.0))),
        (["--rate-drops", "0.5 0.75"], "rate_drops", (0.5, 0.75)),
        (["--rate-drops", ""], "rate_drops", ()),
        (["--crop-area", "0.08", "1"], "crop_area", (0.08, 1.0)),
        (["--no-nesterov"], "nesterov", False),
        (["--best-by", "macro_top1"], "best_by", "macro_top1"),
    ],
    ids=str,
)  # fmt: skip
def test_a_setting_is_typed_as_a_run_shows_it(arguments, field, value):
    from keras_resnet import recipes
    from keras_resnet.cli.train import train
    from keras_resnet.config import show

    given = train.make_context("train", list(arguments)).params
    settings = {name: given[name] for name in (field,)}
    assert getattr(recipes.resolve(settings), field) == value
    if isinstance(value, tuple) and value:
        assert show(value) == " ".join(arguments[1:])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"data": "my photos", "model": "resnet18", "seed": 7, "flip": False, "image_size": 64},
        {"recipe": "finetune", "weights": "runs/a b", "rate_drops": (0.5, 0.75), "epochs": 3},
        {"size_steps": ((0.5, 0.5), (0.5, 1.0)), "crop_area": (0.3, 1.0), "learning_rate": 0.0123},
    ],
    ids=str,
)
def test_the_command_in_a_report_asks_for_the_settings_of_the_run(options):
    import shlex

    from keras_resnet import recipes
    from keras_resnet.cli.train import train

    config = recipes.resolve(options)
    program, name, *words = shlex.split(recipes.command(config))
    assert (program, name) == ("keras-resnet", "train")
    given = train.make_context("train", words).params
    settings = {name: given[name] for name in recipes.SETTINGS}
    assert recipes.resolve(settings) == config
    assert not {"batch_size", "epochs", "image_size"} & recipes.unset(settings)


def test_the_help_shows_what_the_default_recipe_gives(script):
    words = " ".join(script("train", "--help").stdout.split())
    for shown in ("[0.7 1]", "[0.55 0.5 / 0.3 0.75 / 0.15 1]", "[yes; no for digits]"):
        assert shown in words


@pytest.mark.parametrize("arguments", [[], ["data"], ["explain"]], ids=str)
def test_a_group_alone_shows_its_help(script, arguments):
    done = script(*arguments)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout == script(*arguments, "--help").stdout


@pytest.mark.parametrize("arguments", [[], ["train"], ["data"], ["data", "check"]], ids=str)
def test_h_is_help(script, arguments):
    done = script(*arguments, "-h")
    assert done.returncode == 0 and done.stdout == script(*arguments, "--help").stdout


def test_python_m_is_the_command(script, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "keras_resnet", "models"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and done.stdout == script("models").stdout


@pytest.mark.parametrize("arguments", [["models"], ["models", "--json"]], ids=" ".join)
def test_the_command_ends_quietly_in_a_pipe(arguments, tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "keras_resnet", *arguments],
        cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "number"),
    [("data check digits --quiet", 1), ("data check digits --quiet", 2), ("modles", 2)],
)
def test_a_closed_stream_changes_no_other(arguments, number, script, tmp_path):
    whole = script(*arguments.split())
    part = subprocess.run(
        f"'{sys.executable}' -m keras_resnet {arguments} {number}>&-",
        shell=True, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    expected = {0: whole.returncode, 1: whole.stdout, 2: whole.stderr, number: ""}
    assert {0: part.returncode, 1: part.stdout, 2: part.stderr} == expected


@pytest.mark.parametrize(
    ("words", "completions"),
    [
        ("keras-resnet ev", ["evaluate"]),
        ("keras-resnet train --label-s", ["--label-smoothing"]),
        ("keras-resnet train --optimizer ad", ["adamw"]),
    ],
)
def test_the_shell_completes_commands_options_and_choices(words, completions, tmp_path):
    from pathlib import Path

    done = subprocess.run(
        Path(sys.executable).parent / "keras-resnet",
        cwd=tmp_path, capture_output=True, text=True,
        env={"_KERAS_RESNET_COMPLETE": "bash_complete", "COMP_WORDS": words,
             "COMP_CWORD": str(len(words.split()) - 1)},
    )  # fmt: skip
    assert [line.partition(",")[2] for line in done.stdout.splitlines()] == completions
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("val", "no such command 'val'; did you mean evaluate?"),
        ("eval", "no such command 'eval'; did you mean evaluate?"),
        ("test", "no such command 'test'; did you mean evaluate?"),
        ("list", "no such command 'list'; did you mean models?"),
        ("trian", "no such command 'trian'; did you mean train?"),
        ("xyz", "no such command 'xyz'; see"),
        ("train --modle x", "no such option --modle; did you mean --model?"),
        ("train --lr 1", "no such option --lr; did you mean --learning-rate?"),
        ("train --batch=8", "no such option --batch; did you mean --batch-size?"),
        ("train --imgsz 8", "no such option --imgsz; did you mean --image-size?"),
        ("train --arch x", "no such option --arch; did you mean --model?"),
        ("train --pretrained", "no such option --pretrained; did you mean --weights imagenet?"),
        (
            "train --device 0",
            "did you mean --devices (the number of GPUs; CUDA_VISIBLE_DEVICES selects",
        ),
        ("export --format tflite", "--format; did you mean --tflite (or --onnx, --saved-model)?"),
        ("train --output x", "no such option --output; did you mean --run?"),
        ("export --out x", "no such option --out; did you mean --output?"),
        ("evaluate --output x", "no such option --output; did you mean --csv?"),
        ("predict --output x", "no such option --output; did you mean --csv > FILE?"),
        ("export --int8", "no such option --int8; did you mean --quantize int8?"),
        ("evaluate --data x", "no such option --data; DATA is given without --data; see"),
        ("data check --data-dri x", "no such option --data-dri; did you mean --data-dir?"),
        ("predict run x.jpg --csv --json", "--csv and --json are mutually exclusive; give one"),
        ("predict --xyz", "no such option --xyz; see `keras-resnet predict --help`"),
        ("predict --lr 1", "no such option --lr; `keras-resnet train` has --learning-rate; see"),
        ("ship --nesterov", "no such option --nesterov; `keras-resnet train` has --nesterov, and"),
        ("ship --nesterov", "and `keras-resnet ship RUN` continues from the run; see"),
        ("train --int8", "no such option --int8; `keras-resnet export` has --quantize int8; see"),
    ],
)
def test_the_error_line_suggests_what_is_close_or_what_other_tools_call_it(
    command, arguments, line
):
    done = command(*arguments.split())
    assert done.returncode == 2 and done.stdout == ""
    assert line in done.stderr and len(done.stderr.splitlines()) == 1


def test_what_is_no_folder_of_photos_is_named(tmp_path):
    (tmp_path / "model.keras").touch()
    with pytest.raises(InputError, match=r"model\.keras is a Keras model, not a folder of photos"):
        names.require(tmp_path / "model.keras")
    with pytest.raises(InputError, match="data folder '' does not exist"):
        names.require("")


@pytest.mark.parametrize(
    ("argument", "place"),
    [("~/photos", "HOME/photos"), ("--run=~/a=b", "--run=HOME/a=b"), ("~", "HOME"),
     ("a~/b", "a~/b"), ("--class=~cat", "--class=~cat"), ("a=~/b", "a=~/b")],
)  # fmt: skip
def test_a_home_folder_that_no_shell_has_expanded_is_one(argument, place, monkeypatch):
    monkeypatch.setenv("HOME", "HOME")
    assert cli._expanded(argument) == place


def test_a_recipes_own_value_is_not_held_against_an_option(command, tmp_path):
    done = command(
        "train", "nowhere", "--recipe", "rsb-a3", "--loss", "cross-entropy", cwd=tmp_path
    )
    assert "nowhere" in done.stderr and "bce" not in done.stderr


def test_a_network_is_named_without_regard_to_case_hyphen_and_underscore(command):
    found = json.loads(command("inspect", "RESNET-20", "--json").stdout)
    assert found["name"] == "resnet20"


def test_a_network_is_inspected_at_another_width(command, trained):
    from keras_resnet import build

    found = json.loads(command("inspect", "resnet8", "--width", 0.5, "--json").stdout)
    assert found["parameters"] == build("resnet8", 10, width=0.5).count_params()
    done = command("inspect", trained.path, "--width", 0.5)
    assert done.returncode == 2 and f"--width 0.5 is for the name of a network; {trained.path}" in (
        done.stderr
    )


@pytest.mark.parametrize("part", ["export", "export/model_int8.tflite", "report.html"])
def test_for_a_part_of_a_run_the_run_is_named(exported, tmp_path, part):
    run, _ = exported
    with pytest.raises(InputError, match=f"/{part} is a part of a run; give the run, {run.path}$"):
        open_run(run.path / part)
    (tmp_path / "x.tflite").touch()
    with pytest.raises(InputError, match=r"x\.tflite is a file, not a run folder"):
        open_run(tmp_path / "x.tflite")


BAD = {
    "an unknown command": (["trian"], "no such command 'trian'; did you mean train?"),
    "an option without its value": (["train", "--resume"], "see `keras-resnet train --help`"),
    "a misspelt option": (["train", "--modle", "x"], "no such option --modle; did you mean"),
    "an unknown model": (["train", "--model", "resnet51"], "did you mean resnet5"),
    "the nearest depth first": (["train", "--model", "resnet21"], "did you mean resnet20, "),
    "a plot without a folder": (["find-lr", "--png", "no/x.png"], "in a folder that exists"),
    "a sheet without a folder": (
        ["data", "show", "--output", "no/x.png"], "--output is 'no/x.png'; expected FILE.png",
    ),
    "an unknown recipe": (["train", "--recipe", "quik"], "use one of quick"),
    "no epochs": (["train", "--epochs", "0"], "--epochs is 0"),
    "a negative rate": (["train", "--learning-rate", "-1"], "--learning-rate is -1"),
    "a word for a number": (["train", "--epochs", "many"], "'many' is not a valid integer"),
    "words for sizes": (["train", "--size-steps", "half"], "pairs of a share of the epochs"),
    "a negative size": (["train", "--size-steps", "0.50 -1"], "--size-steps is 0.5 -1; expected"),
    "a word among sizes": (["train", "--size-steps", "0.50 x"], "--size-steps is '0.50 x'; exp"),
    "no images in a batch": (["train", "--batch-size", "0"],
                             "--batch-size is 0; expected at least 1"),
    "a drop too late": (["train", "--rate-drops", "0.5 2"], "shares of the run between 0 and 1"),
    "no such folder": (["train", "no/such/folder"], "does not exist"),
    "a batch larger than the data": (["train", "--batch-size", "5000"], "than the training set"),
    "an image too small": (["train", "--model", "resnet50", "--image-size", "16"], "too small"),
    "no such config": (["train", "--config", "no.json"], "cannot read settings file no.json"),
    "no such weights": (["train", "--weights", "no.keras"], "no weights at 'no.keras'"),
    "no such stage": (["train", "--freeze", "conv9"], "--freeze is 'conv9'; expected one of body"),
    "no runs yet": (["evaluate"], "no finished run under runs/"),
    "no such artefact": (["evaluate", "no.tflite"], "no artefact no.tflite"),
    "nothing to export": (["export", "no/run"], "no run folder no/run"),
    "quantize without tflite": (["export", "--saved-model", "--quantize", "int8"], "add --tflite"),
    "an artefact without layers": (["inspect", "resnet9000"], "unknown model 'resnet9000'"),
    "a width out of range": (["inspect", "resnet20", "--width", "9"], "--width is 9"),
    "a picture that is no PNG": (["inspect", "resnet20", "--png", "a.jpg"], "--png is 'a.jpg'"),
    "a picture nowhere": (["inspect", "resnet20", "--png", "no/a.png"], "--png is 'no/a.png'"),
    "a data set that is none": (["data", "check", "nowhere"], "does not exist"),
    "no images to show": (["data", "show", "--images", "0"], "--images is 0"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "said"), BAD.values(), ids=BAD)
def test_bad_input_is_answered_in_one_line(command, arguments, said, tmp_path):
    done = command(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert not list(tmp_path.iterdir()), "it left something behind"


def folder_of(tmp_path, **classes):
    from PIL import Image

    for name, count in classes.items():
        (tmp_path / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (40, 40), (i * 20, 0, 0)).save(tmp_path / name / f"{i}.jpg")
    return tmp_path


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ({}, "no class folders"),
        ({"cat": 5}, "only one class"),
        ({"cat": 5, "dog": 0}, "no usable images"),
    ],
    ids=["an empty folder", "one class", "an empty class"],
)
def test_a_folder_without_classes_is_answered_in_one_line(command, tmp_path, classes, said):
    done = command("train", folder_of(tmp_path / "data", **classes) if classes else tmp_path)
    assert done.returncode == 2 and said in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_text_named_as_an_image_is_named_or_skipped(command, tmp_path, no_pictures):
    from keras_resnet import train

    data = folder_of(tmp_path / "data", cat=10, dog=10)
    (data / "cat" / "notes.jpg").write_text("meow")
    done = command("train", data, cwd=tmp_path)
    assert done.returncode == 2
    assert "notes.jpg: not an image" in done.stderr and "--on-bad-image skip" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    run = train(
        str(data), on_bad_image="skip", epochs=1, batch_size=8, image_size=16, model="resnet8",
        run_folder=tmp_path / "run",
    )  # fmt: skip
    assert run.metrics["val"]["images"] == 4


def test_json_is_one_document_and_tensorflow_stays_off_the_terminal(script, trained):
    done = script("evaluate", trained.path, "--json")
    assert json.loads(done.stdout)["top1"] == trained.metrics["val"]["top1"]
    assert done.returncode == 0 and done.stderr == ""


@pytest.mark.slow  # test_resume.py does the same with SIGTERM
def test_ctrl_c_ends_in_one_line(signals_are_heard, photos, tmp_path):
    from pathlib import Path

    script = Path(sys.executable).parent / "keras-resnet"
    process = subprocess.Popen(
        [script, "train", photos, "--epochs", "500", "--run", "run", "--batch-size", "16",
         "--model", "resnet8", "--image-size", "16"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while process.poll() is None and not (tmp_path / "run" / "history.csv").exists():
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.splitlines()[-1] == (
        "keras-resnet: interrupted; `keras-resnet train --resume run` resumes it"
    )
    assert "Traceback" not in stderr


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_any_command_with_one_line_and_without_its_temporary_files(
    number, status, signals_are_heard, monkeypatch, capsys, tmp_path
):
    def main(*_, **__):
        with tempfile.TemporaryDirectory(dir=tmp_path):
            os.kill(os.getpid(), number)
            time.sleep(10)

    monkeypatch.setattr(cli.messages, "leave_terminal", lambda: None)
    before = signal.getsignal(number)
    monkeypatch.setattr(cli.group, "main", main)
    assert cli.run(["export"]) == status
    assert capsys.readouterr().err == "keras-resnet: interrupted\n"
    assert not list(tmp_path.iterdir()) and signal.getsignal(number) is before


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (OSError(28, "No space left on device"), 1, "cannot write (No space left on device); free"),
        (OSError(28, "No space left on device", "x.csv"), 1, "cannot write (x.csv: No space left"),
        (PermissionError(13, "Permission denied", "runs"), 2, "runs: Permission denied; give anot"),
    ],
)
def test_an_error_of_the_disk_says_what_helps(error, status, line, monkeypatch, capsys):
    def main(*_, **__):
        raise error

    monkeypatch.setattr(cli.group, "main", main)
    assert cli.run(["evaluate"]) == status
    assert capsys.readouterr().err.startswith(f"keras-resnet: {line}")


class _Deleted:
    """Gets a signal while Python deletes it, where an exception has nowhere to go."""

    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)


def test_a_signal_while_an_object_is_deleted_is_not_lost(signals_are_heard, monkeypatch, capsys):
    def main(*_, **__):
        _Deleted()
        time.sleep(10)

    monkeypatch.setattr(cli.group, "main", main)
    assert cli.run(["predict"]) == 143
    assert capsys.readouterr().err == "keras-resnet: interrupted\n"


def test_the_next_command_can_be_pasted():
    from keras_resnet import recipes
    from keras_resnet.cli import tables
    from keras_resnet.run import Run

    run = Run("my run")
    run.metrics, run.config = {"model": "resnet8", "parameters": 1}, recipes.resolve({})
    assert "keras-resnet export 'my run' --data DATA" in tables.imported(run)


def test_a_ctrl_c_that_becomes_another_error_is_one_line_too(
    signals_are_heard, monkeypatch, capsys
):
    words = (
        "pybind11::error_already_set: MISMATCH of original and normalized active exception types: "
        "ORIGINAL NotFoundError REPLACED BY KeyboardInterrupt: <EMPTY MESSAGE>"
    )

    def main(*_, **__):
        with suppress(KeyboardInterrupt):
            if "REPLACED" in words:
                os.kill(os.getpid(), signal.SIGINT)
        raise RuntimeError(words)

    monkeypatch.setattr(cli.group, "main", main)
    assert cli.run(["doctor"]) == 130
    assert capsys.readouterr().err == "keras-resnet: interrupted\n"
    words = "another"
    with pytest.raises(RuntimeError, match="another"):
        cli.run(["doctor"])


@pytest.mark.parametrize("name", ["benchmark", "export", "verify", "ship"])
def test_the_defaults_in_the_help_are_those_of_the_function(name):
    import inspect

    import keras_resnet
    from keras_resnet.exporting.plan import ExportPlan, Limits

    function = {"export": ExportPlan, "verify": Limits}.get(name, getattr(keras_resnet, name))
    theirs = {p.name: p.default for p in inspect.signature(function).parameters.values()}
    command = cli.group.get_command(None, name)
    shown = (p for p in command.params if getattr(p, "show_default", None))
    ours = {p.name: p.default for p in shown if p.name in theirs}
    assert ours == {key: theirs[key] for key in ours}
    assert len(ours) >= 2


def test_a_failed_gate_exits_with_1_and_still_prints_its_json(command, exported, tmp_path):
    import shutil

    shutil.copytree(exported[0].path, tmp_path / "run")
    path = tmp_path / "run" / "export" / "model_int8.tflite"
    path.write_bytes(path.read_bytes()[:-100])
    done = command("verify", tmp_path / "run", "--json")
    assert done.returncode == 1
    result = json.loads(done.stdout)
    assert not result["passed"]
    assert [row["file"] for row in result["artefacts"] if not row["passed"]] == [path.name]
    assert "changed since it was exported" in done.stderr


def test_inspect_counts_a_name_and_a_run_alike(command, trained):
    by_name = json.loads(command("inspect", "resnet8", "--json").stdout)
    assert by_name["trainable_parameters"] == 75_290
    by_run = json.loads(command("inspect", trained.path, "--json").stdout)
    assert by_run["trainable_parameters"] == 75_290 - 7 * 65  # three classes, not ten
    assert len(by_run["layers"]) == len(by_name["layers"])


def test_inspect_counts_a_run_and_its_tflite_files_alike(command, exported):
    run, _ = exported
    by_run = json.loads(command("inspect", run.path, "--json").stdout)
    norms = [row for row in by_run["layers"] if row["kind"] == "BatchNormalization"]
    # A batch norm's four numbers a channel became one, a bias; the pixels' shift is a row of 24.
    parameters = by_run["parameters"] - sum(row["parameters"] for row in norms) * 3 // 4 + 3 * 24

    def counted(found):
        return {
            row["name"]: row["multiply_adds"] for row in found["layers"] if row["multiply_adds"]
        }

    for variant in ("float32", "float16", "dynamic", "int8"):
        path = run.export_folder / f"model_{variant}.tflite"
        by_file = json.loads(command("inspect", path, "--json").stdout)
        assert (by_file["name"], by_file["trainable_parameters"]) == (str(path), 0)
        assert by_file["parameters"] == parameters
        for total in ("multiply_adds", "flops", "activations"):
            assert by_file[total] == by_run[total] > 0
        assert counted(by_file) == counted(by_run)  # the file has kept the layers' names


def test_inspect_draws_the_blocks_as_text_as_json_and_as_a_picture(command, trained, tmp_path):
    done = command("inspect", trained.path, "--drawing", "--png", "a.png", cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert lines[0] == "resnet8: 24x24x3" and lines[-1] == "wrote a.png"
    assert "  conv2_block1" in lines
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads(command("inspect", "resnet20", "--drawing", "--json").stdout)
    assert found["drawing"]["stages"][2]["name"] == "conv2"
    assert found["multiply_adds"] == 40_551_040
    assert "png" not in found


def test_inspect_draws_nothing_without_a_graph(command, exported, tmp_path):
    import tensorflow as tf

    class Net(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((1, 8, 8, 3))])
        def __call__(self, x):
            return tf.reduce_mean(x, (1, 2))

    net = Net()
    tf.saved_model.save(net, tmp_path / "saved", signatures={"serving_default": net.__call__})
    file = exported[0].export_folder / "model_int8.tflite"
    for artefact, said in (
        (file, "has operators and no blocks"),
        ("saved", "without readable layers"),
    ):
        for options in (["--drawing"], ["--png", "a.png"]):
            done = command("inspect", artefact, *options, cwd=tmp_path)
            assert done.returncode == 2 and done.stdout == ""
            assert said in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "a.png").exists()


def test_inspect_counts_the_operators_of_a_tflite_file(command, exported):
    path = exported[0].export_folder / "model_int8.tflite"
    assert "CONV_2D                       7" in command("inspect", path).stdout.splitlines()


def test_data_check_counts_and_finds_leaks(command, tmp_path):
    data = folder_of(tmp_path / "data" / "train", cat=3, dog=3).parent
    folder_of(tmp_path / "data" / "val", cat=1, dog=1)
    done = command("data", "check", data, "--json")
    result = json.loads(done.stdout)
    assert result["files"] == 8 == result["used"] and result["skipped"] == {}
    assert result["classes"] == {"cat": 4, "dog": 4}
    assert result["leaks"] == 1 and done.returncode == 1  # every picture 0.jpg is black


def test_data_check_shows_twenty_of_many_classes(command, tmp_path):
    data = folder_of(tmp_path / "data", **{f"class-{i:02}": 2 for i in range(30)})
    lines = command("data", "check", data).stdout.splitlines()
    shown = [line for line in lines if line.startswith("class-") and line.split()[1] == "2"]
    assert len(shown) == 20 and "… and 10 more (--json lists them)" in lines


def test_data_show_draws_a_picture(command, photos, tmp_path):
    from PIL import Image

    done = command("data", "show", photos, "--images", 6, "--output", "sheet.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert min(Image.open(tmp_path / "sheet.png").size) > 100


def test_doctor_says_what_auto_would_take(command):
    found = json.loads(command("doctor", "--json").stdout)
    assert found["precision"]["auto"] in ("float32", "mixed_bfloat16", "mixed_float16")
    assert found["versions"]["keras"] and found["cpu"]["cores"] >= 1
    ratios = found["precision"]["step_time_over_float32"]
    assert len(ratios) == 5 and all(ratio > 0 for ratio in ratios.values())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("data show digits --seed -1", "--seed is -1; expected at least 0"),
        ("data show digits --output x.txt", "--output is 'x.txt'; expected FILE.png"),
        ("train --image-size 100000", "--image-size is 100000; expected a number of pixels, at"),
        ("train --normalize nan/1", "normalize is 'nan/1'; expected"),
        ("train --group-by (", "--group-by is '('; expected parent, or a regular expression"),
    ],
)
def test_values_that_cannot_be_are_refused_at_once(command, arguments, said):
    done = command(*arguments.split())
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def writes_a_file(tmp_path_factory):
    """A SavedModel that classifies images, and writes a file each time."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("elsewhere")
    written = folder / "written.txt"

    class Net(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3))])
        def __call__(self, image):
            tf.io.write_file(str(written), "here")
            return tf.reduce_mean(image, (1, 2))

    net = Net()
    tf.saved_model.save(net, folder / "saved", signatures={"serving_default": net.__call__})
    return folder / "saved", written


@pytest.mark.parametrize(
    "words", ["evaluate {} {photos}", "predict {} {photos}", "benchmark {} --runs 1",
              "inspect {}", "explain gradients {}"],
)  # fmt: skip
def test_a_saved_model_from_elsewhere_is_not_run(command, writes_a_file, photos, words):
    saved, written = writes_a_file
    done = command(*words.format(saved, photos=photos).split())
    assert done.returncode == 2 and done.stdout == "" and len(done.stderr.splitlines()) == 1
    assert str(saved) in done.stderr
    assert ("--trust" in done.stderr) == (words.split()[0] in ("evaluate", "predict", "benchmark"))
    assert not written.exists()


@pytest.mark.parametrize("words", ["predict {} {photos} --top 1", "benchmark {} --runs 1"])
def test_a_saved_model_is_run_with_trust(command, writes_a_file, photos, words):
    saved, written = writes_a_file
    done = command(*words.format(saved, photos=photos).split(), "--trust")
    assert done.returncode == 0, done.stderr
    assert written.exists()
    written.unlink()
