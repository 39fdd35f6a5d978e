"""Export: only files that pass the gate are published."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import keras
import numpy as np
import pytest

from keras_resnet import open_run
from keras_resnet.errors import CheckFailed, InputError, Interrupted, NetworkFailed
from keras_resnet.evaluation.artefact import open_artefact
from keras_resnet.evaluation.lite import Lite
from keras_resnet.evaluation.scores import stream_for
from keras_resnet.exporting import exporter, golden, publish, run_report
from keras_resnet.exporting.exporter import export
from keras_resnet.exporting.gate import demand, verify
from keras_resnet.filenames import TFLITE
from keras_resnet.inspection import tflite_file
from keras_resnet.inspection.census import Signature
from keras_resnet.report import page
from keras_resnet.run import Run, build
from keras_resnet.state import isolated

NAMES = ["saved_model", *TFLITE.values()]
# conv + dense, and what remains of a ResNet-8 once batch norms are folded and ReLUs fused
EXPECTED_OPS = {"CONV_2D": 7, "ADD": 4, "MUL": None, "MEAN": 1, "FULLY_CONNECTED": 1}


def images(run, count=12):
    opened = open_artefact(run.path)
    batch, _ = next(stream_for(opened, run.examples("val")).as_numpy_iterator())
    return batch[:count]


def test_everything_asked_for_is_there(exported):
    run, result = exported
    there = {path.name for path in run.export_folder.iterdir()}
    notes = {"calibration.json", "labels.txt", "manifest.json", "preprocess.json", "verify.json"}
    assert there == {*NAMES, *notes, "quantization.png", "golden", "card.md"}
    assert [row.file for row in result.artefacts] == NAMES
    assert not list(run.path.glob(".export*"))


def test_other_users_can_read_what_is_published(tmp_path):
    """Such as a web server; a temporary folder is for its owner alone."""
    with publish.staged(tmp_path / "export") as folder:
        (folder / "model.tflite").touch()
    assert (tmp_path / "export").stat().st_mode & 0o777 == 0o755
    (tmp_path / "export").chmod(0o700)
    with publish.staged(tmp_path / "export"):
        pass
    assert (tmp_path / "export").stat().st_mode & 0o777 == 0o700  # as its owner made it


def test_what_cannot_be_published_is_refused_before_the_work(tmp_path, monkeypatch):
    target = tmp_path / "export"
    target.mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(publish.os, "access", lambda path, mode: path != target)
        refusal = rf"cannot write in {target}: Permission denied; make it writable, or export"
        with pytest.raises(InputError, match=refusal), publish.locked(target):
            pass
        with publish.locked(target, or_reading=True) as is_writable:
            assert not is_writable
    (tmp_path / ".export-old").mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(publish.shutil, "rmtree", lambda *_, **__: None)  # files of another user
        refusal = r"\.export-old is left of an earlier export and cannot be deleted; delete it"
        with pytest.raises(InputError, match=refusal), publish.locked(target):
            pass
    with publish.locked(target):
        assert not (tmp_path / ".export-old").exists()
    monkeypatch.setattr(os.path, "ismount", lambda path: path == target)
    with pytest.raises(InputError, match="export is a mount point; give a folder inside it"):
        exporter._require_place(target)


def test_leftovers_are_those_of_the_folder_alone(tmp_path):
    other = tmp_path / "out-new-phone"
    with publish.locked(other), publish.staged(other) as staging:
        beside = tmp_path / f"{staging.name}-abc_1234"
        for folder in (beside, tmp_path / ".out-new-phone-kept", tmp_path / ".out-new-abc_1234"):
            folder.mkdir()
        with publish.locked(tmp_path / "out"):
            assert staging.exists() and beside.exists()
            assert (tmp_path / ".out-new-phone-kept").exists()
            assert not (tmp_path / ".out-new-abc_1234").exists()
    (tmp_path / f".{other.name}-new-abc_1234-abc_1234").mkdir()
    with publish.locked(other):
        assert not list(tmp_path.glob(".out-new-phone-new-*"))


def test_a_lock_on_a_file_that_was_removed_before_is_no_lock(tmp_path, monkeypatch):
    """As by a process whose holder ends just after this one has opened it."""
    target, lock = tmp_path / "export", publish.files.lock

    def late(file):
        monkeypatch.setattr(publish.files, "lock", lock)
        os.unlink(file.name)
        lock(file)

    monkeypatch.setattr(publish.files, "lock", late)
    said = "another process is writing"
    with publish.locked(target), pytest.raises(InputError, match=said), publish.locked(target):
        pass


def test_links_in_a_folder_are_kept_as_links(tmp_path):
    target = tmp_path / "export"
    target.mkdir()
    (target / "loop").symlink_to("..")
    (target / "python").symlink_to(sys.executable)
    with publish.staged(target) as staging:
        (staging / "model.tflite").touch()
    assert (target / "loop").is_symlink() and (target / "python").is_symlink()


def test_the_gate_reports_the_contract(exported):
    run, result = exported
    for row in result.artefacts:
        assert row.passed and row.why == "" and row.images == 12
    content = json.loads((run.export_folder / "verify.json").read_text())
    assert content == result.as_json()
    assert list(content) == [
        "passed", "images", "max_drop", "keras", "artefacts", "files", "quantization",
    ]  # fmt: skip
    assert content["keras"].keys() == {"top1", "known_refused", "unknown_refused"}
    for row in content["artefacts"]:
        assert list(row) == [
            "file", "bytes", "sha256", "images", "top1", "drop_points", "drop_interval",
            "agreement", "max_logit_diff", "rms_error", "slope", "known_refused",
            "unknown_refused", "new_class_top1", "known_drop_points", "latency_ms", "ops",
            "answers_sha256", "answers_repeat", "passed", "why",
        ]  # fmt: skip
    layers, blocks = content["quantization"].pop("layers"), content["quantization"].pop("blocks")
    assert {*layers[0]} == {"layer", "block", "part", "op", "lost", "steps"}
    assert {*blocks[0]} == {"block", "branch", "shortcut", "sum"} and not content["quantization"]


@pytest.fixture
def reads(first_export):
    """How often the export read each file of the run, by its name in there."""
    seen = json.loads((first_export / "seen.json").read_text())["reads"]
    inside = f"{first_export / 'run'}{os.sep}"
    return {path.removeprefix(inside): n for path, n in seen.items() if path.startswith(inside)}


@pytest.mark.parametrize("name", ["config.json", "labels.txt", "split.json", "metrics.json"])
def test_an_export_reads_what_the_run_says_once(reads, name):
    assert reads[name] == 1
    assert reads["manifest.json"] == 2  # again before it changes a row


def rows_of(run):
    return json.loads(run.file("manifest.json").read_text())


def test_the_report_shows_the_exported_files_and_the_manifest_knows_it(exported):
    run, result = exported
    html = run.file("report.html").read_text()
    for row in result.artefacts:
        assert row.file in html.replace("<wbr>", "") and f"{row.latency_ms:.2f} ms" in html
    assert "What an app needs" in html and "color_order" in html
    assert "[0.75, 1.333]" in html  # crop_aspect: settings as before the export
    assert open_run(run.path).intact("report.html") and rows_of(run).keys() >= FILES_OF_REPORT


FILES_OF_REPORT = {"predictions.csv", "examples.json", "history.csv", "batch.png", "report.html"}


def test_verify_updates_the_report(copy):
    copy.file("report.html").write_text("old")
    verify(copy)
    assert "Exported files" in copy.file("report.html").read_text()
    assert open_run(copy.path).intact("report.html")


@pytest.mark.parametrize("point", ["write_text", "_write_manifest"])
def test_a_kill_while_the_report_is_written_leaves_a_manifest_that_is_right(
    copy, monkeypatch, point
):
    """Before the page takes its place, and after it, before its row is written."""
    before, calls = rows_of(copy), []

    def die(*arguments):
        calls.append(arguments)
        if point == "write_text" or len(calls) > 1:
            os._exit(9)
        plain(*arguments)

    home = page if point == "write_text" else Run
    plain = getattr(home, point)
    monkeypatch.setattr(home, point, die)
    child = os.fork()
    if not child:
        run_report.update(open_run(copy.path), copy.export_folder)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    monkeypatch.undo()
    rows = rows_of(copy)
    assert rows == {name: row for name, row in before.items() if name != "report.html"}
    run_report.update(open_run(copy.path), copy.export_folder)
    assert rows_of(copy).keys() == before.keys()
    assert open_run(copy.path).intact("report.html")


def test_a_kill_while_a_run_is_told_where_its_images_are_leaves_a_manifest_that_is_right(
    copy, photos, tmp_path, monkeypatch
):
    """After the new settings are written, before their row is."""
    moved = shutil.copytree(photos, tmp_path / "moved")
    before, calls, plain = rows_of(copy), [], Run._write_manifest

    def die(*arguments):
        calls.append(arguments)
        if len(calls) > 1:
            os._exit(9)
        plain(*arguments)

    child = os.fork()
    if not child:
        monkeypatch.setattr(Run, "_write_manifest", die)
        open_run(copy.path).attach(moved)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert rows_of(copy) == {name: row for name, row in before.items() if name != "config.json"}
    assert open_run(copy.path).config.data == str(moved)
    open_run(copy.path).attach(moved)
    assert rows_of(copy).keys() == before.keys()


def test_a_run_with_a_damaged_file_keeps_its_report_and_is_told(copy, capsys):
    copy.file("history.csv").write_text("epoch\n")
    before = copy.file("report.html").read_bytes()
    run_report.update(open_run(copy.path), copy.export_folder)
    assert copy.file("report.html").read_bytes() == before
    assert "does not show the exported files" in capsys.readouterr().err


@pytest.mark.parametrize("name", TFLITE.values())
def test_an_export_reads_each_file_it_made_twice(reads, first_export, name):
    """To put the metadata in, and to judge it; LiteRT gets what was read, on all threads and on
    one, for the latency."""
    found = {path: n for path, n in reads.items() if path.endswith(f"/{name}")}
    (times,) = [n for path, n in found.items() if "-kept/" not in path]  # its source
    assert times == 2
    assert json.loads((first_export / "seen.json").read_text())["opened"][name] == 2


def test_an_export_opens_its_saved_model_once(reads, first_export):
    seen = json.loads((first_export / "seen.json").read_text())
    assert seen["opened"]["saved_model"] == 1
    (times,) = [n for path, n in reads.items() if path.endswith("/saved_model.pb")]
    assert times == 2  # for its sha256, noted and checked; TensorFlow itself reads past Python


def test_an_export_builds_one_network_and_checks_no_image_that_training_has_checked(first_export):
    seen = json.loads((first_export / "seen.json").read_text())
    assert (seen["networks"], seen["checked"]) == (1, 0)


@pytest.mark.parametrize("time_tells", [True, False])
def test_an_image_damaged_since_the_training_is_one_line(
    time_tells, untouched, photos, tmp_path, command, accept
):
    import shutil

    shutil.copytree(photos, tmp_path / "photos")
    run = shutil.copytree(untouched, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"data": str(tmp_path / "photos")}))
    accept(run, "config.json")
    name, *_ = json.loads((run / "split.json").read_text())["val"][0]
    photo = tmp_path / "photos" / name
    before = photo.stat().st_mtime_ns
    photo.write_bytes(photo.read_bytes()[: photo.stat().st_size // 2])  # the header is whole
    if not time_tells:
        os.utime(photo, ns=(before, before))
    for words in (["export", run, "--tflite"], ["evaluate", run]):
        done = command(*words)
        (line,) = done.stderr.splitlines()[-1:]
        assert done.returncode == 2 and name in line and "cannot be decoded" in line
        assert "Traceback" not in done.stderr


def test_sizes_shrink_as_bits_do(exported):
    size = {row.file: row.bytes for row in exported[1].artefacts}
    assert size["model_float16.tflite"] < 0.55 * size["model_float32.tflite"]
    assert size["model_int8.tflite"] < 0.32 * size["model_float32.tflite"]


@pytest.mark.parametrize("name", TFLITE.values())
def test_only_builtin_operators_and_the_expected_ones(exported, name):
    path = exported[0].export_folder / name
    assert tflite_file.faults(path) == []
    ops = tflite_file.census(path).ops
    assert {op: ops.get(op) for op in EXPECTED_OPS} == EXPECTED_OPS


def test_both_ends_are_named(exported):
    path = exported[0].export_folder / "model_float32.tflite"
    assert tflite_file.census(path).signatures == {
        "serving_default": Signature(inputs=["image"], outputs=["logits"])
    }


def test_a_phone_without_tensorflow_computes_what_keras_does(exported, tmp_path):
    """ai-edge-litert alone, in a process that cannot import TensorFlow or Keras."""
    run, _ = exported
    batch = images(run).astype(np.float32)
    np.save(tmp_path / "images.npy", batch)
    code = """
