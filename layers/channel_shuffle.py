"""Channel shuffle: a fixed permutation that mixes groups of channels."""

from typing import Any

import keras
import numpy as np
from keras import ops

from convzoo.layers.checks import positive
from convzoo.layers.implementations import ImplementationChoice
from convzoo.layers.target import get_target
from convzoo.layers.types import Shape, Tensor


@keras.saving.register_keras_serializable(package="convzoo")
class ChannelShuffle(ImplementationChoice, keras.layers.Layer):
    """Interleaves `groups` contiguous groups of channels: channel c of group g moves to c * groups + g.

    ShuffleNet (arXiv 1707.01083), section 3.1. A shuffle with channels / groups groups is the inverse of one with
    `groups` groups.

    Call arguments:
        inputs: [batch, ..., channels].

    Returns:
        [batch, ..., channels].

    Args:
        groups: Number of groups, a divisor of the channels.
        implementation: How the outputs are computed; all implementations compute the same for finite inputs.
            "transpose": Reshapes the channels to [groups, channels / groups] and transposes them.
            "product": Multiplies by the permutation matrix, which keeps the channels in the lanes of a TPU's vector
                registers. It is exact where the device multiplies in the dtype of the inputs, on TPU in bfloat16 only.
                A NaN or infinity spreads over all channels.
            "auto": "product" for bfloat16 inputs and the TPU target of `convzoo.layers.set_target`, else "transpose".

    Raises:
        ValueError: groups is below 1 or does not divide the channels, or the implementation is unknown.

    Example:
        >>> outputs = ChannelShuffle(groups=2)(keras.ops.arange(6.0)[None])
        >>> [int(x) for x in outputs[0]]
        [0, 3, 1, 4, 2, 5]
    """

    IMPLEMENTATIONS = ("transpose", "product")

    def __init__(self, groups: int, implementation: str = "auto", **kwargs: Any) -> None:
        super().__init__(implementation=implementation, **kwargs)
        self.groups = positive(groups, "groups")

    def build(self, inputs_shape: Shape) -> None:
        if inputs_shape[-1] is None:
            raise ValueError(f"inputs of {self.name} have shape {tuple(inputs_shape)}; their channels must be known")
        if inputs_shape[-1] % self.groups:
            raise ValueError(f"{inputs_shape[-1]} channels of {self.name} are not divisible by groups={self.groups}")

    def choose_implementation(self, dtype: str) -> str:
        """Returns the implementation that the layer uses for inputs of this dtype."""
        if self.implementation != "auto":
            return self.implementation
        is_exact = get_target() == "tpu" and keras.backend.standardize_dtype(dtype) == "bfloat16"
        return "product" if is_exact else "transpose"

    def call(self, inputs: Tensor) -> Tensor:
        channels = inputs.shape[-1]
        if self.choose_implementation(inputs.dtype) == "product":
            source = np.arange(channels).reshape(self.groups, -1).T.reshape(-1)  # input channel of each output channel
            return ops.matmul(inputs, ops.one_hot(source, channels, axis=0, dtype=inputs.dtype))
        shape = ops.shape(inputs)[:-1]
        x = ops.reshape(inputs, (*shape, self.groups, channels // self.groups))
        return ops.reshape(ops.swapaxes(x, -1, -2), (*shape, channels))

    def compute_output_shape(self, inputs_shape: Shape) -> Shape:
        return inputs_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "groups": self.groups}
