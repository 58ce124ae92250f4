"""Region-aware convolutions in a network (DRConv, arXiv 2003.12243): their settings, masks, and maps of regions."""

import dataclasses

import keras
from keras import ops

from convzoo.layers import DRConv2D, GuidedMask
from convzoo.models.errors import ModelError


@dataclasses.dataclass(frozen=True)
class Guide:
    """The regions of one block, and what its region-aware convolutions are made with."""

    regions: int
    bank_size: int
    generator: str
    mask: keras.KerasTensor | None

    def conv(self, x, **arguments):
        """A region-aware convolution of `x`; arguments as `keras.layers.Conv2D` takes them."""
        layer = DRConv2D(regions=self.regions, bank_size=self.bank_size, generator=self.generator, **arguments)
        return layer(x) if self.mask is None else layer(x, self.mask)


class Guides:
    """Makes the guide of each block.

    As in the authors' code a block has one mask, a 1x1 convolution of its input, for all its region-aware convolutions;
    each of these has its own kernels. With one region there is nothing to divide and no mask.

    Args:
        regions: Number of regions (the paper's m); None for a network of plain convolutions.
        bank_size: Base kernels of each convolution's bank, or units of each region of a grouped generator.
        generator: "shared_bank" (the authors' code) or "grouped" (the paper); see `convzoo.layers.DRConv2D`.

    Raises:
        ModelError: An unknown generator.
    """

    def __init__(self, regions: int | None, bank_size: int, generator: str):
        if generator not in DRConv2D.GENERATORS:
            raise ModelError(f"generator {generator!r} is not known; choose {' or '.join(DRConv2D.GENERATORS)}")
        self._settings = (regions, bank_size, generator)

    def __call__(self, features, name: str) -> Guide | None:
        """The guide of block `name`, from its input [batch, height, width, channels]; None in a plain network."""
        regions, *_ = self._settings
        if regions is None:
            return None
        mask = None
        if regions != 1:
            mask = GuidedMask(regions, data_format="channels_last", name=f"{name}_mask")(features)
        return Guide(*self._settings, mask)


def masks(model: keras.Model) -> dict[str, GuidedMask]:
    """The masks of a network by the names of their blocks, in order."""
    return {layer.name.removesuffix("_mask"): layer for layer in model.layers if isinstance(layer, GuidedMask)}


def region_maps(model: keras.Model) -> keras.Model | None:
    """The maps of regions that a network draws.

    Args:
        model: A network of `create_model`.

    Returns:
        A `keras.Model` that shares the network's weights, from its images to a dict of int32 maps [batch, height,
        width], one for each mask by the name of its block ("block0"), in order; None for a network without masks.
    """
    found = masks(model)
    if not found:
        return None
    maps = {name: ops.argmax(mask.output, axis=-1) for name, mask in found.items()}
    return keras.Model(model.inputs, {name: ops.cast(chosen, "int32") for name, chosen in maps.items()})
