"""UnevenPointwiseConv2D: the block-diagonal convolution that it is, in every form, and its life as a Keras layer."""

import keras
import numpy as np
import pytest

from convzoo.layers import UnevenPointwiseConv2D

RATIOS = [(1, 3), (1, 1), (2, 3), (1, 1, 2), (1, 2, 1, 1), (1,)]


def images(batch=3, height=4, width=5, channels=60):
    return np.random.default_rng(0).normal(size=(batch, height, width, channels)).astype("float32")


def forms():
    for ratio in RATIOS:
        for form in UnevenPointwiseConv2D.FORMS:
            try:
                UnevenPointwiseConv2D(60, ratio, form=form)
            except ValueError:
                continue
            yield ratio, form


def dense_kernel(layer):
    """Zeros, with the groups' kernels along the diagonal."""
    kernel = np.zeros((layer.channels, layer.filters))
    row = column = 0
    for weight in layer.kernels:
        block = np.asarray(weight)[0, 0]
        kernel[row : row + block.shape[0], column : column + block.shape[1]] = block
        row, column = row + block.shape[0], column + block.shape[1]
    return kernel


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("order", ["given", "reversed"])
@pytest.mark.parametrize(("ratio", "form"), list(forms()))
def test_values_and_gradients(ratio, form, order, data_format, model_gradients):
    first = data_format == "channels_first"
    layer = UnevenPointwiseConv2D(
        120, ratio, order, strides=(1, 2), data_format=data_format, bias_initializer="normal", form=form
    )
    x = np.transpose(images(), (0, 3, 1, 2)) if first else images()
    inputs = keras.Input(x.shape[1:])
    model = keras.Model(inputs, layer(inputs))
    taken, kernel = images()[:, :, ::2].astype("float64"), dense_kernel(layer)
    expected = taken @ kernel + np.asarray(layer.bias)
    cotangent = np.random.default_rng(1).normal(size=expected.shape)
    shape = layer.compute_output_shape(x.shape)
    outputs, grads = model_gradients(
        model, x, np.transpose(cotangent, (0, 3, 1, 2) if first else (0, 1, 2, 3)).astype("float32")
    )
    assert outputs.shape == shape
    if first:
        outputs, grads["inputs"] = (np.transpose(t, (0, 2, 3, 1)) for t in (outputs, grads["inputs"]))
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    d_inputs = np.zeros(images().shape)
    d_inputs[:, :, ::2] = cotangent @ kernel.T
    np.testing.assert_allclose(grads["inputs"], d_inputs, atol=1e-4)
    d_kernel = taken.reshape(-1, 60).T @ cotangent.reshape(-1, 120)
    row = column = 0
    for share, weight in zip(ratio if order == "given" else ratio[::-1], layer.kernels, strict=True):
        rows, columns = share * 60 // sum(ratio), share * 120 // sum(ratio)
        assert weight.shape == (1, 1, rows, columns)
        block = d_kernel[row : row + rows, column : column + columns]
        np.testing.assert_allclose(grads[weight.path][0, 0], block, atol=1e-4)
        row, column = row + rows, column + columns
    np.testing.assert_allclose(grads[layer.bias.path], cotangent.sum((0, 1, 2)), atol=1e-4)


def test_the_dense_kernel_is_zero_between_the_groups():
    layer = UnevenPointwiseConv2D(8, (1, 3), use_bias=False)
    layer.build((None, None, None, 4))
    dense = np.asarray(layer.to_dense())
    assert dense.shape == (1, 1, 4, 8)
    np.testing.assert_array_equal(dense[0, 0], dense_kernel(layer).astype("float32"))
    assert (dense != 0).sum() == sum(np.asarray(kernel).size for kernel in layer.kernels) == 0.625 * 4 * 8


def test_equal_shares_are_a_grouped_convolution_of_keras():
    layer, plain = UnevenPointwiseConv2D(8, (1, 1)), keras.layers.Conv2D(8, 1, groups=2)
    expected = layer(images())
    plain.build(images().shape)
    plain.set_weights([np.concatenate([np.asarray(k) for k in layer.kernels], axis=3), np.zeros(8)])
    np.testing.assert_allclose(plain(images()), expected, atol=1e-5)


def test_unknown_sizes_and_a_saved_model_file(tmp_path):
    inputs = keras.Input((None, None, 8))
    x = UnevenPointwiseConv2D(16, (1, 3), activation="relu", kernel_regularizer="l2")(inputs)
    x = UnevenPointwiseConv2D(12, (1, 1, 2), "reversed", kernel_constraint="max_norm", form="dense")(x)
    model = keras.Model(inputs, x)
    assert model.output_shape == (None, None, None, 12)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for size in (3, 6):
        x = images(2, size, size, 8)
        np.testing.assert_allclose(loaded.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6)


