"""The settings of `train` as keyword arguments, for editors and type checkers.

`tests/test_types.py` checks it against `Config`, which documents each setting and its default.
"""

from typing import Any, Literal, TypedDict

from keras_resnet.files import StrPath

Recipe = Literal[
    "quick", "finetune", "paper-cifar", "paper-imagenet", "rsb-a1", "rsb-a2", "rsb-a3",
    "torchvision-v2",
]  # fmt: skip


class Settings(TypedDict, total=False):
    """Settings as in `Config`; None, like a missing key, means the value of the recipe."""

    data_dir: StrPath | None
    val_split: float | None
    test_split: float | None
    group_by: str | None
    split_file: StrPath | None
    on_bad_image: Literal["error", "skip"] | None
    check: Literal["full", "headers"] | None
    model: str | Any | None  # Any: a keras.Model; this module does not import Keras
    width: float | None
    weights: StrPath | None
    freeze: str | None
    freeze_bn: bool | None
    image_size: int | str | None  # 64, or "64x128": height and width
    fit: Literal["crop", "pad", "stretch"] | None
    channels: int | None
    normalize: str | tuple | None
    zero_gamma: bool | None
    drop_path: float | None
    seed: int | None
    recipe: Recipe | None
    epochs: int | None
    batch_size: int | None
    optimizer: Literal["sgd", "adamw", "lamb"] | None
    learning_rate: float | None
    base_batch: int | None
    body_rate: float | None
    accumulate: int | None
    clip_norm: float | None
    warmup_epochs: float | None
    momentum: float | None
    nesterov: bool | None
    rate_drops: tuple[float, ...] | None
    weight_decay: float | None
    loss: Literal["cross-entropy", "bce"] | None
    bce_threshold: float | None
    label_smoothing: float | None
    teacher: StrPath | None
    distill_weight: float | None
    distill_temperature: float | None
    balance: Literal["none", "sample", "loss"] | None
    ema: float | None
    best_by: Literal["top1", "macro_top1", "last"] | None
    checkpoint_every: int | None
    patience: int | None
    max_minutes: float | None
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] | None
    deterministic: bool | None
    xla: bool | None
    devices: int | None
    sync_bn: bool | None
    train_size: float | None
    size_steps: tuple[tuple[float, float], ...] | None
    pad: int | None
    crop_area: tuple[float, float] | None
    crop_aspect: tuple[float, float] | None
    flip: bool | None
    brightness: float | None
    randaugment: tuple[int, float] | None
    randaugment_prob: float | None
    randaugment_std: float | None
    trivialaugment: bool | None
    erasing: float | None
    mixup: float | None
    cutmix: float | None
    repeats: int | None
    center_crop: float | None
