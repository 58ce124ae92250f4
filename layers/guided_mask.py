"""The learned division of a picture into regions."""

import keras
from keras import ops

from convzoo.layers.checks import positive


@keras.saving.register_keras_serializable(package="convzoo")
class GuidedMask(keras.layers.Conv2D):
    """Which region each position of an image belongs to: the largest of `regions` scores that a convolution gives it.

    DRConv (arXiv 2003.12243). The forward pass is hard, a one at the position's region (the first of
    equals) and zeros elsewhere. The gradient is that of the softmax of the scores, which stands in for the one-hot
    choice in the backward pass. One mask can serve any number of `DRConv2D` layers; the argmax of its last axis is the
    map of regions.

    It computes and returns its weights' own precision, float32 under the mixed policies too: rounded scores would move
    the regions' borders, and regions begin almost alike, so that the softmax's gradient is a difference of near equals.

    Call arguments:
        inputs: [batch, height, width, channels], or [batch, channels, height, width] for "channels_first".

    Returns:
        [batch, output height, output width, regions] of zeros and ones, or [batch, regions, ...].

    Args:
        regions: number of regions (the paper's m), at least 1.
        kernel_size: of the convolution. The paper takes that of the `DRConv2D`, the authors' code 1.
        use_bias: the authors' code has none.
        **kwargs: other arguments of `keras.layers.Conv2D`, but for filters, groups and activation.

    Raises:
        ValueError: regions below 1, an argument that a mask has not, or what `keras.layers.Conv2D` refuses.
    """

    def __init__(self, regions, kernel_size=1, use_bias=False, **kwargs):
        for name in ("filters", "groups", "activation"):
            if name in kwargs:
                raise ValueError(f"{name} is no argument of GuidedMask: its filters are its regions, its scores plain")
        policy = keras.dtype_policies.get(kwargs.pop("dtype", None))
        super().__init__(
            positive(regions, "regions"), kernel_size, use_bias=use_bias, dtype=policy.variable_dtype, **kwargs
        )

    @property
    def regions(self):
        """Number of regions."""
        return self.filters

    def convolution_op(self, inputs, kernel):
        # TensorFlow's CPU kernels have no gradient for channels that come first.
        first = self.data_format == "channels_first"
        outputs = ops.conv(
            ops.transpose(inputs, (0, 2, 3, 1)) if first else inputs,
            kernel,
            self.strides,
            self.padding,
            data_format="channels_last",
            dilation_rate=self.dilation_rate,
        )
        return ops.transpose(outputs, (0, 3, 1, 2)) if first else outputs

    def call(self, inputs):
        axis = 1 if self.data_format == "channels_first" else -1
        scores = super().call(inputs)
        chosen = ops.one_hot(ops.argmax(scores, axis=axis), self.regions, axis=axis, dtype=scores.dtype)
        soft = ops.softmax(scores, axis=axis)
        # The difference is zero, and its gradient is the softmax's.
        return chosen + (soft - ops.stop_gradient(soft))

    def get_config(self):
        config = super().get_config()
        for name in ("filters", "groups", "activation"):
            del config[name]
        return {**config, "regions": self.regions}
