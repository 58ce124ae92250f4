"""Conditional layers as Keras layers: experts' weights, shapes not known, saving, precision, and what they refuse."""

import itertools

import keras
import numpy as np
import pytest

from convzoo.layers import CondConv2D, CondDense, DepthwiseCondConv2D, ExpertRouting, get_target, set_target

EXPERTS = 3
IMAGE_LAYERS = [
    (CondConv2D, {"filters": 6, "kernel_size": 1, "strides": 2}),
    (CondConv2D, {"filters": 6, "kernel_size": 3, "strides": 2, "padding": "same"}),
    (CondConv2D, {"filters": 6, "kernel_size": 3, "groups": 2}),
    (DepthwiseCondConv2D, {"kernel_size": 3, "strides": 2, "padding": "same"}),
]


def forms(cls, arguments):
    for form in cls.FORMS:
        try:
            cls(num_experts=EXPERTS, form=form, **arguments)
        except ValueError:
            continue
        yield form


IMAGE_FORMS = [
    pytest.param(cls, {**arguments, "form": form}, id=f"{cls.__name__}-{arguments}-{form}")
    for cls, arguments in IMAGE_LAYERS
    for form in forms(cls, arguments)
]


def images(batch=4, height=6, width=5, channels=4):
    return np.random.default_rng(0).normal(size=(batch, height, width, channels)).astype("float32")


def routing(batch=4):
    return np.random.default_rng(1).uniform(size=(batch, EXPERTS)).astype("float32")


# Shapes that are not known when the model is built


@pytest.mark.parametrize(("cls", "arguments"), IMAGE_FORMS)
def test_unknown_batch_height_and_width(cls, arguments, reference):
    inputs = keras.Input((None, None, 4))
    layer = cls(num_experts=EXPERTS, **arguments)
    outputs = layer(inputs, ExpertRouting(EXPERTS)(inputs))
    assert outputs.shape[:3] == (None, None, None)
    model = keras.Model(inputs, outputs)
    for batch, height, width in ((4, 6, 5), (1, 5, 7)):
        x = images(batch, height, width)
        expected = reference.value(layer, x, np.asarray(model.layers[1](x)))
        np.testing.assert_allclose(model.predict(x, verbose=0), expected, atol=1e-5)
        assert expected.shape == layer.compute_output_shape(x.shape)


def test_channels_first_and_last_have_the_same_weights():
    last = CondConv2D(6, 3, EXPERTS, padding="same")
    first = CondConv2D(6, 3, EXPERTS, padding="same", data_format="channels_first")
    expected = last(images(), routing())
    first.build((None, 4, 6, 5))
    first.set_weights(last.get_weights())
    outputs = first(np.transpose(images(), (0, 3, 1, 2)), routing())
    np.testing.assert_allclose(np.transpose(outputs, (0, 2, 3, 1)), expected, atol=1e-5)


# Saving


def model_of_all_layers():
    inputs = keras.Input((6, 5, 4))
    a = ExpertRouting(EXPERTS)(inputs)
    x = CondConv2D(6, 1, EXPERTS, activation="relu", kernel_regularizer="l2")(inputs, a)
    x = DepthwiseCondConv2D(3, EXPERTS, padding="same", depthwise_constraint="max_norm", name="depthwise")(x, a)
    x = CondConv2D(4, 3, EXPERTS, groups=2, form="patches")(x, a)
    x = CondDense(5, EXPERTS)(keras.layers.GlobalAveragePooling2D()(x), a)
    return keras.Model(inputs, x)


def test_model_file_round_trip(tmp_path):
    model = model_of_all_layers()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(images(), verbose=0), model.predict(images(), verbose=0), atol=1e-6)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a SavedModel is TensorFlow's")
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
            form="patches",
            name="c",
        ),
        CondConv2D(6, 3, EXPERTS, dilation_rate=2, bias_initializer="ones", bias_regularizer="l1", dtype="float16"),
        DepthwiseCondConv2D(3, EXPERTS, depth_multiplier=2, depthwise_initializer="he_normal", form="taps"),
        CondDense(5, EXPERTS, bias_constraint="non_neg", trainable=False),
        ExpertRouting(EXPERTS, activation="softmax", use_bias=False, kernel_initializer="zeros"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_config_round_trip(layer):
    config = layer.get_config()
    assert type(layer).from_config(config).get_config() == config
    assert keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer)).get_config() == config
    missing = set(layer.__init__.__code__.co_varnames[1 : layer.__init__.__code__.co_argcount]) - set(config)
    assert not missing


# The experts' weights


