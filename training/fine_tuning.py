"""Fine-tuning: the weights that a run starts from, the layers that keep them, the layers that learn more slowly."""

import dataclasses
import difflib
import fnmatch
import math
import os

import keras
import ml_collections
import tensorflow as tf

from convzoo import models
from convzoo.models import segmentation
from convzoo.models.weights import HEAD, SUFFIX
from convzoo.training import assessment, checkpoints
from convzoo.training import config as experiment_config
from convzoo.training.config import ConfigError


@dataclasses.dataclass(frozen=True)
class Start:
    """What a run starts from instead of chance.

    Attributes:
        path: A file of weights or a checkpoint.
        overrides: Of the network that the weights belong to, as far as it is recorded.
        num_classes: Of that network; None where it is not recorded.
    """

    path: str
    overrides: dict
    num_classes: int | None = None


def find_start(config: ml_collections.ConfigDict) -> Start | None:
    """What `config.init.weights` names, or None where it is not set. Nothing but records is read.

    Raises:
        ConfigError, models.ModelError: There is nothing of the kind, or it is of another network.
    """
    weights = config.init.weights
    if weights is None:
        return None
    if weights.endswith(SUFFIX):
        path, record = weights, models.read_record(weights)
    elif tf.io.gfile.exists(os.path.join(weights, experiment_config.FILE)):
        which = "best" if checkpoints.best(weights) else "newest"
        path, record = assessment.find_checkpoint(weights, which), _record_of_run(weights)
    elif tf.io.gfile.exists(f"{weights.removesuffix('.index')}.index"):
        path = weights.removesuffix(".index")
        folder = os.path.dirname(path)
        in_run = os.path.basename(folder) in (checkpoints.FOLDER, checkpoints.BEST)
        record = _record_of_run(os.path.dirname(folder)) if in_run else {}
    else:
        found = "is none of these" if tf.io.gfile.exists(weights) else "is not there"
        raise ConfigError(
            f"config.init.weights {weights!r} {found}; give a {SUFFIX} file, the workdir of a run or a checkpoint"
        )
    if record and record["model"] != config.model.name:
        raise ConfigError(
            f"config.init.weights {weights!r} are of {record['model']!r} and config.model.name is "
            f"{config.model.name!r}; change one"
        )
    return Start(path, record.get("overrides", {}), record.get("num_classes"))


def _record_of_run(workdir):
    if not tf.io.gfile.exists(os.path.join(workdir, experiment_config.FILE)):
        return {}
    config = experiment_config.load(workdir)
    return {"model": config.model.name, "overrides": config.model.overrides.to_dict()}


def with_overrides(config: ml_collections.ConfigDict, overrides: dict) -> tuple[ml_collections.ConfigDict, dict]:
    """A copy of the experiment that takes over those of `overrides` that it does not set itself, and what it took."""
    taken = {name: value for name, value in overrides.items() if name not in config.model.overrides}
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.model.overrides.update(taken)
    return config.lock(), taken


def load(start: Start, model: keras.Model, num_classes: int, new_head: bool) -> str:
    """Gives `model` the weights of `start`, and leaves the classifier as it is where it is to be new or must be.

    Args:
        start: What to load.
        model: The network.
        num_classes: Its classes. Where the weights have others, the classifier is left too; of a segmenter the last
            layer, or all behind the backbone if the weights are a classifier's.
        new_head: Whether to leave the classifier in any case.

    Returns:
        What was loaded and what was left, for people.

    Raises:
        ConfigError, models.ModelError: The weights do not fit; the first that differ are named.
    """
    if start.path.endswith(SUFFIX) and segmentation.is_segmenter(model):
        left, origin = segmentation.load_backbone(model, start.path), start.path
    elif start.path.endswith(SUFFIX):
        new_head = new_head or start.num_classes not in (None, num_classes)
        left = models.load_weights(model, start.path, new_head=new_head)
        origin = start.path
    else:
        # What the checkpoint has not, or for another number of classes.
        there = checkpoints.shapes(start.path)
        head = [weight for weight in model.weights if is_head(weight)]
        left = [weight.path for weight in head if list(there.get(f"model/{weight.path}", ())) != list(weight.shape)]
        if new_head or (left and not segmentation.is_segmenter(model)):
            left = [weight.path for weight in head]
        kind, step = assessment.restore_weights(start.path, model, leave=left)
        origin = f"{start.path} (step {step}, {kind} weights)"
    loaded = len(model.weights) - len(left)
    return f"loaded {loaded} weights from {origin}" + (f"; {', '.join(left)} started anew" if left else "")


def is_head(weight: keras.Variable) -> bool:
    """Whether `weight` belongs to the classifier, its routing included, or to what a segmenter has in its place."""
    return weight.path.startswith((HEAD, segmentation.HEAD))


def freeze(model: keras.Model, patterns: tuple[str, ...]) -> dict[str, int]:
    """Sets the layers whose names match a pattern to keep their weights, and batch normalisation its statistics.

    Args:
        model: The network.
        patterns: As the shell has them: "stem_*", "block[0-3]_*".

    Returns:
        The names of these layers and the parameters of each; layers without weights are left out.

    Raises:
        ConfigError: A pattern matches no layer with weights, or nothing is left to train.
    """
    names = [layer.name for layer in model.layers if layer.weights]
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.0)
            raise ConfigError(
                f"config.init.freeze: {pattern!r} matches no layer with weights of {model.name}; nearest: "
                f"{', '.join(near)}"
            )
    matched = [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
    frozen = {name: _size(model.get_layer(name).trainable_weights) for name in matched}
    for name in frozen:
        model.get_layer(name).trainable = False
    if not model.trainable_weights:
        raise ConfigError(f"config.init.freeze {tuple(patterns)} leaves no layer of {model.name} to train; take less")
    return frozen


def describe(model: keras.Model, frozen: dict[str, int], body_rate: float) -> str:
    """Which part of `model` is trained and how, for people; "" where it is all of it at one rate."""
    if not frozen and body_rate == 1.0:
        return ""
    trained = _size(model.trainable_weights)
    text = f"{trained:,} of {trained + sum(frozen.values()):,} parameters are trained"
    if body_rate != 1.0:
        head = f"{segmentation.HEAD}*" if segmentation.is_segmenter(model) else HEAD
        text += f", those outside {head} at {body_rate:.3g} of the learning rate"
    if frozen:
        more = f" and {len(frozen) - 6} more" if len(frozen) > 6 else ""
        text += f"; frozen: {', '.join(list(frozen)[:6])}{more}"
    return text


def _size(weights):
    return sum(math.prod(weight.shape) for weight in weights)
