"""The settings of a training run, one row each: `Config`. Pure data and its validation.

A row defines a setting: type, default, range, help and source. The command's options, the checks,
the error messages and the reference (`recipes.reference`) are generated from the rows, so a new
setting needs only a new row.
"""

import math
import re
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, fields
from itertools import groupby
from numbers import Integral, Real
from operator import itemgetter
from types import UnionType
from typing import Any, NoReturn, get_args, get_origin

from keras_resnet import geometry, specs
from keras_resnet.errors import InputError, first_line
from keras_resnet.geometry import FITS, LARGEST_SIDE, Geometry

PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")
OPTIMIZERS = ("sgd", "adamw", "lamb")


@dataclass(frozen=True)
class Setting:
    """A row: one setting of a run."""

    name: str
    type: Any  # as annotated in `Config`
    default: Any
    help: str
    source: str = ""  # paper and section
    # Range of a number, or of each number of a tuple.
    least: float | None = None
    above: float | None = None
    below: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    check: Callable[[Any], bool] | None = None  # a condition beyond type and range
    read: Callable[[Any], Any] | None = None  # parser: value on the command line to `Config` value
    expected: str = ""  # description of valid values for the error message
    unset: str = ""  # meaning of the default None or ()
    metavar: str | None = None
    flag_value: str | None = None  # value of an option that is given without one
    from_data: bool = False  # `training.defaults` sets its default

    @property
    def flag(self) -> str:
        """The option on the command line, such as `--flip/--no-flip`."""
        if self.name == "data":
            return "DATA"
        option = self.name.replace("_", "-")
        return f"--{option}/--no-{option}" if _is_type(True, self.type) else f"--{option}"

    @property
    def range(self) -> str:
        """A description of the valid values."""
        if self.expected:
            return self.expected
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        bounds = {
            "at least": self.least, "above": self.above, "below": self.below, "at most": self.most,
        }  # fmt: skip
        words = [f"{word} {bound}" for word, bound in bounds.items() if bound is not None]
        return " and ".join(words) or _WORDS[self.type]

    def shown(self, value: Any) -> str:
        """A value as on the command line, or the meaning of an unset one."""
        return self.unset if value in (None, ()) else show(value)

    def default_of(self, config: "Config") -> str:
        """The default for help and reference; `config` is that of the default recipe."""
        return "from the data" if self.from_data else self.shown(getattr(config, self.name))

    def require(self, value: Any) -> None:
        """Checks a value.

        Raises:
            InputError: the value has another type or is out of range.
        """
        if not _is_type(value, self.type):
            self.refuse(value, self.expected or _WORDS.get(self.type, self.range))
        if not self._is_in_range(value):
            self.refuse(value, self.range)

    def refuse(self, value: Any, expected: str) -> NoReturn:
        """Raises the `InputError` for a value of this setting."""
        text = first_line(show(value, "") if isinstance(value, tuple) else repr(value))
        raise InputError(f"{self.flag} is {text}; expected {expected}")

    def _is_in_range(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        is_checked = not self.check or value is None or self.check(value)
        return is_checked and all(map(self._is_within, _numbers(value)))

    def _is_within(self, number: float) -> bool:
        return (
            abs(number) <= sys.float_info.max  # an integer may have any number of digits
            and (self.least is None or number >= self.least)
            and (self.above is None or number > self.above)
            and (self.below is None or number < self.below)
            and (self.most is None or number <= self.most)
        )

    def parse(self, value: Any) -> Any:
        """Converts a value for `Config`: a JSON list, or text such as "0.5 0.75" or
        "0.6 0.5 / 0.4 1", to a tuple. Other values are returned unchanged, for `require`."""
        if self.read:
            return self.read(value)
        if not isinstance(value, str) or get_origin(self.type) is not tuple:
            return _tuples(value)
        try:
            if get_origin(get_args(self.type)[0]) is tuple:
                return tuple(tuple(map(_number, part.split())) for part in value.split("/"))
            return tuple(map(_number, value.split()))
        except ValueError:
            return value


# Descriptions of types for error messages.
_WORDS = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    bool | None: "true, false or null",
    str: "text",
    str | None: "text",
}


