"""Parameters and multiply-adds of a network, layer by layer."""

import collections
import dataclasses
import functools
import math

import keras

from convzoo.layers import (
    CondConv2D,
    CondDense,
    DepthwiseCondConv2D,
    DRConv2D,
    ExpertRouting,
    LeanConv2D,
    UnevenPointwiseConv2D,
)
from convzoo.models.errors import ModelError
from convzoo.models.graph import calls


@dataclasses.dataclass(frozen=True)
class LayerCount:
    """One layer: its name and class, output shape [batch, ...], trainable parameters, multiply-adds of one example."""

    name: str
    kind: str
    output_shape: tuple
    params: int
    madds: int


@dataclasses.dataclass(frozen=True)
class ModelCount:
    """A network's figures.

    Attributes:
        layers: One `LayerCount` for each layer that has parameters or multiply-adds, in order.
        params: Trainable parameters.
        non_trainable_params: Moving statistics of batch normalisation and the like.
        madds: Multiply-adds of one example.
    """

    layers: tuple[LayerCount, ...]
    params: int
    non_trainable_params: int
    madds: int


def count(model: keras.Model) -> ModelCount:
    """Counts what the papers count: the multiply-adds of convolutions, matrix products and kernel mixing.

    Pooling, normalisation, activations, biases and element-wise sums are left out, as the papers do. A conditional
    layer costs its convolution once, plus one multiply-add per expert and weight for the mixed kernel
    (arXiv 1904.04971, section 3), whatever form computes it. A region-aware layer likewise costs its convolution once
    and each region's generated kernel (arXiv 2003.12243).

    Raises:
        ModelError: The model's height or width is unknown, or it has a layer that this file does not know.
    """
    rows = []
    uses = collections.Counter(id(call.operation) for call in calls(model))
    for layer in model.layers:
        params = sum(math.prod(weight.shape) for weight in layer.trainable_weights)
        madds = _madds(layer) * max(uses[id(layer)], 1)  # a layer may be used more than once
        if params or madds:
            rows.append(LayerCount(layer.name, type(layer).__name__, tuple(layer.output.shape), params, madds))
    return ModelCount(
        layers=tuple(rows),
        params=sum(row.params for row in rows),
        non_trainable_params=sum(math.prod(weight.shape) for weight in model.non_trainable_weights),
        madds=sum(row.madds for row in rows),
    )


def _positions(layer) -> int:
    """Output positions of a convolution."""
    axes = slice(2, None) if layer.data_format == "channels_first" else slice(1, -1)
    positions = layer.output.shape[axes]
    if None in positions:
        raise ModelError(
            f"cannot count {layer.name!r} with unknown size {tuple(positions)}; "
            "build the network with a fixed input_shape"
        )
    return math.prod(positions)


@functools.singledispatch
def _madds(layer) -> int:
    if layer.weights:
        raise ModelError(f"cannot count a {type(layer).__name__} layer ({layer.name!r}); add a rule to models/count.py")
    return 0


@_madds.register
def _(layer: keras.layers.BatchNormalization) -> int:
    return 0


@_madds.register(keras.layers.Conv2D)
@_madds.register(keras.layers.DepthwiseConv2D)
def _(layer) -> int:
    # A depthwise kernel [kh, kw, channels, multiplier] and an ordinary one [kh, kw, channels / groups, filters] alike
    # hold every weight that one position multiplies.
    return _positions(layer) * math.prod(layer.kernel.shape)


@_madds.register
def _(layer: UnevenPointwiseConv2D) -> int:
    return _positions(layer) * sum(math.prod(kernel.shape) for kernel in layer.kernels)


@_madds.register
def _(layer: LeanConv2D) -> int:
    return _positions(layer) * (math.prod(layer.kernel.shape) + math.prod(layer.stencil_kernel.shape))


@_madds.register
def _(layer: keras.layers.Dense) -> int:
    return math.prod(layer.output.shape[1:-1]) * math.prod(layer.kernel.shape)


@_madds.register(CondConv2D)
@_madds.register(DepthwiseCondConv2D)
def _(layer) -> int:
    return _positions(layer) * math.prod(_experts(layer).shape[1:]) + math.prod(_experts(layer).shape)


@_madds.register
def _(layer: CondDense) -> int:
    positions = math.prod(layer.output.shape[1:-1])
    return positions * math.prod(_experts(layer).shape[1:]) + math.prod(_experts(layer).shape)


@_madds.register
def _(layer: DRConv2D) -> int:
    cells = math.prod(layer.kernel_size)
    weights = cells * layer.channels * layer.filters
    routing = math.prod(layer.routing_kernel.shape) * (1 if layer.generator == "shared_bank" else cells)
    return _positions(layer) * weights + layer.regions * layer.bank_size * weights + routing


@_madds.register
def _(layer: ExpertRouting) -> int:
    return math.prod(layer.kernel.shape)


def _experts(layer):
    return layer.depthwise_kernel if isinstance(layer, DepthwiseCondConv2D) else layer.kernel
