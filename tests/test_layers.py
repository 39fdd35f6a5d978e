"""Which module may import which. The table is the architecture; imports are read with `ast`."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Standard library only.
TOOLS = "errors filenames files manifest messages progress results runtime signals"
DATA = "specs config recipes settings geometry choices"  # pure data
HEAVY = "keras numpy tensorflow"

# module: (own modules, other packages) that its files may import, anywhere in them. The row of a
# file is the longest matching name; the standard library and the file's own subpackage are free.
TABLE = {
    "_version": ("", ""),
    "errors": ("results", ""),
    "filenames": ("", ""),
    "files": ("errors filenames messages", ""),
    "manifest": ("errors filenames files", ""),
    "results": ("", ""),
    "messages": ("", ""),
    "progress": ("messages", "rich"),
    "runtime": ("", ""),
    "signals": ("errors", ""),
    "state": ("errors messages", HEAVY),
    "specs": ("errors geometry", ""),
    "geometry": ("", ""),
    "choices": ("filenames", ""),
    "config": ("specs errors geometry", ""),
    "recipes": ("config specs errors filenames files", ""),
    "settings": ("files", ""),
    "shipping": (
        f"{DATA} {TOOLS} run data studies.search training.train training.custom exporting "
        "evaluation report.frontier_plot",
        "",
    ),
    "studies": ("", ""),
    "studies.trainings": (f"{TOOLS} config recipes run data training.train", ""),
    "studies.folds": (
        f"{TOOLS} recipes run studies.trainings data evaluation training.gallery report.plots",
        "numpy",
    ),
    "studies.data_plan": (
        f"{TOOLS} specs recipes run studies.trainings data evaluation report.learning_curve_plot "
        "training.defaults training.schedule",
        "numpy",
    ),
    "studies.search": (
        f"{DATA} {TOOLS} run data.sources training.train exporting.exporter "
        "training.defaults weights.settings weights.fitting "
        "inspection.network evaluation.benchmark evaluation.android",
        "",
    ),
    "__main__": ("cli", ""),
    "blocks": ("", "keras"),
    "models": ("specs errors blocks", "keras"),
    "weights": (f"{DATA} {TOOLS} state run models data", "keras numpy h5py safetensors torch"),
    "weights.settings": ("specs config errors run", ""),
    "weights.readers": ("errors files", "keras numpy h5py safetensors torch"),
    "weights.classifier": ("specs errors geometry models", "keras numpy"),
    "weights.whole_model": ("errors state weights.readers", "keras numpy"),
    "data": (f"{TOOLS} config recipes geometry", "numpy tensorflow tensorflow_datasets PIL"),
    "data.names": ("errors files", ""),
    "report": (
        f"{DATA} {TOOLS} evaluation.binomial evaluation.metrics",
        "numpy matplotlib PIL jinja2 markupsafe",
    ),
    "report.structure": ("errors files report.plots inspection.drawing", "matplotlib"),
    # Of keras its types alone.
    "run": (
        f"{DATA} {TOOLS} state models data weights.readers weights.whole_model weights.classifier",
        "keras",
    ),
    "checkpoint_notes": (f"{TOOLS} run", "tensorflow"),
    "evaluation": (
        f"{DATA} {TOOLS} state run checkpoint_notes data weights.whole_model",
        f"{HEAVY} ai_edge_litert onnxruntime",
    ),
    "evaluation.metrics": ("results", "numpy"),
    "distributed": (f"{DATA} {TOOLS} run data _version", HEAVY),
    "training": (
        f"{DATA} {TOOLS} state run checkpoint_notes models weights data evaluation report "
        "distributed _version",
        HEAVY,
    ),
    "training.gallery": (
        "filenames files messages run data evaluation report",
        "numpy tensorflow PIL",
    ),
    "inspection": ("errors filenames files results", "ai_edge_litert flatbuffers onnx"),
    "inspection.network": ("specs errors results state models inspection.multiply_adds", "keras"),
    "inspection.drawing": ("errors results state inspection.network", "keras"),
    "exporting": (f"{DATA} {TOOLS} state run data evaluation inspection report", HEAVY),
    # Loaded before TensorFlow, unless a Keras model is exported.
    "exporting.given": (
        "specs errors files messages run evaluation.artefact exporting.plan data.sources "
        "weights.importing",
        "keras",
    ),
    "exporting.folding": ("models", "keras numpy"),
    "exporting.headroom": ("", "ai_edge_litert numpy"),
    "exporting.card": ("specs messages runtime data.names exporting.verification run", ""),
    "exporting.bundling": (
        f"choices {TOOLS} data.photo data.pixels evaluation.trainable exporting inspection run",
        "PIL",
    ),
    "exporting.publish": ("errors files", ""),  # loaded before TensorFlow
    "exporting.kept": ("_version filenames files manifest messages runtime exporting.plan", ""),
    # Loaded before TensorFlow.
    "exporting.plan": (
        "choices errors filenames files geometry run specs evaluation.contract "
        "evaluation.trainable exporting.onnx_file",
        "",
    ),
    # Copied to clients: without this package and TensorFlow.
    "exporting.bundles": ("", "ai_edge_litert numpy PIL"),
    "exporting.onnx_file": ("errors filenames runtime exporting.child", "onnx tensorflow tf2onnx"),
    "explain": (f"{DATA} {TOOLS} state run blocks models data evaluation inspection report", HEAVY),
    "explain.depth": (f"{DATA} {TOOLS} run training.train", ""),
    # Here, as in run.py, only the top of a file counts: --help must not wait for Keras.
    "cli": (
        f"{DATA} {TOOLS} run studies.search shipping weights.settings data.names _version",
        "click",
    ),
    "cli.tables": ("filenames specs config messages report.bundles report.text", ""),
    # keras_resnet/__init__.py; what it imports for type checkers is all that is public.
    "": ("_version runtime", ""),
}
# Statements that do not count in the files of a row.
SKIPPED = {"cli": ast.FunctionDef, "cli.tables": (ast.FunctionDef, ast.If), "": ast.If}


def module_of(path):
    """`keras_resnet/data/folder.py` is `data.folder`, `cli/train.py` is `cli.train`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[1:] if parts[0] == "keras_resnet" else parts
    return ".".join(part for part in parts if part != "__init__")


