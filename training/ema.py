"""Exponential moving average of the weights and of the BatchNorm statistics."""

import keras
import tensorflow as tf


class MovingAverage:
    """Exponential moving averages of a model's weights, with decay min(decay, (1 + t) / (10 + t)) after t updates.

    The ramp of the decay lets the average forget the random initialization quickly (as in EfficientNet, arXiv
    1905.11946). Integer weights, such as the counter of `ExpertRouting`, are copied. Create it in the strategy's scope.

    Args:
        model: The model in training.
        decay: Final decay, for example 0.9999.
    """

    def __init__(self, model: keras.Model, decay: float):
        self._decay = decay
        self._weights = [weight.value for weight in model.weights]
        # Aggregation NONE: each replica updates its own copy, and all copies compute the same from the same weights.
        self._averages = {
            weight.path: tf.Variable(
                weight.value.read_value(), trainable=False, aggregation=tf.VariableAggregation.NONE
            )
            for weight in model.weights
        }

    @property
    def variables(self) -> dict[str, tf.Variable]:
        """The average of each weight, by the weight's path."""
        return dict(self._averages)

    def update(self, step: tf.Tensor) -> None:
        """Updates the averages once. Call it in replica context after update number `step`, from 0, of the weights."""
        step = tf.cast(step, tf.float32)
        decay = tf.minimum(self._decay, (1.0 + step) / (10.0 + step))
        for average, weight in zip(self._averages.values(), self._weights, strict=True):
            value = weight.read_value()
            if average.dtype.is_floating:
                value = average.read_value() - (1.0 - decay) * (average.read_value() - value)
            average.assign(value)
