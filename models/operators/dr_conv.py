"""DRConv as an operator (arXiv 2003.12243)."""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import keras
from keras import layers, ops

from convzoo.errors import ModelError
from convzoo.layers import DRConv2D, GuidedMask
from convzoo.models.operators.operator import Operator, check_choice, check_integer, config_for, copies
from convzoo.models.operators.part import Part, PartLayers


@dataclasses.dataclass(frozen=True)
class DRConv(Operator):
    """Region-aware convolutions (arXiv 2003.12243) in place of 1x1 convolutions.

    `convert` gives each layer its own mask, whatever `mask_per` is; its argument `where` can also select larger
    kernels.

    Args:
        regions: Number of regions of the mask (m in the paper). One region needs no mask.
        bank_size: Base kernels of each layer, or units per region of a grouped generator.
        generator: "shared_bank" (the authors' code), or "grouped" (the paper) for 1x1 convolutions; see
            `convzoo.layers.DRConv2D`.
        mask_per: "block", as in the authors' code: the layers of a block share a mask, a 1x1 convolution of the block's
            input. "layer": each has its own mask of its own input.
        first_block: Blocks from this index on are region-aware.

    Raises:
        ModelError: A number is not a positive integer, or a name is unknown.

    Example:
        >>> from convzoo import models
        >>> model = models.create_model("mobilenet_v2_x1_0", 10, (32, 32, 3), operator=models.DRConv(regions=4))
        >>> model.get_layer("block1_mask").output.shape
        (None, 16, 16, 4)
        >>> model = models.create_model("mobilenet_v1_x0_25", 10, (32, 32, 3))
        >>> regional = models.convert(model, models.DRConv(regions=4), where="block1?_pointwise_conv")
        >>> sum(type(layer).__name__ == "DRConv2D" for layer in regional.layers)
        3
    """

    LAYERS: ClassVar = (DRConv2D,)
    REPLACES: ClassVar = "1x1 convolutions"

    regions: int = 8
    bank_size: int = 8
    generator: str = "shared_bank"
    mask_per: str = "block"

    def __post_init__(self):
        super().__post_init__()
        check_integer("regions", self.regions)
        check_integer("bank_size", self.bank_size)
        check_choice("generator", self.generator, DRConv2D.GENERATORS)
        check_choice("mask_per", self.mask_per, ("block", "layer"))
        if self.regions == 1 and self.mask_per != "block":
            raise ModelError(f"mask_per={self.mask_per!r} has no effect: one region needs no mask; remove it")

    @property
    def _layer_arguments(self):
        return {"regions": self.regions, "bank_size": self.bank_size, "generator": self.generator}

    def start_network(self) -> Callable[[Part], PartLayers]:
        return lambda part: _RegionLayers(self, self._layer_arguments, part)

    def selects(self, layer: keras.Layer) -> bool:
        return super().selects(layer) and layer.kernel_size == (1, 1)

    def why_not(self, layer: keras.Layer) -> str | None:
        if type(layer) is not layers.Conv2D or layer.groups > 1:
            return "it is not a Conv2D with groups=1"
        if self.generator == "grouped" and layer.kernel_size != (1, 1):
            return f"a grouped generator cannot start from a trained {layer.kernel_size} kernel"
        return None

    def replacement(self, layer: keras.Layer, index: int) -> keras.Layer:
        return DRConv2D.from_config({**config_for(DRConv2D, layer), **self._layer_arguments})

    @property
    def makes_copies(self) -> bool:
        return self.generator == "shared_bank"

    def start_from(self, new: keras.Layer, trained: keras.Layer, noise: float, seed: int) -> float:
        # With zero routing every unit is sigmoid(0) = 1/2, and the weights of a bank's base kernels sum to one.
        new.routing_kernel.assign(ops.zeros(new.routing_kernel.shape))
        new.routing_bias.assign(ops.zeros(new.routing_bias.shape))
        if self.generator == "shared_bank":
            new.kernel.assign(copies(trained.kernel, self.bank_size, noise, seed))
        else:
            # The units keep their random draws; the offset makes up for their sum.
            units = ops.reshape(new.kernel, (self.regions, self.bank_size, *new.kernel.shape[1:]))
            new.offset.assign(trained.kernel[0] - ops.sum(units, axis=1) / 2)
        if trained.use_bias:
            new.bias.assign(trained.bias)
        return 0.0


class _RegionLayers(PartLayers):
    def __init__(self, operator, layer_arguments, part):
        self._operator, self._layer_arguments, self._mask = operator, layer_arguments, None
        if operator.mask_per == "block":
            self._mask = self._new_mask(part.inputs, part.name)

    def _new_mask(self, x, name):
        if self._operator.regions == 1:
            return None
        return GuidedMask(self._operator.regions, data_format="channels_last", name=f"{name}_mask")(x)

    def conv(self, x, **arguments):
        if arguments["kernel_size"] != 1:
            return super().conv(x, **arguments)
        # The authors' code has the layer's own initializer.
        arguments.pop("kernel_initializer", None)
        mask = self._mask if self._operator.mask_per == "block" else self._new_mask(x, arguments["name"])
        layer = DRConv2D(**self._layer_arguments, **arguments)
        return layer(x) if mask is None else layer(x, mask)
