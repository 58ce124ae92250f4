"""Functions with a custom gradient, and the names of its ops."""

import contextlib

import keras
import numpy as np
import pytest
from keras import ops

from convzoo.layers.custom_gradient import custom_gradient


@custom_gradient
def product(a, b):
    """a * b, with a gradient that is twice the right one."""
    return a * b, lambda upstream: (2 * upstream * b, 2 * upstream * a)


def test_the_gradient_is_its_own():
    a, b = ops.convert_to_tensor([1.0, 2.0]), ops.convert_to_tensor([3.0, 5.0])
    if keras.backend.backend() == "jax":
        import jax

        gradients = jax.grad(lambda a, b: ops.sum(product(a, b) * 7.0), argnums=(0, 1))(a, b)
    else:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch((a, b))
            loss = ops.sum(product(a, b) * 7.0)
        gradients = tape.gradient(loss, (a, b))
    np.testing.assert_array_equal(gradients[0], [42.0, 70.0])
    np.testing.assert_array_equal(gradients[1], [14.0, 28.0])


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow names operations so")
@pytest.mark.parametrize(("scope", "name"), [("net/conv", "net/conv/of_gradient"), (None, "elsewhere/of_gradient")])
def test_the_gradient_is_called_after_the_scope_of_the_call(scope, name):
    import tensorflow as tf

    @custom_gradient
    def root(x):
        return tf.sqrt(x), lambda upstream: tf.math.rsqrt(upstream, name="of_gradient")

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            with tf.name_scope(scope) if scope else contextlib.nullcontext():
                y = root(x)
        with tf.name_scope("elsewhere"):
            return tape.gradient(y, x)

    graph = step.get_concrete_function(tf.TensorSpec((2,))).graph
    assert [operation.name for operation in graph.get_operations() if operation.type == "Rsqrt"] == [name]
