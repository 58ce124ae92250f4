"""Conditionally parameterized dense layer."""

from typing import Any

import keras
from keras import ops

from convzoo.layers.expert_layer import ExpertLayer
from convzoo.layers.types import Shape, Tensor


@keras.saving.register_keras_serializable(package="convzoo")
class CondDense(ExpertLayer, keras.layers.Dense):
    """Dense layer whose kernel is mixed for each example from `num_experts` kernels.

    This is the fully connected form of CondConv (arXiv 1904.04971, section 3). With the routing weights
    `a = routing_weights[b]` of example b:

        kernel = a[0] * kernel_0 + ... + a[n-1] * kernel_n-1     [features, units]
        bias = a[0] * bias_0 + ... + a[n-1] * bias_n-1           [units]
        outputs[b] = activation(inputs[b] @ kernel + bias)       [..., units]

    Use it as the classifier of a CondConv network: for MobileNetV1 the paper's ablation (table 4) gains more from the
    conditional classifier than from the conditional convolutions. The published EfficientNets have a plain classifier.

    Call arguments:
        inputs: [batch, ..., features].
        routing_weights: [batch, num_experts], usually of an `ExpertRouting`. None: the layer has its own
            `ExpertRouting` of the inputs, `routing`.

    Returns:
        [batch, ..., units].

    Args:
        units: Number of outputs.
        num_experts: Number of experts, at least 1.
        implementation: How the outputs are computed; all implementations compute the same.
            "experts": Multiplies the inputs, scaled by each routing weight, by all kernels in one matrix product.
                Memory for num_experts times the inputs, num_experts times the multiply-adds of a dense layer.
            "matmul": Mixes a kernel per example and computes one batched matrix product. Memory for batch kernels, the
                multiply-adds of a dense layer plus num_experts * kernel size per example for mixing.
            "auto": "experts" for inputs [batch, features], where it costs as much as mixing alone, else "matmul".
        *args, **kwargs: Further arguments of `keras.layers.Dense`. Initializers, regularizers and constraints apply to
            each expert's kernel [features, units] and bias [units] separately.

    Raises:
        ValueError: An argument is out of range, the implementation is unknown, or routing_weights are not
            [batch, num_experts].

    Example:
        >>> from convzoo.layers import CondDense, ExpertRouting
        >>> features = keras.ops.ones((2, 16))
        >>> routing_weights = ExpertRouting(num_experts=4)(features)
        >>> tuple(CondDense(10, num_experts=4)(features, routing_weights).shape)
        (2, 10)
    """

    IMPLEMENTATIONS = ("experts", "matmul")

    def __init__(self, units: int, num_experts: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(units, *args, num_experts=num_experts, **kwargs)

    def choose_implementation(self, inputs_shape: Shape, training: bool = False) -> str:
        """Returns the implementation that the layer uses for inputs of this shape."""
        if self.implementation != "auto":
            return self.implementation
        # "matmul" takes 7 times as long as "experts" for 1280 features and 1000 units; see docs/implementations.md.
        return "experts" if len(inputs_shape) == 2 else "matmul"

    def compute_outputs(self, inputs: Tensor, routing_weights: Tensor, training: bool) -> Tensor:
        batch, *positions, features = ops.shape(inputs)
        x = inputs if len(inputs.shape) == 3 else ops.reshape(inputs, (batch, -1, features))
        if self.choose_implementation(inputs.shape, training) == "experts":
            rows = self.num_experts * features
            scaled = ops.expand_dims(routing_weights, (1, 3)) * ops.expand_dims(ops.cast(x, self.variable_dtype), 2)
            scaled = ops.reshape(ops.cast(scaled, self.compute_dtype), (*ops.shape(x)[:2], rows))
            outputs = ops.matmul(scaled, ops.reshape(ops.cast(self.kernel, self.compute_dtype), (rows, self.units)))
        else:
            outputs = ops.matmul(x, self.mix(routing_weights, self.kernel, fused=True))
        if self.use_bias:
            outputs = outputs + self.mix(routing_weights, self.bias)[:, None, :]
        return ops.reshape(outputs, (batch, *positions, self.units))
