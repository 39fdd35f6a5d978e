"""keras-resnet data check, keras-resnet data show"""

import click

from keras_resnet.cli import tables
from keras_resnet.cli._options import command, report, reports, require_png, setting, start
from keras_resnet.data.names import require
from keras_resnet.errors import CheckFailed


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

    result = check_data(data, data_dir)
    report(result, as_json, tables.data_check)
    if result.bad or result.leaks:
        raise CheckFailed(
            f"{data}: {tables.count(len(result.bad), 'broken file')}, "
            f"{tables.count(result.leaks, 'image')} in two splits"
        )


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
    require_png(output, "--output")
    require(data)
    start(quiet)
    from keras_resnet.data.check import sample
    from keras_resnet.report import plots

    pixels, names = sample(data, images, size=size, seed=seed, data_dir=data_dir)
    plots.image_grid(pixels, names, output, title=f"{data}: {len(names)} images")
    report({"file": output, "images": len(names)}, as_json, lambda r: f"wrote {r['file']}")


data.add_command(check)
data.add_command(show)
