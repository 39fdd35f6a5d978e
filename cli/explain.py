"""keras-resnet explain gradients, lesion, paths, depth, cam"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from keras_resnet import recipes, run, specs
from keras_resnet.cli._options import (
    Function,
    command,
    network_or_artefact,
    report,
    reports,
    require_png,
    setting,
    settings,
    start,
)
from keras_resnet.config import Config
from keras_resnet.data.names import require
from keras_resnet.errors import InputError
from keras_resnet.files import StrPath

_MLPS = ("residual_mlp", "plain_mlp")


@click.group("explain")
def explain() -> None:
    """Measure what the skip connections of a network do."""


def _options(*names: str) -> Callable[[Function], Function]:
    """Those options that several of the commands have, by name."""
    all_of_them = {
        "images": click.option("--images", default=32, show_default=True,
                               help="Number of images, from each class in turn."),
        "seed": click.option("--seed", default=0, show_default=True,
                             help="Random seed."),
        "split": click.option("--split", type=click.Choice(["train", "val", "test"]),
                              default="val", show_default=True, help="Split of the images."),
        "image-size": click.option("--image-size", default=0,
                                   help="Image side in pixels, for MODEL.  [the network's own]"),
        "png": click.option("--png", metavar="FILE.png", help="Write a plot to this file."),
        "data-dir": setting("data_dir"),
    }  # fmt: skip

    def decorate(function: Function) -> Function:
        for name in reversed(names):
            function = all_of_them[name](function)
        return function

    return decorate


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
@click.option("--seeds", default=3, show_default=True, help="Number of networks per depth.")
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

    MODEL is a name that `keras-resnet models` lists, residual_mlp or plain_mlp; it gets new weights
    and the classes of DATA (default: digits). A RUN or a .keras file is analysed on its own
    training images. With --depths, --png plots the gradient against depth.
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
    result = analysis.gradients(network.model, network.images, network.labels).as_json()
    if subject in _MLPS:
        result["parameters"] = analysis.parameters(network.model, network.images, network.labels)
    if depths:
        result["depths"] = analysis.by_depth(
            depths, data, images=images, seeds=seeds, image_size=image_size, data_dir=data_dir
        )
    if png:
        from keras_resnet.report import explain_plots

        if depths:
            result["png"] = explain_plots.first_layer(result["depths"], png)
        else:
            result["png"] = explain_plots.gradient_split(result, png)
    report(result, as_json, _gradients_text)


def _gradients_text(result: Mapping[str, Any]) -> str:
    head: tuple[str, ...] = (
        "block", "shortcut", "dJ/dH", "identity", "branch", "total", "ratio", "cosine", "error",
    )  # fmt: skip
    keys: tuple[str, ...] = (
        "name", "kind", "sum_norm", "identity_norm", "branch_norm", "total_norm", "ratio",
        "cosine", "relative_error",
    )  # fmt: skip
    rows = [[row[key] for key in keys] for row in result["blocks"]]
    lines = _columns([head, *rows])
    if "parameters" in result:
        head = ("parameter", "next sum", "by identity", "by branch", "both", "error")
        keys = ("through", "identity_norm", "branch_norm", "total_norm", "relative_error")
        rows = [
            [_in_notation(row["parameter"]), *(row.get(key) for key in keys)]
            for row in result["parameters"]
        ]
        lines += ["", "gradient of each parameter, by path", *_columns([head, *rows])]
    if "depths" in result:
        lines += ["", f"first layer's gradient: {'depth':>6}  {'norm (min…max)':>26}"]
        for row in result["depths"]:
            norms = row["gradient_norms"]
            mean = sum(norms) / len(norms)
            spread = f"{mean:.3g} ({min(norms):.3g}…{max(norms):.3g})"
            lines.append(f"{row['kind']:26} {row['depth']:>3}  {spread:>26}")
    first = result["first_layer"]
    lines.append(
        f"{result['name']}: loss {result['loss']:.3f} on {result['images']} images, "
        f"gradient norm of {first['name']} {first['gradient_norm']:.3g}"
    )
    if result["relative_error"] is not None:
        lines.append(
            "identity + branch = total at each block, with a relative error of at most "
            f"{result['relative_error']:.2g}"
        )
    return "\n".join(lines + _wrote(result))


def _in_notation(path: str) -> str:
    """`block1_2_dense/kernel` as "W2 of block1", as in Z = W2 relu(W1 A + B1) + B2."""
    layer, _, kind = path.rpartition("/")
    place, _, number = layer.removesuffix("_dense").rpartition("_")
    letter = "W" if kind == "kernel" else "B"
    return f"{letter}{number} of {place}" if place else f"{letter} of {number}"


@command(
    "lesion", example="keras-resnet explain lesion runs/resnet20 runs/plain20 --png lesion.png"
)
@click.argument("runs", metavar="[RUN]...", nargs=-1)
@click.option("--images", default=1000, show_default=True, help="Number of images.")
@click.option("--sets", default=5, show_default=True, help="Number of random sets per size.")
@_options("seed", "split", "png", "data-dir")
@reports
def lesion(
    runs: Sequence[StrPath],
    images: int,
    sets: int,
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
        raise InputError(f"--png shows at most three networks, not {len(runs)}")
    for path in runs:
        run.kind_of(path)
    start(quiet)
    from keras_resnet.explain.lesion import lesion as analyse

    runs = runs or [run.open_run().path]
    results = [
        analyse(path, images=images, sets=sets, seed=seed, split=split, data_dir=data_dir).as_json()
        for path in runs
    ]
    if png:
        from keras_resnet.report import explain_plots

        results[0]["png"] = explain_plots.lesions(results, png)
    report(
        results if len(results) > 1 else results[0],
        as_json,
        lambda _: "\n\n".join(map(_lesion_text, results)),
    )


def _lesion_text(result: Mapping[str, Any]) -> str:
    rows: list[tuple[str, ...]] = [("without", "top-1", "drop, points")]
    rows += [
        (row["name"], f"{row['top1']:.2%}", f"{100 * (result['top1'] - row['top1']):.2f}")
        for row in result["blocks"]
    ]
    lines = _columns(rows)
    rows = [("removed", "last blocks", "random: mean", "min…max")]
    for last, several in zip(result["last"], result["random"], strict=True):
        tries = several["top1"]
        mean, spread = sum(tries) / len(tries), f"{min(tries):.1%}…{max(tries):.1%}"
        rows.append((str(last["removed"]), f"{last['top1']:.1%}", f"{mean:.1%}", spread))
    lines += ["", *_columns(rows)]
    lines.append(
        f"{result['run']}: {result['model']}, top-1 {result['top1']:.2%} of {result['images']} "
        f"images with all blocks; chance {result['chance']:.1%}"
    )
    return "\n".join(lines + _wrote(result))


@command("paths", example="keras-resnet explain paths runs/resnet56 --png paths.png")
@click.argument("subject", metavar="[MODEL|RUN]", required=False)
@click.argument("data", required=False)
@_options("images", "seed", "image-size")
@click.option("--samples", default=10, show_default=True, help="Number of paths per length.")
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
    ).as_json()  # fmt: skip
    if png:
        from keras_resnet.report import explain_plots

        result["png"] = explain_plots.path_lengths(result, png)
    report(result, as_json, _paths_text)


def _paths_text(result: Mapping[str, Any]) -> str:
    rows = [("branches", "paths", "gradient per path", "share of gradient")]
    rows += [
        (
            str(row["length"]),
            f"{row['share_of_paths']:.2%}",
            f"{row['gradient_norm']:.2e}",
            f"{row['share_of_gradient']:.2%}",
        )
        for row in result["lengths"]
    ]
    effective = result["effective"]
    lines = [
        *_columns(rows),
        f"{result['name']}: of {result['blocks']} blocks, paths of {effective['shortest']} to "
        f"{effective['longest']} branches carry 95 % of the gradient",
    ]
    return "\n".join(lines + _wrote(result))


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

    result = analyse(data, depths=depths, folder=folder, **given).as_json()
    if png:
        from keras_resnet.report import explain_plots

        result["png"] = explain_plots.degradation(result, png)
    report(result, as_json, _depth_text)


def _depth_text(result: Mapping[str, Any]) -> str:
    rows = [("network", "training error", "loss", "validation error", "parameters", "seconds")]
    rows += [
        (
            f"{row['kind']}{row['depth']}",
            f"{row['training_error']:.2%}",
            f"{row['training_loss']:.3f}",
            f"{row['validation_error']:.2%}",
            f"{row['parameters']:,}",
            f"{row['seconds']:.0f}",
        )
        for row in result["rows"]
    ]
    epochs = f"{result['epochs']} epoch{'s' * (result['epochs'] > 1)}"
    end = f"{result['data']}: recipe {result['recipe']}, {epochs}, seed {result['seed']}"
    return "\n".join([*_columns(rows), end, *_wrote(result)])


@command("cam", example="keras-resnet explain cam runs/photos new/*.jpg --png cam.png")
@click.argument("subject", metavar="RUN")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.option("--label", help="Class to explain.  [the predicted class]")
@click.option("--png", default="cam.png", show_default=True, metavar="FILE.png")
@reports
def cam(
    subject: str, images: tuple[str, ...], label: str | None, png: str, as_json: bool, quiet: bool
) -> None:
    """Show which regions of each IMAGE support a class (Grad-CAM)."""
    subject = _checked(subject)
    require_png(png)
    start(quiet)
    from keras_resnet.explain.cam import cam as analyse
    from keras_resnet.report import explain_plots

    cams = analyse(subject, images, label=label)
    explain_plots.grad_cam([vars(row) for row in cams], png)
    rows = [row.as_json() for row in cams]
    report({"png": png, "images": rows}, as_json, _cam_text)


def _cam_text(result: Mapping[str, Any]) -> str:
    lines = [f"{row['image']}  {row['label']} {row['score']:.1%}" for row in result["images"]]
    return "\n".join(lines + _wrote(result))


def _checked(subject: str | None, data: str | None = None) -> str:
    """The subject, checked with the data before TensorFlow is loaded; None is the newest run."""
    if data:
        require(data)
    if subject is None:
        return str(run.open_run().path)
    return subject if subject in _MLPS else network_or_artefact(subject)


def _columns(rows: Sequence[Sequence[Any]]) -> list[str]:
    """Lines of aligned columns, the first to the left; None is left blank."""
    rows = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else f"{value:.3g}"


def _wrote(result: Mapping[str, Any]) -> list[str]:
    return [f"wrote {result['png']}"] if "png" in result else []


for _command in (gradients, lesion, paths, depth, cam):
    explain.add_command(_command)
