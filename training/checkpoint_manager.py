"""Writing the checkpoints of a training run in the background."""

import concurrent.futures
import os
import re

import tensorflow as tf

from convzoo.errors import WriteError, first_line
from convzoo.training import checkpoints

_UNFINISHED = "_temp"  # suffix of TensorFlow's folder for a checkpoint that it is writing


class CheckpointManager:
    """Saves and restores the newest few checkpoints of a run and the best one.

    A save copies the state to host memory and returns; a thread writes the files. A save waits only if the state of an
    earlier step is still being written.

    Args:
        workdir: Folder of the run, local or gs://.
        variables: The state of the run by name.
        keep: Number of newest checkpoints to keep.
        writes: Whether this process writes; of several workers only one does.
    """

    def __init__(self, workdir: str, variables: dict[str, tf.Variable], keep: int, writes: bool = True):
        self._workdir, self._variables, self._keep, self._writes = workdir, variables, keep, writes
        self._copies, self._copied_step, self._written_step = None, None, None
        # A single thread writes checkpoints in the order of their steps.
        self._executor = concurrent.futures.ThreadPoolExecutor(1, "checkpoints")
        self._pending = []

    @property
    def saved_step(self) -> int | None:
        """Step of the newest complete checkpoint, restored or written; None if there is none."""
        if self._writes:
            return self._written_step
        path = checkpoints.newest(self._workdir)
        return checkpoints.step_of(path) if path else None

    def restore_newest(self) -> tuple[str | None, list[str]]:
        """Restores the newest checkpoint that is not corrupt; the best one if there are no others.

        Returns:
            Its path or None, and one message for each newer checkpoint that is corrupt.
        """
        if self._writes:
            self._remove_unfinished()
        messages = []
        best = checkpoints.best(self._workdir)  # has the whole state too, and may be all that is left
        for path in reversed(checkpoints.list_checkpoints(self._workdir) or ([best] if best else [])):
            try:
                checkpoints.restore(path, self._variables)
            except checkpoints.CorruptCheckpointError as error:
                messages.append(str(error))
            else:
                self._written_step = checkpoints.step_of(path)
                return path, messages
        return None, messages

    def save(self, step: int) -> None:
        """Starts saving the state after `step` steps. Raises WriteError if an earlier write failed."""
        if self._writes:
            self._start(step, lambda: self._write_newest(step), f"checkpoint of step {step}")

    def save_if_best(self, step: int, metric: str, value: float) -> bool:
        """Starts saving the state as the best one if `value` of `metric` is the highest so far.

        Returns:
            Whether it is.

        Raises:
            WriteError: An earlier write failed.
        """
        self.wait()
        if not self._writes or not checkpoints.is_best(self._workdir, value):
            return False

        def write():
            self._write(checkpoints.BEST_FOLDER, step)
            checkpoints.write_best_info(self._workdir, step, metric, value)
            checkpoints.keep_newest(os.path.join(self._workdir, checkpoints.BEST_FOLDER), step, 1)

        self._start(step, write, f"best checkpoint of step {step}")
        return True

    def poll(self) -> None:
        """Raises WriteError if a write has failed, without waiting."""
        self._collect([write for write in self._pending if write[0].done()])

    def wait(self) -> None:
        """Waits for all writes. Raises WriteError if one failed."""
        self._collect(self._pending)

    def close(self) -> None:
        """Waits until all writes have succeeded or failed."""
        self._executor.shutdown()

    def is_finite(self) -> bool:
        """Returns whether all variables are finite: a diverged network must not replace a good checkpoint."""
        return all(
            bool(tf.reduce_all(tf.math.is_finite(variable.read_value())))
            for variable in self._variables.values()
            if variable.dtype.is_floating
        )

    def _collect(self, writes):
        self._pending = [write for write in self._pending if write not in writes]
        for future, what in writes:
            try:
                future.result()
            except (tf.errors.OpError, OSError) as error:
                raise WriteError(what, first_line(error)) from error

    def _start(self, step, write, what):
        self.poll()
        if self._copied_step != step:
            self.wait()
            self._copy()
            self._copied_step = step
        self._pending.append((self._executor.submit(write), what))

    def _copy(self):
        """Copies the state into host variables that training does not change."""
        if self._copies is not None:
            for name, variable in self._variables.items():
                self._copies[name].assign(variable.numpy())
            return
        with tf.device("/cpu:0"):
            self._copies = {name: tf.Variable(value.numpy()) for name, value in self._variables.items()}
        self._checkpoint = tf.train.Checkpoint(variables=self._copies)

    def _write(self, folder, step):
        path = os.path.join(self._workdir, folder, f"ckpt-{step}")
        try:
            tf.io.gfile.makedirs(os.path.dirname(path))
            self._checkpoint.write(path)
        except (tf.errors.OpError, OSError):
            self._remove_unfinished()
            raise

    def _write_newest(self, step):
        self._write(checkpoints.NEWEST_FOLDER, step)
        self._written_step = step
        folder = os.path.join(self._workdir, checkpoints.NEWEST_FOLDER)
        checkpoints.keep_newest(folder, step, self._keep)

    def _remove_unfinished(self):
        """Removes the temporary folders of writes that a crash or a full disk interrupted."""
        for folder in (checkpoints.NEWEST_FOLDER, checkpoints.BEST_FOLDER):
            folder = os.path.join(self._workdir, folder)
            names = tf.io.gfile.listdir(folder) if tf.io.gfile.isdir(folder) else []
            for name in names:
                if re.fullmatch(rf"ckpt-\d+{_UNFINISHED}/?", name):
                    tf.io.gfile.rmtree(os.path.join(folder, name))
