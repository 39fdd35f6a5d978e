"""The numbers of a training run: `Config`, and the named recipes that fill it. Pure data.

A number is written once, here; the command's options show it as their default.
Order of precedence: `Config`'s defaults < recipe < config file < options.
"""

import json
import math
import os
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from operator import itemgetter

from keras_resnet import specs
from keras_resnet.errors import InputError

PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")
OPTIMIZERS = ("sgd", "adamw", "lamb")
LOSSES = ("cross-entropy", "bce")
BALANCES = ("none", "sample", "loss")
BEST_BY = ("top1", "macro_top1")
CHECKS = ("full", "headers")


@dataclass(frozen=True)
class Config:
    """Everything that is needed to do a run again; saved as `config.json` in the run folder."""

    # What is learned, and from what
    data: str = "digits"  # a folder, tfds:NAME[/CONFIG], or digits
    data_dir: str | None = None  # where tensorflow-datasets keeps its files
    val_split: float = 0.2  # share of the training images held out where there is no val split
    on_bad_image: str = "error"  # "error" or "skip"
    # Of a folder, before training: decode each image once, or read only the headers.
    check: str = "full"
    model: str = "resnet20"
    weights: str | None = None  # to start from: imagenet, a run folder or a file
    freeze: str | None = None  # train only what comes after this stage ("body": only the head)
    # Batch norms keep what they learnt and their statistics: small batches estimate them badly.
    freeze_bn: bool = False
    image_size: int = 0  # pixels on a side; 0 is the size of the model's paper
    # imagenet, cifar10, caffe, tf or MEAN/STD of RGB in [0, 255]; None is that of the weights
    normalize: str | tuple | None = None
    zero_gamma: bool = True  # residual branches start at 0; arXiv:1706.02677 section 5.1
    drop_path: float = 0.0  # stochastic depth: of the last block; arXiv:1603.09382 section 3
    seed: int = 0

    # How long, how fast
    recipe: str = "quick"
    epochs: int = 20
    batch_size: int = 32
    optimizer: str = "sgd"  # sgd, adamw or lamb
    learning_rate: float = 0.1
    # The batch that `learning_rate` is for; another batch gets another rate, see `peak_rate`.
    # 0: the rate is for any batch.
    base_batch: int = 0
    # The rate of all but the last layer, as a share: learnt weights need less than a new head.
    body_rate: float = 1.0
    accumulate: int = 1  # batches whose mean gradient makes one update
    clip_norm: float = 0.0  # longest gradient, over all weights together; 0: any
    warmup_epochs: float = 2.0  # linear; arXiv:1706.02677 section 2.2
    momentum: float = 0.9
    nesterov: bool = True
    # Points of the run, as shares of it, where the rate falls to a tenth; without any, a cosine.
    rate_drops: tuple[float, ...] = ()
    # Keras' decoupled form, w -= rate * decay * w, without the momentum's factor of
    # 1 / (1 - 0.9): 1e-3 here shrinks weights as the papers' 1e-4 does. Not on BN and biases.
    weight_decay: float = 1e-3
    loss: str = "cross-entropy"  # or bce: each class against the others, arXiv:2110.00476
    # bce alone: a target above this becomes 1 and any other 0; 0: targets stay as they are
    bce_threshold: float = 0.0
    label_smoothing: float = 0.1  # arXiv:1512.00567 section 7
    balance: str = "none"  # of skewed classes: "sample" shows all as often, "loss" weighs them
    # Momentum of a running average of the weights; the better of weights and average is saved.
    # It rises with the updates, to this. 0: none.
    ema: float = 0.0  # arXiv:1512.00567 section 8
    best_by: str = "top1"  # or macro_top1, the mean of the classes': which epoch is the best
    checkpoint_every: int = 0  # steps; 0: five minutes. At the end of an epoch in any case
    patience: int = 0  # epochs at the full size without a new best until the run ends; 0: any
    max_minutes: float = 0.0  # of training; 0: any
    precision: str = "auto"
    # The same command gives the same weights, bit for bit; None is yes on a CPU, no on a GPU,
    # where it costs speed. Settled when the run begins.
    deterministic: bool | None = None
    xla: bool | None = None  # compile the step with XLA; None is on a GPU, if not deterministic
    devices: int = 0  # GPUs that share a batch, or without GPUs parts of the CPU; 0: all GPUs
    # Batch norms take the statistics of the whole batch, not of each device's part of it.
    sync_bn: bool = False
    train_size: float = 1.0  # of the training images, as a share of those that are judged
    # Image sizes over the run, as (share of the epochs, share of the image size); the last part
    # always has the full size; see `size_plan`. arXiv:2104.00298 section 4 (progressive learning).
    size_steps: tuple[tuple[float, float], ...] = ((1.0, 1.0),)

    # What the network is shown
    # Black pixels put around the image, of which a random window of its own size is shown
    # (arXiv:1512.03385, section 4.2); 0: a random crop of the next two settings instead.
    pad: int = 0
    crop_area: tuple[float, float] = (0.35, 1.0)  # of a random crop, as a share of the image
    crop_aspect: tuple[float, float] = (0.75, 4 / 3)  # arXiv:1409.4842 section 6
    flip: bool | None = None  # left-right; None leaves it to the data set (not for digits)
    brightness: float = 0.0  # largest change, as a share of 255
    randaugment: tuple[int, float] = (0, 0.0)  # operations, magnitude 0…10; arXiv:1909.13719
    randaugment_prob: float = 1.0  # of each of the operations: timm's p
    randaugment_std: float = 0.0  # of the magnitude, drawn anew for each operation: timm's mstd
    trivialaugment: bool = False  # one operation, of any strength; arXiv:2103.10158
    erasing: float = 0.0  # share of the images of which a box is noise; arXiv:1708.04896
    mixup: float = 0.0  # alpha of Beta(alpha, alpha), the share of either image; arXiv:1710.09412
    cutmix: float = 0.0  # the same for a box of one image on the other; arXiv:1905.04899
    repeats: int = 1  # times that a batch shows each of its images; arXiv:1902.05509
    center_crop: float = 1.0  # evaluation: the middle square, as a share of the shorter side

    @property
    def side(self):
        """The side of the images in pixels: `image_size`, or the model's own."""
        return self.image_size or specs.SPECS[self.model].image_size

    @property
    def peak_rate(self):
        """The highest learning rate: `learning_rate`, scaled from `base_batch` to the images of
        an update.

        In proportion for SGD (arXiv:1706.02677, section 2.1), by the square root for AdamW and
        LAMB (arXiv:1904.00962, section 4).
        """
        if not self.base_batch:
            return self.learning_rate
        ratio = self.batch_size * self.accumulate / self.base_batch
        return self.learning_rate * (ratio if self.optimizer == "sgd" else math.sqrt(ratio))


