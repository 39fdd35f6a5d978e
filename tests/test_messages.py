"""Messages on the terminal and in the log, and the report of a crash in native code."""

import io
import json
import logging
import os
import pty
import subprocess
import sys
import textwrap
from contextlib import nullcontext

import numpy as np
import pytest
from absl import logging as absl_logging

from keras_resnet import messages, state
from keras_resnet.errors import first_line


def python(code, cwd, *arguments):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        cwd=cwd, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


SPEAK = """
log.debug("for the log alone")
log.info("hello")
log.warning("look out")
"""
IMPORT = "from keras_resnet.messages import log\n"
CONFIGURE = "import logging; logging.basicConfig()\n"
LEVEL = "import logging; logging.getLogger('keras_resnet').setLevel('WARNING')\n"
OWN = "import logging; log.addHandler(logging.StreamHandler())\n"


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        (IMPORT, "hello\nwarning: look out\n"),
        (CONFIGURE + IMPORT, "INFO:keras_resnet:hello\nWARNING:keras_resnet:look out\n"),
        (IMPORT + CONFIGURE, "INFO:keras_resnet:hello\nWARNING:keras_resnet:look out\n"),
        (IMPORT + OWN, "hello\nlook out\n"),
        (LEVEL + IMPORT, "warning: look out\n"),
        (IMPORT + LEVEL, "warning: look out\n"),
    ],
    ids=["nothing", "before", "after", "a handler of ours", "level before", "level after"],
)
def test_a_program_that_configures_logging_or_not_sees_each_message_once(code, shown, tmp_path):
    done = python(code + SPEAK, tmp_path)
    assert (done.stdout, done.stderr) == ("", shown)


@pytest.mark.parametrize("configure", ["", CONFIGURE])
def test_a_program_that_silences_the_logger_still_gets_the_log_of_a_run(configure, tmp_path):
    code = (
        configure
        + IMPORT
        + LEVEL
        + textwrap.dedent("""
        from keras_resnet import messages
        with messages.logged_to("log.txt"):
            log.info("hello")
            log.warning("look out")
            assert not messages.shows_progress()
        log.info("later")
        log.setLevel("INFO")
        log.info("again")
        """)
    )
    shown = "WARNING:keras_resnet:look out\nINFO:keras_resnet:again\n"
    shown = shown if configure else "warning: look out\nagain\n"
    assert python(code, tmp_path).stderr == shown
    assert (tmp_path / "log.txt").read_text() == "hello\nwarning: look out\n"


@pytest.mark.parametrize("character", ["\x1b", "\r", "\x9b", "\x07", "\u202e", "\u2067"])
def test_no_name_reaches_the_terminal_as_a_command(character, capsys):
    """Escape sequences in the name of a class or a file, and text that runs backwards."""
    from keras_resnet.cli import _options

    name = f"cat{character}[31m"
    messages.log.info(name)
    _options.report({"label": name}, False, lambda result: result["label"])
    _options.report({"label": name}, True, str)
    out, err = capsys.readouterr()
    shown = character.encode("unicode_escape").decode()
    assert character not in err and f"cat{shown}[31m" in err
    text, document = out.split("\n", 1)
    assert text == f"cat{shown}[31m" and json.loads(document) == {"label": name}
    assert character not in document or character in "\u202e\u2067"  # JSON is for programs


