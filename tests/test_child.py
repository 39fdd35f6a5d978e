"""Child processes of an export: forks of one process that has loaded TensorFlow."""

import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from keras_resnet import runtime
from keras_resnet.errors import CheckFailed, NetworkFailed
from keras_resnet.exporting import child


def run(code):
    """Executes a line of Python in a child: `python -m timeit` does."""
    return child.run("timeit", "-n1", "-r1", code, what="the work")


def ends(pid):
    """Whether a process is no more, or only waits for its parent to notice, within ten seconds."""
    process = Path(f"/proc/{pid}")
    for _ in range(1000):
        with suppress(FileNotFoundError):
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z" or len([*process.glob("task/*")]) > 1:
                time.sleep(0.01)
                continue
        return True
    return False


def server_of_the_child(file):
    run(f"import os; open({str(file)!r}, 'w').write(str(os.getppid()))")
    return int(file.read_text())


def test_a_child_has_tensorflow_and_the_callers_environment_and_folder(tmp_path, monkeypatch):
    for word in ("first", "second"):
        (tmp_path / word).mkdir()
        monkeypatch.chdir(tmp_path / word)
        monkeypatch.setenv("WORD", word)
        run("import os, sys; open(os.environ['WORD'], 'w').write(str('tensorflow' in sys.modules))")
        assert (tmp_path / word / word).read_text() == "True"


def test_a_child_leaves_the_gpu_to_its_parent(monkeypatch):
    """Whose TensorFlow has taken nearly all of its memory."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    run("import os; assert os.environ['CUDA_VISIBLE_DEVICES'] == '-1'")


def test_the_peak_is_measured_where_the_system_reports_it(tmp_path, monkeypatch, capsys):
    child.report_peak()
    status = Path("/proc/self/status").read_text()
    (now,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    assert child._peak(capsys.readouterr().out) == pytest.approx(1024 * int(now), rel=0.1)
    (tmp_path / "status").write_text(re.sub(r"VmHWM:.*\n", "", status))
    monkeypatch.setattr(runtime, "_STATUS", tmp_path / "status")  # as in gVisor
    child.report_peak()
    assert capsys.readouterr().out == ""


def test_children_leave_nothing_in_each_other_and_have_one_server(tmp_path):
    server = server_of_the_child(tmp_path / "pid")
    run("import sys; sys.leak = 1")
    run("import sys; assert not hasattr(sys, 'leak')")
    assert server_of_the_child(tmp_path / "pid") == server


def test_the_last_line_of_a_child_that_fails_is_the_reason():
    with pytest.raises(NetworkFailed, match=r"^the work failed: ValueError: of 3$"):
        run("raise ValueError('of 3')")
    with pytest.raises(NetworkFailed, match=r"^the work failed: killed by SIGSEGV"):
        run("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")


def test_a_full_disk_is_not_due_to_the_network():
    with pytest.raises(CheckFailed, match=r"the work failed: OSError: .* No space left") as caught:
        run("raise OSError(28, 'No space left on device')")
    assert not isinstance(caught.value, NetworkFailed)


def test_where_processes_do_not_fork_a_child_is_a_new_process(tmp_path, monkeypatch):
    """As on macOS."""
    monkeypatch.setattr(child, "FORKS", False)
    code = "import os, sys; print(os.getppid(), os.getcwd(), os.environ['WORD'])"
    done = child._in_a_child("timeit", ["-n1", "-r1", code], {"WORD": "a"}, str(tmp_path))
    assert done["output"].startswith(f"{os.getpid()} {tmp_path} a\n") and done["status"] == 0
    done = child._in_a_child("timeit", ["-n1", "-r1", "raise ValueError(3)"], {}, str(tmp_path))
    assert done["status"] == 1 and done["errors"].endswith("ValueError: 3\n")


def test_a_server_that_has_ended_is_started_again(tmp_path):
    server = server_of_the_child(tmp_path / "pid")
    os.kill(server, signal.SIGTERM)
    assert ends(server)
    assert server_of_the_child(tmp_path / "pid") != server


def test_ctrl_c_ends_the_child_at_work(tmp_path, signals_are_heard):
    """It must not continue writing."""
    pid = tmp_path / "pid"
    write = f"open({str(pid)!r}, 'w').write(str(os.getpid()))"

    def interrupt():
        while not pid.exists() or not pid.read_text():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    with ThreadPoolExecutor() as threads, pytest.raises(KeyboardInterrupt):
        threads.submit(interrupt)
        run(f"import os, time; {write}; time.sleep(600)")
    assert ends(int(pid.read_text()))


def test_the_last_line_of_a_server_that_dies_is_the_reason(tmp_path, monkeypatch):
    """As of a process that may start no more threads."""
    (tmp_path / "tensorflow.py").write_text("raise ImportError('no TensorFlow today')")
    child.stop()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(CheckFailed, match=r"^the work failed: ImportError: no TensorFlow today$"):
        run("pass")


def test_a_server_without_orders_ends(monkeypatch):
    monkeypatch.setattr(child, "IDLE_SECONDS", 0)
    child.stop()
    child.start()
    assert child._server.wait(timeout=120) == 0
    child.stop()
