"""Reading checkpoints: their variables have names, so that the checkpoint of another network is recognized."""

import json
import math
import os
import re
from collections.abc import Collection
from typing import Any

import keras
import tensorflow as tf

from convzoo import models
from convzoo.errors import ConfigError, first_line
from convzoo.files import check_no_pattern, read_text, write_text
from convzoo.models.weights import SUFFIX

NEWEST_FOLDER, BEST_FOLDER = "checkpoints", "best"
_INDEX_FILE = re.compile(r"ckpt-(\d+)\.index")
_KEY_PREFIX, _KEY_SUFFIX = "variables/", "/.ATTRIBUTES/VARIABLE_VALUE"


class CorruptCheckpointError(ConfigError):
    """The files of a checkpoint are incomplete or cannot be read."""


def model_variables(model: keras.Model) -> dict[str, tf.Variable]:
    """Returns all variables of `model`: weights by path, random generator states as "LAYER/seed_generator"."""
    variables = {weight.path: weight.value for weight in model.weights}
    for layer in model.layers:
        if isinstance(getattr(layer, "seed_generator", None), keras.random.SeedGenerator):
            variables[f"{layer.name}/seed_generator"] = layer.seed_generator.state.value
    return variables


def prefixed(prefix: str, variables: dict[str, tf.Variable]) -> dict[str, tf.Variable]:
    """Returns `variables` with "PREFIX/" in front of every name."""
    return {f"{prefix}/{name}": variable for name, variable in variables.items()}


def restore(path: str, variables: dict[str, tf.Variable]) -> None:
    """Assigns the values in the checkpoint at `path` to `variables`, by name. Other values in it are ignored.

    Raises:
        CorruptCheckpointError: Its files cannot be read. No variable has changed.
        ConfigError: A variable is missing or has another shape; the message names the first ones.
    """
    reader, keys = _open(path)
    shapes_by_key = reader.get_variable_to_shape_map()
    saved_shapes = {name: shapes_by_key[key] for name, key in keys.items()}
    missing = [f"{name} is missing" for name in variables if name not in saved_shapes]
    mismatched = [
        f"{name} has shape {saved_shapes[name]} in the checkpoint and {variable.shape.as_list()} in the network"
        for name, variable in variables.items()
        if name in saved_shapes and saved_shapes[name] != variable.shape.as_list()
    ]
    if missing or mismatched:
        raise ConfigError(
            f"checkpoint {path!r} belongs to another network: {len(missing)} of {len(variables)} variables are missing "
            f"and {len(mismatched)} have another shape ({'; '.join(missing[:2] + mismatched[:2])})"
        )
    try:
        # All values are read before the first is assigned, so that a corrupt file leaves the network unchanged.
        values = {name: reader.get_tensor(keys[name]) for name in variables}
    except (tf.errors.OpError, ValueError, IndexError) as error:
        raise CorruptCheckpointError(
            f"checkpoint {path!r} is corrupt ({first_line(error)}); use another one"
        ) from error
    for name, variable in variables.items():
        variable.assign(values[name])


def shapes(path: str) -> dict[str, list[int]]:
    """Returns the shapes of the variables in the checkpoint at `path` by name, such as "model/stem_conv/kernel"."""
    reader, keys = _open(path)
    shapes_by_key = reader.get_variable_to_shape_map()
    return {name: shapes_by_key[key] for name, key in sorted(keys.items())}


def _open(path: str) -> tuple[Any, dict[str, str]]:
    """Returns a reader of the checkpoint, and TensorFlow's key of each variable by name."""
    try:
        reader = tf.train.load_checkpoint(path)
    except (tf.errors.OpError, ValueError, OSError) as error:
        raise CorruptCheckpointError(
            f"cannot read checkpoint {path!r} ({first_line(error)}); give the path of a complete one, without .index"
        ) from error
    # TensorFlow writes a slash inside a name as ".S".
    return reader, {
        key.removeprefix(_KEY_PREFIX).removesuffix(_KEY_SUFFIX).replace(".S", "/"): key
        for key in reader.get_variable_to_shape_map()
        if key.startswith(_KEY_PREFIX)
    }