# ResNet strikes back, arXiv:2110.00476, table 2; what A1, A2 and A3 have in common. RandAugment is
# timm's rand-m7-mstd0.5-inc1 (A3: m6): two operations, each with p = 0.5 and a magnitude from a
# normal distribution, cut to [0, 10]; a larger magnitude is a stronger operation ("inc"). What
# differs: ours are the fourteen operations of arXiv:1909.13719, timm has Invert and SolarizeAdd
# instead of the identity; its posterize keeps 4 to 0 bits, ours 8 to 4 (arXiv:1805.09501); it fills
# with ImageNet's mean, not grey, and interpolates bicubically every other time.
_RSB = {
    "batch_size": 2048,
    "base_batch": 2048,
    "optimizer": "lamb",
    "clip_norm": 1.0,  # that of timm's LAMB
    "warmup_epochs": 5.0,
    "loss": "bce",
    "bce_threshold": 0.2,  # timm's; in the paper any class that was mixed in counts whole
    "randaugment_prob": 0.5,
    "randaugment_std": 0.5,
    "label_smoothing": 0.0,
    "cutmix": 1.0,
    "crop_area": (0.08, 1.0),
    "center_crop": 0.95,
}

RECIPES = {
    "quick": {  # tried on scikit-learn's digits and on 1,650 photos of hands
        "about": "small data from scratch: a few minutes on two cores",
        # Small images first: most of the learning for a fraction of the arithmetic.
        "size_steps": ((0.55, 0.5), (0.3, 0.75), (0.15, 1.0)),
        "crop_area": (0.7, 1.0),  # few epochs: the harder the crops, the longer it takes
        "brightness": 0.2,
        # Branches that start at 0 take epochs to be heard in the nets for small images, whose
        # shortcuts are padded with zeros: 6 epochs of hands gave 97 % without and 46 % with it.
        "zero_gamma": False,
    },
    "finetune": {
        "about": "from --weights: a tenth of the rate, no label smoothing, mild crops",
        # The middle of the rates that arXiv:1805.08974, section 3.3, searched for finetuning.
        "learning_rate": 0.01,
        "warmup_epochs": 1.0,
        "weight_decay": 1e-4,
        "label_smoothing": 0.0,
        "epochs": 10,
        "crop_area": (0.5, 1.0),
        "brightness": 0.1,
    },
    "paper-cifar": {
        "about": "CIFAR nets as published: arXiv:1512.03385, section 4.2",
        "epochs": 182,  # 64,000 steps of the 45,000 images that `val_split` leaves of 50,000
        "val_split": 0.1,
        "batch_size": 128,
        "base_batch": 128,
        "learning_rate": 0.1,
        "rate_drops": (0.5, 0.75),  # at 32,000 and 48,000 steps
        # The paper does so for 110 layers alone, at a constant 0.01; the others do not need it.
        "warmup_epochs": 1.0,
        "nesterov": False,
        "weight_decay": 1e-3,  # the paper's 1e-4, see above
        "label_smoothing": 0.0,
        "zero_gamma": False,
        "pad": 4,
    },
    "paper-imagenet": {
        "about": "ImageNet nets as published and usually reproduced: arXiv:1512.03385, section "
        "3.4; arXiv:1706.02677, section 5.1",
        "epochs": 90,
        "batch_size": 256,
        "base_batch": 256,
        "learning_rate": 0.1,
        "rate_drops": (30 / 90, 60 / 90, 80 / 90),  # the paper: where the error stops falling
        "warmup_epochs": 5.0,
        "weight_decay": 1e-3,  # the paper's 1e-4, see above
        "label_smoothing": 0.0,
        "crop_area": (0.08, 1.0),  # arXiv:1409.4842, section 6
        "center_crop": 0.875,  # 224 of 256 pixels
    },
    "rsb-a1": {
        "about": "ResNet strikes back, the longest: arXiv:2110.00476, table 2 (80.4 % ResNet-50)",
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
        "about": "ResNet strikes back, the middle: arXiv:2110.00476, table 2 (79.8 % ResNet-50)",
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
        "about": "ResNet strikes back, the cheapest: arXiv:2110.00476, table 2 (78.1 % ResNet-50)",
        **_RSB,
        "epochs": 100,
        "learning_rate": 8e-3,
        "weight_decay": 0.02,
        "mixup": 0.1,
        "randaugment": (2, 6.0),
        "train_size": 160 / 224,
    },
    "torchvision-v2": {
        "about": "the weights torchvision calls V2 (80.9 % ResNet-50): "
        "pytorch.org/blog/how-to-train-state-of-the-art-models-using-torchvision-latest-primitives",
        "epochs": 600,
        "batch_size": 1024,
        "base_batch": 1024,
        "learning_rate": 0.5,
        "warmup_epochs": 5.0,
        "nesterov": False,
        "weight_decay": 2e-4,  # theirs is 2e-5, see above
        "label_smoothing": 0.1,
        "zero_gamma": False,
        "mixup": 0.2,
        "cutmix": 1.0,
        # Theirs averages the weights too, by 0.99997 a step (`ema`): over fewer steps than the
        # 750,000 on ImageNet, that would mostly keep the first weights.
        "trivialaugment": True,
        "erasing": 0.1,
        "repeats": 4,
        "train_size": 176 / 224,
        "crop_area": (0.08, 1.0),
        "center_crop": 224 / 232,
    },
}


