"""A point-wise convolution in groups of unequal size."""

import itertools
import math

import keras
from keras import activations, constraints, initializers, ops, regularizers

from convzoo.layers import per_expert
from convzoo.layers.checks import positive
from convzoo.layers.forms import Forms
from convzoo.layers.image_window import ImageWindow
from convzoo.layers.target import get_target


@keras.saving.register_keras_serializable(package="convzoo")
class UnevenPointwiseConv2D(ImageWindow, Forms, keras.layers.Layer):
    """1x1 convolutions of contiguous groups of channels, whose shares of the inputs and of the outputs are `ratio`.

    Seesaw-Net (arXiv 1905.03672): with a ratio of 1:3 the first quarter of the inputs makes the first quarter of the
    outputs, the other three quarters make the rest, for 1/16 + 9/16 of a dense convolution's weights. Equal shares are
    an ordinary grouped convolution.

    Call arguments:
        inputs: [batch, height, width, channels], or [batch, channels, height, width] for "channels_first".

    Returns:
        [batch, output height, output width, filters], or with the filters first: the groups' outputs in order.

    Args:
        filters: number of output channels; like the channels a multiple of the ratio's sum.
        ratio: shares of the groups, positive integers without a common divisor, as (1, 3) or (1, 1, 2).
        order: "given", or "reversed" for the last share first: with (1, 3) a network can tip the split from one
            quarter to three and back.
        strides: a positive integer or a pair of them.
        data_format: "channels_last" or "channels_first"; Keras's own setting by default. The second is transposed to
            the first inside.
        activation, use_bias: as in `keras.layers.Conv2D`.
        kernel_initializer, kernel_regularizer, kernel_constraint: of each group's kernel [1, 1, its channels, its
            filters] by itself; groups are independent draws.
        bias_initializer, bias_regularizer, bias_constraint: of the bias [filters].
        activity_regularizer: of the outputs.
        form: how it is computed; all forms agree.
            "slices": a convolution of each group's slice of the channels, put together.
            "dense": one convolution with a kernel that is zero between the groups: no slices and no copies, for more
                arithmetic.
            "grouped": equal shares only: one grouped convolution.
            "auto": by the shapes, `training` and `convzoo.layers.set_target`.

    Raises:
        ValueError: sizes below 1, a ratio that is none or has a common divisor, channels or filters that the ratio
            does not divide, an unknown order, an unknown form or one that does not apply.
    """

    FORMS = ("slices", "dense", "grouped")

    def __init__(
        self,
        filters,
        ratio=(1, 3),
        order="given",
        strides=(1, 1),
        data_format=None,
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
            (1, 1),
            strides,
            "valid",
            data_format,
            (1, 1),
            form=form,
            activity_regularizer=activity_regularizer,
            **kwargs,
        )
        self.filters = positive(filters, "filters")
        self.ratio = _checked(ratio)
        self.order = order
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        if order not in ("given", "reversed"):
            raise ValueError(f"order {order!r} is neither 'given' nor 'reversed'")
        if len(set(self.ratio)) > 1:
            self.refuse_form("grouped", f"it is for equal shares, ratio is {self.ratio}")

    @property
    def shares(self):
        """The ratio in the order in which it is taken."""
        return self.ratio if self.order == "given" else self.ratio[::-1]

    def split(self, width, what):
        """Widths of the groups along an axis of `width` channels. Raises, saying `what` they are, if it cannot be."""
        whole = sum(self.ratio)
        if width % whole:
            raise ValueError(
                f"{width} {what} of {self.name} do not divide by ratio {':'.join(map(str, self.ratio))}: give a "
                f"multiple of {whole}"
            )
        return [share * width // whole for share in self.shares]

    def build(self, inputs_shape):
        self.check_inputs(inputs_shape)
        self.channels = inputs_shape[self.channel_axis]
        self.compute_output_shape(inputs_shape)
        widths = zip(self.split(self.channels, "input channels"), self.split(self.filters, "filters"), strict=True)
        self.kernels = [
            self.add_weight(
                name=f"kernel_{group}",
                shape=(1, 1, *pair),
                initializer=per_expert.nth(self.kernel_initializer, group),
                regularizer=self.kernel_regularizer,
                constraint=self.kernel_constraint,
            )
            for group, pair in enumerate(widths)
        ]
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.filters,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )

    def choose_form(self, images_shape, training=False):
        """The form that "auto" stands for, for channels-last inputs of this shape, in training or out of it."""
        if self.form != "auto":
            return self.form
        if len(self.ratio) == 1 or get_target() != "cpu":
            # By the TPU compiler's estimates (scripts/tpu_forms.py, v5e) "dense" takes 1.0 of the dense layer, "slices"
            # 1.2 by cost and 2 by schedule. Nothing was measured on a GPU.
            return "dense"
        # By scripts/benchmark_layers.py on two CPU cores (batch 32, oneDNN), 1:3 as multiples of the dense layer,
        # forward: 28x28 192->32 "slices" 1.8, "dense" 1.2; 14x14 576->96 1.3 and 1.0; 7x7 160->960 1.0 and 1.1; with
        # the backward pass 1.25 and 1.04, 1.0 and 1.04, 0.8 and 1.1. Slicing copies channels + filters values for
        # channels * filters products. "grouped" takes up to 12 times the dense layer, and never the least in training.
        products = self.channels * self.filters / (self.channels + self.filters)
        return "slices" if products > (60 if training else 120) else "dense"

    def to_dense(self):
        """The kernel [1, 1, channels, filters] of the dense convolution that the layer equals."""
        rows = []
        before = 0
        for kernel in self.kernels:
            after = self.filters - before - kernel.shape[3]
            rows.append(ops.pad(ops.convert_to_tensor(kernel), ((0, 0), (0, 0), (0, 0), (before, after))))
            before += kernel.shape[3]
        return ops.concatenate(rows, axis=2)

    def call(self, inputs, training=None):
        self.check_inputs(inputs.shape)
        images = self.to_last(inputs)
        form = self.choose_form(images.shape, bool(training))
        if form == "dense":
            outputs = self._conv(images, self.to_dense())
        elif form == "grouped":
            outputs = self._conv(images, ops.concatenate(self.kernels, axis=3))
        else:
            bounds = list(itertools.accumulate(kernel.shape[2] for kernel in self.kernels))
            slices = ops.split(images, bounds[:-1], axis=3) if len(bounds) > 1 else [images]
            outputs = [self._conv(part, kernel) for part, kernel in zip(slices, self.kernels, strict=True)]
            outputs = ops.concatenate(outputs, axis=3)
        if self.use_bias:
            outputs = outputs + self.bias
        outputs = self.from_last(outputs)
        return outputs if self.activation is None else self.activation(outputs)

    def _conv(self, images, kernel):
        return ops.conv(images, kernel, self.strides, "valid", data_format="channels_last")

    def compute_output_shape(self, inputs_shape):
        return self.shape_of_outputs(inputs_shape, self.filters)

    def get_config(self):
        config = super().get_config()
        for name in ("kernel_size", "padding", "dilation_rate"):
            del config[name]
        return {
            **config,
            "filters": self.filters,
            "ratio": self.ratio,
            "order": self.order,
            "activation": activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "bias_initializer": initializers.serialize(self.bias_initializer),
            "kernel_regularizer": regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": regularizers.serialize(self.bias_regularizer),
            "activity_regularizer": regularizers.serialize(self.activity_regularizer),
            "kernel_constraint": constraints.serialize(self.kernel_constraint),
            "bias_constraint": constraints.serialize(self.bias_constraint),
        }


def _checked(ratio):
    shares = tuple(ratio) if isinstance(ratio, (list, tuple)) else ()
    if not shares or not all(isinstance(share, int) and share > 0 for share in shares):
        raise ValueError(f"ratio {ratio!r} is no sequence of positive integers, as (1, 3)")
    if (divisor := math.gcd(*shares)) > 1:
        raise ValueError(
            f"ratio {ratio!r} has the common divisor {divisor}: write {tuple(s // divisor for s in shares)}"
        )
    return shares
