"""Detectors: size of the published SSD300 networks, outputs in the order of anchors, operators, backbone weights."""

import keras
import numpy as np
import pytest
from keras import ops

from convzoo import models
from convzoo.errors import ModelError

pytestmark = pytest.mark.graphs

SMALL = "mobilenet_v1_x0_25"


# Multiply-adds in millions: arithmetic from the published configuration, with 90 classes and background. The parameters
# are those of docs/detection.md.
@pytest.mark.parametrize(
    ("backbone", "params", "madds"),
    [
        ("mobilenet_v1_x0_5", 2_071_583, 352.2),
        ("mobilenet_v1_x0_75", 4_110_735, 728.0),
        ("mobilenet_v1_x1_0", 6_819_839, 1237),
        ("mobilenet_v1_condconv_x0_5", 11_395_071, 362.8),
        ("mobilenet_v1_condconv_x0_75", 24_966_447, 751.9),
        ("mobilenet_v1_condconv_x1_0", 43_788_127, 1279),
    ],
)
def test_size_of_ssd300(backbone, params, madds):
    model = models.create_detector(f"ssd300_{backbone}", num_classes=91)
    counted = models.count(model)
    assert counted.madds / 1e6 == pytest.approx(madds, rel=1e-3)
    assert counted.params == params
    assert models.anchors(model).shape == (1917, 4)
    if backbone == "mobilenet_v1_x1_0":
        assert counted.params == pytest.approx(6.807e6, rel=0.01)  # OpenVINO's table of public detectors
        maps = [model.get_layer(f"detect_boxes{index}_conv").input.shape[1:] for index in range(6)]
        assert maps == [(19, 19, 512), (10, 10, 1024), (5, 5, 512), (3, 3, 256), (2, 2, 256), (1, 1, 128)]


def test_outputs_are_in_the_order_of_the_anchors():
    model = models.create_detector(SMALL, 3, (160, 256, 3), extra_filters=(64, 32))
    # Each box predictor returns the number of its filter, so that an output names its shape and coordinate.
    for index in range(4):
        layer = model.get_layer(f"detect_boxes{index}_conv")
        layer.kernel.assign(ops.zeros_like(layer.kernel))
        layer.bias.assign(np.arange(layer.filters))
    outputs = model(np.zeros((2, 160, 256, 3), "float32"), training=False)
    boxes, anchors = ops.convert_to_numpy(outputs["boxes"]), models.anchors(model)
    assert boxes.shape == (2, len(anchors), 4)
    assert outputs["classes"].shape == (2, len(anchors), 3)
    np.testing.assert_allclose(ops.convert_to_numpy(ops.sigmoid(outputs["classes"])).mean(), 0.01, rtol=0.1)
    sizes = [model.get_layer(f"detect_boxes{index}_conv").output.shape[1:3] for index in range(4)]
    assert sizes == [(10, 16), (5, 8), (3, 4), (2, 2)]
    first = 0
    for (height, width), count in zip(sizes, (3, 6, 6, 6), strict=True):
        expected = np.tile(np.arange(4 * count).reshape(count, 4), (height * width, 1))
        np.testing.assert_allclose(boxes[0, first : first + len(expected)], expected)
        centers = anchors[first : first + len(expected), :2] + anchors[first : first + len(expected), 2:]
        np.testing.assert_allclose(centers[count - 1] / 2, [0.5 / height, 0.5 / width], rtol=1e-5)
        first += len(expected)
    assert first == len(anchors)


