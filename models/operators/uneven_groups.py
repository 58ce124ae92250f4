"""Uneven groups as an operator (Seesaw-Net, arXiv 1905.03672)."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import ClassVar

import keras
from keras import initializers, layers

from convzoo.errors import ModelError, first_line
from convzoo.layers import ChannelShuffle, UnevenPointwiseConv2D
from convzoo.models.operators.operator import Operator, check_choice, check_integer, config_for, fit
from convzoo.models.operators.part import Part, PartLayers

_EVEN = (1, 1)


@dataclasses.dataclass(frozen=True)
class UnevenGroups(Operator):
    """Point-wise convolutions in uneven groups (Seesaw-Net, arXiv 1905.03672) in place of 1x1 convolutions.

    `convert` uses `ratio` and `order` only.

    Args:
        ratio: Shares of the groups, see `convzoo.layers.UnevenPointwiseConv2D`. The sum must divide the channel counts
            of all convolutions that are replaced.
        order: "given", or "reversed" to begin with the last share.
        mixing: How the groups exchange information. "shuffle": a channel shuffle of 2 groups between the point-wise
            convolutions of a block. "two_shuffles": the same, plus one after the last of them with half as many groups
            as channels, as in the IGCV3 baseline of the Seesaw-Net authors; IGCV3's own code has one shuffle. "share":
            every second convolution of the network has the reversed order, so that its first group reads from both
            groups of the one before. A symmetric ratio cannot be reversed, and is shuffled instead.
        even_from: Blocks of this many channels or more have two equal groups and a shuffle; None: no block. 160 in
            Seesaw-shuffle.
        even_by: The channel count that `even_from` refers to: a block's "inputs" or its "outputs".
        equal_groups: Initial scale of the kernels of equal groups. "together": as one grouped convolution whose fan-out
            is all its channels, as in the authors' code. "separate": each with its own fan-out, as the kernels of
            uneven groups, which are separate convolutions in the authors' code.
        first_block: Blocks from this index on have groups.

    Raises:
        ModelError: The ratio is not of positive integers without a common divisor, or a name is unknown.

    Example:
        >>> from convzoo import models
        >>> operator = models.UnevenGroups(ratio=(1, 3))
        >>> model = models.create_model("mobilenet_v2_x1_0", 10, (32, 32, 3), operator=operator)
        >>> model.get_layer("block1_project_conv").shares
        (1, 3)
    """

    LAYERS: ClassVar = (UnevenPointwiseConv2D,)
    REPLACES: ClassVar = "1x1 convolutions"
    NETWORK_ONLY: ClassVar = (*Operator.NETWORK_ONLY, "mixing", "even_from", "even_by", "equal_groups")

    ratio: tuple[int, ...] = (1, 3)
    order: str = "given"
    mixing: str = "shuffle"
    even_from: int | None = None
    even_by: str = "inputs"
    equal_groups: str = "together"
    makes_copies: ClassVar = False

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.ratio, tuple) or not all(type(share) is int for share in self.ratio):
            raise ModelError(f"ratio must be positive integers such as (1, 3), not {self.ratio!r}")
        try:
            UnevenPointwiseConv2D(sum(self.ratio), self.ratio, self.order)
        except (TypeError, ValueError) as error:
            raise ModelError(f"UnevenGroups: {first_line(error)}") from error
        check_choice("mixing", self.mixing, ("shuffle", "two_shuffles", "share"))
        check_choice("even_by", self.even_by, ("inputs", "outputs"))
        check_choice("equal_groups", self.equal_groups, ("together", "separate"))
        if self.even_from is not None:
            check_integer("even_from", self.even_from)
        elif self.even_by != "inputs":
            raise ModelError(f"even_by={self.even_by!r} has no effect without even_from; set it too")
        if self.order != "given" and self.ratio == self.ratio[::-1]:
            raise ModelError(f"order={self.order!r} has no effect: ratio={self.ratio} is symmetric; remove it")

    def start_network(self) -> Callable[[Part], PartLayers]:
        count = itertools.count()
        return lambda part: _GroupLayers(self, part, count)

    def why_not(self, layer: keras.Layer) -> str | None:
        if type(layer) is not layers.Conv2D or layer.kernel_size != (1, 1) or layer.groups > 1:
            return "it is not a 1x1 Conv2D with groups=1"
        channels, total = layer.kernel.shape[2], sum(self.ratio)
        if channels % total or layer.filters % total:
            return f"the sum of ratio={self.ratio} does not divide its {channels} channels and {layer.filters} filters"
        return None

    def replacement(self, layer: keras.Layer, index: int) -> keras.Layer:
        config = config_for(UnevenPointwiseConv2D, layer)
        return UnevenPointwiseConv2D.from_config({**config, "ratio": self.ratio, "order": self.order})

    def start_from(self, new: keras.Layer, trained: keras.Layer, noise: float, seed: int) -> float:
        return fit(new, trained)


class _GroupLayers(PartLayers):
    def __init__(self, operator, part, count):
        channels = part.inputs.shape[-1] if operator.even_by == "inputs" else part.filters
        is_even = operator.even_from is not None and channels >= operator.even_from
        self._operator, self._count = operator, count
        self._ratio = _EVEN if is_even else tuple(operator.ratio)
        self._reverses = operator.mixing == "share" and self._ratio != self._ratio[::-1]

    def conv(self, x, **arguments):
        if arguments["kernel_size"] != 1:
            return super().conv(x, **arguments)
        del arguments["kernel_size"], arguments["padding"]  # the layer has none
        if len(set(self._ratio)) == 1 and self._operator.equal_groups == "together":
            config = arguments["kernel_initializer"].get_config()
            config["scale"] /= len(self._ratio)
            arguments["kernel_initializer"] = initializers.VarianceScaling(**config)
        reverse = self._reverses and next(self._count) % 2
        order = {"given": "reversed", "reversed": "given"}[self._operator.order] if reverse else self._operator.order
        return UnevenPointwiseConv2D(ratio=self._ratio, order=order, **arguments)(x)

    def mix(self, x, name):
        return x if self._reverses else ChannelShuffle(2, name=f"{name}_shuffle")(x)

    def mix_outputs(self, x, name):
        if self._operator.mixing != "two_shuffles":
            return x
        return ChannelShuffle(x.shape[-1] // 2, name=f"{name}_second_shuffle")(x)
