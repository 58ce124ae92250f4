"""Dense layer whose outputs are cosines."""

from typing import Any

import keras
from keras import ops

from convzoo.layers.types import Tensor

_EPSILON = 1e-12  # of squared norms


@keras.saving.register_keras_serializable(package="convzoo")
class CosineDense(keras.layers.Dense):
    """Computes the cosine of the angle between the inputs and each column of the kernel.

    It is the last layer of networks trained with a margin between classes, such as ArcFace (arXiv 1801.07698, section
    2.1): the columns are the directions of the classes. Choose dtype="float32" under mixed precision. A TPU multiplies
    float32 matrices in bfloat16 by default, which changes a cosine by up to about 0.004.

    Args:
        units: Number of outputs.
        **kwargs: Further arguments of `keras.layers.Dense`, but neither a bias nor an activation.

    Call arguments:
        inputs: [..., features].

    Returns:
        [..., units], from -1 to 1; 0 for inputs of zeros.

    Example:
        >>> layer = CosineDense(3)
        >>> float(keras.ops.max(keras.ops.abs(layer(keras.random.normal((4, 8)) * 100)))) <= 1.0001
        True
    """

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(units, **{"use_bias": False, **kwargs})
        if self.use_bias or self.activation is not keras.activations.linear:
            raise ValueError(f"{self.name}: a bias or an activation would make the outputs no cosines; remove it")

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        del training
        return ops.matmul(_unit(inputs, -1), _unit(self.kernel, 0))


def _unit(x, axis):
    """Returns `x` divided by its norm along an axis; zeros stay zeros."""
    return x * ops.rsqrt(ops.maximum(ops.sum(ops.square(x), axis, keepdims=True), _EPSILON))
