"""keras-resnet data check, keras-resnet data show"""

from collections.abc import Iterable, Mapping
from typing import Any

import click

from keras_resnet.cli._options import command, report, reports, setting, start
from keras_resnet.data.names import require
from keras_resnet.errors import CheckFailed

_MOST_LINES = 20


@click.group("data")
def data() -> None:
    """Check a data set, or show it as a contact sheet."""


@command("check", example="keras-resnet data check photos/")
@click.argument("data", default="digits")
@setting("data_dir")
@reports
def check(data: str, data_dir: str | None, as_json: bool, quiet: bool) -> None:
    """Count the files and classes of DATA; list broken files and images that are in two splits.

    The exit status is 1 if there are any.
    """
    require(data)
    start(quiet)
    from keras_resnet.data.check import check as check_data

    result = check_data(data, data_dir).as_json()
    report(result, as_json, _table)
    if result["bad"] or result["leaks"]:
        raise CheckFailed(
            f"{data}: {_count(len(result['bad']), 'broken file')}, "
            f"{_count(result['leaks'], 'image')} in two splits"
        )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _table(result: Mapping[str, Any]) -> str:
    lines = [f"{'class':24} {'images':>8}"]
    lines += [f"{name[:24]:24} {count:>8,}" for name, count in result["classes"].items()]
    if result["splits"].keys() != {"all"}:
        lines += [f"split {split:18} {count:>8,}" for split, count in result["splits"].items()]
    lines += [f"skipped: {reason:.40} {count:>8,}" for reason, count in result["skipped"].items()]
    lines += _some(f"{row['file']}: {row['reason']}" for row in result["bad"])
    lines += _some("equal files: " + ", ".join(group) for group in result["duplicates"])
    lines.append(f"{result['files']:,} files, {result['used']:,} used")
    return "\n".join(lines)


def _some(lines: Iterable[str]) -> list[str]:
    lines = list(lines)
    more = len(lines) - _MOST_LINES
    return lines[:_MOST_LINES] + ([f"… and {more:,} more (--json lists them)"] if more > 0 else [])


@command("show", example="keras-resnet data show photos/ --output sheet.png")
@click.argument("data", default="digits")
@click.option(
    "--images", default=64, show_default=True, help="Number of images, from each class in turn."
)
@click.option("--size", default=96, show_default=True, help="Side of each image in pixels.")
@click.option("--seed", default=0, show_default=True, help="Random seed of the choice of images.")
@click.option("--output", default="contact_sheet.png", show_default=True, metavar="FILE.png")
@setting("data_dir")
@reports
def show(
    data: str,
    images: int,
    size: int,
    seed: int,
    output: str,
    data_dir: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write a contact sheet: images of DATA with their classes."""
    for flag, value in (("--images", images), ("--size", size)):
        if value < 1:
            raise click.UsageError(f"{flag} is {value}; expected at least 1")
    require(data)
    start(quiet)
    from keras_resnet.data.check import sample
    from keras_resnet.report import plots

    pixels, names = sample(data, images, size=size, seed=seed, data_dir=data_dir)
    plots.image_grid(pixels, names, output, title=f"{data}: {len(names)} images")
    report({"file": output, "images": len(names)}, as_json, lambda r: f"wrote {r['file']}")


data.add_command(check)
data.add_command(show)
