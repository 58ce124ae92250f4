"""GuidedMask and DRConv2D as Keras layers: unknown shapes, saving, precision, shared masks, invalid input."""

import functools

import keras
import numpy as np
import pytest
from helpers.run_layer_test import run_layer_test

from convzoo.layers import DRConv2D, GuidedMask, resampling

REGIONS = 3
ARGUMENTS = [
    {"kernel_size": 1, "strides": 2, "padding": "same"},
    {"kernel_size": 3, "padding": "same", "bank_size": 2},
    {"kernel_size": 3, "generator": "grouped", "bank_size": 2},
]


def images(batch=4, height=6, width=5, channels=4):
    return np.random.default_rng(0).normal(size=(batch, height, width, channels)).astype("float32")


def _built_for_a_mask():
    layer = DRConv2D(6, 1, REGIONS)
    layer(images(), masks())
    return layer


def masks(batch=4, height=6, width=5):
    chosen = np.random.default_rng(1).integers(REGIONS, size=(batch, height, width))
    return np.eye(REGIONS, dtype="float32")[chosen]


@pytest.mark.needs_xla_cpu
@pytest.mark.parametrize(
    ("arguments", "output_size", "implementations"),
    [
        ({"kernel_size": 1, "strides": 2, "padding": "same"}, (3, 3), DRConv2D.IMPLEMENTATIONS),
        (
            {"kernel_size": 3, "padding": "same", "bank_size": 2},
            (6, 5),
            ["bank_loop", "region_outputs", "region_inputs"],
        ),
        ({"kernel_size": 3, "generator": "grouped", "bank_size": 2}, (4, 3), ["region_outputs", "region_inputs"]),
    ],
)
def test_layer(arguments, output_size, implementations):
    make_layer = functools.partial(DRConv2D, 6, regions=REGIONS, **arguments)
    run_layer_test(make_layer, images(), masks(), output_shape=(4, *output_size, 6), implementations=implementations)


@pytest.mark.parametrize("name", ["cpu", "lite"])
def test_mask_is_one_at_the_first_of_the_largest_scores(name, target):
    target(name)
    layer = GuidedMask(REGIONS, kernel_initializer="zeros", bias_initializer="zeros", use_bias=True)
    outputs = keras.ops.convert_to_numpy(layer(images()))
    np.testing.assert_array_equal(outputs, np.broadcast_to([1.0, 0.0, 0.0], (4, 6, 5, 3)))
    layer = GuidedMask(REGIONS, kernel_size=3, padding="same")
    outputs = keras.ops.convert_to_numpy(layer(images()))
    plain = keras.layers.Conv2D(REGIONS, 3, padding="same", use_bias=False)
    plain.build((None, 6, 5, 4))
    plain.set_weights(layer.get_weights())
    scores = keras.ops.convert_to_numpy(plain(images()))
    np.testing.assert_array_equal(outputs, np.eye(REGIONS)[scores.argmax(-1)])
    first = GuidedMask(REGIONS, kernel_size=3, padding="same", data_format="channels_first")
    first.build((None, 4, 6, 5))
    first.set_weights(layer.get_weights())
    transposed = keras.ops.convert_to_numpy(first(keras.ops.transpose(images(), (0, 3, 1, 2))))
    np.testing.assert_array_equal(transposed.transpose(0, 2, 3, 1), outputs)


def test_one_mask_for_layers_of_several_strides():
    inputs = keras.Input((8, 8, 4))
    mask = GuidedMask(REGIONS, name="mask")(inputs)
    x = DRConv2D(4, 1, REGIONS, name="first")(inputs, mask)
    x = DRConv2D(4, 3, REGIONS, strides=2, padding="same", name="second")(x, mask)
    model = keras.Model(inputs, [mask, x])
    mask, outputs = (keras.ops.convert_to_numpy(t) for t in model(images(2, 8, 8)))
    second = model.get_layer("second")
    first = keras.ops.convert_to_numpy(model.get_layer("first")(images(2, 8, 8), mask))
    np.testing.assert_allclose(outputs, second(first, mask[:, ::2, ::2]), atol=1e-5)


