"""The type annotations of the public names agree with their behaviour."""

import ast
import dataclasses
import inspect
import types
import typing
from importlib import resources

import numpy as np
import pytest

import keras_resnet as kr
from keras_resnet import blocks, recipes
from keras_resnet.config import Config
from keras_resnet.data.pixels import of_image
from keras_resnet.errors import InputError
from keras_resnet.settings import Settings

SETTINGS = typing.get_type_hints(Settings)


def choices(name):
    """What the type of a setting allows, if these are a few words; else ()."""
    literal = next((t for t in typing.get_args(SETTINGS[name]) if typing.get_args(t)), None)
    return typing.get_args(literal) if typing.get_origin(literal) is typing.Literal else ()


def plain(kind):
    """A type without paths and without a choice of words, which `Config` has as `str`."""
    is_union = typing.get_origin(kind) in (types.UnionType, typing.Union)
    parts = typing.get_args(kind) if is_union else (kind,)
    words = [str if typing.get_origin(part) is typing.Literal else part for part in parts]
    words = [word for word in words if word is not typing.Any]  # a Keras model
    return {word for word in words if "PathLike" not in str(word)} | {types.NoneType}


def test_the_package_is_marked_as_typed():
    assert (resources.files(kr) / "py.typed").is_file()


def test_type_checkers_find_the_public_names_where_python_does():
    (block,) = [node for node in ast.parse(inspect.getsource(kr)).body if isinstance(node, ast.If)]
    homes = {
        name.asname: node.module.removeprefix("keras_resnet.")
        for node in block.body
        for name in node.names
    }
    assert homes == kr._HOMES


def test_train_has_each_setting_as_a_keyword_of_its_type():
    fields = {field.name: plain(field.type) for field in dataclasses.fields(Config)}
    assert inspect.signature(kr.train).parameters["data"]  # not among the settings
    assert {"data": {str, types.NoneType}} | {k: plain(t) for k, t in SETTINGS.items()} == fields


@pytest.mark.parametrize("name", filter(choices, SETTINGS))
def test_a_choice_of_words_is_the_one_that_is_accepted(name):
    for word in choices(name):
        assert getattr(recipes.resolve({name: word}), name) == word
    with pytest.raises(InputError, match=f"one of {', '.join(choices(name))}$"):
        recipes.resolve({name: "another"})


def test_some_settings_are_a_choice_of_words():
    assert {"recipe", "optimizer", "precision", "check"} <= set(filter(choices, SETTINGS))


def test_blocks_have_each_option_as_a_keyword_of_its_type():
    assert typing.get_type_hints(blocks.BlockOptions) == typing.get_type_hints(blocks.Options)
    assert typing.get_args(blocks.BranchName) == tuple(blocks.BRANCHES)
    assert typing.get_args(blocks.ShortcutName) == tuple(blocks.SHORTCUTS)


@pytest.mark.parametrize(
    "call",
    [
        kr.open_run,
        kr.evaluate,
        kr.verify,
        kr.export,
        kr.benchmark,
        kr.describe,
        kr.compare,
        kr.lesion,
        lambda what: kr.predict(what, ["photo.jpg"]),
        lambda what: kr.cam(what, ["photo.jpg"]),
        lambda what: kr.load_weights(kr.residual_mlp(), what),
        lambda what: kr.import_model(what),
    ],
    ids=["open_run", "evaluate", "verify", "export", "benchmark", "describe", "compare", "lesion",
         "predict", "cam", "load_weights", "import_model"],
)  # fmt: skip
@pytest.mark.parametrize("what", [5, [5]], ids=repr)
def test_what_is_no_path_is_an_input_error_that_shows_it(call, what):
    with pytest.raises(InputError, match="5"):
        call(what)


def test_an_array_in_place_of_a_path_is_not_printed_whole():
    pixels = np.zeros((200, 32, 32, 3), np.uint8)
    for call in (kr.train, kr.evaluate, lambda data: kr.train((data, np.zeros(200)))):
        with pytest.raises(InputError, match=r"0 0 0|array") as caught:
            call(pixels)
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: kr.predict("no", "no", top=2.0), "--top is 2.0; expected a whole number"),
        (lambda: kr.lesion("no", images="10"), "--images is '10'; expected a whole number"),
        (lambda: kr.lesion("no", seed=-1), "--seed is -1; expected a whole number of at least 0"),
        (lambda: kr.lesion("no", sets=0.5), "--sets is 0.5; expected a whole number"),
        (lambda: kr.paths(None, (), (), samples=2.5), "--samples is 2.5; expected a whole number"),
        (lambda: kr.cross_validate("no", 2.5), "--folds is 2.5; expected a whole number"),
        (lambda: kr.plan_data("no", seeds="a"), "--seeds is 'a'; expected a whole number"),
        (lambda: kr.find_lr("digits", steps=9), "--steps is 9; expected a whole number of at lea"),
        (lambda: kr.find_lr("digits", png="/no/x.png"), "--png is '/no/x.png'; expected FILE.png"),
        (lambda: kr.benchmark((), threads="2"), "--threads is '2'; expected a whole number"),
        (lambda: kr.residual_mlp(units=64), "units is 64; expected the width of each block"),
        (lambda: kr.residual_mlp(units=np.array([4, 4])), "units is array.*; expected the width"),
        (lambda: kr.build("resnet20", 10, width=float("inf")), "width is inf; expected a factor"),
    ],
)
def test_a_number_of_the_wrong_kind_is_refused_before_any_work(call, said):
    with pytest.raises(InputError, match=said):
        call()


def test_an_array_of_floats_is_converted_as_its_range_needs():
    with pytest.raises(InputError, match=r"\[0, 1\] by \(255 \* x\)\.round\(\)\.astype"):
        of_image(np.zeros((8, 8, 3)), "photo")
    with pytest.raises(InputError, match=r"of uint8 \(8, 8, 4\); .*, grey$"):
        of_image(np.zeros((8, 8, 4), np.uint8), "photo")
