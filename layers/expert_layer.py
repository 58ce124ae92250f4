"""Base classes of the conditionally parameterized layers: one kernel per expert, mixed for each example."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from convzoo.layers import mixing, per_expert, window
from convzoo.layers.checks import positive, valid_or_same
from convzoo.layers.expert_routing import ExpertRouting
from convzoo.layers.implementations import ImplementationChoice
from convzoo.layers.types import Geometry, Shape, Tensor


class ExpertLayer(ImplementationChoice):
    """Mixin, placed before a Keras layer, that gives the layer `num_experts` kernels and biases instead of one.

    The Keras layer validates its arguments, computes output shapes and creates its weights in `build`. `add_weight`
    gives these weights a leading axis of experts. A subclass computes its outputs in `compute_outputs`.

    A layer that is first called without routing weights gets an `ExpertRouting` of its inputs, `routing`.
    """

    routing: ExpertRouting | None = None

    def __init__(self, *args: Any, num_experts: int, **kwargs: Any) -> None:
        # autocast would round the weights to the compute dtype before they are mixed; only the mixture is cast.
        super().__init__(*args, autocast=False, **kwargs)
        self.num_experts = positive(num_experts, "num_experts")

    def build(self, inputs_shape: Shape, routing_weights_shape: Shape | None = None) -> None:
        super().build(inputs_shape)
        if routing_weights_shape is None:
            data_format = getattr(self, "data_format", "channels_last")
            routing = ExpertRouting(
                self.num_experts,
                data_format=data_format,
                dtype=self.dtype_policy,
                trainable=self.trainable,
                name="routing",
            )
            routing.build(inputs_shape)
            self.routing = routing

    def add_weight(
        self,
        *,
        name: str,
        shape: Shape,
        initializer: Callable,
        regularizer: Callable | None = None,
        constraint: Callable | None = None,
        **kwargs: Any,
    ) -> keras.Variable:
        """Creates a weight [num_experts, *shape]; initializer, regularizer and constraint see one expert's `shape`."""
        if name.startswith("lora_"):
            return super().add_weight(
                name=name,
                shape=shape,
                initializer=initializer,
                regularizer=regularizer,
                constraint=constraint,
                **kwargs,
            )
        return super().add_weight(
            name=name,
            shape=(self.num_experts, *shape),
            initializer=per_expert.initializer(initializer),
            regularizer=per_expert.regularizer(regularizer),
            constraint=per_expert.constraint(constraint),
            autocast=False,
            **kwargs,
        )

    def mix(self, routing_weights: Tensor, weight: Tensor, fused: bool = False) -> Tensor:
        """Returns the mixture of each example, [batch, *shape of one expert's weight], in the compute dtype.

        Args:
            routing_weights: [batch, num_experts].
            weight: [num_experts, *shape of one expert's weight].
            fused: See `mixing.mix`.
        """
        return ops.cast(mixing.mix(routing_weights, weight, fused), self.compute_dtype)

    def call(self, inputs: Tensor, routing_weights: Tensor | None = None, training: bool | None = None) -> Tensor:
        weights = self._own_routing()(inputs) if routing_weights is None else routing_weights
        self._check_routing_weights(weights.shape)
        inputs, weights = ops.cast(inputs, self.compute_dtype), ops.cast(weights, self.variable_dtype)
        outputs = self.compute_outputs(inputs, weights, bool(training))
        return outputs if self.activation is None else self.activation(outputs)

    def compute_outputs(self, inputs: Tensor, routing_weights: Tensor, training: bool) -> Tensor:
        """Returns the outputs before the activation.

        Args:
            inputs: The layer's inputs in the compute dtype.
            routing_weights: [batch, num_experts] in the variable dtype.
            training: Whether a backward pass follows. It decides only which implementation "auto" selects.
        """
        raise NotImplementedError

    def compute_output_spec(
        self, inputs: Tensor, routing_weights: Tensor | None = None, training: bool | None = None
    ) -> keras.KerasTensor:
        if routing_weights is None and self.built:
            self._own_routing()
        return super().compute_output_spec(inputs, routing_weights, training=training)

    def compute_output_shape(self, inputs_shape: Shape, routing_weights_shape: Shape | None = None) -> Shape:
        if routing_weights_shape is not None:
            self._check_routing_weights(routing_weights_shape)
        return super().compute_output_shape(inputs_shape)

    def _own_routing(self) -> ExpertRouting:
        if self.routing is None:
            raise ValueError(f"{self.name} was built for given routing weights; call it with routing_weights")
        return self.routing

    def _check_routing_weights(self, shape):
        if len(shape) != 2 or shape[1] not in (None, self.num_experts):
            raise ValueError(
                f"routing_weights of {self.name} have shape {tuple(shape)}; use [batch, {self.num_experts}], one "
                "weight per expert of the layer"
            )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_experts": self.num_experts}


class ExpertConv(ExpertLayer):
    """Mixin, placed before a 2D convolution layer of Keras. A subclass computes the convolution in `convolve`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        valid_or_same(self.padding)

    @property
    def geometry(self) -> Geometry:
        """The arguments after the images of the functions in `window`."""
        return self.kernel_size, self.strides, self.padding, self.dilation_rate

    def compute_outputs(self, inputs: Tensor, routing_weights: Tensor, training: bool) -> Tensor:
        outputs = self.convolve(window.to_channels_last(inputs, self.data_format), routing_weights, training)
        if self.use_bias:
            outputs = outputs + self.mix(routing_weights, self.bias)[:, None, None, :]
        return window.from_channels_last(outputs, self.data_format)

    def convolve(self, images: Tensor, routing_weights: Tensor, training: bool) -> Tensor:
        """Returns the convolution of [batch, height, width, channels] `images`, without bias; see `compute_outputs`."""
        raise NotImplementedError