def row_of(module):
    """Name of the longest row that is `module` or a package around it; None if there is none."""
    fitting = [row for row in TABLE if row == module or (row and module.startswith(row + "."))]
    return max(fitting, key=len, default=None)


def imports(node, skipped=()):
    """Full names of what the code imports; `from a import b` is `a.b`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            home = "." * child.level + (child.module or "")
            yield from (f"{home}.{alias.name}" for alias in child.names)
        elif not isinstance(child, skipped):
            yield from imports(child, skipped)


def forbidden(source, module):
    row = row_of(module)
    modules, packages = (words.split() for words in TABLE[row])
    modules += [] if "." in row else [row]  # a file with its own row imports only what it lists
    for name in imports(ast.parse(source), SKIPPED.get(row, ())):
        package, _, inside = name.partition(".")
        if package == "keras_resnet":
            good = any(f"{inside}.".startswith(f"{m}.") for m in modules)
        else:
            good = package in packages or package in sys.stdlib_module_names
        if not good:
            yield name


FILES = sorted(path for folder in ("keras_resnet", "cli") for path in (ROOT / folder).rglob("*.py"))


def test_the_files_of_the_training_are_short():
    files = [path for path in FILES if path.parent == ROOT / "keras_resnet" / "training"]
    lengths = {path.name: len(path.read_text().splitlines()) for path in files}
    assert max(lengths.values()) <= 300, lengths


def test_files_import_only_what_their_rows_allow():
    wrong = {}
    for path in FILES:
        module = module_of(path)
        assert row_of(module) is not None, f"{module} belongs to no row of the table"
        wrong[module] = list(forbidden(path.read_text(encoding="utf-8"), module))
    assert {module: names for module, names in wrong.items() if names} == {}


@pytest.mark.parametrize("package", ["exporting", "evaluation"])
def test_no_function_takes_more_than_eight_parameters(package):
    for path in (ROOT / "keras_resnet" / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                parameters = [n for n in ast.walk(node.args) if isinstance(n, ast.arg)]
                assert len(parameters) <= 8, f"{path.name}: {node.name}"


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("specs", "import keras", ["keras"]),
        ("models", "def f():\n    import tensorflow.data", ["tensorflow.data"]),
        ("data.folder", "from keras_resnet.cli import main", ["keras_resnet.cli.main"]),
        ("data.folder", "from keras_resnet import cli", ["keras_resnet.cli"]),
        ("data.folder", "from . import decode", ["..decode"]),
        ("inspection.network", "import tensorflow", ["tensorflow"]),
        ("cli.train", "import click\nfrom keras_resnet.training import train",
         ["keras_resnet.training.train"]),
        ("cli.train", "try:\n    import keras\nexcept ImportError:\n    keras = None", ["keras"]),
        ("cli.train", "def train():\n    from keras_resnet.training import train", []),
        ("cli.train", "from keras_resnet.cli import common", []),
        ("data.folder", "import os\nfrom keras_resnet.data.decode import decode", []),
    ],
)  # fmt: skip
def test_forbidden_imports_are_found(module, source, expected):
    assert list(forbidden(source, module)) == expected


def test_a_file_without_a_row_is_reported():
    assert row_of("attic") is None
    assert row_of("datasets") is None
    assert row_of("data.folder") == "data"
