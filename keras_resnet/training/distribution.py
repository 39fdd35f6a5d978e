"""Which devices a run trains on, and what its workers have to tell each other.

A batch is cut into equal parts, one for each device (a replica of the network), whose gradients are
added up. A worker is a process that trains with others, on the same machine or on several. All
workers do the same steps and come to the same decisions; the first one, the chief, writes.
"""

import json
import os
import re
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_resnet import progress, run, runtime
from keras_resnet.data.stream import Share
from keras_resnet.errors import CheckFailed, InputError, first_line
from keras_resnet.training.checkpoint import goes_on

_PORT = 8888  # of the first task of a machine, where Slurm names machines alone
_JUDGED = ("loss", "top1", "cross_entropy")
# What TensorFlow says of a worker that is gone depends on what it waited for.
_GONE = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
)


@dataclass(frozen=True)
class Devices:
    """What this process trains on.

    `strategy` is TensorFlow's; `worker` is the number of this process among `workers`, the chief's
    0; `reason` is for the person who reads the log, empty for one device.
    """

    strategy: tf.distribute.Strategy
    worker: int = 0
    workers: int = 1
    reason: str = ""

    @property
    def count(self):
        """All devices of all workers."""
        return self.strategy.num_replicas_in_sync

    @property
    def is_chief(self):
        return self.worker == 0

    @property
    def share(self):
        """What this process sees of each batch."""
        own = self.count // self.workers
        return Share(parts=self.count, first=self.worker * own, count=own)

    def require_shareable(self, config):
        """InputError if these devices cannot have equal parts of a batch, or not as asked for."""
        batch = config.batch_size
        less = batch // self.count * self.count
        if less != batch:
            fitting = " or ".join(str(n) for n in (less, less + self.count) if n)
            raise InputError(
                f"--batch-size {batch} cannot be shared equally by {self.count} devices; use "
                f"{fitting}, or another number of devices"
            )
        if self.count > 1 and config.accumulate > 1:  # `fit` fails: Keras does it in a condition
            raise InputError(
                f"--accumulate {config.accumulate} works on one device alone, not on {self.count}; "
                f"use a --batch-size of {batch * config.accumulate}, which they share"
            )

    def distribute(self, batches):
        """What `fit` takes: the batches that `batches(share=…)` gives, each on its device.

        Without an end, so that no step has to ask all workers whether there is another.
        """
        if self.count == 1:
            return batches(share=self.share)
        return self.strategy.distribute_datasets_from_function(
            lambda context: batches(share=self.share).repeat()
        )

    def agree(self, *values):
        """The largest that any worker gives of each of the numbers; all have to call it."""
        return [float(number) for number in self._of_all(values).max(axis=0)]

    def of_chief(self, *values):
        """The numbers that the chief gives; all have to call it."""
        return [float(number) for number in self._of_all(values)[0]]

    def _of_all(self, values):
        """float64 `(workers, n)`, a row from each worker."""
        rows = np.zeros((self.workers, len(values)))
        rows[self.worker] = values
        if self.workers == 1:
            return rows

        return self._added_up(tf.constant(rows)).numpy()

    @cached_property
    def _added_up(self):
        def each(rows):
            context = tf.distribute.get_replica_context()
            is_first = context.replica_id_in_sync_group % self.share.count == 0
            own = tf.where(is_first, rows, tf.zeros_like(rows))
            return context.all_reduce(tf.distribute.ReduceOp.SUM, own)

        @tf.function(reduce_retracing=True)
        def add_up(rows):
            added = self.strategy.run(each, args=(rows,))
            return self.strategy.experimental_local_results(added)[0]

        return add_up

    def require_same(self, step, run):
        """InputError if this worker goes on from another step than the chief."""
        (expected,) = self.of_chief(step)
        if step != expected:
            raise InputError(
                f"worker {self.worker} finds step {step:,} in {run.path}, the chief {expected:,.0f}"
                "; all workers have to see the same folder"
            )

    def evaluation(self, model, alone):
        """A stand-in for `model.evaluate` where `model` is on several devices.

        The chief judges, on one of them, so that each image counts once; the others take its word,
        for another machine may round otherwise and come to other decisions.

        Args:
            model: compiled, in the scope of the strategy.
            alone: the same outside of it.
        """

        def evaluate(x, callbacks, **_):
            callbacks.on_test_begin()
            alone.set_weights(model.get_weights())
            logs = dict.fromkeys(_JUDGED, 0.0)
            if self.is_chief:
                logs |= alone.evaluate(x, verbose=0, return_dict=True)
            logs = dict(zip(_JUDGED, self.of_chief(*map(logs.get, _JUDGED)), strict=True))
            callbacks.on_test_end(logs)
            return logs

        return evaluate

    def folder(self, path, config):
        """The run folder of this worker, to be used in a `with` statement."""
        return run.claim(path, config) if self.is_chief else _onlooking(path)

    @contextmanager
    def watching(self, folder):
        """Makes one line of the errors that tell that another worker is gone."""
        try:
            yield
        except _GONE as error:
            if self.workers == 1:
                raise
            others = {int(n) for n in re.findall(r"task:(\d+)", str(error))} - {self.worker}
            who = f"worker {others.pop()}" if len(others) == 1 else "another worker"
            runtime.log(str(error))
            raise CheckFailed(
                f"{who} is gone; {goes_on(folder.path)} with those that are there"
            ) from None


