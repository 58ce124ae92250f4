"""A sparse spatial stencil and a 1x1 convolution as one operator."""

import math

import keras
from keras import KerasTensor, activations, constraints, initializers, ops, regularizers

from convzoo.layers import window
from convzoo.layers.checks import positive
from convzoo.layers.forms import Forms
from convzoo.layers.image_window import ImageWindow
from convzoo.layers.target import get_target

_WINDOW = [(i, j) for i in range(3) for j in range(3)]
# Positions (row, column) of a 3x3 window that a stencil has besides its centre.
STENCILS = {
    "9-point": tuple(position for position in _WINDOW if position != (1, 1)),
    "5-point": ((0, 1), (1, 0), (1, 2), (2, 1)),
    "3-point-horizontal": ((1, 0), (1, 2)),
    "3-point-vertical": ((0, 1), (2, 1)),
}
# Channels at which a dense convolution fills the vectors of a CPU, or the matrix unit of a TPU.
_WIDE = {"cpu": 32}
_WIDE_ELSEWHERE = 128


def count_groups(channels, filters, group_size):
    """The number of groups between so many channels and filters; None if groups of this size do not divide them."""
    groups, rest = divmod(math.gcd(channels, filters), group_size or math.gcd(channels, filters))
    return None if rest else groups


