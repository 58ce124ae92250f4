"""The step that a TPU would run, as XLA's HLO."""

import dataclasses
import re
from collections.abc import Callable

import keras
import ml_collections
import tensorflow as tf

from convzoo import layers
from convzoo.training import experiment, tasks
from convzoo.training.config import ConfigError
from convzoo.training.evaluation import Evaluator
from convzoo.training.optimizers import make_schedule
from convzoo.training.replica import build_replica

STEPS = ("train", "eval", "serve")
_NODE = re.compile(r"\{\{node ([^}]*)\}\}")
_UNSUPPORTED = re.compile(r"on (XLA_\w+): (\w+) \(.*?\{\{node ([^}]*)\}\}", re.DOTALL)
# What TensorFlow and Keras raise while they trace or lower a step.
REFUSALS = (tf.errors.OpError, ValueError, TypeError, LookupError, NotImplementedError)


class NotForTPUError(ConfigError):
    """The step has an operation that no TPU runs; the operation and where it stands are named."""


@dataclasses.dataclass(frozen=True)
class Lowered:
    """A step before it is compiled.

    Attributes:
        hlo: The serialised module.
        network: The network's name.
        layers: Names of its layers.
        sizes: Bytes of what the step keeps between two calls: "weights", "optimizer" and "average".
    """

    hlo: bytes
    network: str
    layers: list[str]
    sizes: dict[str, int]


def lower(config: ml_collections.ConfigDict, num_classes: int, batch_size: int, what: str = "train") -> Lowered:
    """Lowers the step of an experiment as one chip would run it, sums over chips left out.

    Args:
        config: The experiment; its own batch size is not looked at.
        num_classes: Of its data.
        batch_size: Examples on the chip.
        what: "train" for a whole training step, "eval" for one of evaluation, "serve" for the network alone.

    Raises:
        NotForTPUError: An operation cannot run on a TPU.
        ConfigError: The batch does not divide into the parts of gradient accumulation.
        models.ModelError: The network cannot be built.
    """
    if what == "train" and batch_size % config.gradient_accumulation:
        raise ConfigError(
            f"batch {batch_size} does not divide by config.gradient_accumulation {config.gradient_accumulation}; "
            "change one of them"
        )
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.batch_size = batch_size
    task, before = tasks.of(config), layers.get_target()
    layers.set_target("tpu")
    try:
        height, width = experiment.input_settings(config)["image_size"]
        image = tf.TensorSpec((batch_size, height, width, 3), tf.float32, "image")
        if what == "train" and experiment.augmentation(config).mixes:
            label = tf.TensorSpec((batch_size, num_classes), tf.float32, "label")
        else:
            label = tf.TensorSpec((batch_size, height, width) if task.has_maps else (batch_size,), tf.int32, "label")
        mask = tf.TensorSpec((batch_size,), tf.float32, "mask")
        kept = {}
        if what == "train":
            # The rate is looked up in the step: how long the training lasts does not matter.
            replica = build_replica(config, num_classes, make_schedule(config, 1000, 100))
            model, optimizer, average = replica.model, replica.optimizer, replica.average
            kept["optimizer"] = _bytes(variable.value for variable in optimizer.variables)
            kept["average"] = _bytes(average.variables.values() if average else ())
            hlo = lower_step(lambda image, label: replica.step({"image": image, "label": label}), image, label)
        else:
            model = experiment.build_model(config, num_classes)
            if what == "eval":
                step = Evaluator(model, tf.distribute.get_strategy(), task).step
                hlo = lower_step(
                    lambda image, label, mask: step({"image": image, "label": label, "mask": mask}), image, label, mask
                )
            else:
                hlo = lower_step(lambda images: model(images, training=False), image)
    finally:
        layers.set_target(before)
    sizes = {"weights": _bytes(weight.value for weight in model.weights), **kept}
    return Lowered(hlo, model.name, _layer_names(model), sizes)


def lower_step(step: Callable, *specs: tf.TensorSpec) -> bytes:
    """A function of tensors as a serialised HLO module. Raises NotForTPUError if XLA cannot take it."""
    function = tf.function(step, jit_compile=True)
    try:
        return function.experimental_get_compiler_ir(*specs)(stage="hlo_serialized")
    except REFUSALS as error:
        raise NotForTPUError(refusal(error)) from error


def refusal(error: Exception) -> str:
    """What XLA refused, a line: the operation and where it stands, if TensorFlow's error tells."""
    text = re.sub(r"\x1b\[\d*m", "", str(error)).removeprefix("Failed getting HLO text: '")
    if found := _UNSUPPORTED.search(text):
        device, operation, node = found.groups()
        who = "TensorFlow has no TPU kernel for" if device == "XLA_TPU_JIT" else "XLA cannot compile"
        return f"{who} {operation}, used at {node}"
    if "variable.var()" in text:
        return "XLA cannot take the step: it uses a resource that is no variable with a value, a lookup table perhaps"
    said = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    if said[0].startswith("Exception encountered when calling") and len(said) > 1:
        what = f"{said[1]} ({said[0].rstrip('.')})"
    else:
        what = said[-1] if said[0].startswith("in user code") else said[0]
    node = _NODE.search(text)
    where = f", at {node[1]}" if node and node[1] not in what else ""
    return f"XLA cannot take the step: {what[:300].rstrip('.')}{where}"


def _layer_names(model):
    names = []
    for layer in model.layers:
        names.append(layer.name)
        if isinstance(layer, keras.Model):
            names += _layer_names(layer)
    return names


def _bytes(variables):
    return sum(variable.shape.num_elements() * variable.dtype.size for variable in variables)
