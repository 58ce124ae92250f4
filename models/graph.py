"""The graph of a functional network, call by call, as Keras keeps it."""

from collections.abc import Iterator

import keras


def calls(model: keras.Model) -> Iterator:
    """The calls of a network's layers, each after those that it depends on.

    A call has `operation`, the layer; `input_tensors`, a list; and `outputs`, a list. A layer that is used more than
    once has several. Keras has no public way to them; this is the one place that knows it.
    """
    by_depth = getattr(model, "_nodes_by_depth", {})
    for depth in sorted(by_depth, reverse=True):
        yield from by_depth[depth]
