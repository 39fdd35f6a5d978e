"""The named recipes, pure data, and how the settings of a run are resolved from them.

Order of precedence: `Config`'s defaults < recipe < config file < options.
"""

import json
import os
import shlex
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any, get_args

from keras_resnet import filenames, specs
from keras_resnet.config import (
    FULL_EPOCHS,
    LEAST_CELLS,
    RELATIONS,
    SETTINGS,
    Config,
    require_effects,
    require_relations,
    require_values,
    show,
    size_plan,
)
from keras_resnet.errors import InputError
from keras_resnet.files import StrPath

# ResNet strikes back, arXiv:2110.00476, table 2: the common settings of A1, A2 and A3. RandAugment
# is timm's rand-m7-mstd0.5-inc1 (A3: m6): two operations, each with p = 0.5 and a magnitude from a
# normal distribution, clipped to [0, 10]; a larger magnitude is a stronger operation ("inc").
# Differences: ours are the fourteen operations of arXiv:1909.13719, timm has Invert and SolarizeAdd
# instead of the identity; its posterize keeps 4 to 0 bits, ours 8 to 4 (arXiv:1805.09501); it fills
# with ImageNet's mean, not grey, and uses bicubic interpolation with probability 0.5. Block n of N
# is dropped with n / N of the last one's probability (arXiv:1603.09382), in timm (n - 1) / (N - 1).
_RSB = {
    "batch_size": 2048,
    "base_batch": 2048,
    "optimizer": "lamb",
    "clip_norm": 1.0,  # as in timm's LAMB
    "warmup_epochs": 5.0,
    "loss": "bce",
    "bce_threshold": 0.2,  # timm's; in the paper the target of any mixed class is 1
    "randaugment_prob": 0.5,
    "randaugment_std": 0.5,
    "label_smoothing": 0.0,
    "cutmix": 1.0,
    "crop_area": (0.08, 1.0),
    "center_crop": 0.95,
}

