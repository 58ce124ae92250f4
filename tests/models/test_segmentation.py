"""Segmenters: logits with every family and image size, output strides, and weights of a classifier."""

import keras
import numpy as np
import pytest

from convzoo import models
from convzoo.errors import ModelError
from convzoo.models.backbone import load_backbone

pytestmark = pytest.mark.graphs

SMALL = {"filters": 8, "low_level_filters": 4}
BACKBONES = {
    "resnet18": {"width_coefficient": 0.125},
    "lean_resnet18": {"width_coefficient": 0.125},
    "efficientnet_b0": {},
    "mobilenet_v1_condconv_x0_25": {},
    "mobilenet_v2_x1_0": {},
    "mnasnet_a1": {},
    "shufflenet_v2_drconv_x0_5": {},
    "seesawnet_share_v1_0_5d": {},
}

# Not marked slow.
ALWAYS = ("lean_resnet18", "mobilenet_v1_condconv_x0_25")


def images(height=64, width=64):
    return np.random.default_rng(0).normal(size=(2, height, width, 3)).astype("float32")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in ALWAYS else [pytest.mark.slow]) for name in BACKBONES]
)
def test_logits_for_every_pixel(name):
    model = models.create_segmenter(name, 5, (None, None, 3), **SMALL, **BACKBONES[name])
    assert model.output_shape == (None, None, None, 5)
    # The output stride does not divide the first size.
    for size in ((50, 70), (64, 64)):
        logits = model(images(*size), training=False)
        assert logits.shape == (2, *size, 5)
        assert keras.backend.standardize_dtype(logits.dtype) == "float32"
        assert np.all(np.isfinite(logits))


@pytest.mark.parametrize(
    ("output_stride", "size", "rates"), [(8, 8, (12, 24, 36)), (16, 4, (6, 12, 18)), (32, 2, (3, 6, 9))]
)
def test_output_stride_sets_size_and_dilation_rates(output_stride, size, rates):
    model = models.create_segmenter("resnet18", 3, (64, 64, 3), output_stride=output_stride, width_coefficient=0.125)
    assert model.get_layer("segment_pyramid_project_conv").output.shape[1:3] == (size, size)
    assert [layer.dilation_rate[0] for layer in model.layers if layer.name.startswith("segment_pyramid_rate") and
            layer.name.endswith("depthwise_conv")] == list(rates)  # fmt: skip
    assert model.get_layer("segment_decoder_resize").output.shape[1:3] == (16, 16)
    assert models.count(model).params == sum(np.prod(w.shape) for w in model.trainable_weights)


def test_backbone_weights_of_a_classifier_are_loaded(tmp_path):
    path = str(tmp_path / "resnet.weights.h5")
    overrides = {"width_coefficient": 0.125}
    classifier = models.create_model("resnet18", 7, (64, 64, 3), **overrides)
    models.save_weights(classifier, path, overrides)
    model = models.create_segmenter("resnet18", 3, (64, 64, 3), path, **SMALL)
    for layer in classifier.layers:
        if layer.name.startswith(("stem", "block")):
            for loaded, stored in zip(model.get_layer(layer.name).get_weights(), layer.get_weights(), strict=True):
                np.testing.assert_array_equal(loaded, stored)


def test_weights_of_a_deeper_backbone_are_rejected(tmp_path):
    path = str(tmp_path / "resnet.weights.h5")
    overrides = {"width_coefficient": 0.125}
    models.save_weights(models.create_model("resnet18", 7, (64, 64, 3), **overrides), path, overrides)
    shorter = {**overrides, "repeats": (2, 2, 2, 1)}
    with pytest.raises(ModelError, match="resnet18"):
        load_backbone(models.create_segmenter("resnet18", 3, (64, 64, 3), **SMALL, **shorter), path)


def test_save_weights_rejects_a_segmenter(tmp_path):
    model = models.create_segmenter("resnet18", 3, (64, 64, 3), **SMALL, width_coefficient=0.125)
    with pytest.raises(ModelError, match="resnet18_segmenter"):
        models.save_weights(model, str(tmp_path / "segmenter.weights.h5"))


