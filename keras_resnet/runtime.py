"""What must be settled before TensorFlow is imported. Standard library only."""

import os
import sys
import tempfile


def prepare():
    """Environment for TensorFlow; what the user has set stays as it is.

    oneDNN's kernels are on by default only where the processor has AVX-512 VNNI or AMX. On one
    with AVX2 alone a ResNet-20 training step took 0.6 to 0.7 of the time with them.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def divert_native_output():
    """Takes what C++ libraries print to stderr off the terminal, into a log.

    TensorFlow prints lines of its own even at its quietest. Only file descriptor 2 is diverted:
    Python's `sys.stderr` keeps writing to where it wrote before. The log is a temporary file until
    `log_to` names a lasting one.
    """
    global _diverted
    if _diverted:
        return
    sys.stderr.flush()
    sys.stderr = os.fdopen(
        os.dup(2), "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace"
    )
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
    _diverted = True


def log_to(path):
    """Moves the log, with what is in it, to the file `path`; nothing where none is kept."""
    if _diverted:
        os.lseek(2, 0, os.SEEK_SET)
        with open(path, "ab") as log:
            while chunk := os.read(2, 1 << 16):
                log.write(chunk)
            log.flush()
            os.dup2(log.fileno(), 2)


def log(text):
    """One line for the log alone."""
    if _diverted:
        os.write(2, f"{text}\n".encode(errors="backslashreplace"))


_diverted = False
