"""keras-resnet doctor"""

from keras_resnet.cli import tables
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
    report(survey(), as_json, tables.survey)
