"""Object detection on any network: SSD (arXiv 1512.02325), SSDLite (1801.04381) and RetinaNet (1708.02002)."""

import dataclasses
import numbers
import os
from typing import Any, Literal

import keras
import numpy as np
from keras import layers

from convzoo.errors import ModelError, first_line
from convzoo.models.anchors import Anchors, pyramid_shapes, ssd_shapes
from convzoo.models.builder import NetworkBuilder
from convzoo.models.detector_info import DetectorInfo, detector_info, list_detectors
from convzoo.models.dilation import strides_of
from convzoo.models.feature_pyramid import FeaturePyramid
from convzoo.models.operators import Operator, Static
from convzoo.models.registry import builder_arguments, create_model
from convzoo.models.weights import DETECTOR, HEAD_PREFIXES

# Output channels of the feature maps after the backbone's, for its full width.
EXTRA_FILTERS = (512, 256, 256, 128)
PYRAMID_FILTERS, HEAD_CONVS = 256, 4  # of RetinaNet
_MIN_FILTERS, _LARGEST = 16, 65_536
MIN_LEVEL, MAX_LEVEL = 3, 7
_HIGHEST_LEVEL = 10
_BACKBONE_LEVEL = 5  # the coarsest map of a backbone; level n has stride 2^n
# The probability of a class at every anchor before training, sigmoid(-4.6) = 0.01 (arXiv 1708.02002, section 4.1).
_CLASS_BIAS = -4.6
_PREFIX = HEAD_PREFIXES[DETECTOR]


