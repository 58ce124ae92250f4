"""Splits channels into parts of given widths."""

from collections.abc import Sequence
from typing import Any

import keras

from convzoo.layers.types import Shape, Tensor


@keras.saving.register_keras_serializable(package="convzoo")
class ChannelSplit(keras.layers.Layer):
    """Splits the channels into contiguous parts.

    Call arguments:
        inputs: [batch, ..., channels].

    Returns:
        A list of tensors [batch, ..., size], one for each of `sizes`.

    Args:
        sizes: Number of channels of each part, in order. Their sum is the number of input channels.

    Raises:
        ValueError: sizes is empty or not positive, or the inputs have another number of channels.

    Example:
        >>> parts = ChannelSplit((1, 3))(keras.ops.ones((2, 8, 8, 4)))
        >>> [tuple(part.shape) for part in parts]
        [(2, 8, 8, 1), (2, 8, 8, 3)]
    """

    def __init__(self, sizes: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sizes = tuple(sizes)
        if not self.sizes or min(self.sizes) < 1:
            raise ValueError(f"sizes={sizes!r} is invalid; use positive integers")

    def call(self, inputs: Tensor) -> list[Tensor]:
        self.compute_output_shape(inputs.shape)  # raises ValueError for another number of channels
        ends = [sum(self.sizes[: part + 1]) for part in range(len(self.sizes))]
        return [inputs[..., end - size : end] for size, end in zip(self.sizes, ends, strict=True)]

    def compute_output_shape(self, inputs_shape: Shape) -> list[Shape]:
        if inputs_shape[-1] != sum(self.sizes):
            raise ValueError(
                f"inputs of {self.name} have {inputs_shape[-1]} channels, but sizes={self.sizes} have "
                f"{sum(self.sizes)}; use equal numbers"
            )
        return [(*inputs_shape[:-1], size) for size in self.sizes]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "sizes": self.sizes}
