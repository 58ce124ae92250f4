"""ChannelShuffle and ChannelSplit: values, implementations, serialization and errors."""

import functools

import keras
import numpy as np
import pytest
from helpers.run_layer_test import run_layer_test
from keras import ops

from convzoo.layers import ChannelShuffle, ChannelSplit


def images():
    return np.random.default_rng(0).normal(size=(2, 3, 4, 6)).astype("float32")


@pytest.mark.parametrize(("groups", "order"), [(2, [0, 3, 1, 4, 2, 5]), (3, [0, 2, 4, 1, 3, 5])])
def test_shuffle_interleaves_the_groups(groups, order):
    make_layer = functools.partial(ChannelShuffle, groups)
    results = run_layer_test(
        make_layer, images(), output_shape=(2, 3, 4, 6), implementations=ChannelShuffle.IMPLEMENTATIONS
    )
    np.testing.assert_array_equal(results.outputs[0], images()[..., order])
    np.testing.assert_array_equal(results.gradients[0][..., order], results.cotangents[0])


@pytest.mark.parametrize("implementation", ["auto", *ChannelShuffle.IMPLEMENTATIONS])
def test_shuffle_and_its_inverse(implementation):
    shuffle, inverse = ChannelShuffle(2, implementation), ChannelShuffle(3, implementation)
    np.testing.assert_array_equal(inverse(shuffle(images())), images())


@pytest.mark.parametrize(
    ("device", "dtype", "implementation"),
    [("tpu", "bfloat16", "product"), ("tpu", "float32", "transpose"), ("cpu", "bfloat16", "transpose")],
)
def test_shuffle_is_a_product_only_where_it_is_exact(target, device, dtype, implementation):
    target(device)
    assert ChannelShuffle(2).choose_implementation(dtype) == implementation
    assert ChannelShuffle(2, "transpose").choose_implementation(dtype) == "transpose"
    x = ops.cast(np.random.default_rng(0).normal(size=(2, 30)), dtype)
    outputs = ops.cast(ChannelShuffle(5, dtype=dtype)(x), "float32")
    expected = ops.convert_to_numpy(ops.cast(x, "float32")).reshape(2, 5, 6).swapaxes(1, 2).reshape(2, 30)
    np.testing.assert_array_equal(outputs, expected)


def test_split():
    sizes = (1, 3, 2)
    shapes = [(2, 3, 4, size) for size in sizes]
    results = run_layer_test(functools.partial(ChannelSplit, sizes), images(), output_shape=shapes)
    for output, expected in zip(results.outputs, np.split(images(), (1, 4), axis=3), strict=True):
        np.testing.assert_array_equal(output, expected)
    np.testing.assert_array_equal(results.gradients[0], np.concatenate(results.cotangents, axis=3))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: ChannelShuffle(4)(images()), "6 channels .* groups=4"),
        (lambda: ChannelShuffle(2)(keras.Input((4, 4, None))), r"\(None, 4, 4, None\)"),
        (lambda: ChannelShuffle(0), "groups=0"),
        (lambda: ChannelShuffle(2, "gather"), "'gather'"),
        (lambda: ChannelSplit((2, 3))(images()), r"6 channels, but sizes=\(2, 3\) have 5"),
        (lambda: ChannelSplit((2, 3))(keras.Input((4, 4, 6))), r"6 channels, but sizes=\(2, 3\) have 5"),
        (lambda: ChannelSplit((2, 0)), r"sizes=\(2, 0\)"),
        (lambda: ChannelSplit(()), r"sizes=\(\)"),
    ],
)
def test_bad_arguments_and_inputs(make, match):
    with pytest.raises(ValueError, match=match):
        make()
