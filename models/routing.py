"""How the conditional blocks of a network get their routing weights: the variants of CondConv's table 3."""

from keras import layers

from convzoo.layers import ExpertRouting
from convzoo.models.errors import ModelError

# Width of the hidden layer, as a multiple of the block's input channels.
_HIDDEN = {"hidden_small": 1 / 8, "hidden_medium": 1.0, "hidden_large": 8.0}
VARIANTS = ("one_layer", "softmax", "single", "partially_shared", *_HIDDEN, "hierarchical")


def first_block(first: int | None, blocks: int, least: int = -1) -> int:
    """The first conditional block of `blocks` ones, `blocks` for none; checked.

    Args:
        first: As the user gave it: -1 for the stem too, None for no block.
        blocks: How many the network has.
        least: 0 for a network whose stem cannot be conditional.

    Raises:
        ModelError: There is no such block.
    """
    if first is None:
        return blocks
    if not least <= first < blocks:
        raise ModelError(
            f"first_conditional_block {first} is no block of the network; give {least} to {blocks - 1}, or None"
        )
    return first


class Router:
    """Makes the routing weights of a network's conditional blocks, in the order of the blocks.

    CondConv (arXiv 1904.04971), table 3. The paper's own choice is "one_layer": each block has a layer of its own,
    sigmoid(global average pool(block's input) . kernel + bias).

    Args:
        variant: "one_layer"; "softmax" for a softmax in the sigmoid's place; "single" for one routing, the first
            block's, that all blocks use; "partially_shared" for one that every two blocks share; "hidden_small",
            "hidden_medium" and "hidden_large" for a hidden ReLU layer of an eighth, once and eight times the input
            channels; "hierarchical" for the routing weights of the block before as further inputs.
        num_experts: Routing weights of each block.
        expert_dropout: Share of the routing weights that training sets to zero, drawn for each example and expert; the
            others are scaled up.

    Raises:
        ModelError: An unknown variant.
    """

    def __init__(self, variant: str, num_experts: int, expert_dropout: float = 0.0):
        if variant not in VARIANTS:
            raise ModelError(f"routing {variant!r} is not known; choose one of {', '.join(VARIANTS)}")
        self._variant, self._num_experts, self._expert_dropout = variant, num_experts, expert_dropout
        self._blocks, self._last, self._shared = 0, None, None

    def __call__(self, features, name: str):
        """Routing weights [batch, num_experts] of the block `name`, from its input [batch, ..., channels]."""
        kept = {"single": self._blocks > 0, "partially_shared": self._blocks % 2 == 1}
        self._blocks += 1
        if kept.get(self._variant):
            return self._shared
        # Float32 under every policy: a sigmoid in bfloat16 has 8 bits, too few to tell experts apart.
        weights = self._last = ExpertRouting(
            self._num_experts,
            activation="softmax" if self._variant == "softmax" else "sigmoid",
            data_format="channels_last",
            dtype="float32",
            name=f"{name}_routing",
        )(self._inputs(features, name))
        if self._expert_dropout:
            weights = layers.Dropout(self._expert_dropout, dtype="float32", name=f"{name}_expert_dropout")(weights)
        self._shared = weights
        return weights

    def _inputs(self, features, name):
        hidden = _HIDDEN.get(self._variant)
        if hidden is None and (self._variant != "hierarchical" or self._last is None):
            return features
        channels = features.shape[-1]
        if len(features.shape) == 4:
            features = layers.GlobalAveragePooling2D("channels_last", dtype="float32", name=f"{name}_routing_pool")(
                features
            )
        if hidden is None:
            return layers.Concatenate(dtype="float32", name=f"{name}_routing_inputs")([features, self._last])
        units = max(1, int(channels * hidden))
        return layers.Dense(units, activation="relu", dtype="float32", name=f"{name}_routing_hidden")(features)
