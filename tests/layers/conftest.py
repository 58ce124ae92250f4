"""Fixtures for tests of layers."""

import keras
import numpy as np
import pytest

from convzoo.layers import set_target


def _gradients(model, inputs, cotangent):
    weights = [w.value for w in model.trainable_variables]
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        @tf.function(input_signature=[keras.tree.map_structure(lambda x: tf.TensorSpec((None, *x.shape[1:])), inputs)])
        def run(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                outputs = model(x, training=True)
                loss = tf.reduce_sum(outputs * cotangent)
            return outputs, tape.gradient(loss, (x, weights))

        outputs, (d_inputs, d_weights) = run(keras.tree.map_structure(tf.constant, inputs))
    else:
        import jax

        def loss(x, values):
            outputs = model.stateless_call(values, [], x, training=True)[0]
            return (outputs * cotangent).sum(), outputs

        (d_inputs, d_weights), outputs = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(inputs, weights)
    gradients = {"inputs": d_inputs} | dict(zip([w.path for w in model.trainable_variables], d_weights, strict=True))
    return np.asarray(outputs), {name: keras.tree.map_structure(np.asarray, g) for name, g in gradients.items()}


@pytest.fixture(scope="session")
def model_gradients():
    """Function (model, inputs, cotangent) that returns the outputs and the gradients of sum(outputs * cotangent).

    The model is compiled for an unknown batch size, in training mode. The gradients are a dictionary: "inputs", in the
    structure of the inputs (an array or a list of them), and each trainable weight by its path.
    """
    return _gradients


@pytest.fixture
def target():
    """`set_target`, undone after the test."""
    yield set_target
    set_target("cpu")
