"""The learned division of an image into regions."""

from typing import Any

import keras
from keras import ops

from convzoo.layers import window
from convzoo.layers.checks import positive
from convzoo.layers.target import get_target
from convzoo.layers.types import Pair, Tensor


@keras.saving.register_keras_serializable(package="convzoo")
class GuidedMask(keras.layers.Conv2D):
    """Assigns each position of an image to one of `regions` regions, for `DRConv2D`.

    DRConv (arXiv 2003.12243), learnable guided mask. A convolution gives each position a score per region:

        scores = conv2d(inputs, kernel)              [batch, output height, output width, regions]
        outputs = one_hot(argmax(scores))            forward pass; the first of equal scores wins
        d outputs = d softmax(scores)                backward pass: the argmax has no gradient

    The layers of a block share a mask. `ops.argmax(outputs, -1)` is the map of region indices. The layer computes and
    returns its variable dtype, also under mixed precision: rounded scores would move the borders of the regions, and
    regions start almost equal, so that the gradient is a difference of nearly equal numbers.

    Call arguments:
        inputs: [batch, height, width, channels], or [batch, channels, height, width] for "channels_first".

    Returns:
        [batch, output height, output width, regions] of zeros and ones, or [batch, regions, ...].

    Args:
        regions: Number of regions (m in the paper), at least 1.
        kernel_size: Of the convolution. The paper uses the kernel size of the `DRConv2D`, the authors' code 1.
        use_bias: Whether scores have a bias. The authors' code has none.
        **kwargs: Further arguments of `keras.layers.Conv2D`, except filters, groups and activation.

    Raises:
        ValueError: regions is below 1, or an argument is one that the layer does not have or Conv2D refuses.

    Example:
        >>> mask = GuidedMask(regions=4)(keras.ops.ones((2, 8, 8, 3)))
        >>> tuple(mask.shape), float(keras.ops.sum(mask[0, 0, 0]))
        ((2, 8, 8, 4), 1.0)
    """

    def __init__(self, regions: int, kernel_size: Pair = 1, use_bias: bool = False, **kwargs: Any) -> None:
        for name in ("filters", "groups", "activation"):
            if name in kwargs:
                raise ValueError(f"GuidedMask has no argument {name}; remove {name}={kwargs[name]!r}")
        policy = keras.dtype_policies.get(kwargs.pop("dtype", None))
        super().__init__(
            positive(regions, "regions"), kernel_size, use_bias=use_bias, dtype=policy.variable_dtype, **kwargs
        )

    @property
    def regions(self) -> int:
        """Number of regions."""
        return self.filters

    def convolution_op(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        images = window.to_channels_last(inputs, self.data_format)
        scores = ops.conv(
            images, kernel, self.strides, self.padding, data_format="channels_last", dilation_rate=self.dilation_rate
        )
        return window.from_channels_last(scores, self.data_format)

    def call(self, inputs: Tensor) -> Tensor:
        axis = 1 if self.data_format == "channels_first" else -1
        scores = super().call(inputs)
        if get_target() == "lite":
            hard = self._one_hot_of_maximum(scores, axis)
        else:
            hard = ops.one_hot(ops.argmax(scores, axis=axis), self.regions, axis=axis, dtype=scores.dtype)
        soft = ops.softmax(scores, axis=axis)
        # The difference in parentheses is zero, with the gradient of the softmax.
        return hard + (soft - ops.stop_gradient(soft))

    def _one_hot_of_maximum(self, scores, axis):
        """Computes one_hot(argmax(scores)) without the bit operations of Keras's argmax, which LiteRT and ONNX lack.

        Indices are integers, which stay exact in a network that is quantized to int8.
        """
        shape = [1] * len(scores.shape)
        shape[axis] = self.regions
        regions = ops.reshape(ops.arange(self.regions, dtype="int32"), shape)
        is_largest = ops.equal(scores, ops.max(scores, axis=axis, keepdims=True))
        first = ops.min(ops.where(is_largest, regions, self.regions), axis=axis, keepdims=True)
        return ops.cast(ops.equal(regions, first), scores.dtype)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for name in ("filters", "groups", "activation"):
            del config[name]
        return {**config, "regions": self.regions}
