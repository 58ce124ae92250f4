"""Barriers in the program of the TPU compiler, that keep it from widening bfloat16 values or merging computations.

This file holds the private TensorFlow interface that the layers use, xla_optimization_barrier. Checked with TensorFlow
2.19 to 2.21; JAX's exporter to TensorFlow uses the same operation.
"""

import functools

import keras

from convzoo.layers.custom_gradient import custom_gradient
from convzoo.layers.target import get_target
from convzoo.layers.types import Tensor


def barrier(x: Tensor) -> Tensor:
    """Returns `x`. For the TPU target and bfloat16, XLA fuses nothing across this point in either pass.

    Batch normalization casts its inputs to float32. Where they are a bfloat16 product whose layout has to change, the
    TPU compiler fuses the cast into the product and then writes, transposes and reads twice the bytes.
    """
    if get_target() != "tpu" or keras.backend.standardize_dtype(x.dtype) != "bfloat16":
        return x
    return custom_gradient(lambda x: (joint_barrier([x])[0], lambda upstream: joint_barrier([upstream])[0]))(x)


def joint_barrier(tensors: list) -> list:
    """Returns the tensors. XLA computes nothing from one of them before all of them are available.

    It does not merge what is computed from them with an equal computation elsewhere. Has no gradient.
    """
    return _optimization_barrier()(list(tensors))


@functools.cache
def _optimization_barrier():
    if keras.backend.backend() == "jax":
        import jax

        return jax.lax.optimization_barrier
    if keras.backend.backend() != "tensorflow":
        return lambda tensors: tensors
    import tensorflow as tf
    from tensorflow.compiler.tf2xla.ops.gen_xla_ops import xla_optimization_barrier

    # The operation has no kernel outside XLA. jit_compile lets it run in a model for TPU that is tried on a CPU.
    return tf.function(xla_optimization_barrier, jit_compile=True)
