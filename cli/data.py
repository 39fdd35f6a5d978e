"""keras-resnet data check, data show and data plan"""

from typing import Any

import click

from keras_resnet import geometry, recipes
from keras_resnet.cli import tables
from keras_resnet.cli._options import (
    command,
    epilog,
    report,
    reports,
    setting,
    settings,
    start,
)
from keras_resnet.config import SETTINGS
from keras_resnet.data.names import require
from keras_resnet.errors import CheckFailed
from keras_resnet.files import require_png


@click.group("data", epilog=epilog("keras-resnet data check photos/"))
def data() -> None:
    """Check or show a data set; plan how many images it needs."""


@command("check", example="keras-resnet data check photos/")
@click.argument("data", default="digits")
@setting("group_by")
@setting("data_dir")
@reports
def check(
    data: str, group_by: str | None, data_dir: str | None, as_json: bool, quiet: bool
) -> None:
    """Count the files and classes of DATA (by default the built-in digits); list problems.

    Problems are what `train` refuses or what makes its scores unreliable: broken files, a layout or
    classes that training cannot use, identical images in two splits or classes, and images that are
    almost black. The exit status is 1 if there are any.

    Near duplicates (images whose 8x8 difference hashes differ in at most 4 of 64 bits) are counted
    too: between splits, or in all of DATA if it has none.
    """
    recipes.resolve({"group_by": group_by})
    require(data)
    start(quiet)
    from keras_resnet.data.check import check as check_data

    result = check_data(data, data_dir, group_by=group_by)
    report(result, as_json, tables.data_check)
    if not result.passed:
        raise CheckFailed(f"{data}: " + tables.data_problems(result))


@command("show", example="keras-resnet data show photos/ --output sheet.png")
@click.argument("data", default="digits")
@click.option(
    "--images", default=64, show_default=True, help="Number of images, from each class in turn."
)
@click.option("--size", metavar="S|HxW", default="96", show_default=True,
              help="Side of each image in pixels, or HEIGHTxWIDTH.")  # fmt: skip
@settings("fit", "channels")
@click.option("--seed", default=0, show_default=True, help="Random seed of the choice of images.")
@click.option("--output", default="contact_sheet.png", show_default=True, metavar="FILE.png",
              help="Picture to write.")  # fmt: skip
@setting("data_dir")
@reports
def show(
    data: str,
    images: int,
    size: str,
    fit: str | None,
    channels: int | None,
    seed: int,
    output: str,
    data_dir: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write a contact sheet: images of DATA with their classes."""
    if images < 1:
        raise click.UsageError(f"--images is {images}; expected at least 1")
    sides = geometry.parse_size(size)
    if not (sides and geometry.is_size(sides)):
        raise click.UsageError(f"--size is {size}; expected at least 1 pixel, or HEIGHTxWIDTH")
    channels = 3 if channels is None else channels
    SETTINGS["channels"].require(channels)
    form = geometry.from_size(sides, fit or "crop", channels)
    if seed < 0:
        raise click.UsageError(f"--seed is {seed}; expected at least 0")
    require_png(output, "--output")
    require(data)
    start(quiet)
    from keras_resnet.data.check import sample
    from keras_resnet.report import plots

    pixels, names = sample(data, images, size=form, seed=seed, data_dir=data_dir)
    plots.image_grid(pixels, names, output, title=f"{data}: {len(names)} images")
    report({"file": output, "images": len(names)}, as_json, lambda r: f"wrote {r['file']}")


@command("plan", example="keras-resnet data plan photos/ --group-by parent")
@click.argument("data", default="digits")
@click.option("--seeds", type=click.IntRange(1, 100), default=3, metavar="N", show_default=True,
              help="Trainings per number of images.")  # fmt: skip
@setting("model", help="Network.  [resnet8; with --weights: from the data]")
@setting("weights")
@setting("epochs", help="Passes over all training images.  [900 updates, or 7]")
@setting("image_size", help="Side of square images in pixels, or HEIGHTxWIDTH.  [32; with "
         "--weights: from the data]")  # fmt: skip
@settings(
    "batch_size", "fit", "channels", "seed", "val_split", "group_by", "on_bad_image", "data_dir"
)
@click.option("--run", "run_folder", metavar="DIR", help="Run folder.  [runs/plan-DATA]")
@reports
def plan(
    data: str,
    seeds: int,
    group_by: str | None,
    run_folder: str | None,
    as_json: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Predict the error with two and four times as many training images of DATA.

    A small network is trained on an eighth, a quarter, half and all of the training images, with
    several seeds and the same number of updates, and scored on one validation split. A power law is
    fitted to these errors and extrapolated; as a check, the error with all images is also predicted
    from the smaller subsets.

    A table shows which classes gained from the second half of the images; with --group-by, also the
    accuracy on groups (people, places, days) that are not in the training set.

    If it is interrupted or killed, the same command resumes it.
    """
    recipes.resolve({"data": data, "group_by": group_by, **given})
    require(data)
    start(quiet)
    from keras_resnet.studies.data_plan import plan_data

    result = plan_data(data, seeds=seeds, group_by=group_by, run_folder=run_folder, **given)
    report(result, as_json, tables.data_plan)


data.add_command(check)
data.add_command(show)
data.add_command(plan)