def newest(workdir: str) -> str | None:
    """Returns the path of the newest checkpoint of `workdir`, or None."""
    return next(reversed(list_checkpoints(workdir)), None)


def best(workdir: str) -> str | None:
    """Returns the path of the best checkpoint of `workdir`, or None.

    While training replaces it, there are two; the one that info.json names is complete.
    """
    paths = list_checkpoints(workdir, BEST_FOLDER)
    try:
        info = read_best_info(workdir)
    except ConfigError:  # damaged; the checkpoint itself need not be
        info = None
    named = [path for path in paths if info and step_of(path) == info["step"]]
    return next(reversed(named or paths), None)


def list_checkpoints(workdir: str, folder: str = NEWEST_FOLDER) -> list[str]:
    """Returns the paths of the checkpoints in a folder of `workdir`, oldest first; corrupt ones are included.

    A checkpoint is known by its index file, which TensorFlow writes last. TensorFlow's own list of them, the file
    "checkpoint", can be lost or out of date and is not read.
    """
    folder = os.path.join(workdir, folder)
    if not tf.io.gfile.isdir(folder):
        return []
    steps = [int(match[1]) for name in tf.io.gfile.listdir(folder) if (match := _INDEX_FILE.fullmatch(name))]
    return [os.path.join(folder, f"ckpt-{step}") for step in sorted(steps)]


def files_of(path: str) -> list[str]:
    """Returns the paths of the files of the checkpoint at `path`, that of its index first."""
    folder, name = os.path.split(path)
    names = [entry for entry in tf.io.gfile.listdir(folder) if entry.startswith((f"{name}.index", f"{name}.data-"))]
    return [os.path.join(folder, entry) for entry in sorted(names, reverse=True)]


def remove(path: str) -> None:
    """Removes the checkpoint at `path`. Interrupted, it leaves files that `list_checkpoints` does not take for one."""
    for file in files_of(path):
        tf.io.gfile.remove(file)


def step_of(path: str) -> int:
    """Returns the training step in the name of a checkpoint."""
    return int(path.rpartition("-")[2])


def find_checkpoint(workdir: str | None, which: str) -> str:
    """Returns the path of a checkpoint or of a `.weights.h5` file.

    Args:
        workdir: Folder of the run.
        which: "newest" or "best" for a checkpoint of `workdir`, or a path.

    Raises:
        ConfigError: The checkpoint does not exist.
    """
    if which in ("newest", "best"):
        path = newest(workdir) if which == "newest" else best(workdir)
        if path is None:
            raise ConfigError(f"workdir {workdir!r} has no {which} checkpoint; train it first")
        return path
    if which.endswith(SUFFIX):
        return which
    check_no_pattern(which, "--checkpoint")
    path = which.removesuffix(".index")
    if not tf.io.gfile.exists(f"{path}.index"):
        raise ConfigError(f"checkpoint {which!r} does not exist; give newest, best or the path of a checkpoint")
    return path


def restore_weights(
    path: str, model: keras.Model, kind: str = "auto", skip: Collection[str] = ()
) -> tuple[str, int | None]:
    """Loads the weights of a network from a checkpoint or a `.weights.h5` file.

    Args:
        path: The checkpoint or file.
        model: The network, as `experiment.build_model` builds it.
        kind: "ema" for the moving average, "raw" for the trained weights, "auto" for the moving average if saved.
        skip: Paths of weights to leave unchanged.

    Returns:
        "ema" or "raw", and the training step of the checkpoint; "file" and None for a file.

    Raises:
        ConfigError: The checkpoint cannot be read, belongs to another network, or has no moving average.
        ModelError: The file cannot be read or belongs to another network.
    """
    if path.endswith(SUFFIX):
        if kind != "auto":
            raise ConfigError(f"{path!r} contains one kind of weights; leave out --weights={kind}")
        num_classes = models.read_metadata(path).get("num_classes")
        if num_classes not in (None, model.output_shape[-1]):
            raise ConfigError(
                f"weights {path!r} are for {num_classes} classes and the data has {model.output_shape[-1]}; use data "
                f"with {num_classes} classes"
            )
        models.load_weights(model, path)
        return "file", None
    has_ema = any(name.startswith("ema/") for name in shapes(path))
    if kind == "ema" and not has_ema:
        raise ConfigError(f"checkpoint {path!r} has no moving average; use --weights=raw")
    kind = ("ema" if has_ema else "raw") if kind == "auto" else kind
    weights = {weight.path: weight.value for weight in model.weights if weight.path not in skip}
    step = tf.Variable(0, dtype=tf.int32, trainable=False)
    restore(path, {**prefixed("ema" if kind == "ema" else "model", weights), "optimizer/iteration": step})
    return kind, int(step.numpy())