def resolve(options=None, config_file=None):
    """The effective `Config` of a run.

    Args:
        options: mapping of field name to value; a value of None means "not given".
        config_file: path of a `config.json` to start from.

    Raises:
        InputError: an unknown name or a value that cannot work, with the next step.
    """
    given = {
        k: os.fspath(v) if isinstance(v, os.PathLike) else v
        for k, v in (options or {}).items()
        if v is not None
    }
    from_file = _read(config_file) if config_file else {}
    known = {field.name for field in fields(Config)}
    for name in (*given, *from_file):
        if name not in known:
            raise InputError(f"unknown setting '{name}'; known: {', '.join(sorted(known))}")
    merged = {**from_file, **given}
    recipe = merged.get("recipe", Config.recipe)
    if not isinstance(recipe, str) or recipe not in RECIPES:
        raise InputError(f"unknown recipe '{recipe}'; use one of {', '.join(RECIPES)}")
    numbers = {k: v for k, v in RECIPES[recipe].items() if k != "about"}
    # A saved config lists every field, so it already holds its recipe's numbers. A recipe named
    # on top of it replaces them.
    if "recipe" in given and "recipe" in from_file and given["recipe"] != from_file["recipe"]:
        from_file = {k: v for k, v in from_file.items() if k not in _recipe_fields()}
    config = Config(**{**numbers, **_as_it_is(from_file), **_as_it_is(given)})
    config = _with_tuples(config)
    _check(config)
    return config


