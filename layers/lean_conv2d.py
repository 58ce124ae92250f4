"""Lean 2D convolution: the sum of a sparse spatial stencil and a 1x1 convolution."""

import math
from typing import Any

import keras
from keras import ops

from convzoo.layers import window
from convzoo.layers.checks import positive
from convzoo.layers.custom_kernel_conv2d import CustomKernelConv2D
from convzoo.layers.target import get_target
from convzoo.layers.types import Activation, Initializer, Pair, Shape, Tensor

_WINDOW = [(i, j) for i in range(3) for j in range(3)]
# Taps (row, column) of a 3x3 kernel in each stencil, without the center.
STENCILS = {
    "9-point": tuple(tap for tap in _WINDOW if tap != (1, 1)),
    "5-point": ((0, 1), (1, 0), (1, 2), (2, 1)),
    "3-point-horizontal": ((1, 0), (1, 2)),
    "3-point-vertical": ((0, 1), (2, 1)),
}
# Channels at which a dense convolution fills the vector registers of a CPU, or the matrix unit of other targets.
_WIDE = {"cpu": 32, "lite": 32}
_WIDE_ELSEWHERE = 128


def count_groups(channels: int, filters: int, group_size: int | None) -> int | None:
    """Returns the number of groups of `group_size` (None: one group), or None if it does not divide both widths."""
    groups, rest = divmod(math.gcd(channels, filters), group_size or math.gcd(channels, filters))
    return None if rest else groups


