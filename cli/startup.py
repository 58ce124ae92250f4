"""TensorFlow's start, without the log messages that it writes before its log level applies."""

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator

# Information and warnings, and the error of looking for a GPU where there is no driver.
LOG_MESSAGE = re.compile(
    r"[IW]\d{4} [\d:.]+ +\d+ \S+\]"
    r"|E\d{4} [\d:.]+ +\d+ \S+\] failed call to cuInit"
    r"|WARNING: All log messages before absl"
    r"|\d{4}-\d\d-\d\d [\d:.]+: [IW] "
    r"|To enable the following instructions"
    r"|INFO: Created TensorFlow Lite|fully_quantize: "
)


@contextlib.contextmanager
def without_log_messages() -> Iterator[None]:
    """Holds back what is written to standard error, by other languages too, and writes all but log messages after it.

    Example:
        >>> with without_log_messages():
        ...     import tensorflow as tf
    """
    try:
        original = os.dup(2)
    except OSError:  # closed
        yield
        return
    with tempfile.TemporaryFile() as held:
        sys.stderr.flush()
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(original, 2)
            os.close(original)
            held.seek(0)
            lines = held.read().decode(errors="replace").splitlines(keepends=True)
            sys.stderr.write("".join(line for line in lines if not LOG_MESSAGE.match(line)))