@pytest.mark.parametrize(
    "initializer", ["he_normal", keras.initializers.GlorotUniform(seed=3)], ids=["by_name", "seeded"]
)
def test_experts_are_independent_draws_of_the_kernels_own_scale(initializer):
    layer = CondConv2D(64, 3, EXPERTS, kernel_initializer=initializer)
    layer.build((None, 8, 8, 32))
    plain = keras.layers.Conv2D(64, 3, kernel_initializer=initializer)
    plain.build((None, 8, 8, 32))
    kernels = np.asarray(layer.kernel).reshape(EXPERTS, -1)
    assert abs(np.corrcoef(kernels) - np.eye(EXPERTS)).max() < 0.05
    np.testing.assert_allclose(kernels.std(axis=1), np.asarray(plain.kernel).std(), rtol=0.05)


def test_seeds():
    def kernel(seed):
        layer = CondDense(5, EXPERTS, kernel_initializer=keras.initializers.RandomNormal(seed=seed))
        layer.build((None, 4))
        return np.asarray(layer.kernel)

    np.testing.assert_array_equal(kernel(7), kernel(7))
    assert not np.allclose(kernel(7), kernel(8))
    assert not np.allclose(kernel(None), kernel(None))
    generated = kernel(keras.random.SeedGenerator(7))
    assert not np.allclose(generated[0], generated[1])
    keras.utils.set_random_seed(1)
    first = kernel(None)
    keras.utils.set_random_seed(1)
    np.testing.assert_array_equal(kernel(None), first)


def test_a_function_initialises_each_expert_by_itself():
    shapes = []

    def ramp(shape, dtype=None):
        shapes.append(tuple(shape))
        return keras.ops.ones(shape, dtype) * len(shapes)

    layer = DepthwiseCondConv2D(3, EXPERTS, depthwise_initializer=ramp, use_bias=False)
    layer.build((None, 8, 8, 4))
    assert shapes == [(3, 3, 4, 1)] * EXPERTS
    assert layer.depthwise_kernel.shape == (EXPERTS, 3, 3, 4, 1)
    np.testing.assert_array_equal(np.asarray(layer.depthwise_kernel)[:, 0, 0, 0, 0], [1, 2, 3])


def test_regulariser_sees_each_expert():
    def largest_row(kernel):
        assert kernel.shape == (4, 5)
        return keras.ops.max(keras.ops.sum(kernel, axis=1))

    layer = CondDense(5, EXPERTS, kernel_regularizer=largest_row, bias_regularizer=keras.regularizers.L1(2.0))
    layer.build((None, 4))
    layer.bias.assign(np.ones(layer.bias.shape))
    losses = sorted(float(loss) for loss in layer.losses)
    expected = np.asarray(layer.kernel).sum(axis=2).max(axis=1).sum()
    np.testing.assert_allclose(losses, sorted([expected, 2.0 * EXPERTS * 5]), rtol=1e-5)


def test_constraint_binds_each_expert():
    layer = CondDense(5, EXPERTS, kernel_constraint=keras.constraints.UnitNorm(axis=0))
    layer.build((None, 4))
    constrained = keras.ops.convert_to_numpy(layer.kernel.constraint(layer.kernel.value))
    np.testing.assert_allclose(np.linalg.norm(constrained, axis=1), np.ones((EXPERTS, 5)), rtol=1e-5)


def test_fit_moves_every_weight_and_keeps_the_constraint():
    keras.utils.set_random_seed(0)
    model = model_of_all_layers()
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(images(), np.ones((4, 5)), verbose=0)
    for weight, old in zip(model.weights, before, strict=True):
        assert not np.array_equal(weight, old), weight.path
    kernel = np.asarray(model.get_layer("depthwise").depthwise_kernel)
    assert np.linalg.norm(kernel, axis=1).max() <= 2.0 + 1e-5


# Precision


@pytest.mark.parametrize(("cls", "arguments"), [*IMAGE_FORMS, (CondDense, {"units": 5})])
def test_mixed_precision(cls, arguments):
    x = images() if cls is not CondDense else images()[:, 0, 0]
    full = cls(num_experts=EXPERTS, **arguments)
    expected = full(x, routing())
    layer = cls(num_experts=EXPERTS, dtype="mixed_bfloat16", **arguments)
    layer.build(x.shape)
    layer.set_weights(full.get_weights())
    outputs = layer(x, routing())
    assert all(keras.backend.standardize_dtype(w.dtype) == "float32" for w in layer.weights)
    assert keras.backend.standardize_dtype(outputs.dtype) == "bfloat16"
    np.testing.assert_allclose(keras.ops.cast(outputs, "float32"), expected, atol=0.1, rtol=0.03)


