"""What an experiment's config must satisfy, and its life in the workdir as config.json."""

import json
import os

import keras
import ml_collections
import tensorflow as tf

import convzoo
from convzoo.training.files import read_text, write_text

FILE = "config.json"


class ConfigError(ValueError):
    """A mistake in the experiment or in where it is to run: one line with what is wrong, the value, and what to do."""


_REQUIRED = ("model.name", "data.source", "batch_size", "epochs", "optimizer.learning_rate")
_CHOICES = {
    "precision": ("float32", "mixed_bfloat16"),
    "optimizer.name": ("rmsprop", "sgd"),
    "schedule.name": ("cosine", "linear", "exponential", "constant"),
}
_AT_LEAST = {
    "batch_size": 1,
    "epochs": 0,
    "gradient_accumulation": 1,
    "steps_per_loop": 1,
    "eval_every_epochs": 0,
    "checkpoint_every_epochs": 0,
    "keep_checkpoints": 1,
    "label_smoothing": 0,
    "weight_decay": 0,
    "schedule.warmup_epochs": 0,
    "optimizer.learning_rate": 0,
}
# What may change when a run goes on in its workdir: the result does not depend on it.
_MAY_DIFFER = ("steps_per_loop", "eval_every_epochs", "checkpoint_every_epochs", "keep_checkpoints", "data.data_dir")


def validate(config: ml_collections.ConfigDict, num_replicas: int) -> None:
    """Checks an experiment before anything is built or written.

    Args:
        config: The experiment, with the fields of configs/base.py.
        num_replicas: Devices that share each batch.

    Raises:
        ConfigError: A field is missing, unknown or out of range, or the batch does not divide by the replicas.
    """
    fields = _flatten(config.to_dict())
    for name in (*_REQUIRED, *_CHOICES, *_AT_LEAST):
        if name not in fields:
            raise ConfigError(f"the experiment has no field config.{name}; start it from configs/base.py")
    for name in _REQUIRED:
        if fields.get(name) is None:
            raise ConfigError(f"config.{name} is not set; set it in the config file or with --config.{name}=...")
    for name, choices in _CHOICES.items():
        if fields[name] not in choices:
            raise ConfigError(f"config.{name} is {fields[name]!r}; choose one of {', '.join(choices)}")
    for name, least in _AT_LEAST.items():
        if fields[name] < least:
            raise ConfigError(f"config.{name} is {fields[name]}; it must be at least {least}")
    if config.schedule.warmup_epochs > config.epochs:
        raise ConfigError(
            f"config.schedule.warmup_epochs {config.schedule.warmup_epochs} is longer than the training "
            f"(config.epochs {config.epochs}); shorten the warm-up"
        )
    if not 0 <= (config.ema_decay or 0) < 1:
        raise ConfigError(f"config.ema_decay is {config.ema_decay}; it must lie between 0 and 1")
    for name in ("batch_size", "eval_batch_size"):
        if fields[name] is not None and (fields[name] < 1 or fields[name] % num_replicas):
            raise ConfigError(f"config.{name} {fields[name]} does not divide by {num_replicas} replicas; change one")
    parts = num_replicas * config.gradient_accumulation
    if config.batch_size % parts:
        raise ConfigError(
            f"config.batch_size {config.batch_size} does not divide by {num_replicas} replicas times "
            f"gradient_accumulation {config.gradient_accumulation}; change one of them"
        )


def save(config: ml_collections.ConfigDict, workdir: str) -> None:
    """Writes the resolved experiment to `workdir`, with the versions that began it."""
    record = {
        "convzoo": convzoo.__version__,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "config": config.to_dict(),
    }
    write_text(os.path.join(workdir, FILE), json.dumps(record, indent=2) + "\n")


def load(workdir: str) -> ml_collections.ConfigDict:
    """The experiment that `workdir` holds, locked. Raises ConfigError where there is none or it cannot be read."""
    path = os.path.join(workdir, FILE)
    if not tf.io.gfile.exists(path):
        raise ConfigError(f"{workdir!r} holds no experiment ({FILE} is missing); give the workdir of a training run")
    try:
        return ml_collections.ConfigDict(json.loads(read_text(path))["config"], convert_dict=True).lock()
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is not a convzoo config ({error}); restore it or use another workdir") from error


def claim(config: ml_collections.ConfigDict, workdir: str) -> bool:
    """Makes `workdir` that of `config`. Returns whether it held the same experiment already, so training may go on.

    Raises:
        ConfigError: The workdir holds another experiment; the first differing fields are named.
    """
    if not tf.io.gfile.exists(os.path.join(workdir, FILE)):
        save(config, workdir)
        return False
    before, now = _flatten(load(workdir).to_dict()), _flatten(_as_json(config.to_dict()))
    differing = [
        f"{name} is {before.get(name)!r} there and {now.get(name)!r} here"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name) and name not in _MAY_DIFFER
    ]
    if differing:
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise ConfigError(
            f"{workdir!r} holds another experiment: {'; '.join(differing[:3])}{more}; choose another --workdir"
        )
    return True


def _as_json(tree: dict) -> dict:
    return json.loads(json.dumps(tree))


def _flatten(tree: dict, prefix: str = "") -> dict:
    flat = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat.update(_flatten(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat
