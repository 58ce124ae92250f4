"""The barrier that keeps the TPU compiler from changing the dtype of a product."""

import keras
import numpy as np
import pytest
from keras import ops

from convzoo.layers.barrier import barrier


def _value_and_gradient(x):
    """barrier(x) and the gradient of its sum of squares, in a function that is not compiled for a TPU."""
    if keras.backend.backend() == "jax":
        import jax

        return barrier(x), jax.grad(lambda x: ops.sum(ops.square(ops.cast(barrier(x), "float32"))))(x)
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None, 3), x.dtype)])
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = barrier(x)
            loss = tf.reduce_sum(tf.square(tf.cast(y, tf.float32)))
        return y, tape.gradient(loss, x)

    return run(x)


@pytest.mark.needs_xla_cpu
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("name", ["cpu", "gpu", "tpu"])
def test_values_and_gradients_pass(name, dtype, target):
    target(name)
    x = ops.cast(ops.reshape(ops.arange(6.0), (2, 3)), dtype)
    y, gradient = _value_and_gradient(x)
    assert keras.backend.standardize_dtype(y.dtype) == dtype
    np.testing.assert_array_equal(ops.cast(y, "float32"), ops.cast(x, "float32"))
    np.testing.assert_array_equal(ops.cast(gradient, "float32"), 2 * ops.cast(x, "float32"))


@pytest.mark.needs_xla_cpu
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="asks TensorFlow for its HLO")
@pytest.mark.parametrize(
    ("name", "dtype", "number"), [("tpu", "bfloat16", 2), ("tpu", "float32", 0), ("cpu", "bfloat16", 0)]
)
def test_forward_and_backward_pass_have_one_each(name, dtype, number, target):
    import tensorflow as tf

    target(name)

    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = barrier(x * x)
        return y, tape.gradient(y, x)

    spec = tf.TensorSpec((2, 3), dtype)
    text = tf.function(step, jit_compile=True).experimental_get_compiler_ir(spec)(stage="hlo")
    assert text.count(" opt-barrier(") == number
