"""The devices of a run, and the communication between its workers.

A batch is divided into equal parts, one per device (a replica of the network), whose gradients are
summed. A worker is a process that trains with others, on one or several machines. All workers run
the same steps and make the same decisions; the first, the chief, writes the run folder.
"""

import faulthandler
import math
import re
import signal
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import filenames, messages, run
from keras_resnet._version import __version__
from keras_resnet.config import Config
from keras_resnet.data.sources import Source
from keras_resnet.data.stream import Share
from keras_resnet.distributed import cluster, rendezvous
from keras_resnet.errors import CheckFailed, InputError, first_line
from keras_resnet.files import StrPath
from keras_resnet.messages import log, plural
from keras_resnet.run import resume_command

_CONNECT = 120  # seconds
# Settings that may differ between machines: paths, and the number of devices.
_OF_THE_MACHINE = ("data", "data_dir", "weights", "teacher", "split_file", "devices")
# TensorFlow's error for a lost worker depends on the operation. Two types always mean a lost
# worker; others do if their message refers to another worker.
_GONE = (tf.errors.UnavailableError, tf.errors.AbortedError)
_OF_ANOTHER = re.compile(
    "heartbeat|coordination service|collective ops is aborted|remote target|socket closed"
    "|connection",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Devices:
    """The devices of this process.

    `strategy` is TensorFlow's; `worker` is the number of this process among `workers`, 0 for the
    chief; `reason` is for the log, empty for one device.
    """

    strategy: tf.distribute.Strategy
    worker: int = 0
    workers: int = 1
    reason: str = ""

    @property
    def count(self) -> int:
        """The number of devices of all workers."""
        return self.strategy.num_replicas_in_sync

    @property
    def is_chief(self) -> bool:
        """Whether this worker writes the run folder."""
        return self.worker == 0

    @property
    def share(self) -> Share:
        """The part of each batch for this process."""
        own = self.count // self.workers
        return Share(parts=self.count, first=self.worker * own, count=own)

    def distribute(self, batches: Callable[..., tf.data.Dataset]) -> Any:
        """The batches from `batches(share=…)`, each part on its device.

        On several devices they are endless, so that workers need not synchronize at the end.
        """
        if self.count == 1:
            return batches(share=self.share)
        return self.strategy.distribute_datasets_from_function(
            lambda context: batches(share=self.share).repeat()
        )

    def agree(self, *values: float) -> list[float]:
        """The maximum of each number over all workers; all workers must call this."""
        return [float(number) for number in self._of_all(values).max(axis=0)]

    def of_chief(self, *values: float) -> list[float]:
        """The numbers of the chief; all workers must call this."""
        return [float(number) for number in self._of_all(values)[0]]

    def _of_all(self, values: Sequence[float]) -> np.ndarray:
        """The numbers of all workers, float64 `(workers, n)`."""
        rows = np.zeros((self.workers, len(values)))
        rows[self.worker] = values
        if self.workers == 1:
            return rows

        return self._sum(tf.constant(rows)).numpy()

    @cached_property
    def _sum(self) -> Callable[[tf.Tensor], tf.Tensor]:
        def each(rows: tf.Tensor) -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            is_first = context.replica_id_in_sync_group % self.share.count == 0
            own = tf.where(is_first, rows, tf.zeros_like(rows))
            return context.all_reduce(tf.distribute.ReduceOp.SUM, own)

        @tf.function(reduce_retracing=True)
        def add_up(rows: tf.Tensor) -> tf.Tensor:
            added = self.strategy.run(each, args=(rows,))
            return self.strategy.experimental_local_results(added)[0]

        return add_up

    @contextmanager
    def preparing(self) -> Iterator[None]:
        """Reports an InputError of this worker to the others at the next comparison, which all must
        call afterwards."""
        try:
            yield
        except InputError:
            if self.workers > 1:
                self._of_all([math.nan])
            raise

    def require_same_images(self, source: Source) -> None:
        """Raises InputError, in all workers, if one has other training images than the chief."""
        if self.workers > 1:
            train = source.splits["train"]
            order = repr((source.classes, list(train.names), train.labels.tolist()))
            checksum = zlib.crc32(order.encode(errors="backslashreplace"))
            self._require_same(checksum, "training images", "DATA")

    def require_same_weights(self, model: keras.Model) -> None:
        """Raises InputError, in all workers, if one has other initial weights than the chief."""
        if self.workers > 1:
            checksum = 0
            for weight in model.get_weights():
                checksum = zlib.crc32(weight.tobytes(), checksum)
            self._require_same(checksum, "initial weights", "--weights")

    def _require_same(self, checksum: float, what: str, given: str) -> None:
        rows = self._of_all([checksum])
        failed = np.flatnonzero(np.isnan(rows[:, 0]))
        if len(failed):
            raise InputError(f"worker {failed[0]} cannot start; see its own error message")
        other = np.flatnonzero(rows[:, 0] != rows[0, 0])
        if len(other):
            raise InputError(
                f"worker {other[0]} has different {what} from worker 0; give all workers the "
                f"same {given}"
            )

    def folder(self, path: StrPath | None, config: Config) -> AbstractContextManager[run.Run]:
        """A context that yields the run folder of this worker."""
        if self.is_chief or path is None:
            return run.claim(path, config)
        return cluster.worker_run(path, self.worker)

    @contextmanager
    def watching(self, path: StrPath | None) -> Iterator[None]:
        """Silences workers other than the chief, and replaces the error of a lost worker by a
        CheckFailed. `path` is the run folder."""
        with nullcontext() if self.is_chief else messages.quietly():
            try:
                yield
            except tf.errors.OpError as error:
                who = self._lost_worker(error)
                if who is None or path is None:
                    raise
                log.debug(str(error))
                has_started = Path(path, filenames.CONFIG).exists()
                resume = f"{resume_command(path)} with the remaining workers"
                next_step = resume if has_started else "start all workers again"
                raise CheckFailed(f"{who} stopped responding; {next_step}") from None

    def _lost_worker(self, error: Exception) -> str | None:
        """The lost worker, as text, if the error is about one; else None."""
        if self.workers == 1:
            return None
        others = {int(n) for n in re.findall(r"task:(\d+)", str(error))} - {self.worker}
        if len(others) == 1:
            return f"worker {others.pop()}"
        if others or isinstance(error, _GONE) or _OF_ANOTHER.search(str(error)):
            return "another worker"
        return None


with tf.Graph().as_default():  # outside of any scope in which this module may be imported
    ONE = Devices(tf.distribute.get_strategy())


def choose(config: Config, path: StrPath | None) -> Devices:
    """The `Devices` of this process; must be called before TensorFlow computes anything.

    Args:
        config: a `Config`.
        path: the run folder, if given.

    Raises:
        InputError: too few devices, or they cannot share a batch equally; an invalid environment;
            workers that did not connect or have different settings.
    """
    gpus = tf.config.list_physical_devices("GPU")
    number = config.devices
    if gpus and number > len(gpus):
        raise InputError(
            f"--devices {number}: this machine has {plural(len(gpus), 'GPU')}; "
            "leave it out to use all"
        )
    addresses, worker = cluster.tf_config() or cluster.slurm() or (None, 0)
    if addresses:
        return _worker(addresses, worker, gpus, config, path)
    number = number or len(gpus)
    if number <= 1:
        return ONE
    require_shareable(config, number)
    if gpus:
        names, reason = [f"GPU:{n}" for n in range(number)], f"{number} GPUs"
    else:
        _divide_cpu(number)
        names, reason = [f"CPU:{n}" for n in range(number)], f"the CPU as {number} devices"
    return Devices(tf.distribute.MirroredStrategy(names), reason=reason)


def require_shareable(config: Config, count: int) -> None:
    """Raises InputError if the batch cannot be divided equally among `count` devices."""
    batch = config.batch_size
    less = batch // count * count
    if less != batch:
        fitting = " or ".join(str(n) for n in (less, less + count) if n)
        fewer = next(n for n in range(count, 0, -1) if batch % n == 0)
        raise InputError(
            f"--batch-size {batch} cannot be shared equally by {count} devices; use {fitting}, or "
            f"{plural(fewer, 'device')}"
        )


def _divide_cpu(number: int) -> None:
    """Divides the CPU into several devices, for tests; no faster than one."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    parts = [tf.config.LogicalDeviceConfiguration()] * number
    try:
        tf.config.set_logical_device_configuration(cpu, parts)
    except RuntimeError:
        raise InputError(
            f"--devices {number}: TensorFlow is already running; start a new process"
        ) from None


def _worker(
    addresses: list[str], worker: int, gpus: list[Any], config: Config, path: StrPath | None
) -> Devices:
    workers = len(addresses)
    if path is None:
        raise InputError(f"{workers} workers need one --run, the same folder for all of them")
    if config.devices > 1 and not gpus:
        raise InputError(
            f"--devices {config.devices}: without GPUs a worker has one device; leave it out"
        )
    own = cluster.own_gpus(gpus, config.devices, addresses, worker)
    devices = max(len(own), 1)
    require_shareable(config, devices * workers)
    settings = _shared_settings(config, path, devices)
    log.info(f"worker {worker} waits for all {workers} workers, at most {rendezvous.LIMIT} s")
    rendezvous.meet(addresses, worker, settings)
    log.info(f"all {workers} workers are ready; connecting them, at most {_CONNECT} s")
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": addresses}),
        task_type="worker",
        task_id=worker,
        num_accelerators={"GPU": len(own)},
        rpc_layer="grpc",
    )
    if own:
        tf.config.set_visible_devices(own, "GPU")
    # The strategy connects in C++, holding the GIL and ignoring signals, for up to an hour if a
    # worker has just exited. Only a timer in C can end that, with a trace in the log.
    faulthandler.dump_traceback_later(_CONNECT, exit=True, file=2)
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    except (RuntimeError, tf.errors.OpError) as error:
        raise InputError(
            f"worker {worker} cannot connect ({first_line(error)}); the other workers must be "
            "reachable, and TensorFlow must not have been used before in this process"
        ) from None
    finally:
        faulthandler.cancel_dump_traceback_later()
    if threading.current_thread() is threading.main_thread():
        # Restores Python's handler, which TensorFlow has replaced by one that does nothing.
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
    return Devices(strategy, worker, workers, f"worker {worker} of {workers}")


def _shared_settings(config: Config, path: StrPath, devices: int) -> dict[str, Any]:
    """Settings and versions that must be equal on all workers."""
    settings = {k: v for k, v in asdict(config).items() if k not in _OF_THE_MACHINE}
    steps = run.Run(path).checkpoint_steps()
    rows = run.Run(config.teacher).manifest if config.teacher else {}
    return {
        "TensorFlow": tf.__version__,
        "Keras": keras.__version__,
        "keras-resnet": __version__,
        "the latest checkpoint": f"step-{steps[-1]}" if steps else None,
        "the sha256 of --teacher": rows.get(filenames.MODEL, {}).get("sha256"),
        **{f"--{name.replace('_', '-')}": value for name, value in settings.items()},
        "--devices": devices,
    }