@pytest.mark.parametrize("lite", [False, True])
@pytest.mark.parametrize(
    ("operator", "layer"),
    [
        (models.CondConv(num_experts=2, first_block=12), "CondConv2D"),
        (models.DRConv(regions=2), "DRConv2D"),
        (models.Lean("5-point"), "LeanConv2D"),
        (models.UnevenGroups(), "UnevenPointwiseConv2D"),
    ],
)
def test_operators_replace_the_extra_maps_but_no_predictor(operator, layer, lite):
    backbone = "resnet18" if layer == "LeanConv2D" else SMALL
    model = models.create_detector(
        backbone, 3, (64, 64, 3), operator=operator, lite=lite, width_coefficient=0.25, extra_filters=(512,)
    )
    kinds = {found.name: type(found).__name__ for found in model.layers}
    replaced = [name for name, kind in kinds.items() if kind == layer]
    assert any(name.startswith("block") for name in replaced)
    if not (lite and layer == "LeanConv2D"):  # it replaces 3x3 convolutions, and lite extra maps have none
        assert any(name.startswith("detect_extra0") for name in replaced)
    predictors = [name for name in kinds if name.startswith(("detect_boxes", "detect_classes")) and "conv" in name]
    assert {kinds[name] for name in predictors} == {"Conv2D", *(["DepthwiseConv2D"] if lite else [])}
    outputs = model(np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype("float32"), training=True)
    assert all(np.all(np.isfinite(ops.convert_to_numpy(x))) for x in outputs.values())


def test_an_operator_of_no_block_replaces_no_extra_map():
    operator = models.CondConv(num_experts=2, first_block=None, head=True)
    model = models.create_detector("mobilenet_v2_x1_0", 3, operator=operator)
    assert type(model.get_layer("detect_extra0_2_conv")) is keras.layers.Conv2D


def test_integers_of_numpy():
    model = models.create_detector(SMALL, np.uint8(90), tuple(np.array([64, 64, 3], np.uint8)), extra_filters=())
    assert model.output["classes"].shape[1:] == (72, 90)


def test_lite_has_fewer_weights():
    full, lite = (models.create_detector("mobilenet_v2_x1_0", 90, lite=lite) for lite in (False, True))
    assert models.count(lite).params < models.count(full).params
    assert models.anchors(lite).shape == models.anchors(full).shape


def test_weights_of_a_classifier_are_loaded(tmp_path):
    path = str(tmp_path / "net.weights.h5")
    classifier = models.create_model("mobilenet_v1_x1_0", 7, (64, 64, 3), width_coefficient=0.125)
    models.save_weights(classifier, path, {"width_coefficient": 0.125})
    model = models.create_detector("mobilenet_v1_x1_0", 3, (64, 64, 3), path, extra_filters=(512,))
    assert model.get_layer("detect_extra0_2_conv").filters == 64  # the width in the file scales the extra maps too
    for layer in classifier.layers:
        if layer.name.startswith(("stem", "block")):
            for loaded, stored in zip(model.get_layer(layer.name).get_weights(), layer.get_weights(), strict=True):
                np.testing.assert_array_equal(loaded, stored)
    with pytest.raises(ModelError, match="detector"):
        models.save_weights(model, path)


def test_keras_file_round_trip(tmp_path):
    path = str(tmp_path / "detector.keras")
    model = models.create_detector(SMALL, 3, (64, 64, 3), extra_filters=(64,), operator=models.CondConv(num_experts=2))
    images = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype("float32")
    model.save(path)
    loaded = keras.models.load_model(path)
    for name, expected in model(images, training=False).items():
        np.testing.assert_allclose(
            *map(ops.convert_to_numpy, (loaded(images, training=False)[name], expected)), atol=1e-5
        )
    np.testing.assert_array_equal(models.anchors(loaded), models.anchors(model))


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ({"num_classes": 0}, "num_classes .* 0"),
        ({"input_shape": (None, 64, 3)}, "input_shape .* None"),
        ({"input_shape": (64, 64)}, "300, 300, 3"),
        ({"extra_filters": 64}, "extra_filters .* 64"),
        ({"extra_filters": (64, 0)}, "extra_filters .* 0"),
        ({"extra_filters": (64, 64)}, r"input_shape=\(64, 64, 3\) .* at most 1 extra_filters"),
        ({"operator": models.Lean("5-point", group_size=64), "extra_filters": (100,), "name": "resnet18"}, "100"),
        ({"operator": models.CondConv(first_block=None, classifier=True)}, "classifier"),
        ({"lite": 1}, "lite .* 1"),
        ({"features": True}, "features"),
        ({"name": "no_network"}, "no_network"),
        ({"name": "resnet18_cifar"}, "16"),
        ({"stem_strides": 1}, "32"),
    ],
)
def test_invalid_arguments(arguments, value):
    with pytest.raises(ModelError, match=value):
        models.create_detector(
            **{"name": SMALL, "num_classes": 3, "input_shape": (64, 64, 3), "extra_filters": (), **arguments}
        )


