"""Bilinear resize to the size of another tensor."""

from typing import Any

import keras
from keras import ops

from convzoo.layers import resampling, window
from convzoo.layers.types import Shape, Tensor


@keras.saving.register_keras_serializable(package="convzoo")
class BilinearResize(keras.layers.Layer):
    """Resizes images to the height and width of another tensor by bilinear interpolation, with half-pixel centers.

    It computes the same as `tf.image.resize(method="bilinear")` and as PyTorch's interpolate with align_corners=False.
    It takes any sizes, known or unknown, and every device computes its gradient fast: see `resampling`.

    Call arguments:
        inputs: [batch, height, width, channels], or [batch, channels, height, width] for "channels_first".
        like: Tensor of the same layout with any batch and channels; the layer uses only its height and width.

    Returns:
        inputs with the height and width of `like`.

    Args:
        data_format: "channels_last" or "channels_first"; `keras.config.image_data_format()` by default.

    Raises:
        ValueError: data_format is unknown, or a tensor does not have four axes.

    Example:
        >>> outputs = BilinearResize()(keras.ops.ones((2, 4, 4, 3)), like=keras.ops.ones((2, 9, 6, 8)))
        >>> tuple(outputs.shape)
        (2, 9, 6, 3)
    """

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = keras.config.image_data_format() if data_format is None else data_format
        if self.data_format not in ("channels_last", "channels_first"):
            raise ValueError(f"data_format={data_format!r} is unknown; use 'channels_last' or 'channels_first'")

    def call(self, inputs: Tensor, like: Tensor) -> Tensor:
        self.compute_output_shape(inputs.shape, like.shape)  # raises ValueError for another number of axes
        sizes = ops.shape(like)[1:3] if self.data_format == "channels_last" else ops.shape(like)[2:4]
        images = resampling.bilinear(window.to_channels_last(inputs, self.data_format), sizes)
        return window.from_channels_last(images, self.data_format)

    def compute_output_shape(self, inputs_shape: Shape, like_shape: Shape) -> Shape:
        for shape in (inputs_shape, like_shape):
            if len(shape) != 4:
                raise ValueError(f"{self.name} got shape {tuple(shape)}; use four axes ({self.data_format})")
        if self.data_format == "channels_last":
            return (inputs_shape[0], *like_shape[1:3], inputs_shape[3])
        return (*inputs_shape[:2], *like_shape[2:4])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "data_format": self.data_format}
