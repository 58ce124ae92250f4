"""Conditional layers as Keras layers: serialization, expert weights, precision, implementations and errors."""

import functools

import keras
import numpy as np
import pytest
from helpers.run_layer_test import run_layer_test

from convzoo.layers import CondConv2D, CondDense, DepthwiseCondConv2D, ExpertRouting, get_target, set_target

EXPERTS = 3
SAME = {"strides": 2, "padding": "same"}
# (class, arguments, applicable implementations, output shape for images())
LAYERS = [
    (CondConv2D, {"filters": 6, "kernel_size": 1, "strides": 2}, ("matmul", "map", "experts"), (4, 3, 3, 6)),
    (CondConv2D, {"filters": 6, "kernel_size": 3, **SAME}, ("patches", "map", "experts"), (4, 3, 3, 6)),
    (CondConv2D, {"filters": 6, "kernel_size": 3, "groups": 2}, ("patches", "experts"), (4, 4, 3, 6)),
    (
        CondConv2D,
        {"filters": 2, "kernel_size": (3, 2), "dilation_rate": 2},
        ("patches", "map", "experts"),
        (4, 2, 3, 2),
    ),
    (DepthwiseCondConv2D, {"kernel_size": 3, **SAME}, ("map", "taps", "group"), (4, 3, 3, 4)),
    (DepthwiseCondConv2D, {"kernel_size": 3, "depth_multiplier": 2, "dilation_rate": 2}, ("map", "taps"), (4, 2, 1, 8)),
    (DepthwiseCondConv2D, {"kernel_size": 5, "strides": (1, 2), "padding": "same"}, ("taps",), (4, 6, 3, 4)),
    (CondDense, {"units": 5}, ("experts", "matmul"), (4, 5)),
]
IDS = [f"{cls.__name__}-{arguments}".replace(" ", "") for cls, arguments, *_ in LAYERS]


def images(batch=4, channels=4):
    return np.random.default_rng(0).normal(size=(batch, 6, 5, channels)).astype("float32")


def vectors():
    return images()[:, 0, 0]


def routing(batch=4):
    return np.random.default_rng(1).uniform(size=(batch, EXPERTS)).astype("float32")


def _built_for_routing():
    layer = CondConv2D(6, 3, EXPERTS)
    layer(images(), routing())
    return layer


def inputs_of(cls):
    return vectors() if cls is CondDense else images()


def to_numpy(x):
    return keras.ops.convert_to_numpy(x)


@pytest.mark.needs_xla_cpu
@pytest.mark.parametrize(("cls", "arguments", "implementations", "output_shape"), LAYERS, ids=IDS)
def test_shapes_precision_saving_and_implementations(cls, arguments, implementations, output_shape):
    make_layer = functools.partial(cls, num_experts=EXPERTS, activation="relu", **arguments)
    inputs = inputs_of(cls), routing()
    run_layer_test(make_layer, *inputs, output_shape=output_shape, implementations=implementations)


@pytest.mark.parametrize("inputs", [vectors(), images()[:, 0], images()], ids=lambda x: f"rank{x.ndim}")
def test_routing_shapes_precision_and_saving(inputs):
    make_layer = functools.partial(ExpertRouting, EXPERTS)
    run_layer_test(make_layer, inputs, output_shape=(4, EXPERTS), mixed_output_dtype="float32")


# Saving


def model_of_all_layers():
    inputs = keras.Input((6, 5, 4))
    a = ExpertRouting(EXPERTS)(inputs)
    x = CondConv2D(6, 1, EXPERTS, activation="relu", kernel_regularizer="l2")(inputs, a)
    x = DepthwiseCondConv2D(3, EXPERTS, padding="same", depthwise_constraint="max_norm", name="depthwise")(x, a)
    x = CondConv2D(4, 3, EXPERTS, groups=2, implementation="patches")(x, a)
    x = CondDense(5, EXPERTS)(keras.layers.GlobalAveragePooling2D()(x), a)
    return keras.Model(inputs, x)


def test_weight_paths():
    model = model_of_all_layers()
    names = [w.path.split("/")[-1] for w in model.weights]
    assert names == ["kernel", "bias", "kernel", "bias", "depthwise_kernel", "bias", *["kernel", "bias"] * 2]
    assert all(w.shape[0] == EXPERTS for w in model.weights[2:])


def test_model_file_round_trip(tmp_path):
    model = model_of_all_layers()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(images(), verbose=0), model.predict(images(), verbose=0), atol=1e-6)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="SavedModel requires TensorFlow")