def test_a_path_that_is_not_utf_8_is_printed(tmp_path):
    """Where Python encodes strictly, as it does unless the locale is C or POSIX."""
    code = """
    import os, sys
    from keras_resnet.cli import _options
    path = os.fsdecode(b"caf\\xe9-\\xf0\\x9f\\x98\\x80")
    _options.report({"path": path}, False, lambda result: result["path"], csv=path)
    _options.report({"path": path}, True, str)
    _options.messages.log.info(path)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, capture_output=True,
        encoding="utf-8", env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"}, timeout=60,
    )  # fmt: skip
    shown = "caf\\udce9-😀"
    assert done.stderr == f"{shown}\n"
    text, written, document = done.stdout.split("\n", 2)
    assert (text, written) == (shown, f"wrote {shown}")
    assert json.loads(document) == {"path": "caf\udce9-😀"}


def test_a_run_that_is_trained_from_python_has_its_log(untouched):
    log = (untouched / "log.txt").read_text()
    for line in ("resnet8 on ", "epoch   3/3", "best epoch "):
        assert log.count(f"\n{line}") + log.startswith(line) == 1


COMMAND = """
import logging, os, signal, sys
from keras_resnet import messages, progress
from keras_resnet.messages import log
messages.start_command(quiet="quiet" in sys.argv)
"""
OTHERS = ("absl", "h5py", "matplotlib", "tensorflow", "urllib3")


def test_a_command_keeps_what_others_say_for_the_log(tmp_path):
    code = f"""
    import absl.logging
    for name in {OTHERS}:
        logging.getLogger(name).warning("a connection was lost")
    absl.logging.error("lost")
    os.write(2, b"I0000 native noise\\n")
    with messages.logged_to("log.txt"):
        log.debug("a detail")
    """
    done = python(COMMAND + SPEAK + textwrap.dedent(code), tmp_path)
    assert (done.stdout, done.stderr) == ("", "hello\nwarning: look out\n")
    assert (tmp_path / "log.txt").read_text().splitlines() == [
        "for the log alone",
        "hello",
        "warning: look out",
        *(f"{name}: warning: a connection was lost" for name in OTHERS),
        "absl: lost",
        "I0000 native noise",
        "a detail",
    ]


def test_a_quiet_command_shows_warnings_and_errors_and_logs_all(tmp_path):
    code = """
    progress._SECONDS_BETWEEN_LINES = 0
    list(progress.track([1, 2], 2, "counting", "numbers"))
    log.error("broken")
    with messages.logged_to("log.txt"):
        pass
    """
    done = python(COMMAND + SPEAK + textwrap.dedent(code), tmp_path, "quiet")
    assert (done.stdout, done.stderr) == ("", "warning: look out\nbroken\n")
    assert "hello\nwarning: look out\n" in (tmp_path / "log.txt").read_text()
    loud = python(COMMAND + textwrap.dedent(code), tmp_path)
    assert loud.stderr == "counting: 1/2 numbers\ncounting: 2/2 numbers\nbroken\n"


@pytest.mark.parametrize("gone", ["terminal", "reader"])
def test_a_command_whose_terminal_or_reader_has_gone_continues_with_its_log(gone, tmp_path):
    code = """
    with messages.logged_to("log.txt"):
        with progress.bar(1, "counting", "numbers") as advance:
            log.info("hello")
            sys.stdin.readline()
            advance()
        log.info("later")
    print("result")
    """
    ours, its = pty.openpty() if gone == "terminal" else os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND + textwrap.dedent(code)],
        cwd=tmp_path, stdin=subprocess.PIPE, stdout=its, stderr=its,
    ) as process:  # fmt: skip
        os.close(its)
        shown = b""
        while b"hello" not in shown:
            part = os.read(ours, 100)
            assert part, f"it ended after {shown}"
            shown += part
        os.close(ours)
        process.communicate(b"\n")
    assert process.returncode == 0
    assert (tmp_path / "log.txt").read_text() == "hello\nlater\n"


def test_messages_are_shown_again_after_a_pipe_had_no_room(tmp_path):
    code = """
    import os, sys
    os.set_blocking(sys.stderr.fileno(), False)
    for _ in range(300):
        log.info("x" * 1000)
    log.info("later")  # is lost
    print("full", flush=True)
    sys.stdin.readline()
    log.info("again")
    """
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND + textwrap.dedent(code)], cwd=tmp_path,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "full\n"
        os.read(process.stderr.fileno(), 1 << 17)
        _, rest = process.communicate("\n")
    assert process.returncode == 0
    assert rest.endswith("again\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize(("stdout", "status"), [("/dev/full", 1), ("out.txt", 0)])
def test_a_result_that_a_full_disk_refuses_is_an_error(tmp_path, stdout, status):
    """The messages share its file, and are lost before it."""
    code = """
    import sys
    from keras_resnet import cli
    from keras_resnet.cli import _options
    _options.messages.log.info("a message")
    cli.group.main = lambda *_, **__: _options.report({}, False, lambda _: "result")
    code = cli.run(["x"])
    print(code, file=open("status.txt", "w"))
    """
    with open(tmp_path / "out.txt" if stdout == "out.txt" else stdout, "w") as out:
        errors = out if status else open("/dev/full", "w")  # noqa: SIM115
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            cwd=tmp_path, stdout=out, stderr=errors, timeout=60,
        )  # fmt: skip
        errors.close()
    assert (tmp_path / "status.txt").read_text() == f"{status}\n"
    if not status:
        assert (tmp_path / "out.txt").read_text() == "result\n"


@pytest.mark.parametrize("gone", ["terminal", "reader"])
def test_a_result_without_its_terminal_or_reader_is_no_error(gone, tmp_path):
    ours, its = pty.openpty() if gone == "terminal" else os.pipe()
    code = """
    import sys
    sys.stdin.readline()
    from keras_resnet.cli import run
    run([])
    sys.exit(run(["models", "--json"]))
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=tmp_path, stdin=subprocess.PIPE, stdout=its, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        os.close(its)
        os.close(ours)
        _, errors = process.communicate(b"\n")
    assert (process.returncode, errors) == (0, b"")


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_a_closed_stream_is_not_the_place_of_a_file(closed, tmp_path):
    closing = " ".join(f"{number}>&-" for number in closed)
    code = """
    import os, sys
    from keras_resnet.cli import main
    sys.argv = ["keras-resnet", "models"]
    status = main()
    with open("next.txt", "w") as file:
        print(status, file.fileno() > 2, file=file)
    """
    subprocess.run(
        ["sh", "-c", f'"$0" -c "$1" {closing}', sys.executable, textwrap.dedent(code)],
        cwd=tmp_path, capture_output=True, timeout=60,
    )  # fmt: skip
    assert (tmp_path / "next.txt").read_text() == "0 True\n"