RECIPES: dict[str, dict[str, Any]] = {
    "quick": {  # tried on the built-in digits and on 1,650 photos of hands
        "about": "small data from scratch: a few minutes on two cores",
        # Small images first: most of the progress for a fraction of the multiply-adds.
        "size_steps": ((0.55, 0.5), (0.3, 0.75), (0.15, 1.0)),
        "crop_area": (0.7, 1.0),  # few epochs: stronger crops need longer training
        "brightness": 0.2,
        # In CIFAR networks, with zero-padded shortcuts, branches initialized with 0 learn slowly:
        # 6 epochs on photos of hands gave 97 % without zero_gamma and 46 % with it.
        "zero_gamma": False,
    },
    "finetune": {
        "about": "fine-tuning of --weights: a tenth of the learning rate, mild augmentation",
        # The middle of the rates searched by arXiv:1805.08974, section 3.3, for fine-tuning. One
        # rate for all layers: a lower one for the body gave lower accuracy on 200 photos of hands
        # from CIFAR-10's weights (12 epochs at 32 pixels, rate 0.03; two seeds: 71 % and 73 %, with
        # body_rate 0.1 36 % and 30 %; one seed: body_rate 0.3 53 %, conv1 and conv2 frozen 70 %).
        "learning_rate": 0.01,
        "warmup_epochs": 1.0,
        "weight_decay": 1e-4,
        "label_smoothing": 0.0,
        "epochs": 10,
        "crop_area": (0.5, 1.0),
        "brightness": 0.1,
    },
    "paper-cifar": {
        "about": "CIFAR networks as published: arXiv:1512.03385, section 4.2",
        "epochs": 182,  # 64,000 steps; 45,000 training images, 50,000 without `val_split`
        "val_split": 0.1,
        "batch_size": 128,
        "base_batch": 128,
        "learning_rate": 0.1,
        "rate_drops": (0.5, 0.75),  # at 32,000 and 48,000 steps
        # The paper has a warm-up only for 110 layers, at a constant rate of 0.01.
        "warmup_epochs": 1.0,
        "nesterov": False,
        "weight_decay": 1e-3,  # the paper's 1e-4, see `Config`
        "label_smoothing": 0.0,
        "zero_gamma": False,
        "pad": 4,
    },
    "paper-imagenet": {
        "about": "ImageNet networks as published, with the usual changes: arXiv:1512.03385, "
        "section 3.4; arXiv:1706.02677, section 5.1",
        "epochs": 90,
        "batch_size": 256,
        "base_batch": 256,
        "learning_rate": 0.1,
        "rate_drops": (30 / 90, 60 / 90, 80 / 90),  # the paper: when the error plateaus
        "warmup_epochs": 5.0,
        "weight_decay": 1e-3,  # the paper's 1e-4, see `Config`
        "label_smoothing": 0.0,
        "crop_area": (0.08, 1.0),  # arXiv:1409.4842, section 6
        "center_crop": 0.875,  # 224 of 256 pixels
    },
    "rsb-a1": {
        "about": "ResNet strikes back, 600 epochs: arXiv:2110.00476, table 2 (80.4 % ResNet-50)",
        **_RSB,
        "epochs": 600,
        "learning_rate": 5e-3,
        "weight_decay": 0.01,
        "label_smoothing": 0.1,
        "mixup": 0.2,
        "randaugment": (2, 7.0),
        "repeats": 3,
        "drop_path": 0.05,
    },
    "rsb-a2": {
        "about": "ResNet strikes back, 300 epochs: arXiv:2110.00476, table 2 (79.8 % ResNet-50)",
        **_RSB,
        "epochs": 300,
        "learning_rate": 5e-3,
        "weight_decay": 0.02,
        "mixup": 0.1,
        "randaugment": (2, 7.0),
        "repeats": 3,
        "drop_path": 0.05,
    },
    "rsb-a3": {
        "about": "ResNet strikes back, 100 epochs: arXiv:2110.00476, table 2 (78.1 % ResNet-50)",
        **_RSB,
        "epochs": 100,
        "learning_rate": 8e-3,
        "weight_decay": 0.02,
        "mixup": 0.1,
        "randaugment": (2, 6.0),
        "train_size": 160 / 224,
    },
    "torchvision-v2": {
        "about": "torchvision's V2 weights (80.9 % ResNet-50): "
        "pytorch.org/blog/how-to-train-state-of-the-art-models-using-torchvision-latest-primitives",
        "epochs": 600,
        "batch_size": 1024,
        "base_batch": 1024,
        "learning_rate": 0.5,
        "warmup_epochs": 5.0,
        "nesterov": False,
        "weight_decay": 2e-4,  # theirs is 2e-5, see `Config`
        "label_smoothing": 0.1,
        "zero_gamma": False,
        "mixup": 0.2,
        "cutmix": 1.0,
        # Without their `ema` of 0.99997 per step: in a run with fewer steps than the 750,000 on
        # ImageNet, the average would be dominated by early weights.
        # Differences from torchvision: TrivialAugment shifts by up to 1/7 of the side, not by 32
        # pixels, and fills with grey, not black; random erasing fills boxes of up to 40 % of the
        # image with noise (arXiv:1708.04896), not of up to 33 % with ImageNet's mean.
        "trivialaugment": True,
        "erasing": 0.1,
        "repeats": 4,
        "train_size": 176 / 224,
        "crop_area": (0.08, 1.0),
        "center_crop": 224 / 232,
    },
}


# Recipes that `training.defaults` fits to the data; the others are used unchanged.
_FOR_ANY_DATA = ("quick", "finetune")
# The smallest network with published weights, for phones.
PUBLISHED_NETWORK = "resnet18"


# Names of some settings in other tools.
OTHER_NAMES = {
    "lr": "learning_rate",
    "batch": "batch_size",
    "imgsz": "image_size",
    "arch": "model",
    "pretrained": "weights",
    "device": "devices",
}


