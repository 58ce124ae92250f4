"""Images brought to the size of others."""

import keras
from keras import KerasTensor, ops

from convzoo.layers import resampling


@keras.saving.register_keras_serializable(package="convzoo")
class BilinearResize(keras.layers.Layer):
    """Bilinear interpolation to the height and width of another tensor, pixels' centres on centres.

    It is `tf.image.resize(method="bilinear")`, and torch's with align_corners=False, as two products with matrices of
    weights: any sizes, known or not, and a gradient that every device does well.

    Call arguments:
        inputs: [batch, height, width, channels], or [batch, channels, height, width] for "channels_first".
        like: likewise, with any channels; of it the size alone is taken.

    Returns:
        inputs with the height and width of `like`.

    Args:
        data_format: "channels_last" or "channels_first"; Keras's own setting by default.

    Raises:
        ValueError: an unknown data format, or a tensor without four axes.
    """

    def __init__(self, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.data_format = keras.config.image_data_format() if data_format is None else data_format
        if self.data_format not in ("channels_last", "channels_first"):
            raise ValueError(f"data_format {data_format!r} is neither 'channels_last' nor 'channels_first'")

    def call(self, inputs, like):
        self._check(inputs.shape, like.shape)
        if self.data_format == "channels_last":
            return resampling.bilinear(inputs, ops.shape(like)[1:3])
        images = resampling.bilinear(ops.transpose(inputs, (0, 2, 3, 1)), ops.shape(like)[2:4])
        return ops.transpose(images, (0, 3, 1, 2))

    def _check(self, *shapes):
        for shape in shapes:
            if len(shape) != 4:
                raise ValueError(f"{self.name} got shape {tuple(shape)}, expected four axes ({self.data_format})")

    def compute_output_spec(self, inputs, like):
        self._check(inputs.shape, like.shape)
        return KerasTensor(self.compute_output_shape(inputs.shape, like.shape), dtype=self.compute_dtype)

    def compute_output_shape(self, inputs_shape, like_shape):
        if self.data_format == "channels_last":
            return (inputs_shape[0], *like_shape[1:3], inputs_shape[3])
        return (*inputs_shape[:2], *like_shape[2:4])

    def get_config(self):
        return {**super().get_config(), "data_format": self.data_format}
