"""The number format of the training: measured on the device, with a warning if it is slow."""

import json
import time
from types import SimpleNamespace

import pytest

from keras_resnet import recipes
from keras_resnet.cli import tables
from keras_resnet.training import hardware, precision


@pytest.mark.parametrize(
    ("flags", "share", "policy"),
    [
        ({"avx2"}, None, "float32"),
        ({"avx2", "avx512f", "avx512_vnni"}, None, "float32"),
        ({"avx512f", "avx512_bf16"}, 0.42, "mixed_bfloat16"),
        ({"avx512f", "avx512_bf16"}, 1.8, "float32"),  # it has the instructions, and they are slow
        ({"amx_bf16"}, 0.3, "mixed_bfloat16"),
    ],
)
def test_auto_precision_follows_the_cpu(flags, share, policy, monkeypatch):
    monkeypatch.setattr(precision, "time_ratio", lambda *, policy, xla: share)
    chosen = precision._for_cpu(flags, xla=False)
    assert chosen.policy == policy
    assert (
        f"takes {share:.2f} × the time of float32" if share else "no bfloat16 units"
    ) in chosen.reason


def test_bfloat16_is_measured_against_float32():
    """How it comes out is the machine's; out of all proportion it would be our mistake."""
    assert 0.05 < precision.time_ratio(policy="mixed_bfloat16", xla=False) < 50


@pytest.mark.parametrize(
    ("capability", "share", "policy"),
    [
        ((9, 0), 0.5, "mixed_bfloat16"),
        ((9, 0), 1.1, "float32"),  # it has the units, and they do not pay
        ((7, 5), 0.5, "mixed_float16"),
        ((6, 1), None, "float32"),
    ],
)
def test_auto_precision_follows_the_gpu(capability, share, policy, monkeypatch):
    monkeypatch.setattr(precision, "time_ratio", lambda *, policy, xla: share)
    details = {"device_name": "GPU", "compute_capability": capability}
    chosen = precision._for_gpu(details, xla=True)
    assert chosen.policy == policy
    assert (
        f"(GPU) takes {share:.2f} × the time of float32" if share else "no tensor cores"
    ) in chosen.reason


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (127.4, "emulated on this CPU, a convolution takes 127 × the time of float32"),
        (1.5, "slow on this CPU, a convolution takes 1.5 × the time of float32"),
    ],
)
def test_a_slow_precision_is_warned_of_and_taken(share, words, monkeypatch, capsys):
    monkeypatch.setattr(precision, "time_ratio", lambda *, policy, xla: share)
    monkeypatch.setattr(precision.tf.config, "list_physical_devices", lambda kind: [])
    assert precision.choose("mixed_float16", xla=False) == ("mixed_float16", "as requested")
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"warning: mixed_float16: {words}; use --precision float32"


@pytest.mark.parametrize(("gpus", "xla"), [(0, False), (1, True), (2, False)])
def test_doctor_measures_what_train_uses(gpus, xla, monkeypatch):
    seen, gpu = [], SimpleNamespace(name="GPU:0")
    monkeypatch.setattr(precision.tf.config, "list_physical_devices", lambda kind: [gpu] * gpus)
    monkeypatch.setattr(
        hardware.tf.config.experimental, "get_device_details", lambda gpu: {"device_name": "GPU"}
    )
    monkeypatch.setattr(
        precision, "choose", lambda *, xla: seen.append(xla) or precision.Precision("float32", "")
    )
    monkeypatch.setattr(precision, "time_ratio", lambda *, xla, **way: seen.append(xla) or 1.0)
    assert hardware.survey().xla == xla
    assert set(seen) == {xla}


def test_a_run_resumes_without_xla_on_several_devices(capsys):
    config = recipes.resolve({"xla": True})
    assert precision.without_xla_on_several(config, 1) is config
    assert precision.without_xla_on_several(config, 2).xla is False
    assert "without XLA from here on: it works on one device, not on 2" in capsys.readouterr().err