def resolve(
    options: Mapping[str, Any] | None = None,
    config_file: StrPath | None = None,
    content: bytes | None = None,
) -> Config:
    """The effective `Config` of a run.

    A setting of the recipe that contradicts an option is ignored, such as the threshold of `rsb-a3`
    with `--loss cross-entropy`.

    Args:
        options: mapping of field name to value; None means "not given". A tuple may be given as
            text, as on the command line: "0.5 0.75".
        config_file: path of a `config.json` to start from.
        content: the bytes of this file, if already read.

    Raises:
        InputError: an unknown name or an invalid value, with the next step.
    """
    given, from_file = _requested(options, config_file, content)
    for name in (*given, *from_file):
        if name not in SETTINGS:
            raise InputError(f"unknown setting '{name}'; {_hint(name)}")
    recipe = _values_of({**from_file, **given}.get("recipe", Config.recipe))
    # A saved config has every field, and so the values of its recipe. Another recipe replaces them.
    if "recipe" in given and "recipe" in from_file and given["recipe"] != from_file["recipe"]:
        from_file = {k: v for k, v in from_file.items() if k not in _recipe_fields()}
    merged = {**recipe, **_unscaled(from_file), **_unscaled(given)}
    config = Config(**{name: SETTINGS[name].parse(value) for name, value in merged.items()})
    require_values(config)
    config = replace(config, model=specs.of(config.model).name)
    of_recipe = {name for name in recipe if getattr(config, name) == recipe[name]}
    config = _without_contradictions(config, of_recipe - given.keys())
    require_relations(config)
    require_effects(config, given)
    usual = recipe.get("warmup_epochs", Config.warmup_epochs)  # shortened in a short run
    if given.get("warmup_epochs", usual) != usual and config.warmup_epochs > config.epochs:
        raise InputError(
            f"--warmup-epochs is {config.warmup_epochs:g}, longer than the run, --epochs "
            f"{config.epochs}; give a shorter one, or more epochs"
        )
    return config


def given(
    options: Mapping[str, Any] | None = None, config_file: StrPath | None = None
) -> frozenset[str]:
    """Names of the settings that the user gave.

    Args:
        options, config_file: as in `resolve`.
    """
    return frozenset().union(*_requested(options, config_file))


def unset(
    options: Mapping[str, Any] | None = None, config_file: StrPath | None = None
) -> frozenset[str]:
    """Names of the settings left at their default, which may be fitted to the data; none with a
    published recipe.

    Args:
        options, config_file: as in `resolve`.
    """
    by_user, from_file = _requested(options, config_file)
    if {**from_file, **by_user}.get("recipe", Config.recipe) not in _FOR_ANY_DATA:
        return frozenset()
    return frozenset(SETTINGS.keys() - given(options, config_file))


def with_recipe(config: Config, recipe: str, unset: Collection[str]) -> Config:
    """The config with the values of another recipe for its `unset` settings."""
    before, after = _values_of(config.recipe), _values_of(recipe)
    changed = {
        name: after.get(name, SETTINGS[name].default)
        for name in before.keys() | after.keys()
        if name in unset
    }
    return replace(config, recipe=recipe, **changed)


