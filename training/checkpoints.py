"""Checkpoints whose variables carry names, so that a wrong one can be told from a right one."""

import concurrent.futures
import json
import os
from typing import Any

import keras
import tensorflow as tf

from convzoo.training.config import ConfigError, first_line
from convzoo.training.files import NotWrittenError, read_text, write_text

FOLDER, BEST = "checkpoints", "best"
_UNFINISHED = "_temp"  # TensorFlow's folders for a checkpoint that it is writing
_PREFIX, _SUFFIX = "variables/", "/.ATTRIBUTES/VARIABLE_VALUE"


class DamagedCheckpointError(ConfigError):
    """A checkpoint whose files are not whole."""


def model_variables(model: keras.Model) -> dict[str, tf.Variable]:
    """Every variable of `model` by name: weights by their path, random generators by their layer."""
    named = {weight.path: weight.value for weight in model.weights}
    for layer in model.layers:
        if isinstance(getattr(layer, "seed_generator", None), keras.random.SeedGenerator):
            named[f"{layer.name}/seed_generator"] = layer.seed_generator.state.value
    return named


def prefixed(prefix: str, variables: dict[str, tf.Variable]) -> dict[str, tf.Variable]:
    """`variables` with `prefix`/ before every name."""
    return {f"{prefix}/{name}": variable for name, variable in variables.items()}


def restore(path: str, variables: dict[str, tf.Variable]) -> None:
    """Reads `variables` from the checkpoint at `path`; what else it holds is left alone.

    Raises:
        DamagedCheckpointError: Its files cannot be read.
        ConfigError: It lacks a variable, or has it in another shape; the first are named.
    """
    reader, keys = _open(path)
    by_key = reader.get_variable_to_shape_map()
    found = {name: by_key[key] for name, key in keys.items()}
    missing = [name for name in variables if name not in found]
    other = [
        f"{name} is {found[name]} there and {variables[name].shape.as_list()} here"
        for name in variables
        if name in found and found[name] != variables[name].shape.as_list()
    ]
    if missing or other:
        examples = [f"{name} is missing" for name in missing[:2]] + other[:2]
        raise ConfigError(
            f"checkpoint {path!r} is of another network: {len(missing)} of {len(variables)} variables are missing and "
            f"{len(other)} differ in shape ({'; '.join(examples)})"
        )
    try:
        # All of them first: a damaged file must not leave the network half restored.
        values = {name: reader.get_tensor(keys[name]) for name in variables}
    except (tf.errors.OpError, ValueError, IndexError) as error:
        raise DamagedCheckpointError(
            f"checkpoint {path!r} is damaged ({first_line(error)}); use another one"
        ) from error
    for name, variable in variables.items():
        variable.assign(values[name])


def shapes(path: str) -> dict[str, list[int]]:
    """Shapes of the variables in the checkpoint at `path` by name, as "model/stem_conv/kernel"."""
    reader, keys = _open(path)
    by_key = reader.get_variable_to_shape_map()
    return {name: by_key[key] for name, key in sorted(keys.items())}


def _open(path: str) -> tuple[Any, dict[str, str]]:
    """A reader of the checkpoint, and TensorFlow's key of each variable by our name."""
    try:
        reader = tf.train.load_checkpoint(path)
    except (tf.errors.OpError, ValueError, OSError) as error:
        raise DamagedCheckpointError(
            f"cannot read checkpoint {path!r} ({first_line(error)}); give the path of a whole one, without .index"
        ) from error
    # TensorFlow writes a slash within a name as ".S".
    return reader, {
        key.removeprefix(_PREFIX).removesuffix(_SUFFIX).replace(".S", "/"): key
        for key in reader.get_variable_to_shape_map()
        if key.startswith(_PREFIX)
    }


def newest(workdir: str) -> str | None:
    """Path of the newest checkpoint of `workdir`, or None."""
    return tf.train.latest_checkpoint(os.path.join(workdir, FOLDER))


def saved(workdir: str) -> list[str]:
    """Paths of the checkpoints that a run keeps in `workdir`, oldest first, whole or not."""
    state = tf.train.get_checkpoint_state(os.path.join(workdir, FOLDER))
    return list(state.all_model_checkpoint_paths) if state else []


def best(workdir: str) -> str | None:
    """Path of the best checkpoint of `workdir`, or None."""
    return tf.train.latest_checkpoint(os.path.join(workdir, BEST))


