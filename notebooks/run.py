"""Runs the notebooks: NAME.py is the story, NAME.ipynb the same with what it showed.

python notebooks/run.py [NAME.py ...]
"""

import sys
import tempfile
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent


def executed(story, folder):
    """The notebook of a `.py` story after it was run, from its top, in `folder`."""
    notebook = jupytext.read(story)
    # Nothing that differs from run to run but what the cells show.
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    client = NotebookClient(
        notebook, timeout=1200, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    return client.execute()


def main(stories):
    for story in stories or sorted(HERE.glob("[0-9]*.py")):
        with tempfile.TemporaryDirectory() as folder:
            notebook = executed(story, folder)
        for cell in notebook.cells:
            cell.metadata = {}
            if cell.cell_type == "code":  # progress is for the one who waits
                cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
        nbformat.write(notebook, Path(story).with_suffix(".ipynb"))
        print(f"ran {story}")


if __name__ == "__main__":
    main(sys.argv[1:])