def test_saved_model_takes_any_batch(tmp_path):
    import tensorflow as tf

    model = model_of_all_layers()
    model.export(str(tmp_path), verbose=False)
    served = tf.saved_model.load(str(tmp_path))
    for batch in (1, 3):
        np.testing.assert_allclose(served.serve(images(batch)), model.predict(images(batch), verbose=0), atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        CondConv2D(
            6,
            (3, 2),
            EXPERTS,
            strides=(1, 2),
            padding="same",
            data_format="channels_first",
            groups=2,
            activation="swish",
            use_bias=False,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.1, seed=4),
            kernel_regularizer=keras.regularizers.L2(0.1),
            activity_regularizer="l1",
            kernel_constraint="max_norm",
            implementation="patches",
            name="c",
        ),
        CondConv2D(6, 3, EXPERTS, dilation_rate=2, bias_initializer="ones", bias_regularizer="l1", dtype="float16"),
        DepthwiseCondConv2D(3, EXPERTS, depth_multiplier=2, depthwise_initializer="he_normal", implementation="taps"),
        CondDense(5, EXPERTS, bias_constraint="non_neg", trainable=False),
        ExpertRouting(EXPERTS, activation="softmax", use_bias=False, kernel_initializer="zeros"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_config_round_trip(layer):
    config = layer.get_config()
    assert {"num_experts", "activation", "use_bias", "bias_initializer", "bias_regularizer"} <= set(config)
    assert type(layer).from_config(config).get_config() == config
    assert keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer)).get_config() == config


def test_positional_arguments_keep_their_order():
    conv = CondConv2D(6, 3, EXPERTS, 2, "same", "channels_first", 1, 2, "relu", False)
    assert (conv.strides, conv.padding, conv.data_format, conv.groups, conv.use_bias) == (
        (2, 2), "same", "channels_first", 2, False,
    )  # fmt: skip
    depthwise = DepthwiseCondConv2D(3, EXPERTS, 2, "same", 4)
    assert (depthwise.strides, depthwise.padding, depthwise.depth_multiplier) == ((2, 2), "same", 4)
    assert CondDense(5, EXPERTS, "relu", False).use_bias is False
    assert ExpertRouting(EXPERTS, "softmax", False).activation is keras.activations.softmax


# Expert weights


@pytest.mark.parametrize(
    "initializer", ["he_normal", keras.initializers.GlorotUniform(seed=3)], ids=["by_name", "seeded"]
)
def test_experts_are_independent_draws_with_the_scale_of_one_kernel(initializer):
    layer = CondConv2D(64, 3, EXPERTS, kernel_initializer=initializer)
    layer.build((None, 8, 8, 32))
    static = keras.layers.Conv2D(64, 3, kernel_initializer=initializer)
    static.build((None, 8, 8, 32))
    kernels = to_numpy(layer.kernel).reshape(EXPERTS, -1)
    assert abs(np.corrcoef(kernels) - np.eye(EXPERTS)).max() < 0.05
    np.testing.assert_allclose(kernels.std(axis=1), to_numpy(static.kernel).std(), rtol=0.05)


def test_seeds():
    def kernel(seed):
        layer = CondDense(5, EXPERTS, kernel_initializer=keras.initializers.RandomNormal(seed=seed))
        layer.build((None, 4))
        return to_numpy(layer.kernel)

    np.testing.assert_array_equal(kernel(7), kernel(7))
    assert not np.allclose(kernel(7), kernel(8))
    assert not np.allclose(kernel(None), kernel(None))
    generated = kernel(keras.random.SeedGenerator(7))
    assert not np.allclose(generated[0], generated[1])
    keras.utils.set_random_seed(1)
    first = kernel(None)
    keras.utils.set_random_seed(1)
    np.testing.assert_array_equal(kernel(None), first)


def test_initializer_function_sees_one_expert():
    shapes = []

    def ramp(shape, dtype=None):
        shapes.append(tuple(shape))
        return keras.ops.ones(shape, dtype) * len(shapes)

    layer = DepthwiseCondConv2D(3, EXPERTS, depthwise_initializer=ramp, use_bias=False)
    layer.build((None, 8, 8, 4))
    assert shapes == [(3, 3, 4, 1)] * EXPERTS
    assert layer.kernel.shape == (EXPERTS, 3, 3, 4, 1)
    np.testing.assert_array_equal(to_numpy(layer.kernel)[:, 0, 0, 0, 0], [1, 2, 3])


