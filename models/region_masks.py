"""Region masks of DRConv blocks (arXiv 2003.12243), and the region maps of a network."""

from typing import NamedTuple

import keras
from keras import ops

from convzoo.errors import ModelError
from convzoo.layers import DRConv2D, GuidedMask


class RegionMask(NamedTuple):
    """The mask of one block, None for one region, and the arguments of its `convzoo.layers.DRConv2D` layers."""

    mask: keras.KerasTensor | None
    arguments: dict

    def conv(self, x, **arguments):
        """Applies a DRConv to `x`; arguments as for `keras.layers.Conv2D`."""
        layer = DRConv2D(**self.arguments, **arguments)
        return layer(x) if self.mask is None else layer(x, self.mask)


class RegionMaskBuilder:
    """Creates the mask of each block.

    As in the authors' code, all DRConv layers of a block share one mask, a 1x1 convolution of the block's input, and
    each layer has its own kernels. One region needs no mask.

    Args:
        regions: Number of regions (m in the paper); None for static convolutions.
        bank_size: Base kernels in the bank of each layer, or units per region of a grouped generator.
        generator: "shared_bank" (the authors' code) or "grouped" (the paper); see `convzoo.layers.DRConv2D`.

    Raises:
        ModelError: The generator is unknown.

    Example:
        >>> mask_builder = RegionMaskBuilder(regions=4, bank_size=8, generator="shared_bank")
        >>> mask_builder(keras.Input((14, 14, 32)), "block0").mask.shape
        (None, 14, 14, 4)
    """

    def __init__(self, regions: int | None, bank_size: int, generator: str):
        if generator not in DRConv2D.GENERATORS:
            raise ModelError(f"generator {generator!r} is unknown; choose {' or '.join(DRConv2D.GENERATORS)}")
        self._arguments = {"regions": regions, "bank_size": bank_size, "generator": generator}

    def __call__(self, features, name: str) -> RegionMask | None:
        """Returns the mask of block `name` for its input [batch, height, width, channels]; None without regions."""
        if (regions := self._arguments["regions"]) is None:
            return None
        mask = None
        if regions != 1:
            mask = GuidedMask(regions, data_format="channels_last", name=f"{name}_mask")(features)
        return RegionMask(mask, self._arguments)


def masks(model: keras.Model) -> dict[str, GuidedMask]:
    """Returns the `GuidedMask` layers of a network by block name, in network order."""
    return {layer.name.removesuffix("_mask"): layer for layer in model.layers if isinstance(layer, GuidedMask)}


def region_maps(model: keras.Model) -> keras.Model | None:
    """Builds a model that returns the region maps of a network.

    Args:
        model: A network of `create_model`.

    Returns:
        A `keras.Model` that shares the network's weights, from its images to a dict of int32 region indices [batch,
        height, width], one per mask by block name ("block0"), in network order. None for a network without masks.

    Example:
        >>> from convzoo import models
        >>> model = models.create_model("mobilenet_v1_drconv_x0_25", 10, (32, 32, 3))
        >>> models.region_maps(model).output["block0"].shape
        (None, 16, 16)
    """
    layers = masks(model)
    if not layers:
        return None
    indices = {name: ops.argmax(layer.output, axis=-1) for name, layer in layers.items()}
    return keras.Model(model.inputs, {name: ops.cast(index, "int32") for name, index in indices.items()})
