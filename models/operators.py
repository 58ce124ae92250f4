"""The operators of the four papers: each replaces ordinary convolutions of a network by its own layers."""

import abc
import dataclasses
import math

import keras
from keras import layers, ops

from convzoo.errors import ModelError, first_line
from convzoo.layers import (
    CondConv2D,
    CondDense,
    DepthwiseCondConv2D,
    DRConv2D,
    LeanConv2D,
    UnevenPointwiseConv2D,
)
from convzoo.layers.lean_conv2d import count_groups
from convzoo.models.lean import StencilSequence


class Operator(abc.ABC):
    """What replaces the convolutions of a network; a frozen dataclass of its settings.

    `convzoo.models.convert` asks an operator which layers it replaces, for the new layers, and to start them from the
    trained weights.
    """

    makes_copies = True  # whether a new layer has several copies of the trained kernel

    def selects(self, layer: keras.Layer) -> bool:
        """Returns whether the operator replaces this built layer unless the user says which layers to replace."""
        return self.why_not(layer) is None

    @abc.abstractmethod
    def why_not(self, layer: keras.Layer) -> str | None:
        """Returns why this built layer cannot be replaced, as the end of a sentence; None if it can be."""

    @abc.abstractmethod
    def replacement(self, layer: keras.Layer, index: int) -> keras.Layer:
        """Returns the new layer, unbuilt, for the `index`-th replaced layer. It keeps all settings of `layer`."""

    @abc.abstractmethod
    def start_from(self, new: keras.Layer, trained: keras.Layer, noise: float, seed: int) -> float:
        """Sets the weights of a replacement, built, from the trained layer.

        Args:
            new: The layer that `replacement` returned.
            trained: The layer that it replaces.
            noise: Standard deviation of the noise that tells copies of a kernel apart, as a fraction of the kernel's.
                Its mean over the copies is zero, so that the outputs stay the same.
            seed: Of the noise.

        Returns:
            The error of the new kernel, relative to the trained one (Frobenius norms); 0 if the layer computes the
            same.
        """


@dataclasses.dataclass(frozen=True)
class CondConv(Operator):
    """Conditionally parameterized convolutions (arXiv 1904.04971): full, grouped and depthwise ones, dense layers.

    Args:
        num_experts: Number of experts of each layer.
        classifier: Whether dense layers are replaced too.

    Raises:
        ModelError: num_experts is not a positive integer.

    Example:
        >>> from convzoo import models
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3), keras.layers.Conv2D(4, 3)])
        >>> [type(layer).__name__ for layer in models.convert(model, models.CondConv(num_experts=4)).layers]
        ['Conv2D', 'CondConv2D']
    """

    num_experts: int = 8
    classifier: bool = False

    def __post_init__(self):
        _check_positive("num_experts", self.num_experts)

    def selects(self, layer):
        return super().selects(layer) and (self.classifier or type(layer) is not layers.Dense)

    def why_not(self, layer):
        if type(layer) not in _COND_LAYERS:
            return "it is not a Conv2D, DepthwiseConv2D or Dense layer"
        return None

    def replacement(self, layer, index):
        return _COND_LAYERS[type(layer)].from_config({**layer.get_config(), "num_experts": self.num_experts})

    def start_from(self, new, trained, noise, seed):
        # With a zero kernel and bias every routing weight is sigmoid(0) = 1/2: their sum is num_experts / 2.
        for weight in new.routing.weights:
            weight.assign(ops.zeros(weight.shape))
        scale = 2.0 / self.num_experts
        kernel = trained.kernel
        new.kernel.assign(_copies(kernel, self.num_experts, noise, seed) * scale)
        if trained.use_bias:
            new.bias.assign(_copies(trained.bias, self.num_experts) * scale)
        return 0.0


@dataclasses.dataclass(frozen=True)
class DRConv(Operator):
    """Region-aware convolutions (arXiv 2003.12243), each with its own mask. By default 1x1 convolutions are replaced.

    Args:
        regions: Number of regions of the mask.
        bank_size: Base kernels of each layer, or units per region of a grouped generator.
        generator: "shared_bank", or "grouped" for 1x1 convolutions; see `convzoo.layers.DRConv2D`.

    Raises:
        ModelError: A number is not a positive integer, or the generator is unknown.

    Example:
        >>> from convzoo import models
        >>> model = models.create_model("mobilenet_v1_x0_25", 10, (32, 32, 3))
        >>> regional = models.convert(model, models.DRConv(regions=4), where="block1?_pointwise_conv")
        >>> sum(type(layer).__name__ == "DRConv2D" for layer in regional.layers)
        3
    """

    regions: int = 8
    bank_size: int = 8
    generator: str = "shared_bank"

    def __post_init__(self):
        _check_positive("regions", self.regions)
        _check_positive("bank_size", self.bank_size)
        if self.generator not in DRConv2D.GENERATORS:
            raise ModelError(f"generator {self.generator!r} is unknown; choose {' or '.join(DRConv2D.GENERATORS)}")

    def selects(self, layer):
        return super().selects(layer) and layer.kernel_size == (1, 1)

    def why_not(self, layer):
        if type(layer) is not layers.Conv2D or layer.groups > 1:
            return "it is not a Conv2D with groups=1"
        if self.generator == "grouped" and layer.kernel_size != (1, 1):
            return f"a grouped generator cannot start from a trained {layer.kernel_size} kernel"
        return None

    def replacement(self, layer, index):
        return DRConv2D.from_config({**_config_for(DRConv2D, layer), **dataclasses.asdict(self)})

    @property
    def makes_copies(self):
        return self.generator == "shared_bank"

    def start_from(self, new, trained, noise, seed):
        # With zero routing every unit is sigmoid(0) = 1/2, and the weights of a bank's base kernels sum to one.
        new.routing_kernel.assign(ops.zeros(new.routing_kernel.shape))
        new.routing_bias.assign(ops.zeros(new.routing_bias.shape))
        if self.generator == "shared_bank":
            new.kernel.assign(_copies(trained.kernel, self.bank_size, noise, seed))
        else:
            # The units keep their random draws; the offset makes up for their sum.
            units = ops.reshape(new.kernel, (self.regions, self.bank_size, *new.kernel.shape[1:]))
            new.offset.assign(trained.kernel[0] - ops.sum(units, axis=1) / 2)
        if trained.use_bias:
            new.bias.assign(trained.bias)
        return 0.0


