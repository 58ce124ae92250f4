"""A moving average of the weights and of the batch-normalisation statistics."""

import keras
import tensorflow as tf


class MovingAverage:
    """Shadows of a model's weights that follow them with decay min(decay, (1 + t) / (10 + t)) after t updates.

    The ramp lets the average forget the random initialisation quickly (arXiv 1905.11946 trains with it). Make it in
    the strategy's scope.

    Args:
        model: The model in training.
        decay: The final decay, as 0.9999.
    """

    def __init__(self, model: keras.Model, decay: float):
        self._decay = decay
        self._sources = [weight.value for weight in model.weights if weight.dtype.startswith("float")]
        paths = [weight.path for weight in model.weights if weight.dtype.startswith("float")]
        # Aggregation NONE: each replica updates its own copy, and all compute the same from the same weights.
        self._shadows = {
            path: tf.Variable(source.read_value(), trainable=False, aggregation=tf.VariableAggregation.NONE)
            for path, source in zip(paths, self._sources, strict=True)
        }

    @property
    def variables(self) -> dict[str, tf.Variable]:
        """The shadow of each weight, by the weight's path."""
        return dict(self._shadows)

    def update(self, step: tf.Tensor) -> None:
        """Follows the weights once. Call it in replica context after update number `step` (from 0) of the weights."""
        step = tf.cast(step, tf.float32)
        keep = tf.minimum(self._decay, (1.0 + step) / (10.0 + step))
        for shadow, source in zip(self._shadows.values(), self._sources, strict=True):
            value = tf.cast(source.read_value(), shadow.dtype)
            shadow.assign(shadow.read_value() - (1.0 - keep) * (shadow.read_value() - value))
