"""The command line: one file a command; each parses, calls one library function, prints.

The overview and the tables are answered without click: importing it takes longer than Python itself
takes to start.
"""

import sys

# command -> (module that has a function of the same name, what it does); as in a first session
COMMANDS = {
    "train": ("train", "Train a network and leave a run folder."),
    "evaluate": ("evaluate", "Score an artefact on every image of a data set."),
    "predict": ("predict", "Name what is on images."),
    "export": ("export", "Write a SavedModel and TFLite files that passed the gate."),
    "verify": ("verify", "Compare every exported file with the Keras model."),
    "inspect": ("describe", "Show layers, shapes, parameters, multiply-adds, operators."),
    "data": ("data", "Check a data set, or show it as a contact sheet."),
    "models": ("models", "List the networks."),
    "recipes": ("recipes", "List the training recipes."),
    "doctor": ("doctor", "Show versions, devices, and which precisions pay here."),
}

EXAMPLE = "keras-resnet train photos/ --model resnet18 --epochs 20"


def overview():
    """The text of `keras-resnet --help`."""
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:{width}}  {about}" for name, (_, about) in COMMANDS.items())
    return (
        "Usage: keras-resnet [--version] COMMAND [ARGUMENTS]\n\n"
        "Residual networks in Keras 3: from a folder of photos to a checked model on a phone.\n\n"
        f"Commands:\n{commands}\n\n"
        f"Example:\n  {EXAMPLE}\n\n"
        "`keras-resnet COMMAND --help` explains a command.\n"
    )


def main():
    """The console script."""
    arguments = sys.argv[1:]
    if arguments in ([], ["--help"], ["-h"]):
        sys.stdout.write(overview())
        return 0
    if arguments in (["models"], ["recipes"]):
        from keras_resnet.cli import _tables

        sys.stdout.write(getattr(_tables, arguments[0])())
        return 0
    from keras_resnet.cli._group import run

    return run(arguments)
