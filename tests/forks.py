"""Commands as forks of one process that has loaded TensorFlow: seconds saved for each.

    python forks.py < ORDERS

An order is a line of JSON, {"arguments", "cwd", "env", "most_bytes": of each file that it writes,
or null}; the answer is another, {"returncode", "stdout", "stderr"}. Nothing was computed before the
fork, which TensorFlow would not survive.

Exports share one conversion server, which loads TensorFlow too.
"""

import json
import os
import resource
import sys
import tempfile
import traceback

import keras_resnet.explain.subject
import keras_resnet.exporting.exporter
import keras_resnet.training.train  # noqa: F401
from keras_resnet.cli import main
from keras_resnet.exporting import child as conversion
from keras_resnet.training import final_evaluation

final_evaluation._draw = lambda *_: None
conversion.IDLE_SECONDS = 3600


class SharedServer:
    """The server of this process, for a fork, which is not its parent and cannot wait for it: if it
    gives no answer it has ended, idle, and the fork starts one of its own."""

    def __init__(self, server):
        self.stdin, self.stdout, self.pid = server.stdin, server.stdout, server.pid
        self._status = None

    def poll(self):
        return self._status

    def wait(self):
        self._status = 0
        return 0

    def communicate(self):
        pass


def run(arguments, cwd, env, most_bytes):
    if arguments[0] in ("export", "ship"):
        conversion.start()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if child == 0:
            if conversion._server:
                conversion._server = SharedServer(conversion._server)
            if most_bytes:
                resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
            os.chdir(cwd)
            os.environ.clear()
            os.environ.update(env)
            tempfile.tempdir = None  # as this environment says
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            sys.argv = ["keras-resnet", *arguments]
            status = 1
            try:
                status = main()
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        err.seek(0)
        return {"returncode": status, "stdout": out.read(), "stderr": err.read()}


for order in sys.stdin:
    print(json.dumps(run(**json.loads(order))), flush=True)