def test_config_round_trip():
    layer = UnevenPointwiseConv2D(
        6,
        (1, 2),
        order="reversed",
        strides=(1, 2),
        data_format="channels_first",
        activation="swish",
        use_bias=False,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.1, seed=4),
        kernel_regularizer="l2",
        activity_regularizer="l1",
        bias_constraint="non_neg",
        form="dense",
        name="u",
    )
    config = layer.get_config()
    assert UnevenPointwiseConv2D.from_config(config).get_config() == config
    assert keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer)).get_config() == config
    assert not set(layer.__init__.__code__.co_varnames[1 : layer.__init__.__code__.co_argcount]) - set(config)


@pytest.mark.parametrize(("ratio", "form"), list(forms()))
def test_mixed_precision(ratio, form):
    full = UnevenPointwiseConv2D(60, ratio, form=form)
    expected = full(images())
    layer = UnevenPointwiseConv2D(60, ratio, form=form, dtype="mixed_bfloat16")
    layer.build(images().shape)
    layer.set_weights(full.get_weights())
    outputs = layer(images())
    assert keras.backend.standardize_dtype(outputs.dtype) == "bfloat16"
    assert all(keras.backend.standardize_dtype(w.dtype) == "float32" for w in layer.weights)
    np.testing.assert_allclose(keras.ops.cast(outputs, "float32"), expected, atol=0.1, rtol=0.03)


@pytest.mark.parametrize("initializer", ["he_normal", keras.initializers.HeNormal(seed=3)], ids=["by_name", "seeded"])
@pytest.mark.parametrize("ratio", [(1, 1), (1, 1, 2)])
def test_groups_are_independent_draws_of_their_own_scale(ratio, initializer):
    layer = UnevenPointwiseConv2D(120, ratio, kernel_initializer=initializer)
    layer.build((None, 4, 5, 60))
    first, second = (np.asarray(kernel).ravel() for kernel in layer.kernels[:2])
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.15
    np.testing.assert_allclose(first.std(), np.sqrt(2 / (60 / sum(ratio))), rtol=0.1)


@pytest.mark.parametrize("name", ["cpu", "gpu", "tpu"])
@pytest.mark.parametrize("ratio", RATIOS)
def test_auto_is_the_form_it_names(ratio, name, target):
    target(name)
    auto = UnevenPointwiseConv2D(60, ratio)
    expected = auto(images())
    layer = UnevenPointwiseConv2D(60, ratio, form=auto.choose_form(images().shape))
    layer.build(images().shape)
    layer.set_weights(auto.get_weights())
    np.testing.assert_array_equal(layer(images()), expected)


def test_auto_slices_wide_layers_on_a_cpu_alone(target):
    def chosen(channels, filters, training, ratio=(1, 3)):
        layer = UnevenPointwiseConv2D(filters, ratio)
        layer.build((None, None, None, channels))
        return layer.choose_form((None, None, None, channels), training)

    assert [chosen(24, 144, training) for training in (False, True)] == ["dense", "dense"]
    assert [chosen(576, 96, training) for training in (False, True)] == ["dense", "slices"]
    assert [chosen(160, 960, training) for training in (False, True)] == ["slices", "slices"]
    assert chosen(160, 960, True, (1,)) == "dense"
    for name in ("gpu", "tpu"):
        target(name)
        assert chosen(160, 960, True) == "dense"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UnevenPointwiseConv2D(0), "filters 0"),
        (lambda: UnevenPointwiseConv2D(8, ()), r"ratio \(\) is no sequence of positive integers"),
        (lambda: UnevenPointwiseConv2D(8, 3), "ratio 3 is no sequence"),
        (lambda: UnevenPointwiseConv2D(8, (1, 0)), r"ratio \(1, 0\) is no sequence"),
        (lambda: UnevenPointwiseConv2D(8, (2, 6)), r"common divisor 2: write \(1, 3\)"),
        (lambda: UnevenPointwiseConv2D(8, order="tipped"), "order 'tipped'"),
        (
            lambda: UnevenPointwiseConv2D(8, form="grouped"),
            r"for equal shares, ratio is \(1, 3\); use 'auto', 'slices'",
        ),
        (lambda: UnevenPointwiseConv2D(8, form="map"), "form 'map' is not known"),
        (
            lambda: UnevenPointwiseConv2D(6)(images()),
            "6 filters of .* do not divide by ratio 1:3: give a multiple of 4",
        ),
        (lambda: UnevenPointwiseConv2D(8)(images(channels=6)), "6 input channels of .* by ratio 1:3"),
        (lambda: UnevenPointwiseConv2D(8)(images()[0]), "expected four axes"),
        (lambda: UnevenPointwiseConv2D(8)(keras.Input((4, 4, None))), "known number of channels"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert len(str(error.value).splitlines()) == 1 or "Exception encountered" in str(error.value)
