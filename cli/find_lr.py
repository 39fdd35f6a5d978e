"""keras-resnet find-lr"""

import shlex

import click

from keras_resnet import recipes
from keras_resnet.cli._options import command, report, reports, setting, start
from keras_resnet.data.names import require
from keras_resnet.weights import settings as weights_settings


@command("find-lr", example="keras-resnet find-lr photos/ --model resnet18 --png rates.png")
@click.argument("data", required=False)
@setting("--model", "A network; `keras-resnet models` lists them.")
@setting("--recipe", "Named settings; `keras-resnet recipes` lists them.")
@click.option("--config", "config_file", metavar="FILE", help="Settings of a run: its config.json.")
@setting("--batch-size", "Images in a training step.", type=int)
@setting("--image-size", "Side of the images in pixels; 0 is the network's own.", type=int)
@setting("--optimizer", "What turns gradients into steps.", type=click.Choice(recipes.OPTIMIZERS))
@setting("--weights", "Start from these, as in `train`.", metavar="FILE|imagenet")
@click.option("--freeze", metavar="[STAGE]", is_flag=False, flag_value="body", default=None,
              help="Keep the weights up to this stage; alone: all but the head.")  # fmt: skip
@setting("--seed", "Decides the split, the order, the crops and the first weights.", type=int)
@setting("--data-dir", "Where tensorflow-datasets keeps its files.", metavar="DIR")
@click.option("--low", type=float, help="First rate; default: by the optimizer.")
@click.option("--high", type=float, help="Last rate; default: by the optimizer.")
@click.option("--steps", type=int, default=400, show_default=True, help="Rates to try.")
@click.option("--png", metavar="FILE", default="learning-rates.png", show_default=True,
              help="Where the plot goes.")  # fmt: skip
@reports
def find_lr(config_file, low, high, steps, png, as_json, quiet, **settings):
    """Find a learning rate for DATA: the loss of a short training whose rate grows.

    The network is thrown away. What is tried is a batch of the recipe's own images at each of the
    rates, until the loss diverges (arXiv:1506.01186).
    """
    config = recipes.resolve(settings, config_file)
    require(config.data)
    weights_settings.require(config)
    start(quiet)
    from keras_resnet.training import find_lr as room

    found = room.find_lr(
        config_file=config_file, low=low, high=high, steps=steps, png=png, **settings
    )
    again = {k: v for k, v in settings.items() if v is not None and k not in ("data", "seed")}
    report({**found, "png": png}, as_json, lambda result: _summary(result, again, config))


def _summary(found, settings, config):
    options = [f"--{name.replace('_', '-')} {shlex.quote(str(v))}" for name, v in settings.items()]
    what = " ".join(["keras-resnet train", shlex.quote(config.data), *options])
    end = f"the loss diverged at {found['diverged']:.2g}" if found["diverged"] else "no divergence"
    return "\n".join(
        [
            f"falls fastest  {found['steepest']:.2g}",
            f"lowest loss    {found['lowest']:.2g} ({end})",
            f"suggested      {found['suggestion']:g}",
            f"plot           {found['png']}",
            f"next           {what} --learning-rate {found['suggestion']:g}",
        ]
    )
