"""Checks networks against the TPU kernels of TensorFlow.

This needs the tensorflow-tpu wheel, which imports on any CPU if TPU_SKIP_MDS_QUERY=1 is set.
"""

import keras
import tensorflow as tf

from convzoo import layers
from convzoo.errors import ConfigError
from convzoo.tpu.lowering import LOWERING_ERRORS, describe_lowering_error


def check_tpu_wheel() -> None:
    """Raises ConfigError if the installed TensorFlow has no TPU kernels."""
    if problem := _lowering_problem(lambda x: x + 1.0, tf.TensorSpec((2,))):
        raise ConfigError(
            f"TensorFlow {tf.__version__} has no TPU kernels ({problem}); run benchmarks/tpu_kernels.sh, which "
            "installs tensorflow-tpu in an environment"
        )


def find_problem(model: keras.Model, batch_size: int = 8) -> str | None:
    """Returns why a TPU cannot run the model's forward and backward pass, as one line, or None if it can.

    Args:
        model: From float images [batch, height, width, channels] to logits [batch, classes], built after
            `layers.set_target("tpu")`.
        batch_size: Number of examples.
    """
    trainable, non_trainable = model.trainable_variables, model.non_trainable_variables

    # The step takes the variables as arguments, because this way of lowering allows no captured variables.
    def step(images, labels, *values):
        weights, state = list(values[: len(trainable)]), list(values[len(trainable) :])
        with tf.GradientTape() as tape:
            tape.watch(weights)
            logits, state = model.stateless_call(weights, state, images, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_mean(losses)
        return loss, tape.gradient(loss, weights), state

    return _lowering_problem(
        step,
        tf.TensorSpec((batch_size, *model.input_shape[1:]), tf.float32),
        tf.TensorSpec((batch_size,), tf.int32),
        *(tf.TensorSpec(variable.shape, variable.dtype) for variable in (*trainable, *non_trainable)),
    )


def _lowering_problem(step, *specs):
    previous_target = layers.get_target()
    layers.set_target("tpu")
    try:
        lower = tf.function(step, jit_compile=True).experimental_get_compiler_ir(*specs)
        lower(stage="hlo_serialized", platform_name="TPU")
    except LOWERING_ERRORS as error:
        return describe_lowering_error(error)
    finally:
        layers.set_target(previous_target)
    return None
