"""Routing weights of CondConv blocks: the variants of CondConv's table 3 (arXiv 1904.04971)."""

from keras import layers

from convzoo.layers import ExpertRouting

# Width of the hidden layer as a multiple of the block's input channels.
_HIDDEN = {"hidden_small": 1 / 8, "hidden_medium": 1.0, "hidden_large": 8.0}
VARIANTS = ("one_layer", "softmax", "single", "partially_shared", *_HIDDEN, "hierarchical")


class RoutingBuilder:
    """Creates the routing weights of a network's CondConv blocks, called once per block (or layer) in network order.

    Args:
        variant: How the routing weights are computed.
            "one_layer": sigmoid(global average pool(block's input) . kernel + bias) per block; the paper's choice.
            "softmax": the same with a softmax.
            "single": all conditional parts, the classifier too, use the routing weights of the first one.
            "partially_shared": consecutive conditional parts share in pairs: 1 and 2, 3 and 4, ...
            "hidden_small", "hidden_medium", "hidden_large": a hidden ReLU layer with 1/8, 1 and 8 times the input
            channels.
            "hierarchical": the previous block's routing weights are additional inputs.
        num_experts: Number of routing weights per block.
        expert_dropout: Fraction of the routing weights that is set to zero in training, drawn per example and expert;
            the others are scaled up.
        **routing_arguments: Further arguments of `convzoo.layers.ExpertRouting`.

    Example:
        >>> import keras
        >>> routing_builder = RoutingBuilder("one_layer", num_experts=4)
        >>> routing_builder(keras.Input((14, 14, 32)), "block0").shape
        (None, 4)
    """

    def __init__(
        self,
        variant: str,
        num_experts: int,
        expert_dropout: float = 0.0,
        **routing_arguments,
    ):
        self._variant, self._num_experts, self._expert_dropout = variant, num_experts, expert_dropout
        self._routing_arguments = routing_arguments
        # Routing weights of the previous block, before and after expert dropout.
        self._num_blocks, self._previous, self._previous_dropped = 0, None, None

    def __call__(self, features, name: str):
        """Returns routing weights [batch, num_experts] of the block `name` for its input [batch, ..., channels]."""
        shared = {"single": self._num_blocks > 0, "partially_shared": self._num_blocks % 2 == 1}
        self._num_blocks += 1
        if shared.get(self._variant):
            return self._previous_dropped
        # Float32 under every dtype policy: a bfloat16 sigmoid has 8 significant bits, too few to separate experts.
        weights = self._previous = ExpertRouting(
            self._num_experts,
            activation="softmax" if self._variant == "softmax" else "sigmoid",
            **self._routing_arguments,
            data_format="channels_last",
            dtype="float32",
            name=f"{name}_routing",
        )(self._inputs(features, name))
        if self._expert_dropout:
            weights = layers.Dropout(self._expert_dropout, dtype="float32", name=f"{name}_expert_dropout")(weights)
        self._previous_dropped = weights
        return weights

    def _inputs(self, features, name):
        """Returns the input of the routing layer."""
        hidden = _HIDDEN.get(self._variant)
        if hidden is None and (self._variant != "hierarchical" or self._previous is None):
            return features
        channels = features.shape[-1]
        if len(features.shape) == 4:
            pool = layers.GlobalAveragePooling2D("channels_last", dtype="float32", name=f"{name}_routing_pool")
            features = pool(features)
        if hidden is None:
            return layers.Concatenate(dtype="float32", name=f"{name}_routing_inputs")([features, self._previous])
        units = max(1, int(channels * hidden))
        return layers.Dense(units, activation="relu", dtype="float32", name=f"{name}_routing_hidden")(features)