# Cells that the last feature map has at least on a side, at any of the smaller sizes: digits at 16
# pixels began with 2, and ended below the same run at 16 pixels throughout.
_LEAST_CELLS = 4
_FULL_EPOCHS = 3  # that a run of that length or longer ends with, at the full size


def size_plan(config: Config, multiple: int) -> list[tuple[int, int]]:
    """The image sizes of a run as (pixels, epochs): `size_steps` in pixels.

    Each size is rounded to a `multiple` of pixels, the network's total stride, and leaves the last
    feature map four cells on a side; a step that would be smaller, or shorter than half an epoch,
    joins the next. The full size has at least the last three epochs.

    >>> size_plan(Config(epochs=8, image_size=64, size_steps=((0.5, 0.5), (0.5, 1.0))), 4)
    [(32, 4), (64, 4)]
    """
    plan, done, passed = [], 0, 0.0
    least = min(_LEAST_CELLS * multiple, config.side)
    most = max(config.epochs - _FULL_EPOCHS, 0)  # epochs at smaller sizes
    for share, scale in config.size_steps:
        passed += share
        end = min(round(passed * config.epochs), most)
        size = max(round(config.side * scale / multiple) * multiple, least)
        plan.append((size, max(end - done, 0)))
        done = max(end, done)
    plan.append((config.side, config.epochs - done))
    used = [step for step in plan if step[1]]
    joined = groupby(used, key=itemgetter(0))
    return [(size, sum(epochs for _, epochs in steps)) for size, steps in joined]


def effective(config):
    """Lines that say what a run is made with, beyond the defaults: by its recipe, and otherwise."""
    recipe = {k: v for k, v in RECIPES[config.recipe].items() if k not in ("about", *_TOLD)}
    kept = [name for name in recipe if getattr(config, name) == _tuples(recipe[name])]
    usual = {**asdict(Config()), **recipe}
    others = [k for k in usual if k not in (*kept, *_TOLD) and getattr(config, k) != usual[k]]
    lines = [f"recipe {config.recipe}: {_list(config, kept)}"] if kept else []
    lines += [f"other settings: {_list(config, others)}"] if others else []
    if config.peak_rate != config.learning_rate:
        images = f"{config.batch_size * config.accumulate:,}"
        how = "in proportion" if config.optimizer == "sgd" else "by the square root"
        lines.append(
            f"learning rate {config.peak_rate:.3g}: {config.learning_rate:g} for a batch of "
            f"{config.base_batch:,} images, scaled {how} to {images}"
        )
    plan = size_plan(config, specs.SPECS[config.model].total_stride)
    if len(plan) < len(config.size_steps):
        sizes = ", then ".join(f"{n} epoch{'s' * (n > 1)} at {size}" for size, n in plan)
        lines.append(
            f"image sizes in pixels: {sizes}; other size_steps are too small for {config.model}, "
            "too short, or the size of another"
        )
    return lines


