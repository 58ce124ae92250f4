"""Fine-tuning: initial weights, frozen layers, and a lower learning rate for the backbone."""

import dataclasses
import difflib
import fnmatch
import math
import os
from collections.abc import Iterable

import keras
import ml_collections
import tensorflow as tf

from convzoo import models
from convzoo.errors import ConfigError
from convzoo.files import check_no_pattern
from convzoo.models.backbone import load_backbone
from convzoo.models.weights import CLASSIFIER, HEAD_PREFIXES, SUFFIX, head_prefix
from convzoo.training import checkpoints, workdir
from convzoo.training.experiment import model_arguments


@dataclasses.dataclass(frozen=True)
class Initialization:
    """Pretrained weights that a run starts from.

    Attributes:
        path: A `.weights.h5` file or a checkpoint.
        overrides: Builder arguments of the network of these weights, where recorded.
        num_classes: Number of classes of that network; None where not recorded.
    """

    path: str
    overrides: dict
    num_classes: int | None = None


def find_initialization(config: ml_collections.ConfigDict) -> Initialization | None:
    """Finds the weights that `config.init.weights` names; returns None if it is None. Reads metadata only.

    Raises:
        ConfigError: The weights do not exist or belong to another network.
        ModelError: The file is not a weights file.
    """
    if config.init.weights is None:
        return None
    weights = os.path.expanduser(config.init.weights)
    if not weights.endswith(SUFFIX):
        check_no_pattern(weights, "config.init.weights")
    if weights.endswith(SUFFIX):
        path, metadata = weights, models.read_metadata(weights)
    elif workdir.has_config(weights):
        which = "best" if checkpoints.best(weights) else "newest"
        path, metadata = checkpoints.find_checkpoint(weights, which), _run_metadata(weights)
    elif tf.io.gfile.exists(f"{weights.removesuffix('.index')}.index"):
        path = weights.removesuffix(".index")
        folder = os.path.dirname(path)
        is_in_run = os.path.basename(folder) in (checkpoints.NEWEST_FOLDER, checkpoints.BEST_FOLDER)
        metadata = _run_metadata(os.path.dirname(folder)) if is_in_run else {}
    else:
        problem = "is none of these" if tf.io.gfile.exists(weights) else "does not exist"
        raise ConfigError(
            f"config.init.weights={weights!r} {problem}; give a {SUFFIX} file, the workdir of a run or a checkpoint"
        )
    if metadata and metadata["model"] != config.model.name:
        raise ConfigError(
            f"config.init.weights={weights!r} belongs to {metadata['model']!r} and config.model.name is "
            f"{config.model.name!r}; change one"
        )
    return Initialization(path, metadata.get("overrides", {}), metadata.get("num_classes"))


def _run_metadata(folder):
    """Returns network and builder arguments of the run in `folder`, {} where there is no run."""
    if not workdir.has_config(folder):
        return {}
    config = workdir.load_config(folder)
    return {"model": config.model.name, "overrides": model_arguments(config)}


def with_overrides(config: ml_collections.ConfigDict, overrides: dict) -> tuple[ml_collections.ConfigDict, dict]:
    """Adds those of `overrides` that `config.model.overrides` and `config.model.operator` do not set.

    Args:
        config: The experiment.
        overrides: Arguments of the network's builder. Those under "operator" are left out if the config names another
            operator.

    Returns:
        A locked copy of the config, and the added overrides.
    """
    recorded = dict(overrides)
    operator, own = recorded.pop("operator", {}), config.model.operator
    if own.get("name") not in (None, operator.get("name")):
        operator = {}
    added = {name: value for name, value in recorded.items() if name not in config.model.overrides}
    added_to_operator = {name: value for name, value in operator.items() if name not in own}
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.model.overrides.update(added)
        config.model.operator.update(added_to_operator)
    return config.lock(), {**added, "operator": added_to_operator} if added_to_operator else added


def load(initialization: Initialization, model: keras.Model, num_classes: int, new_classifier: bool) -> str:
    """Loads pretrained weights into `model`.

    The classifier keeps its random initialization if `new_classifier` is set or if the weights have another number of
    classes. In a segmenter or detector, the last layers do, or all after the backbone if the weights belong to a
    classifier.

    Args:
        initialization: The weights.
        model: The network.
        num_classes: Number of classes of the network.
        new_classifier: Whether to start a new classifier in any case.

    Returns:
        A message about what was loaded.

    Raises:
        ConfigError: A checkpoint does not fit; the message names the first differing variables.
        ModelError: A file does not fit.
    """
    source = initialization.path
    has_head = head_prefix(model) != CLASSIFIER
    if source.endswith(SUFFIX) and has_head:
        skipped = load_backbone(model, source)
    elif source.endswith(SUFFIX):
        new_classifier = new_classifier or initialization.num_classes not in (None, num_classes)
        skipped = models.load_weights(model, source, new_classifier=new_classifier)
    else:
        saved = checkpoints.shapes(source)
        classifier = [weight for weight in model.weights if is_classifier(weight)]
        skipped = [
            weight.path for weight in classifier if list(saved.get(f"model/{weight.path}", ())) != list(weight.shape)
        ]
        if new_classifier or (skipped and not has_head):
            skipped = [weight.path for weight in classifier]
        kind, step = checkpoints.restore_weights(source, model, skip=skipped)
        source = f"{source} (step {step}, {kind} weights)"
    loaded = f"loaded {len(model.weights) - len(skipped)} weights from {source}"
    return f"{loaded}; randomly initialized: {', '.join(skipped)}" if skipped else loaded


