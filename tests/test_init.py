"""`import keras_resnet as kr` loads nothing heavy, and its public names are fixed."""

import subprocess
import sys

import keras_resnet as kr


def test_every_public_name_is_there_and_documented():
    for name in kr.__all__:
        assert getattr(kr, name).__doc__ or name == "__version__", name


def test_importing_it_loads_nothing_heavy(tmp_path):
    code = (
        "import sys, keras_resnet; heavy = ('keras', 'tensorflow', 'numpy')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]"


def test_a_function_is_not_shadowed_by_a_module_of_its_name():
    import importlib

    for name in kr.__all__:
        home = kr._HOMES.get(name)
        if home:
            importlib.import_module(f"keras_resnet.{home}")
    assert all(callable(getattr(kr, name)) for name in kr._HOMES)
