"""keras-resnet explain gradients, lesion, paths, depth, cam"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import click

from keras_resnet import recipes, run, specs
from keras_resnet.cli import tables
from keras_resnet.cli._options import (
    Function,
    command,
    epilog,
    network_or_artefact,
    report,
    reports,
    setting,
    settings,
    stacked,
    start,
)
from keras_resnet.config import Config
from keras_resnet.data.names import require
from keras_resnet.errors import InputError
from keras_resnet.files import StrPath, require_png


@click.group("explain", epilog=epilog("keras-resnet explain gradients resnet20"))
def explain() -> None:
    """Measure what the skip connections of a network do."""


# Options shared by several of the commands.
_OPTIONS = {
    "images": click.option("--images", default=32, show_default=True,
                           help="Number of images, from each class in turn."),
    "seed": click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
                         metavar="N", help="Random seed."),
    "split": click.option("--split", type=click.Choice(["train", "val", "test"]),
                          default="val", show_default=True, help="Split of the images."),
    "image-size": click.option("--image-size", type=click.IntRange(0), default=0,
                               help="Image side in pixels, for MODEL.  [the network's own]"),
    "png": click.option("--png", metavar="FILE.png", help="Write a plot to this file."),
    "data-dir": setting("data_dir"),
}  # fmt: skip


def _options(*names: str) -> Callable[[Function], Function]:
    return stacked(*map(_OPTIONS.__getitem__, names))


class _Depths(click.ParamType):
    name = "depths"

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> set[int]:
        if not isinstance(value, str):
            return value
        try:
            depths = [int(number) for number in value.split(",")]
        except ValueError:
            raise InputError(f"--depths is {value!r}; expected numbers such as 20,56,110") from None
        return specs.with_plain_counterparts(depths)


@command("gradients", example="keras-resnet explain gradients resnet20 --no-zero-gamma")
@click.argument("subject", metavar="[MODEL|RUN]", required=False)
@click.argument("data", required=False)
@_options("images", "seed", "image-size")
@setting("zero_gamma", default=True, show_default=True,
         help="Initialize the last batch normalization of each branch of a new network with "
         "0.")  # fmt: skip
@click.option("--depths", type=_Depths(), metavar="20,56,110",
              help="Also compare the first layer's gradient in new networks of these depths, with "
              "and without skips.")  # fmt: skip
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, metavar="N",
              help="Number of networks per depth.")  # fmt: skip
@_options("png", "data-dir")
@reports
def gradients(
    subject: str | None,
    data: str | None,
    images: int,
    seed: int,
    image_size: int,
    zero_gamma: bool,
    depths: set[int] | None,
    seeds: int,
    png: str | None,
    data_dir: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Split the gradient at the input of each block into its parts through shortcut and branch.

    MODEL is a name that `keras-resnet models` lists, residual_mlp or plain_mlp; it is built with
    new weights for the classes of DATA (default: digits). A RUN or its .keras file is analysed on
    its own training images; another .keras file needs DATA. With --depths, --png plots the gradient
    against depth.
    """
    subject = _checked(subject, data)
    require_png(png)
    start(quiet)
    from keras_resnet.explain import gradients as analysis
    from keras_resnet.explain.subject import open_subject

    network = open_subject(
        subject, data, images=images, seed=seed, image_size=image_size, zero_gamma=zero_gamma,
        data_dir=data_dir,
    )  # fmt: skip
    if not (network.is_fresh or zero_gamma):
        raise InputError(
            f"--no-zero-gamma is for the name of a network; leave it out for {subject}"
        )
    result = analysis.gradients(network.model, network.images, network.labels)
    document, parameters, by_depth = result.as_json(), [], []
    if subject in specs.MLPS:
        parameters = analysis.parameters(network.model, network.images, network.labels)
        document["parameters"] = [row.as_json() for row in parameters]
    if depths:
        by_depth = analysis.by_depth(
            depths, data, images=images, seeds=seeds, image_size=image_size, data_dir=data_dir
        )
        document["depths"] = [row.as_json() for row in by_depth]
    if png:
        from keras_resnet.report import explain_plots

        if depths:
            explain_plots.first_layer(document["depths"], png)
        else:
            explain_plots.gradient_split(document, png)
    report(document, as_json, lambda _: tables.gradients(result, parameters, by_depth), png=png)


