"""TensorBoard profile of some steps of a run."""

import contextlib
import os
import re

import tensorflow as tf

from convzoo.errors import ConfigError, WriteError, first_line


class Profile:
    """Profiles the steps after step `begin` up to step `end` into WORKDIR/tensorboard.

    Args:
        workdir: Folder of the run, local or gs://.
        begin: At least 1, because the first step is mostly compilation.
        end: Above `begin`.
        writes: Whether this process writes the profile; of several workers only one does.
    """

    def __init__(self, workdir: str, begin: int, end: int, writes: bool = True):
        self._folder = os.path.join(workdir, "tensorboard")
        self._begin, self._end, self._writes, self._is_running = begin, end, writes, False

    @property
    def stops(self) -> tuple[int, int]:
        """The steps at which `update` must be called."""
        return self._begin, self._end

    def update(self, step: int) -> str | None:
        """Starts or stops the profiler at its steps; returns a message once the profile is written."""
        if step == self._begin and self._writes:
            tf.profiler.experimental.start(self._folder)
            self._is_running = True
        elif self._is_running and step >= self._end:
            self.close()
            return f"profile of steps {self._begin + 1} to {self._end} written: tensorboard --logdir={self._folder}"
        return None

    def trace(self, step: int) -> contextlib.AbstractContextManager:
        """Returns a context that labels the steps up to `step`, made inside it, in the profile."""
        if not self._is_running:
            return contextlib.nullcontext()
        return tf.profiler.experimental.Trace("train", step_num=step, _r=1)

    def close(self) -> None:
        """Stops a running profiler and writes the profile. Raises WriteError if that fails."""
        if self._is_running:
            self._is_running = False
            try:
                tf.profiler.experimental.stop()
            except (tf.errors.OpError, OSError) as error:
                raise WriteError("profile", first_line(error)) from error


def parse_steps(text: str) -> tuple[int, int]:
    """Parses "FROM:TO" into two steps. Raises ConfigError unless 0 < FROM < TO.

    Example:
        >>> parse_steps("10:20")
        (10, 20)
    """
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if not match or not 0 < int(match[1]) < int(match[2]):
        raise ConfigError(f"--profile={text} is not FROM:TO; give two increasing steps, the first at least 1")
    return int(match[1]), int(match[2])
