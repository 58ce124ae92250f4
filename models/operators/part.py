"""The parts of a network, and the layers that an operator puts into one."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from keras import KerasTensor, layers


class Part(NamedTuple):
    """A part of a network under construction.

    Attributes:
        kind: "stem", "block", "head" (the 1x1 convolution after the blocks) or "classifier".
        name: Prefix of the names of its layers.
        inputs: Its input: [batch, height, width, channels], pooled to [batch, channels] for the classifier.
        filters: Number of channels that a block returns.
    """

    kind: Literal["stem", "block", "head", "classifier"]
    name: str
    inputs: KerasTensor
    filters: int | None = None


class PartLayers:
    """Applies the convolutions of one part of a network; these are Keras's own.

    An operator overrides the methods whose layers it replaces. Arguments are those of the Keras layer.
    """

    has_adjoint_step = False  # whether `adjoint_step` replaces two 3x3 convolutions

    def conv(self, x, **arguments):
        """Applies a convolution to `x`."""
        return layers.Conv2D(**arguments)(x)

    def depthwise(self, x, **arguments):
        """Applies a depthwise convolution to `x`."""
        return layers.DepthwiseConv2D(**arguments)(x)

    def dense(self, x, **arguments):
        """Applies a dense layer to `x`."""
        return layers.Dense(**arguments)(x)

    def mix(self, x, name: str):
        """Mixes the channels of `x` between two point-wise convolutions."""
        return x

    def mix_outputs(self, x, name: str):
        """Mixes the channels of `x`, the output of the block's last point-wise convolution."""
        return x

    def adjoint_step(self, x, between: Callable, **arguments):
        """Returns K^T between(K x) for a 3x3 convolution K. Called only with `has_adjoint_step`.

        Args:
            x: Input of a residual block whose two 3x3 convolutions keep resolution and width.
            between: Normalization and activation, a function of one tensor.
            **arguments: Arguments of K.
        """
        raise NotImplementedError