def _number(text: str) -> int | float:
    value = float(text)
    return int(value) if value.is_integer() else value


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return bool(text)


def setting(default: Any, help: str, **row: Any) -> Any:
    """A dataclass field with the metadata of a row; keywords as in `Setting`."""
    return field(default=default, metadata={"help": help, **row})


@dataclass(frozen=True)
class Config:
    """Everything that is needed to repeat a run; saved as `config.json` in the run folder."""

    # Data, network, length
    # fmt: off
    data: str = setting(
        "digits", "Image folder, tfds:NAME[/CONFIG], or digits.",
        expected="a folder of images, tfds:NAME[/CONFIG] or digits"
    )
    model: str = setting(
        "resnet20", "Network; `keras-resnet models` lists them.", from_data=True
    )
    recipe: str = setting(
        "quick", "Named settings; `keras-resnet recipes` lists them. With --weights, the default "
        "is finetune."
    )
    width: float = setting(
        1.0, "Width: channels of all layers, relative to the network's own.", least=0.25, most=4,
        source="arXiv:1704.04861 section 3.3"
    )
    weights: str | None = setting(
        None, "Initial weights: imagenet, a run folder, or a .keras, .h5, .safetensors or .pth "
        "file.", unset="random", metavar="FILE|imagenet"
    )
    freeze: str | None = setting(
        None, "Freeze the layers up to this stage; without a value: all but the last layer.",
        unset="none", metavar="[STAGE]", flag_value="body"
    )
    # Small batches estimate the statistics badly.
    freeze_bn: bool = setting(
        False, "Freeze the weights and moving statistics of batch normalization."
    )
    epochs: int = setting(20, "Passes over the training images.", least=1, from_data=True)
    batch_size: int = setting(
        32, "Images per training step, over all devices.", least=1, from_data=True
    )
    image_size: int | str = setting(
        0, "Side of square images in pixels, or HEIGHTxWIDTH; 0 uses the network's own.",
        check=geometry.is_size, read=geometry.parse_size, metavar="S|HxW",
        expected=f"a number of pixels, at most {LARGEST_SIDE}, or HEIGHTxWIDTH, such as 64x128",
        from_data=True
    )
    fit: str = setting(
        "crop", "Pictures with a different aspect ratio: crop the middle, pad with black, or "
        "stretch.",
        choices=FITS
    )
    channels: int = setting(
        3, "Colour channels of the input: 3 is RGB, 1 is luma (grey).", check=(1, 3).__contains__,
        expected="3 (RGB) or 1 (grey)"
    )
    seed: int = setting(
        0, "Random seed of split, order, augmentation and initial weights.", least=0, below=2**31,
        expected="an integer from 0 to 2147483647"
    )

    # Optimization
    optimizer: str = setting("sgd", "Optimizer.", choices=OPTIMIZERS)
    learning_rate: float = setting(0.1, "Peak learning rate, reached after the warm-up.", above=0)
    base_batch: int = setting(
        0, "Batch size for which --learning-rate is given; the rate is scaled for other batch "
        "sizes; 0 disables scaling.", least=0,
        source="arXiv:1706.02677 section 2.1; arXiv:1904.00962 section 4"
    )
    # Pre-trained weights need a lower rate than a new head.
    body_rate: float = setting(
        1.0, "Learning rate of all layers but the last, relative to --learning-rate.", above=0,
        most=1, expected="a share in (0, 1], or --freeze body"
    )
    accumulate: int = setting(1, "Gradient accumulation: batches per update.", least=1)
    clip_norm: float = setting(
        0.0, "Clip the global gradient norm to this value; 0 disables clipping.", least=0
    )
    warmup_epochs: float = setting(
        2.0, "Epochs of linear warm-up.", least=0, source="arXiv:1706.02677 section 2.2"
    )
    momentum: float = setting(0.9, "Momentum of SGD.", least=0, below=1)
    nesterov: bool = setting(True, "Use Nesterov momentum in SGD.")
    rate_drops: tuple[float, ...] = setting(
        (), "Points of the run, as shares of its epochs, at which the learning rate is divided by "
        "10.", above=0, below=1, expected="shares of the run between 0 and 1, such as 0.5 0.75",
        unset="cosine decay", metavar="'SHARE …'"
    )
    # Keras' form, w -= rate * decay * w, without the momentum's factor of 1 / (1 - 0.9): 1e-3 is
    # equivalent to the papers' 1e-4.
    weight_decay: float = setting(
        1e-3, "Decoupled weight decay, not applied to batch normalization and biases.", least=0,
        below=1, source="arXiv:1711.05101"
    )
    loss: str = setting(
        "cross-entropy", "Loss; bce is binary cross-entropy per class.",
        choices=("cross-entropy", "bce"), source="arXiv:2110.00476 section 2"
    )
    bce_threshold: float = setting(
        0.0, "With bce: targets above this become 1, others 0; 0 leaves targets unchanged.",
        least=0, below=1, source="arXiv:2110.00476 section 2"
    )
    label_smoothing: float = setting(
        0.1, "Label smoothing: share of each target spread over all classes.", least=0, below=1,
        source="arXiv:1512.00567 section 7"
    )
    teacher: str | None = setting(
        None, "Knowledge distillation: finished run with the same classes, used as the teacher.",
        unset="none", metavar="RUN", source="arXiv:1503.02531"
    )
    distill_weight: float = setting(
        0.9, "With --teacher: weight of the teacher's outputs in the loss; the labels have the "
        "rest.", above=0, most=1, source="arXiv:1503.02531 section 2"
    )
    distill_temperature: float = setting(
        4.0, "With --teacher: the logits of both networks are divided by this before the softmax.",
        above=0, source="arXiv:1503.02531 section 2"
    )
    balance: str = setting(
        "none", "Imbalanced classes: sample all equally often (sample) or weight the loss (loss).",
        choices=("none", "sample", "loss")
    )
    # The momentum increases with the updates up to this value.
    ema: float = setting(
        0.0, "Momentum of an exponential moving average of the weights, saved if it scores "
        "better, and always with --best-by last; 0 disables it.", least=0, below=1,
        source="arXiv:1512.00567 section 8"
    )
    drop_path: float = setting(
        0.0, "Stochastic depth: drop rate of the last block.", least=0, below=1,
        source="arXiv:1603.09382 section 3"
    )
    zero_gamma: bool = setting(
        True, "Initialize the last batch normalization of each residual branch with 0.",
        source="arXiv:1706.02677 section 5.1"
    )

    # Image sizes and augmentation
    train_size: float = setting(
        1.0, "Side of the training images, relative to --image-size.", above=0, most=2,
        source="arXiv:1906.06423"
    )
    # The last part always has the full size; see `size_plan`.
    size_steps: tuple[tuple[float, float], ...] = setting(
        ((1.0, 1.0),), "Progressive resizing: shares of the epochs, and of --image-size.", above=0,
        check=bool, expected="pairs of a share of the epochs and a share of the image size, such "
        "as 0.6 0.5 / 0.4 1", metavar="'EPOCHS SIZE / …'", source="arXiv:2104.00298 section 4"
    )
    pad: int = setting(
        0, "Random crop of the image's own size after zero padding by this many pixels; 0 uses "
        "--crop-area.", least=0, source="arXiv:1512.03385 section 4.2"
    )
    crop_area: tuple[float, float] = setting(
        (0.35, 1.0), "Random crop: range of its area, as shares of the image's.", above=0, most=1,
        check=lambda pair: pair[0] <= pair[1],
        expected="two shares of the image, the smaller first", metavar="MIN MAX",
        source="arXiv:1409.4842 section 6"
    )
    crop_aspect: tuple[float, float] = setting(
        (0.75, 4 / 3), "Random crop: range of width / height.", above=0,
        check=lambda pair: pair[0] <= pair[1],
        expected="two ratios of width to height, the smaller first", metavar="MIN MAX",
        source="arXiv:1409.4842 section 6"
    )
    flip: bool | None = setting(
        None, "Flip images left-right with probability 0.5.", unset="yes; no for digits"
    )
    brightness: float = setting(
        0.0, "Random brightness: largest change, as a share of 255.", least=0, below=1
    )
    randaugment: tuple[int, float] = setting(
        (0, 0.0), "RandAugment: operations per image, and their magnitude up to 10.",
        check=lambda pair: 0 <= pair[0] <= 8 and 0 <= pair[1] <= 10, expected="0 to 8 operations "
        "and a magnitude from 0 to 10, such as 2 9", metavar="OPS MAGNITUDE",
        source="arXiv:1909.13719"
    )
    randaugment_prob: float = setting(
        1.0, "RandAugment: probability of each operation.", above=0, most=1, source="timm's p"
    )
    randaugment_std: float = setting(
        0.0, "RandAugment: standard deviation of the magnitude, drawn for each operation.", least=0,
        source="timm's mstd"
    )
    trivialaugment: bool = setting(
        False, "TrivialAugment: one random operation of random magnitude per image.",
        source="arXiv:2103.10158"
    )
    erasing: float = setting(
        0.0, "Random erasing: share of the images in which a box becomes noise.", least=0, most=1,
        source="arXiv:1708.04896"
    )
    mixup: float = setting(
        0.0, "Mixup: alpha of Beta(alpha, alpha); 0 disables it.", least=0,
        source="arXiv:1710.09412"
    )
    cutmix: float = setting(
        0.0, "CutMix: alpha of Beta(alpha, alpha); 0 disables it.", least=0,
        source="arXiv:1905.04899"
    )
    repeats: int = setting(
        1, "Repeated augmentation: copies of each image in a batch.", least=1,
        source="arXiv:1902.05509"
    )
    center_crop: float = setting(
        1.0, "Evaluation: side of the central square, as a share of the shorter side.", above=0,
        most=1
    )
    normalize: str | tuple | None = setting(
        None, "Pixel normalization: imagenet, cifar10, caffe, tf, or mean and standard deviation "
        "in [0, 255], such as 120,115,105/60,58,57.",
        expected="imagenet, cifar10, caffe, tf or MEAN/STD",
        unset="that of the weights or of the network", metavar="NAME|MEAN/STD"
    )

    # Validation, end of the run, checkpoints
    val_split: float = setting(
        0.2, "Validation split: share of the training images, for data without a val split.",
        above=0, below=1, expected="a share between 0 and 1, such as 0.2"
    )
    # Not used by any choice: epoch, temperature, calibration, gate.
    test_split: float = setting(
        0.0, "Test split: share of the images that is set aside before the val split, and scored "
        "once, at the end; 0: none.", least=0, below=1, expected="a share between 0 and 1, such as "
        "0.1, or 0"
    )
    group_by: str | None = setting(
        None, "Keep related images in one split: those in a folder of the same name below the "
        "class folders (parent), or with the same match (or first group) of a regular expression "
        "in the path.",
        check=_is_pattern, expected="parent, or a regular expression such as 'person_[0-9]+'",
        unset="identical images only", metavar="parent|REGEX"
    )
    split_file: str | None = setting(
        None, "Read the split of each image from this file, such as the split.json of a run; "
        "images that it does not list are not used.", unset="splits are created", metavar="FILE"
    )
    best_by: str = setting(
        "top1", "Score that chooses the best epoch; macro_top1: the mean over classes; last: none, "
        "the last epoch is taken.", choices=("top1", "macro_top1", "last")
    )
    patience: int = setting(
        0, "Early stopping: epochs at full size without a new best; 0 disables it.", least=0
    )
    max_minutes: float = setting(0.0, "Time limit of the training in minutes; 0: none.", least=0)
    checkpoint_every: int = setting(
        0, "Steps between checkpoints within an epoch; 0: every five minutes.", least=0
    )

    # Hardware
    precision: str = setting(
        "auto", "Number format; auto measures which one is fastest on this device.",
        choices=PRECISIONS
    )
    # Resolved when the run begins.
    deterministic: bool | None = setting(
        None, "Make runs bit-for-bit reproducible; slower on a GPU.",
        unset="yes on a CPU, no on a GPU"
    )
    xla: bool | None = setting(
        None, "Compile the training step with XLA.", unset="yes on a GPU unless deterministic"
    )
    devices: int = setting(
        0, "Number of GPUs that share each batch, or of virtual CPU devices; 0: all GPUs.", least=0,
        expected="a number of devices, or 0 for all GPUs"
    )
    sync_bn: bool = setting(False, "Synchronize batch normalization over all devices.")

    # Reading
    on_bad_image: str = setting(
        "error", "Unreadable images: stop with an error, or skip them.", choices=("error", "skip")
    )
    check: str = setting(
        "full", "Check of an image folder: decode each new image once, or read only the headers.",
        choices=("full", "headers")
    )
    data_dir: str | None = setting(
        None, "Data folder of tensorflow-datasets.", unset="~/tensorflow_datasets", metavar="DIR"
    )
    # fmt: on

    @property
    def side(self) -> int:
        """The shorter side of the images in pixels."""
        return self.geometry.side

    @property
    def network(self) -> str:
        """Name of the network for messages, with its width."""
        return specs.network_title(self.model, self.width)

    @property
    def geometry(self) -> Geometry:
        """Geometry of the images in evaluation: `image_size`, or the model's own."""
        size = self.image_size or specs.of(self.model).image_size
        return geometry.from_size(size, self.fit, self.channels)

    @property
    def peak_rate(self) -> float:
        """The highest learning rate: `learning_rate`, scaled from `base_batch` to the images per
        update.

        Scaling is linear for SGD (arXiv:1706.02677, section 2.1), and by the square root for AdamW
        and LAMB (arXiv:1904.00962, section 4).
        """
        if not self.base_batch:
            return self.learning_rate
        ratio = self.batch_size * self.accumulate / self.base_batch
        return self.learning_rate * (ratio if self.optimizer == "sgd" else math.sqrt(ratio))


