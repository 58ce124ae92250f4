"""Conditional layers computed the slow way: NumPy, float64, one example and one window at a time."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

from convzoo.layers import CondDense, DepthwiseCondConv2D, set_target


def conv2d(image, kernel, strides=(1, 1), padding="valid", dilation=(1, 1), groups=1):
    """Convolution of one image [h, w, c] with a kernel [kh, kw, c / groups, filters], TensorFlow's padding."""
    image, out = _pad(image, kernel.shape[:2], strides, padding, dilation)
    kh, kw, cin, filters = kernel.shape
    result = np.zeros((*out, filters))
    for y in range(out[0]):
        for x in range(out[1]):
            top, left = y * strides[0], x * strides[1]
            patch = image[top : top + (kh - 1) * dilation[0] + 1 : dilation[0]]
            patch = patch[:, left : left + (kw - 1) * dilation[1] + 1 : dilation[1]]
            for f in range(filters):
                group = f // (filters // groups)
                result[y, x, f] = np.sum(patch[:, :, group * cin : (group + 1) * cin] * kernel[:, :, :, f])
    return result


def depthwise_conv2d(image, kernel, strides=(1, 1), padding="valid", dilation=(1, 1)):
    """Depthwise convolution of one image [h, w, c] with a kernel [kh, kw, c, multiplier]."""
    kh, kw, channels, multiplier = kernel.shape
    kernel = kernel.reshape(kh, kw, 1, channels * multiplier)
    return conv2d(image, kernel, strides, padding, dilation, groups=channels)


def mixed(routing, weight):
    """The weights of each example: sum over experts e of routing[b, e] * weight[e]."""
    return [sum(a * w for a, w in zip(row, weight.astype("float64"), strict=True)) for row in routing.astype("float64")]


def _pad(image, kernel, strides, padding, dilation):
    before_after, out = [], []
    for size, k, s, d in zip(image.shape[:2], kernel, strides, dilation, strict=True):
        reach = (k - 1) * d + 1
        if padding == "same":
            n = int(np.ceil(size / s))
            total = max((n - 1) * s + reach - size, 0)
        else:
            n, total = int(np.ceil((size - reach + 1) / s)), 0
        before_after.append((total // 2, total - total // 2))
        out.append(n)
    return np.pad(image.astype("float64"), (*before_after, (0, 0))), out


def value(layer, inputs, routing):
    """The output of a conditional layer without activation, from its weights, by the functions above."""
    kernel = np.asarray(layer.weights[0])
    biases = mixed(routing, np.asarray(layer.bias)) if layer.use_bias else np.zeros(len(inputs))
    kernels = mixed(routing, kernel)
    if isinstance(layer, CondDense):
        return np.stack([x @ k + b for x, k, b in zip(inputs, kernels, biases, strict=True)])
    if layer.data_format == "channels_first":
        inputs = np.transpose(inputs, (0, 2, 3, 1))
    window = (layer.strides, layer.padding, layer.dilation_rate)
    if isinstance(layer, DepthwiseCondConv2D):
        outputs = [depthwise_conv2d(x, k, *window) + b for x, k, b in zip(inputs, kernels, biases, strict=True)]
    else:
        outputs = [conv2d(x, k, *window, layer.groups) + b for x, k, b in zip(inputs, kernels, biases, strict=True)]
    return np.transpose(outputs, (0, 3, 1, 2)) if layer.data_format == "channels_first" else np.stack(outputs)


def value_and_gradients(layer, inputs, routing, cotangent):
    """layer(inputs, routing), and by name the gradients of its sum weighted by `cotangent`."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # Unknown batch: the gradients must not need it either.
        @tf.function(input_signature=[tf.TensorSpec((None, *t.shape[1:])) for t in (inputs, routing)])
        def run(x, a):
            with tf.GradientTape() as tape:
                tape.watch((x, a))
                outputs = layer(x, a)
                loss = tf.reduce_sum(outputs * cotangent)
            return outputs, tape.gradient(loss, [x, a, *[w.value for w in layer.trainable_variables]])

        outputs, grads = run(tf.constant(inputs), tf.constant(routing))
    else:
        import jax

        def loss(x, a, weights):
            outputs = layer.stateless_call(weights, [], x, a)[0]
            return (outputs * cotangent).sum(), outputs

        weights = [w.value for w in layer.trainable_variables]
        gradients = jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True))
        (d_inputs, d_routing, d_weights), outputs = gradients(inputs, routing, weights)
        grads = [d_inputs, d_routing, *d_weights]
    names = ["inputs", "routing", *[w.name for w in layer.trainable_variables]]
    return np.asarray(outputs), {name: np.asarray(grad) for name, grad in zip(names, grads, strict=True)}


def model_gradients(model, inputs, cotangent):
    """model(inputs), and the gradients of its sum weighted by `cotangent`: "inputs", and those of weights by path."""
    weights = model.trainable_variables
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        @tf.function(input_signature=[tf.TensorSpec((None, *inputs.shape[1:]))])
        def run(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                outputs = model(x, training=True)
                loss = tf.reduce_sum(outputs * cotangent)
            return outputs, tape.gradient(loss, [x, *[w.value for w in weights]])

        outputs, grads = run(tf.constant(inputs))
    else:
        import jax

        def loss(x, values):
            outputs = model.stateless_call(values, [], x, training=True)[0]
            return (outputs * cotangent).sum(), outputs

        (d_inputs, d_weights), outputs = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(
            inputs, [w.value for w in weights]
        )
        grads = [d_inputs, *d_weights]
    names = ["inputs", *[w.path for w in weights]]
    return np.asarray(outputs), {name: np.asarray(grad) for name, grad in zip(names, grads, strict=True)}


@pytest.fixture(name="model_gradients", scope="session")
def _model_gradients():
    return model_gradients


@pytest.fixture(scope="session")
def reference():
    """The functions of this file; a fixture, because tests are no package to import from."""
    return SimpleNamespace(value=value, value_and_gradients=value_and_gradients)


@pytest.fixture
def target():
    """`set_target`, undone after the test."""
    yield set_target
    set_target("cpu")
