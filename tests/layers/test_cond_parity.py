"""Values and gradients of the conditional layers, compared with NumPy in float64, one example and window at a time."""

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
    # Fewer outputs than inputs: "experts" scales the outputs instead of the inputs.
    (CondConv2D, {"filters": 2, "kernel_size": 3, "groups": 2}),
    (CondConv2D, {"filters": 3, "kernel_size": 1, "use_bias": False}),
    *[(DepthwiseCondConv2D, window) for window in WINDOWS],
    (DepthwiseCondConv2D, {"kernel_size": 3, "strides": 2, "padding": "same", "depth_multiplier": 2}),
    (DepthwiseCondConv2D, {"kernel_size": 3, "depth_multiplier": 3, "use_bias": False, "dilation_rate": (1, 2)}),
    # Kernels whose gradient is computed by depthwise_gradients, in every alignment of stride and kernel.
    (DepthwiseCondConv2D, {"kernel_size": 5, "padding": "same", "depth_multiplier": 2}),
    (DepthwiseCondConv2D, {"kernel_size": 5, "padding": "same", "strides": 2}),
    (DepthwiseCondConv2D, {"kernel_size": (4, 5), "strides": 2}),
    (DepthwiseCondConv2D, {"kernel_size": (5, 1), "padding": "same", "strides": 3}),
    (CondDense, {"units": 5}),
    (CondDense, {"units": 5, "use_bias": False}),
]


def implementations(cls, arguments):
    """Names of the implementations that apply to these arguments."""
    for implementation in cls.IMPLEMENTATIONS:
        try:
            cls(num_experts=EXPERTS, implementation=implementation, **arguments)
        except ValueError:
            continue
        yield implementation


APPLICABLE = [(cls, arguments, name) for cls, arguments in CASES for name in implementations(cls, arguments)]


