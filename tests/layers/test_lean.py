"""LeanConv2D: parity with NumPy, serialization, dense kernel, adjoint, initialization, implementations, errors."""

import functools
import math

import keras
import numpy as np
import pytest
from helpers.run_layer_test import run_layer_test

from convzoo.layers import LeanConv2D
from convzoo.layers.lean_conv2d import STENCILS

# Name: (arguments, input channels, output height and width for images of 7x8)
CASES = {
    "depthwise": ({"filters": 8}, 8, (5, 6)),
    "nine points": ({"filters": 8, "stencil": "9-point", "group_size": 2}, 8, (5, 6)),
    "horizontal": ({"filters": 8, "stencil": "3-point-horizontal", "group_size": 4, "padding": "same"}, 8, (7, 8)),
    "vertical": ({"filters": 6, "stencil": "3-point-vertical", "padding": "same"}, 6, (7, 8)),
    "one group": ({"filters": 4, "stencil": "9-point", "group_size": None}, 6, (5, 6)),
    "wider": ({"filters": 12, "strides": 2, "stencil": "9-point", "padding": "same"}, 6, (4, 4)),
    "narrower": ({"filters": 4, "group_size": 2, "strides": (2, 1), "padding": "same"}, 12, (4, 8)),
    "dilated": ({"filters": 6, "dilation_rate": 2, "padding": "same"}, 6, (7, 8)),
    "dilated in groups": ({"filters": 8, "group_size": 4, "dilation_rate": (1, 2)}, 8, (5, 4)),
    "strided": ({"filters": 6, "strides": 2, "padding": "same"}, 6, (4, 4)),
    "no common multiple": ({"filters": 9, "padding": "same"}, 6, (7, 8)),
    "several blocks": ({"filters": 96, "group_size": 16, "padding": "same"}, 96, (7, 8)),
}


def images(channels, height=7, width=8):
    return np.random.default_rng(0).normal(size=(2, height, width, channels)).astype("float32")