def test_backbone_for_small_images():
    model = models.create_segmenter(
        "lean_resnet18_cifar", 3, (32, 32, 3), output_stride=8, **SMALL, width_coefficient=0.125
    )
    assert model.get_layer("segment_decoder_resize").output.shape[1:3] == (8, 8)
    # The backbone's last stride is 8 although 16 is allowed; the pyramid's rates follow it.
    model = models.create_segmenter("lean_resnet18_cifar", 3, (32, 32, 3), **SMALL, width_coefficient=0.125)
    assert model.get_layer("segment_pyramid_rate12_conv").dilation_rate == (12, 12)
    assert model.output_shape == (None, 32, 32, 3)


def test_lean_convolutions_in_the_head():
    """Of the backbone and of the head, dilated in the pyramid; other operators stay in the backbone."""
    settings = {**SMALL, "output_stride": 8, "width_coefficient": 0.125, "atrous_rates": (1, 2)}
    for decoder in ("deeplabv3plus", "deeplabv3"):
        model = models.create_segmenter(
            "resnet18", 3, (32, 32, 3), decoder=decoder, operator=models.Lean("9-point"), **settings
        )
        layer = model.get_layer("segment_pyramid_rate2_conv")
        assert (type(layer).__name__, layer.stencil, layer.dilation_rate) == ("LeanConv2D", "9-point", (2, 2))
        names = [layer.name for layer in model.layers if isinstance(layer, keras.layers.DepthwiseConv2D)]
        assert not names
        ordinary = models.create_segmenter("resnet18", 3, (32, 32, 3), decoder=decoder, **settings)
        assert models.count(model).params < models.count(ordinary).params
    conditional = models.create_segmenter(
        "resnet18", 3, (32, 32, 3), operator=models.CondConv(num_experts=2), **settings
    )
    assert type(conditional.get_layer("segment_pyramid_rate2_depthwise_conv")) is keras.layers.DepthwiseConv2D
    with pytest.raises(ModelError, match="filters=6 does not fit the operator"):
        models.create_segmenter(
            "resnet18", 3, (32, 32, 3), operator=models.Lean(group_size=4), **{**settings, "filters": 6}
        )


def test_keras_file_round_trip(tmp_path):
    model = models.create_segmenter("lean_resnet18", 3, (32, 32, 3), **SMALL, width_coefficient=0.125)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(images(32, 32)), model(images(32, 32)), atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ({"backbone": "resnet19"}, "'resnet19'.*resnet18"),
        ({"num_classes": 0}, "num_classes .*0"),
        ({"output_stride": 12}, "output_stride .*12"),
        ({"features": True}, "features"),
        ({"atrous_rates": (0,)}, "atrous_rates .*0"),
        ({"atrous_rates": (2, 2)}, r"atrous_rates=\(2, 2\)"),
        ({"filters": 0}, "filters .*0"),
        ({"head_dropout_rate": 1.5}, r"head_dropout_rate .*1\.5"),
        ({"widths": 1}, "'widths'"),
    ],
)
def test_invalid_arguments(arguments, value):
    with pytest.raises(ModelError, match=value) as error:
        models.create_segmenter(**{"backbone": "resnet18", "num_classes": 3, **arguments})
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("network", ["MobileNetV2", "ResNet50"])
def test_any_functional_model_is_a_backbone(network):
    """Its feature maps are the last ones at each stride, with its weights, whether a classifier follows them or not."""
    build = getattr(keras.applications, network)
    backbone = build(input_shape=(64, 64, 3), weights=None, include_top=False)
    classifier = build(input_shape=(64, 64, 3), weights=None, classes=7)
    model = models.create_segmenter(backbone, 5, output_stride=32, **SMALL)
    assert model.output_shape == (None, 64, 64, 5)
    last = {"MobileNetV2": "out_relu", "ResNet50": "conv5_block3_out"}[network]
    features = keras.Model(model.inputs, model.get_layer(last).output)
    x = images()
    np.testing.assert_allclose(features(x), backbone(x), rtol=1e-4, atol=1e-5)
    other = models.create_segmenter(classifier, 5, output_stride=32, **SMALL)
    assert [layer.name for layer in other.layers[1:]] == [layer.name for layer in model.layers[1:]]
    low = {"MobileNetV2": "block_3_expand_relu", "ResNet50": "conv2_block3_out"}[network]
    assert model.get_layer("segment_decoder_low_conv").input is model.get_layer(low).output


