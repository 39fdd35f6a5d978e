"""The README and the pages of docs/: their commands work as shown, their links lead somewhere."""

import ast
import inspect
import json
import re
import shlex
import shutil
from dataclasses import fields
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

import keras_resnet as kr
from keras_resnet.config import SETTINGS
from keras_resnet.recipes import RECIPES
from keras_resnet.run import open_run
from keras_resnet.specs import SPECS
from keras_resnet.weights import layouts
from keras_resnet.weights.readers import TORCH, Weights

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def text_of(page):
    return page.read_text(encoding="utf-8")


def pages():
    """The README, and the pages in the order of the table of contents."""
    trees = re.findall(
        r"```{toctree}\n(?::[^\n]*\n)*\n(.*?)```", text_of(DOCS / "index.md"), re.DOTALL
    )
    names = " ".join(trees).split()
    return [ROOT / "README.md", DOCS / "index.md", *(DOCS / f"{name}.md" for name in names)]


PAGES = pages()
# The commands are run on smaller networks and images, for fewer epochs and steps.
SMALLER = {"resnet20": "resnet8", "--image-size 64": "--image-size 24", "--epochs 20": "--epochs 3",
           "--reject 0.05": "--reject 0.5"}  # of 12 images  # fmt: skip
MORE = {  # 18 steps of a net whose branches start at 0 tell the photos apart
    "train photos --model": "--batch-size 8 --zero-gamma",
    "--recipe finetune": "--model resnet8",
    "train photos --weights": "--batch-size 16",
    "train few": "--model resnet8 --epochs 1",
    "find-lr": "--steps 60",
    "ship photos": "--model resnet8 --epochs 2 --batch-size 8",
    "benchmark": "--runs 10",
}


def shown(pages=PAGES):
    """(command, output) of each `$ keras-resnet …` in console blocks; `text` is not run."""
    for page in pages:
        for block in re.findall(r"```console\n(.*?)```", text_of(page), flags=re.DOTALL):
            for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                line, _, output = part.partition("\n")
                if line.startswith("keras-resnet "):
                    yield line, output