def test_regularizer_sees_one_expert():
    def largest_row(kernel):
        assert kernel.shape == (4, 5)
        return keras.ops.max(keras.ops.sum(kernel, axis=1))

    layer = CondDense(5, EXPERTS, kernel_regularizer=largest_row, bias_regularizer=keras.regularizers.L1(2.0))
    layer.build((None, 4))
    layer.bias.assign(np.ones(layer.bias.shape))
    losses = sorted(float(loss) for loss in layer.losses)
    expected = to_numpy(layer.kernel).sum(axis=2).max(axis=1).sum()
    np.testing.assert_allclose(losses, sorted([expected, 2.0 * EXPERTS * 5]), rtol=1e-5)


def test_constraint_sees_one_expert():
    layer = CondDense(5, EXPERTS, kernel_constraint=keras.constraints.UnitNorm(axis=0))
    layer.build((None, 4))
    constrained = to_numpy(layer.kernel.constraint(layer.kernel.value))
    np.testing.assert_allclose(np.linalg.norm(constrained, axis=1), np.ones((EXPERTS, 5)), rtol=1e-5)


def test_fit_updates_every_weight_and_applies_the_constraint():
    keras.utils.set_random_seed(0)
    model = model_of_all_layers()
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(images(), np.ones((4, 5)), verbose=0)
    for weight, old in zip(model.weights, before, strict=True):
        assert not np.array_equal(to_numpy(weight), old), weight.path
    kernel = to_numpy(model.get_layer("depthwise").kernel)
    assert np.linalg.norm(kernel, axis=1).max() <= 2.0 + 1e-5


def test_lora_starts_from_the_same_outputs():
    layer = CondConv2D(6, 3, EXPERTS)
    expected = to_numpy(layer(images(), routing()))
    layer.enable_lora(2)
    np.testing.assert_allclose(layer(images(), routing()), expected, atol=1e-6)
    assert layer.lora_kernel_a.shape == (EXPERTS, 3, 3, 4, 2)


# Precision


def test_routing_stays_float32_under_a_mixed_policy():
    inputs = keras.Input((6, 5, 4), dtype="bfloat16")
    layer = ExpertRouting(EXPERTS, dtype="mixed_bfloat16")
    assert layer(inputs).dtype == "float32"
    outputs = layer(keras.ops.cast(images(), "bfloat16"))
    assert keras.backend.standardize_dtype(outputs.dtype) == "float32"
    pooled = to_numpy(keras.ops.cast(keras.ops.cast(images(), "bfloat16"), "float32")).mean(axis=(1, 2))
    expected = 1 / (1 + np.exp(-(pooled @ to_numpy(layer.kernel))))
    np.testing.assert_allclose(outputs, expected, atol=1e-5)


def test_weights_are_mixed_in_float32_inside_a_model_of_mixed_precision():
    # 1 + 1/512 - 1 is 1/512 in float32, and 0 if the weights are rounded to bfloat16 before they are mixed.
    layer = CondDense(1, 2, use_bias=False, dtype="mixed_bfloat16", implementation="matmul")
    inputs, a = keras.Input((1,)), keras.Input((2,))
    model = keras.Model([inputs, a], layer(inputs, a))
    layer.set_weights([np.reshape([1.0 + 1 / 512, 1.0], (2, 1, 1))])
    outputs = model([np.ones((1, 1), "float32"), np.array([[1.0, -1.0]], "float32")])
    assert float(keras.ops.cast(outputs, "float32")[0, 0]) == 1 / 512


# Routing


@pytest.mark.parametrize(
    ("shape", "axes"), [((4, 6), ()), ((4, 5, 6), (1,)), ((4, 5, 3, 6), (1, 2)), ((4, 2, 5, 3, 6), (1, 2, 3))]
)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_routing_averages_all_axes_between_batch_and_channels(shape, axes, data_format):
    features = np.random.default_rng(0).normal(size=shape).astype("float32")
    layer = ExpertRouting(EXPERTS, bias_initializer="ones", data_format=data_format)
    outputs = layer(features if data_format == "channels_last" else np.moveaxis(features, -1, 1))
    pooled = features.mean(axis=axes) if axes else features
    expected = 1 / (1 + np.exp(-(pooled @ to_numpy(layer.kernel) + 1)))
    np.testing.assert_allclose(outputs, expected, atol=1e-5)


