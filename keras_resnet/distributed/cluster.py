"""The workers of a run: their addresses (from `TF_CONFIG` or Slurm), their GPUs, and the run folder
of workers other than the chief."""

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_resnet import filenames, run
from keras_resnet.config import Config
from keras_resnet.errors import InputError
from keras_resnet.files import StrPath
from keras_resnet.specs import CUSTOM


def tf_config() -> tuple[list[str], int] | None:
    """The addresses of the workers in the environment variable TF_CONFIG, the chief's first, and
    the number of this worker; None without several workers.

    Raises:
        InputError: the variable does not have TensorFlow's documented form.
    """
    text = os.environ.get("TF_CONFIG")
    if not text:
        return None
    try:
        described = json.loads(text)
        cluster = described.get("cluster", {})
        addresses = [*cluster.get("chief", ()), *cluster.get("worker", ())]
        others = set(cluster) - {"chief", "worker"}
        if len(addresses) < 2 and not others:
            return None
        kind, index = described["task"]["type"], int(described["task"]["index"])
        good = not others and 0 <= index < len(cluster[kind]) and all(":" in a for a in addresses)
        number = index + (len(cluster.get("chief", ())) if kind == "worker" else 0)
    except (ValueError, KeyError, TypeError, AttributeError):
        good = False
    if not good:
        raise InputError(
            f"TF_CONFIG is {text[:200]!r}; expected "
            '{"cluster": {"worker": ["HOST:PORT", …]}, "task": {"type": "worker", "index": 0}}'
        )
    return addresses, number


def slurm() -> tuple[list[str], int] | None:
    """As `tf_config`, for a Slurm step of several tasks (`srun`); None outside of one.

    Raises:
        InputError: this task is not one of the step.
    """
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))
    if tasks < 2:
        return None
    # Two jobs may share a machine, and their tasks must not share a port.
    port = 15_000 + int(os.environ.get("SLURM_JOB_ID", 0)) % 10_000
    # TensorFlow's resolver also assigns GPUs, and fails without any, so only its names are used.
    spec = tf.distribute.cluster_resolver.SlurmClusterResolver(
        port_base=port, gpus_per_node=tasks, gpus_per_task=1, auto_set_gpu=False
    ).cluster_spec()
    addresses = spec.as_dict()["worker"]
    # It sorts machines by name, not by task number, so this task is found by its address.
    own = f"{os.environ.get('SLURMD_NODENAME')}:{port + int(os.environ.get('SLURM_LOCALID', 0))}"
    if own not in addresses:
        raise InputError(
            f"Slurm runs this task at {own}, which is not one of {', '.join(addresses)}; set "
            "TF_CONFIG for each task instead"
        )
    return addresses, addresses.index(own)


def own_gpus(gpus: list[Any], number: int, addresses: Sequence[str], worker: int) -> list[Any]:
    """The GPUs for this worker, limited to `number` if it is not 0: an equal part if its machine
    has enough for all its workers, else all. If Slurm assigns GPUs to each task, all visible
    ones."""
    hosts = [address.rpartition(":")[0] for address in addresses]
    place, neighbours = hosts[:worker].count(hosts[worker]), hosts.count(hosts[worker])
    share = number or len(gpus) // neighbours
    if share * neighbours > len(gpus) or not share or "SLURM_GPUS_PER_TASK" in os.environ:
        return gpus[: number or None]
    return gpus[place * share : (place + 1) * share]


class WorkerRun(run.Run):
    """The run folder of a worker other than the chief: it reads the chief's checkpoints, writes its
    own log, and discards all other output."""

    def __init__(self, path: StrPath, worker: int, scratch: StrPath):
        super().__init__(path)
        self._own = {
            filenames.LOG: f"log-worker-{worker}.txt",
            filenames.CHECKPOINTS: filenames.CHECKPOINTS,
        }
        self._scratch = Path(scratch)

    def file(self, name: str) -> Path:
        return super().file(self._own[name]) if name in self._own else self._scratch / name

    def begin(
        self, config: Config, classes: Sequence[str], network: keras.Model | None = None
    ) -> None:
        """Does nothing: the chief writes these files."""

    def network(self, config: Config, num_classes: int) -> keras.Model:
        """As `Run.network`; InputError for the user's own network, which only the chief has."""
        if config.model == CUSTOM.name:
            raise InputError("a custom network cannot be trained by several workers; use one")
        return super().network(config, num_classes)

    def save_model(self, model: keras.Model) -> None:
        """Does nothing: the chief saves the model."""


@contextmanager
def worker_run(path: StrPath, worker: int) -> Iterator[WorkerRun]:
    """The run of a worker other than the chief, which writes into a temporary folder."""
    Path(path).mkdir(parents=True, exist_ok=True)  # for the log: the chief may start later
    with tempfile.TemporaryDirectory(prefix="keras-resnet-worker-") as scratch:
        yield WorkerRun(path, worker, scratch)
