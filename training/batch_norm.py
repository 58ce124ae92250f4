"""Batch normalization across replicas."""

import keras
import tensorflow as tf

from convzoo.training.keras_internals import set_batch_norm_moments, set_layer_call


def synchronize_batch_norm(model: keras.Model, num_replicas: int, group_size: int | None) -> bool:
    """Makes groups of replicas share the batch statistics of BatchNorm. Call it before the model is used.

    Args:
        model: The model to train.
        num_replicas: Number of replicas that share a batch.
        group_size: Number of consecutive replicas in a group, a divisor of `num_replicas`; None for all replicas.

    Returns:
        True if the moving statistics will differ between replicas and must be averaged before evaluation.
    """
    group_size = min(group_size or num_replicas, num_replicas)
    for layer in _batch_norm_layers(model):
        if group_size == num_replicas:
            layer.synchronized = num_replicas > 1
        elif group_size > 1:  # Keras can synchronize all replicas or none
            set_batch_norm_moments(layer, _group_moments(layer, num_replicas // group_size, group_size))
    return group_size < num_replicas


def fuse_batch_norm(model: keras.Model) -> None:
    """Makes BatchNorm normalize training batches with TensorFlow's fused op. Call it before the model is used.

    Results are those of Keras up to rounding. Keras composes BatchNorm of a dozen ops, which take more than half of a
    training step on the CPU; XLA fuses them, so this is not for TPUs. The statistics are those of each replica.

    Args:
        model: The model to train. Layers of images without scale or offset, or with channels first, are left alone.
    """
    for layer in _batch_norm_layers(model):
        is_last = layer.input_spec.ndim == 4 and layer.axis in (-1, 3)
        if is_last and layer.center and layer.scale:
            set_layer_call(layer, _fused_call(layer, layer.call))


def _fused_call(layer, keras_call):
    def call(inputs, training=None, mask=None):
        if not training or not layer.trainable:
            return keras_call(inputs, training=training, mask=mask)
        empty = tf.zeros([0])  # the op computes no moving statistics
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.cast(layer.gamma.value, tf.float32),
            offset=tf.cast(layer.beta.value, tf.float32),
            mean=empty,
            variance=empty,
            epsilon=layer.epsilon,
            exponential_avg_factor=1.0,
        )
        # The op divides the sum of squares by one less than the number of examples, Keras by their number.
        count = tf.cast(tf.size(inputs) // inputs.shape[-1], tf.float32)
        variance *= (count - 1) / count
        for moving, batch in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
            moving.assign(moving * layer.momentum + tf.cast(batch, moving.dtype) * (1.0 - layer.momentum))
        return outputs

    return call


class StatisticsAverage:
    """Averages the moving statistics of BatchNorm over replicas. Create it in the strategy's scope.

    Every replica keeps its own moving statistics, and reading or saving a variable returns those of the first replica.

    Args:
        model: The model in training.
        ema: Its `MovingAverage`, whose averages of the statistics differ between replicas too; or None.
        strategy: The distribution strategy.
    """

    def __init__(self, model: keras.Model, ema, strategy: tf.distribute.Strategy):
        weights = [weight for layer in _batch_norm_layers(model) for weight in layer.non_trainable_weights]
        averages = ema.variables if ema else {}
        self._variables = [weight.value for weight in weights]
        self._variables += [averages[weight.path] for weight in weights if weight.path in averages]
        self._average = tf.function(lambda: strategy.run(self._average_replica))

    def __call__(self) -> None:
        """Assigns the mean over all replicas to the statistics of every replica."""
        self._average()

    def _average_replica(self):
        context = tf.distribute.get_replica_context()
        means = context.all_reduce(tf.distribute.ReduceOp.MEAN, [variable.read_value() for variable in self._variables])
        for variable, mean in zip(self._variables, means, strict=True):
            variable.assign(mean)


def _batch_norm_layers(model):
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


def _group_moments(layer, num_groups, group_size):
    """Returns a function of a replica's inputs to mean and variance over the examples of its group."""
    axes = [axis for axis in range(layer.input_spec.ndim) if axis != layer.axis % layer.input_spec.ndim]

    def moments(inputs, mask):
        del mask  # for sequences; images have none
        context = tf.distribute.get_replica_context()
        group = context.replica_id_in_sync_group // group_size
        x = tf.cast(inputs, tf.float32)
        sums = tf.stack([tf.reduce_mean(x, axes), tf.reduce_mean(x * x, axes)])
        # No strategy can sum over some replicas only, so each group has its own slot in a sum over all replicas.
        slots = tf.one_hot(group, num_groups)[:, tf.newaxis, tf.newaxis] * sums
        sums = tf.gather(context.all_reduce(tf.distribute.ReduceOp.SUM, slots), group)
        mean, mean_square = tf.unstack(sums / group_size)
        variance = tf.maximum(mean_square - mean * mean, 0.0)
        return tf.cast(mean, inputs.dtype), tf.cast(variance, inputs.dtype)

    return moments
