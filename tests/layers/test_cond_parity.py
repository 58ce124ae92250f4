"""Conditional layers against NumPy: values and gradients, for every form and every argument of the window."""

import keras
import numpy as np
import pytest

from convzoo.layers import CondConv2D, CondDense, DepthwiseCondConv2D

BATCH, EXPERTS, HEIGHT, WIDTH, CHANNELS = 3, 4, 6, 5, 4

WINDOWS = [
    {"kernel_size": 1},
    {"kernel_size": 1, "strides": 2, "padding": "same"},
    {"kernel_size": 3},
    {"kernel_size": 3, "padding": "same", "dilation_rate": 2},
    {"kernel_size": 3, "padding": "same", "strides": 2},
    {"kernel_size": (2, 3), "strides": 2},
    {"kernel_size": (3, 2), "padding": "same", "strides": (1, 2)},
    {"kernel_size": 3, "padding": "same", "data_format": "channels_first"},
]
CASES = [
    *[(CondConv2D, {"filters": 6, **window}) for window in WINDOWS],
    (CondConv2D, {"filters": 6, "kernel_size": 1, "groups": 2, "strides": 2}),
    (CondConv2D, {"filters": 6, "kernel_size": 3, "groups": 2, "padding": "same"}),
    # Fewer outputs than inputs: "experts" works on the other side.
    (CondConv2D, {"filters": 2, "kernel_size": 3, "groups": 2}),
    (CondConv2D, {"filters": 3, "kernel_size": 1, "use_bias": False}),
    *[(DepthwiseCondConv2D, window) for window in WINDOWS],
    (DepthwiseCondConv2D, {"kernel_size": 3, "strides": 2, "padding": "same", "depth_multiplier": 2}),
    (DepthwiseCondConv2D, {"kernel_size": 3, "depth_multiplier": 3, "use_bias": False, "dilation_rate": (1, 2)}),
    # Windows whose kernel gradient is a convolution of its own, in every alignment of stride and window.
    (DepthwiseCondConv2D, {"kernel_size": 5, "padding": "same", "depth_multiplier": 2}),
    (DepthwiseCondConv2D, {"kernel_size": 5, "padding": "same", "strides": 2}),
    (DepthwiseCondConv2D, {"kernel_size": (4, 5), "strides": 2}),
    (DepthwiseCondConv2D, {"kernel_size": (5, 1), "padding": "same", "strides": 3}),
    (CondDense, {"units": 5}),
    (CondDense, {"units": 5, "use_bias": False}),
]


def applicable():
    params = []
    for cls, arguments in CASES:
        for form in cls.FORMS:
            try:
                cls(num_experts=EXPERTS, form=form, **arguments)
            except ValueError:
                continue
            label = ",".join(f"{k}={v}" for k, v in arguments.items())
            params.append(pytest.param(cls, arguments, form, id=f"{cls.__name__}-{label}-{form}".replace(" ", "")))
    return params


def example(cls, arguments, form):
    rng = np.random.default_rng(0)
    shape = (BATCH, HEIGHT, WIDTH, CHANNELS)
    if arguments.get("data_format") == "channels_first":
        shape = (BATCH, CHANNELS, HEIGHT, WIDTH)
    if cls is CondDense:
        shape = (BATCH, CHANNELS)
    layer = cls(num_experts=EXPERTS, form=form, bias_initializer=keras.initializers.RandomNormal(seed=2), **arguments)
    layer.build(shape, (BATCH, EXPERTS))
    inputs = rng.normal(size=shape).astype("float32")
    routing = rng.uniform(size=(BATCH, EXPERTS)).astype("float32")
    return layer, inputs, routing


