"""Splitting channels into parts."""

import keras
from keras import KerasTensor


@keras.saving.register_keras_serializable(package="convzoo")
class ChannelSplit(keras.layers.Layer):
    """Cuts the channels into contiguous parts.

    Call arguments:
        inputs: [batch, ..., channels].

    Returns:
        A list of tensors [batch, ..., size], one for each of `sizes`.

    Args:
        sizes: channels of each part, in order; together all channels of the inputs.

    Raises:
        ValueError: no or empty parts, or inputs with another number of channels.
    """

    def __init__(self, sizes, **kwargs):
        super().__init__(**kwargs)
        self.sizes = tuple(sizes)
        if not self.sizes or min(self.sizes) < 1:
            raise ValueError(f"sizes {sizes!r} are not positive integers")

    def call(self, inputs):
        self._check(inputs.shape)
        ends = [sum(self.sizes[: part + 1]) for part in range(len(self.sizes))]
        return [inputs[..., end - size : end] for size, end in zip(self.sizes, ends, strict=True)]

    def _check(self, shape):
        if shape[-1] != sum(self.sizes):
            raise ValueError(
                f"inputs of {self.name} have {shape[-1]} channels, but its parts {self.sizes} take {sum(self.sizes)}; "
                "change one"
            )

    def compute_output_spec(self, inputs):
        self._check(inputs.shape)
        return [KerasTensor((*inputs.shape[:-1], size), dtype=self.compute_dtype) for size in self.sizes]

    def compute_output_shape(self, inputs_shape):
        return [(*inputs_shape[:-1], size) for size in self.sizes]

    def get_config(self):
        return {**super().get_config(), "sizes": self.sizes}
