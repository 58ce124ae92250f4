"""Routing: how much each expert counts for an example."""

import keras
from keras import KerasTensor, activations, constraints, initializers, ops, regularizers

from convzoo.layers.checks import positive


@keras.saving.register_keras_serializable(package="convzoo")
class ExpertRouting(keras.layers.Layer):
    """Routing weights of each example: activation(global average pool(features) . kernel + bias).

    CondConv (arXiv 1904.04971), section 3. The paper draws no bias; the published networks have one. A block computes
    its routing once and hands it to all its conditional layers.

    It computes and returns its weights' own precision, float32 under the mixed policies too: it costs next to nothing,
    and an error in a routing weight is an error in every weight of the mixed kernels.

    Call arguments:
        features: [batch, ..., channels], or [batch, channels, ...] for "channels_first"; pooled over all axes between.

    Returns:
        [batch, num_experts].

    Args:
        num_experts: number of experts, at least 1.
        activation: of the routing weights; the paper's ablation has "sigmoid" ahead of "softmax".
        use_bias: whether to add a bias.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, kernel_constraint, bias_constraint:
            as in `keras.layers.Dense`; the kernel is [channels, num_experts].
        data_format: "channels_last" or "channels_first"; Keras's own setting by default.

    Raises:
        ValueError: num_experts below 1, features without a channel axis.
    """

    def __init__(
        self,
        num_experts,
        activation="sigmoid",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        data_format=None,
        **kwargs,
    ):
        super().__init__(activity_regularizer=activity_regularizer, autocast=False, **kwargs)
        self.num_experts = positive(num_experts, "num_experts")
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.data_format = keras.config.image_data_format() if data_format is None else data_format
        self.bias = None
        if self.data_format not in ("channels_last", "channels_first"):
            raise ValueError(f"data_format {data_format!r} is neither 'channels_last' nor 'channels_first'")

    def _channel_axis(self, rank):
        return 1 if self.data_format == "channels_first" else rank - 1

    def build(self, features_shape):
        if len(features_shape) < 2 or features_shape[self._channel_axis(len(features_shape))] is None:
            raise ValueError(
                f"features of {self.name} have shape {tuple(features_shape)}, expected [batch, ..., channels] with a "
                "known number of channels"
            )
        self.kernel = self.add_weight(
            name="kernel",
            shape=(features_shape[self._channel_axis(len(features_shape))], self.num_experts),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
            autocast=False,
        )
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.num_experts,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
                autocast=False,
            )

    def call(self, features):
        rank = len(features.shape)
        pooled = [axis for axis in range(1, rank) if axis != self._channel_axis(rank)]
        features = ops.cast(features, self.variable_dtype)
        if pooled:
            features = ops.mean(features, axis=pooled)
        weights = ops.matmul(features, self.kernel)
        if self.use_bias:
            weights = weights + self.bias
        return weights if self.activation is None else self.activation(weights)

    def compute_output_shape(self, features_shape):
        return (features_shape[0], self.num_experts)

    def compute_output_spec(self, features, **kwargs):
        # Keras would announce the compute dtype.
        return KerasTensor(self.compute_output_shape(features.shape), dtype=self.variable_dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "num_experts": self.num_experts,
            "activation": activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "bias_initializer": initializers.serialize(self.bias_initializer),
            "kernel_regularizer": regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": regularizers.serialize(self.bias_regularizer),
            "activity_regularizer": regularizers.serialize(self.activity_regularizer),
            "kernel_constraint": constraints.serialize(self.kernel_constraint),
            "bias_constraint": constraints.serialize(self.bias_constraint),
            "data_format": self.data_format,
        }
