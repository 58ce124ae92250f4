"""The layer graph of a functional model.

This is the only file of the package that reads a private Keras interface, `Functional._nodes_by_depth`. It is checked
with Keras 3.10 to 3.15.
"""

from collections.abc import Callable, Iterator

import keras

from convzoo.errors import ModelError


def calls(model: keras.Model) -> Iterator:
    """Yields the layer calls of a model in topological order.

    A call has `operation`, the layer, and the lists `input_tensors` and `outputs`. A layer that is used more than once
    has several calls. A model without a graph yields nothing.
    """
    by_depth = getattr(model, "_nodes_by_depth", {})
    for depth in sorted(by_depth, reverse=True):
        yield from by_depth[depth]


def check_flat(model: keras.Model) -> None:
    """Raises ModelError unless `model` is a built functional or sequential model without nested models."""
    if not any(calls(model)) and not (isinstance(model, keras.Sequential) and model.built):
        raise ModelError(f"{model.name} is not a built functional or sequential model; build it first")
    if nested := [layer.name for layer in model.layers if isinstance(layer, keras.Model)]:
        raise ModelError(f"{model.name} contains nested models ({', '.join(nested[:3])}); flatten it first")


def clone_with(model: keras.Model, clone_layer: Callable[[keras.Layer], keras.Layer]) -> keras.Model:
    """Clones a model with `clone_layer` applied to every layer, and keeps the names of its inputs."""
    inputs = None
    if not isinstance(model, keras.Sequential):
        inputs = keras.tree.map_structure(
            lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name), model.input
        )
    return keras.models.clone_model(model, input_tensors=inputs, clone_function=clone_layer)
