"""keras-resnet doctor"""

from collections.abc import Mapping
from typing import Any

from keras_resnet.cli._options import command, report, reports, start
from keras_resnet.messages import log


@command("doctor", example="keras-resnet doctor")
@reports
def doctor(as_json: bool, quiet: bool) -> None:
    """Show versions, devices, and the precisions that are fast here.

    Lists missing packages too. Times training steps of one convolution with batch normalization
    and ReLU in each number format, which takes 10 to 20 seconds on a CPU.
    """
    start(quiet)
    from keras_resnet.training.hardware import survey

    log.info("timing a few training steps in each precision …")
    report(survey(), as_json, _text)


def _text(found: Mapping[str, Any]) -> str:
    cpu, precision = found["cpu"], found["precision"]
    lines = [f"Python {found['python']} on {found['system']}"]
    lines += [f"  {name:22} {version or 'missing'}" for name, version in found["versions"].items()]
    lines.append(f"CPU: {cpu['cores']} cores; {', '.join(cpu['flags']) or 'no known features'}")
    lines.append("GPU: " + (", ".join(found["gpus"]) or "none that TensorFlow can use"))
    lines.append(f"--precision auto is {precision['auto']}: {precision['reason']}")
    lines.append("a training step of a convolution, batch norm and ReLU:")
    for name, ratio in precision["step_time_over_float32"].items():
        said = ratio if isinstance(ratio, str) else f"{ratio} × the time of float32"
        lines.append(f"  {name:24} {said}")
    lines.append(
        f"--xla: {'yes' if found['xla'] else 'no; on a CPU it pays for tiny networks only'}"
    )
    lines.append(f"steps per call: {found['steps_per_execution']}")
    for name, what in found["missing"].items():
        lines.append(f"missing: {name} ({what['adds']}); {what['install']}")
    return "\n".join(lines)
