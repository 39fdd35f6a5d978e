"""The settings of a run: their origin, and the rejection of invalid ones."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest

from keras_resnet import specs
from keras_resnet.config import PRECISIONS, SETTINGS, Config
from keras_resnet.errors import InputError
from keras_resnet.recipes import RECIPES, command, effective, reference, resolve, save
from keras_resnet.training.schedule import training_size


@pytest.fixture
def config_file(tmp_path):
    def write(content):
        path = tmp_path / "config.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def test_the_weights_of_a_run_bring_its_network(tmp_path):
    (tmp_path / "config.json").write_text('{"model": "resnet8", "width": 0.5}')
    own = resolve({"weights": tmp_path})
    assert (own.model, own.width) == ("resnet8", 0.5)
    assert resolve({"weights": tmp_path, "width": 0.25}).width == 0.25
    assert resolve({"weights": tmp_path, "model": "resnet32"}).model == "resnet32"


def test_without_anything_the_defaults_are_a_usable_config():
    quick = {k: v for k, v in RECIPES["quick"].items() if k != "about"}
    assert asdict(resolve()) == {**asdict(Config()), **quick}


def test_a_recipe_wins_over_the_defaults():
    assert resolve({"recipe": "finetune"}).learning_rate == 0.01 != Config.learning_rate


def test_a_config_file_wins_over_its_recipe(config_file):
    path = config_file({"recipe": "finetune", "learning_rate": 0.5})
    assert resolve(config_file=path).learning_rate == 0.5
    assert resolve(config_file=path).label_smoothing == RECIPES["finetune"]["label_smoothing"]


def test_an_option_wins_over_the_config_file(config_file):
    path = config_file({"recipe": "finetune", "learning_rate": 0.5, "epochs": 3})
    config = resolve({"learning_rate": 0.25}, path)
    assert (config.learning_rate, config.epochs) == (0.25, 3)


def test_an_option_that_is_none_was_not_given(config_file):
    path = config_file({"epochs": 3})
    assert resolve({"epochs": None}, path) == resolve({}, path)


def test_a_recipe_named_on_top_of_a_saved_config_brings_its_own_numbers(tmp_path):
    save(resolve({"recipe": "quick", "seed": 5}), tmp_path / "config.json")
    config = resolve({"recipe": "finetune"}, tmp_path / "config.json")
    expected = {k: v for k, v in RECIPES["finetune"].items() if k != "about"}
    assert {name: getattr(config, name) for name in expected} == expected
    assert config.seed == 5


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("randaugment", "2 9", (2, 9.0)),
        ("crop_area", "0.5 1", (0.5, 1.0)),
        ("size_steps", "0.6 0.5 / 0.4 1", ((0.6, 0.5), (0.4, 1.0))),
    ],
)
def test_numbers_may_be_text_as_it_is_typed(name, text, value):
    assert resolve({name: text}) == resolve({name: value})


def test_a_path_is_as_good_as_a_string(tmp_path):
    assert resolve({"data": tmp_path, "weights": tmp_path}).data == str(tmp_path)


@pytest.mark.parametrize("name", specs.SPECS)
def test_the_image_size_defaults_to_that_of_the_models_paper(name):
    assert resolve({"model": name}).side == specs.SPECS[name].image_size


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_saved_config_reads_back_equal(recipe, tmp_path):
    config = resolve({"recipe": recipe, "model": "resnet18", "flip": False, "val_split": 0.1})
    save(config, tmp_path / "config.json")
    assert resolve(config_file=tmp_path / "config.json") == config


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_sets_only_fields_of_the_config(recipe):
    assert set(RECIPES[recipe]) - {"about"} <= set(asdict(Config()))


def test_a_rate_that_is_named_is_not_scaled(config_file):
    assert resolve({"recipe": "paper-imagenet", "batch_size": 64}).peak_rate == 0.025
    assert resolve({"recipe": "paper-imagenet", "learning_rate": 0.2}).peak_rate == 0.2
    path = config_file({"recipe": "paper-imagenet", "learning_rate": 0.2})
    assert resolve({"batch_size": 64}, path).peak_rate == 0.2
    both = {"recipe": "paper-imagenet", "learning_rate": 0.2, "base_batch": 512}
    assert resolve(both).peak_rate == 0.1


def test_a_saved_run_keeps_the_batch_that_its_rate_is_for(tmp_path):
    config = resolve({"recipe": "rsb-a2", "batch_size": 512})
    save(config, tmp_path / "config.json")
    again = resolve(config_file=tmp_path / "config.json")
    assert again.peak_rate == config.peak_rate == pytest.approx(5e-3 / 2)


def test_what_a_run_is_made_with_is_told_by_where_it_comes_from():
    options = {
        "recipe": "paper-cifar",
        "batch_size": 64,
        "seed": 5,
        "pad": 2,
    }
    recipe, others, rate = effective(resolve(options))
    assert recipe.startswith("recipe paper-cifar: ") and "--rate-drops '0.5 0.75'" in recipe
    assert "--no-nesterov" in recipe and "pad" not in recipe
    assert others == "other settings: --seed 5, --pad 2"
    assert rate.startswith("learning rate 0.05: 0.1 for a batch of 128 images, scaled linearly")


def test_what_is_as_usual_is_not_told():
    line, sizes = effective(resolve())
    steps = "'0.55 0.5 / 0.3 0.75 / 0.15 1'"
    assert line.startswith(f"recipe quick: --size-steps {steps}, --crop-area 0.7 1, ")
    assert sizes.startswith(
        "training images are smaller at first, but validation images always have 32 pixels"
    )
    (line, sizes) = effective(resolve({"epochs": 1}))
    assert sizes == (
        "image sizes in pixels: 1 epoch at 32; a run of 1 epoch does not use --size-steps"
    )


PUBLISHED = {  # recipe: epochs, batch, rate, sides of the training and the judged images
    "paper-cifar": (182, 128, 0.1, 32, 32),
    "paper-imagenet": (90, 256, 0.1, 224, 224),
    "rsb-a1": (600, 2048, 5e-3, 224, 224),
    "rsb-a2": (300, 2048, 5e-3, 224, 224),
    "rsb-a3": (100, 2048, 8e-3, 160, 224),
    "torchvision-v2": (600, 1024, 0.5, 176, 224),
}


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_a_published_recipe_has_the_published_numbers(recipe):
    model = "resnet56" if recipe == "paper-cifar" else "resnet50"
    config = resolve({"recipe": recipe, "model": model})
    epochs, batch, rate, training, judged = PUBLISHED[recipe]
    assert (config.epochs, config.batch_size, config.peak_rate) == (epochs, batch, rate)
    assert training_size(config, config.side) == training
    assert config.side == judged


def test_only_the_recipes_of_resnet_strikes_back_have_timms_randaugment():
    for name in RECIPES:
        config = resolve({"recipe": name})
        expected = (0.5, 0.5) if name.startswith("rsb") else (1.0, 0.0)
        assert (config.randaugment_prob, config.randaugment_std) == expected


BAD = [
    ("randaugment_prob", 0),
    ("randaugment_prob", 1.5),
    ("randaugment_std", -1),
    ("best_by", "loss"),
    ("optimizer", "adam"),
    ("base_batch", -1),
    ("accumulate", 0),
    ("clip_norm", -1),
    ("loss", "mse"),
    ("bce_threshold", 0.2),
    ("balance", "yes"),
    ("patience", -1),
    ("patience", 1.5),
    ("max_minutes", math.nan),
    ("randaugment", [2, 11]),
    ("randaugment", [1.5, 5]),
    ("randaugment", 2),
    ("trivialaugment", 1),
    ("erasing", 1.1),
    ("mixup", -0.2),
    ("cutmix", "yes"),
    ("repeats", 0),
    ("repeats", 33),
    ("train_size", 0),
    ("freeze_bn", "yes"),
    ("epochs", 0),
    ("epochs", -1),
    ("epochs", 2.5),
    ("epochs", "5"),
    ("epochs", True),
    ("batch_size", 0),
    ("image_size", -1),
    ("seed", -1),
    ("learning_rate", 0),
    ("learning_rate", -1),
    ("learning_rate", math.nan),
    ("learning_rate", math.inf),
    ("learning_rate", "fast"),
    ("warmup_epochs", -1),
    ("warmup_epochs", math.inf),
    ("momentum", 1),
    ("weight_decay", -0.1),
    ("label_smoothing", 1),
    ("val_split", 0),
    ("val_split", 1),
    ("val_split", 2),
    ("brightness", 2),
    ("nesterov", "yes"),
    ("rate_drops", [0.5, 1.5]),
    ("rate_drops", 0.5),
    ("pad", -1),
    ("pad", 400),
    ("center_crop", 0),
    ("model", "resnet5O"),
    ("model", ["resnet50"]),
    ("recipe", "slow"),
    ("recipe", ["quick"]),
    ("precision", "float8"),
    ("on_bad_image", "ignore"),
    ("check", "none"),
    ("zero_gamma", "no"),
    ("flip", "yes"),
    ("data", 5),
    ("data_dir", 5),
    ("weights", 5),
    ("freeze", 5),
    ("crop_area", 0.5),
    ("crop_area", [0.5, 2]),
    ("crop_area", [0.8, 0.5]),
    ("crop_aspect", [-1, 1]),
    ("crop_aspect", "wide"),
    ("size_steps", 5),
    ("size_steps", [[1.0, -0.5]]),
    ("size_steps", [[0.5, "full"]]),
]


@pytest.mark.parametrize(("name", "value"), BAD, ids=[f"{n} {v!r}" for n, v in BAD])
@pytest.mark.parametrize("where", ["option", "config file"])
def test_a_bad_value_is_refused_with_its_name_and_itself(name, value, where, config_file):
    with pytest.raises(InputError) as error:
        if where == "option":
            resolve({name: value})
        else:
            resolve(config_file=config_file({name: value}))
    line = str(error.value)
    assert name.replace("_", "-") in line.replace("_", "-").lower()
    assert isinstance(value, list) or str(value) in line
    assert "\n" not in line


@pytest.mark.parametrize("name", ["data", "model", "epochs", "precision", "size_steps", "recipe"])
def test_a_setting_that_needs_a_value_is_not_null_in_a_config_file(name, config_file):
    with pytest.raises(InputError, match="(?i)" + name.replace("_", "[-_]")):
        resolve(config_file=config_file({name: None}))


def test_the_two_kinds_of_random_operations_exclude_each_other():
    with pytest.raises(InputError, match=r"--randaugment is 2 9.0; expected 0 0 with"):
        resolve({"trivialaugment": True, "randaugment": (2, 9.0)})


@pytest.mark.parametrize(
    ("options", "name", "value"),
    [
        ({"recipe": "rsb-a3", "loss": "cross-entropy"}, "bce_threshold", 0.0),
        ({"recipe": "torchvision-v2", "randaugment": (2, 9.0)}, "trivialaugment", False),
        ({"recipe": "rsb-a3", "trivialaugment": True}, "randaugment", (0, 0.0)),
        ({"recipe": "rsb-a1", "model": "plain20"}, "drop_path", 0.0),
        ({"recipe": "rsb-a1", "batch_size": 2}, "repeats", 1),
        ({"recipe": "paper-cifar", "image_size": 4}, "pad", 0),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_recipe_sets_gives_way_to_what_contradicts_it(options, name, value, tmp_path):
    config = resolve(options)
    assert getattr(config, name) == value != RECIPES[options["recipe"]][name]
    flag = SETTINGS[name].flag.partition("/")[0]
    ignored = [line for line in effective(config) if line.startswith(f"{flag} ")]
    assert len(ignored) == 1 and " of the recipe is ignored: expected " in ignored[0]
    assert not any(f", {flag} " in line for line in effective(config))
    save(resolve({"recipe": options["recipe"], "image_size": 32}), tmp_path / "config.json")
    again = resolve({**options, "recipe": None}, tmp_path / "config.json")
    assert getattr(again, name) == value
    with pytest.raises(InputError, match="; expected "):
        resolve({**options, name: RECIPES[options["recipe"]][name]})


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"distill_weight": 0.5}, "--distill-weight is 0.5; expected --teacher RUN with it;"),
        ({"distill_temperature": 2.0}, "--distill-temperature is 2.0; expected --teacher RUN"),
        ({"randaugment_prob": 0.5}, "--randaugment-prob is 0.5; expected --randaugment with it;"),
        ({"randaugment_std": 0.5}, "--randaugment-std is 0.5; expected --randaugment with it;"),
        ({"optimizer": "adamw", "momentum": 0.5}, "--momentum is 0.5; expected --optimizer sgd"),
        ({"recipe": "rsb-a3", "nesterov": False}, "no-nesterov is False; expected --optimizer sgd"),
        ({"recipe": "paper-cifar", "crop_area": (0.5, 1.0)}, "expected --pad 0 with it;"),
        ({"recipe": "paper-cifar", "crop_aspect": (1.0, 1.0)}, "expected --pad 0 with it;"),
        ({"split_file": "s.json", "val_split": 0.3}, "expected no --split-file with it;"),
    ],
    ids=str,
)
def test_an_option_that_would_do_nothing_is_refused(options, told):
    with pytest.raises(InputError, match=f"{told}.*otherwise it has no effect"):
        resolve(options)


def test_the_command_of_a_run_asks_for_its_rate():
    options = {"recipe": "paper-cifar", "learning_rate": 0.05, "batch_size": 64}
    assert "--learning-rate 0.05 --base-batch 128" in command(
        resolve(options | {"base_batch": 128})
    )
    assert "--learning-rate 0.05 --base-batch 0" in command(resolve(options))


def test_what_a_recipe_sets_or_the_default_may_do_nothing():
    resolve({"pad": 4})  # quick has a crop_area
    resolve({"recipe": "rsb-a3", "randaugment": (0, 0.0)})
    resolve({"split_file": "s.json", "val_split": Config.val_split})


def test_a_value_is_checked_by_its_row_and_named_by_its_flag():
    cases = {
        "batch_size": (0, "--batch-size is 0; expected at least 1"),
        "epochs": (2.5, "--epochs is 2.5; expected an integer"),
        "flip": ("yes", "--flip/--no-flip is 'yes'; expected true, false or null"),
        "label_smoothing": (1, "--label-smoothing is 1; expected at least 0 and below 1"),
        "optimizer": ("adam", "--optimizer is 'adam'; expected one of sgd, adamw, lamb"),
        "crop_area": ((0.5, 2.0), "--crop-area is 0.5 2.0; expected two shares of the image"),
        "size_steps": ("0.60 half / 1 1", "--size-steps is '0.60 half / 1 1'; expected pairs"),
    }
    for name, (value, line) in cases.items():
        with pytest.raises(InputError) as error:
            resolve({name: value})
        assert str(error.value).startswith(line)


def test_the_reference_has_a_row_per_setting_with_the_values_of_the_default_recipe():
    rows = {row["name"]: row for row in reference()}
    assert list(rows) == list(asdict(Config()))
    assert rows["crop_area"]["default"] == "0.7 1" != str(Config.crop_area)
    assert rows["label_smoothing"] == {
        "name": "label_smoothing",
        "flag": "--label-smoothing",
        "type": "float",
        "range": "at least 0 and below 1",
        "default": "0.1",
        "recipes": {
            "finetune": "0", "paper-cifar": "0", "paper-imagenet": "0", "rsb-a1": "0.1",
            "rsb-a2": "0", "rsb-a3": "0", "torchvision-v2": "0.1",
        },
        "help": SETTINGS["label_smoothing"].help,
        "source": "arXiv:1512.00567 section 7",
    }  # fmt: skip


@pytest.mark.parametrize("row", SETTINGS.values(), ids=SETTINGS)
def test_the_default_of_a_row_fits_its_type_and_range(row):
    row.require(row.default)
    assert row.help.endswith(".") and row.range
    assert (row.default in (None, ())) == bool(row.unset)


@pytest.mark.parametrize("name", ["ResNet-50", "RESNET_50", "resnet50"])
def test_the_name_of_a_network_is_saved_as_the_table_has_it(name):
    assert resolve({"model": name}).model == "resnet50"


@pytest.mark.parametrize("where", ["option", "config file"])
def test_an_unknown_setting_is_refused_with_its_name(where, config_file):
    with pytest.raises(InputError, match=r"'epoch'.*epochs"):
        if where == "option":
            resolve({"epoch": 3})
        else:
            resolve(config_file=config_file({"epoch": 3}))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [("epochs: 3", "not JSON"), ("", "not JSON"), ("[1, 2]", "object"), ("3", "object")],
    ids=["yaml is not JSON", "an empty file", "a list", "a number"],
)
def test_a_config_file_that_holds_no_settings_is_refused_with_its_path(
    content, complaint, config_file
):
    path = config_file(content)
    with pytest.raises(InputError, match=complaint) as error:
        resolve(config_file=path)
    assert str(path) in str(error.value)


def test_a_config_file_that_is_no_text_is_refused_with_its_path(tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"config\.json"):
        resolve(config_file=path)


def test_a_missing_config_file_is_refused_with_its_path(tmp_path):
    with pytest.raises(InputError, match=r"missing\.json"):
        resolve(config_file=tmp_path / "missing.json")


def test_numbers_of_numpy_are_numbers():
    config = resolve({"epochs": np.int64(2), "learning_rate": np.float32(0.5)})
    assert (config.epochs, config.learning_rate) == (2, 0.5)
    assert type(config.epochs) is int and type(config.learning_rate) is float


def test_an_array_in_the_place_of_the_data_is_one_short_line():
    with pytest.raises(InputError, match=r"expected a folder of images, tfds:NAME") as error:
        resolve({"data": np.zeros((64, 32, 32, 3))})
    assert "\n" not in str(error.value) and len(str(error.value)) < 200


def test_a_config_is_frozen_and_hashable(config_file):
    config = resolve(config_file=config_file({"crop_area": [0.5, 1], "size_steps": [[1, 1]]}))
    assert hash(config) == hash(resolve({"crop_area": (0.5, 1), "size_steps": ((1, 1),)}))
    with pytest.raises(AttributeError):
        config.epochs = 3


def test_every_precision_of_the_list_is_accepted():
    for precision in PRECISIONS:
        assert resolve({"precision": precision}).precision == precision


def test_a_warm_up_longer_than_the_run_is_refused_if_it_was_asked_for():
    with pytest.raises(InputError, match="--warmup-epochs is 4, longer than the run, --epochs 3"):
        resolve({"warmup_epochs": 4.0, "epochs": 3})
    assert resolve({"epochs": 3}).epochs == 3  # the recipe's is cut


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_saved_settings_of_a_run_shorter_than_its_warm_up_are_valid(recipe):
    config = resolve({"recipe": recipe, "epochs": 1})
    assert resolve(asdict(config)) == config


@pytest.mark.parametrize(("name", "meant"), [("lr", "learning_rate"), ("epoch", "epochs")])
def test_an_unknown_setting_names_the_one_that_is_meant(name, meant):
    with pytest.raises(InputError, match=f"unknown setting '{name}'; did you mean {meant}"):
        resolve({name: 1})
    with pytest.raises(InputError, match="unknown setting 'qqq'; known: accumulate, balance"):
        resolve({"qqq": 1})
    with pytest.raises(InputError, match="unknown setting 'run'; the folder of the run is run_fo"):
        resolve({"run": "there"})


def test_a_number_of_any_length_is_refused():
    with pytest.raises(InputError, match="--learning-rate is 1000"):
        resolve({"learning_rate": 10**400})
