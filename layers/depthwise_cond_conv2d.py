"""Conditionally parameterized depthwise 2D convolution."""

from typing import Any

import keras

from convzoo.layers.depthwise_implementations import depthwise_group, depthwise_map, depthwise_taps
from convzoo.layers.expert_layer import ExpertConv
from convzoo.layers.target import get_target
from convzoo.layers.types import Pair, Shape, Tensor


@keras.saving.register_keras_serializable(package="convzoo")
class DepthwiseCondConv2D(ExpertConv, keras.layers.DepthwiseConv2D):
    """Depthwise 2D convolution whose kernel is mixed for each example from `num_experts` kernels.

    CondConv (arXiv 1904.04971, section 3). With the routing weights `a = routing_weights[b]` of example b:

        kernel = a[0] * kernel_0 + ... + a[n-1] * kernel_n-1              [kh, kw, channels, depth_multiplier]
        bias = a[0] * bias_0 + ... + a[n-1] * bias_n-1                    [channels * depth_multiplier]
        outputs[b] = activation(depthwise_conv2d(inputs[b], kernel) + bias)

    Use it beside `CondConv2D` for the depthwise convolutions of a conditional block, as CondConv-EfficientNet does.

    Call arguments:
        inputs: [batch, height, width, channels], or [batch, channels, height, width] for "channels_first". The layer
            computes in channels-last and transposes the other format.
        routing_weights: [batch, num_experts], usually of an `ExpertRouting` that the layers of a block share. None: the
            layer has its own `ExpertRouting` of the inputs, `routing`.

    Returns:
        [batch, output height, output width, channels * depth_multiplier], or with the channels first.

    Args:
        kernel_size: A positive integer or a pair of them.
        num_experts: Number of experts, at least 1.
        implementation: How the outputs are computed; all implementations compute the same from kernels mixed per
            example, with the multiply-adds of a plain depthwise convolution.
            "map": Equal strides only. Loops over the batch with one depthwise convolution per example. No additional
                memory; the sequential loop leaves most of a TPU or GPU idle.
            "taps": Sums the shifted images times the kernel's value at each of the kh * kw taps. XLA fuses the sum into
                few passes over the images; without XLA it takes kh * kw passes.
            "group": Equal strides and dilation_rate=1 only. Computes one depthwise convolution of one image with
                batch * channels channels. Memory for transposed copies of inputs and outputs.
            "auto": The fastest one by strides, image size and `convzoo.layers.set_target`.
        *args, **kwargs: Further arguments of `keras.layers.DepthwiseConv2D`, from `strides` on. Initializers,
            regularizers and constraints apply to each expert's kernel and bias separately.

    Raises:
        ValueError: An argument is out of range, the implementation is unknown or does not apply, strides and
            dilation_rate are both larger than 1, or routing_weights are not [batch, num_experts].

    Example:
        >>> from convzoo.layers import DepthwiseCondConv2D, ExpertRouting
        >>> images = keras.ops.ones((2, 8, 8, 3))
        >>> routing_weights = ExpertRouting(num_experts=4)(images)
        >>> outputs = DepthwiseCondConv2D(3, num_experts=4, strides=2, padding="same")(images, routing_weights)
        >>> tuple(outputs.shape)
        (2, 4, 4, 3)
    """

    IMPLEMENTATIONS = ("map", "taps", "group")

    def __init__(self, kernel_size: Pair, num_experts: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(kernel_size, *args, num_experts=num_experts, **kwargs)
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(f"strides={self.strides} and dilation_rate={self.dilation_rate} exclude each other; use 1")
        if self.strides[0] != self.strides[1]:
            # TensorFlow has no depthwise convolution with unequal strides.
            self.refuse_implementations(("map", "group"), f"it requires equal strides, not strides={self.strides}")
        if max(self.dilation_rate) > 1:
            # TensorFlow dilates only a static number of channels, and batch * channels can be unknown.
            self.refuse_implementation("group", f"it requires dilation_rate=1, not {self.dilation_rate}")

    def add_weight(self, *, name: str, **kwargs: Any) -> keras.Variable:
        # Keras 3 has renamed the kernel of its DepthwiseConv2D; checkpoints have the earlier name.
        return super().add_weight(name="depthwise_kernel" if name == "kernel" else name, **kwargs)

    def choose_implementation(self, images_shape: Shape, training: bool = False) -> str:
        """Returns the implementation that the layer uses for channels-last images of this shape.

        The choices are measured on CPU and estimated by the TPU compiler; see docs/implementations.md.
        """
        if self.implementation != "auto":
            return self.implementation
        equal_strides = self.strides[0] == self.strides[1]
        if get_target() == "cpu" and equal_strides:
            return "group" if self._fits_caches(images_shape) else "map"
        if get_target() == "gpu" and equal_strides and max(self.dilation_rate) == 1:
            return "group"  # not measured: one large convolution should beat kh * kw passes
        return "taps"

    def _fits_caches(self, images_shape):
        """Returns True if "group" is faster than "map" on a CPU: its rows of batch * channels values fit the caches."""
        if max(self.dilation_rate) > 1 or None in images_shape[1:3]:
            return False
        values = images_shape[1] * images_shape[2] * images_shape[3]
        return values <= (65536 if max(self.kernel_size) <= 3 else 16384)

    def convolve(self, images: Tensor, routing_weights: Tensor, training: bool) -> Tensor:
        kernels = self.mix(routing_weights, self.kernel)
        implementation = self.choose_implementation(images.shape, training)
        if implementation == "taps":
            return depthwise_taps(images, kernels, *self.geometry)
        if implementation == "group":
            # oneDNN computes the kernel gradient fast for 3x3 kernels and slowly for larger ones.
            custom_gradient = get_target() == "cpu" and max(self.kernel_size) > 3
            return depthwise_group(images, kernels, *self.geometry, custom_gradient)
        return depthwise_map(images, kernels, *self.geometry)
