"""What is asked of the machine before TensorFlow is imported."""

import os
import subprocess
import sys

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="processes are not bound to cores")
def test_cores_are_those_that_the_process_may_use():
    """A container may be limited to some; a runtime with a thread for each of 64 would be slow."""
    code = "import os, keras_resnet.runtime as r; os.sched_setaffinity(0, {CPU}); print(r.cores())"
    code = code.replace("CPU", str(min(os.sched_getaffinity(0))))
    found = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert found.stdout == "1\n"
