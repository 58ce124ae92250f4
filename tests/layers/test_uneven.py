"""UnevenPointwiseConv2D: parity with NumPy, serialization, dense kernel, initialization, implementations, errors."""

import functools

import keras
import numpy as np
import pytest
from helpers.run_layer_test import run_layer_test

from convzoo.layers import UnevenPointwiseConv2D

RATIOS = [(1, 3), (1, 1), (2, 3), (1, 1, 2), (1, 2, 1, 1), (1,)]


def images(channels=60):
    return np.random.default_rng(0).normal(size=(3, 4, 5, channels)).astype("float32")


def dense_kernel(layer):
    """Returns [channels, filters], the groups' kernels on the block diagonal."""
    kernel = np.zeros((layer.channels, layer.filters), "float32")
    row = column = 0
    for weight in layer.kernels:
        block = np.asarray(weight)[0, 0]
        kernel[row : row + block.shape[0], column : column + block.shape[1]] = block
        row, column = row + block.shape[0], column + block.shape[1]
    return kernel


@pytest.mark.needs_xla_cpu
@pytest.mark.parametrize("order", ["given", "reversed"])
@pytest.mark.parametrize("ratio", RATIOS)
def test_parity_with_a_block_diagonal_product(ratio, order):
    layer, (outputs,), gradients, (cotangent,) = run_layer_test(
        functools.partial(UnevenPointwiseConv2D, 120, ratio, order, strides=(1, 2)),
        images(),
        output_shape=(3, 4, 3, 120),
        implementations=UnevenPointwiseConv2D.IMPLEMENTATIONS,
    )
    x, kernel = images()[:, :, ::2].astype("float64"), dense_kernel(layer)
    np.testing.assert_array_equal(layer.to_dense(), kernel[None, None])
    np.testing.assert_allclose(outputs, x @ kernel + np.asarray(layer.bias), atol=1e-4)
    d_inputs = np.zeros(images().shape)
    d_inputs[:, :, ::2] = cotangent @ kernel.T
    np.testing.assert_allclose(gradients[0], d_inputs, atol=1e-4)
    d_kernel = x.reshape(-1, 60).T @ cotangent.reshape(-1, 120)
    row = column = 0
    for share, gradient in zip(ratio if order == "given" else ratio[::-1], gradients[1:-1], strict=True):
        rows, columns = share * 60 // sum(ratio), share * 120 // sum(ratio)
        assert gradient.shape == (1, 1, rows, columns)
        expected = d_kernel[row : row + rows, column : column + columns]
        np.testing.assert_allclose(gradient[0, 0], expected, atol=1e-3)
        row, column = row + rows, column + columns
    np.testing.assert_allclose(gradients[-1], cotangent.sum((0, 1, 2)), atol=1e-4)


def test_a_quarter_and_three_quarters_have_five_eighths_of_the_weights():
    layer = UnevenPointwiseConv2D(8, (1, 3), use_bias=False)
    layer.build((None, None, None, 4))
    assert np.count_nonzero(layer.to_dense()) == layer.count_params() == 0.625 * 4 * 8


@pytest.mark.needs_xla_cpu
def test_equal_shares_are_a_grouped_convolution():
    layer, conv = UnevenPointwiseConv2D(8, (1, 1)), keras.layers.Conv2D(8, 1, groups=2)
    expected = layer(images())
    conv.build(images().shape)
    conv.set_weights([np.concatenate([np.asarray(k) for k in layer.kernels], axis=3), np.zeros(8)])
    np.testing.assert_allclose(conv(images()), expected, atol=1e-5)


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
        implementation="dense",
        name="u",
    )
    config = layer.get_config()
    assert UnevenPointwiseConv2D.from_config(config).get_config() == config
    assert (config["ratio"], config["order"], config["strides"]) == ((1, 2), "reversed", (1, 2))
    assert not {"groups", "kernel_size", "padding", "dilation_rate"} & set(config)