def test_a_model_with_a_dict_of_feature_maps_is_a_backbone():
    inputs = keras.Input((32, 32, 3))
    fine = keras.layers.Conv2D(4, 3, strides=2, padding="same", name="fine")(inputs)
    coarse = keras.layers.Conv2D(4, 3, strides=4, name="coarse")(fine)  # 4x4 of 16x16: valid padding
    with pytest.raises(ModelError, match="feature map"):
        models.create_segmenter(keras.Model(inputs, keras.layers.Conv2D(2, 9, strides=4)(inputs)), 3)
    model = models.create_segmenter(keras.Model(inputs, {"fine": fine, "coarse": coarse}), 3, **SMALL)
    assert model.output_shape == (None, 32, 32, 3)
    assert model.get_layer("segment_pyramid_point_conv").input is model.get_layer("coarse").output


def test_a_model_takes_no_arguments_of_a_builder():
    backbone = keras.applications.MobileNetV2(input_shape=(64, 64, 3), weights=None, include_top=False)
    with pytest.raises(ModelError, match=r"input_shape, bn_momentum .*mobilenetv2"):
        models.create_segmenter(backbone, 3, (64, 64, 3), bn_momentum=0.9)
    inputs = [keras.Input((8, 8, 3)), keras.Input((8, 8, 3))]
    with pytest.raises(ModelError, match="one input"):
        models.create_segmenter(keras.Model(inputs, keras.layers.Add()(inputs)), 3)


def test_feature_maps_in_any_order_and_sequential_models():
    inputs = keras.Input((32, 32, 3))
    fine = keras.layers.Conv2D(4, 3, strides=2, padding="same")(inputs)
    coarse = keras.layers.Conv2D(4, 3, strides=8, padding="same", name="coarse")(fine)
    model = models.create_segmenter(keras.Model(inputs, {"a": coarse, "b": fine}), 3, **SMALL)
    assert model.get_layer("segment_pyramid_point_conv").input is model.get_layer("coarse").output
    sequential = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(4, 3, strides=2, padding="same")])
    assert models.create_segmenter(sequential, 3, **SMALL).output_shape == (None, 32, 32, 3)


def _dict_model(key, outputs):
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", name=f"{key}_conv")(inputs)
    return keras.Model(inputs, outputs(x))


@pytest.mark.parametrize(
    ("backbone", "arguments", "message"),
    [
        (lambda: _dict_model("a", lambda x: {"head": x}), {}, "returns head"),
        (lambda: _dict_model("a", lambda x: {"x": x, "y": keras.layers.Flatten()(x)}), {}, "returns x, y"),
        (lambda: _dict_model("segment", lambda x: x), {}, "'segment_conv'"),
        (lambda: "resnet18", {"output_stride": "16"}, "output_stride .*'16'"),
        (lambda: "resnet18", {"output_stride": 64}, "output_stride .*64"),
        (lambda: "resnet18", {"atrous_rates": 6}, "atrous_rates .*6"),
        (lambda: "resnet18", {"head_dropout_rate": "0.1"}, "head_dropout_rate .*'0.1'"),
    ],
)
def test_unsuitable_backbones_and_arguments(backbone, arguments, message):
    with pytest.raises(ModelError, match=message):
        models.create_segmenter(backbone(), 3, **SMALL, **arguments)
