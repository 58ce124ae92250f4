"""Pointwise convolution in groups of unequal width."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from convzoo.layers import per_expert, window
from convzoo.layers.custom_kernel_conv2d import CustomKernelConv2D
from convzoo.layers.target import get_target
from convzoo.layers.types import Activation, Pair, Shape, Tensor


@keras.saving.register_keras_serializable(package="convzoo")
class UnevenPointwiseConv2D(CustomKernelConv2D):
    """1x1 convolution in contiguous groups of channels, whose widths have the given ratio.

    Seesaw-Net (arXiv 1905.03672). With ratio (1, 3) the first quarter of the input channels makes the first quarter of
    the output channels, and the other three quarters make the rest:

        outputs[..., group] = inputs[..., group] @ kernel_group + bias[group]

    These are 1/16 + 9/16 of the weights and multiply-adds of a dense 1x1 convolution. Equal shares are a
    `keras.layers.Conv2D` with groups. Use `ChannelShuffle` between two layers, or the other `order`, to mix the groups.

    Call arguments:
        inputs: [batch, height, width, channels], or [batch, channels, height, width] for "channels_first". The layer
            computes in channels-last and transposes the other format.

    Returns:
        [batch, output height, output width, filters], or [batch, filters, output height, output width].

    Args:
        filters: Number of output channels. It and the number of input channels are multiples of sum(ratio).
        ratio: Shares of the groups, positive integers without a common divisor, for example (1, 3) or (1, 1, 2).
        order: "given", or "reversed" to begin with the last share.
        strides, data_format, activation, use_bias: As in `keras.layers.Conv2D`.
        **kwargs: Further arguments of `keras.layers.Conv2D`, except kernel_size, padding, dilation_rate and groups, and
            `implementation`. Kernel initializer, regularizer and constraint apply to each group's kernel [1, 1, its
            channels, its filters] separately; the groups are independent draws.
        implementation: How the outputs are computed; all implementations compute the same.
            "slices": Splits the channels, computes one convolution per group, and concatenates their outputs.
            "dense": Computes one convolution with the kernel `to_dense()`, which is zero between the groups. No copies
                of the inputs and outputs, but the multiply-adds of a dense convolution.
            "auto": The fastest one by shapes, `training` and `convzoo.layers.set_target`.

    Raises:
        ValueError: An argument is out of range, the implementation is unknown, or sum(ratio) does not divide the
            channels or filters.

    Example:
        >>> layer = UnevenPointwiseConv2D(16, ratio=(1, 3))
        >>> outputs = layer(keras.ops.ones((2, 8, 8, 4)))
        >>> [tuple(kernel.shape) for kernel in layer.kernels]
        [(1, 1, 1, 4), (1, 1, 3, 12)]
    """

    IMPLEMENTATIONS = ("slices", "dense")
    FIXED_ARGUMENTS = ("groups", "kernel_size", "padding", "dilation_rate")

    def __init__(
        self,
        filters: int,
        ratio: Sequence[int] = (1, 3),
        order: str = "given",
        strides: Pair = (1, 1),
        data_format: str | None = None,
        activation: Activation = None,
        use_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            filters,
            1,
            strides,
            padding="valid",
            data_format=data_format,
            dilation_rate=1,
            activation=activation,
            use_bias=use_bias,
            **kwargs,
        )
        _check_ratio(ratio)
        if order not in ("given", "reversed"):
            raise ValueError(f"order={order!r} is unknown; use 'given' or 'reversed'")
        self.ratio = tuple(ratio)
        self.order = order

    @property
    def shares(self) -> tuple[int, ...]:
        """The ratio, reversed if `order` says so."""
        return self.ratio if self.order == "given" else self.ratio[::-1]

    def _split(self, width, name):
        """Returns the widths of the groups of `width` channels; `name` says in the error which channels these are."""
        total = sum(self.ratio)
        if width % total:
            raise ValueError(
                f"{width} {name} of {self.name} are not divisible by the sum of ratio={self.ratio}; use a multiple of "
                f"{total}"
            )
        return [share * width // total for share in self.shares]

    def build(self, inputs_shape: Shape) -> None:
        self.set_channels(inputs_shape)
        widths = zip(self._split(self.channels, "input channels"), self._split(self.filters, "filters"), strict=True)
        self.kernels = [
            self.add_weight(
                name=f"kernel_{group}",
                shape=(1, 1, channels, filters),
                initializer=per_expert.nth(self.kernel_initializer, group),
                regularizer=self.kernel_regularizer,
                constraint=self.kernel_constraint,
            )
            for group, (channels, filters) in enumerate(widths)
        ]
        self.add_bias()

    def choose_implementation(self, images_shape: Shape, training: bool = False) -> str:
        """Returns the implementation that the layer uses for channels-last images of this shape.

        The choices are measured on CPU and estimated by the TPU compiler; see docs/implementations.md.
        """
        if self.implementation != "auto":
            return self.implementation
        if get_target() == "lite":
            return "slices"  # the file then has no zeros between the groups
        if len(self.ratio) == 1 or get_target() != "cpu":
            return "dense"  # not measured on GPU
        # Slices copy channels + filters values per position and save a share of channels * filters products.
        products_per_copy = self.channels * self.filters / (self.channels + self.filters)
        return "slices" if products_per_copy > (60 if training else 120) else "dense"

    def to_dense(self) -> Tensor:
        """Returns the kernel [1, 1, channels, filters] of the dense convolution that computes the same."""
        rows = []
        before = 0
        for kernel in self.kernels:
            after = self.filters - before - kernel.shape[3]
            rows.append(ops.pad(ops.convert_to_tensor(kernel), ((0, 0), (0, 0), (0, 0), (before, after))))
            before += kernel.shape[3]
        return ops.concatenate(rows, axis=2)

    def fit_dense(self, kernel: Tensor) -> None:
        """Sets the kernels to the least-squares fit of a dense kernel: its entries between channels of one group.

        Args:
            kernel: [1, 1, channels, filters].

        Raises:
            ValueError: The layer is not built, or the kernel has another shape.
        """
        self.check_dense_kernel(kernel)
        kernel, row, column = ops.convert_to_tensor(kernel), 0, 0
        for weight in self.kernels:
            rows, columns = weight.shape[2:]
            weight.assign(kernel[:, :, row : row + rows, column : column + columns])
            row, column = row + rows, column + columns

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        images = window.to_channels_last(inputs, self.data_format)
        if self.choose_implementation(images.shape, bool(training)) == "dense":
            outputs = self.convolve(images, self.to_dense())
        else:
            ends = list(itertools.accumulate(kernel.shape[2] for kernel in self.kernels))
            slices = ops.split(images, ends[:-1], axis=3) if len(ends) > 1 else [images]
            outputs = [self.convolve(part, kernel) for part, kernel in zip(slices, self.kernels, strict=True)]
            outputs = ops.concatenate(outputs, axis=3)
        return self.add_bias_and_activate(outputs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "ratio": self.ratio, "order": self.order}


def _check_ratio(ratio):
    if not isinstance(ratio, (list, tuple)) or not ratio or not all(isinstance(s, int) and s > 0 for s in ratio):
        raise ValueError(f"ratio={ratio!r} is invalid; use a sequence of positive integers such as (1, 3)")
    if (divisor := math.gcd(*ratio)) > 1:
        reduced = tuple(share // divisor for share in ratio)
        raise ValueError(f"ratio={ratio!r} has the common divisor {divisor}; use {reduced}")