@pytest.mark.parametrize("initializer", ["he_normal", keras.initializers.HeNormal(seed=3)], ids=["by_name", "seeded"])
@pytest.mark.parametrize("ratio", [(1, 1), (1, 1, 2)])
def test_groups_are_independent_draws_with_their_own_fan_in(ratio, initializer):
    layer = UnevenPointwiseConv2D(120, ratio, kernel_initializer=initializer)
    layer.build((None, 4, 5, 60))
    first, second = (np.asarray(kernel).ravel() for kernel in layer.kernels[:2])
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.15
    np.testing.assert_allclose(first.std(), np.sqrt(2 / (60 / sum(ratio))), rtol=0.1)


@pytest.mark.parametrize("name", ["cpu", "gpu", "tpu", "lite"])
@pytest.mark.parametrize("ratio", RATIOS)
def test_auto_computes_the_chosen_implementation(ratio, name, target):
    target(name)
    auto = UnevenPointwiseConv2D(60, ratio)
    expected = auto(images())
    layer = UnevenPointwiseConv2D(60, ratio, implementation=auto.choose_implementation(images().shape))
    layer.build(images().shape)
    layer.set_weights(auto.get_weights())
    np.testing.assert_array_equal(layer(images()), expected)


def test_auto_slices_wide_layers_on_cpu_only(target):
    def chosen(channels, filters, training, ratio=(1, 3)):
        layer = UnevenPointwiseConv2D(filters, ratio)
        layer.build((None, None, None, channels))
        return layer.choose_implementation((None, None, None, channels), training)

    assert [chosen(24, 144, training) for training in (False, True)] == ["dense", "dense"]
    assert [chosen(576, 96, training) for training in (False, True)] == ["dense", "slices"]
    assert [chosen(160, 960, training) for training in (False, True)] == ["slices", "slices"]
    assert chosen(160, 960, True, (1,)) == "dense"
    for name in ("gpu", "tpu"):
        target(name)
        assert chosen(160, 960, True) == "dense"
    target("lite")
    assert chosen(24, 144, False) == "slices"


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: UnevenPointwiseConv2D(0), "filters=0"),
        (lambda: UnevenPointwiseConv2D(8, ()), r"ratio=\(\)"),
        (lambda: UnevenPointwiseConv2D(8, 3), "ratio=3"),
        (lambda: UnevenPointwiseConv2D(8, (1, 0)), r"ratio=\(1, 0\)"),
        (lambda: UnevenPointwiseConv2D(8, (2, 6)), r"2; use \(1, 3\)"),
        (lambda: UnevenPointwiseConv2D(8, order="tipped"), "'tipped'"),
        (lambda: UnevenPointwiseConv2D(8, groups=2), "groups=2"),
        (lambda: UnevenPointwiseConv2D(8, implementation="map"), "'map'"),
        (lambda: UnevenPointwiseConv2D(6)(images()), r"6 filters .* ratio=\(1, 3\); use a multiple of 4"),
        (lambda: UnevenPointwiseConv2D(8)(images(6)), r"6 input channels .* ratio=\(1, 3\)"),
        (lambda: UnevenPointwiseConv2D(8)(images()[0]), "ndim=3"),
        (lambda: UnevenPointwiseConv2D(8)(keras.Input((4, 4, None))), r"\(None, 4, 4, None\)"),
    ],
)
def test_bad_arguments_and_inputs(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def test_fit_dense_needs_a_built_layer_and_a_kernel_of_its_shape():
    layer = UnevenPointwiseConv2D(8, ratio=(1, 3))
    with pytest.raises(ValueError, match="not built"):
        layer.fit_dense(np.zeros((1, 1, 4, 8)))
    layer.build((None, 5, 5, 4))
    with pytest.raises(ValueError, match=r"\(1, 1, 8, 4\), expected \(1, 1, 4, 8\)"):
        layer.fit_dense(np.zeros((1, 1, 8, 4)))