# What the first lines of a run tell in any case.
_TOLD = (
    "data", "data_dir", "model", "recipe", "epochs", "batch_size", "image_size", "precision",
    "normalize", "weights", "deterministic", "xla",
)  # fmt: skip


def _list(config, names):
    return ", ".join(f"{name} {show(getattr(config, name))}" for name in names)


def show(value):
    """A setting as it would be typed: `(0.7, 1.0)` is `0.7 1`."""
    if isinstance(value, tuple):
        nested = any(isinstance(part, tuple) for part in value)
        return (" / " if nested else " ").join(map(show, value))
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def save(config, path):
    """Writes `config` as JSON; `resolve(config_file=path)` reads it back."""
    with open(path, "w", encoding="utf-8") as file:
        json.dump(asdict(config), file, indent=2)
        file.write("\n")


def _read(path):
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except OSError as error:
        raise InputError(f"cannot read --config {path}: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"--config {path} is not JSON ({error})") from None
    if not isinstance(content, dict):
        raise InputError(f"--config {path} must hold a JSON object of settings")
    return content


def _as_it_is(settings):
    """A rate that somebody names is the rate for the batch they have, not for the recipe's."""
    return {"base_batch": 0, **settings} if "learning_rate" in settings else settings


def _recipe_fields():
    return {name for recipe in RECIPES.values() for name in recipe} - {"about"}


def _with_tuples(config):
    """JSON knows lists only; a frozen, hashable Config holds tuples."""

    return Config(**{k: _tuples(v) for k, v in asdict(config).items()})


def _tuples(value):
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def _check(config):
    """InputError for the first value that cannot work, with its option and what was expected."""

    def require(good, name, expected):
        if not good:
            option = "--" + name.replace("_", "-")
            raise InputError(f"{option} is {getattr(config, name)!r}; expected {expected}")

    def is_number(value):
        return isinstance(value, (int, float)) and not isinstance(value, bool)

    def number(name, good, expected, kind=(int, float)):
        value = getattr(config, name)
        require(is_number(value) and isinstance(value, kind) and good(value), name, expected)

    def pair(name, good, expected):
        value = getattr(config, name)
        right = isinstance(value, tuple) and len(value) == 2 and all(map(is_number, value))
        require(right and good(*value), name, expected)

    def one_of(name, choices):
        require(getattr(config, name) in choices, name, f"one of {', '.join(choices)}")

    for name in ("data", "model", "recipe"):
        require(isinstance(getattr(config, name), str), name, "text")
    for name in ("data_dir", "weights", "freeze"):
        require(isinstance(getattr(config, name), str | None), name, "text")
    require(isinstance(config.zero_gamma, bool), "zero_gamma", "true or false")
    require(isinstance(config.freeze_bn, bool), "freeze_bn", "true or false")
    require(isinstance(config.sync_bn, bool), "sync_bn", "true or false")
    for name in ("flip", "deterministic", "xla"):
        require(isinstance(getattr(config, name), bool | None), name, "true, false or null")
    try:
        specs.find(config.model)
    except KeyError as error:
        raise InputError(f"{error.args[0]} `keras-resnet models` lists them") from None
    spec = specs.SPECS[config.model]
    stages = ["body", *spec.stages]
    require(config.freeze in (None, *stages), "freeze", f"one of {', '.join(stages)}")
    number("epochs", lambda n: n >= 1, "at least 1", int)
    number("batch_size", lambda n: n >= 1, "at least 1", int)
    number("image_size", lambda n: n >= 0, "a number of pixels", int)
    if config.side < spec.total_stride:
        raise InputError(specs.too_small(spec, config.side))
    if config.normalize is not None:
        specs.statistics(config.normalize)
    number("drop_path", lambda x: 0 <= x < 1, "a share in [0, 1)")
    require(
        not config.drop_path or spec.shortcut != "none",
        "drop_path",
        f"0: {config.model} has no shortcuts to fall back on",
    )
    number("seed", lambda n: 0 <= n < 2**31, "a whole number from 0 to 2147483647", int)
    number("learning_rate", lambda x: 0 < x < math.inf, "a number above 0")
    number("val_split", lambda x: 0 < x < 1, "a share between 0 and 1, such as 0.2")
    number("momentum", lambda x: 0 <= x < 1, "a number in [0, 1)")
    require(isinstance(config.nesterov, bool), "nesterov", "true or false")
    require(
        isinstance(config.rate_drops, tuple)
        and all(is_number(share) and 0 < share < 1 for share in config.rate_drops),
        "rate_drops",
        "shares of the run between 0 and 1, such as 0.5 0.75",
    )
    number("pad", lambda n: 0 <= n < config.side, "pixels, fewer than the image has", int)
    number("weight_decay", lambda x: 0 <= x < 1, "a number in [0, 1)")
    number("label_smoothing", lambda x: 0 <= x < 1, "a number in [0, 1)")
    number("brightness", lambda x: 0 <= x < 1, "a share in [0, 1)")
    number("center_crop", lambda x: 0 < x <= 1, "a share in (0, 1]")
    number("warmup_epochs", lambda x: 0 <= x < math.inf, "0 or more epochs")
    pair("crop_area", lambda a, b: 0 < a <= b <= 1, "two shares of the image, the least first")
    pair("crop_aspect", lambda a, b: 0 < a <= b, "two ratios of width to height, the least first")
    require(
        isinstance(config.size_steps, tuple)
        and config.size_steps
        and all(
            isinstance(step, tuple)
            and len(step) == 2
            and all(map(is_number, step))
            and min(step) > 0
            for step in config.size_steps
        ),
        "size_steps",
        "pairs of a share of the epochs and a share of the image size, such as 0.6 0.5 / 0.4 1",
    )
    one_of("best_by", BEST_BY)
    one_of("precision", PRECISIONS)
    number("devices", lambda n: n >= 0, "a number of devices, or 0 for all GPUs", int)
    one_of("on_bad_image", ("error", "skip"))
    one_of("check", CHECKS)
    one_of("optimizer", OPTIMIZERS)
    number("base_batch", lambda n: n >= 0, "a number of images, or 0", int)
    number("body_rate", lambda x: 0 < x <= 1, "a share in (0, 1], or --freeze body")
    number("accumulate", lambda n: n >= 1, "at least 1", int)
    number("clip_norm", lambda x: 0 <= x < math.inf, "0 or a length above 0")
    one_of("loss", LOSSES)
    number("bce_threshold", lambda x: 0 <= x < 1, "a share in [0, 1)")
    require(
        not config.bce_threshold or config.loss == "bce", "bce_threshold", "0 without --loss bce"
    )
    one_of("balance", BALANCES)
    number("train_size", lambda x: 0 < x <= 2, "a share of the image size, such as 0.75")
    pair(
        "randaugment",
        lambda ops, magnitude: isinstance(ops, int) and 0 <= ops <= 8 and 0 <= magnitude <= 10,
        "0 to 8 operations and a magnitude from 0 to 10, such as 2 9",
    )
    number("randaugment_prob", lambda p: 0 < p <= 1, "a probability in (0, 1]")
    number("randaugment_std", lambda x: 0 <= x < math.inf, "0 or more, such as 0.5")
    require(isinstance(config.trivialaugment, bool), "trivialaugment", "true or false")
    require(
        not (config.randaugment[0] and config.trivialaugment),
        "randaugment",
        "0 0 with --trivialaugment, which takes its place",
    )
    number("erasing", lambda x: 0 <= x <= 1, "a share in [0, 1]")
    number("mixup", lambda x: 0 <= x < math.inf, "0 or an alpha above 0, such as 0.2")
    number("cutmix", lambda x: 0 <= x < math.inf, "0 or an alpha above 0, such as 1")
    number("repeats", lambda n: 1 <= n <= config.batch_size, "from 1 to the batch size", int)
    number("ema", lambda x: 0 <= x < 1, "a momentum in [0, 1)")
    number("checkpoint_every", lambda n: n >= 0, "a number of steps, or 0", int)
    number("patience", lambda n: n >= 0, "a number of epochs, or 0", int)
    number("max_minutes", lambda x: 0 <= x < math.inf, "0 or more minutes")
