"""Runs the notebooks: NAME.py is the source, NAME.ipynb the same with the outputs.

python notebooks/run.py [NAME.py ...]
"""

import sys
import tempfile
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent


def executed(source, folder):
    """The notebook of a `.py` source after a run, from its top, in `folder`."""
    notebook = jupytext.read(source)
    # Only the outputs of the cells may differ from run to run.
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    client = NotebookClient(
        notebook, timeout=1200, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    return client.execute()


def main(sources):
    for source in sources or sorted(HERE.glob("[0-9]*.py")):
        with tempfile.TemporaryDirectory() as folder:
            notebook = executed(source, folder)
        for cell in notebook.cells:
            cell.metadata = {}
            if cell.cell_type == "code":  # without progress lines
                cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
        nbformat.write(notebook, Path(source).with_suffix(".ipynb"))
        print(f"ran {source}")


if __name__ == "__main__":
    main(sys.argv[1:])
