"""The graph of a functional network, call by call, as Keras keeps it."""

from collections.abc import Iterator

import keras

from convzoo.models.errors import ModelError


def calls(model: keras.Model) -> Iterator:
    """The calls of a network's layers, each after those that it depends on.

    A call has `operation`, the layer; `input_tensors`, a list; and `outputs`, a list. A layer that is used more than
    once has several. Keras has no public way to them; this is the one place that knows it.
    """
    by_depth = getattr(model, "_nodes_by_depth", {})
    for depth in sorted(by_depth, reverse=True):
        yield from by_depth[depth]


def check_flat(model: keras.Model) -> None:
    """Raises ModelError unless `model` is a graph of layers that can be walked and put together anew."""
    if not getattr(model, "_nodes_by_depth", None) and not (isinstance(model, keras.Sequential) and model.built):
        raise ModelError(f"{model.name} is no built functional or sequential model; give one")
    if inner := [layer.name for layer in model.layers if isinstance(layer, keras.Model)]:
        raise ModelError(f"{model.name} has models among its layers ({', '.join(inner[:3])}); give it without them")