def create_detector(
    name: str,
    num_classes: int | None = None,
    input_shape: tuple[int, int, int] | None = None,
    weights: str | os.PathLike | None = None,
    *,
    operator: Operator | dict | None = None,
    neck: Literal["ssd", "fpn"] = "ssd",
    lite: bool = False,
    extra_filters: tuple[int, ...] | None = None,
    pyramid_filters: int | None = None,
    head_convs: int | None = None,
    min_level: int | None = None,
    max_level: int | None = None,
    **overrides: Any,
) -> keras.Model:
    """Builds a single-shot detector, which predicts classes and a box at every anchor.

    `name` is a published detector, which has its own settings, or a backbone, whose detector has the settings below.

    With `neck="ssd"` the feature maps are the backbone's last ones at strides 16 and 32, and one more for each of
    `extra_filters`: a 1x1 convolution to half of the channels and a 3x3 convolution with stride 2. Each map has two
    predictors, 1x1 convolutions without activation as in the MobileNet detectors. The operator replaces the
    convolutions of the backbone, as in `create_model`, and those of the extra maps; the predictors stay ordinary. For
    CondConv-MobileNetV1 (arXiv 1904.04971, table 2) this placement is inferred from the published cost of +4 %; here it
    costs +3.4 %.

    With `neck="fpn"` a feature pyramid (arXiv 1612.03144) combines the maps at strides 8, 16 and 32 and adds strides 64
    and 128, and all levels share the predictors, as in RetinaNet. Their 3x3 convolutions have a batch normalization for
    each level and ReLU6. The sides of the square anchors of a level are 4, 5 and 6.3 times the stride. The operator
    replaces the backbone's convolutions only.

    With `lite` the convolutions after the backbone are separable: a normalized and activated 3x3 depthwise convolution
    precedes each predictor of SSD, as in SSDLite. BatchNorm has a momentum of 0.97 and an epsilon of 1e-3 there unless
    the overrides or the registered network set them; padding is TensorFlow's "same".

    Args:
        name: One of `list_detectors()` or of `list_models()`.
        num_classes: Number of classes. Each class has its own sigmoid; there is no background class. None: 90.
        input_shape: Height, width and channels. None: the published size, for a backbone 300x300, and 3 channels.
        weights: A `.weights.h5` file of the backbone, as for `create_model`; its classifier is not loaded.
        operator: As for `create_model`.
        neck: "ssd" or "fpn".
        lite: Whether the convolutions after the backbone are separable.
        extra_filters: SSD: channels of the extra maps for a width of 1; the backbone's `width_coefficient` scales them,
            and 16 is the minimum. None: `EXTRA_FILTERS`.
        pyramid_filters: FPN: channels of the pyramid and of the convolutions before the predictors. None: 256.
        head_convs: FPN: number of 3x3 convolutions before each predictor. None: 4.
        min_level, max_level: FPN: finest and coarsest level, with strides of 2^min_level and 2^max_level. None: 3, 7.
        **overrides: Keywords of the backbone's builder.

    Returns:
        A `keras.Model` from float images [batch, height, width, channels] to a dict of float32 "classes", logits
        [batch, anchors, num_classes], "boxes", offsets [batch, anchors, 4] from the anchors, and "anchors", the same
        [batch, anchors, 4] for every image: top, left, bottom, right, in units of the image's height and width.

    Raises:
        ModelError: `create_model` fails, a size is invalid or None, the backbone has no maps at the strides, the
            operator replaces nothing, the image is too small for `extra_filters`, or an argument belongs to the other
            neck.

    Example:
        >>> from convzoo import models
        >>> model = models.create_detector("ssd300_mobilenet_v1_x0_5")
        >>> model.output["classes"].shape, models.anchors(model).shape
        ((None, 1917, 90), (1917, 4))
        >>> settings = {"neck": "fpn", "pyramid_filters": 64, "head_convs": 2, "lite": True}
        >>> model = models.create_detector("shufflenet_v2_drconv_x0_5", 20, (320, 320, 3), **settings)
    """
    published = detector_info(name) if name in list_detectors() else DetectorInfo(name, name, "")
    backbone, overrides = published.backbone, {**published.settings, **overrides}
    num_classes = published.num_classes if num_classes is None else num_classes
    input_shape = (published.input_size, published.input_size, 3) if input_shape is None else input_shape
    settings = _settings(
        neck,
        extra_filters=extra_filters,
        pyramid_filters=pyramid_filters,
        head_convs=head_convs,
        min_level=min_level,
        max_level=max_level,
    )
    _check(num_classes, input_shape, settings, lite, overrides)
    num_classes = int(num_classes)  # NumPy's small integers overflow in products
    height, width, channels = map(int, input_shape)
    input_shape = (height, width, channels)
    features = create_model(backbone, None, input_shape, weights, operator, features=True, **overrides)
    first, last = (4, 5) if neck == "ssd" else (int(settings["min_level"]), int(settings["max_level"]))
    strides = tuple(2**level for level in range(first, last + 1))
    maps = _maps(features, backbone, [stride for stride in strides if stride <= 2**_BACKBONE_LEVEL])
    arguments = builder_arguments(backbone, weights, operator, **overrides)
    replacing: Operator = arguments["operator"]
    if not isinstance(replacing, Static) and set(replacing.parts) <= {"classifier"}:
        raise ModelError(f"{replacing} replaces only the classifier, which a detector lacks; set first_block")
    if replacing.first_block is not None:  # it replaces blocks, so the extra maps too
        replacing = dataclasses.replace(replacing, first_block=0)
    norm = (arguments.get("bn_momentum", 0.97), arguments.get("bn_epsilon", 1e-3))
    depths = {"classes": num_classes, "boxes": 4}
    if neck == "ssd":
        net = NetworkBuilder("relu6", "same", *norm, replacing)
        width = arguments.get("width_coefficient", 1.0)
        maps = _add_extra_maps(
            net, maps, [int(filters * width) for filters in settings["extra_filters"]], lite, input_shape
        )
        shapes = ssd_shapes(len(maps))
        predictions = {
            output: [
                _predictor(net, x, f"{_PREFIX}{output}{index}", len(of_map) * depth, _bias(output), lite)
                for index, (x, of_map) in enumerate(zip(maps, shapes, strict=True))
            ]
            for output, depth in depths.items()
        }
    else:
        pyramid = FeaturePyramid(_PREFIX, int(settings["pyramid_filters"]), *norm, separable=lite)
        maps = pyramid.levels(strides, maps)
        shapes = pyramid_shapes(strides, input_shape[:2])
        predictions = {
            output: pyramid.predictions(
                maps, output, len(shapes[0]) * depth, int(settings["head_convs"]), _bias(output)
            )
            for output, depth in depths.items()
        }
    outputs = {
        output: layers.Concatenate(1, dtype="float32", name=f"{_PREFIX}{output}")(
            [
                layers.Reshape((-1, depths[output]), dtype="float32", name=f"{_PREFIX}{output}{index}")(x)
                for index, x in enumerate(of_maps)
            ]
        )
        for output, of_maps in predictions.items()
    }
    sizes = [tuple(x.shape[1:3]) for x in maps]
    outputs["anchors"] = Anchors(sizes, shapes, name=f"{_PREFIX}anchors")(outputs["boxes"])
    return keras.Model(features.input, outputs, name=f"{backbone}{DETECTOR}")


def anchors(model: keras.Model) -> np.ndarray:
    """Returns the anchors of a model that `create_detector` built.

    Returns:
        float32 [anchors, 4], in the order of the model's outputs: top, left, bottom, right, in units of the image's
        height and width.

    Raises:
        ModelError: The model is not a detector.

    Example:
        >>> from convzoo import models
        >>> models.anchors(models.create_detector("mobilenet_v1_x0_25", num_classes=3)).shape
        (1917, 4)
    """
    found = [layer.anchors for layer in getattr(model, "layers", ()) if isinstance(layer, Anchors)]
    if not found:
        raise ModelError(f"{getattr(model, 'name', model)!r} is not a detector; build one with create_detector")
    return found[0]


