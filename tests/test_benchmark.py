"""`benchmark`: artefacts are measured in turn, each in its own process."""

import json
import os
import shlex
import shutil
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from keras_resnet.cli import tables
from keras_resnet.errors import CheckFailed, InputError
from keras_resnet.evaluation import android
from keras_resnet.evaluation.benchmark import Spread, _Worker, benchmark, expand
from keras_resnet.geometry import Geometry


@pytest.fixture(scope="module")
def files(exported):
    folder = exported[0].export_folder
    return [str(folder / f"model_{name}.tflite") for name in ("float32", "int8")]


@pytest.fixture(scope="module")
def measured(files):
    return benchmark(files, batch_size=4, runs=10)


def test_every_artefact_has_every_number(measured, files):
    assert [row.artefact for row in measured.artefacts] == files
    keys = {"artefact", "kind", "versions", "bytes", "p50_ms", "p95_ms", "ratio",
            "images_per_second", "memory_bytes", "runtime_bytes", "load_ms",
            "import_ms"}  # fmt: skip
    for row in measured.artefacts:
        assert {field.name for field in fields(row)} == keys
        assert 0 < row.p50_ms <= row.p95_ms
        assert row.versions["ai-edge-litert"]
        assert row.ratio.min <= row.ratio.median <= row.ratio.max
        assert row.bytes == os.path.getsize(row.artefact)
    assert measured.runs >= 10 and measured.machine["cores"] >= 1
    assert json.loads(json.dumps(measured.as_json())) == measured.as_json()


def test_the_first_is_the_reference_and_says_how_steady_it_was(measured):
    first = measured.artefacts[0]
    assert measured.reference == first.artefact
    assert first.ratio == Spread(1.0, 1.0, 1.0)
    noise = measured.noise
    assert noise.min <= noise.median <= noise.max
    assert measured.steady == (0.95 <= noise.median <= 1.05)


def test_numbers_are_those_of_the_times(files, monkeypatch):
    """Of stand-ins that take 2 and 4 ms for an image, now and then more, and 5 ms for a batch."""

    class Timed:
        def __init__(self, path, threads, batch):
            self.ms = 2.0 if path == files[0] else 4.0
            self.facts = dict.fromkeys(
                ("kind", "versions", "bytes", "memory_bytes", "runtime_bytes", "load_ms",
                 "import_ms"), 0,
            ) | {"artefact": path}  # fmt: skip

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def ask(self, images, runs):
            return [5.0] if images == 8 else [self.ms] * (runs - 1) + [10 * self.ms]

    monkeypatch.setattr("keras_resnet.evaluation.benchmark._Worker", Timed)
    first, second = benchmark(files, batch_size=8, runs=70).artefacts
    assert (first.ratio, second.ratio) == (Spread(1.0, 1.0, 1.0), Spread(2.0, 2.0, 2.0))
    assert (second.p50_ms, second.p95_ms, second.images_per_second) == (4.0, 40.0, 1600.0)


def test_a_tflite_file_is_measured_without_the_weight_of_tensorflow(measured):
    for row in measured.artefacts:
        # TensorFlow alone takes 400 MB; this process' own peak must not be inherited either.
        assert row.runtime_bytes < row.memory_bytes < 200e6


def test_the_table_names_what_matters(measured):
    text = tables.benchmark(measured)
    for word in ("p50", "p95", "memory", "1 thread", "ai-edge-litert", "the first against itself"):
        assert word in text


def test_a_busy_machine_is_called_one(measured):
    noisy = replace(measured, noise=Spread(1.2, 0.9, 1.5), steady=False)
    assert "busy" in tables.benchmark(noisy)


def test_a_run_stands_for_its_keras_model_and_its_files(exported):
    run, _ = exported
    found = [os.path.relpath(path, run.path) for path in expand([run.path, run.path])]
    assert expand([run]) == expand(run) == expand(run.path) == expand(str(run))
    assert found[0] == "model.keras" and "export/saved_model" in found
    assert {"export/model_float32.tflite", "export/model_int8.tflite"} <= set(found)
    assert len(found) == len(set(found))


def test_keras_is_measured_like_the_others(exported):
    (row,) = benchmark([exported[0].path / "model.keras"], batch_size=2, runs=1).artefacts
    assert row.kind == "keras" and row.versions.keys() == {"tensorflow", "keras"}
    assert row.memory_bytes > 200e6


def test_the_images_are_random(files, monkeypatch):
    """Zeros are faster on some hardware than any photo."""
    from keras_resnet.evaluation import worker

    seen = []

    class Stub:
        kind, geometry = "tflite", Geometry(24, 24)

        def predict(self, images):
            seen.append(images)

    def open_stub(path, threads, trust):
        assert threads == 3
        return Stub()

    monkeypatch.setattr(worker, "open_artefact", open_stub)
    monkeypatch.setattr(sys, "stdin", ['{"images": 4, "runs": 2}'])
    answers = []
    worker._serve(files[0], 3, 4, answers.append)
    assert len(answers[1]["ms"]) == 2 and len(seen) == 1 + 3  # the first of three is a warm-up
    pixels = seen[-1]
    assert pixels.shape == (4, 24, 24, 3) and len(np.unique(pixels)) == 256


