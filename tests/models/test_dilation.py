"""Strides replaced by dilation: the old feature maps are found within the new ones."""

import keras
import numpy as np
import pytest

from convzoo import models
from convzoo.models.dilation import dilate, strides_of

pytestmark = pytest.mark.graphs

# Networks without averages of whole maps inside. Their padding, and so where the old positions lie in the new maps.
NETWORKS = {
    "resnet18": {"width_coefficient": 0.25},
    "resnet50": {"width_coefficient": 0.125},
    "lean_resnet18": {"width_coefficient": 0.25, "group_size": 4, "stencil": "9-point"},
    "mobilenet_v1_x0_25": {"padding": "symmetric"},
    "mobilenet_v2_x1_0": {"padding": "symmetric"},
    "shufflenet_v2_x0_5": {},
    "seesawnet_shuffle_0_5d": {"padding": "symmetric"},
}

ALWAYS = ("resnet18", "mobilenet_v2_x1_0")  # in every run of the tests


def network(name, **arguments):
    keras.utils.set_random_seed(0)
    model = models.create_model(name, input_shape=(64, 64, 3), features=True, **NETWORKS.get(name, {}), **arguments)
    rng = np.random.default_rng(0)
    # Statistics under which the numbers neither vanish nor grow.
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.beta.assign(rng.normal(size=layer.beta.shape) * 0.1)
    return model


def images():
    return np.random.default_rng(1).normal(size=(2, 64, 64, 3)).astype("float32")


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in ALWAYS else [pytest.mark.slow]) for name in NETWORKS]
)
def test_the_old_maps_are_within_the_new_ones(name, output_stride):
    model = network(name)
    dilated = dilate(model, output_stride)
    before, after = model(images(), training=False), dilated(images(), training=False)
    assert set(before) == set(after)
    for key, old in before.items():
        old, new = np.asarray(old), np.asarray(after[key])
        finer = max(64 // old.shape[1] // output_stride, 1)
        assert new.shape[1] == old.shape[1] * finer
        scale = np.abs(old).max()
        np.testing.assert_allclose(new[:, ::finer, ::finer] / scale, old / scale, atol=1e-5, err_msg=key)


def test_tensorflows_padding_takes_the_odd_positions():
    arguments = {"input_shape": (64, 64, 3), "features": True, "padding": "same"}
    model = models.create_model("mobilenet_v1_x0_25", **arguments)
    before, after = model(images(), training=False), dilate(model, 16)(images(), training=False)
    old, new = np.asarray(before["reduction_5"]), np.asarray(after["reduction_5"])
    scale = np.abs(old).max()
    np.testing.assert_allclose(new[:, 1::2, 1::2] / scale, old / scale, atol=1e-5)


def test_every_kind_of_layer_dilates_and_keeps_its_weights():
    for name in ("mobilenet_v1_condconv_x0_25", "shufflenet_v2_drconv_x0_5", "efficientnet_condconv_b0_4e"):
        model = models.create_model(name, input_shape=(64, 64, 3), features=True)
        dilated = dilate(model, 8)
        assert dilated.output["reduction_5"].shape[1:3] == (8, 8)
        for ours, theirs in zip(model.weights, dilated.weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert np.all(np.isfinite(dilated(images(), training=False)["reduction_5"]))


def test_strides():
    model = network("resnet18")
    strides = strides_of(model)
    assert [strides[id(model.output[f"reduction_{level}"])] for level in (1, 2, 3, 4, 5)] == [2, 4, 8, 16, 32]


@pytest.mark.parametrize("stride", [0, 12, -8])
def test_strides_that_cannot_be(stride):
    with pytest.raises(models.ModelError, match=f"power of two, as 8 or 16, not {stride}"):
        dilate(network("resnet18"), stride)


def test_networks_that_cannot_be_dilated():
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, 2, "same")(inputs)
    pooled = keras.Model(inputs, keras.layers.AveragePooling2D(3, 1, name="pool")(keras.layers.Conv2D(4, 3, 2)(x)))
    with pytest.raises(models.ModelError, match="pool is a AveragePooling2D, which cannot be dilated"):
        dilate(pooled, 2)
    growing = keras.Model(inputs, keras.layers.UpSampling2D(name="up")(x))
    with pytest.raises(models.ModelError, match="up is a UpSampling2D; only networks that grow coarser"):
        dilate(growing, 8)
    nested = keras.Model(inputs, keras.Sequential([keras.layers.Conv2D(4, 3, 2)], name="inner")(x))
    with pytest.raises(models.ModelError, match="models among its layers"):
        dilate(nested, 2)
    uneven = keras.Model(inputs, keras.layers.Conv2D(4, 3, (2, 1), name="uneven")(inputs))
    with pytest.raises(models.ModelError, match="uneven has unequal strides"):
        dilate(uneven, 8)
