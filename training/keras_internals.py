"""Private Keras interfaces that training depends on, checked with Keras 3.10 to 3.15."""

from collections.abc import Callable

import keras
from keras.src.backend.common import global_state


def set_batch_norm_moments(layer: keras.layers.BatchNormalization, moments: Callable) -> None:
    """Replaces `BatchNormalization._moments(inputs, mask)`, which returns mean and variance per channel."""
    layer._moments = moments


def build_without_values(build: Callable[[], keras.Model]) -> keras.Model:
    """Returns the network that `build` returns, whose weights have shapes but neither values nor memory."""
    with keras.StatelessScope(initialize_variables=False):
        model = build()
    # Otherwise the next such scope would give them values.
    global_state.set_global_attribute("uninitialized_variables", [])
    return model


def set_layer_call(layer: keras.layers.Layer, call: Callable) -> None:
    """Replaces what a layer computes, keeping its arguments: Keras looks for `call` on the layer each time."""
    layer.call = call


def optimizer_variable_key(optimizer: keras.optimizers.Optimizer, variable) -> str:
    """Returns the key that identifies a variable on all replicas, `Optimizer._var_key`."""
    return optimizer._var_key(variable)


def rmsprop_mean_squares(optimizer: keras.optimizers.RMSprop) -> list[keras.Variable]:
    """Returns the mean squares of a built RMSprop, `RMSprop._velocities`."""
    return optimizer._velocities