def test_the_temperature_falls_linearly_to_one_with_the_training_steps(tmp_path):
    """Dynamic Convolution (arXiv 1912.03458): a softmax of logits over a temperature that falls from 30 to 1."""
    inputs = keras.Input((4,))
    layer = ExpertRouting(EXPERTS, "softmax", temperature=30.0, annealing_steps=4, kernel_initializer="he_normal")
    model = keras.Model(inputs, layer(inputs))
    x = 10 * vectors()
    logits = x @ to_numpy(layer.kernel)
    for temperature in (30.0, 22.75, 15.5, 8.25, 1.0, 1.0):
        powers = np.exp(logits / temperature - (logits / temperature).max(1, keepdims=True))
        expected = powers / powers.sum(1, keepdims=True)
        np.testing.assert_allclose(layer(x, training=False), expected, atol=1e-5)
        # Only training counts, and a saved network goes on from its count.
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_allclose(loaded(x, training=False), expected, atol=1e-5)
        np.testing.assert_allclose(layer(x, training=True), expected, atol=1e-5)
    constant = ExpertRouting(EXPERTS, "softmax", temperature=2.0)
    constant(x)
    constant.set_weights(layer.get_weights()[:2])
    np.testing.assert_allclose(constant(x, training=True), keras.ops.softmax(logits / 2), atol=1e-5)


# Implementations and targets


@pytest.mark.needs_xla_cpu
@pytest.mark.parametrize("name", ["cpu", "gpu", "tpu", "lite"])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("cls", "arguments"), [layer[:2] for layer in LAYERS], ids=IDS)
def test_auto_is_the_implementation_that_the_layer_names(cls, arguments, training, name, target):
    target(name)
    x = inputs_of(cls)
    auto = cls(num_experts=EXPERTS, **arguments)
    expected = auto(x, routing(), training=training)
    layer = cls(num_experts=EXPERTS, implementation=auto.choose_implementation(x.shape, training), **arguments)
    layer.build(x.shape, routing().shape)
    layer.set_weights(auto.get_weights())
    np.testing.assert_array_equal(layer(x, routing()), expected)


@pytest.mark.parametrize(("cls", "arguments"), [layer[:2] for layer in LAYERS], ids=IDS)
def test_the_lite_target_computes_the_same(cls, arguments, target):
    layer, x = cls(num_experts=EXPERTS, **arguments), inputs_of(cls)
    expected = keras.ops.convert_to_numpy(layer(x, routing()))
    target("lite")
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer(x, routing())), expected, rtol=1e-4, atol=1e-5)


def choice(layer, size, training=False, channels=4):
    return layer.choose_implementation((None, size, size, channels), training)


def test_auto_selects_every_implementation(target):
    layers = {
        cls: [
            cls(num_experts=experts, **arguments)
            for other, arguments, *_ in LAYERS
            for experts in (1, EXPERTS)
            if other is cls
        ]
        for cls in (CondConv2D, DepthwiseCondConv2D)
    }
    for cls, variants in layers.items():
        chosen = set()
        for name in ("cpu", "gpu", "tpu"):
            target(name)
            chosen |= {choice(layer, size, training) for layer in variants for size in (7, 56) for training in (0, 1)}
            chosen |= {choice(layer, 56, channels=256) for layer in variants}
        assert chosen == set(cls.IMPLEMENTATIONS)
    dense = CondDense(5, EXPERTS)
    assert [dense.choose_implementation(shape) for shape in ((2, 4), (2, 3, 4))] == ["experts", "matmul"]


@pytest.mark.parametrize(("cls", "arguments"), [layer[:2] for layer in LAYERS[:-1]], ids=IDS[:-1])
@pytest.mark.parametrize("batch", [1, 128, None])
def test_auto_never_loops_on_a_tpu(cls, arguments, batch, target):
    target("tpu")
    for experts in (1, 2, 8):
        layer = cls(num_experts=experts, **arguments)
        for training in (False, True):
            assert layer.choose_implementation((batch, 14, 14, 4), training) != "map"


def test_auto_for_conv_on_cpu(target):
    target("cpu")
    layer = CondConv2D(8, 3, EXPERTS)
    assert choice(layer, 14, training=False) == "patches"
    assert choice(layer, 14, training=True) == "map"
    assert choice(layer, None, training=True) == "map"
    assert choice(layer, 9, training=True) == "patches"  # 7x7 outputs


def test_auto_for_conv_on_tpu(target):
    target("tpu")
    layer = CondConv2D(8, 3, EXPERTS, padding="same")
    assert choice(layer, 7) == "experts"
    assert choice(layer, 14) == "patches"
    assert choice(CondConv2D(8, 1, EXPERTS), 7) == "matmul"


@pytest.mark.parametrize(("kernel_size", "small", "large"), [(3, 8, 32), (5, 8, 24)])
def test_auto_for_depthwise_on_cpu(kernel_size, small, large, target):
    target("cpu")
    layer = DepthwiseCondConv2D(kernel_size, EXPERTS)
    assert choice(layer, small, channels=256) == "group"
    assert choice(layer, large, channels=256) == "map"
    assert choice(layer, None) == "map"
    assert choice(DepthwiseCondConv2D(kernel_size, EXPERTS, dilation_rate=2), small, channels=256) == "map"


