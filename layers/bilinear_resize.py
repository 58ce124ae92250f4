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
        inputs: [batch, height, width, channels].
        like: [batch, new height, new width, any channels]; of it the size alone is taken.

    Returns:
        [batch, new height, new width, channels].

    Raises:
        ValueError: one of them has not four axes.
    """

    def call(self, inputs, like):
        self._check(inputs.shape, like.shape)
        return resampling.bilinear(inputs, ops.shape(like)[1:3])

    def _check(self, *shapes):
        for shape in shapes:
            if len(shape) != 4:
                raise ValueError(f"{self.name} got shape {tuple(shape)}, expected [batch, height, width, channels]")

    def compute_output_spec(self, inputs, like):
        self._check(inputs.shape, like.shape)
        return KerasTensor(self.compute_output_shape(inputs.shape, like.shape), dtype=self.compute_dtype)

    def compute_output_shape(self, inputs_shape, like_shape):
        return (inputs_shape[0], *like_shape[1:3], inputs_shape[3])