def test_two_runs_of_one_command_have_a_log_each(tmp_path):
    code = """
    for name in "one", "two":
        with messages.logged_to(name):
            log.info(name)
    """
    python(COMMAND + textwrap.dedent(code), tmp_path)
    assert [(tmp_path / name).read_text() for name in ("one", "two")] == ["one\n", "two\n"]


TRACE = b"""F0000 Check failed: ret == 0 (11 vs. 0)Thread creation via pthread_create() failed.
*** Check failure stack trace: ***
    @     0x7fe375193f89  tsl::(anonymous namespace)::PosixEnv::StartThread()
"""
LIMITS = "perhaps because of a limit on threads or memory (see `ulimit -a`)"
DEATHS = {
    "os.abort()": "Aborted",
    "os.kill(os.getpid(), signal.SIGSEGV)": "Segmentation fault",
    "os.kill(os.getpid(), signal.SIGFPE)": "Floating point exception",
}


@pytest.mark.parametrize("death", DEATHS)
def test_a_crash_in_native_code_is_reported(death, tmp_path):
    done = python(f"{COMMAND}\nlog.info('hello')\nos.write(2, {TRACE})\n{death}", tmp_path)
    assert done.returncode < 0
    assert done.stderr.splitlines() == [
        "hello",
        f"keras-resnet: native code crashed ({DEATHS[death]}), {LIMITS}; its last lines:",
        "  hello",
        f"  {TRACE.decode().splitlines()[0]}",
    ]


def test_the_report_of_a_crash_quotes_the_log_of_the_run(tmp_path):
    code = """
    with messages.logged_to("log.txt"):
        for number in range(20):
            log.info(f"step {number}")
        os.abort()
    """
    done = python(COMMAND + textwrap.dedent(code), tmp_path, "quiet")
    first, *last = done.stderr.splitlines()
    log = tmp_path / "log.txt"
    assert "native code crashed (Aborted)" in first
    assert first.endswith(f"; the last lines of {log}:")
    assert last == [f"  step {number}" for number in range(10, 20)]
    assert 'File "<string>", line' in log.read_text()  # where Python was


