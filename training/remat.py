"""Rematerialization (arXiv 1604.06174): the backward pass computes blocks of the network a second time."""

import itertools
import re
from collections.abc import Callable

import keras
import tensorflow as tf

from convzoo.errors import ConfigError
from convzoo.layers import get_target
from convzoo.layers.barrier import joint_barrier
from convzoo.training.keras_internals import graph_nodes, set_layer_call

_BLOCK = re.compile(r"block\d+_")  # beginning of the names of a block's layers


def rematerialize(model: keras.Model) -> None:
    """Makes training calls of `model` keep the inputs and outputs of its blocks, and nothing within them.

    The backward pass computes each block again from its inputs, with the same random numbers. Gradients are those of
    the ordinary network, and BatchNorm statistics and random states are updated once. Call it before the model is used;
    it may contain layers whose call has been replaced.

    Args:
        model: The functional model to train. A block is the layers whose names begin with the same "blockN_".

    Raises:
        ConfigError: The model has no blocks.
    """
    call, segments = model.call, _segments(model)
    if not any(is_block for *_, is_block in segments):
        raise ConfigError(f"config.remat=True: {model.name} has no blocks; use False")
    input_keys = [id(tensor) for tensor in model.inputs]
    output_keys, structure = [id(tensor) for tensor in model.outputs], model.output

    def remat_call(inputs, training=None, mask=None):
        if not training:
            return call(inputs, training=training, mask=mask)
        values = dict(zip(input_keys, keras.tree.flatten(inputs), strict=True))
        for segment, arguments, results, is_block in segments:
            tensors = [values[key] for key in arguments]
            outputs = _recomputed(segment, tensors) if is_block else segment.call(tensors, training=True)
            values |= zip(results, keras.tree.flatten(outputs), strict=True)
        return keras.tree.pack_sequence_as(structure, [values[key] for key in output_keys])

    set_layer_call(model, remat_call)


def _segments(model: keras.Model) -> list[tuple[keras.Model, list[int], list[int], bool]]:
    """Divides a model into its blocks and what is between them.

    Returns:
        For each part in the order of computation: a model with lists of inputs and outputs that shares the layers, the
        identities of the tensors in `model` that these are, and whether it is a block.
    """

    def block_of(node):
        match = _BLOCK.match(node[0])
        return match and match[0]

    parts = [(block, list(nodes)) for block, nodes in itertools.groupby(graph_nodes(model), block_of)]
    segments, needed = [], {id(tensor) for tensor in model.outputs}
    for block, nodes in reversed(parts):  # from the outputs, to know which tensors a later part needs
        made = {id(tensor): tensor for _, _, outputs in nodes for tensor in outputs}
        read = {id(tensor): tensor for _, inputs, _ in nodes for tensor in inputs if id(tensor) not in made}
        results = [key for key in made if key in needed]
        needed.update(read)
        segments.append((read, {key: made[key] for key in results}, block is not None))
    return [
        (keras.Model(list(read.values()), list(results.values())), list(read), list(results), is_block)
        for read, results, is_block in reversed(segments)
    ]


def _recomputed(segment: keras.Model, tensors: list[tf.Tensor]) -> list[tf.Tensor]:
    """Returns the outputs of a training call of `segment`, whose backward pass computes it again."""
    # Weights are arguments, and state such as BatchNorm statistics a value: the second computation changes nothing.
    weights = [tf.convert_to_tensor(variable.value) for variable in segment.trainable_variables]
    state = [tf.convert_to_tensor(variable.value) for variable in segment.non_trainable_variables]
    updated = []

    def run(*arguments):
        inputs, trainable = list(arguments[: len(tensors)]), list(arguments[len(tensors) :])
        outputs, new_state = segment.stateless_call(trainable, state, inputs, training=True)
        updated.append(new_state)
        return tuple(keras.tree.flatten(outputs))

    recompute = _recompute_for_tpu if get_target() == "tpu" else tf.recompute_grad
    outputs = recompute(run)(*tensors, *weights)
    for variable, old, new in zip(segment.non_trainable_variables, state, updated[0], strict=True):
        if new is not old:
            variable.assign(new)
    return outputs


def _recompute_for_tpu(function: Callable) -> Callable:
    """Does what tf.recompute_grad does, which XLA undoes: it merges the second computation with the first."""

    @tf.custom_gradient
    def compute(*arguments):
        def gradient(*upstream):
            after_upstream = joint_barrier([*arguments, *upstream])
            inputs, upstream = after_upstream[: len(arguments)], after_upstream[len(arguments) :]
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                outputs = function(*inputs)
            return tape.gradient(outputs, inputs, upstream, tf.UnconnectedGradients.ZERO)

        return function(*arguments), gradient

    return compute
