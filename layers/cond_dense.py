"""A conditionally parameterised dense layer."""

import keras
from keras import constraints, initializers, ops, regularizers

from convzoo.layers.checks import positive
from convzoo.layers.expert_layer import ExpertLayer


@keras.saving.register_keras_serializable(package="convzoo")
class CondDense(ExpertLayer):
    """activation(x . (a1 W1 + ... + an Wn) + (a1 b1 + ... + an bn)), with routing weights a of each example.

    CondConv (arXiv 1904.04971), section 3, for a fully connected layer.

    Call arguments:
        inputs: [batch, ..., features].
        routing_weights: [batch, num_experts], of `ExpertRouting`.

    Returns:
        [batch, ..., units].

    Args:
        units: number of outputs.
        num_experts: number of experts, at least 1.
        activation, use_bias: as in `keras.layers.Dense`; the bias is mixed as the kernels are.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, kernel_constraint, bias_constraint:
            as in `keras.layers.Dense`, applied to each expert by itself: kernels [features, units], biases [units].
        activity_regularizer: of the outputs.
        form: how it is computed; all forms agree.
            "experts": the inputs, scaled by each routing weight, in one matrix product with all experts. No mixed
                kernels; its arithmetic grows with the number of experts and of positions between batch and features.
            "matmul": kernels mixed for every example, one matrix product each. Memory for batch x kernel.
            "auto": "experts" for one position an example, where it does the arithmetic that mixing alone would do;
                else "matmul".

    Raises:
        ValueError: sizes below 1, an unknown form, routing weights of another width.
    """

    FORMS = ("experts", "matmul")

    def __init__(
        self,
        units,
        num_experts,
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        form="auto",
        **kwargs,
    ):
        super().__init__(
            num_experts,
            activation,
            use_bias,
            bias_initializer,
            bias_regularizer,
            bias_constraint,
            form=form,
            activity_regularizer=activity_regularizer,
            **kwargs,
        )
        self.units = positive(units, "units")
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)

    def check_inputs(self, shape):
        if len(shape) < 2 or shape[-1] is None or (self.built and shape[-1] != self.kernel.shape[1]):
            features = self.kernel.shape[1] if self.built else "features"
            raise ValueError(f"inputs of {self.name} have shape {tuple(shape)}, expected [batch, ..., {features}]")

    def build(self, inputs_shape, routing_weights_shape=None):
        self.check_inputs(inputs_shape)
        self.check_routing(routing_weights_shape)
        self.kernel = self.add_expert_weight(
            "kernel",
            (inputs_shape[-1], self.units),
            self.kernel_initializer,
            self.kernel_regularizer,
            self.kernel_constraint,
        )
        self.add_bias(self.units)

    def choose_form(self, inputs_shape, training=False):
        """The form that "auto" stands for, for inputs of this shape; the same in training and out of it."""
        if self.form != "auto":
            return self.form
        # Mixing alone does the arithmetic of "experts" for one position. Measured on two CPU cores, 1280 -> 1000 with 8
        # experts, forward + backward: 7 times the plain layer, "matmul" 50 times.
        return "experts" if len(inputs_shape) == 2 else "matmul"

    def transform(self, inputs, routing_weights, training):
        between = tuple(ops.shape(inputs)[1:-1])
        features = inputs.shape[-1]
        x = inputs if len(inputs.shape) == 3 else ops.reshape(inputs, (ops.shape(inputs)[0], -1, features))
        if self.choose_form(inputs.shape, training) == "experts":
            scaled = routing_weights[:, None, :, None] * ops.cast(x, self.variable_dtype)[:, :, None, :]
            scaled = ops.reshape(ops.cast(scaled, self.compute_dtype), (*ops.shape(x)[:2], self.num_experts * features))
            kernel = ops.cast(self.kernel, self.compute_dtype)
            outputs = ops.matmul(scaled, ops.reshape(kernel, (self.num_experts * features, self.units)))
        else:
            outputs = ops.matmul(x, self.mix(routing_weights, self.kernel, fused=True))
        if self.use_bias:
            outputs = outputs + self.mix(routing_weights, self.bias)[:, None, :]
        return ops.reshape(outputs, (ops.shape(inputs)[0], *between, self.units))

    def compute_output_shape(self, inputs_shape, routing_weights_shape=None):
        self.check_routing(routing_weights_shape)
        return (*inputs_shape[:-1], self.units)

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": regularizers.serialize(self.kernel_regularizer),
            "kernel_constraint": constraints.serialize(self.kernel_constraint),
        }