def test_target(target):
    assert get_target() == "cpu"
    target("gpu")
    assert get_target() == "gpu"
    with pytest.raises(ValueError, match="'npu'"):
        set_target("npu")
    assert get_target() == "gpu"


# Errors


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CondConv2D(6, 3, 0), "num_experts=0"),
        (lambda: CondConv2D(0, 3, 2), "filters=0"),
        (lambda: CondConv2D(6, 3, 2, groups=4), "groups=4"),
        (lambda: CondConv2D(6, 3, 2, groups=0), "groups=0"),
        (lambda: CondConv2D(6, (3, 0), 2), r"kernel_size=\(3, 0\)"),
        (lambda: CondConv2D(6, 3, 2, strides=(1, 1, 1)), r"strides=\(1, 1, 1\)"),
        (lambda: CondConv2D(6, 3, 2, strides=2, dilation_rate=2), r"strides=\(2, 2\)"),
        (lambda: CondConv2D(6, 3, 2, padding="full"), "full"),
        (lambda: CondConv2D(6, 3, 2, padding=((1, 1), (1, 1))), "padding"),
        (lambda: CondConv2D(6, 3, 2, data_format="NHWC"), "data_format"),
        (lambda: CondConv2D(6, 3, 2, implementation="loop"), "'loop'"),
        (lambda: CondConv2D(6, 3, 2, implementation="group"), "'group'"),
        (lambda: CondConv2D(6, 3, 2, implementation="matmul"), "'matmul'"),
        (lambda: CondConv2D(6, 1, 2, implementation="patches"), "'patches'"),
        (lambda: CondConv2D(6, 3, 2, groups=2, implementation="map"), "groups=2"),
        (lambda: DepthwiseCondConv2D(3, 2, depth_multiplier=0), "depth_multiplier=0"),
        (lambda: DepthwiseCondConv2D(3, 2, strides=2, dilation_rate=2), r"strides=\(2, 2\)"),
        (lambda: DepthwiseCondConv2D(3, 2, strides=(1, 2), implementation="map"), r"strides=\(1, 2\)"),
        (lambda: DepthwiseCondConv2D(3, 2, dilation_rate=2, implementation="group"), r"\(2, 2\)"),
        (lambda: DepthwiseCondConv2D(3, 2, implementation="experts"), "'experts'"),
        (lambda: CondDense(0, 2), "units=0"),
        (lambda: ExpertRouting(0), "num_experts=0"),
        (lambda: ExpertRouting(2, data_format="first"), "'first'"),
        (lambda: ExpertRouting(2, temperature=0), "temperature=0"),
        (lambda: ExpertRouting(2, annealing_steps=-1), "annealing_steps=-1"),
        (lambda: ExpertRouting(2)(keras.Input((None,))), r"\(None, 2\)"),
        (lambda: CondConv2D(6, 3, 2, groups=3)(images(), routing()[:, :2]), "groups=3"),
        (lambda: CondConv2D(6, 3, 2)(images(), routing()), r"\(4, 3\)"),
        (lambda: CondConv2D(6, 3, 2)(images(), routing()[0]), r"\(3,\)"),
        (lambda: CondConv2D(6, 3, 2)(keras.Input((6, 5, 4)), keras.Input((5,))), r"\(None, 5\)"),
        (lambda: CondConv2D(6, 3, 3)(images()[0], routing()), r"\(6, 5, 4\)"),
        (lambda: CondConv2D(6, 7, 3)(images(), routing()), r"\(7, 7, 4, 6\)"),
        (lambda: CondDense(5, 2)(vectors(), routing()), r"\(4, 3\)"),
        (lambda: _built_for_routing()(images()), "call it with routing_weights"),
        (lambda: _built_for_routing()(keras.Input((6, 5, 4))), "call it with routing_weights"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (CondConv2D(6, 3, EXPERTS), (4, 6, 5, 3)),
        (DepthwiseCondConv2D(3, EXPERTS), (4, 6, 5, 3)),
        (CondDense(5, EXPERTS), (4, 3)),
    ],
    ids=lambda x: type(x).__name__,
)
def test_other_channels_than_built_for(layer, shape):
    layer(np.ones((*shape[:-1], 4), "float32"), routing())
    with pytest.raises(ValueError, match="3"):
        layer(np.ones(shape, "float32"), routing())
