"""Parameters and multiply-adds of a network, layer by layer."""

import collections
import dataclasses
import functools
import math

import keras

from convzoo.errors import ModelError
from convzoo.layers import (
    CondConv2D,
    CondDense,
    DepthwiseCondConv2D,
    DRConv2D,
    ExpertRouting,
    LeanConv2D,
    UnevenPointwiseConv2D,
)
from convzoo.models.graph import calls
from convzoo.models.operators.operator import check_choice


@dataclasses.dataclass(frozen=True)
class LayerCount:
    """Size of one layer.

    Attributes:
        name: Name of the layer.
        kind: Name of the layer's class.
        output_shape: Output shape [batch, ...].
        params: Trainable parameters.
        madds: Multiply-adds per example.
    """

    name: str
    kind: str
    output_shape: tuple
    params: int
    madds: int


@dataclasses.dataclass(frozen=True)
class ModelCount:
    """Size of a network.

    Attributes:
        layers: One `LayerCount` for each layer that has parameters or multiply-adds, in network order.
        params: Trainable parameters.
        non_trainable_params: Non-trainable parameters, for example moving statistics of batch normalization.
        madds: Multiply-adds per example.
    """

    layers: tuple[LayerCount, ...]
    params: int
    non_trainable_params: int
    madds: int


def count(model: keras.Model, generation: str = "mixing") -> ModelCount:
    """Counts parameters and the multiply-adds of convolutions, matrix products and kernel mixing.

    Pooling, normalization, activations, biases and element-wise sums are not counted, as in the papers. A CondConv
    layer costs its convolution once, plus one multiply-add per expert and kernel weight (arXiv 1904.04971, section 3),
    for every implementation. A DRConv layer costs its convolution once, plus the generated kernel of each region
    (arXiv 2003.12243).

    Args:
        model: A network.
        generation: What the generated kernels of DRConv cost. "mixing": bank_size multiply-adds per weight. "weights":
            one per weight, as in the operation counter of the authors' code.

    Raises:
        ModelError: The model's height or width is unknown, or it has a layer without a counting rule.

    Example:
        >>> from convzoo import models
        >>> size = models.count(models.create_model("mobilenet_v1_x0_25", 10, (32, 32, 3)))
        >>> size.params, size.madds
        (215642, 834688)
    """
    check_choice("generation", generation, ("mixing", "weights"))
    rows = []
    positions = collections.defaultdict(list)  # of each call of a layer
    for call in calls(model):
        positions[id(call.operation)].append(math.prod(x or 0 for x in call.outputs[0].shape[1:-1]))
    for layer in model.layers:
        params = sum(math.prod(weight.shape) for weight in layer.trainable_weights)
        madds = _madds(layer)
        if generation == "weights" and isinstance(layer, DRConv2D):
            madds -= (layer.bank_size - 1) * _generated_weights(layer)
        of_layer = positions[id(layer)]
        if len(of_layer) > 1:  # a convolution that feature maps of several sizes share
            madds = madds * sum(of_layer) // math.prod(layer.output.shape[1:-1])
        if params or madds:
            rows.append(LayerCount(layer.name, type(layer).__name__, tuple(layer.output.shape), params, madds))
    return ModelCount(
        layers=tuple(rows),
        params=sum(row.params for row in rows),
        non_trainable_params=sum(math.prod(weight.shape) for weight in model.non_trainable_weights),
        madds=sum(row.madds for row in rows),
    )


def _positions(layer, images=None) -> int:
    """Returns the number of positions of `images`, by default the output of the convolution `layer`."""
    shape = (layer.output if images is None else images).shape[
        slice(2, None) if layer.data_format == "channels_first" else slice(1, -1)
    ]
    if None in shape:
        raise ModelError(
            f"cannot count {layer.name!r} with unknown size {tuple(shape)}; build the network with a fixed input_shape"
        )
    return math.prod(shape)


@functools.singledispatch
def _madds(layer) -> int:
    if layer.weights:
        raise ModelError(f"cannot count a {type(layer).__name__} layer ({layer.name!r}); add a rule to models/count.py")
    return 0


@_madds.register(keras.layers.BatchNormalization)
@_madds.register(keras.layers.PReLU)
def _(layer) -> int:
    return 0


@_madds.register(keras.layers.Conv2D)
@_madds.register(keras.layers.DepthwiseConv2D)
def _(layer) -> int:
    # Each position multiplies every weight of the kernel once, depthwise [kh, kw, channels, multiplier] or dense
    # [kh, kw, channels / groups, filters].
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
@_madds.register(CondDense)
def _(layer) -> int:
    # The kernel is [num_experts, ...]: one application of the mixed kernel, and the mixing.
    positions = math.prod(layer.output.shape[1:-1]) if isinstance(layer, CondDense) else _positions(layer)
    routing = 0 if layer.routing is None else _madds(layer.routing)
    return positions * math.prod(layer.kernel.shape[1:]) + math.prod(layer.kernel.shape) + routing


@_madds.register
def _(layer: DRConv2D) -> int:
    area = math.prod(layer.kernel_size)
    routing = math.prod(layer.routing_kernel.shape) * (1 if layer.generator == "shared_bank" else area)
    mask = 0
    if layer.guided_mask is not None:  # a 1x1 convolution of the layer's inputs
        mask = _positions(layer, layer.input) * math.prod(layer.guided_mask.kernel.shape)
    convolution = _positions(layer) * area * layer.channels * layer.filters
    return convolution + layer.bank_size * _generated_weights(layer) + routing + mask


def _generated_weights(layer: DRConv2D) -> int:
    """Returns the number of weights that the layer generates for an example."""
    return layer.regions * math.prod(layer.kernel_size) * layer.channels * layer.filters


@_madds.register
def _(layer: ExpertRouting) -> int:
    return math.prod(layer.kernel.shape)
