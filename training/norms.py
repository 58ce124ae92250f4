"""Norms of gradients, updates and weights by class of layer, to see which layers train."""

from collections.abc import Iterable, Sequence

import keras
import tensorflow as tf

_KINDS = ("gradient", "update", "weight")


def norm_names(model: keras.Model) -> list[str]:
    """Returns the names of the norms of a network, such as "norms/gradient/ExpertRouting"."""
    return [f"norms/{kind}/{name}" for kind in _KINDS for name in _positions(model)]


def norms(
    model: keras.Model, gradients: Sequence[tf.Tensor], before: Sequence[tf.Tensor], after: Sequence[tf.Tensor]
) -> dict[str, tf.Tensor]:
    """Returns the Euclidean norms of an update, float32 [], over all trainable weights of each class of layer.

    Args:
        model: The network.
        gradients: Gradient of each of its trainable weights.
        before, after: The weights before and after the update.

    Returns:
        "norms/gradient/CLASS", "norms/update/CLASS" and "norms/weight/CLASS", the weights before the update.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
        >>> before, after = [tf.constant([[3.0], [4.0]])], [tf.constant([[3.0], [5.0]])]
        >>> values = norms(model, [tf.constant([[0.0], [2.0]])], before, after)
        >>> {name: float(value) for name, value in values.items()}
        {'norms/gradient/Dense': 2.0, 'norms/update/Dense': 1.0, 'norms/weight/Dense': 5.0}
    """
    updates = [new - old for old, new in zip(before, after, strict=True)]
    return {
        f"norms/{kind}/{name}": _norm(tensors[position] for position in positions)
        for kind, tensors in zip(_KINDS, (gradients, updates, before), strict=True)
        for name, positions in _positions(model).items()
    }


def _positions(model):
    """Returns the positions in `model.trainable_weights` of each class of layer."""
    classes = {id(weight): type(layer).__name__ for layer in model.layers for weight in layer.trainable_weights}
    positions = {}
    for position, weight in enumerate(model.trainable_weights):
        positions.setdefault(classes[id(weight)], []).append(position)
    return positions


def _norm(tensors: Iterable[tf.Tensor]):
    return tf.sqrt(tf.add_n([tf.reduce_sum(tf.square(tf.cast(tensor, tf.float32))) for tensor in tensors]))
