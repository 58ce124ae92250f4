"""Dilation in place of strides: the dilated feature maps contain the original ones."""

import keras
import numpy as np
import pytest

from convzoo import models
from convzoo.errors import ModelError
from convzoo.models.dilation import dilate, strides_of

pytestmark = pytest.mark.graphs

# Networks without global averages inside, with symmetric padding, so that position (f i, f j) is the original (i, j).
NETWORKS = {
    "resnet18": {"width_coefficient": 0.25},
    "resnet50": {"width_coefficient": 0.125},
    "lean_resnet18": {"width_coefficient": 0.25, "operator": {"group_size": 4, "stencil": "9-point"}},
    "mobilenet_v1_x0_25": {"padding": "symmetric"},
    "mobilenet_v2_x1_0": {"padding": "symmetric"},
    "shufflenet_v2_x0_5": {},
    "seesawnet_shuffle_0_5d": {"padding": "symmetric"},
}

# Not marked slow.
ALWAYS = ("resnet18", "mobilenet_v2_x1_0")


def network(name, **arguments):
    keras.utils.set_random_seed(0)
    model = models.create_model(name, input_shape=(64, 64, 3), features=True, **NETWORKS.get(name, {}), **arguments)
    rng = np.random.default_rng(0)
    # Random offsets make the activations of all layers differ from zero.
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
def test_dilated_feature_maps_contain_the_original_ones(name, output_stride):
    model = network(name)
    dilated = dilate(model, output_stride)
    before, after = model(images(), training=False), dilated(images(), training=False)
    assert set(before) == set(after)
    for key, expected in before.items():
        expected, actual = np.asarray(expected), np.asarray(after[key])
        factor = max(64 // expected.shape[1] // output_stride, 1)
        assert actual.shape[1] == expected.shape[1] * factor
        scale = np.abs(expected).max()
        actual = actual[:, ::factor, ::factor]
        np.testing.assert_allclose(actual / scale, expected / scale, atol=1e-5, err_msg=key)


def test_same_padding_keeps_the_odd_positions():
    arguments = {"input_shape": (64, 64, 3), "features": True, "padding": "same"}
    model = models.create_model("mobilenet_v1_x0_25", **arguments)
    before, after = model(images(), training=False), dilate(model, 16)(images(), training=False)
    expected, actual = np.asarray(before["reduction_5"]), np.asarray(after["reduction_5"])
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual[:, 1::2, 1::2] / scale, expected / scale, atol=1e-5)


def test_dilation_keeps_the_weights_of_every_layer_class():
    for name in ("mobilenet_v1_condconv_x0_25", "shufflenet_v2_drconv_x0_5", "efficientnet_condconv_b0_4e"):
        model = models.create_model(name, input_shape=(64, 64, 3), features=True)
        dilated = dilate(model, 8)
        assert dilated.output["reduction_5"].shape[1:3] == (8, 8)
        for original, copy in zip(model.weights, dilated.weights, strict=True):
            np.testing.assert_array_equal(original, copy)
        assert np.all(np.isfinite(dilated(images(), training=False)["reduction_5"]))


def test_strides_of_feature_maps():
    model = network("resnet18")
    strides = strides_of(model)
    assert [strides[id(model.output[f"reduction_{level}"])] for level in (1, 2, 3, 4, 5)] == [2, 4, 8, 16, 32]


@pytest.mark.parametrize("stride", [0, 12, -8])
def test_invalid_output_strides(stride):
    with pytest.raises(ModelError, match=f"output_stride .*{stride}"):
        dilate(network("resnet18"), stride)


def test_layers_that_cannot_be_dilated():
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, 2, "same")(inputs)
    pooled = keras.Model(inputs, keras.layers.AveragePooling2D(3, 1, name="pool")(keras.layers.Conv2D(4, 3, 2)(x)))
    with pytest.raises(ModelError, match="pool is a AveragePooling2D"):
        dilate(pooled, 2)
    upsampling = keras.Model(inputs, keras.layers.UpSampling2D(name="up")(x))
    with pytest.raises(ModelError, match="up is a UpSampling2D"):
        dilate(upsampling, 8)
    nested = keras.Model(inputs, keras.Sequential([keras.layers.Conv2D(4, 3, 2)], name="inner")(x))
    with pytest.raises(ModelError, match="inner"):
        dilate(nested, 2)
    uneven = keras.Model(inputs, keras.layers.Conv2D(4, 3, (2, 1), name="uneven")(inputs))
    with pytest.raises(ModelError, match=r"uneven .*\(2, 1\)"):
        dilate(uneven, 8)