def conv2d(image, kernel, strides, padding, dilation, groups):
    """Convolution of one image [h, w, c] with a kernel [kh, kw, c / groups, filters], with TensorFlow's padding."""
    pads, sizes = [], []
    for size, k, s, d in zip(image.shape[:2], kernel.shape[:2], strides, dilation, strict=True):
        reach = (k - 1) * d + 1
        sizes.append(int(np.ceil((size if padding == "same" else size - reach + 1) / s)))
        total = max((sizes[-1] - 1) * s + reach - size, 0) if padding == "same" else 0
        pads.append((total // 2, total - total // 2))
    image = np.pad(image.astype("float64"), (*pads, (0, 0)))
    kh, kw, channels, filters = kernel.shape
    outputs = np.zeros((*sizes, filters))
    for y, x, f in np.ndindex(outputs.shape):
        top, left, group = y * strides[0], x * strides[1], f // (filters // groups)
        patch = image[top : top + (kh - 1) * dilation[0] + 1 : dilation[0]]
        patch = patch[:, left : left + (kw - 1) * dilation[1] + 1 : dilation[1]]
        outputs[y, x, f] = np.sum(patch[:, :, group * channels : (group + 1) * channels] * kernel[:, :, :, f])
    return outputs


def value(layer, inputs, routing):
    """Outputs of a conditional layer without activation."""

    def mix(weight):
        return np.tensordot(routing.astype("float64"), keras.ops.convert_to_numpy(weight).astype("float64"), axes=1)

    kernels = mix(layer.kernel)
    biases = mix(layer.bias) if layer.use_bias else np.zeros(len(inputs))
    if isinstance(layer, CondDense):
        return np.stack([x @ k + b for x, k, b in zip(inputs, kernels, biases, strict=True)])
    channels_first = layer.data_format == "channels_first"
    inputs = np.transpose(inputs, (0, 2, 3, 1)) if channels_first else inputs
    groups = getattr(layer, "groups", None)
    if isinstance(layer, DepthwiseCondConv2D):
        groups, kernels = kernels.shape[3], kernels.reshape(*kernels.shape[:3], 1, -1)
    geometry = (layer.strides, layer.padding, layer.dilation_rate, groups)
    outputs = np.stack([conv2d(x, k, *geometry) + b for x, k, b in zip(inputs, kernels, biases, strict=True)])
    return np.transpose(outputs, (0, 3, 1, 2)) if channels_first else outputs


def make_example(cls, arguments, implementation):
    """A built layer, its inputs and routing weights."""
    rng = np.random.default_rng(0)
    shape = (BATCH, HEIGHT, WIDTH, CHANNELS)
    if arguments.get("data_format") == "channels_first":
        shape = (BATCH, CHANNELS, HEIGHT, WIDTH)
    if cls is CondDense:
        shape = (BATCH, CHANNELS)
    bias_initializer = keras.initializers.RandomNormal(seed=2)
    layer = cls(
        num_experts=EXPERTS, implementation=implementation, bias_initializer=bias_initializer, name="layer", **arguments
    )
    layer.build(shape, (BATCH, EXPERTS))
    inputs = rng.normal(size=shape).astype("float32")
    return layer, inputs, rng.uniform(size=(BATCH, EXPERTS)).astype("float32")


def value_and_gradients(layer, inputs, routing, cotangent, model_gradients):
    """Outputs, and the gradients by name: "inputs", "routing", "kernel" and "bias"."""
    symbols = [keras.Input(x.shape[1:]) for x in (inputs, routing)]
    outputs, gradients = model_gradients(keras.Model(symbols, layer(*symbols)), [inputs, routing], cotangent)
    d_inputs, d_routing = gradients.pop("inputs")
    weights = {path.split("_")[-1].split("/")[-1]: gradient for path, gradient in gradients.items()}
    return outputs, {"inputs": d_inputs, "routing": d_routing, **weights}


@pytest.mark.needs_xla_cpu
@pytest.mark.parametrize(
    ("cls", "arguments", "implementation"),
    APPLICABLE,
    ids=[
        f"{cls.__name__}-{','.join(f'{k}={v}' for k, v in arguments.items())}-{name}".replace(" ", "")
        for cls, arguments, name in APPLICABLE
    ],
)
def test_value_and_gradients(cls, arguments, implementation, model_gradients):
    layer, inputs, routing = make_example(cls, arguments, implementation)
    expected = value(layer, inputs, routing)
    rng = np.random.default_rng(1)
    cotangent = rng.normal(size=expected.shape).astype("float32")
    outputs, gradients = value_and_gradients(layer, inputs, routing, cotangent, model_gradients)
    assert outputs.shape == layer.compute_output_shape(inputs.shape, routing.shape)
    np.testing.assert_allclose(outputs, expected, atol=1e-5)

    # The outputs are linear in each argument alone. So the product of a gradient and any direction is the loss of the
    # outputs with the direction in place of the argument.
    def assert_gradient(name, direction, outputs):
        product = np.sum(gradients[name].astype("float64") * direction)
        assert product == pytest.approx(np.sum(outputs * cotangent), abs=1e-4, rel=1e-5), name

    direction = rng.normal(size=routing.shape)
    assert_gradient("routing", direction, value(layer, inputs, direction))
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    direction = rng.normal(size=kernel.shape).astype("float32")
    layer.kernel.assign(direction)
    if layer.use_bias:
        layer.bias.assign(np.zeros(layer.bias.shape))
    assert_gradient("kernel", direction, value(layer, inputs, routing))
    layer.kernel.assign(kernel)
    direction = rng.normal(size=inputs.shape)
    assert_gradient("inputs", direction, value(layer, direction, routing))
    if layer.use_bias:
        direction = rng.normal(size=layer.bias.shape).astype("float32")
        layer.bias.assign(direction)
        assert_gradient("bias", direction, value(layer, np.zeros_like(inputs), routing))
    assert len(gradients) == 3 + layer.use_bias


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_sum_over_experts_for_the_tpu_target(kernel_size, target, model_gradients):
    layer, inputs, routing = make_example(CondConv2D, {"filters": 6, "kernel_size": kernel_size}, "auto")
    expected = value(layer, inputs, routing)
    cotangent = np.random.default_rng(1).normal(size=expected.shape).astype("float32")
    gradients = {}
    for name in ("tpu", "cpu"):
        target(name)
        outputs, gradients[name] = value_and_gradients(layer, inputs, routing, cotangent, model_gradients)
        np.testing.assert_allclose(outputs, expected, atol=1e-5)
    for name, gradient in gradients["cpu"].items():
        np.testing.assert_allclose(gradients["tpu"][name], gradient, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("implementation", CondDense.IMPLEMENTATIONS)
def test_dense_over_positions(implementation):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(BATCH, 2, 3, CHANNELS)).astype("float32")
    routing = rng.uniform(size=(BATCH, EXPERTS)).astype("float32")
    layer = CondDense(5, EXPERTS, implementation=implementation, bias_initializer="ones")
    np.testing.assert_allclose(layer(inputs, routing), value(layer, inputs, routing), atol=1e-5)


@pytest.mark.parametrize("implementation", ["auto", "patches", "map", "experts"])
@pytest.mark.parametrize("batch", [1, 7])
def test_other_batch_sizes_with_the_same_weights(implementation, batch):
    layer, inputs, routing = make_example(CondConv2D, {"filters": 3, "kernel_size": 3}, implementation)
    inputs, routing = np.resize(inputs, (batch, *inputs.shape[1:])), np.resize(routing, (batch, EXPERTS))
    np.testing.assert_allclose(layer(inputs, routing), value(layer, inputs, routing), atol=1e-5)


@pytest.mark.parametrize(
    ("conditional", "static", "arguments", "shape"),
    [
        (CondConv2D, keras.layers.Conv2D, {"filters": 6, "kernel_size": 3, "strides": 2, "padding": "same"}, (7, 6, 4)),
        (CondConv2D, keras.layers.Conv2D, {"filters": 6, "kernel_size": 1, "activation": "relu"}, (7, 6, 4)),
        (DepthwiseCondConv2D, keras.layers.DepthwiseConv2D, {"kernel_size": 3, "depth_multiplier": 2}, (7, 6, 4)),
        (CondDense, keras.layers.Dense, {"units": 5, "activation": "tanh"}, (4,)),
    ],
)
def test_one_expert_of_weight_one_equals_the_keras_layer(conditional, static, arguments, shape):
    inputs = np.random.default_rng(0).normal(size=(3, *shape)).astype("float32")
    keras_layer = static(bias_initializer="random_normal", **arguments)
    expected = keras_layer(inputs)
    for implementation in ("auto", *implementations(conditional, arguments)):
        layer = conditional(num_experts=1, implementation=implementation, **arguments)
        layer.build(inputs.shape, (3, 1))
        layer.set_weights([w[None] for w in keras_layer.get_weights()])
        outputs = layer(inputs, np.ones((3, 1), "float32"))
        np.testing.assert_allclose(outputs, expected, atol=1e-5, err_msg=implementation)


def test_every_implementation_is_compared():
    compared = {(cls, name) for cls, _, name in APPLICABLE}
    assert compared == {(cls, name) for cls, _ in CASES for name in cls.IMPLEMENTATIONS}