def test_routing_stays_float32_under_a_mixed_policy():
    inputs = keras.Input((6, 5, 4), dtype="bfloat16")
    layer = ExpertRouting(EXPERTS, dtype="mixed_bfloat16")
    assert layer(inputs).dtype == "float32"
    outputs = layer(keras.ops.cast(images(), "bfloat16"))
    assert keras.backend.standardize_dtype(outputs.dtype) == "float32"
    pooled = np.asarray(keras.ops.cast(keras.ops.cast(images(), "bfloat16"), "float32")).mean(axis=(1, 2))
    expected = 1 / (1 + np.exp(-(pooled @ np.asarray(layer.kernel))))
    np.testing.assert_allclose(outputs, expected, atol=1e-5)


def test_weights_are_mixed_in_float32_inside_a_model_of_mixed_precision():
    # 1 + 1/512 - 1 is 1/512 in float32, and 0 where the weights are rounded to bfloat16 before they are mixed.
    layer = CondDense(1, 2, use_bias=False, dtype="mixed_bfloat16", form="matmul")
    inputs, a = keras.Input((1,)), keras.Input((2,))
    model = keras.Model([inputs, a], layer(inputs, a))
    layer.set_weights([np.reshape([1.0 + 1 / 512, 1.0], (2, 1, 1))])
    outputs = model([np.ones((1, 1), "float32"), np.array([[1.0, -1.0]], "float32")])
    assert float(keras.ops.cast(outputs, "float32")[0, 0]) == 1 / 512


# Routing


@pytest.mark.parametrize(
    ("shape", "axes"), [((4, 6), ()), ((4, 5, 6), (1,)), ((4, 5, 3, 6), (1, 2)), ((4, 2, 5, 3, 6), (1, 2, 3))]
)
def test_routing_pools_whatever_lies_between(shape, axes):
    features = np.random.default_rng(0).normal(size=shape).astype("float32")
    layer = ExpertRouting(EXPERTS, bias_initializer="ones")
    pooled = features.mean(axis=axes) if axes else features
    outputs = layer(features)
    expected = 1 / (1 + np.exp(-(pooled @ np.asarray(layer.kernel) + 1)))
    np.testing.assert_allclose(outputs, expected, atol=1e-5)


def test_routing_of_channels_first():
    layer = ExpertRouting(EXPERTS, data_format="channels_first")
    last = ExpertRouting(EXPERTS)
    expected = last(images())
    layer.build((None, 4, 6, 5))
    layer.set_weights(last.get_weights())
    np.testing.assert_allclose(layer(np.transpose(images(), (0, 3, 1, 2))), expected, atol=1e-6)


# Forms and targets


@pytest.mark.parametrize("name", ["cpu", "gpu", "tpu"])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("cls", "arguments"), [*IMAGE_LAYERS, (CondDense, {"units": 5})])
def test_auto_is_the_form_it_names(cls, arguments, training, name, target):
    target(name)
    x = images() if cls is not CondDense else images()[:, 0, 0]
    auto = cls(num_experts=EXPERTS, **arguments)
    expected = auto(x, routing(), training=training)
    layer = cls(num_experts=EXPERTS, **{**arguments, "form": auto.choose_form(x.shape, training)})
    layer.build(x.shape)
    layer.set_weights(auto.get_weights())
    np.testing.assert_array_equal(layer(x, routing()), expected)


@pytest.mark.parametrize(("cls", "arguments"), IMAGE_LAYERS)
@pytest.mark.parametrize("batch", [1, 128, None])
def test_auto_never_loops_on_a_tpu(cls, arguments, batch, target):
    target("tpu")
    for experts, training in itertools.product((1, 2, 8), (False, True)):
        layer = cls(num_experts=experts, **arguments)
        assert layer.choose_form((batch, 14, 14, 4), training) in set(cls.FORMS) - {"map"}


def test_auto_knows_training_from_use(target):
    target("cpu")
    layer = CondConv2D(8, 3, EXPERTS)
    assert [layer.choose_form((None, 14, 14, 4), training) for training in (False, True)] == ["patches", "map"]
    assert layer.choose_form((None, None, None, 4), True) == "map"
    assert layer.choose_form((None, 9, 9, 4), True) == "patches"  # 7x7 outputs


def test_auto_mixes_no_kernels_for_a_few_positions_on_a_tpu(target):
    target("tpu")
    assert CondConv2D(8, 3, EXPERTS, padding="same").choose_form((None, 7, 7, 4)) == "experts"
    assert CondConv2D(8, 3, EXPERTS, padding="same").choose_form((None, 14, 14, 4)) == "patches"
    assert CondConv2D(8, 1, EXPERTS).choose_form((None, 7, 7, 4)) == "matmul"


