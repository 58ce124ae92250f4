"""Variable names and kernel layouts of PyTorch and TensorFlow 1, by the class of our layer."""

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


class KernelLayout(NamedTuple):
    """How a framework stores the kernel of one layer class.

    Attributes:
        axes: Our axes in the framework's order.
        stored_shape: Computes the stored shape from the shape in the framework's order.
    """

    axes: tuple[int, ...]
    stored_shape: Callable[[tuple[int, ...]], tuple[int, ...]] = tuple


class Framework(NamedTuple):
    """Conventions of one framework.

    Attributes:
        variables: For NORM and OTHER layers, the framework's variable name -> ours.
        kernels: Our layer class -> the layouts of its variables, by our names. Variables without a layout are stored
            as ours are; the kernel of a layer class without an entry cannot be converted.
        class_axis: Axis of the classes in the stored classifier kernel.

    In both mappings a layer's only kernel is called "kernel".
    """

    variables: Mapping[str, Mapping[str, str]]
    kernels: Mapping[type, Mapping[str, KernelLayout]]
    class_axis: int


def _row_per_expert(shape):
    return shape[0], math.prod(shape[1:])


def _column_per_base_kernel(shape):
    return math.prod(shape[:-1]), shape[-1]


def _grouped(shape):
    """[channels, multiplier, kh, kw] as a convolution kernel with one group per channel."""
    return shape[0] * shape[1], 1, *shape[2:]


TORCH = Framework(
    variables={
        NORM: {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"},
        OTHER: {"weight": "kernel", "bias": "bias"},
    },
    kernels={
        layers.Conv2D: {"kernel": KernelLayout((3, 2, 0, 1))},
        layers.DepthwiseConv2D: {"kernel": KernelLayout((2, 3, 0, 1), _grouped)},
        layers.Dense: {"kernel": KernelLayout((1, 0))},
        CondConv2D: {"kernel": KernelLayout((0, 4, 3, 1, 2), _row_per_expert)},
        DepthwiseCondConv2D: {"kernel": KernelLayout((0, 3, 4, 1, 2), _row_per_expert)},
        CondDense: {"kernel": KernelLayout((0, 2, 1), _row_per_expert)},
        ExpertRouting: {"kernel": KernelLayout((1, 0))},
        GuidedMask: {"kernel": KernelLayout((3, 2, 0, 1))},
        UnevenPointwiseConv2D: {f"kernel_{group}": KernelLayout((3, 2, 0, 1)) for group in range(2)},
        DRConv2D: {
            "kernel": KernelLayout((4, 3, 1, 2, 0), _column_per_base_kernel),
            "routing_kernel": KernelLayout((1, 0)),
        },
    },
    class_axis=0,
)

_TENSORFLOW_NAMES = {
    **{name: name for name in ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")},
    **{f"{kind}_kernel": "kernel" for kind in ("depthwise", "condconv", "depthwise_condconv")},
}
TENSORFLOW = Framework(
    variables={NORM: _TENSORFLOW_NAMES, OTHER: _TENSORFLOW_NAMES},
    kernels={
        **{layer: {} for layer in (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense, ExpertRouting)},
        CondConv2D: {"kernel": KernelLayout((0, 1, 2, 3, 4), _row_per_expert)},
        DepthwiseCondConv2D: {"kernel": KernelLayout((0, 1, 2, 3, 4), _row_per_expert)},
        CondDense: {"kernel": KernelLayout((0, 1, 2), _row_per_expert)},
    },
    class_axis=-1,
)