SETTINGS = {
    row.name: Setting(name=row.name, type=row.type, default=row.default, **row.metadata)
    for row in fields(Config)
}


@dataclass(frozen=True)
class Relation:
    """A condition on a setting and others; the default of the setting always fulfils it."""

    name: str
    holds: Callable[[Config], bool]
    expected: str  # for the error message


def _one_augmentation(config: Config) -> bool:
    return not (config.randaugment[0] and config.trivialaugment)


RELATIONS = (
    Relation(
        "bce_threshold", lambda c: not c.bce_threshold or c.loss == "bce", "0 without --loss bce"
    ),
    Relation("randaugment", _one_augmentation, "0 0 with --trivialaugment, which replaces it"),
    Relation("trivialaugment", _one_augmentation, "no with --randaugment, which replaces it"),
    Relation(
        "drop_path",
        lambda c: not c.drop_path or specs.of(c.model).shortcut != "none",
        "0 for a network without shortcuts",
    ),
    Relation("pad", lambda c: c.pad < c.side, "fewer pixels than the image has"),
    Relation(
        "center_crop",
        lambda c: c.fit == "crop" or c.center_crop == 1,
        "1 with --fit pad and stretch, which show the whole picture",
    ),
    Relation("width", lambda c: c.width == 1 or c.model != specs.CUSTOM.name, "1 for this network"),
    Relation(
        "test_split",
        lambda c: not (c.split_file and c.test_split),
        "0 with --split-file, which has all splits",
    ),
    Relation(
        "patience",
        lambda c: not (c.patience and c.best_by == "last"),
        "0 with --best-by last, which knows no best epoch",
    ),
    Relation("repeats", lambda c: c.repeats <= c.batch_size, "at most the batch size"),
)