@pytest.fixture(scope="module")
def home(tmp_path_factory, photos, untouched):
    """What a reader has: photos/ to train on, new/ to predict on, others/ of no class,
    runs/signs, and theirs.*, weights in PyTorch's layout."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "photos").symlink_to(photos)
    for name in ("bright", "dark"):
        shutil.copytree(photos / name, folder / "few" / name)
    (folder / "new").mkdir()
    for i in range(5):
        pixels = np.full((50, 70, 3), 50 * i, np.uint8)
        Image.fromarray(pixels).save(folder / "new" / f"{i}.jpg")
    shutil.copytree(folder / "new", folder / "others")
    shutil.copytree(untouched, folder / "runs" / "signs")
    theirs = open_run(untouched)
    (folder / "theirs.txt").write_text("".join(f"{name}\n" for name in theirs.classes))
    save_file(state_dict(theirs.model()), folder / "theirs.safetensors")
    return folder


def state_dict(model):
    """The weights of a network for CIFAR as PyTorch names and lays them out."""
    axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
    return {
        layouts.in_file(f"{layer.name}/{v.name}", Weights("", TORCH, {})): np.ascontiguousarray(
            np.asarray(v).transpose(axes[len(v.shape)])
        )
        for layer in model.layers
        for v in layer.weights
    }


# Their output is the same on all machines.
WORD_FOR_WORD = ["models", "recipes", "inspect resnet50", "inspect resnet50 --drawing"]


@pytest.mark.parametrize(
    ("pages", "least"),
    [
        pytest.param(PAGES[:1], 3, id="README"),
        pytest.param(PAGES, 30, marks=pytest.mark.slow, id="all"),
    ],
)
def test_every_command_works_in_the_order_shown(command, home, pages, least):
    # `doctor` takes ten seconds whatever the data, and is run by test_cli.py; the others below.
    apart = [f"keras-resnet {name}" for name in ("doctor", *WORD_FOR_WORD)]
    ran = [line for line, _ in shown(pages) if line not in apart]
    assert len(ran) >= least
    for line in ran:
        for written, smaller in SMALLER.items():
            line = line.replace(written, smaller)
        line += "".join(f" {more}" for part, more in MORE.items() if part in line)
        done = command(*shlex.split(line)[1:], cwd=home)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("name", WORD_FOR_WORD)
def test_what_does_not_depend_on_data_is_shown_word_for_word(command, name):
    (output,) = [output for line, output in shown() if line == f"keras-resnet {name}"]
    printed = command(*name.split()).stdout.splitlines()
    parts = [part.strip("\n").splitlines() for part in output.split("…\n")]
    assert printed[: len(parts[0])] == parts[0]
    assert printed[-len(parts[-1]) :] == parts[-1]


def test_the_readme_is_short_and_the_citation_is_of_this_version():
    assert text_of(PAGES[0]).count("\n") <= 200
    assert f"\nversion: {kr.__version__}\n" in text_of(ROOT / "CITATION.cff")


def test_no_command_is_left_out():
    from keras_resnet.cli import COMMANDS

    lines = " ".join(line for line, _ in shown())
    assert [name for name in COMMANDS if f"keras-resnet {name}" not in lines] == []


def test_every_block_says_whether_it_is_run():
    known = ("console", "text", "python", "{toctree}")
    for page in PAGES:
        openings = re.findall(r"^ *```(.*)$", text_of(page), flags=re.MULTILINE)[::2]
        assert set(openings) <= set(known), page


def test_every_call_in_a_python_block_fits_its_function():
    blocks = [
        b for page in PAGES for b in re.findall(r"```python\n(.*?)```", text_of(page), re.DOTALL)
    ]
    calls = [
        node
        for block in blocks
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("kr.")
    ]
    assert len(calls) >= 10
    for call in calls:
        function = getattr(kr, ast.unparse(call.func).removeprefix("kr."))
        inspect.signature(function).bind(*call.args, **{k.arg: k.value for k in call.keywords})


def test_no_paragraph_is_cut_off_or_repeated():
    for page in PAGES:
        prose = re.sub(r"```.*?```", "\n\n", text_of(page), flags=re.DOTALL)
        paragraphs = [part.strip() for part in re.split(r"\n\n+", prose)]
        paragraphs = [part for part in paragraphs if part and part[0] not in "#|!<"]
        assert len(paragraphs) == len(set(paragraphs)), page
        for part in paragraphs:
            follows = re.search(re.escape(part) + r"\n\n(```|- )", text_of(page))
            assert part[-1] in ".:!?)" or follows, f"{page}: {part[-80:]}"


def test_every_page_is_in_the_table_of_contents():
    assert set(DOCS.rglob("*.md")) - set(DOCS.glob("_build/**/*")) == set(PAGES) - {PAGES[0]}


def test_the_readme_leads_to_every_page():
    readme, *pages = PAGES
    links = {(ROOT / path).resolve() for path in re.findall(r"\]\(([^)#]+\.md)", text_of(readme))}
    assert {page.resolve() for page in pages} - links == {DOCS / "index.md"}


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text_of(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_relative_link_leads_to_a_file_and_a_heading():
    broken = []
    for page in PAGES:
        for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
            if "://" in link:
                continue
            name, _, anchor = link.partition("#")
            target = page.parent / name if name else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert broken == []


def test_the_files_promised_are_the_files_a_run_has(exported):
    run, _ = exported
    page = text_of(DOCS / "reference" / "run-folder.md")
    promised = set(re.findall(r"^\| `([^`]+)` \|", page, flags=re.MULTILINE))
    # written by the command, not by the library; on request
    optional = {
        "log.txt", "network.keras", "export/model.onnx", "export/model_features.tflite",
        "export/model_trainable.tflite",
    }  # fmt: skip
    there = {
        *(path.name + "/" * path.is_dir() for path in run.path.iterdir()),
        *(f"export/{path.name}" + "/" * path.is_dir() for path in run.export_folder.iterdir()),
    }
    assert promised - optional == there - optional


@pytest.fixture(scope="module")
def reference():
    """docs/_ext/reference.py, which makes the reference from the code."""
    spec = spec_from_file_location("reference", DOCS / "_ext" / "reference.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_command_and_option_has_a_description_in_the_reference(reference):
    text = reference.commands()
    for name, command in reference.all_commands():
        assert f"# `{name.removeprefix('keras-resnet ')}`\n" in text
        assert command.help
        for option in reference.options(command):
            assert all(f"`{flag}" in text or f" {flag}" in text for flag in option.opts), option
            assert option.help, f"{name} {option.opts[0]}"


def test_every_setting_recipe_and_network_is_in_the_reference(reference):
    settings = reference.settings()
    assert [name for name in SETTINGS if f"`{name}` (`" not in settings] == []
    assert all(row.help for row in SETTINGS.values())
    assert [name for name in RECIPES if f"`{name}`\n: " not in reference.recipes()] == []
    assert [name for name in SPECS if f"| `{name}` | " not in reference.networks()] == []


def test_every_public_name_is_in_the_reference_and_has_a_docstring(reference):
    text = reference.python()
    names = [name for name in kr.__all__ if name != "__version__"]
    assert [name for name in names if f":: keras_resnet.{name}\n" not in text] == []
    assert [name for name in names if not getattr(kr, name).__doc__] == []
    for name in names:
        function = getattr(kr, name)
        if inspect.isfunction(function):
            named = re.findall(r"^ {8}([\w, *]+): ", function.__doc__, flags=re.MULTILINE)
            described = set(re.split(r"[, *]+", ",".join(named)))
            parameters = inspect.signature(function).parameters.values()
            assert {p.name for p in parameters if p.kind != p.VAR_KEYWORD} <= described, name
            assert "Returns:" in function.__doc__, name


def test_every_key_of_the_files_of_an_export_has_a_description(reference):
    page = text_of(DOCS / "reference" / "preprocess.md")
    keys = re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)
    content = json.loads(reference.preprocess().split("```json\n")[1].split("```")[0])
    assert set(keys) == {*content, "probabilities", "reject"}
    for text in (reference.preprocess(), reference.verify()):
        rows = [line for line in text.splitlines() if line.startswith("- `")]
        assert len(rows) > 10 and [row for row in rows if "): " not in row] == []


def test_every_result_is_on_its_page_with_its_fields(reference):
    page, found = reference.results(), reference.returned()
    assert {"evaluate", "predict", "compare", "describe", "gradients", "ship"} <= found.keys()
    for name, kind in found.items():
        part = page.split(f"## `{name}`: `{kind.__name__}`\n")[1].split("\n## ")[0]
        assert [f.name for f in fields(kind) if f"- `{f.name}` (" not in part] == []


def test_every_mark_on_a_page_is_made_from_the_code(reference):
    marks = [m for page in PAGES for m in re.findall(r"<!-- generated: (\w+) -->", text_of(page))]
    assert sorted(marks) == sorted(reference.GENERATED)


def test_every_part_of_the_package_is_on_the_page_of_the_architecture():
    files = (ROOT / "keras_resnet").iterdir()
    parts = {path.stem for path in files if path.is_dir() or path.suffix == ".py"}
    parts = {part for part in parts if not part.startswith("_")}
    assert {part for part in parts if f"`{part}`" not in text_of(DOCS / "architecture.md")} == set()


# Of other programs, which pages show too.
OTHERS = {
    "--bind",
    "--build",
    "--check",
    "--file_format",
    "--headless",
    "--hide-scrollbars",
    "--logdir",
    "--screenshot",
    "--teach",
    "--test-dir",
    "--window-size",
}


def test_every_option_named_on_a_page_exists(reference):
    known = OTHERS | {"--help", "--version"}
    for _, command in reference.all_commands():
        for option in reference.options(command):
            known |= {*option.opts, *option.secondary_opts}
    for path in (ROOT / "benchmarks").glob("*.py"):
        known |= set(re.findall(r'"(--[a-z0-9-]+)"', text_of(path)))
    unknown = {
        f"{page.name}: {flag}"
        for page in PAGES
        for flag in re.findall(r"(?<![\w-])--[a-z][\w-]*", text_of(page))
        if flag not in known
    }
    assert unknown == set()


def test_every_error_message_that_is_explained_is_one_of_the_code():
    words = " ".join(
        "".join(part.value if isinstance(part, ast.Constant) else "…" for part in parts_of(node))
        for folder in ("keras_resnet", "cli")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(text_of(path)))
        if isinstance(node, ast.JoinedStr) or isinstance(getattr(node, "value", None), str)
    )
    headings = re.findall(r"^## (.*)$", text_of(DOCS / "faq.md"), flags=re.MULTILINE)
    assert len(headings) >= 15
    for heading in headings:
        pieces = [piece.strip(" `") for piece in heading.split("…")]
        assert [piece for piece in pieces if piece.strip(";,: ") not in words] == [], heading


def parts_of(node):
    return node.values if isinstance(node, ast.JoinedStr) else [node]
