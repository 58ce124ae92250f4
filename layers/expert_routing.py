"""Routing of examples to experts."""

from typing import Any

import keras
from keras import KerasTensor, ops

from convzoo.layers.checks import positive
from convzoo.layers.types import Activation, Shape, Tensor


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
        temperature: Divisor of the logits, before the activation. Dynamic Convolution (arXiv 1912.03458) has softmax
            routing with a temperature of 30, which falls to 1: nearly equal weights train all experts at the start.
        annealing_steps: Number of calls with training=True over which the temperature falls linearly to 1; the layer
            counts them in a weight. 0: the temperature stays.
        *args, **kwargs: Further arguments of `keras.layers.Dense`; the kernel is [channels, num_experts].

    Raises:
        ValueError: num_experts is less than 1, temperature is not positive, annealing_steps is negative, or the
            features have an unknown number of channels.

    Example:
        >>> routing_weights = ExpertRouting(num_experts=4)(keras.ops.ones((2, 8, 8, 3)))
        >>> tuple(routing_weights.shape)
        (2, 4)
    """

    # Dense saves its kernel and bias; these save all weights, in the order of their creation.
    save_own_variables = keras.layers.Layer.save_own_variables
    load_own_variables = keras.layers.Layer.load_own_variables

    def __init__(
        self,
        num_experts: int,
        activation: Activation = "sigmoid",
        *args: Any,
        data_format: str | None = None,
        temperature: float = 1.0,
        annealing_steps: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(positive(num_experts, "num_experts"), activation, *args, autocast=False, **kwargs)
        self.num_experts = num_experts
        self.data_format = keras.config.image_data_format() if data_format is None else data_format
        if self.data_format not in ("channels_last", "channels_first"):
            raise ValueError(f"data_format={data_format!r} is invalid; use 'channels_last' or 'channels_first'")
        if not temperature > 0:
            raise ValueError(f"temperature={temperature!r} is invalid; use a positive number")
        if annealing_steps < 0:
            raise ValueError(f"annealing_steps={annealing_steps!r} is invalid; use 0 or a number of steps")
        self.temperature = temperature
        self.annealing_steps = annealing_steps

    def build(self, features_shape: Shape) -> None:
        axis = self._channel_axis(len(features_shape))
        super().build((features_shape[0], features_shape[axis]))
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={axis: features_shape[axis]})
        if self.annealing_steps:
            # An integer, of which nothing takes a moving average.
            self.step = self.add_weight(
                name="step", initializer="zeros", dtype="int32", trainable=False, aggregation="only_first_replica"
            )

    def add_weight(self, **kwargs: Any) -> keras.Variable:
        return super().add_weight(autocast=False, **kwargs)

    def _current_temperature(self, training):
        if not self.annealing_steps:
            return self.temperature
        progress = ops.minimum(ops.cast(self.step, self.variable_dtype) / self.annealing_steps, 1.0)
        if training:
            self.step.assign(self.step + 1)
        return self.temperature + (1.0 - self.temperature) * progress

    def call(self, features: Tensor, training: bool | None = None) -> Tensor:
        rank = len(features.shape)
        pooled_axes = [axis for axis in range(1, rank) if axis != self._channel_axis(rank)]
        features = ops.cast(features, self.variable_dtype)
        pooled = ops.mean(features, axis=pooled_axes) if pooled_axes else features
        if self.temperature == 1:
            return super().call(pooled)
        logits = ops.matmul(pooled, self.kernel)
        if self.use_bias:
            logits = logits + self.bias
        logits = logits / self._current_temperature(training)
        return logits if self.activation is None else self.activation(logits)

    def compute_output_shape(self, features_shape: Shape) -> Shape:
        return (features_shape[0], self.num_experts)

    def compute_output_spec(self, features: Tensor, **kwargs: Any) -> keras.KerasTensor:
        # The default would announce the compute dtype.
        return KerasTensor(self.compute_output_shape(features.shape), dtype=self.variable_dtype)

    def _channel_axis(self, rank):
        return 1 if self.data_format == "channels_first" else rank - 1

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["units"]
        names = ("num_experts", "data_format", "temperature", "annealing_steps")
        return {**config, **{name: getattr(self, name) for name in names}}
