"""The interface of an operator."""

import abc
import dataclasses
import math
import numbers
from collections.abc import Callable
from typing import ClassVar

import keras
from keras import ops

from convzoo.errors import ModelError
from convzoo.models.operators.part import Part, PartLayers


@dataclasses.dataclass(frozen=True)
class Operator(abc.ABC):
    """What replaces the convolutions of a network; a frozen dataclass of its settings.

    `convzoo.models.create_model` asks an operator for the layers of each part of a network. `convzoo.models.convert`
    asks which layers of a trained network to replace, asks for their replacements, and has it set their weights.

    To write another operator, subclass this class as a frozen dataclass, set LAYERS and REPLACES, and add it to the
    operators in changes.py.

    Args:
        first_block: Convolutions of blocks from this index on are replaced. The index counts from 0 over the whole
            network, as in the layer names. None: of no block. `convert` has its argument `where` instead.
    """

    LAYERS: ClassVar[tuple[type[keras.Layer], ...]] = ()  # what it puts into a network
    REPLACES: ClassVar[str] = ""  # the convolutions of a block that it replaces, in words
    NETWORK_ONLY: ClassVar[tuple[str, ...]] = ("first_block",)  # settings without a meaning in `convert`

    may_replace_nothing: ClassVar[bool] = False  # whether first_block=None is valid
    makes_copies: ClassVar[bool] = True  # whether a new layer has several copies of the trained kernel
    replaces_spatial: ClassVar[bool] = False  # whether it replaces the 3x3 convolutions of segmenters too

    first_block: int | None = dataclasses.field(default=0, kw_only=True)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):  # JSON has no tuples
                value = tuple(value)
            elif isinstance(value, numbers.Integral) and not isinstance(value, bool):
                value = int(value)  # of NumPy's types, which JSON lacks
            object.__setattr__(self, field.name, value)
            if isinstance(field.default, bool) and not isinstance(value, bool):
                raise ModelError(f"{field.name} must be True or False, not {value!r}")
            if isinstance(field.default, float):
                _check_number(field.name, value)
        if self.first_block is not None:
            check_integer("first_block", self.first_block, lowest=0)
        elif not self.may_replace_nothing:
            raise ModelError(f"{type(self).__name__} with first_block=None replaces nothing; use Static()")

    @property
    def parts(self) -> tuple[str, ...]:
        """The kinds of `Part` with layers that the operator replaces."""
        return () if self.first_block is None else ("block",)

    @abc.abstractmethod
    def start_network(self) -> Callable[[Part], PartLayers]:
        """Starts a new network: returns a function from each part to the layers that it gets.

        The function is called in network order and for the parts to be replaced only: the kinds in `parts`, and blocks
        from `first_block` on. It keeps what parts share, such as routing weights.
        """

    def why_no_effect(self, model: keras.Model) -> str | None:
        """Returns why a setting had no effect on a network built with this operator, as the end of a sentence."""
        if any(isinstance(layer, self.LAYERS) for layer in model.layers):
            return None
        return f"replaces {self.REPLACES} of blocks, and {model.name} has none"

    def selects(self, layer: keras.Layer) -> bool:
        """Returns whether the operator replaces this built layer by default, where `why_not` allows it."""
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
class Static(Operator):
    """Ordinary convolutions: removes the operator of a registered network.

    Example:
        >>> from convzoo import models
        >>> model = models.create_model("resnet50_condconv", operator=models.Static())
        >>> models.count(model).params == models.info("resnet50").params
        True
    """

    first_block: int | None = dataclasses.field(default=None, init=False)
    may_replace_nothing: ClassVar = True

    def start_network(self) -> Callable[[Part], PartLayers]:
        return lambda part: PartLayers()

    def why_no_effect(self, model: keras.Model) -> str | None:
        return None

    def why_not(self, layer: keras.Layer) -> str | None:
        return "it replaces nothing"

    def replacement(self, layer: keras.Layer, index: int) -> keras.Layer:  # never called, because of `why_not`
        raise NotImplementedError

    def start_from(self, new: keras.Layer, trained: keras.Layer, noise: float, seed: int) -> float:
        raise NotImplementedError


def _check_number(name, value):
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise ModelError(f"{name} must be a finite number, not {value!r}")


def check_integer(name: str, value, lowest: int = 1) -> None:
    """Raises ModelError unless `value` is an integer of at least `lowest`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
        raise ModelError(f"{name} must be an integer of at least {lowest}, not {value!r}")


def check_choice(name: str, value, choices) -> None:
    """Raises ModelError unless `value` is one of `choices`."""
    if value not in choices:
        raise ModelError(f"{name} {value!r} is unknown; choose one of {', '.join(map(str, choices))}")


def config_for(layer_class: type[keras.Layer], layer: keras.Layer) -> dict:
    """Returns the config of a Conv2D without the arguments that `layer_class` does not have."""
    return {key: value for key, value in layer.get_config().items() if key not in layer_class.FIXED_ARGUMENTS}


def copies(weight, count: int, noise: float = 0.0, seed: int = 0):
    """Returns `count` copies of a weight along a new first axis, plus noise whose mean over the copies is zero."""
    weight = ops.convert_to_tensor(weight)
    repeated = ops.repeat(ops.expand_dims(weight, 0), count, axis=0)
    if not noise or count == 1:
        return repeated
    # The mean takes away 1 / count of the variance.
    stddev = noise * float(ops.std(weight)) * math.sqrt(count / (count - 1))
    draws = keras.random.normal(repeated.shape, stddev=stddev, dtype=repeated.dtype, seed=seed)
    return repeated + draws - ops.mean(draws, axis=0, keepdims=True)


def fit(new: keras.Layer, trained: keras.Layer) -> float:
    """Sets `new` to the least-squares fit of the trained kernel and returns its relative error."""
    new.fit_dense(trained.kernel)
    if trained.use_bias:
        new.bias.assign(trained.bias)
    kernel = ops.convert_to_tensor(trained.kernel)
    norm = float(ops.norm(ops.reshape(kernel, (-1,))))
    return float(ops.norm(ops.reshape(new.to_dense() - kernel, (-1,)))) / norm if norm else 0.0