ONE = Devices(tf.distribute.get_strategy())


class Onlooker(run.Run):
    """The run folder of a worker that is not the chief: it reads the chief's checkpoints, and what
    it writes itself is thrown away."""

    def __init__(self, path, scratch):
        super().__init__(path)
        self._scratch = Path(scratch)

    def file(self, name):
        return super().file(name) if name == "checkpoints" else self._scratch / name

    def begin(self, config, classes):
        """Left to the chief."""


@contextmanager
def _onlooking(path):
    progress.be_quiet()  # the chief tells it all
    with tempfile.TemporaryDirectory(prefix="keras-resnet-worker-") as scratch:
        yield Onlooker(path, scratch)


def choose(number, folder):
    """The `Devices` of this process. To be called before TensorFlow computes anything.

    Args:
        number: of devices of this process; 0 is all GPUs, or the CPU.
        folder: of the run, if it was named.

    Raises:
        InputError: there are not so many, or the environment describes no worker.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if gpus and number > len(gpus):
        raise InputError(f"--devices {number}: this machine has {len(gpus)} GPU(s)")
    cluster = _tf_config() or _slurm(number or len(gpus))
    if cluster:
        return _worker(cluster, number, gpus, folder)
    number = number or len(gpus)
    if number <= 1:
        return ONE
    if gpus:
        names, reason = [f"GPU:{n}" for n in range(number)], f"{number} GPUs"
    else:
        _divide_cpu(number)
        names, reason = [f"CPU:{n}" for n in range(number)], f"the CPU as {number} devices"
    return Devices(tf.distribute.MirroredStrategy(names), reason=reason)


def _divide_cpu(number):
    """No faster than one device: to try out what several do."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    parts = [tf.config.LogicalDeviceConfiguration()] * number
    try:
        tf.config.set_logical_device_configuration(cpu, parts)
    except RuntimeError:
        raise InputError(
            f"--devices {number}: TensorFlow runs in this process already; start another"
        ) from None


def _worker(cluster, number, gpus, folder):
    workers = sum(cluster.cluster_spec().num_tasks(job) for job in cluster.cluster_spec().jobs)
    if folder is None:
        raise InputError(f"{workers} workers need one --run, the same folder for all of them")
    if number > 1 and not gpus:
        raise InputError(f"--devices {number}: without GPUs a worker has one device")
    if number and gpus:
        tf.config.set_visible_devices(gpus[:number], "GPU")
    has_chief = "chief" in cluster.cluster_spec().jobs
    worker = cluster.task_id + (has_chief and cluster.task_type == "worker")
    progress.say(f"worker {worker} waits for all {workers}")
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=cluster)
    except (RuntimeError, tf.errors.OpError) as error:
        raise InputError(
            f"worker {worker} cannot be one ({first_line(error)}); its port has to be free, the "
            "others within reach, and TensorFlow must not have computed anything in its process"
        ) from None
    return Devices(strategy, worker, workers, f"worker {worker} of {workers}")


def _tf_config():
    """The cluster that the environment variable TF_CONFIG describes; None if there is none."""
    text = os.environ.get("TF_CONFIG")
    if not text:
        return None
    try:
        described = json.loads(text)
        jobs = {job: len(tasks) for job, tasks in described.get("cluster", {}).items()}
        if sum(jobs.values()) < 2:
            return None
        kind, index = described["task"]["type"], int(described["task"]["index"])
        good = set(jobs) <= {"chief", "worker"} and 0 <= index < jobs[kind]
    except (ValueError, KeyError, TypeError, AttributeError):
        good = False
    if not good:
        raise InputError(
            f"TF_CONFIG is {text[:200]!r}; expected "
            '{"cluster": {"worker": ["HOST:PORT", …]}, "task": {"type": "worker", "index": 0}}'
        )
    return tf.distribute.cluster_resolver.TFConfigClusterResolver()


def _slurm(gpus):
    """The cluster of a Slurm step of several tasks (`srun`), each with so many GPUs of its own;
    None outside of one."""
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))
    if tasks < 2 or "SLURM_PROCID" not in os.environ:
        return None
    # TensorFlow's resolver hands out GPUs too, and fails where there are none: of it, the names.
    resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
        port_base=_PORT, gpus_per_node=tasks, gpus_per_task=1, auto_set_gpu=False
    )
    return tf.distribute.cluster_resolver.SimpleClusterResolver(
        resolver.cluster_spec(),
        task_type="worker",
        task_id=int(os.environ["SLURM_PROCID"]),
        num_accelerators={"GPU": gpus},
        rpc_layer="grpc",
    )
