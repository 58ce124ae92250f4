"""The checks that every layer passes, in the style of Keras's own `run_layer_test`, under TensorFlow and JAX."""

import collections
import inspect
import os
import tempfile

import keras
import numpy as np
from keras import ops

LayerResults = collections.namedtuple("LayerResults", "layer outputs gradients cotangents")


def run_layer_test(
    make_layer,
    *inputs,
    output_shape,
    output_dtype="float32",
    mixed_output_dtype="bfloat16",
    implementations=(None,),
    unknown_sizes=True,
    tolerance=1e-5,
):
    """Checks a layer built with one set of arguments.

    - Shape and dtype of the outputs, eager and symbolic, with known and unknown batch, height and width.
    - get_config and from_config; saving a model and loading it, with equal outputs.
    - A nonzero gradient for every trainable weight.
    - Equal outputs and gradients for all implementations and for both data formats.
    - Under mixed_bfloat16: float32 weights, and the outputs of float32 up to rounding.

    Args:
        make_layer: Function that returns the layer. Accepts `dtype`, and `implementation` and `data_format` if the
            layer has them. Example: `functools.partial(LeanConv2D, 8, stencil="9-point")`.
        *inputs: Call arguments of the layer, float32 arrays. Arrays of rank 4 are channels-last.
        output_shape: Shape of the outputs, channels-last; a list of shapes if the layer has several outputs.
        output_dtype, mixed_output_dtype: Dtypes of the outputs under float32 and under mixed_bfloat16.
        implementations: All implementations that apply to these arguments; None is the layer's default.
        unknown_sizes: False if the layer needs to know the height and width of its inputs.
        tolerance: Largest difference allowed, relative to the largest absolute value of each array.

    Returns:
        LayerResults(layer, outputs, gradients, cotangents): the layer of the first implementation with random weights,
        its outputs, the gradients of sum(outputs * cotangents) (inputs, then trainable weights), and these cotangents.
    """
    rng = np.random.default_rng(0)
    shapes = output_shape if isinstance(output_shape, list) else [output_shape]
    cotangents = [rng.normal(size=shape).astype("float32") for shape in shapes]

    def make(implementation, weights=None, inputs=inputs, **arguments):
        layer = make_layer(**arguments, **({"implementation": implementation} if implementation else {}))
        layer(*inputs)  # builds the layer
        layer.set_weights([rng.normal(size=w.shape) for w in layer.weights] if weights is None else weights)
        return layer

    layer = make(implementations[0])
    weights = layer.get_weights()
    outputs = keras.tree.flatten(layer(*inputs))
    assert _dtypes(outputs) == {output_dtype}
    assert [tuple(y.shape) for y in outputs] == shapes
    assert layer.compute_output_shape(*(x.shape for x in inputs)) == output_shape
    _check_config(layer)
    for unknown in (False, True)[: 1 + unknown_sizes]:
        _check_model(layer, inputs, outputs, unknown, tolerance)
    outputs, gradients = _outputs_and_gradients(layer, inputs, cotangents, unknown_sizes)
    for weight, gradient in zip(layer.trainable_weights, gradients[len(inputs) :], strict=True):
        assert np.any(gradient), f"gradient of {weight.path} is zero"

    for implementation in implementations:
        other = make(implementation, weights)
        results = _outputs_and_gradients(other, inputs, cotangents, unknown_sizes)
        _assert_close(results, (outputs, gradients), tolerance, implementation)
        if "data_format" in layer.get_config():
            moved = [_channels_first(x) for x in inputs]
            other = make(implementation, weights, moved, data_format="channels_first")
            results = _outputs_and_gradients(other, moved, _channels_first(cotangents), unknown_sizes)
            expected = gradients[: len(inputs)]
            expected = _channels_first(outputs), _channels_first(expected) + gradients[len(inputs) :]
            _assert_close(results, expected, tolerance, f"{implementation}, channels_first")
        mixed = make(implementation, weights, dtype="mixed_bfloat16")
        results = keras.tree.flatten(mixed(*inputs))
        assert _dtypes(mixed.weights) <= {"float32"}
        assert _dtypes(results) == {mixed_output_dtype}
        _assert_close(results, outputs, 0.03, f"{implementation}, mixed_bfloat16")
    return LayerResults(layer, outputs, gradients, cotangents)


