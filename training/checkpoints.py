"""Checkpoints whose variables carry names, so that a wrong one can be told from a right one."""

import json
import os
from typing import Any

import keras
import tensorflow as tf

from convzoo.training.config import ConfigError
from convzoo.training.files import read_text, write_text

FOLDER, BEST = "checkpoints", "best"
_PREFIX, _SUFFIX = "variables/", "/.ATTRIBUTES/VARIABLE_VALUE"


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
        ConfigError: The checkpoint cannot be read, lacks a variable, or has it in another shape; the first are named.
    """
    reader, keys = _open(path)
    shapes = reader.get_variable_to_shape_map()
    found = {name: shapes[key] for name, key in keys.items()}
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
    for name, variable in variables.items():
        variable.assign(reader.get_tensor(keys[name]))


def names(path: str) -> list[str]:
    """Names of the variables in the checkpoint at `path`, as "model/stem_conv/kernel"."""
    return sorted(_open(path)[1])


def _open(path: str) -> tuple[Any, dict[str, str]]:
    """A reader of the checkpoint, and TensorFlow's key of each variable by our name."""
    try:
        reader = tf.train.load_checkpoint(path)
    except (tf.errors.OpError, ValueError, OSError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"cannot read checkpoint {path!r} ({first_line[:160]}); give the path without .index"
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


def best(workdir: str) -> str | None:
    """Path of the best checkpoint of `workdir`, or None."""
    return tf.train.latest_checkpoint(os.path.join(workdir, BEST))


class Checkpoints:
    """The checkpoints of a training run: the newest few, and the one that evaluated best.

    Args:
        workdir: The run's folder, local or gs://.
        variables: All of the run's state by name.
        keep: Newest checkpoints to keep.
    """

    def __init__(self, workdir: str, variables: dict[str, tf.Variable], keep: int):
        self._variables = variables
        checkpoint = tf.train.Checkpoint(variables=variables)
        self._newest = tf.train.CheckpointManager(checkpoint, os.path.join(workdir, FOLDER), keep)
        self._best = tf.train.CheckpointManager(checkpoint, os.path.join(workdir, BEST), 1)
        self._record = os.path.join(workdir, BEST, "info.json")

    def restore_newest(self) -> str | None:
        """Goes on from the newest checkpoint, if there is one; returns its path."""
        path = self._newest.latest_checkpoint
        if path:
            restore(path, self._variables)
        return path

    def save(self, step: int) -> str:
        """Saves the state after `step` steps; returns the path."""
        return self._newest.save(checkpoint_number=step)

    def save_if_best(self, step: int, metric: str, value: float) -> bool:
        """Saves the state as the best one if `value` of `metric` is above the best so far; returns whether it was."""
        record = self.best_record()
        if record is not None and value <= record["value"]:
            return False
        self._best.save(checkpoint_number=step)
        write_text(self._record, json.dumps({"step": step, "metric": metric, "value": value}) + "\n")
        return True

    def best_record(self) -> dict | None:
        """{"step", "metric", "value"} of the best checkpoint, or None."""
        return json.loads(read_text(self._record)) if tf.io.gfile.exists(self._record) else None