def test_anchors_of_another_model():
    with pytest.raises(ModelError, match="create_detector"):
        models.anchors(models.create_model(SMALL, 3, (32, 32, 3)))


def test_published_detectors():
    names = models.list_detectors()
    assert len(names) == 6
    for name in names:
        info = models.detector_info(name)
        assert (info.name, info.num_classes) == (name, 90)
        assert bool(info.source) == (info.reported is not None)
    model = models.create_detector("ssd300_mobilenet_v1_x0_5")
    assert (model.input_shape, model.output["classes"].shape) == ((None, 300, 300, 3), (None, 1917, 90))
    assert model.get_layer("stem_bn").momentum == 0.97
    with pytest.raises(ModelError, match="ssd300_mobilenet_v1_x1_0"):
        models.detector_info("ssd301")


def test_size_of_retinanet():
    """Model Garden reports 34.0 M parameters and 97.0 G multiply-adds for its ResNet-50 at 640 x 640."""
    model = models.create_detector("resnet50", 90, (640, 640, 3), neck="fpn")
    size = models.count(model)
    assert size.params == pytest.approx(34.0e6, rel=0.005)
    assert size.madds == pytest.approx(97.0e9, rel=0.005)
    anchors = models.anchors(model)
    assert anchors.shape == (9 * (80**2 + 40**2 + 20**2 + 10**2 + 5**2), 4)
    areas = 640**2 * np.prod(anchors[:, 2:] - anchors[:, :2], -1)
    np.testing.assert_allclose([areas.min(), areas.max()], [32**2, 512**2 * 2 ** (4 / 3)], rtol=1e-4)


@pytest.mark.parametrize("lite", [False, True])
def test_levels_share_the_predictors(lite):
    settings = {"pyramid_filters": 8, "head_convs": 1, "lite": lite}
    model = models.create_detector(
        SMALL, 3, (72, 100, 3), neck="fpn", min_level=2, max_level=6, operator=models.DRConv(regions=2), **settings
    )
    assert {layer.name for layer in model.layers if layer.name.startswith("detect_classes_head_conv")} == (
        {"detect_classes_head_conv", *(["detect_classes_head_conv_depthwise"] if lite else [])}
    )
    kinds = {type(layer).__name__ for layer in model.layers if layer.name.startswith("detect")}
    assert "DRConv2D" not in kinds
    outputs = model(np.zeros((2, 72, 100, 3), "float32"), training=True)
    sizes = [(18, 25), (9, 13), (5, 7), (3, 4), (2, 2)]
    assert outputs["boxes"].shape == (2, 9 * sum(height * width for height, width in sizes), 4)
    np.testing.assert_allclose(ops.convert_to_numpy(outputs["anchors"])[1], models.anchors(model))
    sides = models.anchors(model)[0, 2:] - models.anchors(model)[0, :2]
    np.testing.assert_allclose(sides, [16 / 72, 16 / 100], rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ({"extra_filters": (64,)}, "extra_filters.* no effect with neck='fpn'"),
        ({"neck": "ssd", "head_convs": 2}, "head_convs=2 has no effect"),
        ({"neck": "pan"}, "neck='pan'"),
        ({"pyramid_filters": 0}, "pyramid_filters .* 0"),
        ({"head_convs": -1}, "head_convs .* -1"),
        ({"min_level": 6}, "min_level=6"),
        ({"max_level": 4}, "max_level=4"),
        ({"min_level": 1.5}, "min_level .* 1.5"),
        ({"stem_strides": 1}, "32"),
    ],
)
def test_invalid_arguments_of_a_pyramid(arguments, value):
    with pytest.raises(ModelError, match=value):
        models.create_detector(SMALL, 3, (64, 64, 3), **{"neck": "fpn", **arguments})