def _requested(
    options: Mapping[str, Any] | None,
    config_file: StrPath | None,
    content: bytes | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings given as options and in the file; an option also implies the network that its
    `weights` belong to."""
    given = {
        k: os.fspath(v) if isinstance(v, os.PathLike) else v
        for k, v in (options or {}).items()
        if v is not None
    }
    from_file = _read(config_file, content) if config_file else {}
    if "model" not in given and "model" not in from_file:
        given = {**network_of_weights(given.get("weights")), **given}
    return given, from_file


def _values_of(recipe: Any) -> dict[str, Any]:
    if not isinstance(recipe, str) or recipe not in RECIPES:
        raise InputError(f"unknown recipe '{recipe}'; use one of {', '.join(RECIPES)}")
    return {name: value for name, value in RECIPES[recipe].items() if name != "about"}


def _without_contradictions(config: Config, of_recipe: set[str]) -> Config:
    """The config with the default for each of these settings that contradicts others."""
    for relation in RELATIONS:
        if relation.name in of_recipe and not relation.holds(config):
            config = replace(config, **{relation.name: SETTINGS[relation.name].default})
    return config


def effective(config: Config) -> list[str]:
    """Lines for the log: settings that differ from the defaults, of the recipe and others, and
    their consequences."""
    recipe = {k: v for k, v in _values_of(config.recipe).items() if k not in _ALWAYS_SHOWN}
    kept = [name for name in recipe if getattr(config, name) == recipe[name]]
    ignored = _ignored(config, recipe)
    usual = {**asdict(Config()), **recipe, **_of_network(config)}
    others = [
        name
        for name in usual
        if name not in (*kept, *ignored, *_ALWAYS_SHOWN) and getattr(config, name) != usual[name]
    ]
    lines = [f"recipe {config.recipe}: {_list(config, kept)}"] if kept else []
    lines += [f"other settings: {_list(config, others)}"] if others else []
    lines += [
        f"{' '.join(option(name, recipe[name]))} of the recipe is ignored: expected {expected}"
        for name, expected in ignored.items()
    ]
    if config.peak_rate != config.learning_rate:
        images = f"{config.batch_size * config.accumulate:,}"
        how = "linearly" if config.optimizer == "sgd" else "by the square root"
        lines.append(
            f"learning rate {config.peak_rate:.3g}: {config.learning_rate:g} for a batch of "
            f"{config.base_batch:,} images, scaled {how} to {images}"
        )
    stride = specs.of(config.model).total_stride
    plan = size_plan(config, stride)
    # Rounding is reported for explicitly given sizes, not for those of the recipe.
    is_changed = "size_steps" in others and _differs(plan, config)
    if is_changed or len(plan) < len(config.size_steps):
        sizes = ", then ".join(f"{n} epoch{'s' * (n > 1)} at {size}" for size, n in plan)
        why = (
            f"a run of {config.epochs} epoch{'s' * (config.epochs > 1)} does not use --size-steps"
            if config.epochs <= FULL_EPOCHS
            else f"--size-steps are multiples of {stride} and at least "
            f"{min(LEAST_CELLS * stride, config.side)}, and the last {FULL_EPOCHS} epochs use "
            "the full size"
        )
        lines.append(f"image sizes in pixels: {sizes}; {why}")
    if plan[0][0] < config.side:
        lines.append(
            "training images are smaller at first, but validation images always have "
            f"{config.geometry.image_size} pixels: val top-1 is low until training uses the full "
            "size"
        )
    return lines


def _differs(plan: list[tuple[int, int]], config: Config) -> bool:
    """Whether the sizes of a `size_plan` differ from `size_steps` by rounding or limits."""
    exact: list[float] = []  # the size of every epoch
    passed = 0.0
    for share, scale in config.size_steps:
        passed += share
        exact += [scale * config.side] * (round(passed * config.epochs) - len(exact))
    exact += [config.side] * (config.epochs - len(exact))
    return exact != [size for size, epochs in plan for _ in range(epochs)]


def command(config: Config) -> str:
    """The `train` command for these settings, without those that are resolved at its start."""
    always = {name: getattr(config, name) for name in _OF_DATA}
    expected = resolve({"recipe": config.recipe, "model": config.model, "data": config.data})
    usual = {**asdict(expected), **_of_network(config)}
    others = {
        name: value
        for name, value in asdict(config).items()
        if name not in (*_OF_MACHINE, *_OF_DATA, "data") and value != usual[name]
    }
    if "learning_rate" in others:  # without --base-batch it would not be scaled
        others["base_batch"] = config.base_batch
    words = ["keras-resnet", "train", config.data]
    for name, value in (always | others).items():
        words += option(name, value)
    return shlex.join(words)


def option(name: str, value: Any) -> list[str]:
    """The arguments of the `train` command for a value of a setting; [] for None."""
    on, _, off = SETTINGS[name].flag.partition("/")
    if isinstance(value, bool):
        return [on if value else off]
    if value is None:
        return []
    typed = show(value, floats=".10g")
    of_type = set(get_args(SETTINGS[name].type))
    has_fixed_length = isinstance(value, tuple) and of_type <= {int, float}
    return [on, *(typed.split(" ") if has_fixed_length else [typed])]


def as_option(name: str, value: Any) -> str:
    """The option of `train` for a value of a setting, as part of a message."""
    return " ".join(option(name, value)) or f"no {SETTINGS[name].flag}"


# Settings that training fits to the images if they are left out.
_OF_DATA = ("model", "recipe", "epochs", "batch_size", "image_size")
_OF_MACHINE = ("deterministic", "xla")
RESOLVED = ("normalize", *_OF_MACHINE)  # None is resolved when a run begins
# Settings that other lines of the log always show.
_ALWAYS_SHOWN = (
    "data", "data_dir", "model", "recipe", "epochs", "batch_size", "image_size", "precision",
    "weights", "deterministic", "xla", "base_batch",
)  # fmt: skip


def _of_network(config: Config) -> dict[str, Any]:
    """The settings that a network determines if they are left out."""
    if config.normalize is None:  # not resolved yet
        return {}
    return {"normalize": specs.of(config.model).normalize or None}


def _list(config: Config, names: list[str]) -> str:
    return ", ".join(shlex.join(option(name, getattr(config, name))) for name in names)


def _ignored(config: Config, recipe: Mapping[str, Any]) -> dict[str, str]:
    """Settings of the recipe that were ignored, with the expected value."""
    return {
        relation.name: relation.expected
        for relation in RELATIONS
        if relation.name in recipe
        and getattr(config, relation.name) == SETTINGS[relation.name].default
        and not relation.holds(replace(config, **{relation.name: recipe[relation.name]}))
    }


def reference() -> Iterator[dict[str, Any]]:
    """The table of all settings: one row per setting, for a reference page.

    Yields:
        `name`, `flag`, `type`, `range`, `default` (of the default recipe), `recipes` (the values
        of the recipes that set it), `help` and `source`, all as text except the dict `recipes`.
    """
    default = resolve()
    for name, row in SETTINGS.items():
        yield {
            "name": name,
            "flag": row.flag,
            "type": row.type.__name__ if isinstance(row.type, type) else str(row.type),
            "range": row.range,
            "default": row.default_of(default),
            "recipes": {
                key: show(values[name]) for key, values in RECIPES.items() if name in values
            },
            "help": row.help,
            "source": row.source,
        }


def save(config: Config, path: StrPath) -> None:
    """Writes `config` as JSON; `resolve(config_file=path)` reads it back."""
    with open(path, "w", encoding="utf-8") as file:
        json.dump(asdict(config), file, indent=2)
        file.write("\n")


_A_FILE = "the config.json of a run"


def _read(path: StrPath, content: bytes | None = None) -> dict[str, Any]:
    try:
        if content is None:
            with open(path, "rb") as file:
                content = file.read()
        document = json.loads(content.decode("utf-8-sig"))
    except OSError as error:
        raise InputError(
            f"cannot read settings file {path}: {error.strerror}; give {_A_FILE}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"settings file {path} is not JSON ({error}); give {_A_FILE}") from None
    if not isinstance(document, dict):
        raise InputError(f"settings file {path} does not contain a JSON object; give {_A_FILE}")
    return document


def _hint(name: str) -> str:
    """A suggestion for an unknown setting, or a list of all settings."""
    from difflib import get_close_matches

    if name == "run":
        return "the folder of the run is run_folder"
    near = OTHER_NAMES.get(name) or next(iter(get_close_matches(name, SETTINGS)), None)
    return f"did you mean {near}?" if near else f"known: {', '.join(sorted(SETTINGS))}"


def network_of_weights(weights: Any) -> dict[str, Any]:
    """The settings `model` and `width` implied by `train --weights`: those of the run or of the
    published weights; {} for other weights."""
    if weights == "imagenet":
        return {"model": PUBLISHED_NETWORK}
    if not isinstance(weights, str | os.PathLike):
        return {}
    folder, name = os.path.split(weights)
    # A network and its plain counterpart may have the same arrays.
    config = os.path.join(folder if name == filenames.MODEL else weights, filenames.CONFIG)
    if not os.path.isfile(config):
        return {}
    own = _read(config)
    if own.get("model") == specs.CUSTOM.name:
        raise InputError(
            f"{weights} contains a custom network; train it from Python: "
            f"kr.train(model=kr.open_run({os.fspath(weights)!r}).model(), data=…)"
        )
    return {name: own[name] for name in ("model", "width") if name in own}


def _unscaled(settings: dict[str, Any]) -> dict[str, Any]:
    """Disables scaling for an explicit learning rate, unless `base_batch` is given too."""
    return {"base_batch": 0, **settings} if "learning_rate" in settings else settings


def _recipe_fields() -> set[str]:
    return {name for recipe in RECIPES.values() for name in recipe} - {"about"}