@pytest.mark.parametrize(
    ("options", "said"),
    [({"threads": 0}, "--threads is 0"), ({"threads": 1000000}, "expected at most"),
     ({"batch_size": 0}, "--batch-size is 0"),
     ({"runs": -1}, "--runs is -1")],
)  # fmt: skip
def test_numbers_that_cannot_be_meant_are_refused(files, options, said):
    with pytest.raises(InputError, match=said):
        benchmark(files, **options)


def test_a_file_that_cannot_be_opened_is_named_in_one_line(tmp_path):
    (tmp_path / "bad.tflite").write_bytes(b"rubbish" * 100)
    with pytest.raises(InputError, match=r"bad\.tflite cannot be run by LiteRT") as error:
        benchmark([tmp_path / "bad.tflite"])
    assert "\n" not in str(error.value)


def test_times_are_those_of_the_cpu(files):
    with _Worker(files[0], 1, 1) as worker:
        variables = Path(f"/proc/{worker._process.pid}/environ").read_text().split("\0")
    assert "CUDA_VISIBLE_DEVICES=-1" in variables


def test_a_process_that_dies_is_a_failed_check(files):
    with _Worker(files[0], 1, 1) as worker:
        worker._process.kill()
        worker._process.wait()  # now nobody reads the question either
        with pytest.raises(CheckFailed, match=r"its process failed: killed by SIGKILL"):
            worker.ask(1, 1)


def test_the_command_prints_the_table_or_json(command, files):
    done = command("benchmark", *files, "--runs", 7, "--batch-size", 2, "--json")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["artefacts"]) == 2


PHONE = """#!{python}
import sys
words = " ".join(sys.argv[1:])
open({log!r}, "a").write(words + "\\n")
if words == "devices":
    print("List of devices attached\\nserial\\tdevice")
elif "test -x" in words:
    print("there")
elif "getprop" in words:
    print("Pixel 9")
elif "--graph" in words:
    print("INFO: Inference timings in us: Init: 5685, First inference: 18535, "
          "Warmup (avg): 14462.3, Inference (avg): 14575.2")
    print("INFO: Memory footprint delta from the start of the tool (MB): init=1.5 overall=3.25")
"""


def fake_adb(folder, text):
    folder.mkdir()
    (folder / "adb").write_text(text)
    (folder / "adb").chmod(0o755)
    return str(folder)


def test_a_phone_is_asked_over_adb(files, tmp_path, monkeypatch):
    """A stand-in for adb that answers in the words of LiteRT's benchmark_model."""
    log = tmp_path / "log"
    adb = PHONE.format(python=sys.executable, log=str(log))
    monkeypatch.setenv("PATH", fake_adb(tmp_path / "bin", adb))
    result = android.benchmark(files[:1], threads=2, runs=5)
    (row,) = result.artefacts
    assert (row.average_ms, row.load_ms) == (14.5752, 5.685)
    assert row.memory_bytes == 3_250_000 and result.device == "Pixel 9"
    asked = log.read_text()
    assert "--num_threads=2" in asked and "--num_runs=5" in asked
    assert asked.splitlines()[-1].startswith("shell rm")  # nothing is left on the phone
    assert "Pixel 9" in tables.phone_benchmark(result)


def test_the_name_of_a_file_is_one_word_to_the_phone(files, tmp_path, monkeypatch):
    shutil.copyfile(files[0], tmp_path / "a b;c.tflite")
    log = tmp_path / "log"
    adb = PHONE.format(python=sys.executable, log=str(log))
    monkeypatch.setenv("PATH", fake_adb(tmp_path / "bin", adb))
    android.benchmark([tmp_path / "a b;c.tflite"], threads=1, runs=1)
    (run,) = (line for line in log.read_text().splitlines() if "--graph" in line)
    words = shlex.split(run)
    assert f"--graph={android.FOLDER}/keras_resnet_a b;c.tflite" in words, words


SEVERAL = """#!{python}
import os, sys
words = " ".join(sys.argv[1:])
if words == "devices":
    print("List of devices attached\\na\\tdevice\\nb\\tunauthorized\\nc\\t{state}")
elif "ANDROID_SERIAL" not in os.environ:
    sys.exit("error: more than one device/emulator")
else:
    print("there" if "test -x" in words else "phone " + os.environ["ANDROID_SERIAL"])
"""


def test_of_several_devices_the_ready_or_the_chosen_one_is_asked(tmp_path, monkeypatch):
    def plug(state):
        adb = SEVERAL.format(python=sys.executable, state=state)
        monkeypatch.setenv("PATH", fake_adb(tmp_path / state, adb))

    monkeypatch.delenv("ANDROID_SERIAL", raising=False)
    plug("offline")
    assert android.require_device() == "a"
    plug("device")
    with pytest.raises(InputError, match="adb finds a, c; set ANDROID_SERIAL to one"):
        android.require_device()
    monkeypatch.setenv("ANDROID_SERIAL", "c")
    assert android.require_device() == "c"
    monkeypatch.setenv("ANDROID_SERIAL", "d")
    with pytest.raises(InputError, match="adb finds no d that is ready"):
        android.require_device()


def test_without_adb_or_a_device_one_line_says_what_to_do(command, files, tmp_path):
    done = command("benchmark", files[0], "--android", env={"PATH": str(tmp_path)})
    assert done.returncode == 2 and "--android needs adb" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    none = fake_adb(tmp_path / "bin", "#!/bin/sh\necho List of devices attached\n")
    done = command("benchmark", files[0], "--android", env={"PATH": none})
    assert done.returncode == 2 and "adb finds no device that is ready" in done.stderr
