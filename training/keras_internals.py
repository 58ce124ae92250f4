"""Private Keras interfaces that training depends on, checked with Keras 3.10 to 3.15."""

from collections.abc import Callable

import keras


def set_batch_norm_moments(layer: keras.layers.BatchNormalization, moments: Callable) -> None:
    """Replaces `BatchNormalization._moments(inputs, mask)`, which returns mean and variance per channel."""
    layer._moments = moments


def graph_nodes(model: keras.Model) -> list[tuple[str, list, list]]:
    """Returns the layer calls of a functional model, inputs before outputs: layer's name, input and output tensors."""
    nodes = [node for depth in sorted(model._nodes_by_depth, reverse=True) for node in model._nodes_by_depth[depth]]
    return [(node.operation.name, node.input_tensors, node.outputs) for node in nodes if not node.is_input]


def set_layer_call(layer: keras.layers.Layer, call: Callable) -> None:
    """Replaces what a layer computes, keeping its arguments: Keras looks for `call` on the layer each time."""
    layer.call = call


def optimizer_variable_key(optimizer: keras.optimizers.Optimizer, variable) -> str:
    """Returns the key that identifies a variable on all replicas, `Optimizer._var_key`."""
    return optimizer._var_key(variable)


def rmsprop_mean_squares(optimizer: keras.optimizers.RMSprop) -> list[keras.Variable]:
    """Returns the mean squares of a built RMSprop, `RMSprop._velocities`."""
    return optimizer._velocities


def adam_moments(optimizer: keras.optimizers.Adam, variable) -> tuple[keras.Variable, keras.Variable | None]:
    """Returns mean and mean square of the gradients of a variable, `Adam._momentums` and `Adam._velocities`."""
    index = optimizer._get_variable_index(variable)
    return optimizer._momentums[index], optimizer._velocities[index]


def set_adam_moments(
    optimizer: keras.optimizers.Adam, means: list[keras.Variable], mean_squares: list[keras.Variable | None]
) -> None:
    """Replaces what `adam_moments` returns, in the order of the variables."""
    optimizer._momentums, optimizer._velocities = means, mean_squares
