"""Asks TensorFlow's own TPU kernels whether a network's forward and backward pass is legal on a TPU.

It needs the tensorflow-tpu wheel, which starts on any CPU if TPU_SKIP_MDS_QUERY=1 is set.
"""

import keras
import tensorflow as tf

from convzoo import layers
from convzoo.tpu.lowering import REFUSALS, refusal
from convzoo.training.config import ConfigError


def check_wheel() -> None:
    """Raises ConfigError unless this TensorFlow has kernels for TPUs."""
    if problem := _lower(lambda x: x + 1.0, tf.TensorSpec((2,))):
        raise ConfigError(
            f"TensorFlow {tf.__version__} here has no kernels for TPUs ({problem}); run scripts/tpu_ops.sh, which "
            "makes an environment with tensorflow-tpu"
        )


def problem_of(model: keras.Model, batch_size: int = 8) -> str | None:
    """What stands in the way of a training step's forward and backward pass on a TPU, a line; None for nothing.

    Args:
        model: From float images [batch, height, width, channels] to logits [batch, classes], made after
            `layers.set_target("tpu")`.
        batch_size: Examples.
    """
    trained, kept = model.trainable_variables, model.non_trainable_variables

    # A step of pure values: the bridge takes no captured variables here.
    def step(images, labels, *values):
        weights, state = list(values[: len(trained)]), list(values[len(trained) :])
        with tf.GradientTape() as tape:
            tape.watch(weights)
            logits, state = model.stateless_call(weights, state, images, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_mean(losses)
        return loss, tape.gradient(loss, weights), state

    return _lower(
        step,
        tf.TensorSpec((batch_size, *model.input_shape[1:]), tf.float32),
        tf.TensorSpec((batch_size,), tf.int32),
        *(tf.TensorSpec(variable.shape, variable.dtype) for variable in (*trained, *kept)),
    )


def _lower(step, *specs):
    before = layers.get_target()
    layers.set_target("tpu")
    try:
        lowered = tf.function(step, jit_compile=True).experimental_get_compiler_ir(*specs)
        lowered(stage="hlo_serialized", platform_name="TPU")
    except REFUSALS as error:
        return refusal(error)
    finally:
        layers.set_target(before)
    return None