@command(
    "lesion", example="keras-resnet explain lesion runs/resnet20 runs/plain20 --png lesion.png"
)
@click.argument("runs", metavar="[RUN]...", nargs=-1)
@click.option("--images", default=1000, show_default=True, help="Number of images.")
@click.option("--sets", default=5, show_default=True, help="Number of random sets per size.")
@click.option(
    "--data", metavar="DATA", help="New folder of the images of the RUNs, if they were moved."
)
@_options("seed", "split", "png", "data-dir")
@reports
def lesion(
    runs: Sequence[StrPath],
    images: int,
    sets: int,
    data: str | None,
    seed: int,
    split: str,
    png: str | None,
    data_dir: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure the accuracy of trained networks without some of their blocks.

    Removes each block alone, the last blocks, and random sets. Add a run of the plain counterpart
    to see how much a network without skips loses. With several RUNs the JSON is a list.
    """
    require_png(png)
    if png and len(runs) > 3:
        raise InputError(f"--png shows at most three networks, not {len(runs)}; leave it out")
    if data:
        require(data)
    for path in runs:
        run.kind_of(path)
    start(quiet)
    from keras_resnet.explain.lesion import lesion as analyse

    runs = runs or [run.open_run().path]
    results = [
        analyse(path, data, images=images, sets=sets, seed=seed, split=split, data_dir=data_dir)
        for path in runs
    ]
    documents = [result.as_json() for result in results]
    if png:
        from keras_resnet.report import explain_plots

        documents[0]["png"] = explain_plots.lesions(documents, png)
    report(
        documents if len(documents) > 1 else documents[0],
        as_json,
        lambda _: "\n\n".join(map(tables.lesions, results)) + (f"\nwrote {png}" if png else ""),
    )


@command("paths", example="keras-resnet explain paths runs/resnet56 --png paths.png")
@click.argument("subject", metavar="[MODEL|RUN]", required=False)
@click.argument("data", required=False)
@_options("images", "seed", "image-size")
@click.option("--samples", default=10, show_default=True, help="Most paths per length.")
@_options("png", "data-dir")
@reports
def paths(
    subject: str | None,
    data: str | None,
    images: int,
    seed: int,
    image_size: int,
    samples: int,
    png: str | None,
    data_dir: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Count the paths through a residual network by length, and measure the gradient they carry.

    A path passes each block through its branch or its shortcut; its length is the number of
    branches.
    """
    subject = _checked(subject, data)
    require_png(png)
    start(quiet)
    from keras_resnet.explain.paths import paths as analyse
    from keras_resnet.explain.subject import open_subject

    network = open_subject(
        subject, data, images=images, seed=seed,
        image_size=image_size, zero_gamma=False, data_dir=data_dir,
    )  # fmt: skip
    result = analyse(
        network.model, network.images, network.labels, samples=samples, seed=seed,
        batch_statistics=network.is_fresh,
    )  # fmt: skip
    if png:
        from keras_resnet.report import explain_plots

        explain_plots.path_lengths(result.as_json(), png)
    report(result, as_json, tables.paths, png=png)


@command("depth", example="keras-resnet explain depth digits --depths 8,20,32 --epochs 5")
@click.argument("data", required=False)
@click.option("--depths", type=_Depths(), default="8,20,32", show_default=True,
              help="Numbers of weight layers.")  # fmt: skip
@settings("recipe", "epochs", "batch_size", "image_size", "learning_rate", "seed")
@click.option("--run", "folder", default="runs/depth", show_default=True, metavar="DIR",
              help="Folder of the runs; finished runs are not trained again.")  # fmt: skip
@_options("png", "data-dir")
@reports
def depth(
    data: str | None,
    depths: set[int],
    folder: str,
    png: str | None,
    as_json: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Train plain and residual networks of increasing depth, and compare their training errors.

    This is the degradation experiment of arXiv:1512.03385: deeper plain networks have a larger
    training error, so overfitting is not the reason.
    """
    require_png(png)
    recipes.resolve({**given, "data": data})
    require(data or Config.data)
    start(quiet)
    from keras_resnet.explain.depth import depth as analyse

    result = analyse(data, depths=depths, folder=folder, **given)
    if png:
        from keras_resnet.report import explain_plots

        explain_plots.degradation(result.as_json(), png)
    report(result, as_json, tables.depths, png=png)


@command("cam", example="keras-resnet explain cam runs/photos new/*.jpg --png cam.png")
@click.argument("subject", metavar="RUN")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.option("--label", help="Class to explain.  [the predicted class]")
@click.option("--png", default="cam.png", show_default=True, metavar="FILE.png",
              help="Picture to write, of the first 60 images.")  # fmt: skip
@reports
def cam(
    subject: str, images: tuple[str, ...], label: str | None, png: str, as_json: bool, quiet: bool
) -> None:
    """Show which regions of each IMAGE support a class (Grad-CAM)."""
    if not os.path.exists(subject):  # names of networks are errors too: they would be untrained
        raise InputError(f"no run {subject}; give a run folder or a .keras file")
    run.kind_of(subject)
    require_png(png)
    start(quiet)
    from keras_resnet.explain.cam import cam as analyse
    from keras_resnet.report import explain_plots

    found = analyse(subject, images, label=label)
    explain_plots.grad_cam([vars(row) for row in found], png)
    document = {"png": png, "images": [row.as_json() for row in found]}
    report(document, as_json, lambda _: tables.cams(found), png=png)


def _checked(subject: str | None, data: str | None = None) -> str:
    """Checks subject and data before TensorFlow is loaded; returns the subject, by default the
    newest run."""
    if data:
        require(data)
    if subject is None:
        return str(run.open_run().path)
    return subject if subject in specs.MLPS else network_or_artefact(subject)


for _command in (gradients, lesion, paths, depth, cam):
    explain.add_command(_command)
