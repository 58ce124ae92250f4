"""Region maps of a network with DRConv layers (arXiv 2003.12243)."""

import keras
from keras import ops

from convzoo.layers import GuidedMask


def masks(model: keras.Model) -> dict[str, GuidedMask]:
    """Returns the `GuidedMask` layers of a network by the name of their block or layer, in network order."""
    return {layer.name.removesuffix("_mask"): layer for layer in model.layers if isinstance(layer, GuidedMask)}


def region_maps(model: keras.Model) -> keras.Model | None:
    """Builds a model that returns the region maps of a network.

    Args:
        model: A network of `create_model`.

    Returns:
        A `keras.Model` that shares the network's weights, from its images to a dict of int32 region indices [batch,
        height, width], one per mask, in network order, by the name of its block ("block0"), or of its layer where each
        layer has a mask of its own. None for a network without masks.

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
