"""Experts of a network with CondConv layers (arXiv 1904.04971): how images use them and how alike they are."""

import keras
import numpy as np
from keras import ops

from convzoo.layers import CondConv2D, CondDense, DepthwiseCondConv2D, ExpertRouting


def routing_weights(model: keras.Model) -> keras.Model | None:
    """Builds a model that returns the routing weights of a network.

    Args:
        model: A network of `create_model`.

    Returns:
        A `keras.Model` that shares the network's weights, from its images to a dict of float32 routing weights [batch,
        experts], one for each `ExpertRouting` layer, in network order, by the name of its block ("block0") or layer.
        None for a network without such layers.

    Example:
        >>> from convzoo import models
        >>> model = models.create_model("mobilenet_v1_condconv_x0_25", 10, (32, 32, 3))
        >>> models.routing_weights(model).output["block6"].shape
        (None, 8)
    """
    routings = [layer for layer in model.layers if isinstance(layer, ExpertRouting)]
    if not routings:
        return None
    return keras.Model(model.inputs, {layer.name.removesuffix("_routing"): layer.output for layer in routings})


def expert_similarity(model: keras.Model) -> dict[str, np.ndarray]:
    """Returns the cosine similarity of the kernels of each pair of experts, [experts, experts], by layer name.

    Randomly initialized experts have similarities near 0, copies of one kernel have 1.

    Example:
        >>> from convzoo import models
        >>> model = models.create_model("mobilenet_v1_condconv_x0_25", 10, (32, 32, 3))
        >>> expert_similarity(model)["block6_pointwise_conv"].shape
        (8, 8)
    """
    similarities = {}
    for layer in model.layers:
        if isinstance(layer, CondConv2D | DepthwiseCondConv2D | CondDense):
            kernels = np.reshape(ops.convert_to_numpy(layer.kernel), (layer.num_experts, -1)).astype(np.float64)
            norms = np.linalg.norm(kernels, axis=1)
            similarities[layer.name] = kernels @ kernels.T / np.maximum(np.outer(norms, norms), 1e-30)
    return similarities