def _check_config(layer):
    """Checks that the config holds every argument of the constructor and survives a round trip."""
    config = layer.get_config()
    parameters = inspect.signature(type(layer).__init__).parameters.values()
    assert {p.name for p in parameters if p.name != "self" and p.kind == p.POSITIONAL_OR_KEYWORD} <= set(config)
    assert type(layer).from_config(config).get_config() == config
    assert keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer)).get_config() == config


def _check_model(layer, inputs, outputs, unknown, tolerance):
    """Checks a model of the layer: symbolic shapes and dtypes, outputs, and outputs after saving and loading."""
    first = layer.get_config().get("data_format") == "channels_first"
    symbols = [keras.Input(_known(x.shape, first, unknown)[1:]) for x in inputs]
    model = keras.Model(symbols, layer(*symbols))
    for symbol, y in zip(model.outputs, outputs, strict=True):
        assert tuple(symbol.shape) == tuple(_known(y.shape, first, unknown))
        assert symbol.dtype == keras.backend.standardize_dtype(y.dtype)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.keras")
        model.save(path)
        loaded = keras.models.load_model(path)
    for name, network in (("symbolic", model), ("loaded", loaded)):
        _assert_close(keras.tree.flatten(network.predict(inputs, verbose=0)), outputs, tolerance, name)


def _outputs_and_gradients(layer, inputs, cotangents, unknown_sizes):
    """(outputs, gradients) of a compiled training step whose loss is the sum of outputs * cotangents."""

    training = {"training": True} if "training" in inspect.signature(layer.call).parameters else {}

    def loss_of(outputs):
        return sum(ops.sum(ops.cast(y, "float32") * c) for y, c in zip(outputs, cotangents, strict=True))

    if keras.backend.backend() == "jax":
        import jax

        def loss(inputs, weights):
            outputs, _ = layer.stateless_call(weights, [], *inputs, **training)
            return loss_of(keras.tree.flatten(outputs)), keras.tree.flatten(outputs)

        weights = [w.value for w in layer.trainable_weights]
        gradients, outputs = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(list(inputs), weights)
        gradients = [*gradients[0], *gradients[1]]
    else:
        import tensorflow as tf

        first = layer.get_config().get("data_format") == "channels_first"

        @tf.function(input_signature=[tf.TensorSpec(_known(x.shape, first, unknown_sizes)) for x in inputs])
        def step(*inputs):
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                outputs = keras.tree.flatten(layer(*inputs, **training))
                loss = loss_of(outputs)
            sources = [*inputs, *(w.value for w in layer.trainable_weights)]
            return outputs, tape.gradient(loss, sources, unconnected_gradients="zero")

        outputs, gradients = step(*map(tf.constant, inputs))
    return [ops.convert_to_numpy(y) for y in outputs], [ops.convert_to_numpy(g) for g in gradients]


def _known(shape, channels_first, unknown_sizes):
    """`shape` with an unknown batch and, if `unknown_sizes`, unknown height and width of images."""
    if len(shape) != 4 or not unknown_sizes:
        return (None, *shape[1:])
    return (None, shape[1], None, None) if channels_first else (None, None, None, shape[3])


def _channels_first(value):
    if isinstance(value, list):
        return [_channels_first(x) for x in value]
    return np.moveaxis(value, -1, 1) if value.ndim > 2 else value


def _dtypes(values):
    return {keras.backend.standardize_dtype(x.dtype) for x in values}


def _assert_close(results, expected, tolerance, name):
    results, expected = keras.tree.flatten(results), keras.tree.flatten(expected)
    for i, (result, right) in enumerate(zip(results, expected, strict=True)):
        result, right = (ops.convert_to_numpy(ops.cast(x, "float32")) for x in (result, right))
        np.testing.assert_allclose(result, right, rtol=0, atol=tolerance * abs(right).max(), err_msg=f"{name} [{i}]")
