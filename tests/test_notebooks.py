"""The notebooks: each runs without an error, up to the assertions at its end."""

import ast
import importlib.util
from pathlib import Path

import jupytext
import pytest

HOME = Path(__file__).parent.parent / "notebooks"
STORIES = sorted(HOME.glob("[0-9]*.py"))


def test_there_are_the_four_of_them():
    assert [story.stem for story in STORIES] == [
        "01_what_a_skip_does",
        "02_photos_to_phone",
        "03_resnet50_layer_by_layer",
        "04_depth_and_degradation",
    ]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.stem)
def test_a_story_says_what_it_takes_and_ends_in_an_assertion(story):
    notebook = jupytext.read(story)
    assert "Data:" in notebook.cells[0].source or "no data" in notebook.cells[0].source
    assert any(word in notebook.cells[0].source for word in ("minute", "Seconds"))
    assert isinstance(ast.parse(notebook.cells[-1].source).body[-1], ast.Assert)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.stem)
def test_the_notebook_on_show_is_the_story(story):
    notebook, script = jupytext.read(story.with_suffix(".ipynb")), jupytext.read(story)
    assert [c.source for c in notebook.cells] == [c.source for c in script.cells]
    assert any(cell.get("outputs") for cell in notebook.cells)
    assert not [o for cell in notebook.cells for o in cell.get("outputs", []) if "ename" in o]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.stem)
def test_a_story_runs(story, tmp_path):
    spec = importlib.util.spec_from_file_location("run", HOME / "run.py")
    run = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run)
    run.executed(story, tmp_path)