def test_the_report_of_a_crash_begins_with_the_line_that_says_why(tmp_path):
    code = f"os.write(2, {TRACE})\nfor n in range(20): log.debug(f'step {{n}}')\nos.abort()"
    _, first, *last = python(f"{COMMAND}\n{code}", tmp_path).stderr.splitlines()
    assert first == f"  {TRACE.decode().splitlines()[0]}"
    assert last == [f"  step {number}" for number in range(10, 20)]


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("sys.exit(3)", 3),
        ("os._exit(3)", 3),
        ("os.kill(os.getpid(), signal.SIGTERM)", -15),
        ("os.kill(os.getpid(), signal.SIGKILL)", -9),
        ("", 0),
    ],
)
def test_one_that_ends_otherwise_has_none(end, status, tmp_path):
    """Nor does anything hold its stderr open: else this would wait for ever."""
    done = python(f"{COMMAND}\nlog.info('hello')\n{end}", tmp_path)
    assert (done.returncode, done.stderr) == (status, "hello\n")


def test_where_no_process_can_be_started_the_stack_is_shown(tmp_path):
    code = """
    import os
    def fork(): raise BlockingIOError(11, "Resource temporarily unavailable")
    os.fork = fork
    """
    done = python(textwrap.dedent(code) + COMMAND + "os.abort()", tmp_path)
    assert done.stderr.startswith("Fatal Python error: Aborted\n")


def test_a_full_disk_is_told_to_whoever_logs(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    code = """
    with messages.logged_to("/dev/full"):
        try: log.info("hello")
        except OSError as error: print(error.strerror)
    """
    done = python(IMPORT + "from keras_resnet import messages\n" + textwrap.dedent(code), tmp_path)
    assert done.stdout == "No space left on device\n"


def test_a_warning_of_absl_does_not_change_how_messages_look(capsys):
    with state.isolated():
        absl_logging.warning("of absl")
        messages.log.info("ours")
        messages.log.warning("careful")
        logging.getLogger("another").warning("of another")
    assert logging.getLogger().handlers == []
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "absl" not in line] == [
        "ours",
        "warning: careful",
        "of another",
    ]


@pytest.mark.parametrize(
    ("status", "errors", "expected"),
    [
        (-9, "I0000 x", "killed by SIGKILL, probably out of memory"),
        (-6, "E0000 00:00:17 1 cuda.cc:1] failed call to cuInit\nF0000 00:00:17 1 b.cc:2] Check "
         "failed: n\n    @ 0x7f  f()\n",
         "killed by SIGABRT: F0000 00:00:17 1 b.cc:2] Check failed: n"),
        (1, 'Traceback (most recent call last):\n  File "a"\n    b()\nValueError: no op\nSet an '
         "option.\n", "ValueError: no op"),
        (3, "", "status 3"),
    ],
)  # fmt: skip
def test_the_first_line_that_says_why_is_the_reason(status, errors, expected):
    assert messages.reason(status, errors) == expected


def test_of_another_packages_error_a_message_has_whole_words():
    assert first_line(ValueError("why\nand more")) == "why"
    assert first_line(ValueError()) == "ValueError"
    long = first_line("number " * 40)
    assert long.endswith("number …") and len(long) <= 162
    assert first_line("x" * 200) == "x" * 160 + " …"


def test_warnings_of_tensorflow_are_shown_once_and_none_of_retracing(monkeypatch, capsys):
    logger = logging.getLogger("tensorflow")
    monkeypatch.setattr(logger, "handlers", [logging.StreamHandler(shown := io.StringIO())])
    with state.isolated(), state.isolated():
        pass
    for within in (state.isolated, nullcontext):
        with within():
            logger.warning("look")
            logger.warning("5 out of the last 5 calls triggered tf.function retracing")
    assert shown.getvalue().count("look") == 2 and shown.getvalue().count("retracing") == 1
    assert capsys.readouterr().err == ""


def test_numbers_and_nouns_agree():
    counted = [messages.plural(n, "point") for n in (0, 1, 1.0, 0.5, 1234, np.int64(2))]
    assert counted == ["0 points", "1 point", "1 point", "0.5 points", "1,234 points", "2 points"]
