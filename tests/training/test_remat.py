"""Rematerialization: the same training, with blocks computed twice."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from convzoo import layers
from convzoo.errors import ConfigError
from convzoo.tasks import TASKS
from convzoo.training.batch_norm import fuse_batch_norm
from convzoo.training.optimizers import SGD
from convzoo.training.remat import rematerialize
from convzoo.training.state import TrainState
from convzoo.training.train_step import train_step


class Counted(keras.layers.Conv2D):
    """A convolution that counts its calls on batches."""

    calls = 0

    def call(self, inputs):
        self.calls += not isinstance(inputs, keras.KerasTensor)
        return super().call(inputs)


def _network():
    """Two blocks with statistics, random numbers and a shortcut; the second reads two tensors of the first."""
    keras.utils.set_random_seed(5)
    inputs = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", name="stem_conv")(inputs)
    shortcut = x
    for index in range(2):
        y = Counted(4, 3, padding="same", name=f"block{index}_conv")(x)
        y = keras.layers.BatchNormalization(name=f"block{index}_bn")(y)
        y = keras.layers.Activation("relu", name=f"block{index}_activation")(y)
        y = keras.layers.Dropout(0.4, name=f"block{index}_dropout")(y)
        x, shortcut = keras.layers.Add(name=f"block{index}_add")([x, y, shortcut]), y
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    return keras.Model(inputs, keras.layers.Dense(5, name="head_dense")(x))


def _train(remat, fused=False, mixed=False, for_tpu=False):
    keras.config.set_dtype_policy("mixed_bfloat16" if mixed else "float32")
    try:
        model = _network()
    finally:
        keras.config.set_dtype_policy("float32")
    if remat:
        rematerialize(model)
    if fused:
        fuse_batch_norm(model)
    rng = np.random.default_rng(1)
    images = tf.constant(rng.normal(size=(8, 6, 6, 3)), tf.float32)
    batch = {"image": images, "label": tf.constant(rng.integers(0, 5, 8), tf.int32)}
    optimizer = SGD(0.5, momentum=0.9, name="optimizer")
    optimizer.build(model.trainable_weights)
    state = TrainState(model, optimizer)
    step = tf.function(lambda batch: train_step(state, batch, task=TASKS["classification"], batch_size=8))
    layers.set_target("tpu" if for_tpu else "cpu")
    try:
        losses = [float(step(batch)["loss"]) for _ in range(3)]
    finally:
        layers.set_target("cpu")
    outputs = model(images, training=False).numpy()
    calls = [model.get_layer(f"block{index}_conv").calls for index in range(2)]
    return calls, losses, outputs, {name: variable.numpy() for name, variable in state.variables().items()}


@pytest.mark.parametrize(
    "settings", [{}, {"fused": True}, {"mixed": True}, pytest.param({"for_tpu": True}, marks=pytest.mark.needs_xla_cpu)]
)
def test_training_is_that_of_the_ordinary_network(settings):
    """Weights, momenta, BatchNorm statistics and random states, to the bit."""
    calls, losses, outputs, variables = _train(False, **settings)
    remat_calls, remat_losses, remat_outputs, remat_variables = _train(True, **settings)
    assert calls == [2, 2]  # traced once, and evaluated
    assert remat_calls == [3, 3]
    assert remat_losses == losses
    np.testing.assert_array_equal(remat_outputs, outputs)
    assert {"model/block1_dropout/seed_generator", "model/block1_bn/moving_mean"} < variables.keys()
    for name, value in variables.items():
        np.testing.assert_array_equal(remat_variables[name], value, err_msg=name)


def _program(remat):
    """Returns the text of the gradient's program before the compiler changes it."""
    model = _network()
    if remat:
        rematerialize(model)

    def gradient(images):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(images, training=True))
        return tape.gradient(loss, model.trainable_variables[0].value)

    spec = tf.TensorSpec((2, 6, 6, 3))
    return tf.function(gradient, jit_compile=True).experimental_get_compiler_ir(spec)(stage="hlo")


@pytest.mark.needs_xla_cpu
def test_blocks_are_behind_barriers_in_the_program_for_a_tpu():
    """Without them, the TPU compiler merges the two computations of a block, and nothing is saved."""
    layers.set_target("tpu")
    try:
        ordinary, recomputed = _program(remat=False), _program(remat=True)
    finally:
        layers.set_target("cpu")
    assert ordinary.count(" opt-barrier(") == 0
    assert recomputed.count(" opt-barrier(") == 2
    assert recomputed.count(" convolution(") == ordinary.count(" convolution(") + 2


def test_a_network_without_blocks_is_refused():
    inputs = keras.Input((2,))
    with pytest.raises(ConfigError, match="plain has no blocks"):
        rematerialize(keras.Model(inputs, keras.layers.Dense(1)(inputs), name="plain"))
