"""Lean convolutions as an operator (LeanConvNets, arXiv 1910.13157)."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import ClassVar

import keras
from keras import layers

from convzoo.layers import LeanConv2D
from convzoo.layers.lean_conv2d import STENCILS, count_groups
from convzoo.models.operators.operator import Operator, check_choice, check_integer, config_for, fit
from convzoo.models.operators.part import Part, PartLayers

# The paper's "three-point separable" stencil in our reading: a line along one axis, then a line along the other.
_ALTERNATING = "3-point-alternating"
_ALTERNATING_STENCILS = ("3-point-horizontal", "3-point-vertical")


@dataclasses.dataclass(frozen=True)
class Lean(Operator):
    """Lean convolutions (arXiv 1910.13157) in place of 3x3 convolutions: a sparse stencil plus a 1x1 convolution.

    `convert` uses `stencil` and `group_size` only.

    Args:
        stencil: "9-point", "5-point", "3-point-horizontal", "3-point-vertical", or "3-point-alternating" for horizontal
            and vertical lines in turn.
        group_size: Channels per group of the stencil, 1 for a depthwise one; None for one group of all channels.
        adjoint_step: Whether residual blocks of two 3x3 convolutions that keep resolution and width compute
            x - K^T act(norm(K x)), with one convolution K and its adjoint. This is the authors' earlier code; whether
            the paper does so is unknown to us.
        first_block: Blocks from this index on are lean.

    Raises:
        ModelError: The stencil is unknown, or group_size is not a positive integer.

    Example:
        >>> from convzoo import models
        >>> model = models.create_model("resnet18", 10, (64, 64, 3), operator=models.Lean("9-point", group_size=8))
        >>> model.get_layer("block0_1_conv").stencil
        '9-point'
    """

    LAYERS: ClassVar = (LeanConv2D,)
    REPLACES: ClassVar = "3x3 convolutions"
    NETWORK_ONLY: ClassVar = (*Operator.NETWORK_ONLY, "adjoint_step")

    stencil: str = "5-point"
    group_size: int | None = 1
    adjoint_step: bool = False
    makes_copies: ClassVar = False
    replaces_spatial: ClassVar = True

    def __post_init__(self):
        super().__post_init__()
        check_choice("stencil", self.stencil, (*STENCILS, _ALTERNATING))
        if self.group_size is not None:
            check_integer("group_size", self.group_size)

    def _layer_arguments(self, index):
        """Returns the settings of the `index`-th lean convolution of a network."""
        stencil = _ALTERNATING_STENCILS[index % 2] if self.stencil == _ALTERNATING else self.stencil
        return {"stencil": stencil, "group_size": self.group_size}

    def start_network(self) -> Callable[[Part], PartLayers]:
        layer_arguments = map(self._layer_arguments, itertools.count())
        return lambda part: _LeanLayers(self, layer_arguments)

    def why_no_effect(self, model: keras.Model) -> str | None:
        if self.adjoint_step and not any(isinstance(layer, layers.Subtract) for layer in model.layers):
            return f"has adjoint_step=True, and {model.name} has no residual blocks of two 3x3 convolutions"
        return super().why_no_effect(model)

    def why_not(self, layer: keras.Layer) -> str | None:
        if type(layer) is not layers.Conv2D or layer.kernel_size != (3, 3) or layer.groups > 1:
            return "it is not a 3x3 Conv2D with groups=1"
        channels = layer.kernel.shape[2]
        if count_groups(channels, layer.filters, self.group_size) is None:
            return f"group_size={self.group_size} does not divide its {channels} channels and {layer.filters} filters"
        return None

    def replacement(self, layer: keras.Layer, index: int) -> keras.Layer:
        return LeanConv2D.from_config({**config_for(LeanConv2D, layer), **self._layer_arguments(index)})

    def start_from(self, new: keras.Layer, trained: keras.Layer, noise: float, seed: int) -> float:
        return fit(new, trained)


class _LeanLayers(PartLayers):
    def __init__(self, operator, layer_arguments):
        self.has_adjoint_step, self._layer_arguments = operator.adjoint_step, layer_arguments

    def _layer(self, arguments):
        arguments.pop("kernel_size")
        return LeanConv2D(**next(self._layer_arguments), **arguments)

    def conv(self, x, **arguments):
        return self._layer(arguments)(x) if arguments["kernel_size"] == 3 else super().conv(x, **arguments)

    def adjoint_step(self, x, between, **arguments):
        layer = self._layer(arguments)
        return layer(between(layer(x)), transposed=True)
