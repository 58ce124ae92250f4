"""Lowers the step of an experiment to XLA's HLO, as a TPU would run it."""

import dataclasses
import functools
import re
from collections.abc import Callable

import keras
import ml_collections
import tensorflow as tf

from convzoo import layers
from convzoo.errors import ConfigError
from convzoo.tasks import get_task
from convzoo.training import experiment
from convzoo.training.evaluation import Evaluator
from convzoo.training.schedules import make_schedule
from convzoo.training.state import build_train_state
from convzoo.training.train_step import step_settings, train_step

_BOXES = 100  # slots for boxes of an image
_NODE = re.compile(r"\{\{node ([^}]*)\}\}")
_UNSUPPORTED = re.compile(r"on (XLA_\w+): (\w+) \(.*?\{\{node ([^}]*)\}\}", re.DOTALL)
# Errors that TensorFlow and Keras raise while they trace or lower a step.
LOWERING_ERRORS = (tf.errors.OpError, ValueError, TypeError, LookupError, NotImplementedError)


class NotForTPUError(ConfigError):
    """The step contains an operation that no TPU runs; the message names the operation and its layer."""


@dataclasses.dataclass(frozen=True)
class LoweredStep:
    """A step before compilation.

    Attributes:
        hlo: The serialized HLO module.
        network: Name of the network.
        layers: Names of its layers.
        state_bytes: Bytes of the variables that the step keeps between calls: "weights", and for training "optimizer"
            and "ema".
    """

    hlo: bytes
    network: str
    layers: list[str]
    state_bytes: dict[str, int]


def lower(config: ml_collections.ConfigDict, num_classes: int, batch_size: int, mode: str = "train") -> LoweredStep:
    """Lowers the step of an experiment for one chip, without collective operations.

    Args:
        config: The experiment; `batch_size` replaces its batch size.
        num_classes: Number of classes of the data.
        batch_size: Examples per chip.
        mode: "train" for a training step, "eval" for an evaluation step, "serve" for the forward pass.

    Raises:
        NotForTPUError: An operation cannot run on a TPU.
        ConfigError: The batch is not divisible by the number of accumulation steps.
        ModelError: The network cannot be built.
    """
    if mode == "train" and batch_size % config.gradient_accumulation_steps:
        raise ConfigError(
            f"batch {batch_size} is not divisible by config.gradient_accumulation_steps="
            f"{config.gradient_accumulation_steps}; change one of them"
        )
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.batch_size = batch_size
    task, previous_target = get_task(config), layers.get_target()
    layers.set_target("tpu")
    try:
        settings = experiment.metric_settings(config) if mode == "eval" else experiment.input_settings(config)
        height, width = settings["image_size"]
        image = tf.TensorSpec((batch_size, height, width, 3), tf.float32, "image")
        if mode == "train" and experiment.augmentation(config).mixes:
            label = tf.TensorSpec((batch_size, num_classes), tf.float32, "label")
        else:
            label = _label_spec(task.label_kind, batch_size, (height, width), mode, settings.get("label_size"))
        mask = tf.TensorSpec((batch_size,), tf.float32, "mask")
        state_bytes = {}
        if mode == "train":
            # The step computes the learning rate from the step number; the length of the schedule does not matter.
            state = build_train_state(config, num_classes, make_schedule(config, 1000, 100))
            model = state.model
            state_bytes["optimizer"] = _bytes(variable.value for variable in state.optimizer.variables)
            state_bytes["ema"] = _bytes(state.ema.variables.values() if state.ema else ())
            step = functools.partial(train_step, state, **step_settings(config, task))
            hlo = lower_step(lambda image, label: step({"image": image, "label": label}), image, label)
        else:
            model = experiment.build_model(config, num_classes)
            if mode == "eval":
                step = Evaluator(model, tf.distribute.get_strategy(), task).step
                hlo = lower_step(
                    lambda image, label, mask: step({"image": image, "label": label, "mask": mask}), image, label, mask
                )
            else:
                hlo = lower_step(lambda images: model(images, training=False), image)
    finally:
        layers.set_target(previous_target)
    state_bytes = {"weights": _bytes(weight.value for weight in model.weights), **state_bytes}
    return LoweredStep(hlo, model.name, _layer_names(model), state_bytes)


def _label_spec(kind, batch_size, image_size, mode, label_size=None):
    """Returns the specs of a batch of labels, see `convzoo.data.eval_dataset`."""
    if label_size is not None:
        shapes = {"map": label_size, "size": (2,)}
        return {name: tf.TensorSpec((batch_size, *shape), tf.int32, name) for name, shape in shapes.items()}
    if kind != "boxes":
        return tf.TensorSpec((batch_size, *(image_size if kind == "map" else ())), tf.int32, "label")
    shapes = {"boxes": (_BOXES, 4), "classes": (_BOXES,), "count": ()}
    if mode == "eval":
        shapes |= {"num_crowds": (), "areas": (_BOXES,), "size": (2,)}
    dtypes = {name: tf.float32 if name in ("boxes", "areas") else tf.int32 for name in shapes}
    return {name: tf.TensorSpec((batch_size, *shape), dtypes[name], name) for name, shape in shapes.items()}


def lower_step(step: Callable, *specs: tf.TensorSpec | dict[str, tf.TensorSpec]) -> bytes:
    """Lowers a function of tensors to a serialized HLO module.

    Args:
        step: A function of tensors; it may capture variables.
        *specs: Static shapes and dtypes of its arguments, some of which may be dicts of tensors.

    Raises:
        NotForTPUError: XLA cannot lower the function.
    """
    function = tf.function(lambda *tensors: step(*tf.nest.pack_sequence_as(specs, tensors)), jit_compile=True)
    try:
        return function.experimental_get_compiler_ir(*tf.nest.flatten(specs))(stage="hlo_serialized")
    except LOWERING_ERRORS as error:
        raise NotForTPUError(describe_lowering_error(error)) from error


def describe_lowering_error(error: Exception) -> str:
    """Returns one line that names the operation that XLA rejected and its node, if the error contains them."""
    text = re.sub(r"\x1b\[\d*m", "", str(error)).removeprefix("Failed getting HLO text: '")
    if match := _UNSUPPORTED.search(text):
        device, operation, node = match.groups()
        reason = "TensorFlow has no TPU kernel for" if device == "XLA_TPU_JIT" else "XLA cannot compile"
        return f"{reason} {operation}, used at {node}"
    if "variable.var()" in text:
        return "XLA cannot lower the step: it uses a resource other than a variable, such as a lookup table"
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    if lines[0].startswith("Exception encountered when calling") and len(lines) > 1:
        message = f"{lines[1]} ({lines[0].rstrip('.')})"
    else:
        message = lines[-1] if lines[0].startswith("in user code") else lines[0]
    node = _NODE.search(text)
    suffix = f", at {node[1]}" if node and node[1] not in message else ""
    return f"XLA cannot lower the step: {message[:300].rstrip('.')}{suffix}"


def _layer_names(model):
    names = []
    for layer in model.layers:
        names.append(layer.name)
        if isinstance(layer, keras.Model):
            names += _layer_names(layer)
    return names


def _bytes(variables):
    return sum(variable.shape.num_elements() * variable.dtype.size for variable in variables)