@dataclasses.dataclass(frozen=True)
class Lean(Operator):
    """Lean convolutions (arXiv 1910.13157) in place of 3x3 convolutions: a sparse stencil plus a 1x1 convolution.

    Args:
        stencil: "9-point", "5-point", "3-point-horizontal", "3-point-vertical", or "3-point-alternating" for horizontal
            and vertical lines in turn.
        group_size: Channels per group of the stencil, 1 for a depthwise one; None for one group of all channels.

    Raises:
        ModelError: The stencil is unknown, or group_size is not a positive integer.

    Example:
        >>> from convzoo import models
        >>> models.Lean(stencil="5-point", group_size=8)
        Lean(stencil='5-point', group_size=8)
    """

    stencil: str = "5-point"
    group_size: int | None = 1
    makes_copies = False

    def __post_init__(self):
        if self.stencil is None:
            raise ModelError("stencil=None is no lean convolution; name a stencil such as 5-point")
        StencilSequence(self.stencil, self.group_size)  # checks both

    def why_not(self, layer):
        if type(layer) is not layers.Conv2D or layer.kernel_size != (3, 3) or layer.groups > 1:
            return "it is not a 3x3 Conv2D with groups=1"
        channels = layer.kernel.shape[2]
        if count_groups(channels, layer.filters, self.group_size) is None:
            return f"group_size={self.group_size} does not divide its {channels} channels and {layer.filters} filters"
        return None

    def replacement(self, layer, index):
        stencils = StencilSequence(self.stencil, self.group_size)
        stencil = [stencils() for _ in range(index % 2 + 1)][-1]
        return LeanConv2D.from_config({**_config_for(LeanConv2D, layer), **dataclasses.asdict(stencil)})

    def start_from(self, new, trained, noise, seed):
        return _fit(new, trained)


@dataclasses.dataclass(frozen=True)
class UnevenGroups(Operator):
    """Point-wise convolutions in uneven groups (Seesaw-Net, arXiv 1905.03672) in place of 1x1 convolutions.

    Args:
        ratio: Shares of the groups, for example (1, 3).
        order: "given", or "reversed" to begin with the last share.

    Raises:
        ModelError: The ratio is not of positive integers without a common divisor, or the order is unknown.

    Example:
        >>> from convzoo import models
        >>> models.UnevenGroups(ratio=(1, 3)).order
        'given'
    """

    ratio: tuple[int, ...] = (1, 3)
    order: str = "given"
    makes_copies = False

    def __post_init__(self):
        try:
            UnevenPointwiseConv2D(sum(self.ratio), self.ratio, self.order)
        except (TypeError, ValueError) as error:
            raise ModelError(f"UnevenGroups: {first_line(error)}") from error

    def why_not(self, layer):
        if type(layer) is not layers.Conv2D or layer.kernel_size != (1, 1) or layer.groups > 1:
            return "it is not a 1x1 Conv2D with groups=1"
        channels, total = layer.kernel.shape[2], sum(self.ratio)
        if channels % total or layer.filters % total:
            return f"the sum of ratio={self.ratio} does not divide its {channels} channels and {layer.filters} filters"
        return None

    def replacement(self, layer, index):
        config = _config_for(UnevenPointwiseConv2D, layer)
        return UnevenPointwiseConv2D.from_config({**config, **dataclasses.asdict(self)})

    def start_from(self, new, trained, noise, seed):
        return _fit(new, trained)


_COND_LAYERS = {
    layers.Conv2D: CondConv2D,
    layers.DepthwiseConv2D: DepthwiseCondConv2D,
    layers.Dense: CondDense,
}


def _check_positive(name, value):
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ModelError(f"{name} must be an integer of at least 1, not {value!r}")


def _config_for(layer_class, layer):
    """Returns the config of a Conv2D without the arguments that `layer_class` does not have."""
    return {key: value for key, value in layer.get_config().items() if key not in layer_class.FIXED_ARGUMENTS}


def _copies(weight, count, noise=0.0, seed=0):
    """Returns `count` copies of a weight along a new first axis, plus noise whose mean over the copies is zero."""
    weight = ops.convert_to_tensor(weight)
    copies = ops.repeat(ops.expand_dims(weight, 0), count, axis=0)
    if not noise or count == 1:
        return copies
    # The mean takes away 1 / count of the variance.
    stddev = noise * float(ops.std(weight)) * math.sqrt(count / (count - 1))
    draws = keras.random.normal(copies.shape, stddev=stddev, dtype=copies.dtype, seed=seed)
    return copies + draws - ops.mean(draws, axis=0, keepdims=True)


def _fit(new, trained):
    """Sets `new` to the least-squares fit of the trained kernel and returns its relative error."""
    new.fit_dense(trained.kernel)
    if trained.use_bias:
        new.bias.assign(trained.bias)
    kernel = ops.convert_to_tensor(trained.kernel)
    norm = float(ops.norm(ops.reshape(kernel, (-1,))))
    return float(ops.norm(ops.reshape(new.to_dense() - kernel, (-1,)))) / norm if norm else 0.0