@pytest.mark.parametrize(("cls", "arguments", "form"), applicable())
def test_value_and_gradients(cls, arguments, form, reference):
    layer, inputs, routing = example(cls, arguments, form)
    expected = reference.value(layer, inputs, routing)
    rng = np.random.default_rng(1)
    cotangent = rng.normal(size=expected.shape).astype("float32")
    outputs, grads = reference.value_and_gradients(layer, inputs, routing, cotangent)
    assert outputs.shape == layer.compute_output_shape(inputs.shape, routing.shape)
    np.testing.assert_allclose(outputs, expected, atol=1e-5)

    # The output is linear in each argument alone, so a gradient times any direction is the loss of that direction.
    def along(name, direction, value):
        product = np.sum(grads[name].astype("float64") * direction)
        assert product == pytest.approx(np.sum(value * cotangent), abs=1e-4, rel=1e-5), name

    direction = rng.normal(size=routing.shape)
    along("routing", direction, reference.value(layer, inputs, direction))
    weights = [w.numpy() if hasattr(w, "numpy") else np.asarray(w) for w in layer.weights]
    kernel = layer.weights[0]
    direction = rng.normal(size=kernel.shape).astype("float32")
    kernel.assign(direction)
    if layer.use_bias:
        layer.bias.assign(np.zeros(layer.bias.shape))
    along(kernel.name, direction, reference.value(layer, inputs, routing))
    kernel.assign(weights[0])
    direction = rng.normal(size=inputs.shape)
    along("inputs", direction, reference.value(layer, direction, routing))
    if layer.use_bias:
        direction = rng.normal(size=layer.bias.shape).astype("float32")
        layer.bias.assign(direction)
        along("bias", direction, reference.value(layer, np.zeros_like(inputs), routing))
    assert len(grads) == 2 + len(weights)


@pytest.mark.parametrize("arguments", [{"filters": 6, "kernel_size": 1}, {"filters": 6, "kernel_size": 3}], ids=str)
def test_expert_sum_of_the_tpu_target(arguments, reference, target):
    target("tpu")
    layer, inputs, routing = example(CondConv2D, arguments, "auto")
    cotangent = np.random.default_rng(1).normal(size=layer.compute_output_shape(inputs.shape)).astype("float32")
    outputs, tpu = reference.value_and_gradients(layer, inputs, routing, cotangent)
    np.testing.assert_allclose(outputs, reference.value(layer, inputs, routing), atol=1e-5)
    target("cpu")
    _, cpu = reference.value_and_gradients(layer, inputs, routing, cotangent)
    for name in cpu:
        np.testing.assert_allclose(tpu[name], cpu[name], atol=2e-5, err_msg=name)


@pytest.mark.parametrize("form", CondDense.FORMS)
def test_dense_over_positions(form, reference):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(BATCH, 2, 3, CHANNELS)).astype("float32")
    routing = rng.uniform(size=(BATCH, EXPERTS)).astype("float32")
    layer = CondDense(5, EXPERTS, form=form, bias_initializer="ones")
    np.testing.assert_allclose(layer(inputs, routing), reference.value(layer, inputs, routing), atol=1e-5)


@pytest.mark.parametrize("form", ["auto", *CondConv2D.FORMS[1:]])
@pytest.mark.parametrize("batch", [1, 7])
def test_other_batches_with_the_same_weights(form, batch, reference):
    layer, inputs, routing = example(CondConv2D, {"filters": 3, "kernel_size": 3}, form)
    inputs, routing = np.resize(inputs, (batch, *inputs.shape[1:])), np.resize(routing, (batch, EXPERTS))
    np.testing.assert_allclose(layer(inputs, routing), reference.value(layer, inputs, routing), atol=1e-5)


@pytest.mark.parametrize(
    ("conditional", "plain", "arguments", "shape"),
    [
        (CondConv2D, keras.layers.Conv2D, {"filters": 6, "kernel_size": 3, "strides": 2, "padding": "same"}, (7, 6, 4)),
        (CondConv2D, keras.layers.Conv2D, {"filters": 6, "kernel_size": 1, "activation": "relu"}, (7, 6, 4)),
        (DepthwiseCondConv2D, keras.layers.DepthwiseConv2D, {"kernel_size": 3, "depth_multiplier": 2}, (7, 6, 4)),
        (CondDense, keras.layers.Dense, {"units": 5, "activation": "tanh"}, (4,)),
    ],
)
def test_one_expert_of_weight_one_is_the_layer_of_keras(conditional, plain, arguments, shape):
    inputs = np.random.default_rng(0).normal(size=(3, *shape)).astype("float32")
    theirs = plain(bias_initializer="random_normal", **arguments)
    expected = theirs(inputs)
    for form in ("auto", *conditional.FORMS):
        try:
            layer = conditional(num_experts=1, form=form, **arguments)
        except ValueError:
            continue
        layer.build(inputs.shape)
        layer.set_weights([w[None] for w in theirs.get_weights()])
        np.testing.assert_allclose(layer(inputs, np.ones((3, 1), "float32")), expected, atol=1e-5, err_msg=form)


def test_every_form_is_compared_somewhere():
    compared = {(param.values[0], param.values[2]) for param in applicable()}
    assert compared >= {(cls, form) for cls in (CondConv2D, DepthwiseCondConv2D, CondDense) for form in cls.FORMS}
