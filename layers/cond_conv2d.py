"""Conditionally parameterized 2D convolution."""

from typing import Any

import keras
from keras import ops

from convzoo.layers import window
from convzoo.layers.barrier import barrier
from convzoo.layers.expert_layer import ExpertConv
from convzoo.layers.target import get_target
from convzoo.layers.types import Pair, Shape, Tensor


@keras.saving.register_keras_serializable(package="convzoo")
class CondConv2D(ExpertConv, keras.layers.Conv2D):
    """2D convolution whose kernel is mixed for each example from `num_experts` kernels.

    CondConv (arXiv 1904.04971, section 3). With the routing weights `a = routing_weights[b]` of example b:

        kernel = a[0] * kernel_0 + ... + a[n-1] * kernel_n-1          [kh, kw, channels / groups, filters]
        bias = a[0] * bias_0 + ... + a[n-1] * bias_n-1                [filters]
        outputs[b] = activation(conv2d(inputs[b], kernel) + bias)     [output height, output width, filters]

    The layer has num_experts times the weights of `keras.layers.Conv2D`. Mixing adds one multiply-add per example and
    weight; the convolution itself costs the same. Use it where a network needs more capacity at almost the same number
    of multiply-adds, in its late layers: there the feature maps are small, and in the paper's ablation (table 4) the
    early layers gain almost nothing.

    Call arguments:
        inputs: [batch, height, width, channels], or [batch, channels, height, width] for "channels_first". The layer
            computes in channels-last and transposes the other format.
        routing_weights: [batch, num_experts], usually of an `ExpertRouting` that the layers of a block share. None: the
            layer has its own `ExpertRouting` of the inputs, `routing`.

    Returns:
        [batch, output height, output width, filters], or [batch, filters, output height, output width].

    Args:
        filters: Number of output channels.
        kernel_size: A positive integer or a pair of them.
        num_experts: Number of experts, at least 1.
        implementation: How the outputs are computed; all implementations compute the same.
            "matmul": 1x1 kernels only. Mixes a kernel per example and computes one batched matrix product. Memory for
                batch kernels.
            "patches": Larger kernels only. As "matmul", on the patches under the kernel. Additional memory for
                kh * kw times the inputs.
            "map": groups=1 only. Mixes a kernel per example and loops over the batch with one convolution per example.
                Memory for batch kernels; the sequential loop leaves most of a TPU or GPU idle.
            "experts": Computes one convolution with the kernels of all experts, and multiplies either its inputs or
                its outputs, whichever are smaller, by the routing weights. Memory for num_experts times these inputs
                or outputs and num_experts times the multiply-adds, but no mixed kernels.
            "auto": The fastest one by kernel size, image size, `training` and `convzoo.layers.set_target`.
        *args, **kwargs: Further arguments of `keras.layers.Conv2D`, from `strides` on. Initializers, regularizers and
            constraints apply to each expert's kernel and bias separately.

    Raises:
        ValueError: An argument is out of range, the implementation is unknown or does not apply, or routing_weights
            are not [batch, num_experts].

    Example:
        >>> from convzoo.layers import CondConv2D, ExpertRouting
        >>> images = keras.ops.ones((2, 8, 8, 3))
        >>> routing_weights = ExpertRouting(num_experts=4)(images)
        >>> outputs = CondConv2D(16, 3, num_experts=4, padding="same")(images, routing_weights)
        >>> tuple(outputs.shape)
        (2, 8, 8, 16)
        >>> tuple(CondConv2D(16, 3, num_experts=4)(images).shape)  # with its own routing
        (2, 6, 6, 16)
    """

    IMPLEMENTATIONS = ("matmul", "patches", "map", "experts")

    def __init__(self, filters: int, kernel_size: Pair, num_experts: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(filters, kernel_size, *args, num_experts=num_experts, **kwargs)
        if self.kernel_size == (1, 1):
            self.refuse_implementation("patches", "it requires a kernel larger than 1x1")
        else:
            self.refuse_implementation("matmul", f"it requires a 1x1 kernel, not kernel_size={self.kernel_size}")
        if self.groups > 1:
            self.refuse_implementation("map", f"it requires groups=1, not groups={self.groups}")

    def choose_implementation(self, images_shape: Shape, training: bool = False) -> str:
        """Returns the implementation that the layer uses for channels-last images of this shape.

        The choices are measured on CPU and estimated by the TPU compiler; see docs/implementations.md.
        """
        if self.implementation != "auto":
            return self.implementation
        if self.num_experts == 1:
            return "experts"  # a plain convolution with scaled inputs or outputs
        if self.kernel_size == (1, 1):
            return "matmul"
        sizes = window.output_sizes(images_shape[1:3], *self.geometry)
        is_small = None not in sizes and sizes[0] * sizes[1] <= 64
        if get_target() == "tpu" and is_small:
            # So few positions do not repay mixed kernels, which no longer fit into the chip's own memory.
            return "experts"
        # Not measured on GPU: "patches" needs neither a loop nor a grouped convolution.
        return "map" if get_target() == "cpu" and self.groups == 1 and training and not is_small else "patches"

    def convolve(self, images: Tensor, routing_weights: Tensor, training: bool) -> Tensor:
        implementation = self.choose_implementation(images.shape, training)
        if implementation == "experts":
            return self._convolve_experts(images, routing_weights)
        kernels = self.mix(routing_weights, self.kernel, fused=implementation != "map")
        if implementation == "map":
            return ops.map(
                lambda pair: ops.squeeze(self._conv(ops.expand_dims(pair[0], 0), pair[1]), 0), (images, kernels)
            )
        if implementation == "patches":
            return self._matmul(window.taps(images, *self.geometry), kernels)
        if max(self.strides) > 1:
            images = images[:, :: self.strides[0], :: self.strides[1]]
        return self._matmul([images], kernels)

    def _conv(self, images, kernel):
        return ops.conv(
            images, kernel, self.strides, self.padding, data_format="channels_last", dilation_rate=self.dilation_rate
        )

    def _matmul(self, taps, kernels):
        """Returns the product of the pixels under each tap and `kernels` [batch, kh, kw, channels / groups, filters].

        Args:
            taps: kh * kw tensors [batch, output height, output width, channels].
        """
        batch, height, width, channels = ops.shape(taps[0])
        positions, groups = len(taps), self.groups
        if groups == 1:
            # Without an axis for one group: indexing it would cost a copy into zeros in the backward pass.
            x = ops.concatenate([ops.reshape(tap, (batch, height * width, channels)) for tap in taps], axis=2)
            y = ops.matmul(x, ops.reshape(kernels, (batch, positions * channels, self.filters)))
        else:
            by_group = (batch, height * width, groups, channels // groups)
            x = ops.concatenate([ops.reshape(tap, by_group) for tap in taps], axis=3)
            kernels = ops.reshape(kernels, (batch, positions * channels // groups, groups, self.filters // groups))
            y = ops.matmul(ops.transpose(x, (0, 2, 1, 3)), ops.transpose(kernels, (0, 2, 1, 3)))
            y = ops.transpose(y, (0, 2, 1, 3))
        return barrier(ops.reshape(y, (batch, height, width, self.filters)))

    def _convolve_experts(self, images, routing_weights):
        """Returns the sum over experts of the routing weight times the expert's convolution."""
        kernel = ops.cast(self.kernel, self.compute_dtype)
        batch, height, width, channels = ops.shape(images)
        experts, groups, filters = self.num_experts, self.groups, self.filters
        routing = ops.reshape(routing_weights, (batch, 1, 1, 1, experts, 1))
        if channels * self.strides[0] * self.strides[1] <= filters:
            # The inputs are smaller than the outputs: scaled copies of the inputs for each expert, [..., groups,
            # experts, channels / groups], so that the convolution sums over the experts.
            x = ops.reshape(images, (batch, height, width, groups, 1, channels // groups))
            x = ops.cast(ops.cast(x, routing.dtype) * routing, self.compute_dtype)
            kernel = ops.reshape(
                ops.transpose(kernel, (1, 2, 0, 3, 4)), (*self.kernel_size, experts * channels // groups, filters)
            )
            return self._conv(ops.reshape(x, (batch, height, width, experts * channels)), kernel)
        # Outputs of each expert, [..., groups, experts, filters / groups], then their weighted sum.
        kernel = ops.reshape(kernel, (experts, *self.kernel_size, channels // groups, groups, filters // groups))
        kernel = ops.transpose(kernel, (1, 2, 3, 4, 0, 5))
        y = self._conv(images, ops.reshape(kernel, (*self.kernel_size, channels // groups, experts * filters)))
        y = ops.reshape(y, (*ops.shape(y)[:3], groups, experts, filters // groups))
        y = ops.cast(ops.sum(ops.cast(y, routing.dtype) * routing, axis=4), self.compute_dtype)
        return ops.reshape(y, (*ops.shape(y)[:3], filters))
