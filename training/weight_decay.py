"""Which weights decay, and how much."""

from collections.abc import Collection

import keras

from convzoo.training.fine_tuning import multipliers


def weight_kinds(model: keras.Model) -> dict[str, str]:
    """Returns the kind of each trainable weight by path.

    The kind is "batch_norm" for scales and offsets of BatchNorm, "biases" for all other biases, and "kernels" for all
    other weights.
    """
    kinds = {}
    for layer in model.layers:
        is_batch_norm = isinstance(layer, keras.layers.BatchNormalization)
        for weight in layer.trainable_weights:
            other = "biases" if weight.name == "bias" or weight.name.endswith("_bias") else "kernels"
            kinds[weight.path] = "batch_norm" if is_batch_norm else other
    return kinds


def weight_decays(
    model: keras.Model, weight_decay: float, covered: Collection[str], pairs: Collection[tuple[str, float]] = ()
) -> dict[str, float]:
    """Returns the weight decay of each trainable weight by path.

    Args:
        model: The network.
        weight_decay: Decay of a weight that no pattern matches.
        covered: Kinds of weights that decay, see `weight_kinds`.
        pairs: Shell patterns of paths, and factors on the decay.

    Raises:
        ConfigError: A pattern matches no trainable weight.

    Example:
        >>> inputs = keras.Input((2,))
        >>> model = keras.Model(inputs, keras.layers.Dense(1, name="dense")(inputs))
        >>> weight_decays(model, 0.1, ("kernels",), (("dense/*", 2.0),))
        {'dense/kernel': 0.2, 'dense/bias': 0.0}
    """
    kinds, factors = weight_kinds(model), multipliers(model, pairs, "config.weight_decay_multipliers")
    return {path: weight_decay * factors[path] if kinds[path] in covered else 0.0 for path in factors}
