"""The table of the networks."""

import re
import subprocess
import sys

import pytest

from keras_resnet import specs
from keras_resnet.errors import InputError


@pytest.mark.parametrize("spec", specs.SPECS.values(), ids=lambda spec: spec.name)
def test_the_layers_on_the_longest_path_are_the_number_in_the_name(spec):
    """Convolutions and dense layers."""
    number = int(re.search(r"\d+", spec.name).group())
    per_block = {"basic": 2, "bottleneck": 3}[spec.branch.removeprefix("preact_")]
    layers = 1 + per_block * sum(spec.blocks) + 1
    # Wide nets for CIFAR are named after all convolutions and not the dense layer.
    others = len(spec.blocks) - 1 if spec.name.startswith("wrn") else 0
    assert layers + others == number


def test_every_basic_net_of_the_paper_has_a_plain_twin():
    papers = [s for s in specs.SPECS.values() if s.source.startswith("arXiv:1512.03385")]
    basic = {s.name for s in papers if s.branch == "basic" and s.shortcut != "none"}
    twins = {name.replace("plain", "resnet") for name in specs.SPECS if name.startswith("plain")}
    assert twins == {name for name in basic if not name.endswith("_b")}


@pytest.mark.parametrize(
    ("normalize", "mean", "deviation"),
    [
        ("tf", (127.5,) * 3, (127.5,) * 3),
        ("1,2,3/4,5,6", (1, 2, 3), (4, 5, 6)),
        ("0/255", (0, 0, 0), (255,) * 3),
        (([1, 2, 3], [4, 5, 6]), (1, 2, 3), (4, 5, 6)),
    ],
    ids=repr,
)
def test_a_normalization_is_a_name_two_triples_or_text(normalize, mean, deviation):
    assert specs.statistics(normalize) == (mean, deviation)


def test_the_statistics_are_the_published_ones():
    """Of pixels in [0, 1]: torchvision's, and those of CIFAR-10's training images."""
    published = {
        "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    }
    for name, parts in published.items():
        for ours, theirs in zip(specs.statistics(name), parts, strict=True):
            assert ours == pytest.approx([255 * x for x in theirs])


def test_luma_has_the_statistics_of_rgb_weighted_as_its_colours():
    (mean,), (deviation,) = specs.statistics("100,200,50/10,20,5", 1)
    assert mean == pytest.approx(0.299 * 100 + 0.587 * 200 + 0.114 * 50, rel=1e-4)
    assert deviation == pytest.approx(mean / 10)


@pytest.mark.parametrize(
    ("normalize", "message"),
    [
        ("0.485,0.456,0.406/0.229,0.224,0.225", "255 times"),
        ("1,2/3,4", "three numbers"),
        ("1,2,3", "three numbers"),
        ("1/0", "three numbers"),
        ("a/b", "three numbers"),
        ("imagnet", "imagenet, cifar10"),
    ],
)
def test_an_unusable_normalization_is_refused_with_the_next_step(normalize, message):
    with pytest.raises(InputError, match=message) as error:
        specs.statistics(normalize)
    assert normalize in str(error.value)


@pytest.mark.parametrize("name", specs.SPECS)
def test_find_gives_the_row_of_that_name(name):
    assert specs.find(name).name == name


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("resnet5O", "resnet50"),
        ("resent18", "resnet18"),
        ("seresnext50", "did you mean seresnext50_32x4d,"),
    ],
)
def test_a_misspelt_name_lists_the_near_misses(misspelt, meant):
    with pytest.raises(InputError, match=f"'{misspelt}'.*{meant}"):
        specs.find(misspelt)


def test_a_name_like_no_other_is_told_where_all_are_listed():
    with pytest.raises(InputError, match="'vgg'; `keras-resnet models` lists all"):
        specs.find("vgg")


def test_at_most_five_names_are_near():
    with pytest.raises(InputError) as error:
        specs.find("resnet51")
    assert sum(name in re.findall(r"\w+", str(error.value)) for name in specs.SPECS) == 5


@pytest.mark.parametrize("name", ["ResNet-50", "RESNET_50", "resnet50", "Res-Net50"])
def test_a_name_is_found_without_regard_to_case_hyphen_and_underscore(name):
    assert specs.find(name).name == "resnet50"
    assert specs.find("WRN-28-10").name == "wrn28_10"


@pytest.mark.parametrize("module", ["keras_resnet", "keras_resnet.specs", "keras_resnet.recipes"])
def test_pure_data_imports_without_keras_tensorflow_or_numpy(module, tmp_path):
    code = f"import sys, {module}; print({{'keras', 'tensorflow', 'numpy'}} & set(sys.modules))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
