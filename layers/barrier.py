"""Values that XLA keeps in their own precision."""

import functools

import keras

from convzoo.layers.own_gradient import own_gradient
from convzoo.layers.target import get_target


def barrier(x):
    """`x`, and its gradient, as they are; on a TPU neither is held in float32 where it is in bfloat16.

    Batch normalisation casts to float32 what comes before it. Where that is a product in bfloat16 whose layout has to
    change, the TPU compiler makes the cast part of the product, and then writes, moves and reads twice the bytes. It
    looks for no such thing across a barrier. With another target, and in the full precision, there is nothing to do.
    """
    if get_target() != "tpu" or keras.backend.standardize_dtype(x.dtype) != "bfloat16":
        return x
    stop = _stop()

    return own_gradient(lambda x: (stop(x), stop))(x)


@functools.cache
def _stop():
    if keras.backend.backend() == "jax":
        import jax

        return jax.lax.optimization_barrier
    if keras.backend.backend() != "tensorflow":
        return lambda x: x
    import tensorflow as tf

    # Not in TensorFlow's documented interface, but what JAX's exporter to TensorFlow stands on, too.
    from tensorflow.compiler.tf2xla.ops.gen_xla_ops import xla_optimization_barrier

    # Compiled by itself it runs where the rest is not compiled: a network for a TPU that is tried on a CPU.
    return tf.function(lambda x: xla_optimization_barrier([x])[0], jit_compile=True)
