"""What all conditionally parameterised layers share: expert weights, mixed by each example's routing weights."""

from keras import Layer, activations, constraints, initializers, ops, regularizers

from convzoo.layers import mixing, per_expert
from convzoo.layers.checks import positive
from convzoo.layers.forms import Forms


class ExpertLayer(Forms, Layer):
    """A layer whose weights are mixed for every example from `num_experts` sets of weights.

    A subclass adds its kernels with `add_expert_weight`, computes in `transform` and lists its forms in `FORMS`.
    """

    def __init__(
        self, num_experts, activation, use_bias, bias_initializer, bias_regularizer, bias_constraint, **kwargs
    ):
        # No casts by Keras: weights and routing are mixed in the weights' own precision, and only the mixture is cast.
        super().__init__(autocast=False, **kwargs)
        self.num_experts = positive(num_experts, "num_experts")
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.bias_initializer = initializers.get(bias_initializer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.bias_constraint = constraints.get(bias_constraint)
        self.bias = None

    def add_expert_weight(self, name, shape, initializer, regularizer, constraint):
        """A weight [num_experts, *shape]; initialiser, regulariser and constraint see `shape`."""
        return self.add_weight(
            name=name,
            shape=(self.num_experts, *shape),
            initializer=per_expert.initializer(initializer),
            regularizer=per_expert.regularizer(regularizer),
            constraint=per_expert.constraint(constraint),
            autocast=False,
        )

    def add_bias(self, size):
        if self.use_bias:
            self.bias = self.add_expert_weight(
                "bias", (size,), self.bias_initializer, self.bias_regularizer, self.bias_constraint
            )

    def mix(self, routing_weights, weight, fused=False):
        """The weights of each example, [batch, *weight shape], in the compute dtype; see `mixing.mix`.

        Args:
            routing_weights: [batch, num_experts].
            weight: [num_experts, *weight shape].
            fused: True where the mixture is an operand of a matrix product.
        """
        return ops.cast(mixing.mix(routing_weights, weight, fused), self.compute_dtype)

    def check_routing(self, shape):
        if shape is None:
            return
        if len(shape) != 2 or shape[1] not in (None, self.num_experts):
            raise ValueError(
                f"routing_weights of {self.name} have shape {tuple(shape)}, expected [batch, {self.num_experts}]: "
                f"give one weight for each of the layer's {self.num_experts} experts"
            )

    def call(self, inputs, routing_weights, training=None):
        self.check_inputs(inputs.shape)
        self.check_routing(routing_weights.shape)
        inputs = ops.cast(inputs, self.compute_dtype)
        outputs = self.transform(inputs, ops.cast(routing_weights, self.variable_dtype), bool(training))
        return outputs if self.activation is None else self.activation(outputs)

    def check_inputs(self, shape):
        """Raises if the layer cannot take inputs of `shape`."""
        raise NotImplementedError

    def transform(self, inputs, routing_weights, training):
        """The layer without its activation; inputs come in the compute dtype, routing in the weights' dtype.

        `training` only helps to choose the form: what is best with a backward pass need not be best without.
        """
        raise NotImplementedError

    def get_config(self):
        return {
            **super().get_config(),
            "num_experts": self.num_experts,
            "activation": activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "bias_initializer": initializers.serialize(self.bias_initializer),
            "bias_regularizer": regularizers.serialize(self.bias_regularizer),
            "bias_constraint": constraints.serialize(self.bias_constraint),
            "activity_regularizer": regularizers.serialize(self.activity_regularizer),
        }
