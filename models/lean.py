"""Lean convolutions in a network (LeanConvNets, arXiv 1910.13157)."""

import dataclasses

from convzoo.errors import ModelError
from convzoo.layers import LeanConv2D
from convzoo.layers.lean_conv2d import STENCILS

# The paper's "three-point separable" stencil in our reading: a line along one axis, then a line along the other.
ALTERNATING = "3-point-alternating"
_ALTERNATING_STENCILS = ("3-point-horizontal", "3-point-vertical")
NAMES = (*STENCILS, ALTERNATING)


@dataclasses.dataclass(frozen=True)
class Stencil:
    """Arguments of one `convzoo.layers.LeanConv2D`."""

    stencil: str
    group_size: int | None

    def conv(self, **arguments) -> LeanConv2D:
        """Returns the layer; arguments as for `keras.layers.Conv2D`, with a kernel size of 3."""
        if arguments.pop("kernel_size") != 3:
            raise ModelError(f"{arguments['name']} cannot be lean: its kernel size is not 3")
        return LeanConv2D(stencil=self.stencil, group_size=self.group_size, **arguments)


class StencilSequence:
    """Returns the stencil of each lean convolution, called once per convolution in network order.

    Args:
        stencil: "9-point", "5-point", "3-point-horizontal", "3-point-vertical", or "3-point-alternating" for horizontal
            and vertical lines in turn; None for dense convolutions.
        group_size: Channels per group, 1 for a depthwise stencil; None for one group of all channels.

    Raises:
        ModelError: The stencil is unknown or the group size is not a positive integer.

    Example:
        >>> stencils = StencilSequence("3-point-alternating", group_size=1)
        >>> stencils().stencil, stencils().stencil
        ('3-point-horizontal', '3-point-vertical')
    """

    def __init__(self, stencil: str | None, group_size: int | None):
        if stencil not in (None, *NAMES):
            raise ModelError(f"stencil {stencil!r} is unknown; choose one of {', '.join(NAMES)}")
        if group_size is not None and (not isinstance(group_size, int) or group_size < 1):
            raise ModelError(
                f"group_size must be an integer of at least 1, or None for all channels, not {group_size!r}"
            )
        self._stencil, self._group_size, self._num_calls = stencil, group_size, 0

    def __call__(self) -> Stencil | None:
        """Returns the next convolution's stencil; None for a dense convolution."""
        if self._stencil != ALTERNATING:
            return None if self._stencil is None else Stencil(self._stencil, self._group_size)
        self._num_calls += 1
        return Stencil(_ALTERNATING_STENCILS[(self._num_calls - 1) % 2], self._group_size)
