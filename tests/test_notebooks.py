"""The notebooks: each runs without an error, up to the assertions at its end."""

import ast
import importlib.util
from pathlib import Path

import jupytext
import pytest

HOME = Path(__file__).parent.parent / "notebooks"
SCRIPTS = sorted(HOME.glob("[0-9]*.py"))


def test_there_are_the_four_of_them():
    assert [script.stem for script in SCRIPTS] == [
        "01_what_a_skip_does",
        "02_photos_to_phone",
        "03_resnet50_layer_by_layer",
        "04_depth_and_degradation",
    ]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_notebook_states_its_data_and_time_and_ends_in_an_assertion(script):
    notebook = jupytext.read(script)
    assert "Data:" in notebook.cells[0].source or "no data" in notebook.cells[0].source
    assert any(word in notebook.cells[0].source for word in ("minute", "seconds"))
    assert isinstance(ast.parse(notebook.cells[-1].source).body[-1], ast.Assert)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_the_notebook_equals_its_script(script):
    notebook, source = jupytext.read(script.with_suffix(".ipynb")), jupytext.read(script)
    assert [c.source for c in notebook.cells] == [c.source for c in source.cells]
    assert any(cell.get("outputs") for cell in notebook.cells)
    assert not [o for cell in notebook.cells for o in cell.get("outputs", []) if "ename" in o]


FASTEST = "03_resnet50_layer_by_layer"


@pytest.mark.parametrize(
    "script",
    [pytest.param(s, id=s.stem, marks=[pytest.mark.slow] * (s.stem != FASTEST)) for s in SCRIPTS],
)
def test_a_notebook_runs(script, tmp_path):
    spec = importlib.util.spec_from_file_location("run", HOME / "run.py")
    run = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run)
    run.executed(script, tmp_path)
