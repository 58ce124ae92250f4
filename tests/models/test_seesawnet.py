"""Seesaw-Net and IGCV3: published sizes, groups per block, and mixing between groups."""

import keras
import numpy as np
import pytest

from convzoo.errors import ModelError
from convzoo.layers import ChannelShuffle, UnevenPointwiseConv2D
from convzoo.models import UnevenGroups, count, create_model

TINY = {"stages": ((1, 16, 1, 1), (2, 24, 2, 2)), "stem_strides": 1, "num_classes": 3, "input_shape": (16, 16, 3)}


def groups(model, part):
    """Returns the shares of each block's point-wise convolution `part`, "expand" or "project"."""
    layers = [layer for layer in model.layers if layer.name.endswith(f"_{part}_conv")]
    return [layer.shares for layer in layers if isinstance(layer, UnevenPointwiseConv2D)]


def shuffles(model, name="shuffle"):
    """Returns {block index: groups} of the channel shuffles called `name`."""
    shuffles = [layer for layer in model.layers if isinstance(layer, ChannelShuffle)]
    return {
        int(block[5:]): layer.groups for layer in shuffles for block, _, n in [layer.name.partition("_")] if n == name
    }


@pytest.mark.graphs
@pytest.mark.parametrize(
    ("name", "classes", "params", "madds"),
    [
        ("seesawnet_shuffle_1_0d", 1000, 3_644_184, 361.0e6),
        ("seesawnet_shuffle_0_5d", 1000, 2_728_024, 209.3e6),
        ("seesawnet_shuffle_1_0d_cifar", 10, 2_375_994, 181.1e6),
        ("seesawnet_shuffle_1_0d_cifar", 100, 2_491_284, 181.2e6),
        ("seesawnet_shuffle_0_5d_cifar", 10, 1_459_834, 108.2e6),
        ("seesawnet_share_v1_1_0d_cifar", 10, 2_375_994, 181.1e6),
        ("seesawnet_share_v0_1_0d_cifar", 10, 2_280_762, 175.0e6),
        ("seesawnet_share_v0_0_5d_cifar", 10, 1_406_074, 104.8e6),
        ("igcv3_1_0d_cifar", 10, 2_223_498, 166.1e6),
    ],
)
def test_sizes_match_the_paper_or_its_code(name, classes, params, madds):
    counted = count(create_model(name, num_classes=classes))
    assert counted.params == params
    assert counted.madds == pytest.approx(madds, abs=0.05e6)


@pytest.mark.graphs
def test_blocks_with_160_or_more_inputs_have_equal_groups():
    model = create_model("seesawnet_shuffle_1_0d")
    assert groups(model, "expand") == groups(model, "project") == [(1, 3)] * 26 + [(1, 1)] * 6
    assert shuffles(model) == dict.fromkeys(range(32), 2)


@pytest.mark.graphs
def test_share_reverses_the_ratio_and_shuffles_only_equal_groups():
    model = create_model("seesawnet_share_v1_0_5d")
    assert groups(model, "expand") == [(1, 3)] * 14 + [(1, 1)] * 3
    assert groups(model, "project") == [(3, 1)] * 14 + [(1, 1)] * 3
    assert shuffles(model) == dict.fromkeys(range(14, 17), 2)
    # Uneven groups up to the stage of 64 output channels.
    assert groups(create_model("seesawnet_share_v0_0_5d"), "project") == [(3, 1)] * 10 + [(1, 1)] * 7


@pytest.mark.graphs
def test_igcv3_has_equal_groups_and_on_cifar_two_shuffles():
    assert not shuffles(create_model("igcv3_0_5d"), "second_shuffle")
    model = create_model("igcv3_0_5d_cifar")
    assert groups(model, "expand") == groups(model, "project") == [(1, 1)] * 17
    assert shuffles(model) == dict.fromkeys(range(17), 2)
    assert shuffles(model, "second_shuffle")[0] == 8


@pytest.mark.parametrize(("equal_groups", "scale"), [("together", 1 / 320), ("separate", 1 / 160)])
def test_initial_scale_of_uneven_and_equal_groups(equal_groups, scale):
    """The authors draw from a normal distribution of variance 2 / n for a convolution of n outputs."""
    overrides = {**TINY, "stages": ((5, 64, 1, 1), (5, 320, 1, 1), (2, 320, 1, 1))}
    model = create_model("seesawnet_shuffle_0_5d", **overrides, operator={"equal_groups": equal_groups})
    uneven = model.get_layer("block1_project_conv").kernels
    assert [np.var(kernel) / 2 for kernel in uneven] == pytest.approx([1 / 80, 1 / 240], rel=0.1)
    equal = model.get_layer("block2_project_conv").kernels
    assert [np.var(kernel) / 2 for kernel in equal] == pytest.approx([scale, scale], rel=0.1)


@pytest.mark.graphs
def test_blocks_have_one_activation():
    model = create_model("seesawnet_shuffle_0_5d", **TINY)
    names = [layer.name for layer in model.layers if isinstance(layer, keras.layers.Activation)]
    assert names == ["stem_activation", *(f"block{i}_depthwise_activation" for i in range(3)), "head_activation"]


@pytest.mark.graphs
def test_options_of_the_networks_for_faces():
    model = create_model("seesawnet_share_v1_0_5d", **TINY, se_ratio=0.25, activation="silu", expand_activation=True)
    assert model.get_layer("block1_se_reduce").filters == 8
    assert model.get_layer("block1_expand_activation").activation is keras.activations.silu


@pytest.mark.parametrize("ratio", [(1, 3), (1, 1), (1, 2, 1)])
@pytest.mark.parametrize("mixing", ["shuffle", "share"])
@pytest.mark.parametrize("group", [slice(0, 4), slice(12, 16)], ids=["first", "last"])
def test_every_input_group_reaches_every_output_channel(mixing, ratio, group):
    """Within three blocks. Without mixing the first and the last group would stay independent."""
    overrides = {**TINY, "stages": ((2, 16, 3, 1),), "stem_filters": 16}
    model = create_model("seesawnet_shuffle_0_5d", **overrides, operator=UnevenGroups(ratio, mixing=mixing))
    stem, last = model.get_layer("stem_activation").output, model.get_layer("block2_project_bn").output
    part = keras.Model(stem, last)
    rng = np.random.default_rng(0)
    x = rng.uniform(1, 2, size=(1, 16, 16, 16)).astype("float32")
    changed = x.copy()
    changed[..., group] += 1
    difference = np.asarray(part(changed)) - np.asarray(part(x))
    assert (abs(difference).max((0, 1, 2)) > 1e-6).all()


@pytest.mark.graphs
@pytest.mark.parametrize(
    ("operator", "value"),
    [
        ({"mixing": "tip"}, "'tip'.*shuffle, two_shuffles, share"),
        ({"even_by": "width"}, "'width'.*inputs, outputs"),
        ({"ratio": (2, 3)}, "block0_expand_conv"),
        ({"ratio": (2, 2)}, r"\(2, 2\)"),
    ],
)
def test_invalid_operators(operator, value):
    with pytest.raises(ModelError, match=value):
        create_model("seesawnet_shuffle_0_5d", **TINY, operator=operator)
