"""Routing of examples to experts."""

import keras
from keras import KerasTensor, ops

from convzoo.layers.checks import positive


@keras.saving.register_keras_serializable(package="convzoo")
class ExpertRouting(keras.layers.Dense):
    """Routing weights of each example: a dense layer with a sigmoid on globally average-pooled features.

    CondConv (arXiv 1904.04971), section 3. The formula in the paper has no bias, but the published networks have one.
    Compute the routing weights once per block, from the block's input, and pass them to all `CondConv2D`,
    `DepthwiseCondConv2D` and `CondDense` layers of the block.

    The layer computes and returns the variable dtype, which is float32 under the mixed policies too: it costs little,
    and rounding a routing weight would change every weight of the mixed kernels.

    Call arguments:
        features: [batch, ..., channels], or [batch, channels, ...] for "channels_first"; averaged over the axes
            between batch and channels.

    Returns:
        [batch, num_experts].

    Args:
        num_experts: Number of experts, at least 1.
        activation: Activation of the routing weights. In the paper's ablation (table 3) "sigmoid" is more accurate
            than "softmax".
        data_format: "channels_last" or "channels_first"; default `keras.config.image_data_format()`.
        *args, **kwargs: Further arguments of `keras.layers.Dense`; the kernel is [channels, num_experts].

    Raises:
        ValueError: num_experts is less than 1, or the features have an unknown number of channels.

    Example:
        >>> routing_weights = ExpertRouting(num_experts=4)(keras.ops.ones((2, 8, 8, 3)))
        >>> tuple(routing_weights.shape)
        (2, 4)
    """

    def __init__(self, num_experts, activation="sigmoid", *args, data_format=None, **kwargs):
        super().__init__(positive(num_experts, "num_experts"), activation, *args, autocast=False, **kwargs)
        self.num_experts = num_experts
        self.data_format = keras.config.image_data_format() if data_format is None else data_format
        if self.data_format not in ("channels_last", "channels_first"):
            raise ValueError(f"data_format={data_format!r} is invalid; use 'channels_last' or 'channels_first'")

    def build(self, features_shape):
        axis = self._channel_axis(len(features_shape))
        super().build((features_shape[0], features_shape[axis]))
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={axis: features_shape[axis]})

    def add_weight(self, **kwargs):
        return super().add_weight(autocast=False, **kwargs)

    def call(self, features):
        rank = len(features.shape)
        pooled_axes = [axis for axis in range(1, rank) if axis != self._channel_axis(rank)]
        features = ops.cast(features, self.variable_dtype)
        return super().call(ops.mean(features, axis=pooled_axes) if pooled_axes else features)

    def compute_output_shape(self, features_shape):
        return (features_shape[0], self.num_experts)

    def compute_output_spec(self, features, **kwargs):
        # The default would announce the compute dtype.
        return KerasTensor(self.compute_output_shape(features.shape), dtype=self.variable_dtype)

    def _channel_axis(self, rank):
        return 1 if self.data_format == "channels_first" else rank - 1

    def get_config(self):
        config = super().get_config()
        del config["units"]
        return {**config, "num_experts": self.num_experts, "data_format": self.data_format}
