"""A TensorBoard profile of some steps of a training."""

import contextlib
import os
import re

import tensorflow as tf

from convzoo.training.config import ConfigError, first_line
from convzoo.training.files import NotWrittenError


class Profile:
    """Profiles the steps after step `begin` up to step `end`, into the folder that TensorBoard reads.

    Args:
        workdir: The run's folder, local or gs://.
        begin: At least 1: the first step is mostly compilation.
        end: Above `begin`.
        writes: Whether this process writes it; of several workers only one does.
    """

    def __init__(self, workdir: str, begin: int, end: int, writes: bool = True):
        self._folder = os.path.join(workdir, "tensorboard")
        self._begin, self._end, self._writes, self._runs = begin, end, writes, False

    @property
    def stops(self) -> tuple[int, int]:
        """The steps that a training has to stop at for it."""
        return self._begin, self._end

    def look(self, step: int) -> str | None:
        """Begins and ends the profile where it is time; returns a line to be told when it was written."""
        if step == self._begin and self._writes:
            tf.profiler.experimental.start(self._folder)
            self._runs = True
        elif self._runs and step >= self._end:
            self.close()
            return f"profile of steps {self._begin + 1} to {self._end} written: tensorboard --logdir={self._folder}"
        return None

    def marks(self, step: int) -> contextlib.AbstractContextManager:
        """Marks the steps up to `step`, made in its block, in the profile."""
        if not self._runs:
            return contextlib.nullcontext()
        return tf.profiler.experimental.Trace("train", step_num=step, _r=1)

    def close(self) -> None:
        """Writes the profile if it runs. Raises NotWrittenError if it cannot."""
        if self._runs:
            self._runs = False
            try:
                tf.profiler.experimental.stop()
            except (tf.errors.OpError, OSError) as error:
                raise NotWrittenError("profile", first_line(error)) from error


def parse_steps(text: str) -> tuple[int, int]:
    """The steps that "FROM:TO" names.

    Raises:
        ConfigError: They are none, or not in order.
    """
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if not match or not 0 < int(match[1]) < int(match[2]):
        raise ConfigError(f"cannot read --profile={text}; write FROM:TO, two steps in order, FROM at least 1")
    return int(match[1]), int(match[2])
