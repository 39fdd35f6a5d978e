"""keras-resnet benchmark"""

import click

from keras_resnet import choices, run
from keras_resnet.cli import tables
from keras_resnet.cli._options import command, report, reports, start, trust


@command(
    "benchmark",
    example="keras-resnet benchmark runs/photos/export/model_float32.tflite "
    "runs/photos/export/model_int8.tflite --threads 2",
)
@click.argument("artefacts", metavar="[ARTEFACT]...", nargs=-1)
@click.option("--threads", metavar="N", type=int, default=choices.THREADS, show_default=True,
              help="Threads of each runtime.")  # fmt: skip
@click.option("--batch-size", metavar="N", type=int, default=choices.BATCH, show_default=True,
              help="Images per call, for the throughput.")  # fmt: skip
@click.option("--runs", metavar="N", type=int, default=choices.RUNS, show_default=True,
              help="Number of single-image runs, for the latency.")  # fmt: skip
@click.option("--android", is_flag=True,
              help="Measure the .tflite files on a phone connected over adb.")  # fmt: skip
@trust
@reports
def benchmark(
    artefacts: tuple[str, ...],
    threads: int,
    batch_size: int,
    runs: int,
    android: bool,
    trust: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure latency, throughput and memory, side by side.

    For a run folder (by default the newest), its Keras model and all its exported files are
    measured. Each artefact runs in its own process, in turn. Ratios are relative to the first.
    Images are random pixels.
    """
    for path in artefacts or [run.open_run()]:
        run.require_trusted(path, trust)
    start(quiet)
    if android:
        from keras_resnet.evaluation import android as phone

        timings = phone.benchmark(artefacts, threads=threads, runs=runs)
        report(timings, as_json, tables.phone_benchmark)
    else:
        from keras_resnet.evaluation import benchmark as here

        result = here.benchmark(
            artefacts, threads=threads, runs=runs, batch_size=batch_size, trust=trust
        )
        report(result, as_json, tables.benchmark)