@keras.saving.register_keras_serializable(package="convzoo")
class LeanConv2D(CustomKernelConv2D):
    """3x3 convolution whose center tap couples all channels and whose other taps couple the channels of a group.

    LeanConvNets (arXiv 1910.13157). The layer adds two convolutions into one linear operator:

        outputs = activation(conv2d(inputs, stencil, groups) + conv2d(inputs, kernel) + bias)

    kernel [1, 1, channels, filters] is a full 1x1 convolution. stencil [S, channels per group, filters] is a grouped
    3x3 convolution with only S taps, without the center, which would repeat weights of the 1x1. With C input and C
    output channels the layer has C*C + S*g*C weights, and as many multiply-adds per output position; g is group_size.
    It computes the same as a dense 3x3 convolution with the kernel `to_dense()`, most of which is zero.

    There are gcd(channels, filters) / group_size groups; the paper's treatment of channels != filters is not known.
    Where one width is a multiple of the other, the narrower one has group_size channels per group.

    Call arguments:
        inputs: [batch, height, width, channels], or [batch, channels, height, width] for "channels_first". The layer
            computes in channels-last and transposes the other format.
        transposed: True for the adjoint operator K^T with the same weights, as in a symmetric step x - K^T f(K x). It
            has no bias and no activation. It requires strides=1, padding="same" and filters equal to channels.

    Returns:
        [batch, output height, output width, filters], or [batch, filters, output height, output width].

    Args:
        filters: Number of output channels.
        stencil: "9-point", "5-point" (a cross), "3-point-horizontal" or "3-point-vertical"; the center counts.
        group_size: Channels per group, a divisor of gcd(channels, filters). 1 is a depthwise stencil, None one group
            of all channels; a "9-point" stencil of one group is a full 3x3 convolution.
        strides, padding, data_format, dilation_rate, activation, use_bias: As in `keras.layers.Conv2D` with a 3x3
            kernel, whatever the stencil.
        kernel_initializer: Draws stencil and 1x1 together as one kernel [1, 1, fan-in, filters], with a fan-in of
            channels + S * channels per group.
        **kwargs: Further arguments of `keras.layers.Conv2D`, except kernel_size and groups, and `implementation`.
            kernel_regularizer and kernel_constraint apply to the stencil and to the 1x1 separately.
        implementation: How the outputs are computed; all implementations compute the same.
            "split": A depthwise or grouped convolution for the stencil, plus the 1x1. The fewest multiply-adds.
            "blocks": As "split", with groups merged until a block of them is wide enough for a dense convolution. More
                multiply-adds, no grouped convolution.
            "dense": One convolution with the kernel `to_dense()`. The most multiply-adds, one read of the inputs.
            "auto": The fastest one by the widths and `convzoo.layers.set_target`.

    Raises:
        ValueError: An argument is out of range, the stencil or implementation is unknown, group_size does not divide
            channels and filters, or transposed=True for a layer without an adjoint.

    Example:
        >>> layer = LeanConv2D(16, stencil="5-point", group_size=1, padding="same")
        >>> outputs = layer(keras.ops.ones((2, 8, 8, 16)))
        >>> tuple(outputs.shape), tuple(layer.kernel.shape), tuple(layer.stencil_kernel.shape)
        ((2, 8, 8, 16), (1, 1, 16, 16), (4, 1, 16))
    """

    IMPLEMENTATIONS = ("split", "blocks", "dense")
    FIXED_ARGUMENTS = ("groups", "kernel_size")

    def __init__(
        self,
        filters: int,
        stencil: str = "5-point",
        group_size: int | None = 1,
        strides: Pair = (1, 1),
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Pair = (1, 1),
        activation: Activation = None,
        use_bias: bool = True,
        kernel_initializer: Initializer = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            filters,
            3,
            strides,
            padding,
            data_format,
            dilation_rate,
            activation=activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            **kwargs,
        )
        if stencil not in STENCILS:
            raise ValueError(f"stencil={stencil!r} is unknown; use one of {', '.join(map(repr, STENCILS))}")
        self.stencil = stencil
        self.group_size = None if group_size is None else positive(group_size, "group_size")

    def build(self, inputs_shape: Shape) -> None:
        self.set_channels(inputs_shape)
        groups = count_groups(self.channels, self.filters, self.group_size)
        if groups is None:
            raise ValueError(
                f"group_size={self.group_size} of {self.name} does not divide {self.channels} input channels and "
                f"{self.filters} filters; use a divisor of {math.gcd(self.channels, self.filters)}"
            )
        self.groups = groups
        # Channels and filters of a group.
        self._group_shape = self.channels // self.groups, self.filters // self.groups
        taps = len(STENCILS[self.stencil])
        self.kernel = self._add_kernel("kernel", (1, 1, self.channels, self.filters), slice(None, self.channels))
        self.stencil_kernel = self._add_kernel(
            "stencil", (taps, self._group_shape[0], self.filters), slice(self.channels, None)
        )
        self.add_bias()

    def _add_kernel(self, name, shape, rows):
        """Creates a weight from these rows of the one draw [1, 1, fan-in, filters]."""
        fan_in = self.channels + len(STENCILS[self.stencil]) * self._group_shape[0]

        def initialize(shape, dtype=None, **kwargs):
            draw = self.kernel_initializer((1, 1, fan_in, self.filters), dtype=dtype)
            return ops.reshape(draw[:, :, rows], shape)

        return self.add_weight(
            name=name,
            shape=shape,
            initializer=initialize,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )

    def choose_implementation(self, images_shape: Shape | None = None, training: bool = False) -> str:
        """Returns the implementation that the layer uses, for images of any shape, in training or not.

        The choices are measured on CPU and estimated by the TPU compiler; see docs/implementations.md.
        """
        if self.implementation != "auto":
            return self.implementation
        # Up to the width of the TPU's matrix unit "dense" takes no longer than the full convolution.
        if self.channels == self.groups > 1 and (get_target() != "tpu" or self.channels > _WIDE_ELSEWHERE):
            return "split"
        return "dense" if self._count_blocks() == 1 else "blocks"

    def call(self, inputs: Tensor, transposed: bool = False, training: bool | None = None) -> Tensor:
        images = window.to_channels_last(inputs, self.data_format)
        kernel, stencil = ops.convert_to_tensor(self.kernel), ops.convert_to_tensor(self.stencil_kernel)
        if transposed:
            kernel, stencil = self._transpose(kernel, stencil)
        implementation = self.choose_implementation()
        if implementation == "dense":
            outputs = self.convolve(images, self._dense_kernel(kernel, stencil))
        else:
            center = window.under_middle(images, *self.geometry)
            outputs = ops.conv(center, kernel, self.strides, "valid", data_format="channels_last")
            outputs = outputs + (self._split if implementation == "split" else self._blocks)(images, stencil)
        if transposed:
            return window.from_channels_last(outputs, self.data_format)
        return self.add_bias_and_activate(outputs)

    def _transpose(self, kernel, stencil):
        """Returns the weights of the adjoint operator.

        The adjoint of a shift is the opposite shift, so the taps swap ends: STENCILS lists them in symmetric order.
        """
        self._check_adjoint()
        taps, width = stencil.shape[:2]
        stencil = ops.reshape(ops.flip(stencil, axis=0), (taps, width, self.groups, width))
        stencil = ops.reshape(ops.transpose(stencil, (0, 3, 2, 1)), (taps, width, self.channels))
        return ops.transpose(kernel, (0, 1, 3, 2)), stencil

    def _check_adjoint(self):
        if self.filters != self.channels or max(self.strides) > 1 or self.padding != "same":
            raise ValueError(
                f"{self.name} has no adjoint with strides={self.strides}, padding={self.padding!r}, {self.channels} "
                f"channels and {self.filters} filters; use strides=1, padding='same' and equal widths"
            )

    def _split(self, images, stencil):
        kernel = self._in_window(stencil)
        # TensorFlow has no depthwise convolution with unequal strides.
        if self.channels != self.groups or self.strides[0] != self.strides[1]:
            return self.convolve(images, kernel)
        kernel = ops.reshape(kernel, (3, 3, self.channels, self.filters // self.channels))
        return ops.depthwise_conv(
            images, kernel, self.strides, self.padding, data_format="channels_last", dilation_rate=self.dilation_rate
        )

    def _count_blocks(self):
        """Returns the number of dense convolutions of "blocks": as many as keep each wide enough."""
        wide = _WIDE.get(get_target(), _WIDE_ELSEWHERE)
        divisors = [n for n in range(1, self.groups + 1) if self.groups % n == 0]
        return self.groups // next((n for n in divisors if n * self._group_shape[0] >= wide), self.groups)

    def _blocks(self, images, stencil):
        blocks = self._count_blocks()
        kernels = ops.unstack(self._block_diagonal(stencil, blocks), axis=1)
        slices = ops.split(images, blocks, axis=3)
        outputs = [self.convolve(x, self._in_window(kernel)) for x, kernel in zip(slices, kernels, strict=True)]
        return ops.concatenate(outputs, axis=3)

    def _block_diagonal(self, stencil, blocks):
        """Returns the stencil's taps [taps, blocks, channels / blocks, filters / blocks], zero between the groups."""
        taps, groups, (channels, filters) = stencil.shape[0], self.groups // blocks, self._group_shape
        kernel = ops.transpose(ops.reshape(stencil, (taps, channels, blocks, groups, filters)), (0, 2, 3, 1, 4))
        # [taps, blocks, group of the inputs, channel of the group, group of the outputs, filter of the group]
        kernel = ops.expand_dims(kernel, 4)
        kernel = kernel * ops.reshape(ops.eye(groups, dtype=kernel.dtype), (1, 1, groups, 1, groups, 1))
        return ops.reshape(kernel, (taps, blocks, groups * channels, groups * filters))

    def _in_window(self, taps, center=None):
        """Returns the kernel [3, 3, channels, filters] of `taps` [taps, channels, filters] and zeros elsewhere."""
        values = dict(zip(STENCILS[self.stencil], ops.unstack(taps), strict=True))
        if center is not None:
            values[1, 1] = center
        zeros = ops.zeros_like(taps[0])
        return ops.reshape(ops.stack([values.get(tap, zeros) for tap in _WINDOW]), (3, 3, *taps.shape[1:]))

    def _dense_kernel(self, kernel, stencil):
        return self._in_window(self._block_diagonal(stencil, 1)[:, 0], center=kernel[0, 0])

    def to_dense(self) -> Tensor:
        """Returns the kernel [3, 3, channels, filters] of the dense convolution that computes the same."""
        return self._dense_kernel(ops.convert_to_tensor(self.kernel), ops.convert_to_tensor(self.stencil_kernel))

    def fit_dense(self, kernel: Tensor) -> None:
        """Sets the weights to the least-squares fit of a dense kernel: its entries where `to_dense()` has a weight.

        Args:
            kernel: [3, 3, channels, filters].

        Raises:
            ValueError: The layer is not built, or the kernel has another shape.
        """
        self.check_dense_kernel(kernel)
        kernel = ops.convert_to_tensor(kernel)
        self.kernel.assign(kernel[1:2, 1:2])
        channels, filters = self._group_shape
        taps = ops.stack([kernel[tap] for tap in STENCILS[self.stencil]])
        taps = ops.reshape(taps, (-1, self.groups, channels, self.groups, filters))
        blocks = ops.diagonal(taps, axis1=1, axis2=3)  # [taps, channels, filters, groups]
        self.stencil_kernel.assign(ops.reshape(ops.transpose(blocks, (0, 1, 3, 2)), self.stencil_kernel.shape))

    def compute_output_spec(
        self, inputs: Tensor, transposed: bool = False, training: bool | None = None
    ) -> keras.KerasTensor:
        if transposed:
            self._check_adjoint()
        return super().compute_output_spec(inputs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "stencil": self.stencil, "group_size": self.group_size}