def _maps(features, backbone, strides):
    """Returns the last feature maps of a backbone at the given strides."""
    stride_of = strides_of(features)
    of_stride = {stride_of[id(x)]: x for key, x in features.output.items() if key != "head"}
    if missing := [stride for stride in strides if stride not in of_stride]:
        raise ModelError(
            f"{backbone} has feature maps of strides {', '.join(map(str, sorted(of_stride)))}, but the detector needs "
            f"{missing[0]}; use another backbone or stem_strides"
        )
    return [of_stride[stride] for stride in strides]


def _add_extra_maps(net, maps, extra_filters, lite, input_shape):
    """Returns SSD's feature maps: those of the backbone and the extra ones."""
    maps = list(maps)
    for index, filters in enumerate(extra_filters):
        # oneDNN's bfloat16 gradient of a strided convolution of one pixel is not finite.
        if min(maps[-1].shape[1:3]) == 1:
            raise ModelError(
                f"input_shape={input_shape} leaves no pixel for extra_filters[{index}]; use a larger image or at most "
                f"{index} extra_filters"
            )
        filters = max(_MIN_FILTERS, filters)
        try:
            maps.append(_extra_map(net, maps[-1], f"{_PREFIX}extra{index}", filters, lite))
        except ValueError as error:  # a layer rejects an argument
            raise ModelError(
                f"extra_filters[{index}], {filters} channels, does not fit the operator: {first_line(error)}"
            ) from error
    return maps


def _extra_map(net, x, name, filters, lite):
    """Returns a feature map with half of the resolution of `x`."""
    block = net.block(x, name, filters)
    x = block.norm(block.conv(x, f"{name}_1_conv", max(_MIN_FILTERS, filters // 2)), f"{name}_1")
    if not lite:
        return block.norm(block.conv(x, f"{name}_2_conv", filters, 3, 2), f"{name}_2")
    x = block.mix(x, name)
    x = block.norm(block.depthwise(x, f"{name}_depthwise_conv", 3, 2), f"{name}_depthwise")
    return block.mix_outputs(block.norm(block.conv(x, f"{name}_2_conv", filters), f"{name}_2"), name)


def _predictor(net, x, name, filters, bias, lite):
    """Returns `filters` predictions at each position of `x`."""
    if lite:
        x = net.norm(net.depthwise(x, f"{name}_depthwise_conv", 3), f"{name}_depthwise")
    return layers.Conv2D(
        filters,
        1,
        data_format="channels_last",
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        bias_initializer=keras.initializers.Constant(bias),
        dtype="float32",  # float32 logits under mixed_bfloat16 keep the loss exact
        name=f"{name}_conv",
    )(x)


def _bias(output):
    return _CLASS_BIAS if output == "classes" else 0.0


def _settings(neck, **given):
    """Returns the settings of a neck by name, with defaults in place of None."""
    defaults = {
        "ssd": {"extra_filters": EXTRA_FILTERS},
        "fpn": {
            "pyramid_filters": PYRAMID_FILTERS,
            "head_convs": HEAD_CONVS,
            "min_level": MIN_LEVEL,
            "max_level": MAX_LEVEL,
        },
    }
    if not isinstance(neck, str) or neck not in defaults:
        raise ModelError(f"neck={neck!r} is unknown; choose {' or '.join(defaults)}")
    for key, value in given.items():
        if value is not None and key not in defaults[neck]:
            raise ModelError(f"{key}={value!r} has no effect with neck={neck!r}; remove it")
    return {key: default if given[key] is None else given[key] for key, default in defaults[neck].items()}


def _check(num_classes, input_shape, settings, lite, overrides):
    """Raises ModelError for an invalid argument of `create_detector`."""
    examples = {"input_shape": (300, 300, 3), "extra_filters": EXTRA_FILTERS}
    for key, value in {"num_classes": num_classes, "input_shape": input_shape, **settings}.items():
        if key not in examples:
            value = (value,)
        elif not isinstance(value, (list, tuple)) or (key == "input_shape" and len(value) != 3):
            raise ModelError(f"{key} must be a tuple such as {examples[key]}, not {value!r}")
        low = 0 if key == "head_convs" else 1
        for item in value:
            if not isinstance(item, numbers.Integral) or isinstance(item, bool) or not low <= int(item) <= _LARGEST:
                raise ModelError(f"{key} must be integers from {low} to {_LARGEST}, not {item!r}")
    low, high = settings.get("min_level", MIN_LEVEL), settings.get("max_level", MAX_LEVEL)
    if not (low <= _BACKBONE_LEVEL <= high <= _HIGHEST_LEVEL):
        raise ModelError(
            f"min_level={low} and max_level={high} must satisfy min_level <= {_BACKBONE_LEVEL} <= max_level <= "
            f"{_HIGHEST_LEVEL}"
        )
    if not isinstance(lite, bool):
        raise ModelError(f"lite must be True or False, not {lite!r}")
    for key in ("features", "include_top"):
        if key in overrides:
            raise ModelError(f"{key} cannot be overridden in a detector; remove it")