@pytest.mark.needs_xla_cpu
@pytest.mark.parametrize(("size", "count"), [(8, 4), (7, 4), (5, 5), (3, 7), (25, 13)])
@pytest.mark.parametrize("known", [True, False])
def test_nearest_takes_the_pixels_that_torch_takes(size, count, known):
    x = images(2, size, size)
    shape = (size, size, 4) if known else (None, None, 4)
    inputs = keras.Input(shape)
    outputs = keras.layers.Lambda(lambda t: resampling.nearest(t, (count, count)), output_shape=(count, count, 4))
    taken = [i * size // count for i in range(count)]
    model = keras.Model(inputs, outputs(inputs))
    np.testing.assert_allclose(model.predict(x, verbose=0), x[:, taken][:, :, taken], atol=1e-6)


@pytest.mark.needs_xla_cpu
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX compiles everything here as it is")
@pytest.mark.parametrize("sizes", [(7, 4), (8, 4)])
def test_xla_compiles_the_resize_and_its_gradient(sizes):
    import tensorflow as tf

    size, count = sizes
    x = tf.constant(images(2, size, size))

    @tf.function(jit_compile=True)
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = resampling.nearest(x, (count, count))
            loss = tf.reduce_sum(outputs * tf.range(float(count)))
        return tape.gradient(loss, x)

    taken = [i * size // count for i in range(count)]
    expected = np.zeros((2, size, size, 4))
    expected[np.ix_(range(2), taken, taken, range(4))] += np.arange(count)
    np.testing.assert_allclose(gradient(x), expected, atol=1e-6)


def model_of_all_generators():
    inputs = keras.Input((6, 5, 4))
    mask = GuidedMask(REGIONS, kernel_size=3, padding="same", use_bias=True)(inputs)
    x = DRConv2D(6, 3, REGIONS, padding="same", activation="relu", kernel_regularizer="l2")(inputs, mask)
    x = DRConv2D(6, 1, REGIONS, 2, generator="grouped", kernel_constraint="max_norm", name="grouped")(x, mask)
    x = DRConv2D(4, 1, regions=1, implementation="region_outputs")(x)
    return keras.Model(inputs, x)


@pytest.mark.needs_xla_cpu
def test_model_file_round_trip(tmp_path):
    model = model_of_all_generators()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(images(), verbose=0), model.predict(images(), verbose=0), atol=1e-6)


@pytest.mark.needs_xla_cpu
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a SavedModel is TensorFlow's")
def test_saved_model_takes_any_batch(tmp_path):
    import tensorflow as tf

    model = model_of_all_generators()
    model.export(str(tmp_path), verbose=False)
    served = tf.saved_model.load(str(tmp_path))
    for batch in (1, 3):
        np.testing.assert_allclose(served.serve(images(batch)), model.predict(images(batch), verbose=0), atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        DRConv2D(
            6,
            (3, 2),
            REGIONS,
            bank_size=2,
            generator="grouped",
            strides=(1, 2),
            padding="same",
            data_format="channels_first",
            activation="swish",
            use_bias=False,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.1, seed=4),
            routing_initializer="zeros",
            kernel_regularizer=keras.regularizers.L2(0.1),
            activity_regularizer="l1",
            kernel_constraint="max_norm",
            implementation="region_inputs",
            name="d",
        ),
        DRConv2D(6, 3, dilation_rate=2, bias_initializer="ones", bias_regularizer="l1", dtype="float16"),
        GuidedMask(4, 3, use_bias=True, padding="same", kernel_regularizer="l2", trainable=False, name="m"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_config_round_trip(layer):
    config = layer.get_config()
    assert type(layer).from_config(config).get_config() == config
    assert keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer)).get_config() == config
    code = layer.__init__.__code__
    assert not set(code.co_varnames[1 : code.co_argcount]) - set(config)


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_regions_of_a_grouped_generator_start_as_the_base_kernels_of_a_bank(kernel_size):
    layer = DRConv2D(64, kernel_size, REGIONS, 4, generator="grouped")
    layer.build((None, 6, 5, 32))
    kernels = np.asarray(layer.generate_kernels(images(2, channels=32)))
    assert kernels.shape == (2, REGIONS, kernel_size**2 * 32, 64)
    np.testing.assert_allclose(kernels.std((0, 2, 3)), np.sqrt(2 / (32 * kernel_size**2)), rtol=0.1)
    assert abs(np.corrcoef(kernels[0].reshape(REGIONS, -1)) - np.eye(REGIONS)).max() < 0.1


def test_initialization_of_base_kernels_and_regions():
    layer = DRConv2D(64, 1, REGIONS, 4)
    layer.build((None, 6, 5, 32))
    kernels = np.asarray(layer.kernel).reshape(4, -1)
    assert abs(np.corrcoef(kernels) - np.eye(4)).max() < 0.1
    assert abs(kernels).max() <= np.sqrt(6 / 32)
    np.testing.assert_allclose(kernels.std(), np.sqrt(2 / 32), rtol=0.05)
    of_regions = np.asarray(layer.generate_kernels(images(2, channels=32)))
    np.testing.assert_allclose(of_regions[:, 0].reshape(2, -1), kernels.mean(0)[None].repeat(2, 0), atol=0.02)


@pytest.mark.needs_xla_cpu
def test_fit_moves_every_weight_and_keeps_the_constraint():
    keras.utils.set_random_seed(0)
    model = model_of_all_generators()
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(images(), np.ones((4, 6, 5, 4)), verbose=0)
    for weight, old in zip(model.weights, before, strict=True):
        assert not np.array_equal(weight, old), weight.path
    kernel = np.asarray(model.get_layer("grouped").kernel)
    assert np.linalg.norm(kernel, axis=1).max() <= 2.0 + 1e-5


