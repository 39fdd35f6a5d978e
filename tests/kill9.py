"""Compares a run that is killed with -9 again and again with an uninterrupted one.

    python kill9.py FOLDER SEED KILLS SETTINGS.json

Trains twice with the same settings. The second run is killed KILLS times, at random steps, or in
the middle of a write, and resumed each time. Prints {"kills", "in_a_write", "different":
what is not equal, bit for bit}. The heavy imports are done once: each attempt is a fork.
"""

import hashlib
import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_resnet import messages
from keras_resnet.run import Run
from keras_resnet.training import checkpoint, final_evaluation
from keras_resnet.training.loop import Loop
from keras_resnet.training.train import train as run_training

WALL_CLOCK = ("seconds", "images_per_second")  # columns of the history
HALVES = ("checkpoints/*_temp", "model.keras.part*")


def in_a_fork(work):
    """Does `work` in a child, as TensorFlow has run nothing yet here; its status, or -signal."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def halves(folder):
    """What a write that has not ended shows of itself: paths, and when they were changed."""
    return {(path, path.stat().st_mtime_ns) for pattern in HALVES for path in folder.glob(pattern)}


def train(folder, settings, steps_to_live=None, write_to_die_in=None, after=0.0):
    """One attempt. It dies when it has done so many steps, or so many seconds into a write."""
    if steps_to_live is not None:
        log = Loop._log

        def count(self, steps):
            nonlocal steps_to_live
            steps_to_live -= len(steps.loss)
            if steps_to_live < 0:
                die()
            return log(self, steps)

        Loop._log = count
    if write_to_die_in is not None:
        owner, name = write_to_die_in
        write = getattr(owner, name)

        def write_and_die(self, *args, **options):
            threading.Thread(target=die_in_a_write, args=(halves(folder),), daemon=True).start()
            return write(self, *args, **options)

        def die_in_a_write(before):
            while not halves(folder) - before:
                time.sleep(0.0002)
            time.sleep(after)
            die()

        setattr(owner, name, write_and_die)
    run_training(run_folder=folder, **settings)


def kill_again_and_again(folder, settings, rng, kills, steps):
    killed = in_writes = 0
    while True:
        plan = {}
        if killed < kills and killed % 3 == 1:
            owner = rng.choice([(checkpoint.Checkpoint, "save"), (Run, "save_model")])
            plan = {"write_to_die_in": owner, "after": rng.uniform(0, 0.003)}
        elif killed < kills:
            plan = {"steps_to_live": rng.randrange(1, max(steps // kills, 3))}
        before = halves(folder)
        status = in_a_fork(lambda plan=plan: train(folder, settings, **plan))
        if status == 0:
            return killed, in_writes
        if status != -signal.SIGKILL:
            sys.exit(f"an attempt ended with status {status}, plan {plan}")
        killed += 1
        in_writes += bool(halves(folder) - before)  # it lies there still


def digest(folder):
    """What must be equal of two runs: sha256 by name of all that was saved, and the history."""
    step = Run(folder).checkpoint_steps()[-1]
    latest = tf.train.load_checkpoint(str(folder / "checkpoints" / f"step-{step}"))
    found = {}
    for name in sorted(latest.get_variable_to_shape_map()):
        if not name.startswith(("notes", "_CHECKPOINTABLE", "save_counter")):
            value = np.ascontiguousarray(latest.get_tensor(name))
            found[name] = hashlib.sha256(value.tobytes()).hexdigest()
    for i, weight in enumerate(Run(folder).model().get_weights()):
        found[f"model.keras {i}"] = hashlib.sha256(weight.tobytes()).hexdigest()
    notes = latest.get_tensor("notes/.ATTRIBUTES/VARIABLE_VALUE")
    history = json.loads(notes)["history"]
    for row in history["rows"]:
        for column in WALL_CLOCK:
            del row[column]
    return {**found, "history": history}


def main(folder, seed, kills, settings_file):
    messages.start_command(quiet=True)
    final_evaluation._draw = lambda *_: None  # a third of the time
    folder, settings = Path(folder), json.loads(Path(settings_file).read_text())
    steps = settings.pop("steps")
    if in_a_fork(lambda: train(folder / "whole", settings)) != 0:
        sys.exit("the run that nobody killed failed")
    killed, in_writes = kill_again_and_again(
        folder / "killed", settings, random.Random(int(seed)), int(kills), steps
    )
    whole, other = digest(folder / "whole"), digest(folder / "killed")
    different = [name for name in whole.keys() | other.keys() if whole.get(name) != other.get(name)]
    left = sorted(path.name for path, _ in halves(folder / "killed"))
    print(json.dumps({"kills": killed, "left": left, "in_a_write": in_writes, "values": len(whole),
                      "different": sorted(different)}))  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
