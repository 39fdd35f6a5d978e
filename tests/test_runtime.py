"""What is asked of the machine before TensorFlow is imported."""

import os
import subprocess
import sys

import pytest

from keras_resnet import cli, runtime
from keras_resnet.data import check_cache, tfds
from keras_resnet.errors import InputError
from keras_resnet.weights import published


@pytest.mark.skipif(sys.platform != "linux", reason="processes are not bound to cores")
def test_cores_are_those_that_the_process_may_use():
    """A container may be limited to some; a runtime with a thread for each of 64 would be slow."""
    code = "import os, keras_resnet.runtime as r; os.sched_setaffinity(0, {CPU}); print(r.cores())"
    code = code.replace("CPU", str(min(os.sched_getaffinity(0))))
    found = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert found.stdout == "1\n"


@pytest.mark.parametrize(
    ("is_loaded", "given", "flags", "variable", "uses"),
    [
        (False, None, {"avx2"}, "1", True),
        (False, "0", {"amx_int8"}, "0", False),
        (True, None, {"avx2"}, None, False),  # too late: TensorFlow has read it
        (True, None, {"avx512_vnni"}, None, True),
        (True, "1", {"avx2"}, "1", True),
    ],
)
def test_the_kernels_of_a_training_are_known_whatever_was_imported_first(
    is_loaded, given, flags, variable, uses, monkeypatch
):
    monkeypatch.setattr(runtime, "cpu_flags", lambda: flags)
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS")
    if given:
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", given)
    if is_loaded:
        monkeypatch.setitem(sys.modules, "tensorflow", sys)
    else:
        monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    runtime.prepare()
    assert os.environ.get("TF_ENABLE_ONEDNN_OPTS") == variable
    assert runtime.uses_onednn() == uses
    monkeypatch.setattr(runtime.sys, "platform", "linux")
    monkeypatch.setattr(runtime.platform, "machine", lambda: "x86_64")
    assert runtime.lacks_onednn() == (not uses and not variable)
    monkeypatch.setattr(runtime.platform, "machine", lambda: "arm64")
    assert not runtime.lacks_onednn()


@pytest.mark.parametrize("name", ["build", "evaluate", "train"])
def test_any_public_function_chooses_the_kernels_before_tensorflow_is_imported(name):
    code = f"import os, keras_resnet as kr; kr.{name}; print(os.environ['TF_ENABLE_ONEDNN_OPTS'])"
    bare = {key: value for key, value in os.environ.items() if key != "TF_ENABLE_ONEDNN_OPTS"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=bare, text=True, capture_output=True, check=True
    )
    assert done.stdout == "1\n"


def test_without_a_home_folder_nothing_is_written_into_a_folder_named_tilde(
    monkeypatch, tmp_path, capsys
):
    """As in a container whose user has no account, where `expanduser` returns the ~ itself."""
    for name in ("HOME", "XDG_CACHE_HOME", "KERAS_HOME", "TFDS_DATA_DIR", "TF_XLA_FLAGS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    monkeypatch.chdir(tmp_path)
    for cache in ("", "~/.cache"):
        monkeypatch.setenv("XDG_CACHE_HOME", cache)
        runtime.prepare()
        assert "TF_XLA_FLAGS" not in os.environ
        check_cache.save("photos", {})
        assert check_cache.load("photos") == {}
    assert published.cached_path("resnet18").is_absolute()
    with pytest.raises(InputError, match="give --data-dir DIR"):
        tfds.load("mnist")
    assert cli.run(["models", "--csv=~/a.csv"]) == 2
    assert "--csv=~/a.csv: ~ is unknown" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