def test_a_precision_that_pays_goes_without_a_word(monkeypatch, capsys):
    monkeypatch.setattr(precision, "time_ratio", lambda *, policy, xla: 0.5)
    assert precision.choose("mixed_bfloat16", xla=False) == ("mixed_bfloat16", "as requested")
    assert capsys.readouterr().err == ""


def test_float32_is_taken_unmeasured(monkeypatch):
    monkeypatch.setattr(precision, "time_ratio", None)
    assert precision.choose("float32", xla=False) == ("float32", "as requested")


def test_an_emulated_format_is_timed_on_one_image_alone(monkeypatch):
    """A batch in a format that takes a hundred times as long would take seconds."""
    shapes = []

    def step(policy, shape, *, jit, steps=1):
        shapes.append(shape)
        return policy

    monkeypatch.setattr(precision, "_step", step)
    monkeypatch.setattr(precision, "_share", lambda ours, theirs, calls: 100.0)
    assert precision.time_ratio.__wrapped__(policy="mixed_float16", xla=False) == 100
    assert set(shapes) == {precision._ONE_IMAGE}


@pytest.mark.parametrize("requested", ["auto", "mixed_bfloat16"])
@pytest.mark.parametrize("xla", [True, False])
def test_a_format_is_measured_as_the_training_will_run(requested, xla, monkeypatch):
    seen = []

    def step(policy, shape, *, jit, steps=1):
        seen.append(jit)

    monkeypatch.setattr(precision.runtime, "cpu_flags", lambda: {"amx_bf16"})
    monkeypatch.setattr(precision, "_step", step)
    monkeypatch.setattr(precision, "_share", lambda ours, theirs, calls: 0.5)
    precision.time_ratio.cache_clear()
    precision.choose(requested, xla=xla)
    precision.time_ratio.cache_clear()
    assert set(seen) == {xla}


def test_doctor_measures_nothing_twice(monkeypatch):
    measured = []
    monkeypatch.setattr(precision.runtime, "cpu_flags", lambda: {"amx_bf16"})
    monkeypatch.setattr(
        precision, "_step", lambda policy, shape, **way: (policy, shape, *way.items())
    )
    monkeypatch.setattr(
        precision, "_share", lambda ours, theirs, calls: measured.append((ours, theirs)) or 0.5
    )
    precision.time_ratio.cache_clear()
    hardware.survey()
    precision.time_ratio.cache_clear()
    assert len(measured) == len(set(measured))


def test_several_steps_a_call_count_for_one_each(monkeypatch):
    monkeypatch.setattr(precision, "_share", lambda ours, theirs, calls: 20.0)
    assert precision.time_ratio.__wrapped__(xla=False, steps=10) == 2


def test_the_quickest_of_a_few_rounds_counts():
    class Waits(float):
        numpy = float.__float__

    def waiting(seconds):
        def run():
            time.sleep(seconds)
            return Waits()

        return run

    share = precision._share(waiting(0.02), waiting(0.01), calls=1)
    assert share == pytest.approx(2, rel=0.4)


def test_doctor_reports_what_failed_beside_what_it_measured(monkeypatch):
    def time_ratio(*, policy="float32", xla, **way):
        if policy == "mixed_float16":
            raise ValueError("no such kernel\nat line 3")
        return 1.234

    monkeypatch.setattr(precision, "time_ratio", time_ratio)
    found = hardware.survey()
    assert list(json.loads(json.dumps(found.as_json()))) == [
        "python", "system", "versions", "cpu", "gpus", "precision", "xla", "steps_per_execution",
        "missing",
    ]  # fmt: skip
    assert found.precision.step_time_over_float32 == {
        "float32": 1.0,
        "mixed_bfloat16": 1.23,
        "mixed_float16": "no such kernel",
        "float32 with XLA": 1.23,
        "float32, 10 steps per call": 1.23,
    }
    times = [line for line in tables.survey(found).splitlines() if line.endswith("time of float32")]
    assert len(times) == 4 and len({line.index("1.") for line in times}) == 1  # one column