@keras.saving.register_keras_serializable(package="convzoo")
class LeanConv2D(ImageWindow, Forms, keras.layers.Layer):
    """A 3x3 convolution whose centre couples all channels and whose other taps only those of a group.

    LeanConvNets (arXiv 1910.13157): y = K_sp x + K_1x1 x, where K_sp is a stencil, block-diagonal in the channels, and
    K_1x1 a full 1x1 convolution. They are one linear operator: a convolution by the dense kernel `to_dense()`, most of
    whose entries are zero. The stencil's centre would double the 1x1's diagonal blocks; as in the authors' earlier
    code there is one weight for both, the 1x1's. Of C channels to C filters, C^2 + S g C weights and multiply-adds a
    position remain, with S taps besides the centre and g channels in a group.

    How the paper treats a change of width is not known; here there are gcd(channels, filters) / g groups. Where one
    width is a multiple of the other, the narrower has g channels in each group and the stencil S g max(channels,
    filters) weights. Strides move the whole operator, as they move the dense convolution that it equals.

    Call arguments:
        inputs: [batch, height, width, channels], or [batch, channels, height, width] for "channels_first".
        transposed: True for the adjoint operator, with the same weights: K^T of a symmetric step x - K^T f(K x). It has
            no bias and no activation, and asks for strides of 1, padding "same" and as many filters as channels.

    Returns:
        [batch, output height, output width, filters], or with the filters first.

    Args:
        filters: number of output channels.
        stencil: "9-point", "5-point" (a cross), "3-point-horizontal" or "3-point-vertical", the centre counted.
        group_size: channels of a group, as above; a divisor of the greatest common divisor of channels and filters. 1
            is a depthwise stencil. None is all channels in one group, with "9-point" the full convolution.
        strides, dilation_rate: a positive integer or a pair of them; strides or dilation_rate must be 1.
        padding: "valid" or "same", of the 3x3 window whatever the stencil.
        data_format: "channels_last" or "channels_first"; Keras's own setting by default. The second is transposed to
            the first inside.
        activation, use_bias: as in `keras.layers.Conv2D`.
        kernel_initializer: of stencil and 1x1 together: they are cut from one draw [1, 1, inputs of an output,
            filters], so that the fan-in is channels + S * (channels of a group).
        kernel_regularizer, kernel_constraint: of the stencil [S, channels of a group, filters] and of the 1x1
            [1, 1, channels, filters], each by itself.
        bias_initializer, bias_regularizer, bias_constraint: of the bias [filters].
        activity_regularizer: of the outputs.
        form: how it is computed; all forms agree.
            "split": the stencil as a depthwise or grouped convolution, and the 1x1.
            "blocks": the stencil as dense convolutions of slices of the channels, each with as many groups as make it
                wide enough, and the 1x1. More arithmetic, no grouped convolution.
            "dense": one convolution with the dense kernel. All of its arithmetic, one read of the input.
            "taps": shifted inputs, times their weights, added to the 1x1.
            "auto": by the widths and `convzoo.layers.set_target`.

    Raises:
        ValueError: sizes below 1, an unknown stencil or form, a group size that does not divide both widths, strides
            and dilation together, a layer that has no adjoint called for it.
    """

    FORMS = ("split", "blocks", "dense", "taps")

    def __init__(
        self,
        filters,
        stencil="5-point",
        group_size=1,
        strides=(1, 1),
        padding="valid",
        data_format=None,
        dilation_rate=(1, 1),
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
            (3, 3),
            strides,
            padding,
            data_format,
            dilation_rate,
            form=form,
            activity_regularizer=activity_regularizer,
            **kwargs,
        )
        if stencil not in STENCILS:
            raise ValueError(f"stencil {stencil!r} is not one of {', '.join(map(repr, STENCILS))}")
        self.filters = positive(filters, "filters")
        self.stencil = stencil
        self.group_size = None if group_size is None else positive(group_size, "group_size")
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)

    @property
    def positions(self):
        """Where in the window the stencil has taps, as (row, column), besides the centre."""
        return STENCILS[self.stencil]

    def count_groups(self, channels):
        """The number of groups for so many input channels. Raises if the group size does not divide the widths."""
        groups = count_groups(channels, self.filters, self.group_size)
        if groups is None:
            raise ValueError(
                f"{self.name} cannot have groups of {self.group_size} between {channels} channels and {self.filters} "
                "filters: group_size must divide both"
            )
        return groups

    def build(self, inputs_shape):
        self.check_inputs(inputs_shape)
        self.channels = inputs_shape[self.channel_axis]
        self.groups = self.count_groups(self.channels)
        self.compute_output_shape(inputs_shape)
        width, taps = self.channels // self.groups, len(self.positions)
        self.kernel = self._weight("kernel", (1, 1, self.channels, self.filters), slice(None, self.channels))
        self.stencil_kernel = self._weight("stencil", (taps, width, self.filters), slice(self.channels, None))
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.filters,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )

    def _weight(self, name, shape, rows):
        fan_in = self.channels + len(self.positions) * (self.channels // self.groups)

        def initialize(shape, dtype=None, **kwargs):
            whole = self.kernel_initializer((1, 1, fan_in, self.filters), dtype=dtype)
            return ops.reshape(whole[:, :, rows], shape)

        return self.add_weight(
            name=name,
            shape=shape,
            initializer=initialize,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )

    def choose_form(self, images_shape, training=False):
        """The form that "auto" stands for, whatever the inputs' shape, in training and out of it."""
        if self.form != "auto":
            return self.form
        # By the TPU compiler's estimates (scripts/tpu_forms.py, v5e, by cost) "dense" takes 1.0 of the time of the full
        # convolution up to 128 channels, where "split" of single channels takes 1.1 to 1.7; of 256 that takes 0.7.
        fills_matrix_unit = get_target() != "tpu" or self.channels > _WIDE_ELSEWHERE
        if self.channels == self.groups > 1 and fills_matrix_unit:
            return "split"
        # By scripts/benchmark_layers.py on two CPU cores "blocks" takes 0.3 to 0.8 of the full convolution's time, and
        # "split" with groups of several channels up to 29 times it; one block is the full convolution and a 1x1.
        return "dense" if self._count_blocks() == 1 else "blocks"

    def call(self, inputs, transposed=False, training=None):
        self.check_inputs(inputs.shape)
        images = self.to_last(inputs)
        center, stencil = (ops.convert_to_tensor(weight) for weight in (self.kernel, self.stencil_kernel))
        if transposed:
            center, stencil = self._transposed(center, stencil)
        form = self.choose_form(images.shape, bool(training))
        if form == "dense":
            outputs = self._conv(images, self._dense(center, stencil))
        else:
            images_under = window.under_middle(images, *self.geometry)
            outputs = ops.conv(images_under, center, self.strides, "valid", data_format="channels_last")
            outputs = outputs + getattr(self, f"_{form}")(images, stencil)
        if transposed:
            return self.from_last(outputs)
        if self.use_bias:
            outputs = outputs + self.bias
        outputs = self.from_last(outputs)
        return outputs if self.activation is None else self.activation(outputs)

    def _transposed(self, center, stencil):
        """The weights of the adjoint operator."""
        self._check_adjoint()
        # A shift is undone by its opposite: the tap at the other end of the stencil, which is symmetric and in order.
        width = self.channels // self.groups
        stencil = ops.reshape(ops.flip(stencil, axis=0), (len(self.positions), width, self.groups, width))
        stencil = ops.reshape(ops.transpose(stencil, (0, 3, 2, 1)), (len(self.positions), width, self.channels))
        return ops.transpose(center, (0, 1, 3, 2)), stencil

    def _check_adjoint(self):
        if self.filters != self.channels or max(self.strides) > 1 or self.padding != "same":
            raise ValueError(
                f"{self.name} has no adjoint: it wants strides of 1, padding 'same' and as many filters as channels, "
                f"not {self.strides}, {self.padding!r}, {self.channels} channels and {self.filters} filters"
            )

    def _split(self, images, stencil):
        kernel = self._in_window(ops.unstack(stencil))
        # TensorFlow has no depthwise convolution with unequal strides.
        if self.channels != self.groups or self.strides[0] != self.strides[1]:
            return self._conv(images, kernel)
        kernel = ops.reshape(kernel, (3, 3, self.channels, self.filters // self.channels))
        return ops.depthwise_conv(
            images, kernel, self.strides, self.padding, data_format="channels_last", dilation_rate=self.dilation_rate
        )

    def _count_blocks(self):
        """How many dense convolutions the form "blocks" makes."""
        width, wide = self.channels // self.groups, _WIDE.get(get_target(), _WIDE_ELSEWHERE)
        divisors = [n for n in range(1, self.groups + 1) if self.groups % n == 0]
        return self.groups // next((n for n in divisors if n * width >= wide), self.groups)

    def _blocks(self, images, stencil):
        blocks = self._count_blocks()
        kernels = ops.unstack(self._block_diagonal(stencil, blocks), axis=1)
        slices = ops.split(images, blocks, axis=3) if blocks > 1 else [images]
        outputs = [
            self._conv(part, self._in_window(ops.unstack(kernel))) for part, kernel in zip(slices, kernels, strict=True)
        ]
        return ops.concatenate(outputs, axis=3) if blocks > 1 else outputs[0]

    def _taps(self, images, stencil):
        outputs = 0.0
        taps = window.taps(images, *self.geometry, positions=self.positions)
        for tap, weights in zip(taps, ops.unstack(stencil), strict=True):
            outputs = outputs + self._of_groups(tap, weights)
        return outputs

    def _of_groups(self, tap, weights):
        """One tap [batch, height, width, channels] times its weights [channels of a group, filters]."""
        if self.channels == self.groups == self.filters:
            return tap * weights[0]
        sizes, width, made = ops.shape(tap)[:3], self.channels // self.groups, self.filters // self.groups
        tap = ops.reshape(tap, (*sizes, self.groups, width))
        weights = ops.reshape(weights, (width, self.groups, made))
        return ops.reshape(ops.einsum("bhwgi,igo->bhwgo", tap, weights), (*sizes, self.filters))

    def _conv(self, images, kernel):
        return ops.conv(
            images, kernel, self.strides, self.padding, data_format="channels_last", dilation_rate=self.dilation_rate
        )

    def _block_diagonal(self, stencil, blocks):
        """The stencil's kernels [taps, blocks, channels / blocks, filters / blocks], zero between the groups."""
        together, width, made = self.groups // blocks, self.channels // self.groups, self.filters // self.groups
        weights = ops.reshape(stencil, (len(self.positions), width, blocks, together, made))
        # [taps, blocks, group of the inputs, channel of the group, group of the outputs, filter of the group]
        weights = ops.expand_dims(ops.transpose(weights, (0, 2, 3, 1, 4)), 4)
        weights = weights * ops.reshape(ops.eye(together, dtype=weights.dtype), (1, 1, together, 1, together, 1))
        return ops.reshape(weights, (len(self.positions), blocks, together * width, together * made))

    def _in_window(self, taps, center=None):
        """A kernel [3, 3, channels, filters] of the stencil's `taps` [channels, filters] and zeros elsewhere."""
        there = dict(zip(self.positions, taps, strict=True))
        if center is not None:
            there[1, 1] = center
        zeros = ops.zeros_like(taps[0])
        return ops.reshape(ops.stack([there.get(place, zeros) for place in _WINDOW]), (3, 3, *taps[0].shape))

    def to_dense(self):
        """The kernel [3, 3, channels, filters] of the dense convolution that the layer equals."""
        return self._dense(ops.convert_to_tensor(self.kernel), ops.convert_to_tensor(self.stencil_kernel))

    def _dense(self, center, stencil):
        return self._in_window(ops.unstack(self._block_diagonal(stencil, 1)[:, 0]), center[0, 0])

    def fit_dense(self, kernel):
        """Sets stencil and 1x1 to the lean operator nearest to a dense kernel, by the squares of the differences.

        It is the dense kernel's own entries where the lean one has any: the entries are independent.

        Args:
            kernel: [3, 3, channels, filters].

        Raises:
            ValueError: the layer is not built, or the kernel has another shape.
        """
        if not self.built:
            raise ValueError(f"{self.name} is not built: call it once, or build it, before its kernel is set")
        shape = (3, 3, self.channels, self.filters)
        if tuple(kernel.shape) != shape:
            raise ValueError(f"the dense kernel for {self.name} has shape {tuple(kernel.shape)}, expected {shape}")
        kernel = ops.convert_to_tensor(kernel)
        self.kernel.assign(kernel[1:2, 1:2])
        width, made = self.channels // self.groups, self.filters // self.groups
        taps = ops.stack([kernel[place] for place in self.positions])
        taps = ops.reshape(taps, (len(self.positions), self.groups, width, self.groups, made))
        own = ops.diagonal(taps, axis1=1, axis2=3)  # [taps, width, made, groups]
        self.stencil_kernel.assign(ops.reshape(ops.transpose(own, (0, 1, 3, 2)), self.stencil_kernel.shape))

    def compute_output_spec(self, inputs, transposed=False, training=None):
        if transposed:
            self._check_adjoint()
        return KerasTensor(self.compute_output_shape(inputs.shape), dtype=self.compute_dtype)

    def compute_output_shape(self, inputs_shape):
        return self.shape_of_outputs(inputs_shape, self.filters)

    def get_config(self):
        config = super().get_config()
        del config["kernel_size"]
        return {
            **config,
            "filters": self.filters,
            "stencil": self.stencil,
            "group_size": self.group_size,
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