def require_values(config: Config) -> None:
    """Checks each setting by itself: type and range.

    Raises:
        InputError: the first invalid value, with its option and the valid values.
    """
    for row in SETTINGS.values():
        row.require(getattr(config, row.name))
    stages = ("body", *specs.of(config.model).stages)
    if config.freeze not in (None, *stages):
        SETTINGS["freeze"].refuse(config.freeze, f"one of {', '.join(stages)}")
    if config.normalize is not None:
        specs.statistics(config.normalize)


def require_relations(config: Config) -> None:
    """Checks the settings against each other; raises `InputError` as `require_values`."""
    spec = specs.of(config.model)
    if config.side < spec.total_stride:
        raise InputError(specs.too_small(spec, config.side))
    for relation in RELATIONS:
        if not relation.holds(config):
            row = SETTINGS[relation.name]
            row.refuse(getattr(config, row.name), relation.expected)


# Settings that have no effect unless the condition holds.
NEEDS = (
    Relation("distill_weight", lambda c: c.teacher is not None, "--teacher RUN with it"),
    Relation("distill_temperature", lambda c: c.teacher is not None, "--teacher RUN with it"),
    Relation("randaugment_prob", lambda c: c.randaugment[0] > 0, "--randaugment with it"),
    Relation("randaugment_std", lambda c: c.randaugment[0] > 0, "--randaugment with it"),
    Relation("momentum", lambda c: c.optimizer == "sgd", "--optimizer sgd with it"),
    Relation("nesterov", lambda c: c.optimizer == "sgd", "--optimizer sgd with it"),
    Relation("crop_area", lambda c: not c.pad, "--pad 0 with it"),
    Relation("crop_aspect", lambda c: not c.pad, "--pad 0 with it"),
    Relation("val_split", lambda c: c.split_file is None, "no --split-file with it"),
)


