"""DRConv networks: their DRConv layers and masks, sizes, and region maps."""

import keras
import numpy as np
import pytest

from convzoo.errors import ModelError
from convzoo.layers import DRConv2D, GuidedMask
from convzoo.models import DRConv, Static, count, create_model, region_maps

TINY = {"num_classes": 5, "input_shape": (32, 32, 3)}


def layers_of(model, kind):
    return [layer.name for layer in model.layers if isinstance(layer, kind)]


def small(name="mobilenet_v1_drconv_x0_25", input_shape=(32, 32, 3), **settings):
    operator = {"regions": 3, "bank_size": 2, **settings}
    return create_model(name, 5, input_shape, stem_strides=1, operator=operator)


@pytest.mark.graphs
def test_shufflenet_has_two_drconvs_and_one_mask_per_block():
    model = create_model("shufflenet_v2_drconv_x0_5", **TINY)
    assert layers_of(model, GuidedMask) == [f"block{i}_mask" for i in range(16)]
    expected = [f"block{i}_right_{part}_conv" for i in range(16) for part in ("expand", "project")]
    assert layers_of(model, DRConv2D) == expected
    assert model.get_layer("stem_conv").use_bias
    assert model.get_layer("head_conv").use_bias


@pytest.mark.graphs
def test_every_pointwise_convolution_of_the_mobilenets_is_a_drconv():
    assert layers_of(small(), DRConv2D) == [f"block{i}_pointwise_conv" for i in range(13)]
    names = layers_of(small("mobilenet_v2_drconv_x1_0"), DRConv2D)
    expected = [f"block{i}_{part}_conv" for i in range(17) for part in ("expand", "project")]
    assert names == expected[1:]


@pytest.mark.graphs
@pytest.mark.parametrize(
    ("operator", "params", "madds"),
    [
        # 43 M plus the generated kernels: 64 multiply-adds per weight of the 115,200 in static convolutions.
        ({}, 2_293_792, 50.1e6),
        ({"bank_size": 4}, 1_776_672, 46.4e6),
        # 64 more base kernels per layer than the shared bank's 8.
        ({"generator": "grouped"}, 2_293_792 + 64 * 115_200, 50.1e6),
        # One kernel per image: an eighth of the mixing coefficients and no mask.
        ({"regions": 1}, 2_188_320, 41.4e6),
    ],
)
def test_sizes_of_drconv_shufflenet_x0_5(operator, params, madds):
    counted = count(create_model("shufflenet_v2_drconv_x0_5", operator=operator))
    assert counted.params == params
    assert counted.madds == pytest.approx(madds, abs=0.05e6)


@pytest.mark.graphs
@pytest.mark.parametrize(("mask_per", "madds"), [("block", 43_653_664), ("layer", 45_008_416)])
def test_generation_counted_as_in_the_authors_code(mask_per, madds):
    """By hand: 42,732,064 without generation, 8 x 115,200 generated weights, and 16 more masks of 1,354,752 in all."""
    model = create_model("shufflenet_v2_drconv_x0_5", operator={"mask_per": mask_per})
    assert count(model, generation="weights").madds == madds
    with pytest.raises(ModelError, match="'kernels'"):
        count(model, generation="kernels")


@pytest.mark.graphs
def test_one_region_needs_no_mask():
    model = small(regions=1)
    assert not layers_of(model, GuidedMask)
    assert len(layers_of(model, DRConv2D)) == 13
    assert region_maps(model) is None


@pytest.mark.parametrize("size", [32, 45])
def test_region_maps_are_the_argmax_of_the_masks(size):
    model = small("shufflenet_v2_drconv_x0_5", input_shape=(None, None, 3))
    images = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype("float32")
    assert np.isfinite(keras.ops.convert_to_numpy(model(images))).all()
    maps = region_maps(model)(images)
    assert list(maps) == [f"block{i}" for i in range(16)]
    mask = keras.Model(model.inputs, model.get_layer("block5_mask").output)(images)
    expected = keras.ops.convert_to_numpy(mask).argmax(-1)
    np.testing.assert_array_equal(maps["block5"], expected)
    assert maps["block0"].shape == (2, size, size)
    assert keras.backend.standardize_dtype(maps["block0"].dtype) == "int32"


@pytest.mark.graphs
def test_an_operator_turns_a_static_network_into_drconv_and_back():
    assert len(layers_of(create_model("resnet18", **TINY), DRConv2D)) == 0
    assert len(layers_of(create_model("efficientnet_b0", **TINY, operator=DRConv(regions=2)), GuidedMask)) == 16
    static = create_model("shufflenet_v2_drconv_x0_5", operator=Static(), bias_at_ends=False)
    assert count(static).params == count(create_model("shufflenet_v2_x0_5")).params


@pytest.mark.graphs
def test_a_mask_per_layer():
    """The mask of the authors' other reading: each convolution has a mask of its own input."""
    model = small(mask_per="layer")
    names = [f"block{i}_pointwise_conv" for i in range(13)]
    assert layers_of(model, GuidedMask) == [f"{name}_mask" for name in names]
    for name in names:
        convolved, mask = model.get_layer(name).input
        assert model.get_layer(f"{name}_mask").input is convolved
        assert mask is model.get_layer(f"{name}_mask").output
    assert list(region_maps(model).output) == names


@pytest.mark.graphs
@pytest.mark.parametrize(
    ("name", "operator", "value"),
    [
        ("shufflenet_v2_drconv_x0_5", {"generator": "bank"}, "'bank'"),
        ("shufflenet_v2_drconv_x0_5", {"regions": 0}, "regions.*0"),
        ("shufflenet_v2_drconv_x0_5", {"bank_size": 2.5}, r"bank_size.*2\.5"),
        ("shufflenet_v2_drconv_x0_5", {"mask_per": "stage"}, "'stage'.*block, layer"),
        ("shufflenet_v2_x0_5", {"bank_size": 4}, "bank_size.*name.*DRConv"),
        ("mobilenet_v1_condconv_x0_25", {"regions": 4}, "CondConv has no setting 'regions'"),
        ("resnet18", DRConv(), "1x1 convolutions.* resnet18"),
    ],
)
def test_invalid_operators(name, operator, value):
    with pytest.raises(ModelError, match=value):
        create_model(name, **TINY, operator=operator)


@pytest.mark.graphs
def test_settings_of_layers_that_a_setting_removes_are_accepted():
    operator = {"first_block": None, "classifier": False, "num_experts": 4}
    model = create_model("mobilenet_v1_condconv_x0_25", **TINY, operator=operator)
    assert count(model).params == count(create_model("mobilenet_v1_x0_25", **TINY)).params
