"""The command line: one file a command; each parses, calls one library function, prints.

The overview, the tables and a misspelt option are answered without click: importing it takes two to
four times as long as Python itself takes to start.
"""

import sys


class Command:
    """A command: the module with a function of its name, what it does, and its options."""

    def __init__(self, module, about, options):
        self.module, self.about = module, about
        self.options = ("--help", "--json", "--quiet", *options.split())


# In the order of a first session. A test holds the options equal to click's.
COMMANDS = {
    "train": Command(
        "train",
        "Train a network and leave a run folder.",
        "--model --recipe --config --epochs --batch-size --image-size --learning-rate "
        "--base-batch --body-rate --optimizer --accumulate --clip-norm --warmup-epochs --momentum "
        "--nesterov --no-nesterov --rate-drops --weight-decay --loss --bce-threshold "
        "--label-smoothing --pad --crop-area --crop-aspect --center-crop --brightness --mixup "
        "--cutmix --randaugment --randaugment-prob --randaugment-std --trivialaugment "
        "--no-trivialaugment --erasing --repeats --balance --train-size --size-steps --best-by "
        "--patience --max-minutes --flip --no-flip --precision --deterministic "
        "--no-deterministic --xla --no-xla --devices --sync-bn --no-sync-bn --weights --freeze "
        "--freeze-bn --no-freeze-bn --normalize --zero-gamma --no-zero-gamma --drop-path --seed "
        "--val-split --run --resume --checkpoint-every --ema --on-bad-image --check --data-dir",
    ),
    "launch": Command("launch", "Start several workers of one training here.", "--workers"),
    "find-lr": Command(
        "find_lr",
        "Find a learning rate, with a plot.",
        "--model --recipe --config --batch-size --image-size --optimizer --weights --freeze --seed "
        "--data-dir --low --high --steps --png",
    ),
    "evaluate": Command(
        "evaluate",
        "Score an artefact on every image of a data set.",
        "--split --on-bad-image --data-dir",
    ),
    "predict": Command("predict", "Name what is on images.", "--top --csv"),
    "export": Command(
        "export",
        "Write a SavedModel and TFLite files that passed the gate.",
        "--saved-model --tflite --onnx --features --quantize --io --explain-quantization "
        "--calibration --scores --top --input-size --calibrate-probabilities --bundle --max-drop "
        "--output --data --data-dir",
    ),
    "verify": Command(
        "verify", "Compare every exported file with the Keras model.", "--max-drop --images"
    ),
    "import": Command(
        "import_weights",
        "Make a run of weights that were trained elsewhere.",
        "--model --normalize --labels --image-size --center-crop --run",
    ),
    "benchmark": Command(
        "benchmark",
        "Measure latency, throughput and memory, side by side.",
        "--threads --batch-size --runs --android",
    ),
    "inspect": Command(
        "describe",
        "Show layers, stages, parameters, multiply-adds, memory; draw the blocks.",
        "--drawing --png",
    ),
    "explain": Command(
        "explain",
        "Measure what the skips do: gradients, lesions, paths, depth; where a net looks.",
        "--images --seed --split --image-size --zero-gamma --no-zero-gamma --depths --seeds --sets "
        "--samples --label --recipe --epochs --batch-size --learning-rate --run --png --data-dir",
    ),
    "data": Command(
        "data",
        "Check a data set, or show it as a contact sheet.",
        "--images --size --seed --output --data-dir",
    ),
    "models": Command("models", "List the networks.", ""),
    "recipes": Command("recipes", "List the training recipes.", ""),
    "doctor": Command("doctor", "Show versions, devices, and which precisions pay here.", ""),
}

EXAMPLE = "keras-resnet train photos/ --model resnet18 --epochs 20"


def overview():
    """The text of `keras-resnet --help`."""
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:{width}}  {c.about}" for name, c in COMMANDS.items())
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
    if unknown := _misspelt(arguments):
        print(unknown, file=sys.stderr)
        return 2
    from keras_resnet.cli._group import run

    return run(arguments)


def _misspelt(arguments):
    """The line for an option that its command does not have; None if all are known."""
    name, *rest = arguments
    if name not in COMMANDS:
        return None
    for argument in rest:
        option = argument.partition("=")[0]
        if argument == "--":
            break
        if option.startswith("--") and option not in COMMANDS[name].options:
            from difflib import get_close_matches

            near = get_close_matches(option, COMMANDS[name].options, n=1)
            hint = f"; did you mean {near[0]}?" if near else ";"
            return f"keras-resnet: no such option {option}{hint} See `keras-resnet {name} --help`"
    return None