def load(workdir: str | None, which: str, model: keras.Model, kind: str = "auto") -> tuple[str, str, int | None]:
    """Finds a checkpoint and loads its weights, again if a running training has replaced it meanwhile.

    Args:
        workdir, which: As for `find_checkpoint`.
        model, kind: As for `restore_weights`.

    Returns:
        The path, and what `restore_weights` returns.
    """
    while True:
        path = find_checkpoint(workdir, which)
        try:
            return path, *restore_weights(path, model, kind)
        except CorruptCheckpointError:
            if find_checkpoint(workdir, which) == path:
                raise


def read_best_info(workdir: str) -> dict | None:
    """Returns {"step", "metric", "value"} of the best checkpoint of `workdir`, or None.

    Raises:
        ConfigError: info.json is damaged. Without it, nobody knows whether another checkpoint is better.
    """
    path = os.path.join(workdir, BEST_FOLDER, "info.json")
    if not tf.io.gfile.exists(path):
        return None
    try:
        info = json.loads(read_text(path))
        info = {"step": int(info["step"]), "metric": str(info["metric"]), "value": float(info["value"])}
        if not math.isfinite(info["value"]):
            raise ValueError(f"value is {info['value']}")
        return info
    except (ValueError, KeyError, TypeError, ArithmeticError, RecursionError, OSError, tf.errors.OpError) as error:
        raise ConfigError(
            f"{path} is damaged ({first_line(error)}); restore it, or remove it to let the next evaluation be the best"
        ) from error


def is_best(workdir: str, value: float) -> bool:
    """Returns whether `value` is higher than the metric of the best checkpoint so far."""
    info = read_best_info(workdir)
    return info is None or value > info["value"]


def write_best_info(workdir: str, step: int, metric: str, value: float) -> None:
    """Writes what `read_best_info` returns."""
    info = {"step": step, "metric": metric, "value": value}
    write_text(os.path.join(workdir, BEST_FOLDER, "info.json"), json.dumps(info) + "\n")


def copy_if_best(workdir: str, path: str, step: int, metric: str, value: float) -> bool:
    """Copies the checkpoint at `path` to the folder of the best one if `value` is the highest so far.

    An evaluation that runs beside the training uses this: it has the files and not the state.

    Returns:
        Whether the checkpoint is the best one.
    """
    if not is_best(workdir, value):
        return False
    folder = os.path.join(workdir, BEST_FOLDER)
    tf.io.gfile.makedirs(folder)
    for file in reversed(files_of(path)):  # the index last
        tf.io.gfile.copy(file, os.path.join(folder, os.path.basename(file)), overwrite=True)
    write_best_info(workdir, step, metric, value)
    keep_newest(folder, step, 1)
    return True


def keep_newest(folder: str, step: int, count: int) -> None:
    """Removes the checkpoints in `folder` before that of `step`, except the newest `count` with it.

    Those of later steps are left alone: they are corrupt, and the run will replace them. TensorFlow's list of the
    checkpoints is written for others who read it.
    """
    paths = [path for path in list_checkpoints("", folder) if step_of(path) <= step]
    names = [os.path.basename(path) for path in paths[-count:]]
    lines = [f'model_checkpoint_path: "{names[-1]}"', *(f'all_model_checkpoint_paths: "{name}"' for name in names)]
    write_text(os.path.join(folder, "checkpoint"), "\n".join(lines) + "\n")
    for path in paths[:-count]:
        remove(path)
