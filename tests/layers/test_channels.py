"""Channels dealt out and cut: against NumPy, any batch and size, wrong widths."""

import keras
import numpy as np
import pytest

from convzoo.layers import ChannelShuffle, ChannelSplit


def numpy(x):
    return keras.ops.convert_to_numpy(x)


@pytest.mark.parametrize("form", ["auto", *ChannelShuffle.FORMS])
def test_shuffle_deals_the_groups_out_in_turn(form):
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 6)).astype("float32")
    got = numpy(ChannelShuffle(2, form)(x))
    np.testing.assert_array_equal(got, x[..., [0, 3, 1, 4, 2, 5]])
    np.testing.assert_array_equal(numpy(ChannelShuffle(3, form)(got)), x)
    np.testing.assert_array_equal(numpy(ChannelShuffle(3, form)(x)), x[..., [0, 2, 4, 1, 3, 5]])


@pytest.mark.parametrize(
    ("device", "dtype", "form"),
    [("tpu", "bfloat16", "product"), ("tpu", "float32", "transpose"), ("cpu", "bfloat16", "transpose")],
)
def test_a_shuffle_is_a_product_where_it_is_exact(target, device, dtype, form):
    target(device)
    assert ChannelShuffle(2).choose_form(dtype) == form
    assert ChannelShuffle(2, "transpose").choose_form(dtype) == "transpose"
    x = keras.ops.cast(np.random.default_rng(0).normal(size=(2, 30)), dtype)
    got = keras.ops.cast(ChannelShuffle(5, dtype=dtype)(x), "float32")
    expected = numpy(keras.ops.cast(x, "float32")).reshape(2, 5, 6).swapaxes(1, 2).reshape(2, 30)
    np.testing.assert_array_equal(numpy(got), expected)


def test_split_cuts_in_order():
    x = np.random.default_rng(0).normal(size=(2, 3, 6)).astype("float32")
    first, second, third = ChannelSplit((1, 3, 2))(x)
    np.testing.assert_array_equal(numpy(first), x[..., :1])
    np.testing.assert_array_equal(numpy(second), x[..., 1:4])
    np.testing.assert_array_equal(numpy(third), x[..., 4:])


def test_unknown_sizes_policies_and_configs():
    for layer in (
        ChannelShuffle(2, dtype="mixed_bfloat16"),
        ChannelShuffle(2, "product", dtype="mixed_bfloat16"),
        ChannelSplit((2, 4), dtype="mixed_bfloat16"),
    ):
        inputs = keras.Input((None, None, 6))
        model = keras.Model(inputs, layer(inputs))
        outputs = keras.tree.flatten(model.output)
        assert [output.dtype for output in outputs] == ["bfloat16"] * len(outputs)
        assert sum(output.shape[-1] for output in outputs) == 6
        ones = model(np.ones((3, 5, 4, 6), "float32"))
        assert [tuple(output.shape[:3]) for output in keras.tree.flatten(ones)] == [(3, 5, 4)] * len(outputs)
        assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()


def test_widths_that_do_not_fit():
    with pytest.raises(ValueError, match="6 channels of odd do not divide by groups 4"):
        ChannelShuffle(4, name="odd")(np.zeros((1, 6), "float32"))
    with pytest.raises(ValueError, match=r"have 6 channels, but its parts \(2, 3\) take 5; change one"):
        ChannelSplit((2, 3))(np.zeros((1, 6), "float32"))
    with pytest.raises(ValueError, match="groups 0 is not a positive integer"):
        ChannelShuffle(0)
    with pytest.raises(ValueError, match="form 'gather' is not known to ChannelShuffle"):
        ChannelShuffle(2, "gather")
    with pytest.raises(ValueError, match="are not positive integers"):
        ChannelSplit((2, 0))