def is_classifier(weight: keras.Variable) -> bool:
    """Returns whether `weight` belongs to the classifier, its routing included, or follows the backbone."""
    return weight.path.startswith((CLASSIFIER, *HEAD_PREFIXES.values()))


def freeze(model: keras.Model, patterns: tuple[str, ...]) -> dict[str, int]:
    """Makes the layers whose names match a pattern untrainable, BatchNorm statistics included.

    Args:
        model: The network.
        patterns: Shell patterns such as "stem_*" and "block[0-3]_*".

    Returns:
        The number of parameters of each frozen layer by name; layers without weights are left out.

    Raises:
        ConfigError: A pattern matches no layer with weights, or no trainable weight remains.
    """
    names = [layer.name for layer in model.layers if layer.weights]
    matched = {
        name
        for pattern in patterns
        for name in _matches(pattern, names, "config.init.freeze", f"layer with weights of {model.name}")
    }
    matched = [name for name in names if name in matched]
    frozen = {name: _num_parameters(model.get_layer(name).trainable_weights) for name in matched}
    for name in frozen:
        model.get_layer(name).trainable = False
    if not model.trainable_weights:
        raise ConfigError(f"config.init.freeze={tuple(patterns)} freezes all layers of {model.name}; freeze fewer")
    return frozen


def scale_learning_rates(
    optimizer: keras.optimizers.Optimizer, model: keras.Model, config: ml_collections.ConfigDict
) -> None:
    """Applies `config.optimizer.lr_multipliers` and `config.init.backbone_lr_multiplier` to a built optimizer.

    Raises:
        ConfigError: A pattern matches no trainable weight.
    """
    factors = multipliers(model, config.optimizer.lr_multipliers, "config.optimizer.lr_multipliers")
    for weight in model.trainable_weights:
        optimizer.scale_learning_rate([weight], factors[weight.path])
    backbone = [weight for weight in model.trainable_weights if not is_classifier(weight)]
    optimizer.scale_learning_rate(backbone, config.init.backbone_lr_multiplier)


def multipliers(model: keras.Model, pairs: Iterable[tuple[str, float]], field: str) -> dict[str, float]:
    """Returns the product of the factors of all patterns that match a trainable weight, by path.

    Args:
        model: The network.
        pairs: Shell patterns of paths, and their factors.
        field: Name of the config's field, for messages.

    Raises:
        ConfigError: A pattern matches no trainable weight.
    """
    factors = {weight.path: 1.0 for weight in model.trainable_weights}
    for pattern, factor in pairs:
        for path in _matches(pattern, list(factors), field, f"trainable weight of {model.name}"):
            factors[path] *= factor
    return factors


def _matches(pattern, names, field, kind):
    """Returns the names that match a shell pattern. Raises ConfigError if there are none."""
    matched = fnmatch.filter(names, pattern)
    if not matched:
        nearest = difflib.get_close_matches(pattern, names, n=3, cutoff=0.0)
        raise ConfigError(f"{field}: {pattern!r} matches no {kind}; similar names: {', '.join(nearest)}")
    return matched


def describe(model: keras.Model, frozen: dict[str, int], backbone_lr_multiplier: float) -> str:
    """Describes which parameters are trained at which learning rate; "" if all are trained at one rate."""
    if not frozen and backbone_lr_multiplier == 1.0:
        return ""
    trained = _num_parameters(model.trainable_weights)
    text = f"training {trained:,} of {trained + sum(frozen.values()):,} parameters"
    if backbone_lr_multiplier != 1.0:
        classifier = head_prefix(model) + "*" * (head_prefix(model) != CLASSIFIER)
        text += f", all but {classifier} at {backbone_lr_multiplier:.3g} of the learning rate"
    if frozen:
        more = f" and {len(frozen) - 6} more" if len(frozen) > 6 else ""
        text += f"; frozen: {', '.join(list(frozen)[:6])}{more}"
    return text


def _num_parameters(weights):
    return sum(math.prod(weight.shape) for weight in weights)
