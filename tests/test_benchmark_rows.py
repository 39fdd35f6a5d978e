"""The program of `make benchmark`: its rows, and what it writes; none of the speeds."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def program(monkeypatch):
    """benchmarks/run.py as a module."""
    monkeypatch.syspath_prepend(FOLDER)
    spec = importlib.util.spec_from_file_location("benchmarks_run", FOLDER / "run.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def only(folder, suffix):
    (path,) = folder.glob(f"*{suffix}")
    return path.read_text()


def test_each_row_has_one_id_and_a_function(program):
    names = [row.id for row in program.ROWS]
    assert len(set(names)) == len(names) >= 24
    for row in program.ROWS:
        function = row.id.lower().replace("-", "_")
        assert f"\ndef {function}(setting):" in (FOLDER / f"{row.module}.py").read_text(), row.id
        assert row.verdict(row.goal) == "goal met" and row.verdict(row.must) != "missed", row.id
        assert row.verdict(100 * row.must if row.bound == "≤" else 0) == "missed", row.id


def test_a_row_is_measured_in_its_own_process_and_written_to_a_table(program, tmp_path, capsys):
    assert program.main(["--only", "C1", "--quick", "--output", str(tmp_path)]) == 0
    table = only(tmp_path, ".md")
    assert capsys.readouterr().out.strip() == table.strip()
    (line,) = (line for line in table.splitlines() if line.startswith("| C"))
    assert line.startswith("| C1 | `--help`")
    document = json.loads(only(tmp_path, ".json"))
    row = document["rows"]["C1"]
    assert 0 < row["ratio"]["least"] <= row["ratio"]["median"] <= row["ratio"]["most"] < 60
    assert row["verdict"] in ("goal met", "must met", "missed", "too noisy")
    assert document["machine"]["versions"]["tensorflow"] and document["pairs"] == 3


def test_a_missing_peer_and_a_failure_do_not_end_the_other_rows(
    program, tmp_path, monkeypatch, capsys
):
    missing = replace(program.ROWS[0], id="C2", needs=("no_such_package",))
    failing = replace(program.ROWS[0], id="C3", module="no_such_module")
    monkeypatch.setattr(program, "ROWS", (failing, missing))
    assert program.main(["--output", str(tmp_path)]) == 0
    verdicts = [r["verdict"] for r in json.loads(only(tmp_path, ".json"))["rows"].values()]
    assert verdicts[0].startswith("failed: ")
    assert verdicts[1] == "not measured: needs no_such_package: pip install '.[benchmark]'"
    assert "| C2 |" in capsys.readouterr().out


def test_noise_hides_a_ratio_and_an_unknown_row_is_named(program, tmp_path, capsys):
    row = program.ROWS[0]
    spread = {"median": 0.4, "least": 0.2, "most": 0.9}
    result = {"ratio": spread, "against_itself": spread, "quiet": False, "verdict": "too noisy"}
    assert program.cells(row, result)[2] == "(0.2 … 0.9)"
    with pytest.raises(SystemExit):
        program.main(["--only", "C99", "--output", str(tmp_path)])
    assert "no row C99; expected one of C1, C4," in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
