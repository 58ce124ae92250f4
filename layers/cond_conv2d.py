"""A conditionally parameterised convolution."""

import keras
from keras import constraints, initializers, ops, regularizers

from convzoo.layers import window
from convzoo.layers.barrier import barrier
from convzoo.layers.checks import positive
from convzoo.layers.expert_conv import ExpertConv
from convzoo.layers.target import get_target


@keras.saving.register_keras_serializable(package="convzoo")
class CondConv2D(ExpertConv):
    """activation((a1 W1 + ... + an Wn) * x + (a1 b1 + ... + an bn)), with routing weights a of each example.

    CondConv (arXiv 1904.04971), section 3: one convolution an example, with a kernel mixed for that example. Any batch
    size, known or not.

    Call arguments:
        inputs: [batch, height, width, channels], or [batch, channels, height, width] for "channels_first".
        routing_weights: [batch, num_experts], of `ExpertRouting`; layers of one block share them.

    Returns:
        [batch, output height, output width, filters], or [batch, filters, output height, output width].

    Args:
        filters: number of output channels.
        kernel_size, strides, dilation_rate: a positive integer or a pair of them; strides or dilation_rate must be 1.
        num_experts: number of experts, at least 1.
        padding: "valid" or "same".
        data_format: "channels_last" or "channels_first"; Keras's own setting by default. The second is transposed to
            the first inside.
        groups: number of groups of channels; divides both the input channels and the filters.
        activation, use_bias: as in `keras.layers.Conv2D`; the bias is mixed as the kernels are.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, kernel_constraint, bias_constraint:
            as in `keras.layers.Conv2D`, applied to each expert by itself: kernels [kh, kw, channels / groups, filters],
            biases [filters].
        activity_regularizer: of the outputs.
        form: how it is computed; all forms agree.
            "matmul": 1 x 1 kernels only: mixed kernels, one matrix product an example, all in one batched product.
            "patches": larger kernels: the same on patches, which take kh * kw times the memory of the inputs.
            "map": one example after another, each an ordinary convolution; groups 1 only. No memory beyond the mixed
                kernels, but a sequential loop, which a TPU or GPU does not fill.
            "group": the batch folded into the channels, one convolution with batch * groups groups; dilation_rate 1
                only.
            "experts": all experts' convolutions in one, on the narrower side: inputs scaled by each routing weight, or
                outputs weighted and summed. num_experts times the arithmetic, no mixed kernels.
            "auto": by the kernel size, the shapes, `training` and `convzoo.layers.set_target`.

    Raises:
        ValueError: sizes below 1, filters or channels not divisible by groups, strides and dilation together, an
            unknown form or one that does not apply, routing weights of another width.
    """

    FORMS = ("matmul", "patches", "map", "group", "experts")

    def __init__(
        self,
        filters,
        kernel_size,
        num_experts,
        strides=(1, 1),
        padding="valid",
        data_format=None,
        dilation_rate=(1, 1),
        groups=1,
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
            kernel_size,
            strides,
            padding,
            data_format,
            dilation_rate,
            num_experts=num_experts,
            activation=activation,
            use_bias=use_bias,
            bias_initializer=bias_initializer,
            bias_regularizer=bias_regularizer,
            bias_constraint=bias_constraint,
            form=form,
            activity_regularizer=activity_regularizer,
            **kwargs,
        )
        self.filters = positive(filters, "filters")
        self.groups = positive(groups, "groups")
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        if filters % groups:
            raise ValueError(f"filters {filters} do not divide by groups {groups}")
        if self.kernel_size == (1, 1):
            self.refuse_form("patches", "patches of a 1 x 1 kernel are the inputs, 'matmul' takes them as they are")
        else:
            self.refuse_form("matmul", f"it is for 1 x 1 kernels, kernel_size is {self.kernel_size}")
        if groups > 1:
            self.refuse_form("map", f"it is for groups 1, groups is {groups}")

    def build_weights(self, channels):
        if channels % self.groups:
            raise ValueError(f"{channels} input channels of {self.name} do not divide by groups {self.groups}")
        self.kernel = self.add_expert_weight(
            "kernel",
            (*self.kernel_size, channels // self.groups, self.filters),
            self.kernel_initializer,
            self.kernel_regularizer,
            self.kernel_constraint,
        )
        self.add_bias(self.filters)

    def count_outputs(self, channels):
        return self.filters

    def choose_form(self, images_shape, training=False):
        """The form that "auto" stands for, for channels-last inputs of this shape, in training or out of it."""
        if self.form != "auto":
            return self.form
        if self.num_experts == 1:
            # One expert needs no mixed kernels: a plain convolution, scaled.
            return "experts"
        if self.kernel_size == (1, 1):
            # Of the forms that mix kernels the cheapest on a CPU, and on a TPU by the estimates of its compiler
            # (scripts/tpu_forms.py, v5e, by cost): 1.3 of the plain convolution at 14x14, 2.0 at 7x7, "experts" 4.5
            # and 5.1.
            return "matmul"
        if get_target() == "tpu" and self.is_small(images_shape):
            # By the same estimates, at 7x7x512 "experts" takes 10 times the plain convolution, "patches" 18: few
            # positions share kernels that no longer fit on the chip. At 14x14x256 it is 9.6 and 5.4.
            return "experts"
        # By scripts/benchmark_layers.py on two CPU cores (batch 32, 8 experts, oneDNN, 3 x 3), multiples of the plain
        # convolution: forward "patches" 1.8 to 1.9, "map" 2.5 to 3.7; with the backward pass at 14x14x128 "map" 1.9 to
        # 2.1, "patches" 2.6 to 3.0, at 7x7x256 "patches" 2.3 to 2.4, "map" 2.7 to 3.0. On a GPU "patches" has no
        # measurement behind it: it is the form that needs no loop and no grouped convolution.
        maps = get_target() == "cpu" and self.groups == 1 and training and not self.is_small(images_shape)
        return "map" if maps else "patches"

    def convolve(self, images, routing_weights, training):
        form = self.choose_form(images.shape, training)
        if form == "experts":
            return self._experts(images, routing_weights)
        kernels = self.mix(routing_weights, self.kernel, fused=form in ("matmul", "patches"))
        if form == "map":
            return ops.map(
                lambda pair: ops.squeeze(self._conv(ops.expand_dims(pair[0], 0), pair[1]), 0), (images, kernels)
            )
        if form == "group":
            return self._group(images, kernels)
        if form == "patches":
            return self._matmul(window.taps(images, *self.geometry), kernels)
        if max(self.strides) > 1:
            images = images[:, :: self.strides[0], :: self.strides[1]]
        return self._matmul([images], kernels)

    def _conv(self, images, kernel):
        return ops.conv(
            images, kernel, self.strides, self.padding, data_format="channels_last", dilation_rate=self.dilation_rate
        )

    def _matmul(self, taps, kernels):
        batch, height, width, channels = ops.shape(taps[0])
        positions, groups = len(taps), self.groups
        if groups == 1:
            # No axis of groups and no slice of everything: the gradient of an index is a copy into zeros.
            x = ops.concatenate([ops.reshape(tap, (batch, height * width, channels)) for tap in taps], axis=2)
            y = ops.matmul(x, ops.reshape(kernels, (batch, positions * channels, self.filters)))
        else:
            by_group = (batch, height * width, groups, channels // groups)
            x = ops.concatenate([ops.reshape(tap, by_group) for tap in taps], axis=3)
            kernels = ops.reshape(kernels, (batch, positions * channels // groups, groups, self.filters // groups))
            y = ops.matmul(ops.transpose(x, (0, 2, 1, 3)), ops.transpose(kernels, (0, 2, 1, 3)))
            y = ops.transpose(y, (0, 2, 1, 3))
        return barrier(ops.reshape(y, (batch, height, width, self.filters)))

    def _group(self, images, kernels):
        batch, height, width, channels = ops.shape(images)
        x = ops.reshape(ops.transpose(images, (1, 2, 0, 3)), (1, height, width, batch * channels))
        kernels = ops.transpose(kernels, (1, 2, 3, 0, 4))
        y = self._conv(x, ops.reshape(kernels, (*self.kernel_size, channels // self.groups, batch * self.filters)))
        y = ops.reshape(y, (*ops.shape(y)[1:3], batch, self.filters))
        return ops.transpose(y, (2, 0, 1, 3))

    def _experts(self, images, routing_weights):
        kernel = ops.cast(self.kernel, self.compute_dtype)
        batch, height, width, channels = ops.shape(images)
        routing = ops.reshape(routing_weights, (batch, 1, 1, 1, self.num_experts, 1))
        experts, groups, filters = self.num_experts, self.groups, self.filters
        if channels * self.strides[0] * self.strides[1] <= filters:
            x = ops.reshape(images, (batch, height, width, groups, 1, channels // groups))
            x = ops.cast(ops.cast(x, routing.dtype) * routing, self.compute_dtype)
            kernel = ops.reshape(
                ops.transpose(kernel, (1, 2, 0, 3, 4)), (*self.kernel_size, experts * channels // groups, filters)
            )
            return self._conv(ops.reshape(x, (batch, height, width, experts * channels)), kernel)
        kernel = ops.reshape(kernel, (experts, *self.kernel_size, channels // groups, groups, filters // groups))
        kernel = ops.transpose(kernel, (1, 2, 3, 4, 0, 5))
        y = self._conv(images, ops.reshape(kernel, (*self.kernel_size, channels // groups, experts * filters)))
        y = ops.reshape(y, (*ops.shape(y)[:3], groups, experts, filters // groups))
        y = ops.cast(ops.sum(ops.cast(y, routing.dtype) * routing, axis=4), self.compute_dtype)
        return ops.reshape(y, (*ops.shape(y)[:3], filters))

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "groups": self.groups,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": regularizers.serialize(self.kernel_regularizer),
            "kernel_constraint": constraints.serialize(self.kernel_constraint),
        }
