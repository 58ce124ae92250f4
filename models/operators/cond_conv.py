"""CondConv as an operator (arXiv 1904.04971)."""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import keras
from keras import layers, ops

from convzoo.errors import ModelError
from convzoo.layers import CondConv2D, CondDense, DepthwiseCondConv2D
from convzoo.models.operators.operator import Operator, check_choice, check_integer, copies
from convzoo.models.operators.part import Part, PartLayers
from convzoo.models.operators.routing import VARIANTS, RoutingBuilder

_COND_LAYERS = {
    layers.Conv2D: CondConv2D,
    layers.DepthwiseConv2D: DepthwiseCondConv2D,
    layers.Dense: CondDense,
}


@dataclasses.dataclass(frozen=True)
class CondConv(Operator):
    """Conditionally parameterized convolutions (arXiv 1904.04971): full, grouped and depthwise ones, dense layers.

    In a network, one routing vector, computed from a block's input, mixes the experts of all convolutions in the
    block's branch. Convolutions of shortcuts and squeeze-and-excitation are static. `convert` gives each layer its own
    routing and uses `num_experts` and `classifier` only.

    Args:
        num_experts: Number of experts of each layer (n in the paper).
        classifier: Whether the classifier (`convert`: every dense layer) is a `CondDense`.
        stem: Whether the stem's convolution is replaced.
        head: Whether the head's 1x1 convolution is replaced.
        routing: How routing weights are computed, see `convzoo.models.operators.routing.RoutingBuilder`.
        scope: "block", as in the paper: the layers of a block share routing weights; "layer": each has its own.
        routing_initializer: Initializer of the routing kernels: "glorot_uniform", as published, or "zeros", with which
            every image starts with the same mean of the experts.
        expert_dropout: Fraction of the routing weights that is set to zero in training; the others are scaled up.
        temperature: Divisor of the logits of routing="softmax". A high one makes routing weights nearly equal.
        annealing_steps: Training steps over which the temperature falls linearly to 1, as in Dynamic Convolution (arXiv
            1912.03458), which uses a temperature of 30 and ten epochs. 0: it stays.
        first_block: Blocks from this index on are conditional; None: no block.

    Raises:
        ModelError: A setting is out of range, or has no effect without another one.

    Example:
        >>> from convzoo import models
        >>> operator = models.CondConv(num_experts=4, first_block=13, classifier=True)
        >>> model = models.create_model("resnet50", 10, (64, 64, 3), operator=operator)
        >>> model.get_layer("block13_2_conv").num_experts
        4
        >>> import keras
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3), keras.layers.Conv2D(4, 3)])
        >>> [type(layer).__name__ for layer in models.convert(model, models.CondConv(num_experts=4)).layers]
        ['Conv2D', 'CondConv2D']
    """

    LAYERS: ClassVar = tuple(_COND_LAYERS.values())
    REPLACES: ClassVar = "convolutions"
    NETWORK_ONLY: ClassVar = (
        *Operator.NETWORK_ONLY,
        *("stem", "head", "routing", "scope", "routing_initializer"),
        *("expert_dropout", "temperature", "annealing_steps"),
    )

    may_replace_nothing: ClassVar = True  # an ablation of the paper

    num_experts: int = 8
    classifier: bool = False
    stem: bool = False
    head: bool = False
    routing: str = "one_layer"
    scope: str = "block"
    routing_initializer: str = "glorot_uniform"
    expert_dropout: float = 0.0
    temperature: float = 1.0
    annealing_steps: int = 0

    def __post_init__(self):
        super().__post_init__()
        check_integer("num_experts", self.num_experts)
        check_choice("routing", self.routing, VARIANTS)
        check_choice("scope", self.scope, ("block", "layer"))
        check_choice("routing_initializer", self.routing_initializer, ("glorot_uniform", "zeros"))
        if not 0 <= self.expert_dropout < 1:
            raise ModelError(f"expert_dropout must be at least 0 and below 1, not {self.expert_dropout!r}")
        if not 0 < self.temperature < float("inf"):
            raise ModelError(f"temperature must be a positive number, not {self.temperature!r}")
        check_integer("annealing_steps", self.annealing_steps, lowest=0)
        if self.temperature != 1 and self.routing != "softmax":
            raise ModelError(f"temperature={self.temperature} requires routing='softmax', not {self.routing!r}")
        if self.annealing_steps and self.temperature <= 1:
            raise ModelError(
                f"annealing_steps={self.annealing_steps} has no effect: the temperature falls to 1 from "
                f"{self.temperature}; increase it"
            )

    @property
    def parts(self) -> tuple[str, ...]:
        return super().parts + tuple(part for part in ("stem", "head", "classifier") if getattr(self, part))

    def start_network(self) -> Callable[[Part], PartLayers]:
        routing_builder = RoutingBuilder(
            self.routing,
            self.num_experts,
            self.expert_dropout,
            kernel_initializer=self.routing_initializer,
            temperature=self.temperature,
            annealing_steps=self.annealing_steps,
        )
        return lambda part: _CondLayers(self, routing_builder, part)

    def selects(self, layer: keras.Layer) -> bool:
        return super().selects(layer) and (self.classifier or type(layer) is not layers.Dense)

    def why_not(self, layer: keras.Layer) -> str | None:
        if type(layer) not in _COND_LAYERS:
            return "it is not a Conv2D, DepthwiseConv2D or Dense layer"
        return None

    def replacement(self, layer: keras.Layer, index: int) -> keras.Layer:
        return _COND_LAYERS[type(layer)].from_config({**layer.get_config(), "num_experts": self.num_experts})

    def start_from(self, new: keras.Layer, trained: keras.Layer, noise: float, seed: int) -> float:
        # With a zero kernel and bias every routing weight is sigmoid(0) = 1/2: their sum is num_experts / 2.
        for weight in new.routing.weights:
            weight.assign(ops.zeros(weight.shape))
        scale = 2.0 / self.num_experts
        new.kernel.assign(copies(trained.kernel, self.num_experts, noise, seed) * scale)
        if trained.use_bias:
            new.bias.assign(copies(trained.bias, self.num_experts) * scale)
        return 0.0


class _CondLayers(PartLayers):
    def __init__(self, operator, routing_builder, part):
        self._num_experts, self._routing_builder = operator.num_experts, routing_builder
        # The classifier is one layer; dropout applies to its input, not to the input of its routing.
        shared = operator.scope == "block" or part.kind == "classifier"
        self._routing_weights = routing_builder(part.inputs, part.name) if shared else None

    def _apply(self, layer_class, x, arguments):
        weights = self._routing_weights
        if weights is None:
            weights = self._routing_builder(x, arguments["name"])
        return layer_class(num_experts=self._num_experts, **arguments)(x, weights)

    def conv(self, x, **arguments):
        return self._apply(CondConv2D, x, arguments)

    def depthwise(self, x, **arguments):
        return self._apply(DepthwiseCondConv2D, x, arguments)

    def dense(self, x, **arguments):
        return self._apply(CondDense, x, arguments)
