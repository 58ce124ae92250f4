"""Semantic segmentation on any network: DeepLabv3+ (arXiv 1802.02611) and DeepLabv3 (arXiv 1706.05587)."""

import dataclasses
import numbers
import os
from typing import Any

import keras
from keras import layers

from convzoo.errors import ModelError, first_line
from convzoo.layers import BilinearResize
from convzoo.models.builder import NetworkBuilder
from convzoo.models.dilation import dilate, strides_of
from convzoo.models.graph import calls, check_flat
from convzoo.models.operators import Operator
from convzoo.models.registry import builder_arguments, create_model
from convzoo.models.weights import HEAD_PREFIXES, SEGMENTER

# Prefix of the names of all layers after the backbone.
HEAD_PREFIX = HEAD_PREFIXES[SEGMENTER]
# Dilation rates of the pyramid at an output stride of 16; they scale inversely with the output stride.
ATROUS_RATES = (6, 12, 18)
_LOW_LEVEL_STRIDE = 4


def create_segmenter(
    backbone: str | keras.Model,
    num_classes: int,
    input_shape: tuple[int | None, int | None, int] | None = None,
    weights: str | os.PathLike | None = None,
    *,
    output_stride: int = 16,
    filters: int = 256,
    low_level_filters: int = 48,
    atrous_rates: tuple[int, ...] | None = None,
    head_dropout_rate: float = 0.1,
    decoder: str = "deeplabv3plus",
    operator: Operator | dict | None = None,
    **overrides: Any,
) -> keras.Model:
    """Builds a segmenter, which returns class logits for every pixel.

    The encoder is the backbone with dilation in place of the strides beyond `output_stride` (see
    `convzoo.models.dilation.dilate`), followed by atrous spatial pyramid pooling: a 1x1 convolution, separable 3x3
    convolutions at several dilation rates, and global average pooling. The decoder resizes the result to the
    backbone's last feature map of stride 4 or less, concatenates that map after a 1x1 convolution, applies two
    separable 3x3 convolutions and the 1x1 classifier, and resizes the logits to the image. Resizing and concatenation
    are left out if the backbone has no such feature map.

    With `decoder="deeplabv3"` (arXiv 1706.05587) the pyramid has ordinary 3x3 convolutions, and one more of them
    follows in place of the decoder. An operator that replaces 3x3 convolutions, `Lean`, also replaces those of the
    pyramid and the decoder, separable or not; other operators replace the backbone's convolutions only.

    Args:
        backbone: One of `list_models()`, or a functional model, ours or not, whose weights are copied. If it returns a
            dict of feature maps, these are used (but not one called "head"). Otherwise they are the last
            feature map at each stride, whatever follows them.
        num_classes: Number of classes.
        input_shape: Height, width and channels; by default the backbone's. Height and width may be None.
        weights: A `.weights.h5` file of the backbone, as for `create_model`; its classifier is not loaded. For a name
            only.
        output_stride: Largest allowed stride of the encoder's last feature map, in pixels: 8, 16 or 32.
        filters: Channels of the pyramid and the decoder.
        low_level_filters: Channels of the 1x1 convolution of the backbone's finer feature map, for "deeplabv3plus".
        atrous_rates: Dilation rates of the pyramid; by default 6, 12 and 18 for a last feature map of stride 16,
            twice that at 8, half of it at 32.
        head_dropout_rate: Dropout rate after the pyramid.
        decoder: "deeplabv3plus" or "deeplabv3".
        operator: As for `create_model`. For a name only.
        **overrides: Keywords of the backbone's builder. For a name only.

    Returns:
        A `keras.Model` from float images [batch, height, width, channels] to float32 logits [batch, height, width,
        num_classes].

    Raises:
        ModelError: `create_model` or `dilate` fails, a size or rate is below 1 or given twice, the overrides contain
            features or include_top, the decoder is unknown, the operator does not fit its channels, or a model comes
            with arguments of its builder or has no feature map.

    Example:
        >>> from convzoo import models
        >>> model = models.create_segmenter("mobilenet_v1_x0_25", 21, (64, 64, 3), filters=8)
        >>> model.output_shape
        (None, 64, 64, 21)
        >>> backbone = keras.applications.MobileNetV2((64, 64, 3), weights=None, include_top=False)
        >>> models.create_segmenter(backbone, 21, filters=8).name
        'mobilenetv2_1.00_64_segmenter'
    """
    if output_stride not in (8, 16, 32) or isinstance(output_stride, bool):
        raise ModelError(f"output_stride must be 8, 16 or 32, not {output_stride!r}")
    if atrous_rates is not None and not isinstance(atrous_rates, (list, tuple)):
        raise ModelError(f"atrous_rates must be integers such as (6, 12, 18), not {atrous_rates!r}")
    if atrous_rates is not None and len(set(atrous_rates)) < len(atrous_rates):
        raise ModelError(f"atrous_rates={tuple(atrous_rates)} contain a number twice; use different ones")
    sizes = {"num_classes": num_classes, "filters": filters, "low_level_filters": low_level_filters}
    for key, value in (*sizes.items(), *(("atrous_rates", rate) for rate in atrous_rates or ())):
        if not isinstance(value, numbers.Integral) or value < 1:
            raise ModelError(f"{key} must be an integer of at least 1, not {value!r}")
    atrous_rates = None if atrous_rates is None else tuple(map(int, atrous_rates))
    if decoder not in ("deeplabv3plus", "deeplabv3"):
        raise ModelError(f"decoder={decoder!r} is unknown; use 'deeplabv3plus' or 'deeplabv3'")
    if not isinstance(head_dropout_rate, numbers.Real) or not 0 <= head_dropout_rate < 1:
        raise ModelError(f"head_dropout_rate must be at least 0 and below 1, not {head_dropout_rate!r}")
    for key in ("features", "include_top"):
        if key in overrides:
            raise ModelError(f"{key} cannot be overridden in a segmenter; remove it")
    if isinstance(backbone, keras.Model):
        features = _features(backbone)
        of_names = {"input_shape": input_shape, "weights": weights, "operator": operator, **overrides}
        if given := [key for key, value in of_names.items() if value is not None]:
            raise ModelError(f"{', '.join(given)} cannot be set for a model; build {features.name} with them")
    else:
        features = create_model(backbone, None, input_shape, weights, operator, features=True, **overrides)
        operator = builder_arguments(backbone, weights, operator, **overrides)["operator"]
    encoder = dilate(features, output_stride)
    # Of the operator, the head has 3x3 convolutions only.
    if isinstance(operator, Operator) and operator.replaces_spatial:
        spatial_operator = dataclasses.replace(operator, first_block=0)
    else:
        spatial_operator = None
    norm = (overrides.get("bn_momentum", 0.9), overrides.get("bn_epsilon", 1e-5))
    block = NetworkBuilder("relu", "same", *norm, spatial_operator)
    (images,) = encoder.inputs
    strides = strides_of(encoder)
    *finer, last = (x for key, x in encoder.output.items() if key != "head")
    if atrous_rates is None:
        atrous_rates = tuple(max(rate * 16 // strides[id(last)], 1) for rate in ATROUS_RATES)
    spatial_conv = _separable if decoder == "deeplabv3plus" and spatial_operator is None else _full
    try:
        x = _pyramid(block, last, filters, atrous_rates, spatial_conv)
    except ValueError as error:  # a layer rejects an argument
        raise ModelError(f"filters={filters} does not fit the operator: {first_line(error)}") from error
    if head_dropout_rate:
        x = layers.Dropout(head_dropout_rate, name=f"{HEAD_PREFIX}pyramid_dropout")(x)
    finer = [x for x in finer if strides[id(x)] <= _LOW_LEVEL_STRIDE and strides[id(x)] < strides[id(last)]]
    if finer and decoder == "deeplabv3plus":
        low = _conv_bn(block, finer[-1], f"{HEAD_PREFIX}decoder_low", low_level_filters)
        x = BilinearResize("channels_last", name=f"{HEAD_PREFIX}decoder_resize")(x, finer[-1])
        x = layers.Concatenate(name=f"{HEAD_PREFIX}decoder_concatenate")([x, low])
    for step in range(2 if decoder == "deeplabv3plus" else 1):
        try:
            x = spatial_conv(block, x, f"{HEAD_PREFIX}decoder{step}", filters)
        except ValueError as error:
            raise ModelError(
                f"filters={filters} and low_level_filters={low_level_filters} do not fit the operator: "
                f"{first_line(error)}"
            ) from error
    # Float32 logits under mixed_bfloat16 keep the loss exact.
    x = layers.Conv2D(num_classes, 1, data_format="channels_last", dtype="float32", name=f"{HEAD_PREFIX}head_conv")(x)
    logits = BilinearResize("channels_last", dtype="float32", name=f"{HEAD_PREFIX}head_resize")(x, images)
    return keras.Model(images, logits, name=f"{features.name}{SEGMENTER}")


def _features(model: keras.Model) -> keras.Model:
    """Returns a model from the same input to a dict of feature maps, finest first."""
    check_flat(model)
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs, model.outputs, name=model.name)
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        raise ModelError(
            f"{model.name} has inputs {model.inputs}; a backbone has one input [batch, height, width, channels]"
        )
    if taken := [layer.name for layer in model.layers if layer.name.startswith(HEAD_PREFIX)]:
        raise ModelError(f"{model.name} has a layer {taken[0]!r}; rename it: {HEAD_PREFIX} is for the segmenter's own")
    if isinstance(model.output, dict):
        strides = strides_of(model)
        maps = {key: x for key, x in model.output.items() if key != "head"}
        if not maps or any(id(x) not in strides for x in maps.values()):
            names = ", ".join(map(str, model.output))
            raise ModelError(f"{model.name} returns {names}; use feature maps [batch, height, width, channels]")
        finest_first = dict(sorted(maps.items(), key=lambda item: strides[id(item[1])]))
        return keras.Model(model.inputs, finest_first, name=model.name)
    height, width = model.input_shape[1:3]
    strides, found = strides_of(model), {}
    for call in calls(model):
        for tensor in call.outputs:
            # Not the padding before a strided convolution, and not a global average.
            stride = strides.get(id(tensor), 0)
            size = tuple(None if side is None else -(-side // stride) for side in (height, width) if stride)
            if stride > 1 and tensor.shape[1:3] == size and not isinstance(call.operation, layers.ZeroPadding2D):
                found[stride] = tensor
    if not found:
        raise ModelError(
            f"{model.name} has no feature map of 1 / stride of the image's size; make it return a dict of feature maps"
        )
    return keras.Model(model.inputs, {f"stride_{stride}": found[stride] for stride in sorted(found)}, name=model.name)


def _conv_bn(block, x, name, filters):
    """A 1x1 convolution, normalized and activated."""
    return block.norm(block.conv(x, f"{name}_conv", filters), name)


def _full(block, x, name, filters, rate=1):
    """A 3x3 convolution, the operator's if there is one, normalized and activated."""
    part = block.block(x, name, filters)
    return block.norm(part.conv(x, f"{name}_conv", filters, 3, dilation_rate=rate), name)


def _separable(block, x, name, filters, rate=1):
    """A depthwise 3x3 and a 1x1 convolution, each normalized and activated."""
    x = block.norm(block.depthwise(x, f"{name}_depthwise_conv", 3, dilation_rate=rate), f"{name}_depthwise")
    return _conv_bn(block, x, f"{name}_point", filters)


def _pyramid(block, x, filters, rates, spatial_conv):
    """Atrous spatial pyramid pooling."""
    branches = [_conv_bn(block, x, f"{HEAD_PREFIX}pyramid_point", filters)]
    branches += [spatial_conv(block, x, f"{HEAD_PREFIX}pyramid_rate{rate}", filters, rate) for rate in rates]
    pooled = layers.GlobalAveragePooling2D("channels_last", keepdims=True, name=f"{HEAD_PREFIX}pyramid_pool")(x)
    pooled = _conv_bn(block, pooled, f"{HEAD_PREFIX}pyramid_pool", filters)
    branches.append(BilinearResize("channels_last", name=f"{HEAD_PREFIX}pyramid_pool_resize")(pooled, x))
    x = layers.Concatenate(name=f"{HEAD_PREFIX}pyramid_concatenate")(branches)
    return _conv_bn(block, x, f"{HEAD_PREFIX}pyramid_project", filters)
