"""What batch normalisation does where several replicas share a batch."""

import keras
import tensorflow as tf


def normalise_together(model: keras.Model, num_replicas: int, together: int | None) -> bool:
    """Makes so many replicas take the statistics of all their examples. Call it before the model is used.

    Args:
        model: The model in training.
        num_replicas: Replicas that share each batch.
        together: How many of them normalise together, a divisor of `num_replicas`; None for all of them. A single
            replica normalises alone, whatever was asked.

    Returns:
        Whether the replicas' moving statistics will differ, so that they have to be averaged.
    """
    together = min(together or num_replicas, num_replicas)
    for layer in _normalisations(model):
        if together == num_replicas:
            layer.synchronized = num_replicas > 1
        elif together > 1:
            # Keras knows all replicas or none.
            layer._moments = _moments_of_groups(layer, num_replicas // together, together)
    return together < num_replicas


class StatisticsAverage:
    """Averages moving statistics that differ from replica to replica. Make it in the strategy's scope.

    Keras lets each replica keep its own, and whoever reads or saves them gets the first replica's.

    Args:
        model: The model in training.
        average: Its `MovingAverage`, whose shadows of the statistics differ alike; or None.
        strategy: The replicas'.
    """

    def __init__(self, model: keras.Model, average, strategy: tf.distribute.Strategy):
        weights = [weight for layer in _normalisations(model) for weight in layer.non_trainable_weights]
        shadows = average.variables if average else {}
        self._variables = [weight.value for weight in weights]
        self._variables += [shadows[weight.path] for weight in weights if weight.path in shadows]
        self._average = tf.function(lambda: strategy.run(self._on_replica))

    def __call__(self) -> None:
        """Gives every replica the mean of all replicas' statistics."""
        self._average()

    def _on_replica(self):
        context = tf.distribute.get_replica_context()
        means = context.all_reduce(tf.distribute.ReduceOp.MEAN, [variable.read_value() for variable in self._variables])
        for variable, mean in zip(self._variables, means, strict=True):
            variable.assign(mean)


def _normalisations(model):
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


def _moments_of_groups(layer, groups, together):
    """Keras's `_moments` over the examples of all replicas of a group; replicas in a row make a group."""
    axes = [axis for axis in range(layer.input_spec.ndim) if axis != layer.axis % layer.input_spec.ndim]

    def moments(inputs, mask):
        del mask  # of sequences; pictures have none
        context = tf.distribute.get_replica_context()
        group = context.replica_id_in_sync_group // together
        x = tf.cast(inputs, tf.float32)
        sums = tf.stack([tf.reduce_mean(x, axes), tf.reduce_mean(x * x, axes)])
        # No strategy sums over a part of the replicas: each group has a place of its own in a sum over all.
        placed = tf.one_hot(group, groups)[:, tf.newaxis, tf.newaxis] * sums
        mean, square = tf.unstack(tf.gather(context.all_reduce(tf.distribute.ReduceOp.SUM, placed), group) / together)
        variance = tf.maximum(square - mean * mean, 0.0)
        return tf.cast(mean, inputs.dtype), tf.cast(variance, inputs.dtype)

    return moments
