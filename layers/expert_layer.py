"""What all conditionally parameterised layers share: expert weights, mixed by each example's routing weights."""

from keras import Layer, activations, constraints, initializers, ops, regularizers

from convzoo.layers import per_expert
from convzoo.layers.checks import positive
from convzoo.layers.forms import Forms
from convzoo.layers.target import get_target


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
        """The weights of each example, [batch, *weight shape], in the compute dtype.

        Args:
            routing_weights: [batch, num_experts].
            weight: [num_experts, *weight shape].
            fused: True where the mixture is an operand of a matrix product. By the estimates of the TPU compiler an
                explicit sum over experts is then fused into the product, and neither the mixture nor its gradient
                reaches memory; everywhere else one matrix product mixes at once.
        """
        if fused and get_target() == "tpu":
            shape = (-1, *[1] * (len(weight.shape) - 1))
            columns = [ops.reshape(routing_weights[:, e], shape) for e in range(self.num_experts)]
            mixed = sum(a * w for a, w in zip(columns, ops.unstack(ops.convert_to_tensor(weight)), strict=True))
        else:
            mixed = ops.matmul(routing_weights, ops.reshape(weight, (self.num_experts, -1)))
            mixed = ops.reshape(mixed, (-1, *weight.shape[1:]))
        return ops.cast(mixed, self.compute_dtype)

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
