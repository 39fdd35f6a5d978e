"""The table of the family."""

import re
import subprocess
import sys

import pytest

from keras_resnet import specs


@pytest.mark.parametrize("spec", specs.SPECS.values(), ids=lambda spec: spec.name)
def test_the_weight_layers_are_the_number_in_the_name(spec):
    assert spec.weight_layers == int(re.search(r"\d+$", spec.name).group())


@pytest.mark.parametrize("name", specs.SPECS)
def test_find_gives_the_row_of_that_name(name):
    assert specs.find(name).name == name


@pytest.mark.parametrize(
    ("misspelt", "meant"), [("resnet5O", "resnet50"), ("resent18", "resnet18")]
)
def test_a_misspelt_name_lists_the_near_misses(misspelt, meant):
    with pytest.raises(KeyError, match=f"'{misspelt}'.*{meant}"):
        specs.find(misspelt)


def test_a_name_like_no_other_lists_the_whole_family():
    with pytest.raises(KeyError) as error:
        specs.find("vgg")
    assert all(name in str(error.value) for name in specs.SPECS)


@pytest.mark.parametrize("module", ["keras_resnet", "keras_resnet.specs", "keras_resnet.recipes"])
def test_pure_data_imports_without_keras_tensorflow_or_numpy(module, tmp_path):
    code = f"import sys, {module}; print({{'keras', 'tensorflow', 'numpy'}} & set(sys.modules))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