class Checkpoints:
    """The checkpoints of a training run: the newest few, and the one that evaluated best.

    They are written beside the training: a save takes the time of a copy of the state to the host's memory, and waits
    only while the copy of an earlier step is still being written.

    Args:
        workdir: The run's folder, local or gs://.
        variables: All of the run's state by name.
        keep: Newest checkpoints to keep.
        writes: Whether this process writes them; of several workers only one does.
    """

    def __init__(self, workdir: str, variables: dict[str, tf.Variable], keep: int, writes: bool = True):
        self._workdir, self._variables, self._writes = workdir, variables, writes
        self._keep, self._copies, self._copied, self._saved = keep, None, None, None
        # One thread: writes are in the order of their steps.
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "checkpoints")
        self._writing = []

    @property
    def saved_step(self) -> int | None:
        """The step of the newest checkpoint that is whole in its place, restored or written; None for none."""
        if self._writes:
            return self._saved
        path = newest(self._workdir)
        return _step(path) if path else None

    def restore_newest(self) -> tuple[str | None, list[str]]:
        """Goes on from the newest whole checkpoint, if there is one.

        Returns its path or None, and one line for each newer one that is damaged.
        """
        if self._writes:
            self._remove_unfinished()
        complaints = []
        # Not the manager's own list, which passes over checkpoints whose state was written without times.
        for path in reversed(saved(self._workdir)):
            try:
                restore(path, self._variables)
            except DamagedCheckpointError as error:
                complaints.append(str(error))
            else:
                self._saved = _step(path)
                return path, complaints
        return None, complaints

    def save(self, step: int) -> None:
        """Begins to save the state after `step` steps.

        Raises:
            NotWrittenError: An earlier write failed.
        """
        if self._writes:
            self._begin(step, lambda: self._write(self._newest, step), f"checkpoint of step {step}")

    def save_if_best(self, step: int, metric: str, value: float) -> bool:
        """Begins to save the state as the best one if `value` of `metric` is above the best so far.

        Returns whether it was. Raises as `save`.
        """
        self.wait()
        if not self._writes or not _is_best(self._workdir, value):
            return False

        def write():
            self._write(self._best, step)
            _write_best(self._workdir, step, metric, value)

        self._begin(step, write, f"best checkpoint of step {step}")
        return True

    def look(self) -> None:
        """Raises NotWrittenError if a write has failed; waits for none."""
        self._settle([write for write in self._writing if write[0].done()])

    def wait(self) -> None:
        """Waits until all that was begun is written. Raises NotWrittenError if a write failed."""
        self._settle(self._writing)

    def close(self) -> None:
        """Waits until all that was begun is written, or has failed."""
        self._thread.shutdown()

    def _settle(self, writes):
        self._writing = [write for write in self._writing if write not in writes]
        for future, what in writes:
            try:
                future.result()
            except (tf.errors.OpError, OSError) as error:
                raise NotWrittenError(what, first_line(error)) from error

    def _begin(self, step, write, what):
        self.look()
        if self._copied != step:
            self.wait()
            self._copy()
            self._copied = step
        self._writing.append((self._thread.submit(write), what))

    def _copy(self):
        """The state, as it is now, into variables of the host that training leaves alone."""
        if self._copies is None:
            with tf.device("/cpu:0"):
                self._copies = {name: tf.Variable(value.numpy()) for name, value in self._variables.items()}
            checkpoint = tf.train.Checkpoint(variables=self._copies)
            self._newest = tf.train.CheckpointManager(checkpoint, os.path.join(self._workdir, FOLDER), self._keep)
            self._best = tf.train.CheckpointManager(checkpoint, os.path.join(self._workdir, BEST), 1)
            return
        for name, variable in self._variables.items():
            self._copies[name].assign(variable.numpy())

    def _write(self, manager, step):
        try:
            manager.save(checkpoint_number=step)
        except (tf.errors.OpError, OSError):
            self._remove_unfinished()
            raise
        if manager is self._newest:
            self._saved = step

    def _remove_unfinished(self):
        """Removes what a save that did not end left behind."""
        for name in (FOLDER, BEST):
            for path in tf.io.gfile.glob(os.path.join(self._workdir, name, f"*{_UNFINISHED}")):
                tf.io.gfile.rmtree(path)

    def are_finite(self) -> bool:
        """Whether every number of the state is finite: a lost network must not replace a good checkpoint."""
        return all(
            bool(tf.reduce_all(tf.math.is_finite(variable.read_value())))
            for variable in self._variables.values()
            if variable.dtype.is_floating
        )


def _step(path: str) -> int:
    return int(path.rpartition("-")[2])


def best_record(workdir: str) -> dict | None:
    """{"step", "metric", "value"} of the best checkpoint of `workdir`, or None."""
    path = os.path.join(workdir, BEST, "info.json")
    return json.loads(read_text(path)) if tf.io.gfile.exists(path) else None


def copy_if_best(workdir: str, path: str, step: int, metric: str, value: float) -> bool:
    """Copies the checkpoint at `path` to the best one's place if `value` of `metric` is above the best so far.

    For an evaluation beside the training, which has the checkpoint's files and not the state. Returns whether it was.
    """
    if not _is_best(workdir, value):
        return False
    folder = os.path.join(workdir, BEST)
    tf.io.gfile.makedirs(folder)
    old = [os.path.join(folder, name) for name in tf.io.gfile.listdir(folder) if name.startswith("ckpt-")]
    new = [os.path.join(folder, os.path.basename(name)) for name in tf.io.gfile.glob(f"{path}.*")]
    for source, target in zip(tf.io.gfile.glob(f"{path}.*"), new, strict=True):
        tf.io.gfile.copy(source, target, overwrite=True)
    tf.compat.v1.train.update_checkpoint_state(folder, os.path.join(folder, os.path.basename(path)))
    _write_best(workdir, step, metric, value)
    for name in set(old) - set(new):
        tf.io.gfile.remove(name)
    return True


def _is_best(workdir: str, value: float) -> bool:
    record = best_record(workdir)
    return record is None or value > record["value"]


def _write_best(workdir: str, step: int, metric: str, value: float) -> None:
    record = {"step": step, "metric": metric, "value": value}
    write_text(os.path.join(workdir, BEST, "info.json"), json.dumps(record) + "\n")