import sys
sys.modules["tensorflow"] = sys.modules["keras"] = None
import numpy as np
from ai_edge_litert.interpreter import Interpreter
model = Interpreter(sys.argv[1])
serve = model.get_signature_runner("serving_default")
logits = [serve(image=x[None])["logits"][0] for x in np.load("images.npy")]
np.save("logits.npy", np.stack(logits))
"""
    path = run.export_folder / "model_float32.tflite"
    subprocess.run([sys.executable, "-c", code, path], cwd=tmp_path, check=True)
    expected = run.model().predict(batch, verbose=0)
    ours = np.load(tmp_path / "logits.npy")
    assert np.abs(ours - expected).max() <= 1e-4 * np.abs(expected).max()


def test_the_saved_model_takes_photos_as_they_are(exported, photos):
    import tensorflow as tf

    run, _ = exported
    loaded = tf.saved_model.load(str(run.export_folder / "saved_model"))
    files = [photos / "dark" / "01.jpg", photos / "bright" / "00.jpg"]
    answer = loaded.signatures["serving_bytes"](
        image_bytes=tf.constant([file.read_bytes() for file in files])
    )
    assert [name.decode() for name in answer["label"].numpy()] == ["dark", "bright"]
    assert answer["scores"].numpy().sum(-1) == pytest.approx([1, 1], abs=1e-5)


def test_the_saved_model_holds_each_weight_once(exported):
    run, _ = exported
    size = sum(
        file.stat().st_size for file in (run.export_folder / "saved_model/variables").iterdir()
    )
    assert size < 1.1 * 4 * run.model().count_params()


@pytest.mark.parametrize("io", ["uint8", pytest.param("int8", marks=pytest.mark.slow)])
def test_raw_bytes_go_in_as_they_are(exported, io, tmp_path, monkeypatch):
    run, _ = exported
    (tmp_path / "random.py").write_text("raise SystemExit('a file of the user was imported')")
    monkeypatch.chdir(tmp_path)
    export(run, saved_model=False, tflite=["int8"], io=io, calibration=20, max_drop=100,
           output=tmp_path / "out")  # fmt: skip
    path = tmp_path / "out" / "model_int8.tflite"
    (tensor,) = tflite_file.census(path).inputs
    zero = {"uint8": 0, "int8": -128}[io]
    assert (tensor.dtype, tensor.scale, tensor.zero_point) == (io, 1.0, zero)
    ours = Lite(path).predict(images(run))
    floats = Lite(run.export_folder / "model_int8.tflite").predict(images(run))
    # the output is rounded to int8 once more
    assert np.abs(ours - floats).max() < 0.1 * np.abs(floats).max()
    expected = run.model().predict(images(run), verbose=0)
    assert np.abs(ours - expected).max() < 0.2 * np.abs(expected).max()
    assert (ours.argmax(-1) == expected.argmax(-1)).mean() >= 0.9


@pytest.mark.parametrize(
    "policy", ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)]
)
def test_a_run_in_mixed_precision_exports_like_any_other(untouched, tmp_path, policy):
    run = open_run(shutil.copytree(untouched, tmp_path / "run"))
    weights = run.model().get_weights()
    with isolated():  # a file as training leaves it: of layers that compute in 16 bits
        keras.config.set_dtype_policy(policy)
        model = build(run.config, len(run.classes))
        model.set_weights(weights)
        run.save_model(model)
    run.save_manifest()
    assert policy.encode() in zipfile.ZipFile(run.file("model.keras")).read("config.json")
    result = export(run, saved_model=False, tflite=["none"])
    (row,) = result.artefacts
    assert row.passed and row.agreement == 1.0
    assert tflite_file.faults(run.export_folder / row.file) == []


@pytest.fixture
def copy(exported, tmp_path):
    """A copy of the exported run that may be damaged."""
    import shutil

    shutil.copytree(exported[0].path, tmp_path / "copy")
    return open_run(tmp_path / "copy")


def snapshot(run):
    return {p.name: p.read_bytes() for p in sorted(run.export_folder.rglob("*")) if p.is_file()}


def test_a_flipped_bit_is_noticed(copy):
    path = copy.export_folder / "model_int8.tflite"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    result = verify(copy)
    row = next(row for row in result.artefacts if row.file == path.name)
    assert not result.passed and "changed since it was exported" in row.why
    with pytest.raises(NetworkFailed, match=r"model_int8\.tflite: changed"):
        demand(result)


def test_a_damaged_file_stays_damaged_however_often_it_is_verified(copy):
    path = copy.export_folder / "model_int8.tflite"
    path.write_bytes(path.read_bytes()[:-1000])
    assert not verify(copy).passed
    assert not verify(copy).passed


def test_a_bad_conversion_is_refused_and_the_earlier_export_stays(copy, monkeypatch):
    """Weights scrambled on the way out: the file is well formed, and wrong."""
    from keras_resnet.exporting import saved_model

    honest = saved_model.write_for_conversion

    def scramble(plan, model, folder, **ends):
        kernel = model.get_layer("logits")
        weights, bias = kernel.get_weights()
        kernel.set_weights([-weights, bias])
        honest(plan, model, folder, **ends)

    monkeypatch.setattr(saved_model, "write_for_conversion", scramble)
    before = snapshot(copy)
    with pytest.raises(CheckFailed, match=r"model_float32\.tflite: top-1 is .* points lower"):
        export(copy, saved_model=False, tflite=["none"])
    assert snapshot(copy) == before
    assert not list(copy.path.glob(".export*"))


SCRIPT = (
    "import sys; from keras_resnet.exporting.exporter import export; "
    "export(sys.argv[1], saved_model=False, tflite=['none'])"
)


def start_export(run):
    return subprocess.Popen([sys.executable, "-c", SCRIPT, run.path], start_new_session=True)


def kill(process):
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def assert_whole_and_mended(run, before):
    assert snapshot(run) == before
    export(run, saved_model=False, tflite=["none"])
    assert not list(run.path.glob(".export*"))


def test_what_a_killed_export_leaves_is_the_earlier_one_whole(copy, tmp_path, monkeypatch):
    """The run as it is on the disk after the gate has judged, before the new export is published;
    the processes below are killed, which takes longer."""
    before, write = snapshot(copy), golden.write

    def copy_and_write(*arguments):
        shutil.copytree(copy.path, tmp_path / "killed")
        write(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(golden, "write", copy_and_write)
        export(copy, saved_model=False, tflite=["none"])
    killed = open_run(tmp_path / "killed")
    assert list(killed.path.glob(".export-new-*/model_float32.tflite"))
    assert_whole_and_mended(killed, before)


@pytest.mark.slow
@pytest.mark.parametrize(
    "point",
    [
        pytest.param("", id="begun"),
        pytest.param("/model_float32.tflite", id="written"),
        pytest.param("/golden/check.py", id="judged"),
    ],
)
def test_an_export_killed_in_the_middle_leaves_the_earlier_one_whole(copy, point):
    before = snapshot(copy)
    process = start_export(copy)

    def is_made_anew(path):
        return path.is_dir() or path.stat().st_nlink == 1

    while process.poll() is None and not any(
        map(is_made_anew, copy.path.glob(f".export-new-*{point}"))
    ):
        time.sleep(0.02)
    assert process.poll() is None, "it ended before it could be killed"
    kill(process)
    assert_whole_and_mended(copy, before)


def test_an_interrupted_export_says_what_the_same_command_does(copy, monkeypatch):
    def interrupt(*_):
        raise Interrupted("interrupted", 143)

    monkeypatch.setattr(exporter, "_write", interrupt)
    with pytest.raises(Interrupted, match="nothing was published") as error:
        export(copy)
    assert error.value.status == 143


def test_an_unfinished_run_is_resumed_first(copy, monkeypatch):
    monkeypatch.setattr(exporter, "execute", lambda *_: pytest.fail("the export begins"))
    for name in ("manifest.json", "metrics.json"):
        copy.file(name).unlink()
    with pytest.raises(InputError, match=r"is not finished; `keras-resnet train --resume .*` resu"):
        export(copy.path)


def test_a_model_that_cannot_be_unpacked_is_one_line(command, copy):
    before, line = snapshot(copy), ("export", copy.path, "--tflite", "--quantize", "none")
    environment = os.environ | {"TMPDIR": str(copy.path.parent)}
    done = command(*line, most_bytes=20_000, env=environment)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        f"keras-resnet: cannot unpack {copy.path}/model.keras in {copy.path.parent} (File too "
        "large); free some space, or set TMPDIR"
    ), done.stderr
    assert "Traceback" not in done.stderr
    assert snapshot(copy) == before and not list(copy.path.glob(".export*"))


def test_a_full_disk_is_one_line(copy, monkeypatch):
    from keras_resnet.exporting import saved_model

    before, honest = snapshot(copy), saved_model.write_for_conversion
    most, limit = resource.getrlimit(resource.RLIMIT_FSIZE)

    def write_little(*what, **options):
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit))
        try:
            honest(*what, **options)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, limit))

    monkeypatch.setattr(saved_model, "write_for_conversion", write_little)
    said = (
        rf"^cannot write in {copy.path} \(File too large\); free some space \(the export needs up "
        r"to [1-9][\d.]* MB\), then export again$"
    )
    with pytest.raises(CheckFailed, match=said):
        export(copy, saved_model=False, tflite=["none"])
    assert snapshot(copy) == before and not list(copy.path.glob(".export*"))


ON_A_SMALL_DISK = """
mount -t tmpfs -o size=$((used + free))k none disk
cp -a copy disk/run
"$command" export disk/run --tflite --quantize none --quantize float16 2> said
echo $? > code
cp -a disk/run/export after
ls -A disk/run > left
"""


@pytest.mark.slow
@pytest.mark.parametrize("free", [0, 20, 100, 250, 500, 800, 1100])  # kilobytes
def test_a_full_disk_leaves_the_earlier_export_whole(copy, free):
    """A file system of that size, mounted where only the command sees it."""
    home = copy.path.parent
    (home / "disk").mkdir()
    inside = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-euc"]
    try:
        subprocess.run([*inside, "mount -t tmpfs none disk"], cwd=home, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("file systems cannot be mounted here")
    used = int(subprocess.check_output(["du", "-sk", copy.path]).split()[0])
    program = os.path.join(os.path.dirname(sys.executable), "keras-resnet")
    values = {"used": used, "free": free, "command": program}
    environment = os.environ | {name: str(value) for name, value in values.items()}
    subprocess.run([*inside, "set +e" + ON_A_SMALL_DISK], cwd=home, env=environment, check=True)
    code, said = int((home / "code").read_text()), (home / "said").read_text()
    after = {p.name: p.read_bytes() for p in (home / "after").rglob("*") if p.is_file()}
    if code == 0:
        assert after != snapshot(copy)
    else:
        assert code == 1 and after == snapshot(copy)
        assert "No space left on device" in said.splitlines()[-1], said
        assert not [name for name in (home / "left").read_text().split() if "new" in name]
    assert "Traceback" not in said


@pytest.mark.slow
def test_an_export_killed_at_any_of_20_points_leaves_the_earlier_one_whole(copy):
    began = time.monotonic()
    assert start_export(copy).wait() == 0
    whole = time.monotonic() - began
    before, killed = snapshot(copy), 0
    for point in range(20):
        process = start_export(copy)
        try:
            process.wait(whole * (point + 0.5) / 20)
        except subprocess.TimeoutExpired:
            killed += 1
            kill(process)
            with publish.locked(copy.export_folder):  # as every command does first
                pass
            if snapshot(copy) != before:  # it had published, and was about to end
                assert snapshot(copy).keys() == before.keys() and verify(copy).passed
                before = snapshot(copy)
        else:  # a fast one; what it has published is the new earlier one
            before = snapshot(copy)
    assert killed >= 10
    assert_whole_and_mended(copy, before)


def test_a_kill_between_the_two_renames_is_mended(copy):
    before = snapshot(copy)
    copy.export_folder.rename(copy.path / ".export-old")
    assert verify(copy).passed
    assert snapshot(copy).keys() == before.keys()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"tflite": ["int4"]}, "int4: use one of none"),
        ({"tflite": "int8"}, "expected a list"),
        ({"tflite": True}, "tflite is True; expected a list"),
        ({"tflite": ["none"], "io": "uint8"}, "add --quantize int8"),
        ({"tflite": ["auto", "none"]}, "auto chooses one file"),
        ({"tflite": ["none"], "explain_quantization": True}, "add --quantize int8"),
        ({"tflite": [], "saved_model": False}, "nothing to export"),
        ({"calibration": 0}, "--calibration is 0"),
        ({"max_drop": -1}, "--max-drop is -1"),
        ({"images": 0}, "--images is 0"),
        ({"max_drop": None}, "--max-drop is None; expected a number"),
        ({"bundles": ["ios"]}, "--bundle ios"),
    ],
)
def test_wrong_arguments_are_refused_before_any_work(exported, arguments, said, monkeypatch):
    monkeypatch.setattr("keras_resnet.exporting.publish.staged", None)
    with pytest.raises(InputError, match=said):
        export(exported[0], **arguments)


def test_a_folder_of_other_things_is_not_replaced(exported, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="is not an export folder"):
        export(exported[0], output=tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_verifying_before_exporting_says_what_to_do(tmp_path, trained):
    import shutil

    shutil.copytree(trained.path, tmp_path / "run", ignore=shutil.ignore_patterns("export"))
    with pytest.raises(InputError, match="no exported files; `keras-resnet export"):
        verify(tmp_path / "run")


@pytest.mark.parametrize("name", ["trial [2] *{}\\ 'é\""])
def test_a_run_is_exported_whatever_its_folder_is_called(untouched, tmp_path, name):
    run = open_run(shutil.copytree(untouched, tmp_path / name))
    result = export(run, saved_model=True, tflite=["none"], output=run.path / "to [1]")
    assert [row.file for row in result.artefacts] == ["saved_model", "model_float32.tflite"]
    assert result.passed
    assert sorted(p.name for p in run.path.iterdir() if p.name.startswith(".")) == []


def test_a_sweep_takes_no_name_for_a_pattern(tmp_path):
    for name in (".a-new-abcd_123", ".*-new-abcd_123", ".b-old"):
        (tmp_path / name).mkdir()
    with publish.locked(tmp_path / "*"):
        pass
    assert sorted(os.listdir(tmp_path)) == [".a-new-abcd_123", ".b-old"]
