"""How a framework names the variables of a layer and orders the axes of its kernel, by the class of our layer."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from keras import layers

from convzoo.layers import (
    CondConv2D,
    CondDense,
    DepthwiseCondConv2D,
    DRConv2D,
    ExpertRouting,
    GuidedMask,
    UnevenPointwiseConv2D,
)

# Kinds of our layers whose variables a framework may name differently.
NORM, OTHER = "norm", "other"


class Kernel(NamedTuple):
    """One class's kernel as the source stores it.

    Attributes:
        axes: Our axes in the source's order.
        stored: The stored shape, from the shape in the source's order.
    """

    axes: tuple[int, ...]
    stored: Callable[[tuple[int, ...]], tuple[int, ...]] = tuple


class Layout(NamedTuple):
    """Conventions of one framework.

    Attributes:
        variables: For NORM and OTHER layers, the source's variable -> ours ("kernel" is a layer's only kernel).
        kernels: Class of our layer -> its variables as stored, by our names ("kernel" is a layer's only kernel).
            Variables that are not there are stored as they are; a class that is not there cannot be carried over.
        classes_axis: The classifier kernel's axis of classes, as stored.
    """

    variables: Mapping[str, Mapping[str, str]]
    kernels: Mapping[type, Mapping[str, Kernel]]
    classes_axis: int


def _rows(shape):
    """One row an expert."""
    return shape[0], math.prod(shape[1:])


def _columns(shape):
    """One column a base kernel."""
    return math.prod(shape[:-1]), shape[-1]


def _grouped(shape):
    """[channels, multiplier, kh, kw] as the weight of a convolution with one group a channel."""
    return shape[0] * shape[1], 1, *shape[2:]


TORCH = Layout(
    variables={
        NORM: {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"},
        OTHER: {"weight": "kernel", "bias": "bias"},
    },
    kernels={
        layers.Conv2D: {"kernel": Kernel((3, 2, 0, 1))},
        layers.DepthwiseConv2D: {"kernel": Kernel((2, 3, 0, 1), _grouped)},
        layers.Dense: {"kernel": Kernel((1, 0))},
        CondConv2D: {"kernel": Kernel((0, 4, 3, 1, 2), _rows)},
        DepthwiseCondConv2D: {"kernel": Kernel((0, 3, 4, 1, 2), _rows)},
        CondDense: {"kernel": Kernel((0, 2, 1), _rows)},
        ExpertRouting: {"kernel": Kernel((1, 0))},
        GuidedMask: {"kernel": Kernel((3, 2, 0, 1))},
        UnevenPointwiseConv2D: {f"kernel_{group}": Kernel((3, 2, 0, 1)) for group in range(2)},
        DRConv2D: {"kernel": Kernel((4, 3, 1, 2, 0), _columns), "routing_kernel": Kernel((1, 0))},
    },
    classes_axis=0,
)

_TENSORFLOW_NAMES = {
    **{name: name for name in ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")},
    **{f"{kind}_kernel": "kernel" for kind in ("depthwise", "condconv", "depthwise_condconv")},
}
TENSORFLOW = Layout(
    variables={NORM: _TENSORFLOW_NAMES, OTHER: _TENSORFLOW_NAMES},
    kernels={
        layers.Conv2D: {"kernel": Kernel((0, 1, 2, 3))},
        layers.DepthwiseConv2D: {"kernel": Kernel((0, 1, 2, 3))},
        layers.Dense: {"kernel": Kernel((0, 1))},
        CondConv2D: {"kernel": Kernel((0, 1, 2, 3, 4), _rows)},
        DepthwiseCondConv2D: {"kernel": Kernel((0, 1, 2, 3, 4), _rows)},
        CondDense: {"kernel": Kernel((0, 1, 2), _rows)},
        ExpertRouting: {"kernel": Kernel((0, 1))},
    },
    classes_axis=-1,
)