def require_effects(config: Config, given: Collection[str]) -> None:
    """Checks that explicitly given settings have an effect; raises `InputError` as
    `require_values`.

    Args:
        config: the settings.
        given: names of the explicitly given settings.
    """
    for need in NEEDS:
        row, value = SETTINGS[need.name], getattr(config, need.name)
        if need.name in given and value != row.default and not need.holds(config):
            row.refuse(value, f"{need.expected}; otherwise it has no effect")


# Minimum side of the last feature map at the smaller sizes: a run on digits at 16 pixels that began
# with 2 cells had a lower final accuracy than the same run at 16 pixels throughout.
LEAST_CELLS = 4
FULL_EPOCHS = 3  # minimum number of epochs at the full size


def size_plan(config: Config, multiple: int) -> list[tuple[int, int]]:
    """The image sizes of a run as (pixels of the shorter side, epochs): `size_steps` in pixels.

    A scale of 1 is the exact size. Another size is rounded to a `multiple` of pixels, the network's
    total stride, and increased if the side of the last feature map would have fewer than
    `LEAST_CELLS` cells. A step shorter than half an epoch is merged with the next. The last
    `FULL_EPOCHS` epochs or more have the full size.

    >>> size_plan(Config(epochs=8, image_size=64, size_steps=((0.5, 0.5), (0.5, 1.0))), 4)
    [(32, 4), (64, 4)]
    """
    plan, done, passed = [], 0, 0.0
    least = min(LEAST_CELLS * multiple, config.side)
    most = max(config.epochs - FULL_EPOCHS, 0)  # epochs at smaller sizes
    for share, scale in config.size_steps:
        passed += share
        end = min(round(passed * config.epochs), most)
        rounded = max(round(config.side * scale / multiple) * multiple, least)
        plan.append((config.side if scale == 1 else rounded, max(end - done, 0)))
        done = max(end, done)
    plan.append((config.side, config.epochs - done))
    used = [step for step in plan if step[1]]
    joined = groupby(used, key=itemgetter(0))
    return [(size, sum(epochs for _, epochs in steps)) for size, steps in joined]


