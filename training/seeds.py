"""Chance that differs from replica to replica."""

import keras
import tensorflow as tf

# Any odd number does; the states of different replicas only must not meet.
_APART = 7919


def differ_by_replica(model: keras.Model, strategy: tf.distribute.Strategy) -> None:
    """Moves each replica's random generators apart, so that replicas drop different units and branches.

    Keras gives every replica the same generator, and a checkpoint keeps the first replica's: call this once after the
    weights were made or restored. The first replica's own state stays as it is.
    """
    states = [
        layer.seed_generator.state.value
        for layer in model.layers
        if isinstance(getattr(layer, "seed_generator", None), keras.random.SeedGenerator)
    ]
    if strategy.num_replicas_in_sync == 1 or not states:
        return

    def move():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        for state in states:
            # A state is [seed, draws so far]; the draws go on counting alike on all replicas.
            state.assign(state.read_value() + tf.cast(tf.stack([replica * _APART, 0]), state.dtype))

    tf.function(lambda: strategy.run(move))()