def test_a_mask_stays_float32_under_a_mixed_policy():
    inputs = keras.Input((6, 5, 4), dtype="bfloat16")
    layer, full = GuidedMask(REGIONS, 3, dtype="mixed_bfloat16"), GuidedMask(REGIONS, 3)
    assert layer(inputs).dtype == "float32"
    rounded = keras.ops.cast(images(), "bfloat16")
    outputs = layer(rounded)
    assert keras.backend.standardize_dtype(outputs.dtype) == "float32"
    full.build(images().shape)
    full.set_weights(layer.get_weights())
    np.testing.assert_array_equal(outputs, full(keras.ops.cast(rounded, "float32")))


@pytest.mark.parametrize("name", ["cpu", "gpu", "tpu", "lite"])
@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
def test_auto_is_the_implementation_it_names(arguments, name, target):
    target(name)
    auto = DRConv2D(6, regions=REGIONS, routing_initializer="glorot_uniform", **arguments)
    expected = auto(images(), masks())
    layer = DRConv2D(6, regions=REGIONS, **{**arguments, "implementation": auto.choose_implementation(images().shape)})
    layer.build(images().shape, masks().shape)
    layer.set_weights(auto.get_weights())
    np.testing.assert_array_equal(layer(images(), masks()), expected)


@pytest.mark.parametrize(
    ("arguments", "shape", "on_cpu", "elsewhere"),
    [
        ({"filters": 48}, (None, 14, 14, 48), "bank_loop", "bank_loop"),
        ({"filters": 24}, (None, 14, 14, 48), "bank_loop", "bank_loop"),
        ({"filters": 24}, (None, 28, 28, 24), "bank_loop", "bank_outputs"),
        ({"filters": 24, "kernel_size": 3, "padding": "same"}, (None, 28, 28, 24), "bank_loop", "bank_loop"),
        ({"filters": 96}, (None, 14, 14, 48), "bank_inputs", "bank_loop"),
        ({"filters": 48, "kernel_size": 3, "padding": "same"}, (None, 14, 14, 48), "bank_loop", "bank_loop"),
        ({"filters": 48}, (None, None, None, 48), "bank_loop", "bank_loop"),
        ({"filters": 48, "regions": 1}, (None, 14, 14, 48), "region_inputs", "region_inputs"),
        ({"filters": 24, "generator": "grouped"}, (None, 14, 14, 48), "region_outputs", "region_outputs"),
    ],
)
def test_auto(arguments, shape, on_cpu, elsewhere, target):
    layer = DRConv2D(**{"kernel_size": 1, **arguments})
    assert layer.choose_implementation(shape) == on_cpu
    for name in ("gpu", "tpu"):
        target(name)
        assert layer.choose_implementation(shape) == elsewhere


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GuidedMask(0), "regions=0"),
        (lambda: GuidedMask(4, groups=2), "no argument groups"),
        (lambda: GuidedMask(4, activation="relu"), "no argument activation"),
        (lambda: DRConv2D(0, 1), "filters=0"),
        (lambda: DRConv2D(6, 1, regions=0), "regions=0"),
        (lambda: DRConv2D(6, 1, bank_size=0), "bank_size=0"),
        (lambda: DRConv2D(6, 1, generator="bank"), "generator='bank'"),
        (lambda: DRConv2D(6, 3, strides=2, dilation_rate=2), r"strides=.* dilation_rate="),
        (
            lambda: DRConv2D(6, 1, implementation="loop"),
            "'loop'; use one of 'auto', 'bank_outputs', ",
        ),
        (
            lambda: DRConv2D(6, 3, implementation="bank_inputs"),
            r"'bank_inputs' .* kernel_size=\(3, 3\); use one of 'auto', ",
        ),
        (
            lambda: DRConv2D(6, 1, generator="grouped", implementation="bank_loop"),
            r"'bank_loop' .*; use one of 'auto', 'region_outputs', 'region",
        ),
        (lambda: DRConv2D(6, 1, 8)(images(), masks()), r"\(4, 6, 5, 3\).* 8 regions"),
        (lambda: DRConv2D(6, 1, REGIONS)(images(), masks()[0]), "four axes"),
        (lambda: _built_for_a_mask()(images()), "call it with region_mask"),
        (lambda: _built_for_a_mask()(keras.Input((6, 5, 4))), "call it with region_mask"),
        (lambda: DRConv2D(6, 1, REGIONS)(images()[0], masks()), "expected ndim=4"),
        (lambda: DRConv2D(6, 7, REGIONS)(images(), masks()), "zero or negative"),
        (lambda: DRConv2D(6, 1, REGIONS)(keras.Input((6, 5, None)), masks()), "channels must be known"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert len(str(error.value).splitlines()) == 1 or "Exception encountered" in str(error.value)