def entries(layer):
    """Yields (index into the dense kernel, weight name, index into the weight) for every weight of the layer."""
    channels = layer.kernel.shape[2]
    groups = 1 if layer.group_size is None else math.gcd(channels, layer.filters) // layer.group_size
    group_channels, group_filters = channels // groups, layer.filters // groups
    for f in range(layer.filters):
        for c in range(channels):
            yield (1, 1, c, f), "kernel", (0, 0, c, f)
        for tap, (i, j) in enumerate(STENCILS[layer.stencil]):
            for c in range(group_channels):
                yield (i, j, f // group_filters * group_channels + c, f), "stencil", (tap, c, f)


def dense_kernel(layer):
    weights = {"kernel": np.asarray(layer.kernel), "stencil": np.asarray(layer.stencil_kernel)}
    kernel = np.zeros((3, 3, layer.kernel.shape[2], layer.filters), "float32")
    for index, name, weight_index in entries(layer):
        assert kernel[index] == 0
        kernel[index] = weights[name][weight_index]
    return kernel


def pixel_indices(layer, size, output_size):
    """Yields for each axis the pixels under the taps, [3, outputs], as indices into images padded by 3."""
    for n, s, d, out in zip(size, layer.strides, layer.dilation_rate, output_size, strict=True):
        before = 0 if layer.padding == "valid" else max((out - 1) * s + 2 * d + 1 - n, 0) // 2
        yield np.arange(3)[:, None] * d + np.arange(out) * s - before + 3


@pytest.mark.needs_xla_cpu
@pytest.mark.parametrize("case", list(CASES))
def test_parity_with_a_dense_convolution(case):
    arguments, channels, output_size = CASES[case]
    x = images(channels)
    layer, (outputs,), gradients, (cotangent,) = run_layer_test(
        functools.partial(LeanConv2D, **arguments),
        x,
        output_shape=(2, *output_size, arguments["filters"]),
        implementations=LeanConv2D.IMPLEMENTATIONS,
    )
    kernel = dense_kernel(layer)
    np.testing.assert_array_equal(layer.to_dense(), kernel)
    # NumPy
    padded = np.pad(x.astype("float64"), ((0, 0), (3, 3), (3, 3), (0, 0)))
    rows, columns = pixel_indices(layer, x.shape[1:3], output_size)
    index = np.ix_(range(2), rows.ravel(), columns.ravel(), range(channels))
    patches = padded[index].reshape(2, *rows.shape, *columns.shape, channels)
    expected = np.einsum("biyjxc,ijcf->byxf", patches, kernel) + np.asarray(layer.bias)
    np.testing.assert_allclose(outputs, expected, atol=1e-4)
    d_patches = np.einsum("byxf,ijcf->biyjxc", cotangent, kernel)
    d_padded = np.zeros_like(padded)
    np.add.at(d_padded, index, d_patches.reshape(2, rows.size, columns.size, channels))
    np.testing.assert_allclose(gradients[0], d_padded[:, 3:-3, 3:-3], atol=1e-4)
    d_kernel = np.einsum("biyjxc,byxf->ijcf", patches, cotangent)
    by_name = dict(zip(("kernel", "stencil"), gradients[1:3], strict=True))
    expected, results = zip(*((d_kernel[i], by_name[name][j]) for i, name, j in entries(layer)), strict=True)
    np.testing.assert_allclose(results, expected, atol=1e-3)
    np.testing.assert_allclose(gradients[3], cotangent.sum((0, 1, 2)), atol=1e-4)
    # Keras
    named = {name: getattr(layer, name) for name in ("filters", "strides", "padding", "dilation_rate")}
    conv = keras.layers.Conv2D(kernel_size=3, **named)
    conv.build(x.shape)
    conv.set_weights([kernel, np.asarray(layer.bias)])
    np.testing.assert_allclose(layer(x), conv(x), atol=1e-4)


@pytest.mark.parametrize(("channels", "filters"), [(8, 8), (4, 12), (12, 4)])
@pytest.mark.parametrize("stencil", list(STENCILS))
def test_weight_count(channels, filters, stencil):
    layer = LeanConv2D(filters, stencil, group_size=2, use_bias=False)
    layer.build((None, 7, 8, channels))
    assert layer.count_params() == channels * filters + len(STENCILS[stencil]) * 2 * max(channels, filters)


@pytest.mark.parametrize("stencil", list(STENCILS))
@pytest.mark.parametrize("group_size", [1, 2, None])
def test_fit_dense_is_the_least_squares_fit(stencil, group_size):
    layer = LeanConv2D(8, stencil, group_size)
    layer.build((None, 5, 5, 4))
    dense = np.random.default_rng(3).normal(size=(3, 3, 4, 8)).astype("float32")
    layer.fit_dense(dense)
    is_weight = np.zeros(dense.shape, bool)
    for index, *_ in entries(layer):
        is_weight[index] = True
    np.testing.assert_array_equal(layer.to_dense(), np.where(is_weight, dense, 0))


@pytest.mark.needs_xla_cpu
@pytest.mark.parametrize("implementation", LeanConv2D.IMPLEMENTATIONS)
@pytest.mark.parametrize(("stencil", "group_size"), [("9-point", 4), ("5-point", 1), ("3-point-vertical", None)])
def test_transposed_is_the_adjoint(stencil, group_size, implementation):
    arguments = {"bias_initializer": "ones", "activation": "relu", "implementation": implementation}
    layer = LeanConv2D(8, stencil, group_size, padding="same", **arguments)
    x, y = images(8), np.random.default_rng(4).normal(size=(2, 7, 8, 8)).astype("float32")
    adjoint = np.asarray(layer(y, transposed=True))
    linear = LeanConv2D(8, stencil, group_size, padding="same", use_bias=False)
    linear.build(x.shape)
    linear.set_weights(layer.get_weights()[:2])
    # <K x, y> = <x, K^T y> for each image and channel of x.
    for image in range(2):
        for channel in range(8):
            part = np.zeros_like(x)
            part[image, ..., channel] = x[image, ..., channel]
            np.testing.assert_allclose(np.sum(linear(part) * y), np.sum(part * adjoint), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("arguments", [{"strides": 2}, {"padding": "valid"}, {"filters": 16}])
def test_transposed_is_refused_without_an_adjoint(arguments):
    layer = LeanConv2D(**{"filters": 8, "padding": "same", **arguments})
    layer.build(images(8).shape)
    for inputs in (images(8), keras.Input((7, 8, 8))):
        with pytest.raises(ValueError, match="adjoint"):
            layer(inputs, transposed=True)


def test_nine_points_of_one_group_are_a_full_convolution():
    layer, conv = LeanConv2D(6, "9-point", None), keras.layers.Conv2D(6, 3)
    expected = conv(images(4))
    layer.build(images(4).shape)
    layer.fit_dense(conv.kernel)
    layer.bias.assign(conv.bias)
    assert layer.choose_implementation() == "dense"
    np.testing.assert_allclose(layer(images(4)), expected, atol=1e-5)


def test_config_round_trip():
    layer = LeanConv2D(
        6,
        "3-point-vertical",
        group_size=3,
        strides=(1, 2),
        padding="same",
        data_format="channels_first",
        activation="swish",
        use_bias=False,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.1, seed=4),
        kernel_regularizer="l2",
        activity_regularizer="l1",
        bias_constraint="non_neg",
        implementation="blocks",
        name="lean",
    )
    config = layer.get_config()
    assert LeanConv2D.from_config(config).get_config() == config
    assert (config["stencil"], config["strides"], config["name"]) == ("3-point-vertical", (1, 2), "lean")
    assert not {"groups", "kernel_size"} & set(config)


@pytest.mark.parametrize("seed", [None, 3])
def test_stencil_and_1x1_are_parts_of_one_draw(seed):
    layer = LeanConv2D(64, "9-point", 8, kernel_initializer=keras.initializers.HeNormal(seed=seed))
    layer.build((None, 5, 5, 64))
    stencil, kernel = np.asarray(layer.stencil_kernel), np.asarray(layer.kernel)
    for weight in (stencil, kernel):
        np.testing.assert_allclose(weight.std(), np.sqrt(2 / (64 + 8 * 8)), rtol=0.05)
    assert abs(np.corrcoef(stencil.reshape(64, 64).ravel(), kernel.ravel())[0, 1]) < 0.05


@pytest.mark.parametrize(("name", "wide"), [("cpu", 32), ("gpu", 128), ("tpu", 128), ("lite", 32)])
def test_auto_chooses_by_widths_and_target(name, wide, target):
    def chosen(channels, group_size):
        layer = LeanConv2D(channels, group_size=group_size)
        layer.build((None, 9, 9, channels))
        return layer.choose_implementation((None, 9, 9, channels))

    target(name)
    narrow = "dense" if name == "tpu" else "split"
    assert [chosen(channels, 1) for channels in (8, wide, 2 * wide)] == [narrow, narrow, "split"]
    assert [chosen(channels, 8) for channels in (8, wide, 2 * wide)] == ["dense", "dense", "blocks"]
    assert chosen(2 * wide, None) == "dense"


@pytest.mark.parametrize(("group_size", "implementation"), [(1, "split"), (8, "blocks"), (None, "dense")])
def test_auto_computes_the_chosen_implementation(group_size, implementation):
    auto = LeanConv2D(64, group_size=group_size)
    expected = auto(images(64))
    layer = LeanConv2D(64, group_size=group_size, implementation=implementation)
    layer.build(images(64).shape)
    layer.set_weights(auto.get_weights())
    np.testing.assert_array_equal(layer(images(64)), expected)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: LeanConv2D(0), "filters=0"),
        (lambda: LeanConv2D(8, "4-point"), "'4-point'"),
        (lambda: LeanConv2D(8, group_size=0), "group_size=0"),
        (lambda: LeanConv2D(8, groups=2), "groups=2"),
        (lambda: LeanConv2D(8, lora_rank=2), "lora_rank=2"),
        (lambda: LeanConv2D(8, implementation="map"), "'map'"),
        (lambda: LeanConv2D(8, padding="full"), "full"),
        (lambda: LeanConv2D(8, padding=((1, 1), (1, 1))), "padding="),
        (lambda: LeanConv2D(8, strides=2, dilation_rate=2), "dilation_rate"),
        (lambda: LeanConv2D(8, group_size=3)(images(8)), "group_size=3 .* 8 input channels and 8 filters"),
        (lambda: LeanConv2D(12, group_size=8)(images(8)), "group_size=8 .* 8 input channels and 12 filters"),
        (lambda: LeanConv2D(8)(images(8, 2, 2)), r"\(2, 2, 2, 8\)"),
        (lambda: LeanConv2D(8)(images(8)[0]), "ndim=3"),
        (lambda: LeanConv2D(8)(keras.Input((4, 4, None))), r"\(None, 4, 4, None\)"),
        (lambda: LeanConv2D(8).fit_dense(np.zeros((3, 3, 4, 8))), "built"),
    ],
)
def test_bad_arguments_and_inputs(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def test_inputs_and_dense_kernels_of_another_shape():
    layer = LeanConv2D(8)
    layer.build((None, 5, 5, 8))
    with pytest.raises(ValueError, match="8"):
        layer(images(4))
    with pytest.raises(ValueError, match=r"\(3, 3, 4, 8\), expected \(3, 3, 8, 8\)"):
        layer.fit_dense(np.zeros((3, 3, 4, 8)))