def test_auto_loops_over_large_images_alone(target):
    target("cpu")
    for kernel_size, sizes in ((3, (8, 16)), (5, (8, 12))):
        layer = DepthwiseCondConv2D(kernel_size, EXPERTS)
        small, large = ((None, size, size, 256) for size in (sizes[0], 2 * sizes[1]))
        assert layer.choose_form(small) == "group"
        assert layer.choose_form(large) == "map"
        assert layer.choose_form((None, None, None, 4)) == "map"
        assert DepthwiseCondConv2D(kernel_size, EXPERTS, dilation_rate=2).choose_form(small) == "map"


def test_target(target):
    assert get_target() == "cpu"
    target("gpu")
    assert get_target() == "gpu"
    with pytest.raises(ValueError, match="'npu' is not known: use one of cpu, gpu, tpu"):
        set_target("npu")
    assert get_target() == "gpu"


# What is refused


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CondConv2D(6, 3, 0), "num_experts 0"),
        (lambda: CondConv2D(0, 3, 2), "filters 0"),
        (lambda: CondConv2D(6, 3, 2, groups=4), "filters 6 do not divide by groups 4"),
        (lambda: CondConv2D(6, 3, 2, groups=0), "groups 0"),
        (lambda: CondConv2D(6, (3, 0), 2), r"kernel_size \(3, 0\)"),
        (lambda: CondConv2D(6, 3, 2, strides=(1, 1, 1)), r"strides \(1, 1, 1\)"),
        (lambda: CondConv2D(6, 3, 2, strides=2, dilation_rate=2), "one of them must be 1"),
        (lambda: CondConv2D(6, 3, 2, padding="full"), "padding 'full'"),
        (lambda: CondConv2D(6, 3, 2, data_format="NHWC"), "data_format 'NHWC'"),
        (lambda: CondConv2D(6, 3, 2, form="loop"), "form 'loop' is not known to CondConv2D: use 'auto', 'matmul', "),
        (lambda: CondConv2D(6, 3, 2, form="matmul"), r"for 1 x 1 kernels, kernel_size is \(3, 3\); use 'auto', 'patch"),
        (lambda: CondConv2D(6, 1, 2, form="patches"), "use 'auto', 'matmul'"),
        (lambda: CondConv2D(6, 3, 2, groups=2, form="map"), "groups is 2"),
        (lambda: CondConv2D(6, 3, 2, dilation_rate=(1, 2), form="group"), r"dilation_rate is \(1, 2\)"),
        (lambda: DepthwiseCondConv2D(3, 2, depth_multiplier=0), "depth_multiplier 0"),
        (lambda: DepthwiseCondConv2D(3, 2, strides=(1, 2), form="map"), r"strides are \(1, 2\)"),
        (lambda: DepthwiseCondConv2D(3, 2, form="experts"), "use 'auto', 'map', 'taps', 'group'"),
        (lambda: CondDense(0, 2), "units 0"),
        (lambda: ExpertRouting(0), "num_experts 0"),
        (lambda: ExpertRouting(2, data_format="first"), "data_format 'first'"),
        (lambda: ExpertRouting(2)(keras.Input((None,))), "known number of channels"),
        (lambda: CondConv2D(6, 3, 2, groups=3)(images(), routing()[:, :2]), "4 input channels .* by groups 3"),
        (lambda: CondConv2D(6, 3, 2)(images(), routing()), r"\(4, 3\), expected \[batch, 2\]"),
        (lambda: CondConv2D(6, 3, 2)(images(), routing()[0]), r"\(3,\), expected \[batch, 2\]"),
        (lambda: CondConv2D(6, 3, 2)(keras.Input((6, 5, 4)), keras.Input((5,))), r"expected \[batch, 2\]"),
        (lambda: CondConv2D(6, 3, 3)(images()[0], routing()), "expected four axes"),
        (lambda: CondConv2D(6, 7, 3)(images(), routing()), "too small for kernel_size"),
        (lambda: CondDense(5, 2)(images()[:, 0, 0], routing()), r"expected \[batch, 2\]"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert len(str(error.value).splitlines()) == 1 or "Exception encountered" in str(error.value)


def test_other_channels_than_built_for():
    layer = CondConv2D(6, 3, EXPERTS)
    layer(images(), routing())
    with pytest.raises(ValueError, match=r"have 3 channels .* built for 4"):
        layer(images(channels=3), routing())