def show(value: Any, floats: str = ".4g") -> str:
    """A setting as on the command line: `(0.7, 1.0)` is `0.7 1`."""
    if isinstance(value, tuple):
        nested = any(isinstance(part, tuple) for part in value)
        return (" / " if nested else " ").join(show(part, floats) for part in value)
    if isinstance(value, float):
        return f"{value:{floats}}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _is_type(value: Any, kind: Any) -> bool:
    """Whether a value has an annotated type; an int is accepted as a float, a bool as neither."""
    parts = get_args(kind)
    if get_origin(kind) is UnionType:
        return any(_is_type(value, part) for part in parts)
    if get_origin(kind) is tuple:
        if not isinstance(value, tuple):
            return False
        kinds = parts[:1] * len(value) if parts[1:] == (...,) else parts
        return len(value) == len(kinds) and all(map(_is_type, value, kinds))
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, tuple):
        for part in value:
            yield from _numbers(part)
    elif isinstance(value, int | float):
        yield value


def _tuples(value: Any) -> Any:
    """Converts lists (from JSON) to tuples, which are hashable, and NumPy numbers to Python's."""
    if isinstance(value, list | tuple):
        return tuple(map(_tuples, value))
    if isinstance(value, Real) and not isinstance(value, bool | int | float):
        return int(value) if isinstance(value, Integral) else float(value)
    return value
