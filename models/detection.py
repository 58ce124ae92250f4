"""Object detection on any network: SSD (arXiv 1512.02325) and SSDLite (arXiv 1801.04381, section 6.2)."""

import dataclasses
import numbers
import os

import keras
import numpy as np
from keras import layers

from convzoo.errors import ModelError, first_line
from convzoo.models.anchors import grid_anchors, ssd_shapes
from convzoo.models.builder import NetworkBuilder
from convzoo.models.dilation import strides_of
from convzoo.models.operators import Operator, Static
from convzoo.models.registry import builder_arguments, create_model
from convzoo.models.weights import DETECTOR

# Prefix of the names of all layers after the backbone.
DETECTOR_PREFIX = "detect_"
# Output channels of the feature maps after the backbone's, for its full width.
EXTRA_FILTERS = (512, 256, 256, 128)
_MIN_FILTERS = 16
_STRIDES = (16, 32)  # of the backbone's feature maps
# The probability of a class at every anchor before training, sigmoid(-4.6) = 0.01 (arXiv 1708.02002, section 4.1).
_CLASS_BIAS = -4.6


def create_detector(
    backbone: str,
    num_classes: int,
    input_shape: tuple[int, int, int] = (300, 300, 3),
    weights: str | os.PathLike | None = None,
    *,
    operator: Operator | dict | None = None,
    extra_filters: tuple[int, ...] = EXTRA_FILTERS,
    lite: bool = False,
    **overrides,
) -> keras.Model:
    """Builds a single-shot detector (SSD), which predicts classes and a box at every anchor.

    The feature maps are the backbone's last ones at strides 16 and 32, and one more for each of `extra_filters`: a 1x1
    convolution to half of the channels and a 3x3 convolution with stride 2. Each map has two predictors, 1x1
    convolutions without activation as in the MobileNet detectors; with `lite` a normalized and activated 3x3 depthwise
    convolution precedes each. Extra maps have ReLU6, TensorFlow's "same" padding, and a BatchNorm momentum of 0.97 and
    epsilon of 1e-3 unless the overrides or the registered network set them.

    The operator replaces the convolutions of the backbone, as in `create_model`, and those of the extra maps; the
    predictors stay ordinary. For CondConv-MobileNetV1 (arXiv 1904.04971, table 2) this placement is inferred from the
    published cost of +4 %; here it costs +3.4 %.

    Args:
        backbone: One of `list_models()`.
        num_classes: Number of classes. Each class has its own sigmoid; there is no background class.
        input_shape: Height, width and channels.
        weights: A `.weights.h5` file of the backbone, as for `create_model`; its classifier is not loaded.
        operator: As for `create_model`.
        extra_filters: Channels of the extra maps for a width of 1; the backbone's `width_coefficient` scales them, and
            16 is the minimum.
        lite: Whether extra maps and predictors are separable (SSDLite).
        **overrides: Keywords of the backbone's builder.

    Returns:
        A `keras.Model` from float images [batch, height, width, channels] to a dict of float32 "classes", logits
        [batch, anchors, num_classes], and "boxes", offsets [batch, anchors, 4] from `anchors(model)`.

    Raises:
        ModelError: `create_model` fails, a size is invalid or None, the backbone has no maps at strides 16 and 32,
            the operator replaces nothing, or the image is too small for `extra_filters`.

    Example:
        >>> from convzoo import models
        >>> model = models.create_detector("mobilenet_v1_x0_25", num_classes=90)
        >>> model.output["classes"].shape, models.anchors(model).shape
        ((None, 1917, 90), (1917, 4))
    """
    _check(num_classes, input_shape, extra_filters, lite, overrides)
    num_classes = int(num_classes)  # NumPy's small integers overflow in products
    input_shape, extra_filters = tuple(map(int, input_shape)), tuple(map(int, extra_filters))
    features = create_model(backbone, None, input_shape, weights, operator, features=True, **overrides)
    strides = strides_of(features)
    of_stride = {strides[id(x)]: x for key, x in features.output.items() if key != "head"}
    if missing := [stride for stride in _STRIDES if stride not in of_stride]:
        raise ModelError(
            f"{backbone} has feature maps of strides {', '.join(map(str, sorted(of_stride)))}, but a detector needs "
            f"{missing[0]}; use another backbone or stem_strides"
        )
    maps = [of_stride[stride] for stride in _STRIDES]
    arguments = builder_arguments(backbone, weights, operator, **overrides)
    operator, width = arguments["operator"], arguments.get("width_coefficient", 1.0)
    if not isinstance(operator, Static) and set(operator.parts) <= {"classifier"}:
        raise ModelError(f"{operator} replaces only the classifier, which a detector lacks; set first_block")
    if operator.first_block is not None:  # it replaces blocks, so the extra maps too
        operator = dataclasses.replace(operator, first_block=0)
    net = NetworkBuilder(
        "relu6", "same", arguments.get("bn_momentum", 0.97), arguments.get("bn_epsilon", 1e-3), operator
    )
    for index, filters in enumerate(extra_filters):
        if (
            min(maps[-1].shape[1:3]) == 1
        ):  # oneDNN's bfloat16 gradient of a strided convolution of one pixel is not finite
            raise ModelError(
                f"input_shape={input_shape} leaves no pixel for extra_filters[{index}]; use a larger image or "
                f"extra_filters={tuple(extra_filters[:index])}"
            )
        filters = max(_MIN_FILTERS, int(filters * width))
        try:
            maps.append(_extra_map(net, maps[-1], f"{DETECTOR_PREFIX}extra{index}", filters, lite))
        except ValueError as error:  # a layer rejects an argument
            raise ModelError(
                f"extra_filters[{index}]={extra_filters[index]} does not fit {operator}: {first_line(error)}"
            ) from error
    shapes = ssd_shapes(len(maps))
    outputs = {}
    for output, depth, bias in (("classes", num_classes, _CLASS_BIAS), ("boxes", 4, 0.0)):
        predictions = []
        for index, (x, of_map) in enumerate(zip(maps, shapes, strict=True)):
            name = f"{DETECTOR_PREFIX}{output}{index}"
            x = _predictor(net, x, name, len(of_map) * depth, bias, lite)
            predictions.append(layers.Reshape((-1, depth), dtype="float32", name=name)(x))
        outputs[output] = layers.Concatenate(1, dtype="float32", name=f"{DETECTOR_PREFIX}{output}")(predictions)
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
    if not is_detector(model):
        raise ModelError(f"{model.name} is not a detector; build one with create_detector")
    reshaped = []
    while f"{DETECTOR_PREFIX}boxes{len(reshaped)}" in {layer.name for layer in model.layers}:
        reshaped.append(model.get_layer(f"{DETECTOR_PREFIX}boxes{len(reshaped)}"))
    return grid_anchors([layer.input.shape[1:3] for layer in reshaped], ssd_shapes(len(reshaped)))


def is_detector(model: keras.Model) -> bool:
    """Returns True if `create_detector` built the model."""
    return model.name.endswith(DETECTOR) and any(layer.name == f"{DETECTOR_PREFIX}boxes0" for layer in model.layers)


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


def _check(num_classes, input_shape, extra_filters, lite, overrides):
    """Raises ModelError for an invalid argument of `create_detector`."""
    sizes = {"num_classes": (num_classes,), "input_shape": input_shape, "extra_filters": extra_filters}
    for key, values in sizes.items():
        if not isinstance(values, (list, tuple)) or (key == "input_shape" and len(values) != 3):
            example = "(300, 300, 3)" if key == "input_shape" else EXTRA_FILTERS
            raise ModelError(f"{key} must be a tuple such as {example}, not {values!r}")
        for value in values:
            if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
                raise ModelError(f"{key} must be integers of at least 1, not {value!r}")
    if not isinstance(lite, bool):
        raise ModelError(f"lite must be True or False, not {lite!r}")
    for key in ("features", "include_top", "name"):
        if key in overrides:
            raise ModelError(f"{key} cannot be overridden in a detector; remove it")
